"""Damaged and malicious PNGs: refused or left to Pillow, never wrong pixels, never much memory."""

import io
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from imgconv.errors import ImageError
from imgconv.io.png import chunks as png_chunks
from imgconv.io.png import reader as png_reader
from imgconv.io.png.chunks import Damaged
from imgconv.io.reading import read_images
from tests import png_maker as maker

RNG = np.random.default_rng(21)
SAMPLES = maker.random_samples(RNG, 5, 7, 2, 8)
LINES = maker.scanlines(SAMPLES, 8, (4, 1, 3))
SMALL = maker.make(SAMPLES, 8, 2, (4, 1, 3), before=maker.chunk(b"gAMA", b"\0\0\xb1\x8f"), pieces=2)


def reason(data):
    """Why the reader leaves a file to Pillow, or refuses it because its pixels are damaged."""
    with pytest.raises(png_chunks.Unusual) as caught:
        png_reader.Reader(data).read()
    if isinstance(caught.value, Damaged):
        with pytest.raises(ImageError, match="damaged"):
            png_reader.decode(data)
    else:
        assert png_reader.decode(data) is None
    return str(caught.value)


def pixels_or_none(data):
    """Pixels, or None when the reader declines or refuses."""
    try:
        image = png_reader.decode(data)
    except ImageError:
        return None
    return image and image.pixels


def test_the_whole_small_file_reads():
    assert np.array_equal(pixels_or_none(SMALL), SAMPLES)


def test_no_prefix_of_a_file_gives_an_image():
    for length in range(len(SMALL)):
        prefix = SMALL[:length]
        if length < 8:
            assert png_reader.decode(prefix) is None
        else:
            with pytest.raises(ImageError, match="truncated"):
                png_reader.decode(prefix)


def test_no_flipped_bit_gives_an_image():
    for bit in range(8 * len(SMALL)):
        data = bytearray(SMALL)
        data[bit // 8] ^= 1 << bit % 8
        assert pixels_or_none(data) is None, bit


def test_a_flipped_bit_under_a_right_checksum_gives_the_right_image_or_none():
    packed = zlib.compress(LINES)
    survivors = 0
    for bit in range(8 * len(packed)):
        data = bytearray(packed)
        data[bit // 8] ^= 1 << bit % 8
        pixels = pixels_or_none(maker.make(SAMPLES, 8, 2, data=bytes(data)))
        if pixels is not None:  # a bit that zlib does not look at
            assert np.array_equal(pixels, SAMPLES)
            survivors += 1
    assert survivors < 16


def test_random_damage_under_right_checksums_never_escapes():
    """Overwritten, removed and inserted bytes, chunk by chunk, with every CRC made right again."""
    parts = [
        (b"IHDR", SMALL[16:29]), (b"PLTE", bytes(range(48))), (b"tRNS", bytes(6)),
        (b"iCCP", b"p\0\0" + zlib.compress(b"profile")), (b"zTXt", b"k\0\0" + zlib.compress(b"v")),
        (b"iTXt", b"k\0\1\0en\0k\0" + zlib.compress(b"v")), (b"eXIf", b"MM\0*\0\0\0\x08\0\x01"),
        (b"sRGB", b"\0"), (b"IDAT", zlib.compress(LINES)),
    ]  # fmt: skip
    outcomes = set()
    for _ in range(3000):
        victim = int(RNG.integers(len(parts)))
        file = maker.SIGNATURE
        for index, (kind, payload) in enumerate(parts):
            changed = bytearray(payload)
            if index == victim:
                place, count = int(RNG.integers(len(changed))), int(RNG.integers(4))
                changed[place : place + int(RNG.integers(4))] = RNG.bytes(count)
            file += maker.chunk(kind, bytes(changed))
        file += maker.chunk(b"IEND", b"")
        try:
            outcomes.add(type(png_reader.decode(file, max_pixels=1 << 20)).__name__)
        except Exception as error:
            outcomes.add(type(error).__name__)
    assert outcomes <= {"Image", "NoneType", "ImageError", "LimitError"}
    assert len(outcomes) >= 3


def test_wrong_checksums_are_named():
    start = SMALL.index(b"IDAT")
    data = bytearray(SMALL)
    data[start + 5] ^= 1
    assert reason(data) == f"damaged PNG: wrong checksum of chunk IDAT at byte {start}"
    with pytest.raises(ImageError, match="a file: damaged PNG: wrong checksum"):
        list(read_images(bytes(data), name="a file"))
    wrong_adler = zlib.compress(LINES)[:-1] + b"\0"
    assert "cannot be inflated" in reason(maker.make(SAMPLES, 8, 2, data=wrong_adler))


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (LINES[:-1], "ends too early"),
        (LINES + b"\0", "more image data"),
        (b"", "ends too early"),
        (b"\5" + LINES[1:], "filter type 5"),
        (b"\xff" + LINES[1:], "filter type 255"),
    ],
)
def test_image_data_that_does_not_fit_the_rows_is_named(lines, why):
    assert why in reason(maker.make(SAMPLES, 8, 2, data=zlib.compress(lines)))


def test_bytes_after_the_image_data_or_the_file_are_ignored():
    data = maker.make(SAMPLES, 8, 2, data=zlib.compress(LINES) + b"rest", pieces=3) + b"trailer"
    assert np.array_equal(png_reader.decode(data).pixels, SAMPLES)


@pytest.mark.parametrize(
    "start",
    [
        maker.header(5, 5, 8, 2, compression=1),
        maker.header(5, 5, 8, 2, filtering=64),
        maker.header(5, 5, 8, 2, interlaced=2),
        maker.header(0, 5, 8, 2),
        maker.header(5, 1 << 31, 8, 2),
        maker.header(5, 5, 16, 3),
        maker.header(5, 5, 8, 5),
        maker.chunk(b"IHDR", bytes(12)),
        maker.chunk(b"IDAT", bytes(13)),
        maker.header(5, 5, 8, 2) * 2,
        maker.header(5, 5, 8, 3),
        maker.header(5, 5, 8, 3) + maker.chunk(b"PLTE", b"1234"),
        maker.header(5, 5, 8, 2) + maker.chunk(b"PLTE", b"123") * 2,
        maker.header(5, 5, 8, 3) + maker.chunk(b"tRNS", b"1") + maker.chunk(b"PLTE", b"123"),
        maker.header(5, 5, 8, 2) + maker.chunk(b"tRNS", b"1234"),
        maker.header(5, 5, 8, 2) + maker.chunk(b"CRIT", b""),
        maker.header(5, 5, 8, 2) + maker.chunk(b"a1b2", b""),
        maker.header(5, 5, 8, 2) + maker.chunk(b"IDAT", b"x") + maker.chunk(b"tEXt", b"k\0v"),
    ],
)
def test_a_file_out_of_the_specification_is_left_to_pillow(start):
    image = maker.chunk(b"IDAT", zlib.compress(bytes(80)))
    reason(maker.SIGNATURE + start + image + maker.chunk(b"IEND", b""))


def peak_of(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_zlib_bomb_is_inflated_no_further_than_its_rows():
    data = maker.make(SAMPLES, 8, 2, data=zlib.compress(bytes(200_000_000), 9))
    reason(data)
    assert peak_of(lambda: png_reader.decode(data)) < 1_000_000


def test_a_declared_size_that_the_data_cannot_fill_is_refused_before_allocation():
    data = maker.SIGNATURE + maker.header(100_000, 100_000, 16, 6)
    data += maker.chunk(b"IDAT", zlib.compress(bytes(1000))) + maker.chunk(b"IEND", b"")

    def refused():
        with pytest.raises(ImageError, match="100000×100000 pixels cannot come out of"):
            png_reader.decode(data)

    assert peak_of(refused) < 100_000


def test_bombs_in_text_and_profile_are_dropped_within_bounded_memory():
    bomb = zlib.compress(bytes(100_000_000), 9)
    before = maker.chunk(b"iCCP", b"name\0\0" + bomb) + maker.chunk(b"zTXt", b"key\0\0" + bomb)
    before += maker.chunk(b"iTXt", b"key\0\1\0\0\0" + bomb)
    data = maker.make(SAMPLES, 8, 2, before=before)
    image = png_reader.decode(data)
    assert image.icc is None
    assert "text" not in image.info
    assert peak_of(lambda: png_reader.decode(data)) < 64_000_000


def test_text_beyond_four_mebibytes_is_dropped():
    text = b"".join(maker.chunk(b"tEXt", b"k%d\0" % i + bytes(1 << 20)) for i in range(6))
    image = png_reader.decode(maker.make(SAMPLES, 8, 2, before=text))
    assert list(image.info["text"]) == ["k0", "k1", "k2", "k3"]


@pytest.mark.parametrize("kind", [b"IDAT", b"prVt"])
def test_a_flood_of_tiny_chunks_is_refused_quickly(kind):
    data = maker.make(SAMPLES, 8, 2, before=maker.chunk(kind, b"") * 2_000_000)
    start = time.perf_counter()
    with pytest.raises(ImageError, match="more than 100000 chunks"):
        png_reader.decode(data)
    assert time.perf_counter() - start < 5


def test_damage_in_the_middle_of_a_large_file_ends_the_inflating_thread_too():
    pixels = RNG.integers(0, 256, (800, 700, 3), np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG")
    data = bytearray(file.getvalue())
    data[len(data) // 2] ^= 1
    assert "wrong checksum" in reason(data)
    good = []
    with pytest.raises(png_chunks.Unusual):
        good.extend(png_reader.Reader(data).bands(10))
    assert 0 < len(good) < 80
    assert np.array_equal(np.concatenate(good), pixels[: 10 * len(good)])
