"""Rows 40 to 42: files that change while they are read, and a batch's memory over time."""

import itertools
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from imgconv.cli import main
from imgconv.cli.exit_codes import run
from imgconv.io import digest
from imgconv.io.metadata.notes import read_note
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


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_row_42_a_record_tells_of_the_bytes_that_were_filtered(tmp_path, kind, monkeypatch):
    """Another file takes the input's place again and again, as an editor saves one."""
    monkeypatch.chdir(tmp_path)
    rng, digests = np.random.default_rng(1), {}
    for name in "ab":
        pixels = rng.integers(0, 256, (300, 400, 3), np.uint8)
        Image.fromarray(pixels).save(f"{name}.{kind}")
        digests[digest.sha256_of(f"{name}.{kind}")] = pixels
    done = threading.Event()

    def swap():
        for name in itertools.cycle("ba"):
            if done.wait(0.002):
                return
            os.link(f"{name}.{kind}", f"next.{kind}")
            os.replace(f"next.{kind}", f"photo.{kind}")

    os.link(f"a.{kind}", f"photo.{kind}")
    swapping = threading.Thread(target=swap)
    swapping.start()
    codes = []
    try:
        for number in range(40):
            output = f"out-{number}.png"
            codes.append(run(main, ["apply", "-k", "identity", f"photo.{kind}", "-o", output]))
            if codes[-1] == 0:
                told = json.loads(read_note(output))["input"]["sha256"]
                assert np.array_equal(np.asarray(Image.open(output)), digests[told])
    finally:
        done.set()
        swapping.join()
    assert set(codes) <= ({0} if kind == "png" else {0, 1})
    assert 0 in codes or kind == "tif"
