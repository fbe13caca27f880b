"""What TIFF says beside its pixels: EXIF's tags, GeoTIFF, ImageJ and OME, from TIFF and to it."""

import io
import json
import shutil
import struct
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from imgconv.io.metadata.notes import read_note
from tests import camera
from tests.io.test_metadata import exif_of, exiftool, imgconv, opened, tags_by_exiftool
from tests.running import here

KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
POINT_KEYS = (*KEYS[:11], 2, *KEYS[12:])
NODATA = (42113, "s", 0, "-9999")
STATISTICS = (
    42112, "s", 0,
    '<GDALMetadata>\n  <Item name="STATISTICS_MAXIMUM" sample="0">4</Item>\n'
    '  <Item name="survey">2020</Item>\n</GDALMetadata>\n',
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def heights(rows=60, columns=80):
    y, x = np.mgrid[:rows, :columns]
    return (100 + 30 * np.sin(x / 9) + 20 * np.cos(y / 7)).astype(np.float32)


def write_geo(path, pixels, keys=KEYS, scale=(10.0, 20.0, 0.0), ties=None, matrix=None, **options):
    extra = [(34735, "H", len(keys), keys), NODATA, STATISTICS]
    if scale:
        extra.append((33550, "d", 3, scale))
    if matrix is None:
        ties = ties or (0, 0, 0, 500000.0, 4600000.0, 7.0)
        extra.append((33922, "d", len(ties), tuple(map(float, ties))))
    else:
        extra.append((34264, "d", 16, tuple(map(float, matrix))))
    tifffile.imwrite(path, pixels, extratags=extra, metadata=None, **options)


def tags_of(path, page=0):
    with tifffile.TiffFile(path) as tiff:
        return {tag.code: tag.value for tag in tiff.pages[page].tags}


def ground(tags, column, row):
    """Where the middle of a pixel lies, by GeoTIFF's definition (section 7 of its standard)."""
    keys = tags[34735]
    raster_type = next(keys[at + 3] for at in range(4, len(keys), 4) if keys[at] == 1025)
    half = Fraction(1, 2) if raster_type == 1 else 0
    i, j = column + half, row + half
    if 34264 in tags:
        m = [Fraction(v) for v in tags[34264]]
        return m[0] * i + m[1] * j + m[3], m[4] * i + m[5] * j + m[7]
    scale, tie = (list(map(Fraction, tags[code])) for code in (33550, 33922))
    return tie[3] + (i - tie[0]) * scale[0], tie[4] - (j - tie[1]) * scale[1]


LAYOUTS = {
    "area": {}, "point": {"keys": POINT_KEYS}, "tie elsewhere": {"ties": (8, 4, 0, 1e5, 2e5, 0)},
    "matrix": {"scale": None, "matrix": (8, 6, 0, 1e5, 6, -8, 0, 2e5, 0, 0, 1, 0, 0, 0, 0, 1)},
}  # fmt: skip
# What middles of result's pixels (column, row) are in the input, worked out by hand.
GRIDS = [
    (("apply", "-k", "box:3"), lambda c, r: (c, r)),
    (("apply", "-k", "1 2; 3 4"), lambda c, r: (c, r)),
    (("apply", "-k", "box:3", "--padding", "valid"), lambda c, r: (c + 1, r + 1)),
    (("apply", "-k", "box:5", "--padding", "full"), lambda c, r: (c - 2, r - 2)),
    (("apply", "-k", "box:3", "--stride", "2"), lambda c, r: (2 * c, 2 * r)),
    (
        ("apply", "-k", "box:3", "--stride", "2,4", "--padding", "0"),
        lambda c, r: (4 * c + 1, 2 * r + 1),
    ),
    (
        ("apply", "-k", "box:3", "--padding", "1,2,3,4", "--dilation", "2"),
        lambda c, r: (c - 3 + 2, r - 1 + 2),
    ),
    (
        ("apply", "-k", "identity", "--pool", "avg:2"),
        lambda c, r: (2 * c + Fraction(1, 2), 2 * r + Fraction(1, 2)),
    ),
    (("apply", "-k", "identity", "--pool", "max:3,stride=2"), lambda c, r: (2 * c + 1, 2 * r + 1)),
    (
        ("apply", "-k", "identity", "--pool", "adaptive-avg:12x20"),
        lambda c, r: (4 * c + Fraction(3, 2), 5 * r + 2),
    ),
    (
        ("run", "conv box:3 padding=valid | conv box:3 stride=2 padding=1 | avgpool 2"),
        lambda c, r: (1 + 2 * (2 * c + Fraction(1, 2)), 1 + 2 * (2 * r + Fraction(1, 2))),
    ),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("command", "middle"), GRIDS)
def test_pixels_of_a_geotiff_stay_where_they_are_on_the_ground(folder, layout, command, middle):
    write_geo("in.tif", heights(), **LAYOUTS[layout])
    imgconv(*command, "in.tif", "-o", "out.tif")
    before, after = tags_of("in.tif"), tags_of("out.tif")
    for column, row in ((0, 0), (7, 3)):
        assert ground(after, column, row) == ground(before, *middle(column, row))
    assert after[34735] == before[34735]
    assert after[42113].rstrip() == "-9999"
    assert "survey" in after[42112]
    assert "STATISTICS" not in after[42112]


def test_ground_control_points_move_in_the_image(folder):
    ties = (0, 0, 0, 1e5, 2e5, 0, 80, 0, 0, 1.1e5, 2.01e5, 0, 80, 60, 0, 1.2e5, 1.9e5, 0)
    write_geo("in.tif", heights(), scale=None, ties=ties)
    imgconv("apply", "-k", "identity", "--pool", "avg:2", "in.tif", "-o", "half.tif")
    expected = np.reshape(ties, (-1, 6)) * (0.5, 0.5, 1, 1, 1, 1)
    assert tags_of("half.tif")[33922] == tuple(expected.ravel())
    imgconv("apply", "-k", "box:3", "--padding", "valid", "in.tif", "-o", "cut.tif")
    expected = np.reshape(ties, (-1, 6)) - (1, 1, 0, 0, 0, 0)
    assert tags_of("cut.tif")[33922] == tuple(expected.ravel())


def test_rational_polynomials_count_lines_and_samples_of_the_result(folder):
    numbers = [0.0] * 92
    numbers[2:9] = [30, 40, 47.0, 8.0, 500.0, 60, 80]
    rpc = (50844, "d", 92, tuple(numbers))
    tifffile.imwrite("in.tif", heights(), extratags=[rpc], metadata=None)
    imgconv("apply", "-k", "box:3", "--stride", "2", "in.tif", "-o", "out.tif")
    assert tags_of("out.tif")[50844][2:9] == (15, 20, 47.0, 8.0, 500.0, 30, 40)


def test_a_pyramids_level_has_larger_pixels(folder):
    write_geo("in.tif", heights(601, 800))
    imgconv("apply", "-k", "identity", "in.tif", "--pyramid", "-o", "levels.tif")
    before = tags_of("in.tif")
    whole = tags_of("levels.tif")
    assert [whole[code] for code in (33550, 33922)] == [before[code] for code in (33550, 33922)]
    imgconv("apply", "-k", "identity", "levels.tif", "--level", "1", "-o", "half.tif")
    half = tags_of("half.tif")
    assert (half[256], half[257]) == (400, 301)
    assert half[33550] == (20, 40, 0)
    assert half[33922] == (0, 0, 0, 500000, 4600000, 7)


def test_a_turned_image_is_not_said_to_lie_where_it_lay(folder):
    write_geo("in.tif", heights(), resolution=(100, 200), resolutionunit=3)
    content = bytearray((folder / "in.tif").read_bytes())
    with tifffile.TiffFile("in.tif") as tiff:
        tag = tiff.pages[0].tags[277]  # made an Orientation of 6, which SamplesPerPixel 1 allows
        content[tag.offset : tag.offset + 12] = struct.pack("<HHII", 274, 3, 1, 6)
    (folder / "turned.tif").write_bytes(content)
    imgconv("apply", "-k", "box:3", "turned.tif", "-o", "out.tif")
    tags = tags_of("out.tif")
    assert (tags[256], tags[257]) == (60, 80)
    assert not {33550, 33922, 34735} & tags.keys()
    assert tags[42113].rstrip() == "-9999"
    assert (tags[282], tags[283]) == ((200, 1), (100, 1))
    assert 274 not in tags


@pytest.mark.parametrize("depth", ["8", "16", "32f"])
def test_nodata_is_kept_where_samples_can_have_it(folder, depth):
    write_geo("in.tif", heights())
    imgconv("apply", "-k", "box:3", "in.tif", "--scale", "minmax", "--depth", depth, "-o", "o.tif")
    assert (42113 in tags_of("o.tif")) == (depth == "32f")


def without_layout(tags):
    own = (*range(254, 260), 262, 273, 277, 278, 279, 284, 317, 338, 339, 65333)
    return {code: value for code, value in tags.items() if code not in own}


DESCRIBED = {
    "description": "Ein See – abends".encode(), "software": "scanner 1.0",
    "datetime": "2020:05:06 07:08:09", "resolution": (1200, 600), "resolutionunit": 2,
}  # fmt: skip
MORE = [
    (315, "s", 0, "Anna Beispiel"), (33432, "s", 0, "(c) Anna"), (316, "s", 0, "host"),
    (269, "s", 0, "a document"), (700, "B", len(camera.XMP), camera.XMP),
    (33723, "B", len(camera.iptc()), camera.iptc()), (40091, "B", 8, b"A\0n\0n\0a\0"),
    (34682, "s", 0, "[User]\nDate=1"),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("options", [[], ["--memory", "1M"], ["--scale", "minmax"], ["--pyramid"]])
def test_tags_of_a_tiff_come_back_also_in_bands_and_in_place(folder, dtype, options):
    pixels = np.random.default_rng(0).integers(0, 200, (300, 400, 3)).astype(dtype)
    tifffile.imwrite("a.tif", pixels, photometric="rgb", extratags=MORE, metadata=None, **DESCRIBED)
    shutil.copy("a.tif", "b.tif")
    before = without_layout(tags_of("a.tif"))
    assert len(before) == 14
    imgconv("apply", "-k", "box:3", "a.tif", "-o", "c.tif", *options)
    after = without_layout(tags_of("c.tif"))
    after.pop(330, None)
    before[700] = before[700].replace(b'tiff:Orientation="6"', b'tiff:Orientation="1"')
    start, stop = before[700].index(b"<xmp:Thumb"), before[700].index(b"</rdf:Description>")
    before[700] = before[700][:start] + before[700][stop:]
    for name, value in (("X", b"400"), ("Y", b"300")):
        old = {"X": b"96", "Y": b"64"}[name]
        mark = f"<e:Pixel{name}Dimension>".encode()
        before[700] = before[700].replace(mark + old, mark + value)
    assert after == before
    imgconv("apply", "-k", "box:3", "b.tif", "--in-place", *options)
    assert tags_of("b.tif")[282] == (1200, 1)
    assert json.loads(read_note("b.tif"))["input"]["name"] == "b.tif"


def test_what_exif_knows_goes_from_tiff_to_others_and_back(folder):
    tifffile.imwrite("a.tif", camera.photo(), photometric="rgb", extratags=MORE, metadata=None,
                     **DESCRIBED)  # fmt: skip
    for form in ("jpg", "png", "webp"):
        imgconv("apply", "-k", "box:3", "a.tif", "-o", f"b.{form}")
        main, _, _ = exif_of(f"b.{form}")
        assert main[0x010E].encode("latin-1").decode() == DESCRIBED["description"].decode()
        assert (main[0x013B], main[0x8298]) == ("Anna Beispiel", "(c) Anna")
        assert (main[0x011A], main[0x011B], main[0x0128]) == (1200, 600, 2)
        imgconv("apply", "-k", "box:3", f"b.{form}", "-o", "back.tif", "--overwrite")
        before, after = tags_of("a.tif"), tags_of("back.tif")
        for code in (270, 305, 306, 315, 316, 33432, 269, 282, 283, 296, 40091):
            assert after[code] == before[code]
        assert b"xpacket" in after[700]
        if form != "webp":
            assert bytes(after[33723]) == camera.iptc()
    assert opened("b.jpg").info["jfif_density"] == (1200, 600)


@pytest.mark.parametrize("order", "<>")
def test_a_cameras_directories_come_back_from_tiff(folder, order):
    (folder / "photo.jpg").write_bytes(camera.jpeg(order=order))
    imgconv("apply", "-k", "box:3", "photo.jpg", "-o", "a.tif")
    # Maker notes count their offsets from the start of the file.
    note = camera.maker_note(order)
    assert (folder / "a.tif").read_bytes()[camera.MAKER_NOTE_AT :].startswith(note)
    imgconv("apply", "-k", "identity", "a.tif", "-o", "b.tif")
    imgconv("apply", "-k", "identity", "b.tif", "-o", "back.jpg")
    imgconv("apply", "-k", "box:3", "photo.jpg", "-o", "direct.jpg")
    for one, other in zip(exif_of("back.jpg"), exif_of("direct.jpg"), strict=True):
        drop = (0x8769, 0x8825, 0x0112)
        assert {k: v for k, v in one.items() if k not in drop} == {
            k: v for k, v in other.items() if k not in drop
        }
    block = opened("back.jpg").info["exif"].removeprefix(b"Exif\0\0")
    assert block[camera.MAKER_NOTE_AT :].startswith(note)


@exiftool
def test_a_tiff_of_a_photo_has_its_tags_by_exiftool(folder):
    (folder / "photo.jpg").write_bytes(camera.jpeg())
    imgconv("apply", "-k", "identity", "photo.jpg", "-o", "a.tif")
    imgconv("apply", "-k", "identity", "a.tif", "-o", "b.tif")
    before = {key.split(":")[-1]: value for key, value in tags_by_exiftool("photo.jpg").items()
              if "JFIF" not in key and "IFD1" not in key}  # fmt: skip
    gone = {"SubjectArea", "Thumbnails", "PhotoshopThumbnail", "Orientation", "ThumbnailOffset",
            "ThumbnailLength", "ThumbnailImage", "Compression"}  # fmt: skip
    turned = {"ExifImageWidth": 64, "ExifImageHeight": 96}
    for name in ("a.tif", "b.tif"):
        after = {key.split(":")[-1]: value for key, value in tags_by_exiftool(name).items()}
        for key, value in before.items():
            if key not in gone:
                assert after[key] == turned.get(key, value), key


SHARPEN = "0 -1 0; -1 5 -1; 0 -1 0"


def sharpened(pixels):
    weights = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.int64)[..., None]
    found = ndimage.correlate(pixels.astype(np.int64), weights, mode="mirror")
    bounds = np.iinfo(pixels.dtype)
    return np.clip(found, bounds.min, bounds.max).astype(pixels.dtype)


def all_tags(path):
    """What ExifTool, or Pillow where that is not there, reads of a file beside its pixels."""
    if shutil.which("exiftool"):
        own = ("RowsPerStrip", "StripOffsets", "StripByteCounts", "Predictor", "SampleFormat",
               "Imgconv", ":Compression", "IFD0:Image")  # fmt: skip
        found = tags_by_exiftool(path)
        return {k: v for k, v in found.items() if not any(word in k for word in own)}
    main, photo, gps = exif_of(path)
    described = {tag: main[tag] for tag in camera.MAIN if tag in main}
    return {"main": described, "photo": photo, "gps": gps, "xmp": opened(path).info.get("xmp")}


@pytest.mark.parametrize("where", ["--in-place", "into a folder"])
def test_photos_and_scans_of_a_folder_keep_every_tag_and_are_filtered_to_the_pixel(folder, where):
    upright = {tag: value for tag, value in camera.MAIN.items() if tag != 0x0112}
    placed = {tag: value for tag, value in camera.EXIF.items() if tag not in (0xA002, 0xA003)}
    packet = camera.XMP.replace(b'Orientation="6"', b'Orientation="1"')
    start, stop = packet.index(b"<e:Pixel"), packet.index(b"</rdf:Description>")
    packet = packet[:start] + packet[stop:]
    deep = camera.photo().astype(np.uint16) * 257 + 3
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("MAIN", upright), ("EXIF", placed), ("XMP", packet)):
            patch.setattr(camera, name, value)
        for number in range(3):
            names[f"{number}.jpg"] = camera.jpeg(np.roll(camera.photo(), number, axis=1))
            names[f"{number}.tif"] = camera.tiff(np.roll(deep, number, axis=0))
    for part in ("before", "after"):
        (folder / part).mkdir()
        for name, content in names.items():
            (folder / part / name).write_bytes(content)
    if where == "--in-place":
        imgconv("apply", "-k", SHARPEN, *(f"after/{name}" for name in names), "--in-place", "-q")
    else:
        for name in names:
            imgconv("apply", "-k", SHARPEN, f"before/{name}", "-o", f"after/{name}", "--overwrite",
                    "-q")  # fmt: skip
    for name in names:
        before, after = all_tags(f"before/{name}"), all_tags(f"after/{name}")
        gone = {key for key in before if key not in after}
        assert all("IFD1" in key or "Thumbnail" in key for key in gone), gone
        assert {key: after[key] for key in before if key not in gone} == {
            key: value for key, value in before.items() if key not in gone
        }
        if name.endswith("tif"):
            result = tifffile.imread(f"after/{name}")
            np.testing.assert_array_equal(result, sharpened(tifffile.imread(f"before/{name}")))
        else:
            source = opened(f"before/{name}")
            buffer = io.BytesIO()
            Image.fromarray(sharpened(np.asarray(source))).save(
                buffer, "JPEG", qtables=source.quantization, subsampling=1
            )
            np.testing.assert_array_equal(opened(f"after/{name}"), Image.open(buffer))


def test_imagej_keeps_its_calibration(folder):
    stack = np.arange(3 * 60 * 80, dtype=np.uint16).reshape(3, 60, 80)
    tifffile.imwrite(
        "a.tif", stack, imagej=True, resolution=(2, 4),
        metadata={"unit": "um", "axes": "ZYX", "spacing": 1.5, "min": 0.0, "max": 99.0,
                  "Labels": ["a", "b", "c"]},
    )  # fmt: skip
    done = here("apply", "-k", "box:3", "a.tif", "--stride", "2", "-o", "b.tif", "--frame", "1")
    assert done.returncode == 0, done.stderr
    with tifffile.TiffFile("b.tif") as tiff:
        assert tiff.is_imagej
        assert tiff.series[0].shape == (30, 40)
        assert tiff.imagej_metadata["unit"] == "um"
        assert tiff.imagej_metadata["spacing"] == 1.5
        # One page, of other values: neither a stack nor its range is told, nor its labels.
        assert not {"images", "slices", "min", "max", "Labels"} & tiff.imagej_metadata.keys()
    done = here("apply", "-k", "box:3", "a.tif", "-o", "one.tif")
    assert not {50838, 50839} & tags_of("one.tif").keys()
    with tifffile.TiffFile("b.tif") as tiff:
        tags = {tag.code: tag.value for tag in tiff.pages[0].tags}
    assert (tags[282], tags[283], tags[296]) == ((1, 1), (2, 1), 1)
    # Other formats hold pixels an inch or a metre: 2 and 4 pixels a micrometre.
    here("apply", "-k", "box:3", "a.tif", "-o", "b.png")
    assert struct.unpack(">IIB", chunk(folder / "b.png", b"pHYs")) == (2_000_000, 4_000_000, 1)
    here("apply", "-k", "box:3", "a.tif", "-o", "b.ome.tif")
    with tifffile.TiffFile("b.ome.tif") as tiff:
        [pixels] = images_of(tiff.ome_metadata)
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.5, 0.25)


def chunk(path, kind):
    content = path.read_bytes()
    at = content.index(kind)
    return content[at + 4 : at + 4 + int.from_bytes(content[at - 4 : at], "big")]


def images_of(ome):
    found = tifffile.xml2dict(ome)["OME"]["Image"]
    return [image["Pixels"] for image in (found if isinstance(found, list) else [found])]


def test_ome_keeps_its_calibration_and_the_channel_that_was_read(folder):
    stack = np.arange(3 * 2 * 60 * 80, dtype=np.uint16).reshape(3, 2, 60, 80)
    tifffile.imwrite(
        "a.ome.tif", stack,
        metadata={"axes": "CZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm",
                  "PhysicalSizeY": 250, "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 2.0,
                  "Channel": {"Name": ["DAPI", "GFP", "Cy5"]}, "Name": "a sample"},
    )  # fmt: skip
    for name in ("b.ome.tif", "b.tif"):
        done = here("apply", "-k", "box:3", "a.ome.tif", "--frame", "3", "--stride", "2,1", "-o",
                    name)  # fmt: skip
        assert done.returncode == 0, done.stderr
        with tifffile.TiffFile(name) as tiff:
            assert tiff.is_ome
            assert tiff.series[0].shape == (30, 80)
            [pixels] = images_of(tiff.ome_metadata)
            assert 'Name="a sample"' in tiff.ome_metadata
        assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.5, 500)
        assert (pixels["PhysicalSizeYUnit"], pixels["PhysicalSizeZ"]) == ("nm", 2.0)
        assert (pixels["SizeX"], pixels["SizeY"]) == (80, 30)
        assert (pixels["SizeC"], pixels["SizeZ"], pixels["SizeT"]) == (1, 1, 1)
        assert pixels["Channel"]["Name"] == "GFP"  # frame 3 is channel 1's second slice
    here("apply", "-k", "box:3", "a.ome.tif", "-o", "b.png")
    assert struct.unpack(">IIB", chunk(folder / "b.png", b"pHYs")) == (2_000_000, 4_000_000, 1)


def test_the_encoding_that_ome_xml_declares_is_not_asked_for(folder):
    tifffile.imwrite("a.ome.tif", heights())
    content = (folder / "a.ome.tif").read_bytes()
    (folder / "b.ome.tif").write_bytes(content.replace(b'encoding="UTF-8"', b'encoding="UUF-8"'))
    imgconv("apply", "-k", "box:3", "b.ome.tif", "-o", "c.ome.tif")
    assert tifffile.imread("c.ome.tif").shape == (60, 80)


def test_a_bomb_in_ome_xml_is_left_out(folder):
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    text = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "a">{entities}]><OME>&a11;</OME>'
    tifffile.imwrite("a.tif", heights(), description=text, metadata=None, software="s")
    done = here("apply", "-k", "box:3", "a.tif", "-o", "b.tif", "--no-record")
    assert (done.returncode, done.stderr.count("metadata left out")) == (0, 1), done.stderr
    assert tags_of("b.tif")[305] == "s"
    assert 270 not in tags_of("b.tif")


@pytest.mark.parametrize("form", ["imagej", "ome"])
def test_a_whole_stack_comes_back_as_one(folder, form):
    stack = np.random.default_rng(0).integers(0, 999, (3, 2, 30, 40)).astype(np.uint16)
    name = "a.tif" if form == "imagej" else "a.ome.tif"
    if form == "imagej":
        told = {"unit": "um", "spacing": 2.0, "Labels": list("abcdef")}
        tifffile.imwrite(name, stack, imagej=True, resolution=(2, 4),
                         metadata=told | {"axes": "ZCYX"})  # fmt: skip
    else:
        told = {"PhysicalSizeX": 0.5, "PhysicalSizeZ": 2.0, "Channel": {"Name": ["A", "B"]}}
        tifffile.imwrite(name, stack, metadata=told | {"axes": "ZCYX"})
    imgconv("apply", "-k", "identity", name, "--frame", "all", "-o", f"all-{name}")
    imgconv("apply", "-k", "identity", name, "--frame", "all", "--in-place")
    for written in (f"all-{name}", name):
        with tifffile.TiffFile(written) as tiff:
            assert (tiff.series[0].axes, tiff.series[0].shape) == ("ZCYX", stack.shape)
            np.testing.assert_array_equal(tiff.asarray(), stack)
            if form == "imagej":
                assert {key: tiff.imagej_metadata[key] for key in told} == told
            else:
                [pixels] = images_of(tiff.ome_metadata)
                assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeZ"]) == (0.5, 2)
                assert [one["Name"] for one in pixels["Channel"]] == ["A", "B"]


def test_each_page_keeps_its_own_place(folder):
    with tifffile.TiffWriter("a.tif") as writer:
        for number in range(3):
            extra = [(33550, "d", 3, (10.0 + number, 10, 0)), (33922, "d", 6, (0, 0, 0, 5, 6, 7))]
            writer.write(heights() + number, extratags=extra, metadata=None, contiguous=False,
                         description=f"page {number}", software=False)  # fmt: skip
    imgconv("apply", "-k", "box:3", "a.tif", "--stride", "2", "--frame", "all", "-o", "b.tif")
    for number in range(3):
        tags = tags_of("b.tif", number)
        assert tags[33550] == (2 * (10 + number), 20, 0)
        assert tags[270] == f"page {number}"


def test_the_record_is_the_description_where_there_is_none_and_else_beside_it(folder):
    tifffile.imwrite("plain.tif", heights(), metadata=None)
    tifffile.imwrite("said.tif", heights(), description="a map", metadata=None)
    tifffile.imwrite("o.ome.tif", heights(), metadata={"axes": "YX", "PhysicalSizeX": 0.5})
    tifffile.imwrite("ij.tif", heights(), imagej=True)
    for name, where in (("plain.tif", 270), ("said.tif", 65333), ("o.ome.tif", 270),
                        ("ij.tif", 65333)):  # fmt: skip
        # Twice: from an input without a record, and from one with another's.
        imgconv("apply", "-k", "box:3", name, "-o", f"1-{name}")
        imgconv("apply", "-k", "box:3", f"1-{name}", "-o", f"2-{name}")
        for written, source in ((f"1-{name}", name), (f"2-{name}", f"1-{name}")):
            tags = tags_of(written)
            assert json.loads(read_note(written))["input"]["name"] == source
            assert '"record": 1' in tags[where]
            assert str(tags).count('"record": 1') == 1
            assert here("repeat", written).stdout == f"{written}: the same bytes from {source}\n"
        assert (65333 in tags) == (where == 65333)
    assert tags_of("2-said.tif")[270] == "a map"
    with tifffile.TiffFile("2-o.ome.tif") as tiff:
        assert tiff.is_ome
        [pixels] = images_of(tiff.ome_metadata)
        assert pixels["PhysicalSizeX"] == 0.5


def test_a_record_in_a_description_is_found_and_not_carried(folder):
    record = {"imgconv": "0.1.0", "record": 1, "command": "apply", "options": {}}
    tifffile.imwrite("old.tif", heights(), description=json.dumps(record), metadata=None)
    assert json.loads(read_note("old.tif")) == record
    imgconv("apply", "-k", "box:3", "old.tif", "--no-record", "-o", "new.tif")
    assert 270 not in tags_of("new.tif")
    assert read_note("new.tif") == ""


def test_a_record_in_ome_xml_is_found_and_not_carried(folder):
    record = {"imgconv": "0.1.0", "record": 1, "command": "apply", "options": {}}
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
        '2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="float" '
        'SizeX="80" SizeY="60" SizeC="1" SizeZ="1" SizeT="1"><Channel ID="Channel:0:0" '
        'SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"/></Pixels></Image>'
        '<StructuredAnnotations><CommentAnnotation ID="Annotation:0" Namespace="imgconv"><Value>'
        f"{json.dumps(record)}</Value></CommentAnnotation></StructuredAnnotations></OME>"
    )
    tifffile.imwrite("old.ome.tif", heights(), description=text, metadata=None)
    assert json.loads(read_note("old.ome.tif")) == record
    imgconv("apply", "-k", "box:3", "old.ome.tif", "--no-record", "-o", "new.ome.tif")
    assert "imgconv" not in tags_of("new.ome.tif")[270]
    with tifffile.TiffFile("new.ome.tif") as tiff:
        assert tiff.is_ome


def test_directories_of_a_tiff_that_lead_in_circles_are_left_out(folder):
    (folder / "photo.jpg").write_bytes(camera.jpeg())
    imgconv("apply", "-k", "box:3", "photo.jpg", "-o", "a.tif")
    content = bytearray((folder / "a.tif").read_bytes())
    for number, target in ((0x8769, 1 << 31), (0x8825, 7)):
        at = content.index(struct.pack("<HHI", number, 4, 1))
        content[at + 8 : at + 12] = struct.pack("<I", target)
    (folder / "b.tif").write_bytes(content)
    done = here("apply", "-k", "box:3", "b.tif", "-o", "c.tif")
    assert (done.returncode, done.stderr.count("metadata left out")) == (0, 1), done.stderr
    assert tags_of("c.tif")[33432] == "(c) Anna Beispiel"


def test_big_endian_and_bigtiff_come_back(folder):
    for options in ({"byteorder": ">"}, {"bigtiff": True}, {"bigtiff": True, "byteorder": ">"}):
        write_geo("a.tif", heights(), description="a map", resolution=(100, 50), **options)
        imgconv("apply", "-k", "box:3", "a.tif", "-o", "b.tif", "--overwrite")
        before, after = without_layout(tags_of("a.tif")), without_layout(tags_of("b.tif"))
        before[42112] = after[42112]
        assert after == before


@pytest.mark.cluster
def test_parts_of_a_cluster_are_put_together_with_the_metadata(folder):
    write_geo("a.tif", np.tile(heights(), (20, 20)), description="a map", rowsperstrip=64)
    imgconv("apply", "-k", "box:3", "a.tif", "-o", "b.tif")
    imgconv("apply", "-k", "box:3", "a.tif", "-o", "c.tif", "--cluster", "local:2", "--memory",
            "2M", "-q")  # fmt: skip
    assert without_layout(tags_of("b.tif")) == without_layout(tags_of("c.tif"))
    assert (folder / "b.tif").read_bytes() == (folder / "c.tif").read_bytes()
