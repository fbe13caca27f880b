"""What runs on a cluster's workers. Imports Dask: only the cluster runner imports this."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from distributed import Worker, WorkerPlugin, get_worker

from imgconv import __version__
from imgconv.batch.cluster.assembly import make_part
from imgconv.batch.runner import naming
from imgconv.errors import ImgconvError, MachineError
from imgconv.io import remote
from imgconv.io.scaling import Lost
from imgconv.jit import parallel
from imgconv.pipeline.division import Divided, Division
from imgconv.pipeline.filter import Work
from imgconv.pipeline.outputs import Row
from imgconv.typing import Array

NAME = "imgconv"
R = TypeVar("R")
# One input's results or how it is divided, or its error's message and exit code.
Answer = tuple[list[Row] | Division, str | None, int]
# A part's samples, None where they were written; how many were lost; as above.
PartAnswer = tuple[Array | None, Lost, str | None, int]


class Plugin(WorkerPlugin):  # type: ignore[misc]
    """The work, sent to each worker once; sets it up before the worker's first task.

    threads: how many threads one input may use.
    """

    name = NAME

    def __init__(self, work: Work, threads: int) -> None:
        self.work, self.threads, self.version = work, threads, __version__
        self.schemes = remote.allowed()

    async def setup(self, worker: Worker) -> None:
        """Make the loops ready. Raises RuntimeError where the worker has another imgconv."""
        if self.version != __version__:
            raise RuntimeError(
                f"worker {worker.address} has imgconv {__version__}, expected {self.version}"
            )
        remote.allow(self.schemes)
        parallel.set_num_threads(self.threads)
        await asyncio.to_thread(self.work.warm)


def do(parts: list[tuple[int, str, bool]]) -> tuple[float, list[Answer]]:
    """Do a group's inputs: (index, source, whether its outputs may be replaced).

    Return the seconds that it took and what became of each.
    """
    work: Work = get_worker().plugins[NAME].work
    began = time.perf_counter()
    rows = [_one(work, *part) for part in parts]
    return time.perf_counter() - began, rows


def do_part(source: str, index: int, start: int, stop: int, folder: str | None) -> PartAnswer:
    """Make rows start…stop − 1 of an input's map, in a folder's Zarr image where one is given.

    Return (samples or None, how many were clipped, an error's message or None, its exit code).
    """
    work: Work = get_worker().plugins[NAME].work
    made, message, code = _attempted(
        source, lambda: make_part(work, source, index, start, stop, folder)
    )
    samples, lost = made or (None, Lost())
    return samples, lost, message, code


def _one(work: Work, index: int, source: str, replace: bool) -> Answer:
    try:
        rows, message, code = _attempted(source, lambda: work(source, index, replace))
    except Divided as divided:
        return divided.division, None, 0
    return rows or [], message, code


def _attempted(source: str, work: Callable[[], R]) -> tuple[R | None, str | None, int]:
    """What work returns, or None with its error's message and exit code. Raises Divided."""
    try:
        return work(), None, 0
    except Divided:
        raise
    except MachineError as error:
        return None, str(error), error.exit_code
    except ImgconvError as error:
        return None, str(naming(error, source)), error.exit_code
    except MemoryError:
        return None, f"{source}: out of memory", 1
    except Exception as error:  # one input's failure, whatever it is, is not its group's
        return None, f"{source}: {type(error).__name__}: {error}".partition("\n")[0], 1
