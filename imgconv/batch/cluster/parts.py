"""The rows of one large image that workers of a cluster make, a part each."""

import contextlib
import time
from typing import TYPE_CHECKING

import numpy as np

from imgconv.batch.cluster.connection import Cluster, anywhere
from imgconv.errors import ImageError, ImgconvError
from imgconv.io.scaling import Lost
from imgconv.ops.rows import ArrayRows
from imgconv.pipeline.division import Division
from imgconv.typing import Array

if TYPE_CHECKING:
    from distributed import Future

    from imgconv.batch.cluster.worker import PartAnswer

# Parts under way for each thread: finished ones wait on their workers until their turn comes.
AHEAD = 3
ATTEMPTS = 3
SLOW_SECONDS = 30.0
SLOW_FACTOR = 8.0
_POLL_SECONDS = 0.5


class PartRows:
    """A source of rows, as they are after filtering; see `RowSource`.

    lost: samples that were clipped or missing in the parts so far. Raises ImgconvError where a
    part cannot be made.
    """

    def __init__(self, cluster: Cluster, source: str, index: int, division: Division) -> None:
        self._cluster, self._source, self._index = cluster, source, index
        self._division = division
        self.height, self.width, self.channels = division.shape
        self.dtype = division.dtype
        self.lost = Lost()
        self._folder: str | None = None
        self._futures: dict[int, list[Future]] = {}
        self._next = 0
        self._seconds, self._made = 0.0, 0
        self._band = ArrayRows(np.empty((0, self.width, self.channels), self.dtype))

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Write the next rows; see `RowSource`."""
        count = len(out) if count is None else count
        given = self._band.rows_into(out, count)
        if given or self._next == self._division.parts:
            return given
        samples = self._following()
        assert samples is not None  # there is no folder
        self._band = ArrayRows(samples)
        return self._band.rows_into(out, count)

    def write_into(self, folder: str) -> None:
        """Let the workers write every part into a Zarr image.

        Where one fails, no worker writes there any more once this raises: a late part would bring
        back the folder that its caller is about to remove.
        """
        self._folder = folder
        try:
            while self._next < self._division.parts:
                self._following()
        except BaseException:
            self._wait_for_writers()
            raise

    def _following(self) -> Array | None:
        """The samples of the next part, or None where the worker wrote them."""
        room = AHEAD * self._cluster.threads()
        for part in range(self._next, min(self._next + room, self._division.parts)):
            if part not in self._futures:
                self._futures[part] = [self._submitted(part)]
        samples, lost, message, code = self._result(self._next)
        if message is not None:
            error = ImgconvError(message)
            error.exit_code = code
            raise error
        del self._futures[self._next]
        self._next += 1
        self.lost = self.lost.plus(lost)
        return samples

    def _wait(self, futures: "list[Future]", seconds: float, until: str) -> None:
        """Wait for futures, at most so long; lost ones end it too, and say so themselves."""
        from distributed import wait

        with contextlib.suppress(Exception), self._cluster.client.as_current():
            wait(futures, timeout=seconds, return_when=until)

    def _wait_for_writers(self) -> None:
        """Wait for the parts under way: a running one cannot be cancelled."""
        futures = [future for part in self._futures.values() for future in part]
        self._wait(futures, SLOW_SECONDS, "ALL_COMPLETED")

    def _submitted(self, part: int, places: list[str] | None = None) -> "Future":
        from imgconv.batch.cluster.worker import do_part

        start, stop = self._division.bounds(part)
        return self._cluster.client.submit(
            do_part, anywhere(self._source), self._index, start, stop, self._folder, pure=False,
            workers=places, allow_other_workers=bool(places),
        )  # fmt: skip

    def _result(self, part: int) -> "PartAnswer":
        """What became of a part, made again where its worker died or takes far too long."""
        began = time.monotonic()
        for _ in range(ATTEMPTS):
            while self._futures[part]:
                futures = self._futures[part]
                self._wait(futures, _POLL_SECONDS, "FIRST_COMPLETED")
                for future in list(futures):
                    if future.status == "finished":
                        try:
                            answer: PartAnswer = future.result(timeout=30)
                        except Exception:  # its worker went with the result
                            futures.remove(future)
                            continue
                        self._seconds += time.monotonic() - began
                        self._made += 1
                        return answer
                    if future.status != "pending":
                        futures.remove(future)
                if not self._cluster.connected:
                    self._begin_again()
                self._help(part, began)
            self._futures[part] = [self._submitted(part)]
        start, stop = self._division.bounds(part)
        raise ImageError(
            f"{self._source}: given up: the worker of rows {start} to {stop - 1} died in "
            f"{ATTEMPTS} attempts (often: out of memory)"
        )

    def _help(self, part: int, began: float) -> None:
        """Give a part that takes far longer than others to another worker too."""
        limit = max(SLOW_SECONDS, SLOW_FACTOR * self._seconds / max(1, self._made))
        futures = self._futures[part]
        if len(futures) != 1 or time.monotonic() - began < limit:
            return
        places = self._cluster.client.processing()
        busy = {place for place, keys in places.items() if futures[0].key in keys}
        if others := list(set(places) - busy):
            futures.append(self._submitted(part, others))

    def _begin_again(self) -> None:
        """Find a lost scheduler and hand it the parts under way, or raise ImgconvError."""
        if not self._cluster.reconnect():
            raise ImgconvError(f"{self._source}: not done: the scheduler is lost")
        self._futures = {part: [self._submitted(part)] for part in self._futures}

    def close(self) -> None:
        """Let go of the parts under way."""
        for futures in self._futures.values():
            for future in futures:
                future.cancel()
        self._futures.clear()
