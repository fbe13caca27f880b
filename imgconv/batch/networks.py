"""Networks on many images: which there are, and where their outputs go."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from imgconv.batch.inputs import Scan, Spooled
from imgconv.batch.runner import Outcome, run
from imgconv.console import say
from imgconv.errors import ImageError, ImgconvError, UsageError
from imgconv.pipeline.plan import Claims, folder_of
from imgconv.pipeline.settings import BatchSettings

if TYPE_CHECKING:
    from imgconv.pipeline.networks.attribution import Attribution, HeatRow
    from imgconv.pipeline.networks.features import Features
    from imgconv.pipeline.networks.outputs import LayerRow


def sources_of(
    inputs: tuple[str, ...], batch: BatchSettings, scan: Scan | None = None
) -> Iterable[str | ImageError]:
    """The images that a command line names. Raises UsageError where there are none.

    scan: how names become inputs, for another way than the usual.
    """
    if not inputs and batch.files_from is None:
        raise UsageError("no input: expected image files, - or sample:chart")
    if inputs.count("-") + (batch.files_from == "-") > 1:
        raise UsageError("standard input is named twice, expected once")
    scan = scan or Scan(batch.recursive)
    sources = scan.expand(inputs, batch.files_from, batch.null)
    return list(sources) if batch.files_from is None else sources


@contextlib.contextmanager
def feature_maps(
    work: "Features", inputs: tuple[str, ...], batch: BatchSettings
) -> "Iterator[tuple[Iterator[Outcome[LayerRow]], int]]":
    """What becomes of each image's maps, whose files are named, and how many images there are.

    Raises UsageError before any work.
    """
    takes = None if work.request.only_report else folder_of(work.request.settings.maps.output)
    scan = Scan(batch.recursive, without=takes)
    with contextlib.ExitStack() as stack:
        sources: Spooled | list[str | ImageError]
        claims = Claims()
        if batch.files_from is None:
            sources = list(sources_of(inputs, batch, scan))
        else:  # which may have any number of names
            from imgconv.batch.names import SpilledNames

            spooled = Spooled(sources_of(inputs, batch, scan))
            sources = stack.enter_context(contextlib.closing(spooled))
            claims = stack.enter_context(contextlib.closing(Claims(SpilledNames())))
        work.out.follow(scan.folders, claims)
        for index, source in enumerate(sources):
            if isinstance(source, str):
                _plan(work, source, index)
        for folder in () if batch.quiet else sorted(scan.passed):
            say(f"imgconv: {folder}: passed over, since the outputs go there")
        # One image after the other: each takes all threads.
        yield run(sources, work, 1), len(sources)


def _plan(work: "Features", source: str, index: int) -> None:
    """Collisions are refused before any work; what cannot be read is told when its turn comes."""
    try:
        work.plan(source, index)
    except ImgconvError as error:
        if type(error) is UsageError:  # not of the image, as a ShapeError is
            raise


def heat_maps(
    work: "Attribution", inputs: tuple[str, ...], batch: BatchSettings
) -> "tuple[Iterator[Outcome[HeatRow]], int]":
    """As `feature_maps`, of one map an image."""
    sources = list(sources_of(inputs, batch))
    for index, source in enumerate(sources):
        if isinstance(source, str):
            if work.plan.claims:
                work.plan.claims.input(source)
            work.path(source, index)
    work.plan.claims = None
    return run(sources, work, 1), len(sources)
