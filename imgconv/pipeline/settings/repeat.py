"""The options of `repeat`, as a table; see `settings`."""

from typing import NamedTuple

from imgconv.pipeline.settings import BatchSettings, ReadSettings, WriteSettings
from imgconv.pipeline.settings.table import Table, local


class AgainSettings(Table):
    """What an output is made of again, where it goes, and what is said of it."""

    source: str | None = local(
        "The input: a file, the folder that it is in, or -; default: the file of its name beside "
        "the result or in this folder.",
        default=None,
        kind="image",
        metavar="PATH",
        names=("--input",),
    )
    output: str | None = local(
        "Write the result anew; - is standard output.",
        default=None,
        kind="image",
        metavar="FILE",
        names=("-o", "--output"),
    )
    check: bool = local(
        "Compare with the result, exit 1 for other pixels; without -o nothing else is done.",
        default=False,
    )
    show: bool = local("Print the command line that does the same and stop.", default=False)
    weights: str | None = local(
        "The weights of a network, where none ship.", default=None, metavar="FILE"
    )
    network: str | None = local(
        "The TOML or ONNX file of the network.", default=None, metavar="FILE"
    )


class RepeatSettings(NamedTuple):
    """All options of `repeat`; of the tables of others it has a few."""

    again: AgainSettings = AgainSettings()
    read: ReadSettings = ReadSettings()
    write: WriteSettings = WriteSettings()
    batch: BatchSettings = BatchSettings()

    def ours(self) -> dict[str, object]:
        """What of a recorded command's options is ours to say.

        Quiet: what there was to say of the maps was said when they were first made.
        """
        return {
            "max_pixels": self.read.max_pixels, "overwrite": self.write.overwrite, "quiet": True,
        }  # fmt: skip
