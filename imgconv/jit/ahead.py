"""Compiling the loops of a command's first run on two cores, before the first of them is needed.

Numba compiles one loop at a time in a process, and the loops of a first `apply` (undo PNG's
filters, convolve, scale, filter rows) take it seconds. So a command says which loops its task
needs, and those that the store lacks are compiled by this process and by a companion, which take
them from the two ends of one list. Entries of the store appear by rename, so whatever happens to
the companion, a loop is there whole or is compiled here. It lives no longer than
`compile_missing`, and the kernel ends it should this process be killed.

Without it (one thread, nothing kept, no `sys.executable`) each loop is compiled where it is first
asked for, with the same results.
"""

import contextlib
import ctypes
import functools
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from imgconv.jit import cache, parallel
from imgconv.jit.loop import Wanted
from imgconv.threads import start_thread

if TYPE_CHECKING:
    import subprocess  # imported by a first run alone

_PATIENCE = 60  # seconds for the companion's last loop; no loop takes ten
_START = "import sys; sys.path.append(sys.argv[1]); from imgconv.jit.ahead import serve; serve()"
# Numba imports these where they are installed, 0.2 s for linear algebra and foreign functions.
_UNUSED = ("scipy", "cffi")


def compile_missing(
    wanted: Iterable[Wanted], everyday: Callable[[], Iterable[Wanted]] = tuple
) -> None:
    """Compile those loops that the store lacks, where two cores can share the work.

    everyday: loops that a person who waits at a terminal will want next, compiled with the others.
    For commands only: Numba, if this process has not imported it yet, will know nothing of SciPy.
    """
    if parallel.num_threads() < 2 or not sys.executable or cache.state() != "ready":
        return
    missing = deque(loop for loop in dict.fromkeys(wanted) if not loop.is_stored())
    if missing and cache.is_awaited():
        others = (loop for loop in everyday() if not loop.is_stored())
        missing = deque(dict.fromkeys([*missing, *others]))
    if missing:
        cache.say_compiling(len(missing))
    if len(missing) < 2:
        return
    with _unused_hidden(), _companion(missing) as shared:
        while missing:
            with contextlib.suppress(IndexError):  # the companion took the last one
                missing.pop().load()
        if shared is not None:
            shared.join(_PATIENCE)


@contextlib.contextmanager
def _companion(missing: deque[Wanted]) -> Iterator[threading.Thread | None]:
    """A process that compiles loops from the left of a list; ended on the way out.

    Yields the thread that hands it one after the other, until there are none or it has ended; None
    where none can be had.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import subprocess

    process: subprocess.Popen[str] | None = None
    with contextlib.suppress(OSError):
        process = subprocess.Popen(
            # -P: a numba.py in the current folder is not Numba.
            [sys.executable, "-P", "-c", _START, root],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "IMGCONV_QUIET": "1"}, text=True,
            start_new_session=True,  # the terminal's Ctrl-C is this process's to handle
        )  # fmt: skip
    feeder = start_thread(functools.partial(_feed, process, missing))
    try:
        yield feeder
    finally:
        if process is not None:
            process.kill()
            process.wait()
        if feeder is not None:
            feeder.join()


def _feed(process: "subprocess.Popen[str] | None", missing: deque[Wanted]) -> None:
    if process is None or process.stdin is None or process.stdout is None:
        return
    # A pipe that broke, or one closed with orders in it, is the end of a companion that was killed.
    with contextlib.suppress(OSError), process.stdout as answers, process.stdin as orders:
        while missing:
            with contextlib.suppress(IndexError):
                loop, constants = missing.popleft()
                orders.write(f"{(*loop.name.rpartition('.')[::2], constants)!r}\n")
                orders.flush()
                if not answers.readline():
                    return


@contextlib.contextmanager
def _unused_hidden() -> Iterator[None]:
    """Let imports of what loops do not need fail while Numba looks for it.

    None in `sys.modules` is the import system's own way to say that there is no such module.
    """
    hidden = [] if "numba" in sys.modules else [n for n in _UNUSED if n not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def serve() -> None:
    """The companion: compile the loops named on standard input, a line back for each."""
    import ast
    import importlib

    with contextlib.suppress(OSError, AttributeError):
        # prctl(PR_SET_PDEATHSIG): Linux alone; elsewhere the end of standard input ends it.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    with _unused_hidden():
        for line in sys.stdin:
            module, name, constants = ast.literal_eval(line)
            getattr(importlib.import_module(module), name)(*constants)
            print(flush=True)
