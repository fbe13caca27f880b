"""Worker processes for batches on this machine.

Two threads of one process keep 1.45 of two cores busy with 512×512 PNGs, since what is Python in
the work has one lock; two processes keep 1.75 busy, and 200 files take 0.83 of the time. This
process works too; the others are forked once it has done the first input, which loads all that
they need, and do what threads of this process hand to them: order, claims and collisions stay with
the threads. This process alone acts on signals: it ends once the inputs under way are done, and
should it be killed, the kernel kills its workers.
"""

import contextlib
import ctypes
import functools
import gc
import itertools
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import BinaryIO, NamedTuple, NoReturn

from imgconv.batch.runner import Outcome, Work
from imgconv.errors import ImageError
from imgconv.io.publish import while_waiting
from imgconv.io.source import is_special
from imgconv.jit import memory, parallel
from imgconv.pipeline import filter
from imgconv.pipeline.outputs import Row
from imgconv.threads import share_heap, start_thread

_SMALL = 4 << 20  # bytes of a file beyond which little of its work is Python
_PLACES = 3  # inputs that a process has at once: one is worked on, the others wait for the disk
_GREETING = b"+"  # of each place whose thread the system gave
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Source = str | ImageError


class _Channel(NamedTuple):
    """A place in a worker: files for what it is asked and what it answers."""

    requests: BinaryIO
    answers: BinaryIO

    def close(self) -> None:
        for file in self:
            with contextlib.suppress(OSError):
                file.close()


def run(
    sources: Iterable[Source], work: filter.Work, jobs: int,
    by: Callable[[Iterable[Source], Work, int, int], Iterator[Outcome[Row]]],
) -> Iterator[Outcome[Row]]:  # fmt: skip
    """Yield what `by(sources, work, jobs, first index)` yields, its work done by processes.

    By threads where processes cannot be had or the first file is large.
    """
    share_heap()
    left = iter(sources)
    first = list(itertools.islice(left, 1))
    if sys.platform != "linux" or not all(map(_is_small, first)):
        yield from by(itertools.chain(first, left), work, jobs, 0)
        return
    threads = parallel.num_threads()
    parallel.set_num_threads(1)  # threads that are left over could hold a lock at the fork
    try:
        yield from by(first, work, 1, 0)
    finally:
        parallel.set_num_threads(threads)
    second = list(itertools.islice(left, 1))
    rest = itertools.chain(second, left)
    with contextlib.ExitStack() as stack:
        if second and threading.active_count() == 1:
            memory.share_with(jobs)
            pool = Pool(work, jobs)
            stack.callback(pool.close)
            if len(pool):
                yield from by(rest, pool, len(pool), 1)
                return
        yield from by(rest, work, jobs, 1)


def _is_small(source: Source) -> bool:
    try:
        return not isinstance(source, ImageError) and os.path.getsize(source) <= _SMALL
    except (OSError, ValueError):
        return False


class Pool:
    """This process and others, working as `work` does; called by threads.

    Its length is how many inputs may be under way, 0 where no process could be had.
    """

    def __init__(self, work: filter.Work, jobs: int) -> None:
        self._work = work
        self._gate = threading.Semaphore(1)  # one input of a process is worked on at a time
        self._processes: list[int] = []
        self._channels: list[_Channel] = []
        with contextlib.suppress(OSError):  # too many processes or files: those that are there do
            for _ in range(jobs - 1):
                self._fork()
        self._idle: SimpleQueue[_Channel | None] = SimpleQueue()
        for place in range(_PLACES if self._channels else 0):
            for channel in (None, *self._channels[place::_PLACES]):
                self._idle.put(channel)

    def __len__(self) -> int:
        return len(self._channels) + _PLACES * bool(self._channels)

    def outputs(self, source: str, index: int) -> list[str]:
        """As the work's."""
        return self._work.outputs(source, index)

    def __call__(self, source: str, index: int, replace: bool = False) -> list[Row]:
        """Have an input's work done. Raises what it raises; ImageError where its worker dies."""
        if source == "-" or is_special(source):  # whose wait ends with this process's work
            return self._here(source, index, replace)
        channel = self._idle.get()
        try:
            if channel is None:
                return self._here(source, index, replace)
            pickle.dump((source, index, replace), channel.requests)
            channel.requests.flush()
            results, failure = pickle.load(channel.answers)
        except (OSError, EOFError, pickle.UnpicklingError):
            if channel is None:
                raise
            channel = None  # this process does its share
            raise ImageError(f"{source}: its process was killed (out of memory?)") from None
        finally:
            self._idle.put(channel)
        if failure is not None:
            raise failure
        found: list[Row] = results
        return found

    def close(self) -> None:
        """End the processes and wait for them, even if a further signal says to stop."""
        stopped: BaseException | None = None
        while self._processes:
            try:
                for channel in self._channels:
                    channel.close()
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self._processes[-1], 0)
                self._processes.pop()
            except BaseException as error:
                stopped = error
        if stopped is not None:
            raise stopped

    def _here(self, source: str, index: int, replace: bool) -> list[Row]:
        while_waiting(self._elsewhere)
        with self._gate:
            return self._work(source, index, replace)

    @contextlib.contextmanager
    def _elsewhere(self) -> Iterator[None]:
        self._gate.release()
        try:
            yield
        finally:
            self._gate.acquire()

    def _fork(self) -> None:
        theirs, ours = [], []
        for _ in range(_PLACES):
            asked, asks = os.pipe()
            answers, answered = os.pipe()
            theirs.append(_Channel(os.fdopen(asked, "rb"), os.fdopen(answered, "wb")))
            ours.append(_Channel(os.fdopen(asks, "wb"), os.fdopen(answers, "rb")))
        parent = os.getpid()
        # Between the fork and the child's own settings a signal would run the parent's handler.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            with warnings.catch_warnings():
                # Python 3.12 warns of threads that are not Python's, such as OpenBLAS's idle ones.
                warnings.simplefilter("ignore", DeprecationWarning)
                process = os.fork()
            if process == 0:
                self._serve(parent, theirs, [*self._channels, *ours], blocked)
            self._processes.append(process)
        except OSError:
            for channel in ours:
                channel.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            for channel in theirs:
                channel.close()
        for channel in ours:
            if channel.answers.read(1) == _GREETING:
                self._channels.append(channel)
            else:
                channel.close()

    def _serve(
        self,
        parent: int,
        mine: list[_Channel],
        others: list[_Channel],
        mask: set[int | signal.Signals],
    ) -> NoReturn:
        """The child: do what is asked for until nobody is left to ask."""
        try:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
            if os.getppid() == parent:
                gc.freeze()  # what is shared is not written to
                for channel in others:
                    channel.close()
                self._work.apart()
                threads = [start_thread(functools.partial(self._answer, one)) for one in mine[1:]]
                for channel, thread in zip(mine[1:], threads, strict=True):
                    if thread is None:
                        channel.close()  # the parent asks where it is greeted
                self._answer(mine[0])
                for thread in threads:
                    if thread is not None:
                        thread.join()
        finally:
            os._exit(0)

    def _answer(self, channel: _Channel) -> None:
        with contextlib.suppress(EOFError, OSError):
            channel.answers.write(_GREETING)
            channel.answers.flush()
            while True:
                request = pickle.load(channel.requests)
                answer: tuple[list[Row] | None, BaseException | None]
                try:
                    answer = self._here(*request), None
                except Exception as error:
                    answer = None, error
                channel.answers.write(_pickled(answer))
                channel.answers.flush()


def _pickled(answer: tuple[list[Row] | None, BaseException | None]) -> bytes:
    try:
        return pickle.dumps(answer)
    except Exception:  # an exception that holds what cannot be sent
        return pickle.dumps((None, RuntimeError(repr(answer[1]))))
