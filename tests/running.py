"""How tests run imgconv: on so many threads, a command here, or in a process for its memory."""

import os
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from types import SimpleNamespace

from imgconv.cli import main
from imgconv.cli.exit_codes import run
from imgconv.jit import parallel
from imgconv.ops.algorithms import tiles


def here(*arguments):
    """Run a command in this process; return its returncode, stdout and stderr as text."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(main, [str(argument) for argument in arguments])
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


@contextmanager
def num_threads(count):
    """Work on so many threads within a `with`, however little there is to do."""
    usual, tiles.WORTH = tiles.WORTH, 1
    parallel.set_num_threads(count)
    try:
        yield
    finally:
        parallel.set_num_threads(0)
        tiles.WORTH = usual


def bytes_by_threads(compute, counts=(1, 2, 5)):
    """The distinct bytes of what `compute()` returns on each number of threads: one, if right."""
    results = set()
    for count in counts:
        with num_threads(count):
            results.add(compute().tobytes())
    return results


SCRIPT = """
import resource, subprocess, sys
code = subprocess.call([sys.executable, "-m", "imgconv", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
sys.exit(code)
"""


def peak(*arguments, cwd):
    """Run imgconv; return its peak memory in MB."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(os.fspath, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return int(result.stdout)
