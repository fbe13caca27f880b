"""What a file says of its image beside the pixels, carried from an input to its outputs.

Readers gather it once (`reading`), `adjusted` makes it that of a result, and `writing` knows how
each format holds it. What would be false of the result goes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from imgconv.io.metadata import exif as tags
from imgconv.io.metadata import geo, photoshop, xmp
from imgconv.io.metadata.exif import Broken, Exif, Value
from imgconv.io.metadata.geo import SAME, Grid

if TYPE_CHECKING:
    from imgconv.io.metadata.scientific import Calibration

__all__ = ["SAME", "Change", "Grid", "Jpeg", "Metadata", "Resolution", "adjusted", "checked"]

OLD_RECORD = b'{"imgconv": "'  # how a record begins that an earlier version put into descriptions
NONE, INCH, CENTIMETER = 1, 2, 3  # units of resolution, as TIFF numbers them
_COLOR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_COLOR_TAGS = (301, 318, 319)  # TransferFunction, WhitePoint, PrimaryChromaticities
_IMAGEJ_TAGS = (50838, 50839)  # labels, look-up tables, overlays: of the old pixels
_UNCALIBRATED = 0xFFFF


class Resolution(NamedTuple):
    """Pixels a unit, across and down. Without a unit only their ratio means something."""

    x: Fraction
    y: Fraction
    unit: int = INCH

    def per(self, unit: int) -> tuple[Fraction, Fraction]:
        """Pixels an inch or centimeter."""
        ratio = {(INCH, CENTIMETER): Fraction(100, 254), (CENTIMETER, INCH): Fraction(254, 100)}
        factor = ratio.get((self.unit, unit), Fraction(1))
        return self.x * factor, self.y * factor


class Jpeg(NamedTuple):
    """How a JPEG was compressed: quantization tables, Pillow's number for its subsampling."""

    tables: tuple[tuple[int, ...], ...]
    subsampling: int
    progressive: bool = False


@dataclass(frozen=True)
class Metadata:
    """What is carried.

    exif: a block without its marker. xmp: a packet. segments: (marker, payload) of JPEG's segments
    that only it holds: XMP beyond its packet, what cameras wrote before EXIF. resources:
    Photoshop's blocks, with IPTC. comments: of JPEG and GIF. chunks: (kind, payload) of what only
    PNG holds. tiff: tags that only TIFF holds. calibration: of ImageJ or OME. grid: where the
    pixels that were read lie on those that the metadata speaks of. orientation: what was applied
    to them. notes: what was left out, for people.
    """

    exif: bytes = b""
    xmp: bytes = b""
    segments: tuple[tuple[int, bytes], ...] = ()
    resources: bytes = b""
    resolution: Resolution | None = None
    comments: tuple[str, ...] = ()
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    tiff: tuple[tuple[int, Value], ...] = ()
    calibration: "Calibration | None" = None
    jpeg: Jpeg | None = None
    grid: Grid = SAME
    orientation: int = 1
    notes: tuple[str, ...] = ()


class Parts(TypedDict, total=False):
    """What is read of `Metadata`."""

    exif: bytes
    xmp: bytes
    segments: tuple[tuple[int, bytes], ...]
    resources: bytes
    resolution: Resolution | None
    comments: tuple[str, ...]
    notes: tuple[str, ...]


class Change(NamedTuple):
    """What became of an image.

    grid: where a result's pixels lie on the input's, None where it is no map of them. size:
    (height, width) of the result. colors: whether its samples are colors as the input's profile
    says. alike: whether it has as many channels as the input, of the same type.
    """

    grid: Grid | None
    size: tuple[int, int]
    colors: bool
    alike: bool


_CHECKS: dict[str, Callable[[bytes], object]] = {
    "exif": Exif,
    "xmp": lambda packet: xmp.edited(packet, {}),
    "resources": lambda blocks: list(photoshop.resources(blocks)),
}


def checked(name: str, read: Metadata) -> Metadata:
    """The metadata of a file, without those parts of it that are broken, which notes tell.

    name: what messages call the file.
    """
    parts, wrong = vars(read), list(read.notes)
    for part, check in _CHECKS.items():
        try:
            if parts[part]:
                check(parts[part])
        except Broken as error:
            parts = {**parts, part: b""}
            wrong.append(str(error))
    if wrong:
        parts = {**parts, "notes": (f"{name}: metadata left out: {'; '.join(wrong)}",)}
    return Metadata(**parts)


def adjusted(metadata: Metadata, change: Change) -> Metadata:
    """What of the metadata describes a result, and with the numbers that are now right."""
    turned = metadata.orientation != 1
    grid = change.grid.after(metadata.grid) if change.grid else None
    placed = grid == SAME and not turned
    resolution = metadata.resolution
    if resolution and grid:
        if metadata.orientation >= 5:
            resolution = resolution._replace(x=resolution.y, y=resolution.x)
        resolution = resolution._replace(
            x=resolution.x / exact(grid.step[1]), y=resolution.y / exact(grid.step[0])
        )
    chunks = [(kind, payload) for kind, payload in metadata.chunks
              if change.colors or kind not in _COLOR_CHUNKS]  # fmt: skip
    only_tiff = dict(metadata.tiff)
    if not change.colors:
        for tag in _COLOR_TAGS:
            only_tiff.pop(tag, None)
    if not (placed and change.alike):
        for tag in _IMAGEJ_TAGS:
            only_tiff.pop(tag, None)
    places = {tag: only_tiff.pop(tag) for tag in geo.TAGS if tag in only_tiff}
    only_tiff |= geo.moved(places, None if turned else grid)
    scale = None if grid is None else (1 / exact(grid.step[1]), 1 / exact(grid.step[0]))
    return replace(
        metadata,
        exif=_exif(metadata, change, grid, placed),
        xmp=_xmp(metadata, change, resolution if grid else None, placed),
        resources=photoshop.adjusted(metadata.resources, scale) if metadata.resources else b"",
        resolution=resolution if grid else None,
        chunks=tuple(chunks),
        tiff=tuple(sorted(only_tiff.items())),
        calibration=metadata.calibration and metadata.calibration.on(grid),
        grid=SAME,
        orientation=1,
    )


def exact(step: float) -> Fraction:
    """A step as the fraction that it is."""
    return Fraction(step).limit_denominator(1 << 20)


def _exif(metadata: Metadata, change: Change, grid: Grid | None, placed: bool) -> bytes:
    if not metadata.exif:
        return b""
    block = Exif(metadata.exif)
    block.drop_thumbnail()
    height, width = change.size
    block.set("main", tags.ORIENTATION, 1)
    block.set("exif", tags.PIXEL_X, width)
    block.set("exif", tags.PIXEL_Y, height)
    block.set("main", 0x0100, width)
    block.set("main", 0x0101, height)
    if not change.alike:  # what else the block says of samples
        block.remove("main", (0x0102, 0x0103, 0x0106, 0x0115, 0x011C))
    if not placed:
        block.remove("exif", (tags.SUBJECT_AREA, tags.SUBJECT_LOCATION))
        own = [block.get("main", tag) for tag in (tags.X_RESOLUTION, tags.Y_RESOLUTION)]
        if grid is None or None in own:
            block.remove("main", (tags.X_RESOLUTION, tags.Y_RESOLUTION, tags.RESOLUTION_UNIT))
        else:
            _scale(block, grid, metadata.orientation)
    if not change.colors:
        block.set("exif", tags.COLOR_SPACE, _UNCALIBRATED)
        block.remove("exif", (tags.GAMMA,))
        block.remove("main", _COLOR_TAGS)
    description = block.get("main", tags.DESCRIPTION)
    if description and description.raw.startswith(OLD_RECORD):
        block.remove("main", (tags.DESCRIPTION,))
    return bytes(block) if any(group.entries for group in block.groups.values()) else b""


def _scale(block: Exif, grid: Grid, orientation: int) -> None:
    """Scale the block's own resolution, whose unit may be another than JFIF's."""
    pairs = [block.get("main", tag) for tag in (tags.X_RESOLUTION, tags.Y_RESOLUTION)]
    numbers = [pair.numbers() if pair and pair.kind == tags.RATIONAL else () for pair in pairs]
    if orientation >= 5:
        numbers.reverse()
    for tag, pair, step in zip(
        (tags.X_RESOLUTION, tags.Y_RESOLUTION), numbers, reversed(grid.step), strict=True
    ):
        if len(pair) == 2 and pair[1]:
            block.set("main", tag, *rational(Fraction(*pair) / exact(step)))


def rational(value: Fraction) -> tuple[int, int]:
    """The nearest numerator and denominator of 32 bits."""
    most = (1 << 32) - 1
    if value > most:
        return most, 1
    found = value.limit_denominator(max(1, int(most / value)) if value > 1 else most)
    return found.numerator, found.denominator


def _xmp(metadata: Metadata, change: Change, resolution: Resolution | None, placed: bool) -> bytes:
    if not metadata.xmp:
        return b""
    height, width = map(str, change.size)
    values: dict[xmp.Name, str | None] = {
        (xmp.TIFF, "Orientation"): "1",
        (xmp.TIFF, "ImageWidth"): width, (xmp.TIFF, "ImageLength"): height,
        (xmp.EXIF, "PixelXDimension"): width, (xmp.EXIF, "PixelYDimension"): height,
        (xmp.XMP, "Thumbnails"): None,
    }  # fmt: skip
    if not placed:
        values[xmp.REGIONS, "Regions"] = None
        values[xmp.EXIF, "SubjectArea"] = values[xmp.EXIF, "SubjectLocation"] = None
        for name in ("XResolution", "YResolution", "ResolutionUnit"):
            values[xmp.TIFF, name] = None
        if resolution:
            for name, value in (("XResolution", resolution.x), ("YResolution", resolution.y)):
                values[xmp.TIFF, name] = "{}/{}".format(*rational(value))
            values[xmp.TIFF, "ResolutionUnit"] = str(resolution.unit)
    if not change.alike:
        for name in ("BitsPerSample", "SamplesPerPixel", "PhotometricInterpretation"):
            values[xmp.TIFF, name] = None
    if not change.colors:
        values[xmp.EXIF, "ColorSpace"] = str(_UNCALIBRATED)
        values[xmp.EXIF, "Gamma"] = None
        values[xmp.PHOTOSHOP, "ICCProfile"] = values[xmp.PHOTOSHOP, "ColorMode"] = None
    return xmp.edited(metadata.xmp, values)
