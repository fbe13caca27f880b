"""Compiling a first run's loops on two cores.

Numba compiles one loop at a time in a process, and the loops of a first `apply` (undo PNG's
filters, convolve, scale, filter rows) take it 4 s one after the other. What is going to be
needed is known before the first of them runs: so at the first miss in the store a companion
process starts, compiles some of them into the store, and this process the others. Entries of the
store appear by rename, so whatever happens to the companion, a loop is there whole or is compiled
here. It lives no longer than the miss: it is ended and waited for before the loop is handed out,
and the kernel ends it should this process be killed.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from imgconv.jit import cache, parallel
from imgconv.jit import loop as jit

Wanted = tuple[jit.Loop, tuple[Any, ...]]
_PATIENCE = 60  # seconds for the companion's last loop; no loop takes ten
_START = "import sys; sys.path.append(sys.argv[1]); from imgconv.jit.ahead import serve; serve()"


def begin(missed: Wanted, rehearsal: Callable[[], None]) -> Callable[[bool], None] | None:
    """Start on the loops that `rehearsal` asks for, and return what `missed` is to end with.

    That is called once `missed` is compiled (True) or its compilation was interrupted (False).
    None where no companion can help: one thread, a store that keeps nothing, nothing to compile.
    """
    if parallel.num_threads() < 2 or cache.state() != "ready" or not sys.executable:
        return None
    with jit.noting() as noted:
        rehearsal()
    wanted = [one for one in dict.fromkeys(noted) if one != missed and not one[0].kept(one[1])]
    return _Companion(wanted).finish if wanted else None


class _Companion:
    """A process that takes loops from the left of what is wanted; this one takes from the right."""

    def __init__(self, wanted: list[Wanted]) -> None:
        self._wanted = deque(wanted)
        self._process: subprocess.Popen[str] | None = None
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                # -P: a numba.py in the current folder is not Numba.
                [sys.executable, "-P", "-c", _START, root],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, "IMGCONV_QUIET": "1"}, text=True,
                start_new_session=True,  # the terminal's Ctrl-C is this process's to handle
            )  # fmt: skip
            self._feeder.start()

    def _feed(self) -> None:
        assert self._process is not None
        orders, answers = self._process.stdin, self._process.stdout
        assert orders is not None
        assert answers is not None
        with contextlib.suppress(OSError, ValueError, IndexError):
            while True:
                loop, constants = self._wanted.popleft()
                orders.write(f"{(*loop.name.rpartition('.')[::2], constants)!r}\n")
                orders.flush()
                if not answers.readline():
                    return

    def finish(self, compiled: bool) -> None:
        """Compile what is left unless `compiled` is false, and end the companion."""
        try:
            while compiled and self._process is not None:
                try:
                    loop, constants = self._wanted.pop()
                except IndexError:
                    self._feeder.join(_PATIENCE)
                    break
                loop(*constants)
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._feeder.join()
                for pipe in (self._process.stdin, self._process.stdout):
                    with contextlib.suppress(OSError):
                        pipe.close()  # type: ignore[union-attr]


def serve() -> None:
    """The companion: compile the loops named on standard input, a line back for each."""
    import ast
    import importlib

    with contextlib.suppress(OSError, AttributeError):
        # prctl(PR_SET_PDEATHSIG): Linux alone; elsewhere the end of standard input ends it.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    for line in sys.stdin:
        module, name, constants = ast.literal_eval(line)
        getattr(importlib.import_module(module), name)(*constants)
        print(flush=True)
