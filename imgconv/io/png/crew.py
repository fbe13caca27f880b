"""Jobs done by several threads whose results come back in order."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from imgconv.threads import start_thread


class Crew:
    """Threads that do jobs side by side and hand the results back in the order of the jobs."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._jobs: deque[list[Any]] = deque()
        self._pending: deque[list[Any]] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._pending)

    def start(self, work: Callable[[], Any]) -> None:
        """Queue a job; a crew of one does it at once."""
        job = [work, None, False]
        self._pending.append(job)
        if self.size <= 1:
            job[1:] = work(), True
            return
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()
        if self._threads < min(self.size, len(self._pending)):
            self._threads += start_thread(self._run) is not None
        if not self._threads:
            self.size = 1
            self._jobs.clear()
            job[1:] = work(), True

    def next(self) -> Any:
        """Wait for the oldest job's result, or raise what it raised."""
        job = self._pending.popleft()
        with self._changed:
            while not job[2]:
                self._changed.wait()
        if isinstance(job[1], BaseException):
            raise job[1]
        return job[1]

    def close(self) -> None:
        """Do no more jobs."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._jobs.popleft()
            try:
                result = job[0]()
            except BaseException as error:
                result = error
            with self._changed:
                job[1:] = result, True
                self._changed.notify_all()
