"""The sizes of pixels and what else ImageJ and OME-TIFF write into a TIFF's description.

Source: ImageJ's `ij.io.TiffDecoder` and `ij.io.FileSaver`; the OME schema of 2016-06 and "OME-TIFF
specification" of the Open Microscopy Environment.
"""

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

from imgconv.io.metadata import xmp
from imgconv.io.metadata.exif import Broken
from imgconv.io.metadata.geo import Grid
from imgconv.typing import Dtype

_MICROMETERS = {
    "micron": 1.0, "microns": 1.0, "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00B5m": 1.0,
    "nm": 1e-3, "pm": 1e-6, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0, "in": 25400.0,
}  # fmt: skip
# What is said of a stack, and of the samples' range.
_STACK = ("images", "channels", "slices", "frames", "hyperstack", "mode")
_RANGE = ("min", "max")


class Calibration(NamedTuple):
    """A description by ImageJ or OME.

    kind: `imagej` or `ome`. text: as it is in the file. frame, frames: which page was read of how
    many. pixel: (across, down) in micrometers, None where that is not told.
    """

    kind: str
    text: str
    frame: int = 0
    frames: int = 1
    pixel: tuple[Fraction, Fraction] | None = None

    def on(self, grid: Grid | None) -> "Calibration | None":
        """With pixels of the size of a result's; None where it is no map of pixels."""
        if grid is None or self.pixel is None:
            return None if grid is None else self
        down, across = (Fraction(step).limit_denominator(1 << 20) for step in grid.step)
        return self._replace(pixel=(self.pixel[0] * across, self.pixel[1] * down))


def calibration_of(
    description: str, resolution: tuple[Fraction, Fraction] | None, frame: int, frames: int
) -> Calibration | None:
    """What a description by ImageJ or OME says, None for others. Raises Broken.

    resolution: pixels a unit (across, down), which ImageJ writes beside its text.
    """
    if description.startswith("ImageJ="):
        unit = dict(_lines(description)).get("unit", "")
        size = Fraction(_MICROMETERS.get(unit, 0.0)).limit_denominator(10**6)
        pixel = None
        if resolution and size and min(resolution) > 0:
            pixel = size / resolution[0], size / resolution[1]
        return Calibration("imagej", description, frame, frames, pixel)
    if "</OME>" in description[-20:] and "<OME" in description[:2000]:
        root, image = _ome(description, frame)
        if root is None or image is None:
            return None
        return Calibration("ome", description, frame, frames, _pixel(image[0]))
    return None


def description(
    calibration: Calibration, shape: tuple[int, int, int], dtype: Dtype, pages: int
) -> str:
    """The description of a result of `pages` pages (H, W, C)."""
    if calibration.kind == "ome":
        return _adjusted_ome(calibration, shape, dtype, pages)
    unwanted = {*_RANGE, *(() if pages == calibration.frames else _STACK)}
    lines = [f"{key}={value}" for key, value in _lines(calibration.text) if key not in unwanted]
    return "\n".join(lines) + "\n"


def _lines(text: str) -> list[tuple[str, str]]:
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return [(key, value) for key, _, value in pairs]


def ome_description(
    shape: tuple[int, int, int], dtype: Dtype, pages: int = 1,
    calibration: Calibration | None = None, words: str = "",
) -> str:  # fmt: skip
    """The description that makes a TIFF of such pages an OME-TIFF.

    words: a description of the image, kept within.
    """
    if calibration and calibration.kind == "ome":
        return _adjusted_ome(calibration, shape, dtype, pages)
    height, width, channels = shape
    sizes = ""
    if calibration and calibration.pixel:
        across, down = map(float, calibration.pixel)
        sizes = f'PhysicalSizeX="{across:.15g}" PhysicalSizeY="{down:.15g}" '
    told = f"<Description>{_escaped(words)}</Description>" if words else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'{told}<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="{_type(dtype)}" '
        f'SizeX="{width}" SizeY="{height}" SizeC="{channels}" SizeZ="{pages}" SizeT="1" {sizes}'
        'BigEndian="false" Interleaved="true">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="{channels}"/>'
        f'<TiffData IFD="0" PlaneCount="{pages}"/></Pixels></Image></OME>'
    )


def with_record(ome: str, record: str) -> str:
    """OME-XML with a record of imgconv among its annotations."""
    note = (
        '<CommentAnnotation ID="Annotation:imgconv" Namespace="imgconv"><Value>'
        f"{_escaped(record)}</Value></CommentAnnotation>"
    )
    head, closed, tail = ome.rpartition("</StructuredAnnotations>")
    if closed:
        return f"{head}{note}{closed}{tail}"
    head, closed, tail = ome.rpartition("</OME>")
    return f"{head}<StructuredAnnotations>{note}</StructuredAnnotations>{closed}{tail}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _type(dtype: Dtype) -> str:
    return {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)


def _name(element: "Element") -> str:
    return element.tag.rpartition("}")[2]


def _children(element: "Element", name: str) -> list["Element"]:
    return [child for child in element if _name(child) == name]


def _ome(text: str, frame: int) -> "tuple[Element | None, tuple[Element, int] | None]":
    """The root, and the image that a page belongs to with the page's number within it."""
    from xml.etree import ElementTree

    xmp.edited(text.encode(), {})  # no document type, well formed
    root = ElementTree.fromstring(text)
    at = 0
    for image in _children(root, "Image"):
        pixels = _children(image, "Pixels")
        if not pixels:
            continue
        planes = _planes(pixels[0])
        if at <= frame < at + planes:
            return root, (image, frame - at)
        at += planes
    return root, None


def _count(pixels: "Element", name: str) -> int:
    value = pixels.get(name, "1")
    return max(1, int(value)) if value.isdecimal() and len(value) < 10 else 1


def _channels(pixels: "Element") -> list["Element"]:
    return _children(pixels, "Channel")


def _samples(pixels: "Element") -> int:
    """Samples a pixel of its planes."""
    found = _channels(pixels)
    return _count(found[0], "SamplesPerPixel") if found else 1


def _planes(pixels: "Element") -> int:
    channels = max(1, _count(pixels, "SizeC") // _samples(pixels))
    return channels * _count(pixels, "SizeZ") * _count(pixels, "SizeT")


def _pixel(image: "Element") -> tuple[Fraction, Fraction] | None:
    pixels = _children(image, "Pixels")[0]
    found = []
    for axis in "XY":
        try:
            size = Fraction(pixels.get(f"PhysicalSize{axis}", ""))
        except (ValueError, ZeroDivisionError):
            return None
        unit = _MICROMETERS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if unit is None or size <= 0:
            return None
        found.append(size * Fraction(unit).limit_denominator(10**6))
    return found[0], found[1]


def _adjusted_ome(
    calibration: Calibration, shape: tuple[int, int, int], dtype: Dtype, pages: int
) -> str:
    """The XML with the one image that was read, as the result's pages are."""
    from xml.etree import ElementTree

    root, place = _ome(calibration.text, calibration.frame)
    if root is None or place is None:
        raise Broken("OME-XML without an image")
    image, plane = place
    for other in _children(root, "Image"):
        if other is not image:
            root.remove(other)
    root.attrib.pop("UUID", None)
    for annotations in _children(root, "StructuredAnnotations"):
        for annotation in list(annotations):
            if annotation.get("Namespace") == "imgconv":  # the record of an earlier version
                annotations.remove(annotation)
        if not len(annotations):
            root.remove(annotations)
    pixels = _children(image, "Pixels")[0]
    height, width, channels = shape
    alike = _samples(pixels) == channels and pages == _planes(pixels)
    for child in list(pixels):
        if _name(child) in ("TiffData", "BinData", "MetadataOnly") or (
            _name(child) == "Plane" and not alike
        ):
            pixels.remove(child)
    if not alike:
        _of_one_plane(pixels, plane, channels, pages)
    pixels.set("SizeX", str(width))
    pixels.set("SizeY", str(height))
    if pixels.get("Type") != _type(dtype):
        pixels.set("Type", _type(dtype))
        pixels.attrib.pop("SignificantBits", None)
    pixels.set("BigEndian", "false")
    pixels.set("Interleaved", "true")
    if calibration.pixel:
        for axis, size in zip("XY", calibration.pixel, strict=True):
            unit = _MICROMETERS[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
            pixels.set(f"PhysicalSize{axis}", f"{float(size) / unit:.15g}")
    space = root.tag[1:].partition("}")[0] if root.tag.startswith("{") else ""
    tag = f"{{{space}}}TiffData" if space else "TiffData"
    data = ElementTree.Element(tag, {"IFD": "0", "PlaneCount": str(pages)})
    pixels.insert(len(_channels(pixels)), data)  # after the channels, as the schema wants it
    if space:
        ElementTree.register_namespace("", space)
    return '<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(root, "unicode")


def _of_one_plane(pixels: "Element", plane: int, channels: int, pages: int) -> None:
    """Make pixels of a stack those of one plane of it, with the channel that it belongs to."""
    named = _channels(pixels)
    sizes = {"C": max(1, _count(pixels, "SizeC") // _samples(pixels)),
             "Z": _count(pixels, "SizeZ"), "T": _count(pixels, "SizeT")}  # fmt: skip
    from xml.etree import ElementTree

    index = plane
    own = 0
    for axis in pixels.get("DimensionOrder", "XYCZT")[2:]:
        if axis == "C":
            own = index % sizes["C"]
        index //= sizes.get(axis, 1)
    kept = named[own] if own < len(named) and _samples(pixels) == channels else None
    for channel in named:
        if channel is not kept:
            pixels.remove(channel)
    if kept is None:
        space = pixels.tag.rpartition("}")[0]
        tag = f"{space}}}Channel" if space else "Channel"
        kept = ElementTree.Element(tag, {"ID": "Channel:0:0"})
        pixels.insert(0, kept)
    kept.set("SamplesPerPixel", str(channels))
    pixels.set("SizeC", str(channels))
    pixels.set("SizeZ", str(pages))
    pixels.set("SizeT", "1")
