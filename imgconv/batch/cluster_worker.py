"""What runs on a cluster's workers. Imports Dask: only the cluster runner imports this."""

import asyncio
import time
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from imgconv import __version__
from imgconv.batch.resuming import Work
from imgconv.compute import bands
from imgconv.errors import ImgconvError

NAME = "imgconv"
# One input's results, or its error's message and exit code.
Row = tuple[list[dict[str, Any]], str | None, int]


class Plugin(WorkerPlugin):  # type: ignore[misc]
    """The work, sent to each worker once; sets it up before the worker's first task.

    threads: how many threads one input may use.
    """

    name = NAME

    def __init__(self, work: Work, threads: int) -> None:
        self.work, self.threads, self.version = work, threads, __version__

    async def setup(self, worker: Worker) -> None:
        """Make the loops ready. Raises RuntimeError where the worker has another imgconv."""
        if self.version != __version__:
            raise RuntimeError(
                f"worker {worker.address} has imgconv {__version__}, expected {self.version}"
            )
        bands.set_num_threads(self.threads)
        await asyncio.to_thread(self.work.warm)


def do(parts: list[tuple[int, str, bool]]) -> tuple[float, list[Row]]:
    """Do a group's inputs: (index, source, whether its outputs may be replaced).

    Return the seconds that it took and what became of each.
    """
    work: Work = get_worker().plugins[NAME].work
    began = time.perf_counter()
    rows = [_one(work, *part) for part in parts]
    return time.perf_counter() - began, rows


def _one(work: Work, index: int, source: str, replace: bool) -> Row:
    try:
        return work(source, index, replace), None, 0
    except ImgconvError as error:
        return [], str(error), error.exit_code
    except MemoryError:
        return [], f"{source}: out of memory", 1
    except Exception as error:  # one input's failure, whatever it is, is not its group's
        return [], f"{source}: {type(error).__name__}: {error}".partition("\n")[0], 1
