"""Reading: what each file becomes, what is refused, and that nothing is clipped on the way."""

import io
import os
import re
import struct
import sys
import threading
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms

from imgconv.errors import ImageError, ImgconvError, LimitError, UsageError
from imgconv.io.codecs.orientation import oriented
from imgconv.io.limits import MAX_PIXELS
from imgconv.io.reading import count_frames, read_images
from imgconv.io.tiff import samples as tiff_samples

CORPORA = Path(__file__).parents[3] / "shared" / "corpora"
RANDOM = np.random.default_rng(20)


def read(source, **options):
    (image,) = read_images(source, **options)
    return image


def saved(picture, form, **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def corpus(folder):
    found = sorted((CORPORA / folder).glob("*")) if CORPORA.is_dir() else []
    return found or [pytest.param(None, marks=pytest.mark.skip(reason="no corpora beside us"))]


def samples(*shape, dtype=np.uint8):
    return RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


# Modes


GRAY = samples(9, 11)
COLOR = samples(9, 11, 3)
PALETTED = Pillow.fromarray(COLOR).quantize(16)


def test_bilevel_becomes_0_and_255():
    bits = GRAY > 127
    image = read(saved(Pillow.fromarray(bits), "PNG"))
    assert image.pixels.tolist() == (bits * 255)[..., None].tolist()
    for form in ("TIFF", "BMP", "PPM", "GIF", "PCX"):
        image = read(saved(Pillow.fromarray(bits), form))
        assert set(np.unique(image.pixels)) == {0, 255}, form
        assert image.pixels[..., 0].tolist() == (bits * 255).tolist(), form


@pytest.mark.parametrize(
    ("mode", "shape", "alpha"),
    [("L", (9, 11), False), ("LA", (9, 11, 2), True), ("RGB", (9, 11, 3), False),
     ("RGBA", (9, 11, 4), True)],
)  # fmt: skip
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG2000", "TGA"])
def test_eight_bit_samples_are_kept(mode, shape, alpha, form):
    if form == "WEBP" and mode in ("L", "LA"):
        pytest.skip("WebP has no gray")
    pixels = samples(*shape)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    image = read(saved(Pillow.fromarray(pixels), form, **options), format=form.lower())
    assert image.pixels.tolist() == pixels.reshape(9, 11, -1).tolist()
    assert image.alpha is alpha
    assert image.pixels.flags.c_contiguous


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF", "BMP"])
def test_a_palette_gives_colors_not_indices(form):
    image = read(saved(PALETTED, form))
    assert image.pixels.tolist() == np.asarray(PALETTED.convert("RGB")).tolist()
    assert not image.alpha


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_palette_with_transparency_gives_opacity(form):
    image = read(saved(PALETTED, form, transparency=3))
    assert image.alpha
    expected = np.where(np.asarray(PALETTED) == 3, 0, 255)
    assert image.pixels[..., 3].tolist() == expected.tolist()
    opaque = expected > 0
    wanted = np.asarray(PALETTED.convert("RGB"))[opaque]
    assert image.pixels[..., :3][opaque].tolist() == wanted.tolist()


def test_a_palette_with_an_opacity_channel_becomes_rgba():
    picture = PALETTED.convert("PA")
    picture.putalpha(Pillow.fromarray(GRAY))
    image = read(saved(picture, "TIFF"))
    assert image.alpha
    assert image.pixels[..., :3].tolist() == np.asarray(PALETTED.convert("RGB")).tolist()
    assert image.pixels[..., 3].tolist() == GRAY.tolist()


@pytest.mark.parametrize(
    ("mode", "key", "alpha_of"),
    [("L", 7, lambda p: p == 7), ("RGB", (1, 2, 3), lambda p: (p == [1, 2, 3]).all(-1))],
)
def test_one_transparent_color_becomes_opacity(mode, key, alpha_of):
    pixels = samples(6, 6) if mode == "L" else samples(6, 6, 3)
    pixels[2, 3] = key
    data = saved(Pillow.fromarray(pixels), "PNG", transparency=key)
    image = read(data)
    assert image.pixels[..., -1].tolist() == np.where(alpha_of(pixels), 0, 255).tolist()
    assert image.alpha


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_color_spaces_become_rgb(mode):
    smooth = np.linspace(30, 220, 300).reshape(10, 10, 3).astype(np.uint8)
    rgb = Pillow.fromarray(smooth)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(rgb, *profiles, outputMode="LAB")
    else:
        picture = rgb.convert(mode)
    image = read(saved(picture, "TIFF", icc_profile=b"a profile of other colors"))
    assert image.pixels.shape == (10, 10, 3)
    assert np.abs(image.pixels.astype(int) - smooth).max() <= (4 if mode == "LAB" else 2)
    assert image.icc is None


def test_inverted_cmyk_of_adobe_jpegs_is_not_a_negative():
    flat = np.full((16, 16, 3), (200, 120, 40), np.uint8)
    data = saved(Pillow.fromarray(flat).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(read(data).pixels.astype(int) - flat).max() <= 3


# Deep samples


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bit_gray_is_not_clipped(form):
    pixels = samples(9, 11, dtype=np.uint16)
    image = read(saved(Pillow.fromarray(pixels), form))
    assert image.pixels.dtype == np.uint16
    assert image.pixels[..., 0].tolist() == pixels.tolist()


def test_16_bit_big_endian_tiff_is_not_swapped():
    pixels = samples(9, 11, dtype=np.uint16)
    picture = Pillow.frombytes("I;16B", (11, 9), pixels.astype(">u2").tobytes())
    assert read(saved(picture, "TIFF")).pixels[..., 0].tolist() == pixels.tolist()


def test_signed_32_bit_and_float_gray():
    wide = RANDOM.integers(-(2**31), 2**31, (5, 6), np.int32)
    image = read(saved(Pillow.fromarray(wide), "TIFF"))
    assert image.pixels.dtype == np.int32
    assert image.pixels[..., 0].tolist() == wide.tolist()
    floats = RANDOM.normal(0, 1e6, (5, 6)).astype(np.float32)
    image = read(saved(Pillow.fromarray(floats), "TIFF"))
    assert image.pixels.dtype == np.float32
    assert image.pixels[..., 0].tolist() == floats.tolist()


def opencv(form, pixels, *options):
    swapped = pixels if pixels.shape[2] == 1 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    done, data = cv2.imencode(form, swapped, list(options))
    assert done
    return data.tobytes()


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("form", [".png", ".tiff"])
def test_16_bit_color_stays_16_bit(form, channels):
    pixels = samples(20, 33, channels, dtype=np.uint16)
    image = read(opencv(form, pixels))
    assert image.pixels.dtype == np.uint16
    assert image.pixels.tolist() == pixels.tolist()
    assert image.alpha is (channels == 4)


LZW, NO_PREDICTOR, DEFLATE, PACKBITS = 5, 1, 8, 32773


@pytest.mark.parametrize("compression", [1, LZW, DEFLATE, PACKBITS])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_deep_tiff_of_every_lossless_compression(compression, dtype):
    pixels = RANDOM.normal(0, 1, (40, 17, 3)) * 1000
    pixels = pixels.astype(dtype) if dtype != np.uint16 else samples(40, 17, 3, dtype=dtype)
    options = (cv2.IMWRITE_TIFF_COMPRESSION, compression)
    image = read(opencv(".tiff", pixels, *options))
    assert image.pixels.dtype == dtype
    assert image.pixels.tolist() == pixels.tolist()


TIFFFILE_CASES = [
    ("uint16", (20, 33), {}),
    ("uint16", (20, 33, 3), {"compression": "zlib", "predictor": True}),
    ("uint16", (20, 33, 3), {"planarconfig": "separate"}),
    ("uint16", (40, 70, 3), {"tile": (16, 32)}),
    ("uint16", (40, 70, 3), {"tile": (16, 32), "compression": "zlib", "predictor": True}),
    ("uint16", (20, 33, 3), {"byteorder": ">"}),
    ("uint16", (20, 33, 3), {"bigtiff": True, "rowsperstrip": 3}),
    ("uint8", (20, 33, 7), {}),
    ("int8", (20, 33), {}),
    ("int16", (20, 33), {"byteorder": ">"}),
    ("uint32", (20, 33), {}),
    ("int32", (20, 33, 3), {}),
    ("float16", (20, 33), {}),
    ("float32", (20, 33, 3), {"compression": "zlib"}),
    ("float64", (20, 33, 5), {"planarconfig": "separate", "bigtiff": True}),
]


@pytest.mark.parametrize(("dtype", "shape", "options"), TIFFFILE_CASES)
def test_tiff_layouts_of_science(dtype, shape, options):
    if dtype.startswith("float"):
        pixels = RANDOM.normal(0, 9, shape).astype(dtype)
    else:
        bounds = np.iinfo(dtype)
        pixels = RANDOM.integers(bounds.min, bounds.max, shape, dtype, endpoint=True)
    options = dict(options)
    separate = options.get("planarconfig") == "separate"
    header = {key: options.pop(key) for key in ("byteorder", "bigtiff") if key in options}
    photometric = "rgb" if shape[2:] == (3,) else "minisblack"
    if "planarconfig" not in options and len(shape) == 3:
        options["planarconfig"] = "contig"
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, **header) as writer:
        data = np.moveaxis(pixels, -1, 0) if separate else pixels
        writer.write(data, photometric=photometric, metadata=None, **options)
    image = read(buffer.getvalue())
    assert image.pixels.tolist() == pixels.reshape(*shape[:2], -1).tolist()
    assert not image.alpha


def tiff(tags, strip, order="<"):
    """A TIFF of one strip, from (tag, value or values) pairs."""
    place = 8 + len(strip) + len(strip) % 2
    entries, extra = b"", b""
    tags = sorted({**dict(tags), 273: 8, 279: len(strip)}.items())
    outside = place + 2 + 12 * len(tags) + 4
    for tag, values in tags:
        values = values if isinstance(values, tuple) else (values,)
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > 4:
            extra += packed
            packed = struct.pack(order + "I", outside + len(extra) - len(packed))
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + packed
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, place)
    body = head + strip + b"\0" * (len(strip) % 2)
    return body + struct.pack(order + "H", len(tags)) + entries + bytes(4) + extra


def test_float_predictor():
    pixels = RANDOM.normal(0, 1, (3, 5)).astype(np.float32)
    planes = pixels.astype(">f4").view(np.uint8).reshape(3, 5, 4).transpose(0, 2, 1).reshape(3, 20)
    stored = np.concatenate([planes[:, :1], np.diff(planes, axis=1)], axis=1).astype(np.uint8)
    tags = [(256, 5), (257, 3), (258, 32), (259, 8), (262, 1), (277, 1), (278, 3), (317, 3),
            (339, 3)]  # fmt: skip
    data = tiff(tags, zlib.compress(stored.tobytes()))
    assert read(data).pixels[..., 0].tolist() == pixels.tolist()


def test_images_that_follow_each_other_in_a_stream_are_frames():
    one = b"P6 2 1 255\n" + bytes(range(6))
    assert read(one).notes == read(one + b"\n").notes == read(one + b"rest").notes == []
    floats = b"Pf 1 1 -1.0\n" + np.float32(2.5).tobytes()
    stream = one + b"P5 1 1 65535\n\0\1" + b"\nP4 9 2\n\x81\x80\xff\0" + floats + one
    wanted = [
        [[[0, 1, 2], [3, 4, 5]]], [[[1]]],
        [[[0], *[[255]] * 6, [0], [0]], [*[[0]] * 8, [255]]], [[[2.5]]], [[[0, 1, 2], [3, 4, 5]]],
    ]  # fmt: skip
    images = list(read_images(stream, frame="all"))
    assert [image.pixels.tolist() for image in images] == wanted
    assert [(image.frame, image.frames) for image in images] == [(k, 5) for k in range(5)]
    assert count_frames(stream).number == 5
    first = read(stream, name="five.ppm")
    assert first.notes == ["five.ppm: only the first of 5 frames is read; see --frame"]
    # What is broken further on does not matter to the first.
    assert read(one + b"P6 9 9 255\n").pixels.tolist() == wanted[0]
    with pytest.raises(ImageError, match="truncated"):
        list(read_images(one + b"P6 9 9 255\n", frame=1))
    with pytest.raises(ImageError, match="header"):
        list(read_images(one + b"P6 9 x 255\n", frame=1))


def test_white_is_zero_is_inverted():
    pixels = samples(3, 5, dtype=np.uint16)
    tags = [(256, 5), (257, 3), (258, 16), (259, 1), (262, 0), (277, 1), (278, 3)]
    assert read(tiff(tags, pixels.tobytes())).pixels[..., 0].tolist() == (65535 - pixels).tolist()


def test_premultiplied_16_bit_is_divided():
    stored = np.array([[[1000, 2000, 3000, 32768], [9, 9, 9, 0]]], np.uint16)
    tags = [(256, 2), (257, 1), (258, (16,) * 4), (259, 1), (262, 2), (277, 4), (278, 1), (338, 1)]
    image = read(tiff(tags, stored.tobytes()))
    assert image.pixels.tolist() == [[[2000, 4000, 6000, 32768], [0, 0, 0, 0]]]
    assert image.alpha


def test_premultiplied_8_bit_is_divided():
    stored = np.array([[[10, 20, 30, 128], [0, 0, 0, 0]]], np.uint8)
    tags = [(256, 2), (257, 1), (258, (8,) * 4), (259, 1), (262, 2), (277, 4), (278, 1), (338, 1)]
    image = read(tiff(tags, stored.tobytes()))
    assert np.abs(image.pixels[0, 0].astype(int) - [20, 40, 60, 128]).max() <= 1
    assert image.alpha


def test_bands_of_no_stated_meaning_are_kept():
    stored = samples(4, 6, 4, dtype=np.uint16)
    tags = [(256, 6), (257, 4), (258, (16,) * 4), (259, 1), (262, 2), (277, 4), (278, 4), (338, 0)]
    image = read(tiff(tags, stored.tobytes(), "<"))
    assert image.pixels.tolist() == stored.tolist()
    assert not image.alpha


@pytest.mark.parametrize(("compression", "words"), [
    (34887, "LERC) needs imagecodecs: pip install 'imgconv[tiff]'"),
    (34934, "JPEGXR) is not read"),
    (4711, "compression 4711 is not read"),
])  # fmt: skip
def test_a_codec_that_is_not_there_is_named(monkeypatch, compression, words):
    monkeypatch.setattr(tiff_samples, "has_imagecodecs", lambda: False)
    tags = [(256, 5), (257, 3), (258, (16,) * 3), (259, compression), (262, 2), (277, 3), (278, 3)]
    with pytest.raises(ImageError, match=re.escape(words)):
        read(tiff(tags, bytes(90)))


# Number grids and arrays


def test_a_grid_of_numbers_becomes_float64():
    image = read(b"3 3 2\n0, 0, 1 # comment\n\n", format="txt")
    assert image.pixels.dtype == np.float64
    assert image.pixels[..., 0].tolist() == [[3, 3, 2], [0, 0, 1]]
    assert read(b"1;2\n3;4.5").pixels[..., 0].tolist() == [[1, 2], [3, 4.5]]
    assert read(b"1 2\n\n3 4\n").pixels.tolist() == [[[1, 3], [2, 4]]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1 2\n3", "line 2 has 1 numbers, expected 2"),
        (b"1 2\n3 x", "line 2: 'x' is not a number"),
        (b"# nothing\n", "no numbers"),
        (b"1 2\n\n3\n", "different sizes"),
        (b"\xff\xfe\x00", "not text"),
    ],
)
def test_a_bad_grid_names_the_line(text, message):
    with pytest.raises(ImageError, match=message):
        read(text, format="csv", name="grid.csv")


@pytest.mark.parametrize(
    ("stored", "shape", "dtype"),
    [
        (np.arange(6, dtype=np.uint8).reshape(2, 3), (2, 3, 1), np.uint8),
        (np.arange(12, dtype=">u2").reshape(2, 2, 3), (2, 2, 3), np.uint16),
        (np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)), (2, 3, 1), np.float32),
        (np.arange(6, dtype=np.int64).reshape(2, 3) - 3, (2, 3, 1), np.float64),
        (np.arange(6, dtype=np.int8).reshape(2, 3) - 3, (2, 3, 1), np.int16),
        (np.arange(6, dtype=np.float16).reshape(2, 3), (2, 3, 1), np.float32),
        (np.arange(4, dtype=np.float64), (1, 4, 1), np.float64),
    ],
)
def test_npy(stored, shape, dtype):
    buffer = io.BytesIO()
    np.save(buffer, stored)
    image = read(buffer.getvalue())
    assert image.pixels.shape == shape
    assert image.pixels.dtype == dtype
    assert image.pixels.ravel().tolist() == stored.ravel(order="C").tolist()
    assert image.pixels.flags.c_contiguous


def test_booleans_become_0_and_255():
    buffer = io.BytesIO()
    np.save(buffer, np.array([[True, False]]))
    assert read(buffer.getvalue()).pixels.tolist() == [[[255], [0]]]


def test_npz_members_are_frames():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros((2, 2)), b=np.ones((5, 3, 3, 1), np.uint8), imgconv=np.array("{}"))
    images = list(read_images(buffer.getvalue(), frame="all"))
    assert [image.pixels.shape for image in images] == [(2, 2, 1)] + [(3, 3, 1)] * 5
    assert images[3].info["member"] == "b"
    assert images[3].frame == 3
    assert read(buffer.getvalue(), frame=5).pixels.tolist() == np.ones((3, 3, 1)).tolist()


class Canary:
    def __reduce__(self):
        return os.mkdir, (str(Path(os.environ["CANARY"])),)


@pytest.mark.parametrize("save", [np.save, np.savez])
def test_pickles_are_refused_and_not_run(save, tmp_path, monkeypatch):
    monkeypatch.setenv("CANARY", str(tmp_path / "ran"))
    buffer = io.BytesIO()
    save(buffer, np.array([Canary()], object))
    with pytest.raises(ImageError, match="pickled"):
        read(buffer.getvalue())
    assert not (tmp_path / "ran").exists()


def test_a_huge_npy_header_is_refused_before_allocation():
    header = b"{'descr':'<f8','fortran_order':False,'shape':(1000000000,1000000)}"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with pytest.raises(LimitError, match="--max-pixels"):
        read(data)
    header = header.replace(b"1000000000,1000000", b"10000,1000")
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with pytest.raises(ImageError, match="truncated"):
        read(data)


def test_an_npz_bomb_is_refused_on_its_declared_size():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros((4000, 4000), np.uint8))
    with pytest.raises(LimitError, match="--max-pixels"):
        read(buffer.getvalue(), max_pixels=10_000)


# PNM and PFM


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("plain", [False, True])
def test_pnm_against_opencv(channels, dtype, plain):
    pixels = samples(7, 5, channels, dtype=dtype)
    form = ".pgm" if channels == 1 else ".ppm"
    data = opencv(form, pixels, cv2.IMWRITE_PXM_BINARY, int(not plain))
    image = read(data)
    assert image.pixels.dtype == dtype
    assert image.pixels.tolist() == pixels.tolist()


def test_pnm_of_another_maximum_fills_the_range():
    assert read(b"P5 3 1 3\n\x00\x01\x03").pixels.ravel().tolist() == [0, 85, 255]
    data = b"P2\n# made by hand\n3 1\n1023\n0 512 1023"
    assert read(data).pixels.ravel().tolist() == [0, round(512 * 65535 / 1023), 65535]
    with pytest.raises(ImageError, match="above the maximum"):
        read(b"P5 1 1 3\n\x04")


def test_pfm_rows_go_upwards_and_the_scale_is_the_byte_order():
    rows = np.array([[1.5, 2.5], [-3, 4]], np.float32)
    little = b"Pf\n2 2\n-1.0\n" + rows[::-1].astype("<f4").tobytes()
    big = b"Pf\n2 2\n1.0\n" + rows[::-1].astype(">f4").tobytes()
    assert read(little).pixels[..., 0].tolist() == rows.tolist()
    assert read(big).pixels[..., 0].tolist() == rows.tolist()


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_orientation_is_applied_once(form, orientation):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24] = 255
    upright[16:, 24:, 0] = 255
    # The stored image is what the viewer would have to turn: the inverse, by NumPy.
    turns = {
        1: lambda p: p, 2: np.fliplr, 3: lambda p: np.rot90(p, 2), 4: np.flipud,
        5: lambda p: p.transpose(1, 0, 2), 6: lambda p: np.rot90(p, 1),
        7: lambda p: np.rot90(p.transpose(1, 0, 2), 2), 8: lambda p: np.rot90(p, -1),
    }  # fmt: skip
    stored = Pillow.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if form == "JPEG" else {}
    options |= {"lossless": True} if form == "WEBP" else {}
    image = read(saved(stored, form, exif=exif.tobytes(), **options))
    assert image.pixels.shape == upright.shape
    assert np.abs(image.pixels.astype(int) - upright).max() <= (4 if form == "JPEG" else 0)
    assert image.pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_agrees_with_pillow(orientation):
    stored = Pillow.fromarray(samples(5, 8, 3))
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    from PIL import ImageOps

    seen = ImageOps.exif_transpose(Pillow.open(io.BytesIO(saved(stored, "PNG", exif=exif))))
    assert oriented(np.asarray(stored), orientation).tolist() == np.asarray(seen).tolist()


def test_orientation_of_a_deep_tiff():
    pixels = samples(3, 5, dtype=np.uint16)
    tags = [(256, 5), (257, 3), (258, 16), (259, 1), (262, 1), (274, 6), (277, 1), (278, 3)]
    expected = np.rot90(pixels, -1)
    assert read(tiff(tags, pixels.tobytes())).pixels[..., 0].tolist() == expected.tolist()


@pytest.mark.parametrize("family", ["g4_orientation_*.tif", "hopper_orientation_*.jpg",
                                    "hopper_orientation_*.webp"])  # fmt: skip
def test_all_orientations_of_the_corpus_look_the_same(family):
    paths = sorted((CORPORA / "orientation").glob(family)) if CORPORA.is_dir() else []
    if not paths:
        pytest.skip("no corpora beside us")
    images = [read(path).pixels.astype(int) for path in paths]
    for image in images[1:]:
        assert image.shape == images[0].shape
        # They were encoded after turning, so that a few pixels differ; a wrong turn gives 30.
        assert np.abs(image - images[0]).mean() < 5


# Frames


@pytest.fixture(scope="module")
def animation():
    return [Pillow.fromarray(np.full((4, 6, 3), level, np.uint8)) for level in (0, 100, 200)]


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_frames(form, animation):
    options = {"lossless": True} if form == "WEBP" else {}
    data = saved(animation[0], form, save_all=True, append_images=animation[1:], **options)
    first = read(data, name="a.gif")
    assert first.frames == 3
    assert first.pixels[..., :3].max() == 0
    assert len(first.notes) == 1
    assert "first of 3 frames" in first.notes[0]
    assert [i.pixels[0, 0, 0] for i in read_images(data, frame="all")] == [0, 100, 200]
    third = read(data, frame=2)
    assert (third.pixels[0, 0, 0], third.frame, third.notes) == (200, 2, [])
    with pytest.raises(ImageError, match=r"no frame 3: it has 3 \(0 to 2\)"):
        read(data, frame=3)


def test_an_animation_never_loses_bits_in_silence():
    pixels = samples(3, 5, 3, dtype=np.uint16)
    data = bytearray(opencv(".png", pixels))
    chunk = b"acTL" + struct.pack(">II", 1, 0)
    data[33:33] = struct.pack(">I", 8) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert "reduced to 8 bits" in read(bytes(data)).notes[-1]


@pytest.mark.parametrize("frame", ["last", -1, "1.5", 2.0])
def test_a_bad_frame_is_a_usage_error(frame):
    with pytest.raises(UsageError, match="expected a number from 0, or all"):
        read(b"P5 1 1 255\n\x00", frame=frame)


# Limits and refusals


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "QOI"])
def test_the_limit_of_pixels_holds_and_names_the_option(form):
    data = saved(Pillow.fromarray(samples(20, 30, 3)), form)
    assert read(data, max_pixels=600).pixels.shape == (20, 30, 3)
    with pytest.raises(LimitError, match="--max-pixels"):
        read(data, max_pixels=599)


def test_a_large_declared_size_is_refused_before_allocation():
    header = b"IHDR" + struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    data += struct.pack(">I", zlib.crc32(header)) + bytes(100)
    with pytest.raises(LimitError, match=str(MAX_PIXELS)):
        read(data)
    with pytest.raises(LimitError):
        read(b"P6 99999 99999 255\n" + bytes(1000))


def test_the_limit_can_be_raised_beyond_pillows_own(monkeypatch):
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 100)
    data = saved(Pillow.fromarray(samples(20, 30, 3)).quantize(8), "GIF")
    assert read(data, max_pixels=600).pixels.shape == (20, 30, 3)
    assert Pillow.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript is not read"),
        (b"\xc5\xd0\xd3\xc6" + bytes(60), "EPS is not read"),
        (b"%PDF-1.7\n", "PDF is not read"),
        (b"\xd7\xcd\xc6\x9a" + bytes(60), "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"", "empty file"),
    ],
)
def test_other_files_named_png_start_no_helper(content, message, tmp_path, monkeypatch):
    def no_helper(*arguments, **options):
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr("subprocess.Popen", no_helper)
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ImageError, match=r"nothing\.png: No such file"):
        read(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="Is a directory"):
        read(tmp_path)
    with pytest.raises(ImageError, match="null byte"):
        read("a\0b")
    with pytest.raises(UsageError, match="expected one of"):
        read(b"P5 1 1 255\n\x00", format="docx")


def test_a_device_without_end_is_left_at_once():
    start = time.monotonic()
    with pytest.raises(ImageError, match="not an image"):
        read("/dev/zero")
    assert time.monotonic() - start < 1


def test_names_are_taken_literally(tmp_path):
    for raw in (b"-", b"%d[0]{}.ppm", b"new\nline.ppm", b"caf\xe9.ppm", b"x" * 251 + b".ppm"):
        path = os.path.join(os.fsencode(tmp_path), raw)
        with open(path, "wb") as file:
            file.write(b"P5 1 1 255\n\x07")
        image = read(os.fsdecode(path))
        assert image.pixels.tolist() == [[[7]]]
        assert image.name == os.fsdecode(path)


def test_a_pipe_is_read(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    data = saved(Pillow.fromarray(samples(300, 300, 3)), "TIFF")
    writer = threading.Thread(target=lambda: path.write_bytes(data))
    writer.start()
    assert read(path).pixels.shape == (300, 300, 3)
    writer.join()


def test_profiles_are_carried(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for form in ("PNG", "JPEG", "TIFF", "WEBP"):
        data = saved(Pillow.fromarray(samples(8, 8, 3)), form, icc_profile=profile)
        assert read(data).icc == profile, form


# Damage


SMALL = Pillow.fromarray(samples(12, 14, 3))


def broken_ok(data, **options):
    """Whether data gives an image; an error has to be ours and one line."""
    message = ""
    try:
        images = list(read_images(data, frame="all", **options))
    except ImgconvError as error:
        message = str(error)
    assert "\n" not in message
    return not message and all(image.pixels.ndim == 3 for image in images)


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("WEBP", {}),
     ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("PPM", {}), ("QOI", {})],
)  # fmt: skip
def test_a_prefix_is_refused_unless_all_pixels_are_there(form, options):
    data = saved(SMALL, form, **options)
    whole = read(data)
    # The last rows of a BMP and the last directory of a TIFF may end in padding.
    spare = {"TIFF": 4, "BMP": 2}.get(form, 0)
    taken = []
    for length in range(len(data) - spare):
        if broken_ok(data[:length]):
            found = read(data[:length])
            assert any("truncated" in note for note in found.notes), f"{length} of {len(data)}"
            assert np.array_equal(found.pixels, whole.pixels), f"{length} of {len(data)} bytes"
            taken.append(length)
    ends = {"JPEG": 2, "GIF": 1}.get(form, 0)
    assert taken[-ends:] == list(range(len(data) - ends, len(data)))
    assert not taken if not ends else len(taken) <= ends + 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TGA"])
def test_of_a_file_that_was_cut_the_rows_before_are_taken_on_request(form):
    image = Pillow.fromarray(samples(96, 80, 3))
    data = saved(image, form, **({"compress_level": 0} if form == "PNG" else {}))
    whole, cut = read(data, format=form.lower()).pixels, data[: len(data) * 3 // 4]
    with pytest.raises(ImageError):
        read(cut, format=form.lower())
    found = read(cut, format=form.lower(), partial=True)
    there = slice(64, None) if form in ("BMP", "TGA") else slice(32)  # these begin at the bottom
    assert np.array_equal(found.pixels[there], whole[there])
    assert not np.array_equal(found.pixels, whole)
    assert any("truncated" in note for note in found.notes)


def bmp(values, masks, size=56):
    """A BMP of unsigned integers whose colors are where the masks say."""
    height, width = values.shape
    bits = 8 * values.itemsize
    rows = np.zeros((height, (width * bits + 31) // 32 * 4), np.uint8)
    rows[:, : width * bits // 8] = values.view(np.uint8)
    compression = 3 if size != 40 or not masks[3] else 6
    head = struct.pack("<IiiHHI5I", size, width, height, 1, bits, compression, *5 * [0])
    head += struct.pack("<4I", *masks) + bytes(max(0, size - 56))
    body = rows[::-1].tobytes()
    return struct.pack("<2sIII", b"BM", 0, 0, 14 + len(head)) + head + body


@pytest.mark.parametrize(
    ("bits", "widths", "size"),
    [(32, (11, 11, 10, 0), 40), (32, (8, 8, 8, 8), 124), (32, (3, 9, 1, 5), 56),
     (16, (4, 4, 4, 4), 40), (16, (2, 3, 1, 0), 108), (32, (10, 10, 10, 2), 40)],
)  # fmt: skip
def test_bit_fields_of_a_bmp_may_have_any_width_and_place(bits, widths, size):
    random = np.random.default_rng(sum(widths))
    fields, masks, values, at = [], [], np.zeros((7, 5), np.uint64), 0
    for width in widths:
        field = random.integers(0, 1 << width, (7, 5), dtype=np.uint64)
        values |= field << np.uint64(at)
        masks.append(((1 << width) - 1) << at)
        if width:
            fields.append(np.rint(field / ((1 << width) - 1) * 255))
        at += width
    found = read(bmp(values.astype(f"u{bits // 8}"), masks, size))
    assert found.alpha == bool(widths[3])
    assert np.abs(found.pixels - np.stack(fields, axis=2)).max() == 0
    with pytest.raises(LimitError):
        read(bmp(values.astype(f"u{bits // 8}"), masks, size), max_pixels=34)


@pytest.mark.parametrize(
    ("start", "package"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow-heif"),
        (b"\xff\x0a\xfa\x7f\x01", "pillow-jxl-plugin"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "pillow-jxl-plugin"),
    ],
)
def test_formats_of_other_packages_say_what_to_install(start, package, monkeypatch):
    for module in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, module, None)  # also where it is installed
    with pytest.raises(ImageError, match=f"is read where {package} is installed"):
        read(start + bytes(64))


def test_avif_is_known_by_any_of_its_brands():
    data = bytearray(saved(SMALL, "AVIF"))
    assert data[8:12] == b"avif"
    data[8:12] = b"mif1"
    assert read(bytes(data)).pixels.shape == (12, 14, 3)


def test_damage_beside_the_pixels_leaves_them_alone_with_a_note():
    data, parts = saved(SMALL, "PNG"), b""
    for kind, body in ((b"acTL", struct.pack(">II", 2, 0)), (b"fdAT", bytes(9))):
        parts += struct.pack(">I", len(body)) + kind + body
        parts += struct.pack(">I", zlib.crc32(kind + body))
    png = data[:33] + parts + data[33:]
    data = saved(SMALL, "JPEG")
    jpeg = data[:2] + b"\xff\xe0\0\7JFIF\0" + data[20:]
    for damaged in (png, jpeg):
        found = read(damaged)
        assert found.pixels.shape == (12, 14, 3)
        assert any("left out" in note for note in found.notes)


def test_pages_behind_a_broken_pointer_are_told_of_and_refused_where_all_are_wanted():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.arange(12, dtype=np.uint8).reshape(3, 4), metadata=None)
    data = bytearray(buffer.getvalue())
    (start,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * entries, 65535)
    found = read(bytes(data))
    assert found.pixels.ravel().tolist() == list(range(12))
    assert found.frames == 1
    assert any("65535" in note for note in found.notes)
    for wanted in ("all", 1):
        with pytest.raises(ImageError, match="65535"):
            list(read_images(bytes(data), frame=wanted))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "TGA",
                                  "PCX", "SGI", "ICO", "DDS", "QOI"])  # fmt: skip
def test_bit_flips_give_an_image_or_one_line(form):
    data = saved(SMALL.resize((16, 16)), form)
    random = np.random.default_rng(5)
    for _ in range(150):
        damaged = bytearray(data)
        for position in random.integers(0, len(data), random.integers(1, 4)):
            damaged[position] ^= 1 << random.integers(0, 8)
        broken_ok(bytes(damaged), format=form.lower(), max_pixels=1_000_000)


@pytest.mark.parametrize("path", corpus("hostile"), ids=lambda p: p and p.name[:30])
def test_hostile_files_give_an_image_or_one_line(path):
    start = time.monotonic()
    broken_ok(path)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("path", corpus("pngsuite"), ids=lambda p: p and p.name)
def test_pngsuite(path):
    if path.suffix != ".png":
        return
    valid = not path.name.startswith("x")
    assert broken_ok(path) or not valid


def test_warnings_of_other_threads_survive_decoding():
    import warnings

    data = saved(SMALL, "JPEG")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read(data) for _ in range(30)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


# Real photographs


@pytest.mark.parametrize(
    "name",
    ["astronaut.png", "camera.png", "rocket.jpg", "retina.jpg", "logo.png", "phantom.png",
     "horse.png", "multipage.tif", "no_time_for_that_tiny.gif",
     "page.png", "coffee.png", "hubble_deep_field.jpg", "chessboard_GRAY.png"],
)  # fmt: skip
def test_photographs_of_scikit_image(name):
    skimage = pytest.importorskip("skimage")
    path = Path(skimage.__file__).parent / "data" / name
    image = read(path)
    with Pillow.open(path) as opened:
        mode = "RGB" if opened.mode == "P" else opened.mode
        expected = np.asarray(opened.convert(mode))
    if expected.dtype == bool:
        expected = expected * np.uint8(255)
    assert image.pixels.tobytes() == expected.tobytes()
