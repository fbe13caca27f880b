"""Batches by worker processes: what one thread makes of them, whatever happens to a worker."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from skimage import data

from tests import png_maker
from tests.reliability.support import imgconv, one_line, save_photo

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="worker processes are Linux's")
COUNT = 16
QUIET = {**os.environ, "IMGCONV_QUIET": "1"}  # says nothing of loops that are compiled

# A batch of made-up work: what follows a name's dash is what becomes of it.
PROGRAM = """
import os, signal, sys, threading, time
from imgconv.batch import runner, workers
from imgconv.errors import ImageError

class Work:
    def outputs(self, source, index):
        return [source]
    def apart(self):
        open(f"apart-{os.getpid()}", "w").close()
    def __call__(self, source, index, replace=False):
        here = os.getpid() == MAIN
        deed = source.rpartition("-")[2]
        while here and index and not os.path.exists("begun"):
            time.sleep(0.001)
        if not here:
            open("begun", "w").close()
        if deed == "die" and not here:
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "fail":
            raise ImageError(f"{source}: broken")
        if deed == "bug":
            raise ZeroDivisionError(source)
        if deed == "odd":
            raise type("Odd", (Exception,), {})(threading.Lock())
        return [{"input": source, "index": index, "here": here}]

MAIN = os.getpid()
for name in NAMES:
    open(name, "w").close()
for outcome in workers.run(iter(NAMES), Work(), 2, runner.run):
    print(outcome.source, outcome.error or outcome.results)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child is left")
"""


def made_up(names, cwd):
    """The lines that PROGRAM prints, and the whole that became of it."""
    program = PROGRAM.replace("NAMES", repr(names))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, timeout=60
    )
    assert len(list(cwd.glob("apart-*"))) == (1 if len(names) > 1 else 0)
    return done.stdout.splitlines(), done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos of different sizes, one that is broken and one that only Pillow reads."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "in").mkdir()
    for number in range(COUNT):
        save_photo(folder / "in" / f"{number:02}.png", 40 + 3 * number)
    (folder / "in" / "05.png").write_bytes(b"broken")
    (folder / "in" / "06.png").write_bytes(
        png_maker.make(data.astronaut()[:64, :64], 8, 2, interlaced=True)
    )
    return folder


def batch(folder, out, *more):
    """(digest-worthy files, --json rows, exit code) of a batch."""
    result = imgconv("apply", "-k", "sobel", "-k", "box-3", "in", "--recursive", "-o", f"{out}/",
                     "--json", *more, cwd=folder, env=QUIET)  # fmt: skip
    one_line(result, b"05.png")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    for row in rows:
        if "output" in row:
            row["output"] = os.path.basename(row["output"])
    files = {path.name: path.read_bytes() for path in (folder / out).iterdir()}
    return files, rows, result.returncode


@pytest.mark.parametrize("more", [[], ["--ledger", "more.sqlite"]], ids=["", "ledger"])
def test_processes_make_what_one_thread_makes_in_its_order(folder, more):
    alone = batch(folder, f"alone-{len(more)}", "--jobs", "1")
    assert batch(folder, f"many-{len(more)}", "--jobs", "3", *more) == alone
    files, rows, code = alone
    assert len(files) == 2 * (COUNT - 1)
    assert code == 1
    assert [row["input"] for row in rows[::2]] == sorted(row["input"] for row in rows[::2])


def test_names_that_collide_are_found_before_workers_begin(folder):
    (folder / "other").mkdir()
    save_photo(folder / "other" / "01.png", 50)
    names = "in/00.png\nin/01.png\nin/02.png\nin/03.png\nother/01.png\nin/04.png\n"
    result = imgconv(
        "apply", "-q", "-k", "sobel", "--files-from", "-", "-o", "twice/", "--jobs", "2",
        "--overwrite", cwd=folder, stdin=names.encode(), env=QUIET,
    )  # fmt: skip
    assert result.returncode == 2
    one_line(result, b"output of both in/01.png and other/01.png")
    assert not (folder / "twice").exists()


def test_work_is_done_by_workers_in_order_and_they_are_waited_for(tmp_path):
    names = [f"{number}-well" for number in range(20)]
    lines, done = made_up(names, tmp_path)
    assert done.stderr == ""
    assert lines[-1] == "no child is left"
    expected = [f"{name} [{{'input': '{name}', 'index': {at}," for at, name in enumerate(names)]
    assert [line.partition(" 'here'")[0] for line in lines[:-1]] == expected
    assert sum("'here': False" in line for line in lines) > 0


def test_one_input_starts_no_worker(tmp_path):
    lines, _ = made_up(["0-well"], tmp_path)
    assert len(lines) == 2


def test_failures_are_their_inputs(tmp_path):
    names = [f"{number}-{'fail' if number % 3 == 1 else 'well'}" for number in range(20)]
    lines, done = made_up(names, tmp_path)
    assert done.stderr == ""
    for name, line in zip(names, lines, strict=False):
        assert line.startswith(f"{name} {name}: broken" if "fail" in name else f"{name} [")


def test_what_a_killed_worker_was_at_is_named_and_the_rest_is_done_here(tmp_path):
    names = ["0-well", *(f"{number}-die" for number in range(1, 20))]
    lines, done = made_up(names, tmp_path)
    assert done.stderr == ""
    killed = [line for line in lines if line.endswith(": its process was killed (out of memory?)")]
    assert 1 <= len(killed) <= 3
    assert sum("'here': True" in line for line in lines) == 20 - len(killed)
    assert lines[-1] == "no child is left"


@pytest.mark.parametrize("deed", ["bug", "odd"])
def test_an_unexpected_error_of_a_worker_fails_its_input_alone(tmp_path, deed):
    lines, done = made_up(["0-well", "1-well", f"2-{deed}", "3-well"], tmp_path)
    assert done.returncode == 0
    assert {"bug": "unexpected ZeroDivisionError: 2-bug", "odd": "Odd"}[deed] in lines[2]
    assert lines[3].startswith("3-well [")


def children(process):
    return {
        int(name) for name in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_the_command(tmp_path, number):
    (tmp_path / "in").mkdir()
    for name in range(200):
        save_photo(tmp_path / "in" / f"{name}.png", 200)
    process = subprocess.Popen(
        [sys.executable, "-m", "imgconv", "apply", "-q", "-k", "sobel", "in", "--recursive",
         "-o", "out/", "--jobs", "3"], cwd=tmp_path,
    )  # fmt: skip
    workers, patience = set(), time.monotonic() + 60
    while len(workers) < 2 and time.monotonic() < patience and process.poll() is None:
        workers = children(process.pid)
    assert len(workers) == 2
    process.send_signal(number)
    assert process.wait(60) == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < patience
        time.sleep(0.01)
