"""Batches on a Dask cluster of several processes on this machine, whatever dies meanwhile."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

pytest.importorskip("distributed")
pytestmark = pytest.mark.cluster

COUNT = 40
INVERT = ["-k", "-1", "--bias", "255"]
DASK = {
    **os.environ,
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s",
}


def imgconv(*arguments, cwd, **options):
    return subprocess.run(
        [sys.executable, "-m", "imgconv", *map(os.fspath, arguments)],
        cwd=cwd, capture_output=True, timeout=240, env=DASK, **options,
    )  # fmt: skip


def start(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "imgconv", *map(os.fspath, arguments)],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=DASK,
    )  # fmt: skip


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes = []
        self.schedule()

    def _start(self, *command):
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=DASK,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def schedule(self):
        self.scheduler = self._start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"
        )
        until(lambda: reachable(self.port), "no scheduler")

    def worker(self):
        return self._start(
            "dask_worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
            "--local-directory", str(self.folder / "space"), "--death-timeout", "60",
        )  # fmt: skip

    def end(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


def reachable(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def until(condition, otherwise, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, otherwise
        time.sleep(0.005)


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.end()


@pytest.fixture
def batch(tmp_path):
    photo = data.astronaut()
    (tmp_path / "in").mkdir()
    for number in range(COUNT):
        crop = photo[number * 4 : number * 4 + 320, number * 2 : number * 2 + 320]
        Image.fromarray(crop).save(tmp_path / "in" / f"{number:02}.png", compress_level=1)
    return tmp_path


def outputs(batch):
    return list((batch / "out").glob("[!.]*.png"))


def assert_inverted(batch, missing=()):
    found = {path.name: np.asarray(Image.open(path)) for path in outputs(batch)}
    names = {path.name for path in (batch / "in").iterdir()} - set(missing)
    assert found.keys() == names
    for name, image in found.items():
        expected = 255 - np.asarray(Image.open(batch / "in" / name))
        np.testing.assert_array_equal(image, expected, name)


def rows(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_local_cluster_makes_what_one_process_makes_and_names_what_it_cannot(batch):
    (batch / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    (batch / "out").mkdir()
    (batch / "out" / "07.png").write_bytes(b"precious")
    run = ["apply", *INVERT, "in", "-o", "out/", "--cluster", "local:2", "--json"]
    result = imgconv(*run, cwd=batch)
    assert result.returncode == 1
    failed = {os.path.basename(r["input"]): r["error"] for r in rows(result.stdout) if "error" in r}
    assert failed.keys() == {"bad.png", "07.png"}
    assert "exists" in failed["07.png"]
    assert (batch / "out" / "07.png").read_bytes() == b"precious"
    (batch / "out" / "07.png").unlink()
    # The outputs that are there have the same bytes, so a run without --overwrite agrees.
    names = b"".join(os.fsencode(p) + b"\n" for p in sorted((batch / "in").glob("[0-9]*.png")))
    again = imgconv(
        "apply", *INVERT, "--files-from", "-", "-o", "out/", "--cluster", "local:1",
        "--ledger", "l.sqlite", cwd=batch, input=names,
    )  # fmt: skip
    assert (again.returncode, again.stderr) == (0, b"")
    assert_inverted(batch, ["bad.png"])
    state = json.loads(imgconv("jobs", "status", "l.sqlite", "--json", cwd=batch).stdout)
    assert (state["done"], state["runs"][0]["state"]) == (COUNT, "completed")


def test_workers_killed_in_the_middle_cost_nothing(batch, cluster):
    workers = [cluster.worker() for _ in range(2)]
    run = start(
        "apply", *INVERT, "in", "-o", "out/", "--cluster", cluster.address, "--json", cwd=batch
    )
    until(lambda: len(outputs(batch)) >= 3, "no outputs")
    workers[0].send_signal(signal.SIGKILL)
    cluster.worker()
    until(lambda: len(outputs(batch)) >= 12, "no outputs after a worker was killed")
    workers[1].send_signal(signal.SIGKILL)
    out, err = run.communicate(timeout=120)
    assert (run.returncode, err) == (0, b"")
    assert len(rows(out)) == COUNT
    assert_inverted(batch)


def test_a_stopped_worker_does_not_hold_up_the_batch(batch, cluster):
    slow, _ = cluster.worker(), cluster.worker()
    run = start("apply", *INVERT, "in", "-o", "out/", "--cluster", cluster.address, cwd=batch)
    until(lambda: len(outputs(batch)) >= 3, "no outputs")
    slow.send_signal(signal.SIGSTOP)
    assert run.communicate(timeout=120) == (b"", b"")
    assert run.returncode == 0
    assert_inverted(batch)


def test_a_scheduler_that_comes_back_finds_the_batch_going_on(batch, cluster):
    cluster.worker()
    run = start("apply", *INVERT, "in", "-o", "out/", "--cluster", cluster.address, cwd=batch)
    until(lambda: len(outputs(batch)) >= 3, "no outputs")
    cluster.scheduler.kill()
    cluster.scheduler.wait()
    cluster.schedule()
    cluster.worker()
    assert run.communicate(timeout=120) == (b"", b"")
    assert run.returncode == 0
    assert_inverted(batch)


def test_a_scheduler_lost_for_good_ends_the_batch_and_resume_goes_on(batch, cluster):
    cluster.worker()
    run = ["apply", *INVERT, "in", "-o", "out/", "--resume", "--cluster"]
    code = (
        "import runpy; from imgconv.batch.cluster import connection;"
        "connection.RECONNECT_SECONDS = 2;"
        "runpy.run_module('imgconv', run_name='__main__')"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, *run, cluster.address],
        cwd=batch, stderr=subprocess.PIPE, env=DASK,
    )  # fmt: skip
    until(lambda: len(outputs(batch)) >= 3, "no outputs")
    cluster.scheduler.kill()
    err = first.communicate(timeout=60)[1].decode()
    assert first.returncode == 1
    assert "Traceback" not in err
    assert "the scheduler is lost" in err.splitlines()[-1]
    second = imgconv(*run, "local:2", cwd=batch)
    assert (second.returncode, second.stderr) == (0, b"")
    assert_inverted(batch)


def test_an_input_that_kills_its_worker_is_given_up_alone(batch, cluster):
    # A kernel that ends the process, for one input, stands for a machine out of memory.
    site = batch / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os\n"
        "from imgconv.io.source import Source\n"
        "old = Source.__init__\n"
        "def read(self, origin, *rest):\n"
        "    if str(origin).endswith('/13.png'): os._exit(9)\n"
        "    old(self, origin, *rest)\n"
        "Source.__init__ = read\n"
    )
    path = f"{site}:{os.environ.get('PYTHONPATH', '')}"
    command = [
        sys.executable, "-m", "distributed.cli.dask_worker", cluster.address, "--nworkers", "2",
        "--nthreads", "1", "--no-dashboard", "--local-directory", str(batch / "space"),
    ]  # fmt: skip
    nanny = subprocess.Popen(
        command, cwd=batch, env={**DASK, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    cluster.processes.append(nanny)
    result = imgconv(
        "apply", *INVERT, "in", "-o", "out/", "--cluster", cluster.address, "--json", cwd=batch
    )
    nanny.terminate()
    nanny.wait()
    assert result.returncode == 1, result.stderr
    failed = [row for row in rows(result.stdout) if "error" in row]
    assert [os.path.basename(row["input"]) for row in failed] == ["13.png"]
    assert "given up" in failed[0]["error"]
    assert_inverted(batch, ["13.png"])


def test_the_work_is_sent_and_made_ready_once_a_worker(batch):
    """However many tasks there are, each process unpickles the weights once and warms up once."""
    site = batch / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os\n"
        "from imgconv.pipeline.filter import Work\n"
        "def note(what):\n"
        "    with open('counts', 'a') as file:\n"
        "        file.write(f'{what} {os.getpid()}\\n')\n"
        "def restored(self, state, old=Work.__dict__.get('__setstate__')):\n"
        "    note('weights'); self.__dict__.update(state)\n"
        "def warmed(self, old=Work.warm):\n"
        "    note('warm'); old(self)\n"
        "def worked(self, *rest, old=Work.__call__, **named):\n"
        "    note('work'); return old(self, *rest, **named)\n"
        "Work.__setstate__, Work.warm, Work.__call__ = restored, warmed, worked\n"
    )
    np.save(batch / "large.npy", np.random.default_rng(1).normal(size=(31, 31)))
    names = b"".join(os.fsencode(path) + b"\n" for path in sorted((batch / "in").iterdir()))
    path = f"{site}:{os.environ.get('PYTHONPATH', '')}"
    result = subprocess.run(
        [sys.executable, "-m", "imgconv", "apply", "-k", "large.npy", "--files-from", "-", "-q",
         "-o", "out/", "--cluster", "local:2"],
        cwd=batch, input=names, env={**DASK, "PYTHONPATH": path}, capture_output=True, timeout=240,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = (batch / "counts").read_text().splitlines()
    assert len([line for line in lines if line.startswith("work ")]) == COUNT
    for what in ("weights", "warm"):
        places = [line for line in lines if line.startswith(f"{what} ")]
        assert len(places) == len(set(places)) == 2, places


@pytest.mark.parametrize("address", ["local:0", "elsewhere", "tcp://127.0.0.1:1"])
def test_no_cluster_is_said_so_before_any_work(batch, address):
    result = imgconv("apply", *INVERT, "in", "-o", "out/", "--cluster", address, cwd=batch)
    assert (result.returncode, result.stderr.count(b"\n")) == (2, 1), result.stderr
    assert address.encode() in result.stderr
    assert not (batch / "out").exists()


@pytest.fixture
def bucket(monkeypatch):
    server = pytest.importorskip("moto.server")
    import boto3

    started = server.ThreadedMotoServer(port=free_port(), verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setitem(DASK, name, value)
        monkeypatch.setenv(name, value)
    store = boto3.client("s3")
    store.create_bucket(Bucket="photos")
    yield store
    started.stop()


def test_objects_in_a_store_are_filtered_and_published_whole(batch, bucket):
    images = sorted((batch / "in").iterdir())[:12]
    for path in images:
        bucket.upload_file(str(path), "photos", f"in/{path.name}")
    bucket.put_object(Bucket="photos", Key="out/07.png", Body=b"precious")
    run = [
        "apply", *INVERT, "s3://photos/in/", "--recursive", "-o", "s3://photos/out/", "--json",
    ]  # fmt: skip
    result = imgconv(*run, "--cluster", "local:2", "--resume", cwd=batch)
    failed = {row["input"]: row["error"] for row in rows(result.stdout) if "error" in row}
    assert failed.keys() == {"s3://photos/in/07.png"}
    assert "exists" in failed["s3://photos/in/07.png"]
    assert bucket.get_object(Bucket="photos", Key="out/07.png")["Body"].read() == b"precious"
    bucket.delete_object(Bucket="photos", Key="out/07.png")
    missing = "s3://photos/in/none.png"
    again = imgconv(*run, missing, "--resume", cwd=batch)
    worked = [row["input"] for row in rows(again.stdout) if not row.get("skipped")]
    assert sorted(worked) == ["s3://photos/in/07.png", missing]
    assert again.stderr.count(b"\n") == 1
    assert b"none.png: no such object" in again.stderr
    for path in images:
        body = bucket.get_object(Bucket="photos", Key=f"out/{path.name}")["Body"]
        (batch / "got.png").write_bytes(body.read())
        expected = 255 - np.asarray(Image.open(path))
        np.testing.assert_array_equal(np.asarray(Image.open(batch / "got.png")), expected)


def test_a_long_manifest_is_read_only_as_far_as_the_work_has_come(batch):
    """The client holds a bounded number of inputs, not the manifest."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "imgconv", "apply", *INVERT, "--files-from", "-", "--stream",
         "-o", "{index}.png", "--cluster", "local:1", "--overwrite"],
        cwd=batch, stdin=read, stderr=subprocess.DEVNULL, env=DASK,
    )  # fmt: skip
    os.close(read)
    os.set_blocking(write, False)
    line = os.fsencode(batch / "in" / "00.png") + b"\n"
    sent = 0
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        try:
            sent += os.write(write, line * 64) // len(line)
        except BlockingIOError:
            time.sleep(0.01)
    made = len(list(Path(batch).glob("[0-9]*.png")))
    process.kill()
    process.wait()
    os.close(write)
    assert made > 0
    # One thread: 4 groups of 16 under way, 64 KiB in the pipe and as much in buffers.
    assert sent - made < 64 + 4 * 65536 / len(line)
