"""The options of `apply` and `run`: a field is an option, and all there is to say about it.

From these fields come the Click options with their help and completion, the record in an output
and the way back from it, and what a ledger takes for the same work. A new option is a field here
and the line that uses it.
"""

from typing import Literal, NamedTuple

from imgconv.pipeline.settings.table import Range, Table, local, option
from imgconv.shapes import Pair

Alpha = Literal["keep", "drop", "filter"]
Combine = Literal["none", "magnitude", "max", "sum", "mean", "direction"]
Depth = Literal["8", "16", "32f"]
MissingFill = Literal["keep", "interpolate"]
Normalize = Literal["sum", "abs", "none"]
Truncated = Literal["refuse", "allow"]
Padding = Literal["same", "valid", "full"] | int | tuple[int, ...]


class LayerSettings(Table):
    """What a kernel becomes, where its window goes, and what follows."""

    combine: Combine | None = option(
        "Join its maps: none, magnitude, max, sum, mean or direction (as hue); default: the "
        "preset's, or none.",
        default=None,
        heading="Kernel",
        metavar="RULE",
    )
    normalize: Normalize | None = option(
        "sum, abs: divide by the sum of (absolute) weights.",
        default=None,
        metavar="RULE",
    )
    divisor: float | None = option(
        "Divide the response by this number; default: the kernel's, or 1.", default=None, rare=True
    )
    bias: float | None = option(
        "Added to every response, in pixel units; default: 0.", default=None
    )
    rotate: float = option(
        "Turn the kernel counter-clockwise: multiples of 90, of 45 for 3×3.",
        default=0.0,
        metavar="DEGREES",
        rare=True,
        shown=True,
    )
    flip: bool = option("True convolution: rotate the kernel by 180°.", default=False)
    groups: int | None = option(
        "As in Conv2d: split filters and channels into N groups that do not mix; default: 1.",
        default=None,
        kind=Range(1),
        rare=True,
    )
    stride: int | Pair = option(
        "Step of the window.", default=1, kind="pair", heading="Window", shown=True
    )
    padding: Padding | None = option(
        "same, valid, full, N, vertical,horizontal or top,bottom,left,right; default: same, or "
        "half the kernel when --stride is given.",
        default=None,
        kind="padding",
        metavar="SIDES",
    )
    padding_mode: str = option(
        "zeros, constant, reflect, replicate, circular or symmetric; also by OpenCV's, "
        "SciPy's and NumPy's names.",
        default="reflect",
        kind="mode",
        shown=True,
    )
    pad_value: float = option(
        "The value of --padding-mode constant.", default=0.0, rare=True, shown=True
    )
    dilation: int | Pair = option("Distance between taps.", default=1, kind="pair", shown=True)
    anchor: int | Pair | None = option(
        "Row,column (from 0) of the tap that lies on the output pixel; default: the middle, "
        "rounded down.",
        default=None,
        kind="place",
        rare=True,
    )
    activation: str | None = option(
        "relu, leaky-relu:0.2, sigmoid, tanh, gelu, abs, square, softmax, …; default: none.",
        default=None,
        metavar="NAME",
        heading="Afterwards",
    )
    pool: str | None = option(
        "max:2, avg:3,5,stride=2,1, min:2, median:3, erode:3, global-avg, …; default: none.",
        default=None,
        metavar="KIND:SIZE",
    )


class ReadSettings(Table):
    """What becomes of an image before it is filtered, and which image of a file it is."""

    gray: bool = option("Convert colors to gray first.", default=False, heading="Input")
    channels: str | None = option(
        "Keep these channels: r,g,b,a or 0,2; default: all.",
        default=None,
        metavar="LIST",
        rare=True,
    )
    linear: bool = option(
        "Work in linear light (decode and encode sRGB).", default=False, rare=True
    )
    alpha: Alpha = option(
        "Opacity: copy it, drop it, or filter premultiplied colors.",
        default="keep",
        shown=True,
        rare=True,
    )
    missing: float | str | None = option(
        "Ignore samples of this value (nodata: the one in a TIFF's tag) and renormalize by "
        "the remaining weights.",
        default=None,
        kind="missing",
        rare=True,
    )
    missing_fill: MissingFill = option(
        "Keep missing pixels missing, or fill them from their neighbors.",
        default="keep",
        shown=True,
        rare=True,
    )
    frame: str | None = option(
        "Frame or page of a file that has several; default: 0, the first.",
        default=None,
        metavar="N|all",
        rare=True,
    )
    level: int = option(
        "Level of a TIFF or Zarr pyramid; 0 is the largest.",
        default=0,
        kind=Range(0),
        rare=True,
        shown=True,
    )
    truncated: Truncated = option(
        "Truncated files: refuse them, or use what comes before the cut.",
        default="refuse",
        shown=True,
        rare=True,
    )
    max_pixels: int | None = option(
        "Refuse larger images; default: 179 million.",
        default=None,
        kind=Range(1),
        recorded=False,
        rare=True,
    )


class WriteSettings(Table):
    """Where outputs go, and what their files are."""

    output: str | None = local(
        "File, folder/, template such as '{stem}-{map}.png', or - for standard output.",
        default=None,
        kind="image",
        metavar="PATH",
        names=("-o", "--output"),
        heading="Output",
    )
    format: str | None = option(
        "Default: by -o's extension, else the input's.", default=None, kind="format"
    )
    scale: str | None = option(
        "How maps become integers: clip, minmax, abs, signed, symmetric, percentile=P, none; "
        "default: the kernel's.",
        default=None,
        metavar="RULE",
    )
    depth: Depth | None = option("Bits per sample; default: the input's.", default=None, rare=True)
    quality: int | None = option(
        "JPEG, WebP or AVIF quality; default: a JPEG input's own for JPEG, else 92 (WebP 80, "
        "AVIF 75).",
        default=None,
        kind=Range(1, 100),
        rare=True,
    )
    compress: str = option(
        "PNG compression.", default="fast", metavar="0…9|fast|small", shown=True, rare=True
    )
    pyramid: bool = option(
        "Also write smaller levels, each half the size: TIFF and Zarr.", default=False, rare=True
    )
    no_metadata: bool = option(
        "Write no metadata: neither the input's nor the record of how the output was made.",
        default=False,
        recorded=False,
        rare=True,
    )
    no_record: bool = option(
        "Leave out the record of how the output was made.", default=False, recorded=False, rare=True
    )
    overwrite: bool = local("Replace existing outputs.", default=False)
    skip_existing: bool = local("Skip outputs that are already complete.", default=False, rare=True)
    in_place: bool = local("Replace every input with its result.", default=False)

    @property
    def replaces(self) -> bool:
        """Whether an output may stand where a file is."""
        return self.overwrite or self.in_place or self.skip_existing


class ShowSettings(Table):
    """Pictures of maps for people: colors, sheets, a page."""

    colormap: str | None = option(
        "Show gray maps in colors: viridis, magma, coolwarm, …; see `imgconv ops list`.",
        default=None,
        kind="colormap",
        heading="Pictures",
    )
    report: str | None = local(
        "Write an HTML page of input, kernels and maps; without -o, nothing else.",
        default=None,
        metavar="PATH",
    )
    sheet: bool = option("Put all maps of an image on one contact sheet.", default=False)
    columns: int | None = option(
        "Columns of the sheet; default: about square.", default=None, kind=Range(1, 256), rare=True
    )
    tile: int | None = option(
        "Longer side of the sheet's tiles in pixels; default: what fits.",
        default=None,
        kind=Range(16, 4096),
        rare=True,
    )
    share_scale: bool = option(
        "Show all maps of the sheet on one scale, with a bar.", default=False, rare=True
    )


class BatchSettings(Table):
    """Which inputs there are, who works on them, and what is said."""

    recursive: bool = local("Also take images from subfolders.", default=False, heading="Batch")
    files_from: str | None = local(
        "Read input names from a file, one per line.", default=None, metavar="FILE|-", rare=True
    )
    null: bool = local(
        "Names in --files-from end with NUL.", default=False, names=("-0", "--null"), rare=True
    )
    stream: bool = local(
        "Start before the list of --files-from ends; name collisions are found as names come in.",
        default=False,
        rare=True,
    )
    jobs: int | None = local(
        "Files processed at once; default: one per CPU.", default=None, kind=Range(1)
    )
    memory: int | None = local(
        "Memory that one image may take, such as 500M; larger images are processed in bands.",
        default=None,
        kind="size",
        rare=True,
    )
    threads: int | None = local(
        "Threads per image; default: its share of the CPUs.",
        default=None,
        kind=Range(1),
        rare=True,
    )
    since: str | None = local(
        "Only inputs changed since a date, within an age (12h), or since the last run (last).",
        default=None,
        metavar="TIME",
        rare=True,
    )
    ledger: str | None = local(
        "Record what is done in this file; default with --resume: imgconv-ledger.sqlite.",
        default=None,
        metavar="FILE",
        rare=True,
    )
    resume: bool = local(
        "Continue a ledger's batch, skipping what is done.", default=False, rare=True
    )
    cluster: str | None = local(
        "Run on a Dask cluster: tcp:// or tls://HOST:PORT, or N local processes.",
        default=None,
        metavar="ADDRESS|local:N",
        rare=True,
    )
    dry_run: bool = local("List what would be written, and stop.", default=False)
    as_json: bool = local(
        "One JSON object per result on standard output.",
        default=False,
        names=("--json",),
        heading="General",
        rare=True,
    )
    quiet: bool = local(
        "Print errors only.", default=False, names=("-q", "--quiet"), heading="General"
    )
    verbose: int = local("Print more.", default=0, kind="count", names=("-v", "--verbose"))
    debug: bool = local("Show tracebacks.", default=False, rare=True)


class Settings(NamedTuple):
    """All options of a command; those that it does not have are at their defaults."""

    layer: LayerSettings = LayerSettings()
    read: ReadSettings = ReadSettings()
    write: WriteSettings = WriteSettings()
    show: ShowSettings = ShowSettings()
    batch: BatchSettings = BatchSettings()

    def values(self) -> dict[str, object]:
        """The value of every option by its field's name."""
        return {name: getattr(group, name) for group in self for name in group.ROWS}


# Which options a command has, in the order of its help.
COMMANDS: dict[str, tuple[type[Table], ...]] = {
    "apply": (LayerSettings, ReadSettings, WriteSettings, ShowSettings, BatchSettings),
    "run": (ReadSettings, WriteSettings, ShowSettings, BatchSettings),
}
