"""No compiled loop touches a byte outside the arrays that it is given."""

import signal
import subprocess
import sys

import pytest


def ran(*words):
    return subprocess.run(
        [sys.executable, "-m", "tests.guard_pages", *words], capture_output=True, text=True
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="guard pages by Linux's mmap")
@pytest.mark.parametrize("side", ["after", "before"])
def test_loops_stay_within_their_arrays(side):
    assert ran(side, "beyond").returncode == -signal.SIGSEGV
    done = ran(side)
    assert (done.returncode, done.stdout) == (0, "within\n"), done.stderr
