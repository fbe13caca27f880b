"""The options of `repeat`, as a table; see `settings`."""

from typing import NamedTuple

from imgconv.pipeline.settings import BatchSettings, ReadSettings, WriteSettings
from imgconv.pipeline.settings.table import Table, local


class AgainSettings(Table):
    """What an output is made of again, where it goes, and what is said of it."""

    source: str | None = local(
        "The input: a file, its folder, or -; default: the file of the recorded name, beside "
        "the result or in this folder.",
        default=None,
        kind="image",
        metavar="PATH",
        names=("--input",),
    )
    output: str | None = local(
        "Write the result again; - is standard output.",
        default=None,
        kind="image",
        metavar="FILE",
        names=("-o", "--output"),
    )
    check: bool = local(
        "Compare with the result, and exit 1 if pixels differ; the default without -o.",
        default=False,
    )
    show: bool = local("Print the equivalent command line, and stop.", default=False)
    weights: str | None = local(
        "Weights of the network, unless imgconv ships them.", default=None, metavar="FILE"
    )
    network: str | None = local("The network's TOML or ONNX file.", default=None, metavar="FILE")


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
