"""The table of docs/images.md says what becomes of each kind of metadata in each format."""

import pathlib
import struct

import numpy as np
import pytest
import tifffile
from PIL import ImageCms, IptcImagePlugin

from tests import camera
from tests.io.test_metadata import (
    COLORS,
    PLAIN,
    TEXTS,
    chunks_of,
    exif_of,
    exiftool,
    imgconv,
    opened,
    tags_by_exiftool,
    with_chunks,
)
from tests.io.test_metadata_tiff import DESCRIBED, MORE, heights, tags_of, write_geo

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "images.md"
FORMATS = {"PNG": "png", "JPEG": "jpg", "WebP": "webp", "TIFF": "tif", "GIF": "gif", "BMP": "bmp"}
SCALED = {"PNG": 5906, "JPEG": 150, "WebP": 150, "TIFF": 150, "BMP": 150}  # of 300 dpi


def table():
    """Kind of metadata → format → what the docs say."""
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("| metadata | PNG"))
    head = [cell.strip() for cell in lines[start].strip("|").split("|")]
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return found
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found[cells[0].partition(":")[0]] = dict(zip(head[1:], cells[1:], strict=True))
    return found


def text_of(path):
    return path.read_bytes().decode("latin-1")


def resolution_of(form, path):
    if form == "PNG":
        found = dict(chunks_of(path)).get(b"pHYs")
        return found and struct.unpack(">IIB", found)[0]
    if form in ("WebP", "TIFF"):
        return opened(path).getexif().get(0x011A)
    dpi = opened(path).info.get("dpi")
    return dpi and round(dpi[0])


def iptc_of(form, path):
    if form == "PNG":
        return any(payload.startswith(b"Raw profile type iptc") for _, payload in chunks_of(path))
    if form in ("JPEG", "TIFF"):
        return IptcImagePlugin.getiptcinfo(opened(path)) is not None
    return b"lake\x1c" in path.read_bytes() or b"evening" in path.read_bytes()


def described(form, path):
    """Whether a TIFF's description is there, by the tag of EXIF's that it is too."""
    return 0x010E in opened(path).getexif() and 0x013B in opened(path).getexif()


def calibrated(form, path):
    if form == "TIFF":
        with tifffile.TiffFile(path) as tiff:
            found = tiff.pages[0].tags
            return bool(tiff.is_imagej) and found[282].value == (1, 1)
    value = resolution_of(form, path)
    expected = {"PNG": 1_000_000, "WebP": 10_000, "BMP": 25_400, "JPEG": 25_400}[form] if (
        form != "GIF"
    ) else None  # fmt: skip
    return value is not None and round(float(value)) == expected


def comment_of(form, path):
    if form == "PNG":
        return any(payload.startswith(b"Comment\0") for _, payload in chunks_of(path))
    return camera.COMMENT in path.read_bytes().decode("utf-8", "replace")


def color_chunks(form, path):
    return form == "PNG" and set(COLORS) <= set(chunks_of(path))


def tables_of(form, path):
    return form == "JPEG" and opened(path).quantization == opened("photo.jpg").quantization


# Kind → (input, how to see it in an output).
PROBES = {
    "EXIF": ("photo.jpg", lambda form, path: exif_of(path)[0].get(0x8298) == "(c) Anna Beispiel"),
    "GPS": ("photo.jpg", lambda form, path: exif_of(path)[2].get(1) == "N"),
    "maker notes": ("photo.jpg", lambda form, path: camera.maker_note(">") in path.read_bytes()),
    "orientation, in EXIF and XMP": (
        "photo.jpg",
        lambda form, path: bool(exif_of(path)[0]) and exif_of(path)[0].get(0x0112, 1) == 1
        and 'tiff:Orientation="1"' in text_of(path),
    ),
    "width and height, in EXIF and XMP": (
        "photo.jpg",
        lambda form, path: exif_of(path)[1].get(0xA002) == opened(path).width
        and f"<e:PixelXDimension>{opened(path).width}<" in text_of(path),
    ),
    "XMP": ("photo.jpg", lambda form, path: "<dc:title>" in text_of(path)),
    "IPTC": ("photo.jpg", iptc_of),
    "resolution": (
        "photo.jpg", lambda form, path: resolution_of(form, path) == SCALED.get(form, "none")
    ),
    "comments of JPEG, GIF and PNG": ("photo.jpg", comment_of),
    "PNG's texts": ("texts.png", lambda form, path: "(c) 2020" in text_of(path)
                    or any(b"Copyright" in payload for _, payload in chunks_of(path))),
    "PNG's other texts, tIME": (
        "texts.png", lambda form, path: form == "PNG" and PLAIN[1] in chunks_of(path)
    ),
    "gamma, chromaticities, sRGB of PNG": ("texts.png", color_chunks),
    "ICC profile": ("photo.jpg", lambda form, path: "icc_profile" in opened(path).info),
    "description, artist, software, date of TIFF": ("described.tif", described),
    "GeoTIFF": (
        "geo.tif", lambda form, path: form == "TIFF" and tags_of(path)[33550] == (20, 40, 0)
        and tags_of(path)[33922][3:5] == (499995, 4600010),
    ),
    "nodata, GDAL's metadata": (
        "geo.tif", lambda form, path: form == "TIFF" and {42112, 42113} <= tags_of(path).keys()
    ),
    "calibration by ImageJ or OME": ("imagej.tif", calibrated),
    "quantization tables, subsampling of JPEG": ("photo.jpg", tables_of),
}  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A folder of the inputs and of their results under stride 2: INPUT.FORMAT."""
    folder = tmp_path_factory.mktemp("table")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        (folder / "photo.jpg").write_bytes(camera.jpeg(icc_profile=profile))
        with_chunks("texts.png", [*COLORS, *PLAIN, *TEXTS])
        tifffile.imwrite("described.tif", camera.photo(), photometric="rgb", extratags=MORE,
                         metadata=None, **DESCRIBED)  # fmt: skip
        write_geo("geo.tif", heights())
        tifffile.imwrite("imagej.tif", np.zeros((60, 80), np.uint16), imagej=True,
                         resolution=(2, 2), metadata={"unit": "um"})  # fmt: skip
        for name in {name for name, _ in PROBES.values()}:
            for form in FORMATS.values():
                depth = ["--depth", "32f"] if (name, form) == ("geo.tif", "tif") else []
                imgconv("apply", "-k", "box:3", "--stride", "2", name, "--scale", "clip", *depth,
                        "-q", "-o", f"{name}.{form}")  # fmt: skip
        yield folder


def test_the_table_is_whole():
    assert table().keys() == PROBES.keys()


@pytest.mark.parametrize("kind", PROBES)
def test_what_the_table_says_is_so(outputs, monkeypatch, kind):
    monkeypatch.chdir(outputs)
    name, probe = PROBES[kind]
    for form, suffix in FORMATS.items():
        said = table()[kind][form]
        path = outputs / f"{name}.{suffix}"
        there = bool(probe(form, path))
        assert there == (said != "–"), (form, said)


@exiftool
def test_exiftool_finds_the_same(outputs):
    tags = {"EXIF": "Copyright", "GPS": "GPSLatitude", "maker notes": "OwnerName", "XMP": "Title",
            "IPTC": "Keywords", "ICC profile": "ProfileDescription",
            "comments of JPEG, GIF and PNG": "Comment"}  # fmt: skip
    for form, suffix in FORMATS.items():
        found = tags_by_exiftool(outputs / f"photo.jpg.{suffix}", own=False)
        words = {key.split(":")[-1] for key in found}
        for kind, tag in tags.items():
            assert (tag in words) == (table()[kind][form] != "–"), (form, kind)
