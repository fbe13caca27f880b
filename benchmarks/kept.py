"""What was fast stays fast: this version against a commit, both side by side in one run.

Each version is a copy of its package with a store of compiled loops of its own, kept from one run
to the next. Work in memory is done by one long-lived process a version, whole processes are
started; both take turns within a round, as the peers of the other groups do.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.data import photo, photo_file
from benchmarks.files import Process
from benchmarks.kept_rows import rows
from benchmarks.measure import Case

ROOT = Path(__file__).parent.parent
FIRST = "a1633ad"  # the first release
LIMIT = 1.1
ROUNDS = 25  # more than the other groups take, each of less time: a few percent are to be seen
OURS = "imgconv"


class Unmeasured(Exception):
    """A version that cannot do a row, most often because it is older than what the row asks."""


class Side(NamedTuple):
    """One version: what a table calls it, its copy, its store of compiled loops."""

    name: str
    folder: Path
    store: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"IMGCONV_STORE": str(self.store)}

    def command(self, *arguments: str | Path) -> Process:
        """The installed command, in the name of this version."""
        return Process(sys.executable, self.folder / "imgconv.py", *arguments, **self.environment)


def install(name: str, commit: str | None, folder: Path) -> Side:
    """Copy the package of a commit, or of the working tree, with bytecode as pip leaves it."""
    target = folder / name
    target.mkdir(parents=True)
    if commit is None:
        for part in ("imgconv", "kernels"):
            shutil.copytree(
                ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__")
            )
    else:
        archive = folder / f"{name}.tar"
        subprocess.run(
            ["git", "-C", ROOT, "archive", "-o", archive, commit, "imgconv", "kernels"], check=True
        )
        shutil.unpack_archive(archive, target, filter="data")
    (target / "imgconv.py").write_text("from imgconv.__main__ import entry\n\nentry()\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", target / "imgconv"], check=True)
    return Side(name, target, _stores() / name)


def _stores() -> Path:
    """Compiling everything takes minutes, so loops stay for the next run."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "imgconv-benchmarks"


class Worker:
    """The long-lived process of one version, which has one row at a time."""

    def __init__(self, side: Side) -> None:
        self._name = side.name
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("kept_side.py"), side.folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | side.environment,
        )  # fmt: skip

    def ask(self, request: Any) -> tuple[float, float]:
        """Have a row made, or the last one called so many times; seconds and CPU seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended with code {self._process.wait()}")
        answer = json.loads(line)
        if isinstance(answer, str):
            raise Unmeasured(f"{self._name}: {answer}")
        return answer[0], answer[1]

    def __call__(self) -> None:
        self.timed(1)

    def timed(self, calls: int) -> tuple[float, float]:
        """Seconds and CPU seconds of so many calls, without what asking takes."""
        return self.ask({"calls": calls})

    def close(self) -> None:
        self._process.communicate()


@contextlib.contextmanager
def sides(commit: str) -> Iterator[tuple[Side, Side]]:
    """Both versions in a folder of their own, this one first."""
    with tempfile.TemporaryDirectory(prefix="imgconv-kept-") as folder:
        yield install(OURS, None, Path(folder)), install(commit, commit, Path(folder))


def cases(folder: Path, commit: str, short: bool, match: str = "") -> Iterator[Case]:
    """Rows in memory, then whole processes; only those whose table and name have `match`."""
    chosen = [
        (number, row) for number, row in enumerate(rows())
        if (row.short or not short) and match in f"{row.table}: {row.name}"
    ]  # fmt: skip
    with sides(commit) as both:
        with contextlib.ExitStack() as stack:
            workers = {side.name: Worker(side) for side in both}
            for worker in workers.values():
                stack.callback(worker.close)
            for number, row in chosen:
                case = _case(row.table, row.name, dict(workers), number)
                if case is not None:
                    yield case
        for table, name, work in _processes(folder, short):
            if match in f"{table}: {name}":
                case = _case(table, name, {side.name: work(side) for side in both})
                if case is not None:
                    yield case


def _case(table: str, name: str, peers: dict[str, Any], row: int | None = None) -> Case | None:
    """A row that both versions can do."""
    try:
        for peer in peers.values():
            if row is not None:
                peer.ask(row)
            peer()
    except (Unmeasured, subprocess.CalledProcessError) as error:
        print(f"{table}: {name} is not measured: {error}", flush=True)
        return None
    target = {name: LIMIT for name in peers if name != OURS}
    return Case(f"kept, {table}", name, peers, target=target)


Work = tuple[str, str, Callable[[Side], Callable[[], Any]]]


def _processes(folder: Path, short: bool) -> Iterator[Work]:
    """Whole processes from start to end: warm, and cold with an empty store."""
    small, large = photo_file(folder, "0.25"), photo_file(folder, "12")

    def apply(table: str, name: str, kernel: str, source: Path) -> Work:
        return table, name, lambda side: side.command(
            "apply", "-k", kernel, source, "-q", "--overwrite",
            "-o", folder / f"{side.name}{source.suffix}",
        )  # fmt: skip

    yield "start", "imgconv --help", lambda side: side.command("--help")
    yield apply("whole process", "0.25 MP PNG → sobel → PNG", "sobel", small)
    yield apply("whole process", "12 MP PNG → sobel → PNG", "sobel", large)
    for suffix in (".ppm", ".tif"):
        source = photo_file(folder, "12", suffix)
        kind = suffix[1:].upper()
        yield apply("whole process", f"12 MP {kind} → sobel → {kind}", "sobel", source)
    yield (
        "whole process", "12 MP PNG → three kernels → three PNG",
        lambda side: side.command(
            "apply", "-k", "sobel-x", "-k", "sobel-y", "-k", "laplacian", "--scale", "clip",
            large, "-o", f"{folder}/{side.name}-three/", "-q", "--overwrite",
        ),
    )  # fmt: skip
    chain = "gray | conv gaussian:sigma=1 | conv sobel | relu | maxpool 2"
    yield (
        "whole process",
        "0.25 MP, a chain",
        lambda side: side.command(
            "run", chain, small, "-o", folder / f"{side.name}.png", "-q", "--overwrite"
        ),
    )
    yield (
        "whole process",
        "net predict lenet5",
        lambda side: side.command("net", "predict", "lenet5", "sample:digit"),
    )
    yield from _bands(folder, ("12",) if short else ("12", "100"))
    yield from _batches(folder, (10, 100) if short else (10, 100, 1000))
    yield "first run ever", "0.25 MP sobel", partial(_cold, apply("", "", "sobel", small)[2])
    yield (
        "first run ever",
        "0.25 MP Gaussian",
        partial(_cold, apply("", "", "gaussian:sigma=3", small)[2]),
    )
    yield (
        "first run ever",
        "net predict lenet5",
        partial(_cold, lambda side: side.command("net", "predict", "lenet5", "sample:digit")),
    )


def _cold(work: Callable[[Side], Callable[[], Any]], side: Side) -> Callable[[], Any]:
    """The same from an empty store."""
    store = side.store.with_name(f"{side.name}-cold")
    call = work(side._replace(store=store))

    def run() -> None:
        shutil.rmtree(store, ignore_errors=True)
        call()

    return run


def _bands(folder: Path, sizes: Sequence[str]) -> Iterator[Work]:
    """TIFF to TIFF with a quarter of the memory that filtering it whole takes."""
    for megapixels in sizes:
        source = photo_file(folder, megapixels, ".tif")
        memory = str(photo(megapixels).nbytes * 6 // 4)
        for kernel in ("sobel", "gaussian:sigma=5", "disk:radius=15"):
            yield (
                "large images in bands", f"{megapixels} MP RGB, {kernel}",
                lambda side, source=source, memory=memory, kernel=kernel: side.command(
                    "apply", "-k", kernel, source, "-o", folder / f"{side.name}.tif",
                    "--memory", memory, "-q", "--overwrite",
                ),
            )  # fmt: skip


def _batches(folder: Path, counts: Sequence[int]) -> Iterator[Work]:
    """Folders of files, of 512×512 and of 64×64; the small ones also with a ledger."""
    from PIL import Image

    Image.fromarray(photo("0.25")[:64, :64]).save(folder / "tile.png")
    for size, one in (("512×512", photo_file(folder, "0.25")), ("64×64", folder / "tile.png")):
        for count in counts:
            source = folder / f"{size}-{count}"
            if not source.exists():
                source.mkdir()
                for number in range(count):
                    shutil.copy(one, source / f"{number:04}.png")

            def work(side: Side, *options: str | Path, source: Path = source) -> Process:
                return side.command(
                    "apply", "-k", "sobel", source, "--recursive", "-q", "--overwrite",
                    "-o", f"{folder}/{side.name}-batch/", *options,
                )  # fmt: skip

            yield "batches", f"{count:,} files of {size}", work
            if size == "64×64" and count == 100:
                yield (
                    "batches", f"{count:,} files of {size}, with a ledger",
                    lambda side, work=work: work(
                        side, "--ledger", folder / f"{side.name}.sqlite"
                    ),
                )  # fmt: skip
