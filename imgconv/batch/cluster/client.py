"""The cluster runner: a batch over the workers of a Dask scheduler.

A task is a group of a few inputs. The work (options, kernels, weights) goes to each worker once,
as a plugin that also compiles or loads its loops before the first task, and to workers that
join later. The client reads the manifest as it goes and keeps a bounded number of groups under
way, so neither it nor the scheduler holds more than those, however long the manifest is.

A task may be run twice: when its worker dies, when a slow worker's group is given to another one
too, when the scheduler is lost and found. That is safe because an output appears whole, its bytes
do not depend on who makes them, and an output that is there with the same bytes counts as made.
The inputs of a group whose worker died are suspects: they are tried again apart, one at a time
on a worker, when nothing else is under way that could die with them or kill them. One that is
there when its worker dies again and again is given up.
"""

import contextlib
import logging
import queue
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imgconv.batch.cluster.assembly import assemble
from imgconv.batch.cluster.connection import Cluster, anywhere
from imgconv.batch.cluster.parts import PartRows
from imgconv.batch.ledger import Claim, Finished, Taken
from imgconv.batch.resuming import Recorder, skipped
from imgconv.batch.runner import Outcome, attempt, failed, naming
from imgconv.errors import ImageError, ImgconvError, UsageError
from imgconv.pipeline.division import Division
from imgconv.pipeline.filter import Work
from imgconv.pipeline.outputs import Row

if TYPE_CHECKING:
    from distributed import Future

    from imgconv.batch.cluster.worker import Answer

# A task costs the scheduler 3.4 ms and the client 2.6, whatever it does, so groups begin with
# GROUP inputs and grow to as many as take GROUP_SECONDS: 1,000 workers then finish 200 a second.
GROUP, MOST, GROUP_SECONDS = 16, 256, 5.0
# Groups under way for each thread of the cluster: enough that a worker never waits for the
# client, few enough that 1,000 threads have 4,000 groups in the scheduler.
AHEAD = 4
ATTEMPTS = 3
SUSPECTS = 1000
SLOW_SECONDS = 30.0
SLOW_FACTOR = 8.0
_POLL_SECONDS = 0.5


@dataclass
class Item:
    """One input on its way: its place in the manifest, its name, and the ledger's claim."""

    index: int
    source: str
    claim: Claim | None = None


@dataclass(eq=False)
class Group:
    """Inputs that are one task, how often it was tried, where, and its futures under way."""

    items: list[Item]
    attempt: int = 1
    place: str = ""
    started: float = 0.0
    futures: "list[Future]" = field(default_factory=list)


def run(
    sources: Iterable[str | ImageError], address: str, work: Work, recorder: Recorder,
    total: int | None, threads: int | None,
) -> Iterator[Outcome[Row]]:  # fmt: skip
    """Yield an outcome for every source, as they come.

    address: `tcp://host:port` (or tls://, …) of a scheduler, or `local:N` for N processes here.
    total: how many sources there are, if that is known. threads: within one image; by default
    as many as give each local process its share of the CPUs, and 1 elsewhere.

    Raises UsageError where there is no scheduler or its workers have another imgconv,
    ImgconvError where it is lost for good.
    """
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise UsageError(
            "--cluster: Dask is not installed: pip install 'imgconv[cluster]'"
        ) from None
    # What Dask logs of lost connections and workers is ours to act on and to report.
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with Cluster(address, work, threads) as cluster:
        yield from _Batch(cluster, recorder, total).run(sources)


class _Batch:
    """The loop that keeps a bounded number of groups under way."""

    def __init__(self, cluster: Cluster, recorder: Recorder, total: int | None) -> None:
        self.cluster, self.recorder = cluster, recorder
        self.room = AHEAD * cluster.threads()
        self.total = total
        self.size = max(1, min(GROUP, total // self.room)) if total else GROUP
        self.groups: set[Group] = set()
        self.retries: list[Group] = []
        self.suspects: list[Group] = []
        self.divided: list[tuple[Item, Division]] = []
        self.done: queue.SimpleQueue[tuple[Group, Future]] = queue.SimpleQueue()
        self.seconds, self.finished = 0.0, 0
        self.looked = time.monotonic()

    def run(self, sources: Iterable[str | ImageError]) -> Iterator[Outcome[Row]]:
        """Yield an outcome for every source."""
        manifest = self._claimed(sources)
        self.more = True
        while self.more or self.groups or self.retries or self.suspects or self.divided:
            # One large image at a time: its parts are work for all.
            while self.divided:
                yield self._in_parts(*self.divided.pop())
            left = self.more or self.retries
            if self.suspects and not (left and len(self.suspects) < SUSPECTS):
                self._isolate()
            else:
                yield from self._fill(manifest)
            yield from self._collect()

    def _fill(self, manifest: Iterator[Group | Outcome[Row] | None]) -> Iterator[Outcome[Row]]:
        """Put as many groups under way as there is room for."""
        while len(self.groups) < self.room and (self.retries or self.more):
            found = self.retries.pop() if self.retries else next(manifest, False)
            if isinstance(found, Group):
                self._submit(found)
            elif isinstance(found, Outcome):
                yield found
            else:
                self.more = found is None
                return

    def _isolate(self) -> None:
        """Give each worker that has nothing to do a suspect, once all other groups are done."""
        if any(group.attempt == 1 for group in self.groups):
            return
        busy = {group.place for group in self.groups}
        for place in set(self.cluster.client.nthreads()) - busy:
            if self.suspects:
                group = self.suspects.pop()
                group.place = place
                self._submit(group, {place})

    def _claimed(
        self, sources: Iterable[str | ImageError]
    ) -> Iterator[Group | Outcome[Row] | None]:
        """Yield groups to work on, outcomes of inputs that need no work, and None to wait."""
        items: list[Item] = []
        aside: deque[Item] = deque()

        def begun(item: Item) -> Outcome[Row] | None:
            """Add an input to the group, or put it aside, or return what became of it."""
            try:
                item.claim = self.recorder.begin(item.source, item.index)
                items.append(item)
            except Taken:
                aside.append(item)
            except Finished as finished:
                return Outcome(item.source, skipped(item.source, finished.outputs))
            except ImgconvError as error:
                return Outcome(item.source, error=naming(error, item.source))
            return None

        for index, source in enumerate(sources):
            if isinstance(source, ImageError):
                yield failed(source)
            elif (outcome := begun(Item(index, source))) is not None:
                yield outcome
            if len(items) >= self.size:
                yield Group(items)
                items = []
        while True:
            if items:
                yield Group(items)
                items = []
            if not aside:
                return
            yield None
            if (outcome := begun(aside.popleft())) is not None:
                yield outcome

    def _submit(self, group: Group, places: set[str] | None = None) -> None:
        """Hand a group to the scheduler, for these workers while they live."""
        from imgconv.batch.cluster.worker import do

        if not group.futures:
            group.started = time.monotonic()
        self.groups.add(group)
        parts = [
            (item.index, anywhere(item.source), bool(item.claim and item.claim.replace))
            for item in group.items
        ]
        future = self.cluster.client.submit(
            do, parts, pure=False, workers=list(places) if places else None,
            allow_other_workers=bool(places),
        )  # fmt: skip
        group.futures.append(future)
        future.add_done_callback(lambda done: self.done.put((group, done)))

    def _collect(self) -> Iterator[Outcome[Row]]:
        """Wait for a group, or a moment, and yield what has come of it."""
        wait = True
        while True:
            try:
                group, future = self.done.get(timeout=_POLL_SECONDS if wait else 0)
            except queue.Empty:
                break
            wait = False
            if group not in self.groups or future not in group.futures:
                continue
            if future.status == "cancelled":
                yield from self._lost()
                return
            group.futures.remove(future)
            if future.status == "finished":
                yield from self._ended(group, future)
            elif not group.futures:
                yield from self._died(group)
        if not self.cluster.connected:
            yield from self._lost()
        self._help_the_slow()

    def _ended(self, group: Group, future: "Future") -> Iterator[Outcome[Row]]:
        """Yield the outcomes of a group that was done."""
        try:
            answers: list[Answer]
            seconds, answers = future.result(timeout=30)
        except Exception:  # its worker went with the result, which is not kept elsewhere
            yield from self._died(group)
            return
        self.groups.remove(group)
        self.seconds += time.monotonic() - group.started
        self.finished += 1
        if self.total is None:
            each = max(seconds / len(group.items), GROUP_SECONDS / MOST)
            self.size = max(1, min(MOST, (self.size + round(GROUP_SECONDS / each)) // 2))
        for other in group.futures:
            other.cancel()
        for item, (results, message, code) in zip(group.items, answers, strict=True):
            if isinstance(results, Division):
                self.divided.append((item, results))
                continue
            error = None
            if message is not None:
                error = ImgconvError(message)
                error.exit_code = code
            named: list[Row] = [{**row, "input": item.source} for row in results]
            yield self.recorder.end(item.claim, Outcome(item.source, named, error))

    def _in_parts(self, item: Item, division: Division) -> Outcome[Row]:
        """Make one large image of parts, and say what became of it."""
        replace = bool(item.claim and item.claim.replace)
        with contextlib.closing(PartRows(self.cluster, item.source, item.index, division)) as rows:
            outcome = attempt(
                lambda source, _: [assemble(self.cluster.work, source, division, rows, replace)],
                item.source, item.index,
            )  # fmt: skip
        return self.recorder.end(item.claim, outcome)

    def _died(self, group: Group) -> Iterator[Outcome[Row]]:
        """Suspect the inputs of a group whose worker is gone; give up what had its turns."""
        self.groups.discard(group)
        if group.attempt < ATTEMPTS:
            self.suspects += [Group([item], group.attempt + 1) for item in group.items]
            return
        for item in group.items:
            error = ImageError(
                f"{item.source}: given up: its worker died in {ATTEMPTS} attempts "
                "(often: out of memory)"
            )
            yield self.recorder.end(item.claim, Outcome(item.source, error=error))

    def _lost(self) -> Iterator[Outcome[Row]]:
        """Find the scheduler again and hand in anew what was under way, or end the batch."""
        groups = list(self.groups)
        if self.cluster.reconnect():
            self.retries += [Group(group.items, group.attempt) for group in groups]
            self.groups.clear()
            return
        for group in groups:
            for item in group.items:
                lost = ImgconvError(f"{item.source}: not done: the scheduler is lost")
                yield self.recorder.end(item.claim, Outcome(item.source, error=lost))
        raise ImgconvError(
            f"--cluster {self.cluster.address}: the scheduler is lost; the rest was not "
            "done; the same command with --resume continues"
        )

    def _help_the_slow(self) -> None:
        """Give groups that take far longer than others to another worker too; the first counts."""
        now = time.monotonic()
        if now - self.looked < _POLL_SECONDS or not self.finished:
            return
        self.looked = now
        self.room = AHEAD * self.cluster.threads()
        limit = max(SLOW_SECONDS, SLOW_FACTOR * self.seconds / self.finished)
        slow = [
            group for group in self.groups
            if group.attempt == 1 and now - group.started > limit and len(group.futures) == 1
        ]  # fmt: skip
        if not slow:
            return
        places = self.cluster.client.processing()
        for group in slow:
            holders = {place for place, keys in places.items() if group.futures[0].key in keys}
            if others := set(places) - holders:
                self._submit(group, others)
