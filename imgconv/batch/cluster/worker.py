"""What runs on a cluster's workers. Imports Dask: only the cluster runner imports this."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from imgconv import __version__
from imgconv.batch.resuming import Work
from imgconv.batch.runner import naming
from imgconv.errors import ImgconvError
from imgconv.io import remote
from imgconv.jit import parallel
from imgconv.pipeline.division import Divided, Division

NAME = "imgconv"
# One input's results or how it is divided, or its error's message and exit code.
Row = tuple[list[dict[str, Any]] | Division, str | None, int]


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


def do(parts: list[tuple[int, str, bool]]) -> tuple[float, list[Row]]:
    """Do a group's inputs: (index, source, whether its outputs may be replaced).

    Return the seconds that it took and what became of each.
    """
    work: Work = get_worker().plugins[NAME].work
    began = time.perf_counter()
    rows = [_one(work, *part) for part in parts]
    return time.perf_counter() - began, rows


def do_part(source: str, index: int, start: int, stop: int, folder: str | None) -> Any:
    """Make rows start…stop − 1 of an input's map, in a folder's Zarr image where one is given.

    Return (samples or None, how many were clipped, an error's message or None, its exit code).
    """
    work: Work = get_worker().plugins[NAME].work
    found, message, code = _attempted(source, lambda: work.part(source, index, start, stop, folder))
    return *(found or (None, 0)), message, code


def _one(work: Work, index: int, source: str, replace: bool) -> Row:
    found, message, code = _attempted(source, lambda: work(source, index, replace))
    return found or [], message, code


def _attempted(source: str, work: Callable[[], Any]) -> tuple[Any, str | None, int]:
    """What work returns, or None with its error's message and exit code."""
    try:
        return work(), None, 0
    except Divided as divided:
        return divided.division, None, 0
    except ImgconvError as error:
        return None, str(naming(error, source)), error.exit_code
    except MemoryError:
        return None, f"{source}: out of memory", 1
    except Exception as error:  # one input's failure, whatever it is, is not its group's
        return None, f"{source}: {type(error).__name__}: {error}".partition("\n")[0], 1
