"""Networks on many images: which there are, and where their outputs go."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgconv.batch.inputs import Scan, check_names, claimed, spooled
from imgconv.batch.runner import Outcome, run
from imgconv.console import say
from imgconv.errors import ImgconvError, UsageError
from imgconv.pipeline.plan import folder_of
from imgconv.pipeline.settings import BatchSettings

if TYPE_CHECKING:
    from imgconv.pipeline.networks.attribution import Attribution, HeatRow
    from imgconv.pipeline.networks.features import Features
    from imgconv.pipeline.networks.outputs import LayerRow


@contextlib.contextmanager
def feature_maps(
    work: "Features", inputs: tuple[str, ...], batch: BatchSettings
) -> "Iterator[tuple[Iterator[Outcome[LayerRow]], int]]":
    """What becomes of each image's maps, whose files are named, and how many images there are.

    Raises UsageError before any work.
    """
    takes = None if work.request.only_report else folder_of(work.request.settings.maps.output)
    scan = Scan(batch.recursive, without=takes)
    check_names(inputs, batch)
    found = scan.expand(inputs, batch.files_from, batch.null)
    with spooled(found, batch) as sources, claimed(batch) as claims:
        work.out.follow(scan.folders, claims)
        for index, source in enumerate(sources):
            if isinstance(source, str):
                _plan(work, source, index)
        for folder in () if batch.quiet else sorted(scan.passed):
            say(f"imgconv: {folder}: skipped, since outputs go there")
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
    check_names(inputs, batch)
    sources = list(Scan(batch.recursive).expand(inputs, batch.files_from, batch.null))
    for index, source in enumerate(sources):
        if isinstance(source, str):
            if work.plan.claims:
                work.plan.claims.input(source)
            work.path(source, index)
    work.plan.claims = None
    return run(sources, work, 1), len(sources)
