"""What `imgconv` offers at its root: reading, filtering and writing images in a few calls.

The functions here do what the command line does, with the same defaults; the operations on arrays
(`conv2d`, pools, activations, …) come from `imgconv.ops`.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from imgconv.errors import UsageError
from imgconv.io.image import Image
from imgconv.kernels.kernel import Kernel
from imgconv.nn.models.base import Network
from imgconv.typing import Array

if TYPE_CHECKING:
    from imgconv.pipeline.recipe import Recipe

Ints = int | tuple[int, int]
PaddingMode = Literal["zeros", "constant", "reflect", "replicate", "circular", "symmetric"]
Combine = Literal["none", "magnitude", "max", "sum", "mean"]
Scale = Literal["clip", "abs", "signed", "minmax", "none"]
KernelLike = Kernel | str | npt.ArrayLike


def read(
    source: str | os.PathLike[str] | bytes,
    *,
    frame: int | None = None,
    format: str | None = None,
    max_pixels: int | None = None,
) -> Image:
    """Read one image.

    Parameters
    ----------
    source
        A path, a URL, the bytes of a file, or `sample:NAME`.
    frame
        Which frame of an animation or multi-page file, from 0. By default it is the first, and
        `Image.notes` says if there are more.
    format
        What the bytes are (`png`, `csv`, …), if neither they nor the file's name say so.
    max_pixels
        Refuse a larger image before it is decoded; 178,956,970 by default.

    Returns
    -------
    Image
        Its `pixels` are (H, W, C) in the file's own type.

    Raises
    ------
    ImgconvError
        The file is missing, broken or too large; the message names it.

    Examples
    --------
    >>> import imgconv
    >>> imgconv.read("sample:chart").pixels.dtype
    dtype('uint8')
    """
    from imgconv.io.reading import read_images

    for image in read_images(source, frame=frame, format=format, max_pixels=max_pixels):
        return image
    raise UsageError(f"{source!r}: no image")


def write(
    path: str | os.PathLike[str],
    image: Image | Array,
    *,
    overwrite: bool = False,
    quality: int | None = None,
) -> None:
    """Write an image to a file, completely or not at all.

    Parameters
    ----------
    path
        The file; its extension chooses the format, as for `imgconv apply -o`.
    image
        An `Image`, or an array (H, W) or (H, W, C) of samples that the format can hold. An
        image's color profile and metadata are kept.
    overwrite
        Replace a file that exists.
    quality
        Of JPEG, WebP or AVIF, from 1 to 100.

    Raises
    ------
    ImgconvError
        The format cannot hold the samples, the file exists, or it cannot be written.

    Examples
    --------
    >>> import imgconv, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "edges.png")
    >>> imgconv.write(path, imgconv.apply("sample:chart", "sobel"))
    """
    from imgconv.io.formats import format_of
    from imgconv.io.publish import publish
    from imgconv.io.reading import as_image
    from imgconv.io.writing import encode

    name = os.fspath(path)
    found = as_image(image)
    target = format_of(name)
    if str(found.pixels.dtype) not in target.dtypes:
        expected = ", ".join(target.dtypes)
        raise UsageError(f"{name}: samples of {found.pixels.dtype}, {target.name} holds {expected}")
    pieces = encode(
        found.pixels, target, alpha=found.alpha, quality=quality, icc=found.icc,
        metadata=found.metadata if found.metadata and target.note else None,
    )  # fmt: skip
    publish(name, pieces, overwrite)


def kernel(spec: KernelLike) -> Kernel:
    """Return a kernel by name, from its text, a file, or an array.

    Parameters
    ----------
    spec
        What `imgconv apply -k` takes: a preset (`sobel`), a parametric kernel
        (`gaussian:sigma=2`), a file, the matrix as text; or an array (kH, kW), (C_out, kH, kW) or
        (C_out, C_in/groups, kH, kW).

    Raises
    ------
    ImgconvError
        There is no such kernel (the message names similar ones), or it is not a matrix.

    Examples
    --------
    >>> import imgconv
    >>> imgconv.kernel("binomial-3").effective_weights()[0, 0] * 16
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    from imgconv.kernels import get_kernel
    from imgconv.kernels.text import from_array

    if isinstance(spec, Kernel):
        return spec
    if isinstance(spec, str):
        return get_kernel(spec)
    weights = np.asarray(spec, np.float64)
    return from_array(weights[None] if weights.ndim == 1 else weights, "kernel")


class ApplyOptions(TypedDict, total=False):
    """What `apply` and `maps` take by name; `apply` describes it."""

    stride: Ints
    padding: int | str | Sequence[int] | None
    dilation: Ints
    groups: int | None
    padding_mode: PaddingMode
    pad_value: float
    flip: bool
    combine: Combine | None
    activation: str | None
    pool: str | None
    gray: bool
    scale: Scale | None
    dtype: npt.DTypeLike | None


def apply(
    image: Image | Array | str | os.PathLike[str],
    kernel: KernelLike,
    **options: Unpack[ApplyOptions],
) -> Image:
    """Filter an image as `imgconv apply` does.

    Parameters
    ----------
    image
        An `Image`, an array (H, W) or (H, W, C), or what `read` takes.
    kernel
        What `kernel` takes. It must make one map; see `maps` for banks.
    stride, dilation
        A number or a (vertical, horizontal) pair, 1 by default.
    padding
        `same`, `valid`, `full`, a number, a pair, or (top, bottom, left, right). By default the
        size is kept, or divided by the stride.
    groups
        Split filters and channels into groups, as in Conv2d; by default every channel is filtered
        separately.
    padding_mode
        How the image continues beyond its edges, by default `reflect`; `constant` uses
        `pad_value`.
    flip
        Rotate the kernel by 180°, which makes it a true convolution.
    combine
        How the maps of a bank become one (`none`, `magnitude`, `max`, `sum`, `mean`); by default
        the kernel's own rule.
    activation, pool
        As `--activation` and `--pool` take them, such as `relu` and `max:2`.
    gray
        Convert colors to gray first.
    scale
        How responses become samples: `clip`, `abs`, `signed`, `minmax`, or `none`. By default
        the kernel's own.
    dtype
        Of the result's samples, by default the image's. Floats hold the raw responses unless
        `scale` is given.

    Returns
    -------
    Image
        The map with the image's name, color profile and opacity.

    Raises
    ------
    ImgconvError
        Kernel, window and image do not fit together, or the kernel makes several maps.

    Examples
    --------
    >>> import imgconv
    >>> import numpy as np
    >>> ramp = np.arange(16, dtype=np.uint8).reshape(4, 4)
    >>> imgconv.apply(ramp, "box:3", padding="valid").pixels[..., 0]
    array([[ 5,  6],
           [ 9, 10]], dtype=uint8)
    """
    found = maps(image, kernel, **options)
    if len(found) > 1:
        raise UsageError(
            f"apply: {len(found)} maps ({', '.join(list(found)[:3])}, …), expected a kernel that "
            "makes one; imgconv.maps gives all"
        )
    return next(iter(found.values()))


def maps(
    image: Image | Array | str | os.PathLike[str],
    *kernels: KernelLike,
    **options: Unpack[ApplyOptions],
) -> dict[str, Image]:
    """Filter as `apply` does, with several kernels or banks; return every map by name, in order.

    Examples
    --------
    >>> import imgconv
    >>> list(imgconv.maps("sample:chart", "kirsch", combine="none"))[:3]
    ['e', 'ne', 'n']
    """
    from imgconv.io.reading import as_image
    from imgconv.pipeline.requests import recipe_of
    from imgconv.pipeline.settings import Settings
    from imgconv.pipeline.settings.table import filled
    from imgconv.pipeline.whole import maps_of

    if unknown := options.keys() - ApplyOptions.__annotations__:
        raise TypeError(
            f"no option {min(unknown)}, expected {', '.join(ApplyOptions.__annotations__)}"
        )
    if not kernels:
        raise UsageError("maps: no kernel, expected at least one")
    source = as_image(image)
    settings = filled(Settings, dict(options))
    recipe = recipe_of(tuple(map(_kernel, kernels)), settings)
    dtype, scale = options.get("dtype"), settings.write.scale
    target = source.sample_type if dtype is None else np.dtype(dtype)
    raw = target.kind == "f" and scale in (None, "none")
    return {
        made.name or made.kernel.name: _like(source, made.samples, made.alpha, recipe)
        for made in maps_of(source, recipe, target, raw)
    }


def sheet(
    maps: Image | Array | Mapping[str, Image | Array],
    *,
    columns: int | None = None,
    tile: int | None = None,
    colormap: str | None = None,
    shared: bool = False,
    title: str = "",
) -> Image:
    """Return one picture of many maps, each with its name and its range of values.

    Parameters
    ----------
    maps
        What `maps` returns, arrays or images by their names, or the maps (C, H, W) or (1, C, H, W)
        of one layer. Images show their samples, arrays the range of their values.
    columns
        How many maps are side by side; by default the sheet is about square.
    tile
        Longer side of a tile in pixels, 16 to 4096; by default what fits.
    colormap
        As for `--colormap`. By default maps are gray, or colors if they have three channels.
    shared
        Show all maps on one scale, with a bar, instead of each on its own.
    title
        A line above the maps.

    Raises
    ------
    ImgconvError
        There is no such color map, a map is not an image, or the sheet would be too large.

    Examples
    --------
    >>> import imgconv
    >>> imgconv.sheet(imgconv.maps("sample:chart", "kirsch", combine="none"), tile=64).pixels.shape
    (320, 224, 3)
    """
    from imgconv.io.reading import as_image
    from imgconv.viz.colormaps import check_colormap
    from imgconv.viz.layout import Layout
    from imgconv.viz.sheet import Shown, draw_maps

    if colormap is not None:
        check_colormap(colormap)
    if isinstance(maps, np.ndarray):
        planes = maps[0] if maps.ndim == 4 and len(maps) == 1 else maps
        if planes.ndim != 3:
            raise UsageError(f"sheet: maps of shape {maps.shape}, expected (C, H, W)")
        maps = {str(number): plane for number, plane in enumerate(planes)}
    named = {maps.name: maps} if isinstance(maps, Image) else maps
    images = {name: as_image(values) for name, values in named.items()}
    white = max((image.full_scale for image in images.values()), default=1.0)
    shown = []
    for name, image in images.items():
        colors = image.pixels[..., : image.pixels.shape[2] - image.alpha]
        if image.full_scale != white:
            colors = colors * (white / image.full_scale)
        shown.append(Shown(name, colors, "minmax" if colors.dtype.kind == "f" else "clip"))
    picture = draw_maps(shown, white, Layout(columns, tile, shared), colormap, title=title)
    return Image(picture, name="sheet")


def network(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    size: tuple[int, int] | None = None,
) -> Network:
    """Return a network, ready to run.

    Parameters
    ----------
    name
        A published network (`resnet50`, `vgg16:classes=10`), a TOML or ONNX file, or a chain of
        steps (`conv sobel | relu | maxpool 2`).
    weights
        A file with its weights, unless they come with imgconv.
    seed
        Draw untrained weights instead.
    size
        Height and width of its input, if not the usual ones.

    Raises
    ------
    ImgconvError
        There is no such network, or its weights are missing or do not fit.

    Examples
    --------
    >>> import imgconv
    >>> lenet = imgconv.network("lenet5")
    >>> lenet.predict("sample:digit")[0].label
    '5'
    >>> {name: maps.shape for name, maps in lenet.features("sample:digit", ["c1"]).items()}
    {'c1': (1, 6, 28, 28)}
    """
    from dataclasses import replace

    from imgconv.nn.find import find_network, with_weights
    from imgconv.nn.preprocess import by_recipe, recipe_of

    found, path = find_network(name, size), None if weights is None else os.fspath(weights)
    recipe = recipe_of(path)
    if recipe:
        found = replace(found, preprocess=by_recipe(found.preprocess, recipe))
    return with_weights(found, path, seed)[0]


_kernel = kernel  # `apply` and `maps` have parameters of that name


def _like(source: Image, samples: Array, alpha: bool, recipe: "Recipe") -> Image:
    """The image of a map: what described the source's colors still does where they are kept."""
    return Image(
        samples, alpha, source.name, source.frame, source.frames,
        source.icc if recipe.keeps_colors() else None,
    )  # fmt: skip
