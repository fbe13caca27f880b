"""From an image to a network's input: resize, crop, channel order, mean and deviation."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from imgconv.errors import ModelError, UsageError
from imgconv.io.limits import MAX_PIXELS, check_memory
from imgconv.shapes import Pair
from imgconv.typing import JSON, Array

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Orders of channels by name, and how many they are.
ORDERS = {"gray": 1, "graya": 2, "rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4}
_NUMBERS = re.compile(r"\d{1,5}(,\d{1,5}){0,4095}")
_CHANNELS = f"{', '.join(ORDERS)}, or numbers such as 0,1,4"
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box")


@dataclass(frozen=True)
class Reading:
    """How an ONNX model is read, where the file does not say it.

    layout: nchw or nhwc. channels: where the file leaves them free. feed: numbers of inputs that
    are no image. outputs: values that are the outputs, instead of the file's own.
    """

    layout: str | None = None
    channels: int | None = None
    feed: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()


READ = Reading()


@dataclass(frozen=True)
class Preprocess:
    """What happens to an image, in this order.

    channels: gray (Rec. 601 luma), rgb or bgr; with opacity graya, rgba or bgra; or numbers of the
    image's channels from 0, such as 0,1,4. resize: the shorter side, or (height, width), or
    None to leave the size. crop: (height, width) from the middle, or None. Samples are then
    divided by the image's white and multiplied by `scale`; mean is subtracted and the result
    divided by std, both one number per channel, in the order of `channels`. invert: white is 0.
    max_pixels: refuse what is larger than such an image on its way, and in the network.

    Resizing and cropping are those of torchvision on Pillow images, bit for bit for 8-bit images:
    the filter is widened when it shrinks, and the result is rounded to 8 bits.
    """

    channels: str = "rgb"
    resize: int | Pair | None = 256
    crop: Pair | None = (224, 224)
    interpolation: str = "bilinear"
    scale: float = 1.0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    invert: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.channels not in ORDERS and not _NUMBERS.fullmatch(self.channels):
            raise ModelError(f"channels {self.channels[:60]!r}, expected {_CHANNELS}")
        if self.interpolation not in INTERPOLATIONS:
            expected = ", ".join(INTERPOLATIONS)
            raise ModelError(f"interpolation {self.interpolation!r}, expected one of {expected}")
        count = self.count
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if len(numbers) not in (1, count):
                raise ModelError(
                    f"{name}={numbers}: {len(numbers)} numbers for {count} channels, expected "
                    f"{' or '.join(map(str, sorted({1, count})))}"
                )
        with np.errstate(over="ignore"):
            numbers = np.array([self.scale, *self.mean, *self.std], np.float32)
        if not np.isfinite(numbers).all():
            raise ModelError(
                f"scale={self.scale}, mean={self.mean}, std={self.std}: "
                "expected finite float32 numbers"
            )
        if 0 in self.std:
            raise ModelError(f"std={self.std}: expected numbers other than 0")

    @property
    def count(self) -> int:
        """How many channels go in."""
        return ORDERS.get(self.channels) or len(self.channels.split(","))

    def __call__(self, pixels: Array, white: float, alpha: bool = False) -> Array:
        """Return (1, C, H, W) float32 of an image (H, W, C) whose white is `white`.

        Opacity is dropped where it is not asked for, and full where an image has none. Raises
        UsageError for a crop larger than the image, and for channels that it has not.
        """
        self.check_size(*pixels.shape[:2])
        colors = self._cropped(self._resized(self._channels(pixels, white, alpha)))
        mean, std = (np.asarray(v, np.float32) for v in (self.mean, self.std))
        values = colors.astype(np.float32)
        values /= np.float32(white)
        if self.invert:
            np.subtract(1, values, out=values)
        values *= np.float32(self.scale)
        values -= mean
        values /= std
        return np.ascontiguousarray(values.transpose(2, 0, 1))[None]

    def view(self, pixels: Array, white: float, alpha: bool = False) -> Array:
        """The part of an image that the network is given, as bytes (H, W, 1 or 3), red first.

        Raises UsageError as a call does.
        """
        colors = self._cropped(self._resized(self._channels(pixels, white, alpha)))
        colors = colors[..., : 3 if self.count > 2 else 1]
        values = np.clip(np.rint(colors.astype(np.float32) * np.float32(255 / white)), 0, 255)
        ordered = values[..., ::-1] if self.channels[:3] == "bgr" else values
        return np.ascontiguousarray(ordered.astype(np.uint8))

    def size_of(self, height: int, width: int) -> Pair:
        """(height, width) of what comes out of an image of this size."""
        size = self._target(height, width)
        return self.crop or size

    def check_size(self, height: int, width: int) -> None:
        """Raise LimitError where an image of this size becomes too large for the network."""
        target = self._target(height, width)
        for sides in (target, self.crop or target):
            numbers = sides[0] * sides[1] * self.count
            check_memory(f"{sides[0]}×{sides[1]} pixels for the network", 8 * numbers,
                         self.max_pixels)  # fmt: skip

    def as_dict(self) -> dict[str, JSON]:
        """The settings by name, without the limit."""
        names = (field.name for field in fields(self) if field.name != "max_pixels")
        return {name: getattr(self, name) for name in names}

    def _channels(self, pixels: Array, white: float, alpha: bool) -> Array:
        from imgconv.io.color import to_gray

        if self.channels not in ORDERS:
            chosen = [int(number) for number in self.channels.split(",")]
            if max(chosen) >= pixels.shape[2]:
                raise UsageError(
                    f"channel {max(chosen)} of an image of {pixels.shape[2]} channels, "
                    f"expected 0 to {pixels.shape[2] - 1}"
                )
            return pixels[..., chosen]
        order, opaque = self.channels.removesuffix("a"), self.channels.endswith("a")
        colors, opacity = (pixels[..., :-1], pixels[..., -1:]) if alpha else (pixels, None)
        count = colors.shape[2]
        if opaque and opacity is None and count in (2, 4):  # a file that does not call it opacity
            colors, opacity, count = pixels[..., :-1], pixels[..., -1:], count - 1
        if count not in (1, 3):
            raise UsageError(
                f"an image of {count} channels, expected 1 or 3; --channels 0,1,2 chooses some"
            )
        if order == "gray":
            colors = to_gray(colors) if count == 3 else colors
        else:
            colors = np.repeat(colors, 3, axis=2) if count == 1 else colors
            colors = colors[..., ::-1] if order == "bgr" else colors
        if not opaque:
            return colors
        if opacity is None:
            opacity = np.full((*colors.shape[:2], 1), white)
        return np.concatenate([colors, opacity.astype(colors.dtype)], axis=2)

    def _target(self, height: int, width: int) -> Pair:
        if self.resize is None:
            return height, width
        if not isinstance(self.resize, int):
            return self.resize
        short, long = min(height, width), max(height, width)
        other = max(1, int(self.resize * long / short))
        return (self.resize, other) if height <= width else (other, self.resize)

    def _resized(self, pixels: Array) -> Array:
        height, width = self._target(*pixels.shape[:2])
        if (height, width) == pixels.shape[:2]:
            return pixels
        from PIL import Image

        method = Image.Resampling[self.interpolation.upper()]
        planes = []
        for plane in np.moveaxis(pixels, 2, 0):
            # Pillow filters 8-bit planes with rounding, and everything else as floats.
            exact = plane if plane.dtype == np.uint8 else plane.astype(np.float32)
            picture = Image.fromarray(np.ascontiguousarray(exact))
            planes.append(np.asarray(picture.resize((width, height), method)))
        return np.stack(planes, axis=2)

    def _cropped(self, pixels: Array) -> Array:
        if self.crop is None:
            return pixels
        tops = []
        for size, wanted, name in zip(pixels.shape, self.crop, ("height", "width"), strict=False):
            if wanted > size:
                raise UsageError(
                    f"crop of {name} {wanted} from an image resized to {size}, expected at most "
                    "that; choose another resize"
                )
            # Python's rounding, half to even, as in torchvision's center_crop.
            tops.append(round((size - wanted) / 2.0))
        return pixels[tops[0] : tops[0] + self.crop[0], tops[1] : tops[1] + self.crop[1]]


def usual_channels(count: int) -> str:
    """The order that as many channels have."""
    known = {1: "gray", 2: "graya", 3: "rgb", 4: "rgba"}
    return known.get(count) or ",".join(map(str, range(count)))


def preprocess_of(table: object, usual: Preprocess, source: str) -> Preprocess:
    """`usual` with the settings of a TOML table changed. Raises ModelError naming the setting."""
    known = sorted(_EXPECTED)
    changed: dict[str, Any] = {}
    for key, value in table.items() if isinstance(table, dict) else [("preprocess", table)]:
        if key not in known:
            raise ModelError(f"{source}: {key!r}, expected one of {', '.join(known)}")
        try:
            changed[key] = _setting(key, value)
        except ValueError:
            shown = repr(value)[:60]
            raise ModelError(f"{source}: {key} = {shown}, expected {_EXPECTED[key]}") from None
    if "channels" in changed and "mean" not in changed:
        changed |= {"mean": (0.0,), "std": (1.0,)} if len(usual.mean) > 1 else {}
    try:
        return replace(usual, **changed)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from None


_EXPECTED = {
    "resize": "a whole number from 1, [height, width], or 0 for none",
    "crop": "a whole number from 1, [height, width], or 0 for none",
    "channels": _CHANNELS, "interpolation": f"one of {', '.join(INTERPOLATIONS)}",
    "scale": "a number", "mean": "a number, or a list of one per channel",
    "std": "a number, or a list of one per channel", "invert": "true or false",
}  # fmt: skip


def _setting(key: str, value: Any) -> Any:
    """A setting as `Preprocess` holds it. Raises ValueError for another type or count."""
    several = isinstance(value, list | tuple)
    items = tuple(value) if several else (value,)
    if key in ("resize", "crop"):
        if value is None or value is False or value == 0:
            return None
        sizes = all(type(item) is int and 1 <= item <= 65536 for item in items)
        if not sizes or (several and len(items) != 2):
            raise ValueError
        return items if several else (value, value) if key == "crop" else value
    kinds = {"channels": (str,), "interpolation": (str,), "invert": (bool,)}.get(key, (int, float))
    if not items or any(type(item) not in kinds for item in items):
        raise ValueError
    if key in ("mean", "std"):
        return items
    if several:
        raise ValueError
    return value


def imagenet(size: int = 224, resize: int = 256, interpolation: str = "bilinear") -> Preprocess:
    """What torchvision's ImageNet weights expect."""
    return Preprocess(resize=resize, crop=(size, size), interpolation=interpolation)


# Caffe's: blue first, 0…255, the mean color of ImageNet subtracted.
CAFFE_MEAN = (104.0, 117.0, 123.0)


def caffe(size: int) -> Preprocess:
    """What networks of Caffe's time expect: BGR, 0…255, the mean color subtracted."""
    return Preprocess(
        channels="bgr", crop=(size, size), scale=255.0, mean=CAFFE_MEAN, std=(1.0, 1.0, 1.0)
    )


def inception(size: int) -> Preprocess:
    """What networks of TensorFlow's time expect: RGB from −1 to 1."""
    half = (0.5, 0.5, 0.5)
    return Preprocess(resize=round(size * 256 / 224), crop=(size, size), mean=half, std=half)


# Recipes by name, for a crop's side. The shorter sides are those of torchvision's ResNet (232) and
# EfficientNet-B1 (255) of the second weights (torchvision/models, version 0.24); others in
# proportion to 232.
RECIPES: dict[str, Callable[[int], Preprocess]] = {
    "imagenet": lambda side: imagenet(side, round(side * 256 / 224)),
    "imagenet-v2": lambda side: imagenet(side, {240: 255}.get(side, round(side * 232 / 224))),
    "inception": inception,
    "caffe": caffe,
}
# How torchvision calls the files of its second weights for networks that we have.
_SECOND = (
    "resnet50-11ad3fa6", "resnet101-cd907fc2", "resnet152-f82ba261", "efficientnet_b1-c27df63c",
)  # fmt: skip


def recipe_of(weights: str | None) -> str | None:
    """The recipe that weights were trained for, where their file's name tells that."""
    name = os.path.basename(weights or "")
    return "imagenet-v2" if name.startswith(_SECOND) else None


def by_recipe(usual: Preprocess, name: str) -> Preprocess:
    """The preprocessing of RECIPES for a network with the usual one's crop, or of 224×224."""
    made = RECIPES[name](min(usual.crop or (224, 224)))
    return replace(made, crop=usual.crop or made.crop, max_pixels=usual.max_pixels)
