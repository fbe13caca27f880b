"""TIFF in every way that a frame can be stored, packed by hand or by tifffile."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from imgconv.errors import ImageError, LimitError
from imgconv.io.reading import read_images
from imgconv.io.streamed import open_rows
from imgconv.io.tiff import samples as tiff_samples
from imgconv.ops.rows import read_rows

RANDOM = np.random.default_rng(15)
ASCII, SHORT, LONG, RATIONAL = 2, 3, 4, 5


def tiff(tags, chunks, *, order="<", tiles=None):
    """A TIFF of strips, or of tiles (height, width), of bytes; None for one that is left out.

    tags: number → value, values, or (type, values).
    """
    body = bytearray(8)
    places = []
    for chunk in chunks:
        places.append(len(body) if chunk is not None else 0)
        body += chunk or b""
    counts = [len(chunk or b"") for chunk in chunks]
    offsets = {324: places, 325: counts, 322: tiles[1], 323: tiles[0]} if tiles else {
        273: places, 279: counts
    }  # fmt: skip
    table, beyond = b"", bytearray()
    entries = sorted({259: 1, 262: 1, 277: 1, **tags, **offsets}.items())
    body += b"\0" * (len(body) % 2)
    start = len(body) + 2 + 12 * len(entries) + 4
    for tag, values in entries:
        kind = LONG
        if isinstance(values, tuple) and isinstance(values[1], (tuple, list, bytes)):
            kind, values = values
        values = values if isinstance(values, (tuple, list, bytes)) else (values,)
        code = {ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I"}[kind]
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        count = len(values) // (2 if kind == RATIONAL else 1)
        if len(packed) > 4:
            place = start + len(beyond)
            beyond += packed + b"\0" * (len(packed) % 2)
            packed = struct.pack(order + "I", place)
        table += struct.pack(order + "HHI", tag, kind, count) + packed.ljust(4, b"\0")
    body[:8] = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, len(body))
    return bytes(body) + struct.pack(order + "H", len(entries)) + table + bytes(4) + bytes(beyond)


def read(data, **options):
    [image] = read_images(data, **options)
    return image


def in_bands(tmp_path, data):
    path = tmp_path / "in.tif"
    path.write_bytes(data)
    found = open_rows(path, memory=1)
    pixels = np.empty((found.rows.height, found.rows.width, found.rows.channels), found.rows.dtype)
    read_rows(found.rows, pixels)
    found.rows.close()
    return pixels


def packed(rows, bits):
    """Rows of integers as bits, the highest first, each row from a whole byte on."""
    found = b""
    for row in rows:
        text = "".join(f"{int(value):0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        found += int(text, 2).to_bytes(len(text) // 8, "big")
    return found


@pytest.mark.parametrize("bits", [*range(1, 8), *range(9, 16), 20, 24, 31])
@pytest.mark.parametrize("order", ["<", ">"])
def test_samples_of_any_number_of_bits(tmp_path, bits, order):
    stored = RANDOM.integers(0, 1 << bits, (5, 7, 3), dtype=np.uint64)
    stored[0, 0], stored[0, 1] = 0, (1 << bits) - 1
    tags = {256: 7, 257: 5, 258: (bits,) * 3, 262: 2, 277: 3, 278: 3}
    strips = [packed(part.reshape(len(part), -1), bits) for part in (stored[:3], stored[3:])]
    for compression, code in ((1, bytes), (8, zlib.compress)):
        data = tiff(tags | {259: compression}, [code(strip) for strip in strips], order=order)
        image = read(data)
        expected = stored
        if bits < 8:
            full = (1 << bits) - 1
            expected = (stored.astype(float) * 255 / full + 0.5).astype(int)
        assert image.pixels.tolist() == expected.tolist()
        assert image.sample_type == f"uint{8 if bits < 8 else 16 if bits < 16 else 32}"
        assert in_bands(tmp_path, data).tolist() == expected.tolist()


def test_red_green_and_blue_of_other_bits():
    data = tiff({256: 2, 257: 1, 258: (5, 6, 5), 262: 2, 277: 3, 278: 1},
                [packed([[0b11111_000000_00001, 0b00000_111111_10000]], 16)])  # fmt: skip
    assert read(data).pixels.tolist() == [[[255, 0, 8], [0, 255, 132]]]


def test_white_is_zero_in_few_bits():
    stored = RANDOM.integers(0, 16, (3, 5))
    data = tiff({256: 5, 257: 3, 258: 4, 262: 0, 278: 3}, [packed(stored, 4)])
    assert read(data).pixels[..., 0].tolist() == ((15 - stored) * 17).tolist()


@pytest.mark.parametrize("order", ["<", ">"])
def test_floats_of_24_bits(order):
    numbers = [0.0, -0.0, 1.0, -2.5, 0.1, 2.0**-62, 2.0**-70, 1e19, np.inf, -np.inf, np.nan]
    words = [0, 1 << 23, 63 << 16, 1 << 23 | 64 << 16 | 1 << 14, 59 << 16 | 39322, 1 << 16,
             1 << 8, 126 << 16 | 5519, 127 << 16, 255 << 16, 127 << 16 | 1]  # fmt: skip
    stored = b"".join(word.to_bytes(3, "big" if order == ">" else "little") for word in words)
    image = read(tiff({256: len(words), 257: 1, 258: 24, 278: 1, 339: 3}, [stored], order=order))
    np.testing.assert_allclose(image.pixels.ravel(), numbers, rtol=2e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint16"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_differences_of_rows(tmp_path, dtype, order):
    samples = (RANDOM.normal(size=(9, 16, 2)) * 1000).astype(dtype)
    whole = samples.view(f"u{samples.itemsize}")
    first = np.concatenate([whole[:, :1], np.diff(whole, axis=1)], axis=1)
    stored = first.astype(first.dtype.newbyteorder(order)).tobytes()
    kind = {"f": 3, "i": 2, "u": 1}[samples.dtype.kind]
    bits = 8 * samples.itemsize
    data = tiff({256: 16, 257: 9, 258: (bits, bits), 259: 8, 277: 2, 278: 9, 317: 2, 338: 0,
                 339: (kind, kind)}, [zlib.compress(stored)], order=order)  # fmt: skip
    np.testing.assert_array_equal(read(data).pixels, samples)
    np.testing.assert_array_equal(in_bands(tmp_path, data), samples)


@pytest.mark.parametrize("nodata", [None, b"-9999\0", b"nan\0"])
@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8"])
@pytest.mark.parametrize("tiled", [False, True])
def test_what_a_sparse_file_leaves_out_is_nodata(tmp_path, nodata, dtype, tiled):
    samples = RANDOM.integers(1, 99, (32, 32)).astype(dtype)
    given = 0 if nodata is None else float(nodata[:-1])
    held = dtype == "float32" or (dtype == "int16" and given == given)
    expected = samples.copy()
    if tiled:
        parts = [samples[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16)]
        parts[1] = parts[2] = None
        expected[:16, 16:] = expected[16:, :16] = given if held else 0
    else:
        parts = [samples[y : y + 8].tobytes() for y in range(0, 32, 8)]
        parts[0] = parts[3] = None
        expected[:8] = expected[24:] = given if held else 0
    kind = {"f": 3, "i": 2, "u": 1}[samples.dtype.kind]
    tags = {256: 32, 257: 32, 258: 8 * samples.itemsize, 339: kind}
    if nodata is not None:
        tags[42113] = (ASCII, nodata)
    if not tiled:
        tags[278] = 8
    data = tiff(tags, parts, tiles=(16, 16) if tiled else None)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        np.testing.assert_array_equal(file.asarray(), expected)
    np.testing.assert_array_equal(read(data).pixels[..., 0], expected)
    np.testing.assert_array_equal(in_bands(tmp_path, data)[..., 0], expected)


def test_a_sparse_file_cannot_ask_for_any_memory():
    tags = {256: 10_000, 257: 10_000, 258: (8,) * 2000, 277: 2000, 278: 10_000, 338: (0,) * 1999}
    with pytest.raises(LimitError, match="sparse"):
        read(tiff(tags, [None]))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_big_and_small_files_of_both_orders(big, order):
    samples = RANDOM.integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, byteorder=order, bigtiff=big, photometric="rgb",
                     rowsperstrip=7)  # fmt: skip
    assert read(buffer.getvalue()).pixels.tolist() == samples.tolist()


@pytest.mark.parametrize("tile", [None, (2, 16, 16)])
def test_each_slice_of_a_volume_is_a_frame(tile):
    volume = RANDOM.integers(0, 255, (5, 20, 24), dtype=np.uint8)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, volume, volumetric=True, tile=tile, metadata=None)
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        assert file.pages[0].imagedepth == (5 if tile else 1) or file.pages[0].imagedepth == 5
        if file.pages[0].imagedepth == 1:
            pytest.skip("tifffile writes pages here")
    frames = list(read_images(buffer.getvalue(), frame="all"))
    assert [frame.frames for frame in frames] == [5] * 5
    assert np.array_equal([frame.pixels[..., 0] for frame in frames], volume)
    first = read(buffer.getvalue())
    assert "the first of 5 frames" in first.notes[0]


@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2)])
def test_colors_that_pixels_share(across, down):
    # A picture of one color in each square is the same whatever shares it.
    squares = RANDOM.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    pixels = squares.repeat(down, axis=0).repeat(across, axis=1)[:, : 4 * across - (across > 1)]
    height, width = pixels.shape[:2]
    units = b"".join(
        bytes([pixel[0]]) * (across * down) + bytes(pixel[1:]) for row in squares for pixel in row
    )
    data = tiff({256: width, 257: height, 258: (8, 8, 8), 262: 6, 277: 3, 278: height,
                 530: (SHORT, (across, down))}, [units])  # fmt: skip
    expected = np.asarray(Pillow.fromarray(pixels, "YCbCr").convert("RGB")).astype(int)
    assert np.abs(read(data).pixels - expected).max() <= 1


def test_ycbcr_of_16_bits():
    eight = RANDOM.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    data = tiff({256: 5, 257: 6, 258: (16,) * 3, 262: 6, 277: 3, 278: 6, 530: (SHORT, (1, 1))},
                [(eight.astype(np.uint16) << 8).tobytes()])  # fmt: skip
    image = read(data)
    assert image.pixels.dtype == np.uint16
    expected = np.asarray(Pillow.fromarray(eight, "YCbCr").convert("RGB")).astype(int)
    assert np.abs(image.pixels / 256 - expected).max() <= 1.5


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [8, 9])
def test_lab_becomes_rgb(bits, photometric):
    # Reference colors (L, a, b) under D50 and their sRGB, by Lindbloom's calculator.
    lab = [(100, 0, 0), (0, 0, 0), (54.29, 80.82, 69.88), (87.82, -79.28, 80.99),
           (29.57, 68.3, -112.03)]  # fmt: skip
    rgb = [(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    full, one = (1 << bits) - 1, 1 << (bits - 8)
    stored = []
    for lightness, a, b in lab:
        zero = 128 * one if photometric == 9 else 0
        differences = [(round(value * one) + zero) % (full + 1) for value in (a, b)]
        stored.append([round(lightness * full / 100), *differences])
    words = np.array([stored], f"u{bits // 8}")
    alpha = np.full((1, len(lab), 1), full, words.dtype)
    data = tiff({256: len(lab), 257: 1, 258: (bits,) * 4, 262: photometric, 277: 4, 278: 1, 338: 2},
                [np.concatenate([words, alpha], axis=2).tobytes()])  # fmt: skip
    image = read(data)
    assert image.alpha
    assert np.abs(image.pixels[0, :, :3] / (full / 255) - rgb).max() < (12 if bits == 8 else 1)


def test_a_palette_is_as_deep_as_its_colors():
    index = RANDOM.integers(0, 256, (4, 6), dtype=np.uint8)
    for step, dtype in ((257, np.uint8), (256, np.uint8), (251, np.uint16)):
        colors = RANDOM.integers(0, 256, (3, 256)) * step
        data = tiff({256: 6, 257: 4, 258: 8, 262: 3, 278: 4, 320: (SHORT, tuple(colors.ravel()))},
                    [index.tobytes()])  # fmt: skip
        image = read(data)
        assert image.pixels.dtype == dtype
        expected = colors.T[index] if dtype == np.uint16 else colors.T[index] >> 8
        assert image.pixels.tolist() == expected.tolist()


def test_a_mosaic_of_a_sensor_is_gray():
    stored = RANDOM.integers(0, 65536, (4, 6)).astype(np.uint16)
    data = tiff({256: 6, 257: 4, 258: 16, 262: 32803, 278: 4}, [stored.tobytes()])
    assert read(data).pixels[..., 0].tolist() == stored.tolist()


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_tiles_that_are_files_need_no_extra(monkeypatch, form):
    monkeypatch.setattr(tiff_samples, "has_imagecodecs", lambda: False)
    samples = RANDOM.integers(0, 256, (16, 32, 4), dtype=np.uint8)
    samples[:, :16, 3] = 255
    tiles = []
    for left in (0, 16):
        buffer = io.BytesIO()
        part = samples[:, left : left + 16]
        whole = form == "WEBP" and not left  # WebP leaves opacity out where it is whole
        picture = Pillow.fromarray(part[..., :3] if whole else part)
        picture.save(buffer, form, lossless=True, exact=True)
        tiles.append(buffer.getvalue())
    code = {"PNG": 34933, "WEBP": 50001}[form]
    data = tiff({256: 32, 257: 16, 258: (8,) * 4, 259: code, 262: 2, 277: 4, 338: 2}, tiles,
                tiles=(16, 16))  # fmt: skip
    assert read(data).pixels.tolist() == samples.tolist()


@pytest.mark.parametrize("extra", [False, True])
def test_a_tile_that_declares_more_than_its_size_is_refused_before_it_is_decoded(
    monkeypatch, extra
):
    if extra:
        pytest.importorskip("imagecodecs")
    else:
        monkeypatch.setattr(tiff_samples, "has_imagecodecs", lambda: False)
    buffer = io.BytesIO()
    Pillow.new("L", (9000, 9000)).save(buffer, "PNG")
    tags = {256: 16, 257: 16, 258: 8, 259: 34933}
    with pytest.raises(ImageError, match="9000×9000 pixels in a tile of 16×16"):
        read(tiff(tags, [buffer.getvalue()], tiles=(16, 16)))


def test_what_pillow_would_narrow_is_refused_without_the_extra(monkeypatch):
    monkeypatch.setattr(tiff_samples, "has_imagecodecs", lambda: False)
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 16)).save(buffer, "PNG")
    tags = {256: 16, 257: 16, 258: (16,) * 3, 259: 34933, 262: 2, 277: 3}
    with pytest.raises(ImageError, match="needs imagecodecs"):
        read(tiff(tags, [buffer.getvalue()], tiles=(16, 16)))


@pytest.mark.parametrize(("code", "dtype"), [
    ("lerc", "float32"), ("lerc", "uint16"), ("jpeg2000", "uint16"), ("jpegxl", "uint16"),
    ("png", "uint16"),
])  # fmt: skip
@pytest.mark.parametrize("tile", [None, (16, 32)])
def test_codecs_of_the_extra(tmp_path, code, dtype, tile):
    pytest.importorskip("imagecodecs")
    samples = (RANDOM.random((40, 50)) * 999).astype(dtype)
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, samples, compression=code, tile=tile, metadata=None)
    expected = tifffile.imread(path)
    assert np.array_equal(read(path.read_bytes()).pixels[..., 0], expected)
    assert np.array_equal(in_bands(tmp_path, path.read_bytes())[..., 0], expected)


def chain(count, back):
    """A TIFF of so many one-pixel frames, of which the last leads to frame `back`."""
    tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 4, 277: 1, 278: 1, 279: 1}.items()
    size = 2 + 12 * len(tags) + 4
    table = struct.pack("<H", len(tags))
    table += b"".join(struct.pack("<HHII", tag, SHORT, 1, value) for tag, value in tags)
    found = [struct.pack("<2sHI", b"II", 42, 8)]
    for index in range(count):
        following = index + 1 if index + 1 < count else back
        found.append(table + struct.pack("<I", 0 if following is None else 8 + size * following))
    return b"".join(found)


@pytest.mark.parametrize(("count", "back"), [(1, 0), (150, 140), (300, 2), (2000, 1500)])
def test_a_chain_that_returns_to_itself_ends(count, back):
    assert len(list(read_images(chain(count, back), frame="all"))) == count


def test_more_frames_than_anyone_has_are_refused():
    with pytest.raises(ImageError, match="more than 65536 frames"):
        read(chain(65537, None))
    deep = tiff({256: 1, 257: 1, 258: 8, 278: 1, 32997: 10**6}, [b"x"])
    with pytest.raises(ImageError, match="more than 65536 frames"):
        read(deep)


@pytest.mark.parametrize("tags", [
    {258: (8, 16, 8), 277: 3, 262: 2, 339: (1, 3, 1)}, {339: 6, 258: 64}, {339: 5, 258: 32},
    {317: 3}, {317: 7}, {277: 0}, {258: 0}, {322: 0, 323: 0}, {278: 0}, {258: 128},
    {262: 3}, {262: 3, 320: (SHORT, (1, 2, 3))},
    {262: 6, 277: 3, 258: (8,) * 3, 530: (SHORT, (3, 9))},
])  # fmt: skip
def test_what_makes_no_sense_is_one_line_that_names_the_file(tags):
    data = tiff({256: 4, 257: 4, 258: 8, 278: 4} | tags, [bytes(range(200))])
    with pytest.raises(ImageError) as caught:
        read(data, name="odd.tif")
    assert str(caught.value).startswith("odd.tif: ")
    assert "\n" not in str(caught.value)
