"""Rows 40 and 41: files that change while they are read, and a batch's memory over time."""

import os
import subprocess
import sys

import pytest

from tests.reliability.support import COMMAND, imgconv

# Eight threads that take and give back memory; how many heaps the C library has made for them.
HEAPS = """
import ctypes, os, sys, threading

from imgconv.threads import share_heap

share_heap()
together = threading.Barrier(8)

def work():
    together.wait()
    held = [bytearray(50_000) for _ in range(100)]
    together.wait()

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, file)
libc.fflush(file)
"""


@pytest.mark.parametrize("cut", [0, 8192])
def test_row_40_weights_that_are_cut_during_a_run_are_one_line(tmp_path, cut):
    """A map of the file would end the process by SIGBUS."""
    drawn = ("net", "convert", "lenet5", "-o", "w.safetensors", "--seed", "1")
    assert imgconv(*drawn, cwd=tmp_path).returncode == 0
    imgconv("apply", "-k", "identity", "sample:chart:32", "-o", "digit.png", cwd=tmp_path)
    os.mkfifo(tmp_path / "waits.png")
    arguments = ("net", "predict", "lenet5", "waits.png", "--weights", "w.safetensors")
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:  # fmt: skip
        # Opening it waits for the reader, which has its weights by then.
        with open(tmp_path / "waits.png", "wb") as pipe:
            os.truncate(tmp_path / "w.safetensors", cut)
            pipe.write((tmp_path / "digit.png").read_bytes())
        said = process.communicate(timeout=60)[1]
    assert process.returncode in (1, 2), said
    assert said.count(b"\n") == 1
    assert b"w.safetensors: " in said
    assert b"it was cut" in said


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_row_41_threads_share_one_heap():
    result = subprocess.run([sys.executable, "-c", HEAPS], capture_output=True, check=True)
    if b"<malloc" not in result.stdout:
        pytest.skip("not glibc")
    assert result.stdout.count(b"<heap nr=") == 1
