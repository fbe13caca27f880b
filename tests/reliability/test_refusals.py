"""Row 34: threads and processes that the system refuses, and failures that nobody foresaw."""

import errno
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from imgconv.batch import runner, workers
from tests.reliability.support import NOBODY, imgconv, one_line, skip_unless_nobody_can_run

# Starts of threads are refused from the given one on, those of processes always or never.
REFUSING = """
import errno, os, sys, threading
left, forks = int(sys.argv.pop(1)), sys.argv.pop(1) == "forks"
begin = threading._start_new_thread

def refused(*arguments):
    global left
    left -= 1
    if left < 0:
        raise RuntimeError("can't start new thread")
    return begin(*arguments)

def no_process():
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

threading._start_new_thread = refused
if not forks:
    os.fork = no_process
from imgconv.__main__ import entry
entry()
"""
UNFORESEEN = """
import sys
from imgconv.io.codecs import decoder

whole = decoder.Decoder.images

def images(self):
    if "07" in self.name:
        raise ZeroDivisionError("of a library's\\nown")
    return whole(self)

decoder.Decoder.images = images
from imgconv.__main__ import entry
entry()
"""


@pytest.fixture
def folder(tmp_path):
    """Twenty JPEGs, and one photo that is large enough for threads of its own."""
    random = np.random.default_rng(34)
    (tmp_path / "in").mkdir()
    for number in range(20):
        small = random.integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(small).save(tmp_path / f"in/{number:02}.jpg")
    large = np.cumsum(random.integers(-2, 3, (1500, 1400, 3)), 1).astype(np.uint8)
    Image.fromarray(large).save(tmp_path / "in/20.png")
    return tmp_path


def digests(place):
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in place.iterdir()}


def run(script, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=cwd, capture_output=True, timeout=120
    )


def test_row_34_threads_and_processes_that_are_refused_change_no_byte(folder):
    apply = ("apply", "-q", "-k", "sobel", "in", "--jobs", "3", "--threads", "3", "-o")
    assert imgconv(*apply, "whole/", cwd=folder).returncode == 0
    for left, forks in ((0, "none"), (0, "forks"), (1, "none"), (4, "forks"), (2, "forks")):
        place = f"{left}{forks}/"
        ended = run(REFUSING, str(left), forks, *apply, place, cwd=folder)
        assert (ended.returncode, ended.stderr) == (0, b""), (left, forks)
        assert digests(folder / place) == digests(folder / "whole"), (left, forks)


def test_row_34_a_failure_that_nobody_foresaw_fails_one_input_with_one_line(folder):
    for jobs in ("1", "2"):
        place = f"by{jobs}/"
        ended = run(
            UNFORESEEN, "apply", "-q", "-k", "sobel", "in", "--jobs", jobs, "-o", place, cwd=folder
        )
        assert ended.returncode == 1
        one_line(ended, b"in/07.jpg", b"unexpected ZeroDivisionError", b"--debug")
        assert len(list((folder / place).iterdir())) == 20
    ended = run(UNFORESEEN, "apply", "-k", "sobel", "in/07.jpg", "-o", "x.png", "--debug",
                cwd=folder)  # fmt: skip
    assert ended.returncode == 1
    assert b"Traceback" in ended.stderr


def test_row_34_a_batch_is_done_within_twelve_processes(folder):
    skip_unless_nobody_can_run()
    folder.chmod(0o777)
    for parent in folder.parents[:3]:
        parent.chmod(0o755)
    apply = ("apply", "-q", "-k", "sobel", "in", "--jobs", "8", "--threads", "8", "-o")
    assert imgconv(*apply, "whole/", cwd=folder).returncode == 0
    ended = imgconv(
        *apply, "twelve/", cwd=folder, under=("prlimit", "--nproc=12", *NOBODY),
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "IMGCONV_STORE": ""},
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert digests(folder / "twelve") == digests(folder / "whole")


def test_row_34_a_batch_within_300_mb_of_addresses_is_the_same_or_one_line(folder):
    """What compiles loops takes more, and is not begun: LLVM would end the process."""
    apply = ("apply", "-q", "-k", "sobel", "in", "--jobs", "4", "--threads", "4", "-o")
    assert imgconv(*apply, "whole/", cwd=folder).returncode == 0
    within = ("prlimit", f"--as={300 << 20}")
    ended = imgconv(*apply, "warm/", cwd=folder, under=within)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert digests(folder / "warm") == digests(folder / "whole")
    cold = {**os.environ, "IMGCONV_STORE": str(folder / "none")}
    ended = imgconv(*apply, "cold/", cwd=folder, under=within, env=cold)
    assert ended.returncode == 1
    one_line(ended, b"cannot be compiled within 512 MB", b"imgconv warmup")


def test_a_process_that_is_refused_leaves_no_pipe_open(monkeypatch):
    def fork():
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    before = len(os.listdir("/proc/self/fd"))
    assert len(workers.Pool(object(), 4)) == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_thread_that_a_signal_met_at_its_start_does_not_keep_the_others():
    """It is not counted, as the signal's exception came before it was."""
    crew = runner._Crew(2)
    crew.begin(lambda: runner.Outcome("a")).result()
    crew.begin(lambda: runner.Outcome("b")).result()
    del crew._threads[0]
    crew.close([])
    assert not any(thread.is_alive() for thread in crew._threads)
