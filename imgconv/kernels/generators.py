"""Parametric kernels: `gaussian:sigma=2`, `gabor:theta=30,lambda=8`, `box:size=9`, ….

Angles are degrees, counter-clockwise from the x axis as seen on the image. Lengths and σ are
pixels. Gaussians reach to ceil(4σ) unless `size` says otherwise: the tail beyond 4σ weighs 6e-5.
"""

import inspect
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from imgconv.arguments import bind_arguments, one_value, parse_number
from imgconv.errors import KernelError
from imgconv.kernels.kernel import Kernel
from imgconv.kernels.text import MAX_SIDE

Weights = npt.NDArray[np.float64]
F = TypeVar("F", bound=Callable[..., "Weights | Bank"])


class Bank(NamedTuple):
    """Filters (C_out, kH, kW) that make one map, with their biases."""

    weights: Weights
    bias: Weights
    combine: str
    labels: tuple[str, ...]


_CLASSIC = "R. C. Gonzalez, R. E. Woods, Digital Image Processing, 4th ed., 2018"
_GABOR = "J. G. Daugman, Uncertainty relation for resolution in space and orientation, JOSA A 1985"
_MAGICK = "ImageMagick's kernel of the same name"


@dataclass(frozen=True)
class Generator:
    """A function of named numbers that makes (kH, kW) or (C_out, kH, kW) weights, or a bank."""

    function: Callable[..., Weights | Bank]
    description: str
    citation: str
    scale: str
    example: str


class Parameter(NamedTuple):
    """What a parameter is, for people; a unit of "" is a plain number."""

    meaning: str
    unit: str
    range: str


# By parameter, or by generator and parameter where it differs there.
PARAMETERS = {
    "sigma": Parameter("standard deviation", "pixels", "more than 0"),
    "gabor:sigma": Parameter("standard deviation; 0 is 0.56 lambda", "pixels", "from 0"),
    "sigma-y": Parameter("standard deviation downwards; 0 is sigma", "pixels", "from 0"),
    "size": Parameter("side; 0 is as far as the weights count", "pixels", f"odd, 1 to {MAX_SIDE}"),
    "box:size": Parameter("width", "pixels", f"1 to {MAX_SIDE}"),
    "binomial:size": Parameter("side", "pixels", f"1 to {MAX_SIDE}"),
    "ramp:size": Parameter("side", "pixels", f"1 to {MAX_SIDE}"),
    "height": Parameter("height; 0 is the width", "pixels", f"1 to {MAX_SIDE}"),
    "ratio": Parameter("the wide sigma over the narrow one", "", "more than 0"),
    "theta": Parameter("direction of the wave, counter-clockwise from the right", "degrees", "any"),
    "lambda": Parameter("wavelength", "pixels", "more than 0"),
    "gamma": Parameter("sigma along the wave over that across it", "", "more than 0"),
    "psi": Parameter("phase: 0 is even, 90 is odd", "degrees", "any"),
    "orientations": Parameter("directions in half a turn", "", f"1 to {MAX_SIDE}"),
    "scales": Parameter("wavelengths, each twice the one before", "", f"1 to {MAX_SIDE}"),
    "radius": Parameter("radius", "pixels", "more than 0"),
    "width": Parameter("width of the ring", "pixels", "more than 0"),
    "length": Parameter("length of the line", "pixels", "more than 0"),
    "angle": Parameter("direction, counter-clockwise from the right", "degrees", "any"),
    "amount": Parameter("share of the difference that is added", "", "any"),
    "threshold": Parameter("differences below it are not added", "samples", "from 0"),
}
_GEOMETRY = re.compile(r"\s*([0-9.]+)x(?=[0-9.])")
# RADIUSxSIGMA+GAIN+THRESHOLD of -unsharp, the last a part of white for 2 · |difference|.
_MAGICKS_UNSHARP = re.compile(
    r"(?:[0-9.]+x)?(?P<sigma>[0-9.]+)\+(?P<amount>[0-9.]+)(?:\+(?P<threshold>[0-9]*\.?[0-9]+))?"
)
GENERATORS: dict[str, Generator] = {}
# What the filters of a bank are, by its parameters.
CAPTIONS: dict[str, Callable[[Mapping[str, float]], tuple[str, ...]]] = {}
BANKS: dict[str, Callable[[], Weights]] = {}


def _generator(
    description: str, example: str, scale: str = "clip", citation: str = _CLASSIC
) -> Callable[[F], F]:
    def register(function: F) -> F:
        name = function.__name__.strip("_").replace("_", "-")
        GENERATORS[name] = Generator(function, description, citation, scale, f"{name}:{example}")
        return function

    return register


def parameters(name: str) -> dict[str, float]:
    """Names and defaults of a generator's parameters, in their order."""
    signature = inspect.signature(GENERATORS[name].function)
    return {_public(key): value.default for key, value in signature.parameters.items()}


def described(name: str) -> dict[str, Parameter]:
    """What a generator's parameters are, in their order."""
    return {key: PARAMETERS.get(f"{name}:{key}") or PARAMETERS[key] for key in parameters(name)}


def generate(name: str, arguments: str) -> Kernel:
    """Return the kernel of a generator; `arguments` is `2`, `sigma=2,size=9` or nothing.

    Raises KernelError for unknown parameters, values that are not numbers or out of range.
    """
    generator = GENERATORS[name]
    known = parameters(name)
    if name == "unsharp" and (given := _MAGICKS_UNSHARP.fullmatch(arguments)):
        sigma, amount, threshold = given["sigma"], given["amount"], float(given["threshold"] or 0)
        raise KernelError(
            f"unsharp: {arguments!r}, expected sigma={sigma},amount={amount},"
            f"threshold={threshold * 255 / 2:g}, which is the same on 8 bits"
        )
    try:
        texts = _texts(arguments, known)
    except ValueError as error:
        raise KernelError(f"{name}: {error}") from None
    values: dict[str, float] = {}
    for key, value in texts.items():
        values[key] = parse_number(value, f"{name}:{key}")
        if not math.isfinite(values[key]):
            raise KernelError(f"{name}: {key}={value}, expected a finite number")
    made = generator.function(**{_private(key): value for key, value in values.items()})
    weights = made.weights if isinstance(made, Bank) else made
    bank = weights[None, None] if weights.ndim == 2 else weights[:, None]
    used = {**known, **values}
    spelled = ",".join(f"{key}={value:g}" for key, value in values.items())
    captions = CAPTIONS[name](used) if name in CAPTIONS else ()
    kernel = Kernel(
        name=f"{name}:{spelled}" if spelled else name,
        weights=bank,
        scale=generator.scale,
        labels=tuple(str(i) for i in range(len(bank))) if len(bank) > 1 else (),
        captions=captions,
        description=generator.description,
        citation=generator.citation,
        source=f"{name}:{arguments}" if arguments else name,
        parameters=used,
    )
    if isinstance(made, Bank):
        return replace(kernel, bias=made.bias, combine=made.combine, labels=made.labels)
    return kernel


def _texts(arguments: str, known: Collection[str]) -> dict[str, str]:
    """Every parameter's text. Raises ValueError for what is unknown, surplus or there twice.

    A rectangle's size is one number, a pair N,N (vertical, horizontal) as everywhere, or
    WIDTHxHEIGHT as other tools write it. So is RADIUSxSIGMA, where a radius of 0 is one that fits.
    """
    rectangle = "height" in known
    geometry = _GEOMETRY.match(arguments) if next(iter(known), "") == "sigma" else None
    if geometry:
        radius = float(geometry[1])
        if radius and "size" not in known:
            raise ValueError(f"radius={radius:g}, expected 0: as far as the weights count")
        size = f",size={2 * math.ceil(radius) + 1}" if radius else ""
        arguments = f"sigma={arguments[geometry.end() :]}{size}"
    if rectangle and arguments.strip() and "=" not in arguments.partition(",")[0]:
        arguments = f"size={arguments}"
    found = {}
    for key, values in bind_arguments(arguments, known).items():
        if rectangle and key == "size":
            width, by, height = values[0].partition("x")
            values = [height, width] if by and len(values) == 1 else values
            if len(values) == 2:
                if "height" in found:
                    raise ValueError("the height twice, expected it once")
                found["height"] = values.pop(0)
        elif key in found:
            raise ValueError("the height twice, expected it once")
        found[key] = one_value(key, values)
    return found


def _public(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _private(key: str) -> str:
    return "lambda_" if key == "lambda" else key.replace("-", "_")


def _positive(name: str, **values: float) -> None:
    for key, value in values.items():
        if not value > 0:
            raise KernelError(f"{name}: {_public(key)}={value:g}, expected more than 0")


def _side(name: str, size: float, odd: bool = False) -> int:
    if size != int(size) or not 1 <= size <= MAX_SIDE or (odd and int(size) % 2 == 0):
        kind = "an odd whole number" if odd else "a whole number"
        raise KernelError(f"{name}: size={size:g}, expected {kind} from 1 to {MAX_SIDE}")
    return int(size)


def _grid(name: str, radius: float, size: float = 0) -> tuple[Weights, Weights]:
    """Coordinates (y, x) around the center of a square of `size`, or 2·ceil(radius) + 1."""
    side = _side(name, size if size else 2 * math.ceil(radius) + 1, odd=True)
    half = side // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    return y, x


def _bell(y: Weights, x: Weights, sigma: float, sigma_y: float = 0) -> Weights:
    weights = np.exp(-0.5 * ((x / sigma) ** 2 + (y / (sigma_y or sigma)) ** 2))
    return np.asarray(weights / weights.sum())


@_generator("Gaussian blur", "sigma=2")
def gaussian(sigma: float = 1, sigma_y: float = 0, size: float = 0) -> Weights:
    _positive("gaussian", sigma=sigma)
    y, x = _grid("gaussian", 4 * max(sigma, sigma_y), size)
    return _bell(y, x, sigma, sigma_y)


@_generator("derivative of a Gaussian to the right", "sigma=2", "symmetric")
def gaussian_dx(sigma: float = 1, size: float = 0) -> Weights:
    _positive("gaussian-dx", sigma=sigma)
    y, x = _grid("gaussian-dx", 4 * sigma, size)
    weights = x * _bell(y, x, sigma)
    # The response to a ramp of slope 1 is 1, whatever the truncation.
    return np.asarray(weights / (weights * x).sum()) if weights.any() else weights


@_generator("derivative of a Gaussian downwards", "sigma=2", "symmetric")
def gaussian_dy(sigma: float = 1, size: float = 0) -> Weights:
    return gaussian_dx(sigma, size).T.copy()


@_generator(
    "Laplacian of Gaussian, scale-normalized by σ²", "sigma=2", "symmetric",
    "D. Marr, E. Hildreth, Theory of edge detection, Proc. Royal Society B 1980",
)  # fmt: skip
def log(sigma: float = 1, size: float = 0) -> Weights:
    _positive("log", sigma=sigma)
    y, x = _grid("log", 4 * sigma, size)
    weights = ((x**2 + y**2) / sigma**2 - 2) * _bell(y, x, sigma)
    return np.asarray(weights - weights.mean())


@_generator(
    "difference of two Gaussians, wide from narrow", "sigma=1,ratio=1.6", "symmetric",
    "D. Marr, E. Hildreth, Theory of edge detection, Proc. Royal Society B 1980",
)  # fmt: skip
def dog(sigma: float = 1, ratio: float = 1.6, size: float = 0) -> Weights:
    _positive("dog", sigma=sigma, ratio=ratio)
    y, x = _grid("dog", 4 * sigma * max(ratio, 1), size)
    return _bell(y, x, sigma) - _bell(y, x, sigma * ratio)


@_generator(
    "Gabor: a wave of length lambda under a Gaussian", "theta=30,lambda=8", "symmetric", _GABOR
)
def gabor(
    theta: float = 0,
    lambda_: float = 8,
    sigma: float = 0,
    gamma: float = 0.5,
    psi: float = 0,
    size: float = 0,
) -> Weights:
    # σ = 0.56 λ is a bandwidth of one octave (Daugman 1985; Petkov, Kruizinga 1997).
    sigma = sigma or 0.56 * lambda_
    _positive("gabor", sigma=sigma, gamma=gamma, **{"lambda": lambda_})
    y, x = _grid("gabor", 3 * sigma / min(gamma, 1), size)
    angle = math.radians(theta)
    along = x * math.cos(angle) - y * math.sin(angle)
    across = x * math.sin(angle) + y * math.cos(angle)
    bell = np.exp(-0.5 * (along**2 + (gamma * across) ** 2) / sigma**2)
    wave = bell * np.cos(2 * math.pi * along / lambda_ + math.radians(psi))
    wave -= bell * (wave.sum() / bell.sum())
    return np.asarray(wave / np.abs(wave).sum())


@_generator(
    "Gabor bank: orientations × wavelengths", "orientations=8,lambda=8", "symmetric", _GABOR
)
def gabor_bank(
    orientations: float = 8, scales: float = 1, lambda_: float = 8, gamma: float = 0.5
) -> Weights:
    _positive("gabor-bank", gamma=gamma, **{"lambda": lambda_})
    count, octaves = _side("gabor-bank", orientations), _side("gabor-bank", scales)
    largest = 0.56 * lambda_ * 2 ** (octaves - 1)
    side = 2 * math.ceil(3 * largest / min(gamma, 1)) + 1
    return np.stack(
        [
            gabor(180 * turn / count, lambda_ * 2**octave, 0, gamma, 0, side)
            for octave in range(octaves)
            for turn in range(count)
        ]
    )


def _directions(values: Mapping[str, float]) -> tuple[str, ...]:
    count, waves = int(values["orientations"]), int(values["scales"])
    lengths = [values["lambda"] * 2**octave for octave in range(waves)]
    return tuple(
        f"θ {180 * turn / count:g}°" + f", λ {length:g}" * (waves > 1)
        for length in lengths
        for turn in range(count)
    )


CAPTIONS["gabor-bank"] = _directions


@_generator("mean of a rectangle", "size=9")
def box(size: float = 3, height: float = 0) -> Weights:
    width, tall = _side("box", size), _side("box", height or size)
    return np.full((tall, width), 1 / (width * tall))


@_generator("binomial smoothing", "size=5")
def binomial(size: float = 3) -> Weights:
    side = _side("binomial", size)
    row = np.array([math.comb(side - 1, k) for k in range(side)], np.float64) / 2.0 ** (side - 1)
    return np.outer(row, row)


@_generator("mean of a disk with a soft edge: a lens out of focus", "radius=5")
def disk(radius: float = 3) -> Weights:
    _positive("disk", radius=radius)
    y, x = _grid("disk", radius)
    weights = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return np.asarray(weights / weights.sum())


@_generator("mean along a line: a moving camera", "length=15,angle=30")
def motion(length: float = 9, angle: float = 0) -> Weights:
    _positive("motion", length=length)
    y, x = _grid("motion", length / 2)
    turn = math.radians(angle)
    along = np.abs(x * math.cos(turn) - y * math.sin(turn))
    across = np.abs(x * math.sin(turn) + y * math.cos(turn))
    weights = np.clip(length / 2 + 0.5 - along, 0, 1) * np.clip(1 - across, 0, 1)
    return np.asarray(weights / weights.sum())


@_generator("mean of a ring", "radius=5,width=1", citation=_MAGICK)
def ring(radius: float = 3, width: float = 1) -> Weights:
    _positive("ring", radius=radius, width=width)
    y, x = _grid("ring", radius + width / 2)
    weights = np.clip(width / 2 + 0.5 - np.abs(np.hypot(x, y) - radius), 0, 1)
    return np.asarray(weights / weights.sum())


@_generator("weights growing to the right", "size=5", citation=_MAGICK)
def ramp(size: float = 5) -> Weights:
    side = _side("ramp", size)
    row = np.arange(1, side + 1, dtype=np.float64)
    return np.tile(row / (row.sum() * side), (side, 1))


@_generator("horizontal Gaussian: blur along rows only", "sigma=2", citation=_MAGICK)
def blur(sigma: float = 1) -> Weights:
    return np.asarray(gaussian(sigma).sum(axis=0, keepdims=True))


@_generator("half a Gaussian: a trail to one side", "sigma=3", citation=_MAGICK)
def comet(sigma: float = 2) -> Weights:
    row = blur(sigma)
    row[:, : row.shape[1] // 2] = 0
    return np.asarray(row / row.sum())


@_generator("unsharp mask: image + amount · (image − its Gaussian)", "sigma=2,amount=1")
def unsharp(sigma: float = 1, amount: float = 1, threshold: float = 0) -> Weights | Bank:
    if threshold < 0:
        raise KernelError(f"unsharp: threshold={threshold:g}, expected a number from 0")
    detail = -amount * gaussian(sigma)
    middle = len(detail) // 2, len(detail) // 2
    detail[middle] += amount
    image = np.zeros_like(detail)
    image[middle] = 1
    if not threshold:
        return detail + image
    limits = np.array([abs(amount) * threshold, 0])
    return Bank(np.stack([detail, image]), limits, "shrink", ("detail", "image"))


def _frei_chen() -> Weights:
    root = math.sqrt(2)
    masks = [
        ([[1, root, 1], [0, 0, 0], [-1, -root, -1]], 2 * root),
        ([[1, 0, -1], [root, 0, -root], [1, 0, -1]], 2 * root),
        ([[0, -1, root], [1, 0, -1], [-root, 1, 0]], 2 * root),
        ([[root, -1, 0], [-1, 0, 1], [0, 1, -root]], 2 * root),
        ([[0, 1, 0], [-1, 0, -1], [0, 1, 0]], 2),
        ([[-1, 0, 1], [0, 0, 0], [1, 0, -1]], 2),
        ([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], 6),
        ([[-2, 1, -2], [1, 4, 1], [-2, 1, -2]], 6),
        ([[1, 1, 1], [1, 1, 1], [1, 1, 1]], 3),
    ]
    return np.array([np.array(mask) / norm for mask, norm in masks])[:, None]


def _dct() -> Weights:
    k, n = np.mgrid[:8, :8]
    basis = np.sqrt(np.where(k == 0, 1, 2) / 8) * np.cos(math.pi * (2 * n + 1) * k / 16)
    return np.asarray(np.einsum("um,vn->uvmn", basis, basis).reshape(64, 1, 8, 8))


BANKS |= {"frei-chen-basis": _frei_chen, "dct-8x8": _dct}
