"""Running imgconv thousands of times under limits: a warm process forks one child a run.

A child is a process of its own: it has limits of memory and time, dies of signals, and is
measured. Starting Python for each would take twenty times as long.
"""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

MEMORY = 3 << 30  # bytes of address space: the interpreter and its libraries take 0.6 GB of it
SECONDS = 20  # of the processor, so that other work on the machine makes no hang of a run
WAIT = 120  # seconds by the clock


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code (negative: signal), stderr, CPU seconds, peak resident bytes."""

    code: int
    said: str
    seconds: float
    peak: int

    def is_clean(self):
        """An output, or one line; no traceback, no signal, no hang."""
        fine = self.code in (0, 1, 2) and self.seconds < SECONDS
        lines = self.said.count("\n")
        return fine and "Traceback" not in self.said and (self.code == 0 or lines == 1)


class Forker:
    """The client's side: `run` a command line in a folder."""

    def __init__(self):
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.forked"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "IMGCONV_QUIET": "1"},
        )  # fmt: skip

    def run(self, *arguments, cwd, memory=MEMORY):
        """Run imgconv with arguments and one thread."""
        words = [*map(os.fspath, arguments), "--threads", "1"]
        print(json.dumps([words, os.fspath(cwd), memory]), file=self.server.stdin, flush=True)
        answer = self.server.stdout.readline()
        assert answer, "the server of forks has ended"
        return Ended(*json.loads(answer))

    def close(self):
        """End the server."""
        self.server.stdin.close()
        self.server.wait(timeout=10)
        self.server.stdout.close()


def serve():
    """Answer requests on standard input."""
    import tifffile  # noqa: F401 - once, not in every child

    from imgconv.cli import main
    from imgconv.cli.commands import apply
    from imgconv.cli.exit_codes import run
    from imgconv.io.codecs import pillow  # noqa: F401
    from imgconv.io.tiff import reader as tiff_reader  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for source, out in (("sample:chart:32", "a.png"), ("a.png", "b.npy")):
            words = ["apply", "-q", "-k", "sobel", source, "-o", out, "--threads", "1"]
            assert run(main, words) == 0
        os.chdir("/")
    assert apply
    for line in sys.stdin:
        words, folder, memory = json.loads(line)
        print(json.dumps(one(run, main, words, folder, memory)), flush=True)


def one(run, main, words, folder, memory):
    """Fork, run, and say how it ended."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.dup2(write, 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = 70
        try:
            code = run(main, words)
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    os.close(write)
    said = said_until(read, time.monotonic() + WAIT)
    if said is None:
        os.kill(child, signal.SIGKILL)
        said = b"hangs\n"
    os.close(read)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    text = said.decode("utf-8", "backslashreplace")
    return code, text, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def said_until(descriptor, deadline):
    """All that a child writes to stderr, or None when it does not end in time."""
    pieces = []
    while select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0]:
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
    return None


if __name__ == "__main__":
    serve()
