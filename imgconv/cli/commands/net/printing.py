"""What the commands for networks print of images: one line or one JSON object per result."""

from typing import TYPE_CHECKING

from imgconv.batch.runner import Outcome
from imgconv.cli.printing import echo_row, echo_rows
from imgconv.console import counted, echo, printable
from imgconv.pipeline.settings import BatchSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from imgconv.batch.prediction import PredictionRow
    from imgconv.pipeline.networks.attribution import HeatRow
    from imgconv.pipeline.networks.features import Features
    from imgconv.pipeline.networks.firing import Fired
    from imgconv.pipeline.networks.outputs import LayerRow


class FeaturePrinter:
    """Prints what becomes of images' maps; `end` prints what there is to say of all."""

    def __init__(self, work: "Features", batch: BatchSettings) -> None:
        self._work, self._batch = work, batch
        self._dry_run = work.request.settings.maps.dry_run
        self._maps = self._bytes = self._layers = 0

    def show(self, outcome: "Outcome[LayerRow]") -> None:
        """Print the layers of an image."""
        batch = self._batch
        for row in outcome.results:
            self._maps += row["maps"]
            self._bytes += row["bytes"]
            self._layers += 1
            if batch.as_json:
                echo_row({key: v for key, v in row.items() if key != "paths"})
            elif "top_maps" in row and not batch.quiet:
                echo(f"{printable(row['input'])} {row['layer']}: {_fired(row['top_maps'])}")
            elif self._dry_run:
                size = f"{row['height']}×{row['width']}"
                echo(
                    f"{printable(row['input'])} {row['layer']}: {counted(row['maps'], 'map')} of "
                    f"{size} -> "
                    f"{printable(row['output'])}"
                )

    def end(self) -> None:
        """Print what there is to say of all images."""
        firing = self._work.firing
        for row in firing.over_all() if firing and not self._dry_run else ():
            if self._batch.as_json:
                echo_row(row)
            elif row["images"] > 1:
                echo(f"over {row['images']} images {row['layer']}: {_fired(row['top_maps'])}")
        gathered = self._work.gathered()
        if gathered and self._batch.as_json:
            echo_row(gathered)
        if self._dry_run and not self._batch.as_json:
            echo(
                f"{counted(self._maps, 'map')} of {counted(self._layers, 'layer')}, "
                f"{counted(self._bytes, 'byte')} as float32"
            )


def _fired(maps: "list[Fired]") -> str:
    """Maps by their means, the largest first, with their largest value and where it is."""
    return ", ".join(
        f"map {row['map']} mean {row['mean']:.4g}"
        + (
            f" (up to {row['largest']:.4g} at {','.join(map(str, row['at']))})"
            if "at" in row
            else ""
        )
        for row in maps
    )


def show_classes(batch: BatchSettings) -> "Callable[[Outcome[PredictionRow]], None]":
    """What prints the classes of images."""
    if batch.as_json:
        return echo_rows

    def show(outcome: "Outcome[PredictionRow]") -> None:
        for row in outcome.results:
            classes = ", ".join(
                f"{found['label'] or found['class']} {found['probability']:.1%}"
                for found in row["top"]
            )
            frame = f" frame {row['frame']}" if "frame" in row else ""
            echo(f"{printable(row['input'])}{frame}: {classes}")

    return show


def show_heat(batch: BatchSettings) -> "Callable[[Outcome[HeatRow]], None]":
    """What prints where the maps of classes went."""
    if batch.as_json:
        return echo_rows

    def show(outcome: "Outcome[HeatRow]") -> None:
        for row in outcome.results:
            if "skipped" not in row and not batch.quiet:
                layer = f" of {row['layer']}" if row["layer"] else ""
                echo(
                    f"{printable(row['input'])}: {row['label'] or row['class']}, score "
                    f"{row['score']:.4g}: {row['height']}×{row['width']}{layer} -> "
                    f"{printable(row['output'])}"
                )

    return show
