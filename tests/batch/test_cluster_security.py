"""A cluster that `--cluster local:N` starts obeys nobody else, and tls:// takes one's own keys."""

import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("distributed")
pytest.importorskip("cryptography")
from tests.batch.test_cluster import DASK, Cluster, imgconv, reachable, start, until

pytestmark = pytest.mark.cluster

# Another user of the machine, where the tests run as root, with everything imported that Dask
# needs; it asks every address to make a file, and the web servers for pages.
INTRUDER = """
import asyncio, json, os, sys, urllib.error, urllib.request, warnings
from distributed import Client, LocalCluster, Security
from distributed.comm import connect
from distributed.protocol.pickle import dumps

warnings.simplefilter("ignore")

def leave(path):
    with open(path, "w"):
        pass

async def asked(address, canary, security):
    arguments = security.get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, timeout=2, **arguments), 3)
    await comm.write({"op": "run", "function": dumps(leave), "args": dumps((canary,)),
                      "kwargs": dumps({}), "wait": True, "reply": True})
    await asyncio.wait_for(comm.read(), 3)

def attack(port, canary):
    for scheme, security in (("tcp", Security()), ("tls", Security.temporary())):
        address = f"{scheme}://127.0.0.1:{port}"
        try:
            asyncio.run(asked(address, canary, security))  # a worker or its nanny does it at once
            with Client(address, security=security, timeout=2, set_as_default=False) as client:
                client.submit(leave, canary, pure=False).result(timeout=5)
        except BaseException:
            pass

def page(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as found:
            return found.status
    except urllib.error.HTTPError as error:
        return error.code
    except Exception:
        return 0

if __name__ == "__main__":
    open_one = LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None,
                            local_directory=sys.argv[1])
    attack(open_one.scheduler_address.rpartition(":")[2], os.path.join(sys.argv[1], "shown"))
    open_one.close()
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    print("ready", flush=True)
    ports = json.loads(sys.stdin.readline())
    pages = []
    for port in ports:
        attack(port, sys.argv[2])
        pages += [page(port, path) for path in ("/info/main/workers.html", "/json/counts.json",
                                                "/metrics", "/status")]
    print(json.dumps([os.getuid(), pages]), flush=True)
"""


def family(pid):
    """The process and all that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def listening(pids):
    """The TCP ports that processes listen on."""
    held = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                held.add(os.readlink(link))
            except OSError:
                continue
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return sorted(int(row[1].rpartition(":")[2], 16) for row in rows
                  if row[3] == "0A" and f"socket:[{row[9]}]" in held)  # fmt: skip


def scratch_folders(pids):
    """The folders on the module path of none but Dask's processes: what they keep there is run."""
    names = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if "dask-scratch-space" in target:
                names.add(target.partition("/dask-scratch-space")[0])
    return names


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux tells who listens where")
def test_another_user_of_the_machine_can_run_nothing_on_a_local_cluster(tmp_path):
    os.mkfifo(tmp_path / "in.png")
    (tmp_path / "shown").mkdir()
    canary = tmp_path / "canary"
    (tmp_path / "intruder.py").write_text(INTRUDER)
    command = [sys.executable, "-W", "ignore", tmp_path / "intruder.py", tmp_path / "shown", canary]
    intruder = subprocess.Popen(
        command, env=DASK, cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    batch = start(
        "apply", "-k", "identity", "in.png", "-o", "out.png", "--cluster", "local:1", cwd=tmp_path
    )
    try:
        with open(tmp_path / "in.png", "wb") as pipe:  # once a worker reads it
            assert intruder.stdout.readline() == "ready\n"
            assert (tmp_path / "shown" / "shown").exists()  # so does an open cluster
            processes = family(batch.pid)
            ports = listening(processes)
            assert len(ports) >= 4
            folders = scratch_folders(processes)
            assert folders
            said, _ = intruder.communicate(json.dumps(ports), timeout=120)
            user, pages = json.loads(said)
            assert user != 0
            assert not canary.exists()
            assert set(pages) <= {0, 404}
            for folder in folders:
                assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
            photo = io.BytesIO()
            Image.new("L", (8, 8), 7).save(photo, "PNG")
            pipe.write(photo.getvalue())
        _, errors = batch.communicate(timeout=60)
        assert batch.returncode == 0, errors
        assert (tmp_path / "out.png").exists()
        assert not any(map(os.path.exists, folders))
    finally:
        intruder.kill()
        intruder.wait()
        batch.kill()
        batch.wait()
    assert not canary.exists()


class SecureCluster(Cluster):
    """A scheduler and workers that speak TLS with keys in files."""

    def schedule(self):
        self.address = self.address.replace("tcp:", "tls:")
        self.scheduler = self._start(
            "dask_scheduler", "--host", self.address.rpartition(":")[0], "--port", str(self.port),
            "--no-dashboard", *self.keys(),
        )  # fmt: skip
        until(lambda: reachable(self.port), "no scheduler")

    def keys(self):
        pem = str(self.folder / "cluster.pem")
        return "--tls-ca-file", pem, "--tls-cert", pem, "--tls-key", pem


def test_a_scheduler_with_certificates_is_reached_with_those_of_dasks_configuration(
    tmp_path, monkeypatch
):
    from distributed import Security

    made = Security.temporary()
    pem = tmp_path / "cluster.pem"
    pem.write_text(made.tls_client_key + made.tls_client_cert)
    for name in ("CA_FILE", "CLIENT__KEY", "CLIENT__CERT", "WORKER__KEY", "WORKER__CERT"):
        monkeypatch.setitem(DASK, f"DASK_DISTRIBUTED__COMM__TLS__{name}", str(pem))
    Image.new("L", (8, 8), 7).save(tmp_path / "in.png")
    cluster = SecureCluster(tmp_path)
    try:
        cluster.worker()
        run = ["apply", "-k", "identity", "in.png", "-o", "out.png", "--cluster", cluster.address]
        result = imgconv(*run, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        monkeypatch.undo()
        refused = imgconv(*run, "--overwrite", cwd=tmp_path)
        assert refused.returncode == 2, refused.stderr
        assert refused.stderr.count(b"\n") == 1
        unencrypted = [word.replace("tls:", "tcp:") for word in run]
        refused = imgconv(*unencrypted, "--overwrite", cwd=tmp_path)
        assert refused.returncode == 2, refused.stderr
        assert refused.stderr.count(b"\n") == 1
    finally:
        cluster.end()
