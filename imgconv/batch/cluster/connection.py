"""A connection to a Dask scheduler, or to one that is started here with workers of its own."""

import asyncio
import contextlib
import logging
import os
import tempfile
import time
from typing import TYPE_CHECKING

from imgconv.errors import UsageError
from imgconv.io.remote import is_url
from imgconv.jit import parallel
from imgconv.pipeline.filter import Work

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

RECONNECT_SECONDS = 60.0
_ANSWER_SECONDS = 10


class Cluster:
    """A connection to the scheduler, with the work on every worker."""

    def __init__(self, address: str, work: Work, threads: int | None) -> None:
        self.address, self.work, self.within = address, work, threads
        self.client: Client = None  # until `connect`
        self._local: LocalCluster | None = None
        self._held = contextlib.ExitStack()

    def __enter__(self) -> "Cluster":
        try:
            self.connect(self._start_local() or self.address)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_local(self) -> "LocalCluster | None":
        name, _, count = self.address.partition(":")
        if name != "local":
            if "://" not in self.address:
                raise UsageError(f"--cluster {self.address}: expected local:N or tcp://HOST:PORT")
            return None
        if not count.isdigit() or int(count) < 1:
            raise UsageError(f"--cluster {self.address}: expected local:N, N processes from 1")
        self.within = self.within or max(1, parallel.num_threads() // int(count))
        try:
            self._local = _start_local(int(count), self._held)
        except ImportError as error:  # what makes the credentials
            raise UsageError(
                f"--cluster {self.address}: {_line(error)}: pip install 'imgconv[cluster]'"
            ) from None
        return self._local

    def connect(self, scheduler: "str | LocalCluster") -> None:
        """Connect and hand the work to the workers. Raises UsageError."""
        from distributed import Client
        from distributed.security import Security

        from imgconv.batch.cluster.worker import Plugin

        if str(scheduler).startswith("tls://") and not Security().tls_client_cert:
            raise UsageError(
                f"--cluster {self.address}: no certificate in Dask's configuration, expected "
                "distributed.comm.tls.ca-file, client.cert and client.key"
            )
        try:
            if scheduler is self.address:
                asyncio.run(_answered(self.address))
            self.client = Client(scheduler, timeout=_ANSWER_SECONDS, set_as_default=False)
            self.client.register_plugin(Plugin(self.work, self.within or 1))
        except TimeoutError:
            raise UsageError(
                f"--cluster {self.address}: no answer of a Dask scheduler in {_ANSWER_SECONDS} s "
                "(one with certificates is at tls://)"
            ) from None
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise UsageError(f"--cluster {self.address}: {_line(error)}") from None

    @property
    def connected(self) -> bool:
        """Whether the scheduler still answers, as far as is known."""
        return bool(self.client.status == "running")

    def reconnect(self) -> bool:
        """Wait for a lost scheduler to come back; False where it does not."""
        end = time.monotonic() + RECONNECT_SECONDS
        while self._local is None and time.monotonic() < end:
            with contextlib.suppress(Exception):
                self.client.close(timeout=1)
            try:
                self.connect(self.address)
            except UsageError:
                time.sleep(0.5)
            else:
                return True
        return False

    def threads(self) -> int:
        """Threads of all workers now, at least one."""
        return max(1, int(sum(self.client.nthreads().values())))

    def __exit__(self, *_: object) -> None:
        for one in (self.client, self._local):
            if one is not None:
                with contextlib.suppress(Exception):
                    one.close(timeout=10)
        self._held.close()


async def _answered(address: str) -> None:
    """Return once a scheduler answers. Raises TimeoutError, OSError.

    A client waits for ever for what accepts a connection and says nothing, as a scheduler at tls://
    does to one that comes by tcp://.
    """
    from distributed.comm import connect
    from distributed.security import Security

    arguments = Security().get_connection_args("client")
    found = connect(address, timeout=_ANSWER_SECONDS, **arguments)
    (await asyncio.wait_for(found, _ANSWER_SECONDS)).abort()


def _start_local(count: int, held: contextlib.ExitStack) -> "LocalCluster":
    """Start a scheduler and `count` worker processes here that obey nobody else.

    Whoever reaches a scheduler or a worker has it run code as us, and loopback is open to every
    user of the machine: hence TLS, with credentials that only these processes have, in memory.
    The web pages ask for no credentials and tell of names of files, so none are served. Dask keeps
    pickles in its scratch folder and puts it first on `sys.path`; its default,
    /tmp/dask-scratch-space, it takes from whoever made it. held: what goes with the cluster.
    """
    import dask
    from distributed import LocalCluster

    scratch = held.enter_context(
        tempfile.TemporaryDirectory(
            prefix="imgconv-", dir=dask.config.get("temporary-directory", None),
            ignore_cleanup_errors=True,
        )
    )  # fmt: skip
    # For as long as the cluster lives: a worker that is started anew reads it too.
    held.enter_context(
        dask.config.set({
            "temporary-directory": scratch, "distributed.scheduler.http.routes": [],
            "distributed.worker.http.routes": [],
        })
    )  # fmt: skip
    return LocalCluster(
        n_workers=count, threads_per_worker=1, processes=True, security=True,
        local_directory=scratch, silence_logs=logging.CRITICAL,
        # Any port: of a second cluster here, Dask would warn that its usual one is taken.
        dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False},
    )  # fmt: skip


def anywhere(source: str) -> str:
    """A name that means the same in another process's folder."""
    return source if source.startswith("sample:") or is_url(source) else os.path.abspath(source)


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
