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
        "Axis order of an ONNX model, where it cannot be inferred.", default=None
    )
    feed: str | None = option(
        "Values of an ONNX model's other inputs.", default=None, metavar="'NAME=X[,X…] …'"
    )
    outputs: str | None = option(
        "Use these values of an ONNX model as its outputs, and skip what comes after them.",
        default=None,
        metavar="NAME[,NAME]",
    )


Recipe = Literal["imagenet", "imagenet-v2", "inception", "caffe"]


class PreprocessSettings(Table):
    """What becomes of an image before it goes in, where not what the network says."""

    preprocess: Recipe | None = option(
        "Preprocessing by name: imagenet and imagenet-v2 (torchvision's first and second weights), "
        "inception (RGB from -1 to 1) or caffe; default: the network's own, or what the name of "
        "torchvision's weights tells.",
        default=None,
    )
    size: Pair | None = option(
        "Input size, if not the network's usual one.", default=None, kind="height-width"
    )
    resize: int | Pair | Literal["none"] | None = option(
        "Resize to this shorter side, or to height and width.", default=None, kind="resize"
    )
    crop: Pair | Literal["none"] | None = option(
        "Crop this much from the center.", default=None, kind="crop"
    )
    interpolation: Interpolation | None = option("Interpolation of --resize.", default=None)
    order: Order | None = option("Channel order of the input.", default=None)
    channels: str | None = option(
        "Image channels that go in, from 0, for networks that do not take 1 to 4.",
        default=None,
        metavar="N[,N]",
    )
    white: float | None = option("Value of white, before --mean: 1 or 255.", default=None)
    mean: tuple[float, ...] | None = option(
        "Mean of each channel, which is subtracted.", default=None, kind="numbers"
    )
    std: tuple[float, ...] | None = option(
        "Standard deviation of each channel: what is left is divided by it.",
        default=None,
        kind="numbers",
    )
    invert: bool | None = option(
        "Map white to 0 and black to --white.", default=None, names=("--invert/--no-invert",)
    )
    frame: str | None = option(
        "Frame or page of a file that has several.", default=None, metavar="N|all"
    )
    max_pixels: int | None = option(
        "Refuse larger images; default: 179 million.", default=None, kind=Range(1), recorded=False
    )


class PredictSettings(Table):
    """How many classes `net predict` names, and how."""

    top: int = local("How many classes to print.", default=5, kind=Range(1), shown=True)
    labels: str | None = local(
        "Class names, one per line; `imagenet` is the list that ships with imgconv.",
        default=None,
        metavar="FILE",
    )
    batch: int = local("Images per pass through the network.", default=8, kind=Range(1), shown=True)


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
    depth: Literal["8", "16"] | None = option("Bits per sample of gray pictures.", default=None)
    colormap: str | None = option(
        "Show gray maps in colors: viridis, magma, coolwarm, …; see `imgconv ops list`.",
        default=None,
        kind="colormap",
    )
    sheet: bool = option("Put all maps of a layer on one contact sheet.", default=False)
    columns: int | None = option("Columns of the sheet.", default=None, kind=Range(1, 256))
    tile: int | None = option(
        "Longer side of the sheet's tiles in pixels.", default=None, kind=Range(16, 4096)
    )
    share_scale: bool = option("Show all maps of a layer on one scale.", default=False)
    gather: str | None = local(
        "Collect all images' maps in one .safetensors file with an index; without -o, write "
        "nothing else.",
        default=None,
        kind="image",
        metavar="FILE",
    )
    report: str | None = local(
        "Write an HTML page for each image; without -o, nothing else.", default=None, metavar="PATH"
    )
    cam: bool = local(
        "In the report, show what speaks for the likeliest class, by Grad-CAM.", default=False
    )
    occlusion: bool = local(
        "In the report, show what speaks for the likeliest class, by covering parts of the image.",
        default=False,
    )
    top_maps: int | None = local(
        "Print which maps of a layer respond most, per image and overall; without -o, do "
        "nothing else.",
        default=None,
        kind=Range(1),
        metavar="K",
    )
    dry_run: bool = local("Print the number of maps and bytes, and stop.", default=False)


class HeatSettings(Table):
    """Which class `net cam` and `net occlusion` explain, and where their maps go."""

    category: str | None = option(
        "The class, by number or name; default: the likeliest.",
        default=None,
        metavar="N|NAME",
        names=("--class",),
    )
    labels: str | None = local(
        "Class names, one per line; `imagenet` is the list that ships with imgconv.",
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
        "Format of default names. png: drawn over the image; npy: the values (H, W).",
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
        "cam is for networks that end in global average pooling and one dense layer.",
        default="grad-cam",
        shown=True,
    )
    layer: str | None = option(
        "Layer whose maps are used; default: the last with maps larger than one pixel, before"
        " pooling.",
        default=None,
        metavar="GLOB",
    )


class OcclusionSettings(Table):
    """What `net occlusion` covers, and with what."""

    window: int | Pair | None = option(
        "Size of the covered window in input pixels; default: a seventh of the shorter side.",
        default=None,
        kind="pair",
    )
    stride: int | Pair | None = option(
        "Step between windows; default: half a window.", default=None, kind="pair"
    )
    fill: Literal["mean", "black", "gray", "white"] = option(
        "What covers the window; mean: the image's mean color.", default="mean", shown=True
    )
    batch: int = local(
        "Windows per pass through the network.", default=8, kind=Range(1), shown=True
    )


class FilterSettings(Table):
    """Which filters `net filters` draws, and where."""

    layer: str | None = local(
        "Convolution to draw; default: the first.", default=None, metavar="GLOB"
    )
    output: str | None = local(
        "Picture or .npy file to write; default: NETWORK-LAYER.png.",
        default=None,
        kind="image",
        metavar="PATH",
        names=("-o", "--output"),
    )
    columns: int | None = local("Columns of the sheet.", default=None, kind=Range(1, 256))
    tile: int | None = local(
        "Longer side of the sheet's tiles in pixels.", default=None, kind=Range(16, 4096)
    )
    overwrite: bool = local("Replace an existing file.", default=False)


class DiffSettings(Table):
    """How `net diff` compares."""

    first_weights: str | None = local(
        "Weights of the first network, and of both unless --second-weights is given.",
        default=None,
        metavar="FILE",
        names=("--weights",),
    )
    second_weights: str | None = local(
        "Weights of the second network.", default=None, metavar="FILE"
    )
    size: Pair | None = local(
        "Input size, if not the networks' usual one.", default=None, kind="height-width"
    )
    as_json: bool = local(
        "One JSON object per layer that differs.", default=False, names=("--json",)
    )


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

    @property
    def recipe(self) -> str | None:
        """The preprocessing that an option names, or the name of the weights' file."""
        from imgconv.nn.preprocess import recipe_of

        return self.preprocess.preprocess or recipe_of(self.weights.weights)

    def recorded(self) -> dict[str, object]:
        """The values of the options that an output records."""
        tables = (self.weights, self.model, self.preprocess, self.maps)
        values = {name: getattr(table, name) for table in tables for name in table.ROWS}
        # What the name of a file told: it may be called otherwise when the output is made again.
        return values | {"preprocess": self.recipe}


RECORDED = (WeightSettings, ModelSettings, PreprocessSettings, MapSettings)
