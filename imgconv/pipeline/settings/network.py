"""The options of the `net` commands, as tables; see `settings`."""

from typing import Literal, NamedTuple

from imgconv.pipeline.settings import BatchSettings, WriteSettings
from imgconv.pipeline.settings.table import Range, Table, local, option
from imgconv.shapes import Pair

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box"]
Order = Literal["rgb", "bgr", "gray", "rgba", "bgra", "graya"]


class WeightSettings(Table):
    """Which weights a network gets."""

    weights: str | None = local(
        "Weights: safetensors, PyTorch's .pth, NPZ or ONNX; torchvision's or timm's names.",
        default=None,
        metavar="FILE",
    )
    seed: int | None = option(
        "Draw untrained weights from a seed instead.", default=None, kind=Range(0)
    )


class ModelSettings(Table):
    """How an ONNX file is read, where it does not say so itself."""

    layout: Literal["nchw", "nhwc"] | None = option(
        "Order of an ONNX model's axes, where it is not seen.", default=None
    )
    feed: str | None = option(
        "Numbers of an ONNX model's other inputs.", default=None, metavar="'NAME=X[,X…] …'"
    )
    outputs: str | None = option(
        "Take these values of an ONNX model for its outputs, and leave out what comes after.",
        default=None,
        metavar="NAME[,NAME]",
    )


class PreprocessSettings(Table):
    """What becomes of an image before it goes in, where not what the network says."""

    size: Pair | None = option(
        "The input's size, for another than the usual.", default=None, kind="height-width"
    )
    resize: int | Pair | Literal["none"] | None = option(
        "Shorter side, or height and width.", default=None, kind="resize"
    )
    crop: Pair | Literal["none"] | None = option(
        "Cut this much out of the middle.", default=None, kind="crop"
    )
    interpolation: Interpolation | None = option("How --resize interpolates.", default=None)
    order: Order | None = option("Channels of the input.", default=None)
    channels: str | None = option(
        "The image's channels that go in, from 0, for another number than 1 to 4.",
        default=None,
        metavar="N[,N]",
    )
    white: float | None = option("What white becomes: 1 or 255, before --mean.", default=None)
    mean: tuple[float, ...] | None = option(
        "Subtracted, in the channels' order.", default=None, kind="numbers"
    )
    std: tuple[float, ...] | None = option("Divides, after --mean.", default=None, kind="numbers")
    invert: bool | None = option(
        "White becomes 0, black --white.", default=None, names=("--invert/--no-invert",)
    )
    frame: str | None = option("Frame or page of a file of several.", default=None, metavar="N|all")
    max_pixels: int | None = option(
        "Refuse larger images; default 179 million.", default=None, kind=Range(1), recorded=False
    )


class PredictSettings(Table):
    """How many classes `net predict` names, and how."""

    top: int = local("How many classes to name.", default=5, kind=Range(1), shown=True)
    labels: str | None = local(
        "Names of the classes, one a line; `imagenet` is the list that ships.",
        default=None,
        metavar="FILE",
    )
    batch: int = local(
        "Images in one walk through the network.", default=8, kind=Range(1), shown=True
    )


class MapSettings(Table):
    """Where the maps of `net features` go, and what they are shown as."""

    output: str = local(
        "Folder, or a template with {stem} {parent} {index} {frame} {layer} {map}.",
        default="maps",
        kind="image",
        metavar="PATH",
        names=("-o", "--output"),
        shown=True,
    )
    format: str = option(
        "png: one picture per map; npy: one array per layer; npz, safetensors: one file per image.",
        default="png",
        kind="format",
        shown=True,
    )
    scale: str | None = option(
        "How maps become pictures: minmax, clip, abs, signed, symmetric, percentile=P.",
        default=None,
        metavar="RULE",
    )
    depth: Literal["8", "16"] | None = option("Bits of a gray picture.", default=None)
    colormap: str | None = option(
        "Show gray maps in colors: viridis, magma, coolwarm, …; see `imgconv ops list`.",
        default=None,
        kind="colormap",
    )
    sheet: bool = option("One contact sheet per layer.", default=False)
    columns: int | None = option("Columns of the sheet.", default=None, kind=Range(1, 256))
    tile: int | None = option(
        "Long side of the sheet's tiles in pixels.", default=None, kind=Range(16, 4096)
    )
    share_scale: bool = option("One scale for all maps of a layer.", default=False)
    gather: str | None = local(
        "One .safetensors file of all images' maps, with an index; without -o only that.",
        default=None,
        kind="image",
        metavar="FILE",
    )
    report: str | None = local(
        "Write an HTML page of each image; without -o only that.", default=None, metavar="PATH"
    )
    cam: bool = local(
        "In the report: what speaks for the likeliest class, by Grad-CAM.", default=False
    )
    occlusion: bool = local(
        "In the report: what speaks for the likeliest class, by covering it.", default=False
    )
    top_maps: int | None = local(
        "Tell which maps of a layer fire most, per image and over all; without -o only that.",
        default=None,
        kind=Range(1),
        metavar="K",
    )
    dry_run: bool = local("Say how many maps and bytes, and stop.", default=False)


class HeatSettings(Table):
    """Which class `net cam` and `net occlusion` explain, and where their maps go."""

    category: str | None = option(
        "The class, by number or name; default: the likeliest.",
        default=None,
        metavar="N|NAME",
        names=("--class",),
    )
    labels: str | None = local(
        "Names of the classes, one a line; `imagenet` is the list that ships.",
        default=None,
        metavar="FILE",
    )
    output: str | None = local(
        "File, folder/, or a template with {stem} {parent} {index} {frame}; default: IMAGE-cam.png "
        "or IMAGE-occlusion.png.",
        default=None,
        kind="image",
        metavar="PATH",
        names=("-o", "--output"),
    )
    format: str | None = option(
        "Of names that we make: png, over the image; npy: the values (H, W).",
        default=None,
        kind="format",
    )
    colormap: str | None = option(
        "viridis, magma, coolwarm, …; see `imgconv ops list`; default: magma for Grad-CAM.",
        default=None,
        kind="colormap",
    )


class CamSettings(Table):
    """How `net cam` makes a class's map."""

    method: Literal["grad-cam", "cam"] = option(
        "cam: for networks that end in a global mean and one dense layer.",
        default="grad-cam",
        shown=True,
    )
    layer: str | None = option(
        "Whose maps; default: the last that are larger than a pixel, before pools.",
        default=None,
        metavar="GLOB",
    )


class OcclusionSettings(Table):
    """What `net occlusion` covers, and with what."""

    window: int | Pair | None = option(
        "Size of the window in the input's pixels; default: a seventh of the shorter side.",
        default=None,
        kind="pair",
    )
    stride: int | Pair | None = option(
        "From one window to the next; default: half a window.", default=None, kind="pair"
    )
    fill: Literal["mean", "black", "gray", "white"] = option(
        "What stands in the window; mean: the image's color.", default="mean", shown=True
    )
    batch: int = local(
        "Windows in one walk through the network.", default=8, kind=Range(1), shown=True
    )


class FilterSettings(Table):
    """Which filters `net filters` draws, and where."""

    layer: str | None = local("The convolution; default: the first.", default=None, metavar="GLOB")
    output: str | None = local(
        "Picture or .npy to write; default: NETWORK-LAYER.png.",
        default=None,
        kind="image",
        metavar="PATH",
        names=("-o", "--output"),
    )
    columns: int | None = local("Columns of the sheet.", default=None, kind=Range(1, 256))
    tile: int | None = local(
        "Long side of the sheet's tiles in pixels.", default=None, kind=Range(16, 4096)
    )
    overwrite: bool = local("Replace an existing file.", default=False)


class DiffSettings(Table):
    """How `net diff` compares."""

    first_weights: str | None = local(
        "Weights of the first network, and of both without --second-weights.",
        default=None,
        metavar="FILE",
        names=("--weights",),
    )
    second_weights: str | None = local(
        "Weights of the second network.", default=None, metavar="FILE"
    )
    size: Pair | None = local(
        "The inputs' size, for another than the usual.", default=None, kind="height-width"
    )
    as_json: bool = local("One JSON object a layer that differs.", default=False, names=("--json",))


class AttributionSettings(NamedTuple):
    """What `net cam` or `net occlusion` have besides the options of other `net` commands."""

    heat: HeatSettings = HeatSettings()
    cam: CamSettings = CamSettings()
    occlusion: OcclusionSettings = OcclusionSettings()


class NetSettings(NamedTuple):
    """All options of a `net` command; those that it does not have are at their defaults."""

    weights: WeightSettings = WeightSettings()
    model: ModelSettings = ModelSettings()
    preprocess: PreprocessSettings = PreprocessSettings()
    predict: PredictSettings = PredictSettings()
    maps: MapSettings = MapSettings()
    write: WriteSettings = WriteSettings()
    batch: BatchSettings = BatchSettings()

    def recorded(self) -> dict[str, object]:
        """The values of the options that an output records."""
        tables = (self.weights, self.model, self.preprocess, self.maps)
        return {name: getattr(table, name) for table in tables for name in table.ROWS}


RECORDED = (WeightSettings, ModelSettings, PreprocessSettings, MapSettings)
