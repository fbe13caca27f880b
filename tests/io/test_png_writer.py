"""PNG writing: what others read back, strips and threads, levels, metadata, refusals."""

import io
import types
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image as Pillow

from imgconv.errors import OutputError
from imgconv.io.png import chunks as png_chunks
from imgconv.io.png import reader as png_reader
from imgconv.io.png import writer as png_writer
from tests import png_maker as maker

RNG = np.random.default_rng(22)
LEVELS = [*range(10), "fast", "small"]


def encoded(pixels, **options):
    alpha = pixels.ndim == 3 and pixels.shape[2] in (2, 4)
    return b"".join(png_writer.encode(pixels, alpha=alpha, **options))


def photo(height=700, width=650, channels=3, dtype=np.uint8):
    top = np.iinfo(dtype).max
    waves = np.sin(np.arange(height)[:, None, None] / 30 + np.arange(width)[None, :, None] / 17)
    noise = RNG.normal(0, top / 100, (height, width, channels))
    return np.clip((waves + 1) / 2 * top + noise, 0, top).astype(dtype)


def opencv_pixels(data):
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 2:
        return pixels[..., None]
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


@settings(max_examples=150, deadline=None)
@given(
    pixels=st.tuples(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4)),
    ).flatmap(lambda kind: arrays(*kind)),
    compress=st.sampled_from(LEVELS),
)
def test_what_is_written_is_read_back(pixels, compress):
    data = encoded(pixels, compress=compress)
    image = png_reader.decode(data)
    assert image.pixels.dtype == pixels.dtype
    assert np.array_equal(image.pixels, pixels)
    if pixels.shape[2] != 2:  # OpenCV makes gray + alpha RGBA
        assert np.array_equal(opencv_pixels(data), pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pillow_and_opencv_read_large_images(channels, dtype):
    pixels = photo(channels=channels, dtype=dtype)
    data = encoded(pixels, threads=2)
    if channels != 2:
        assert np.array_equal(opencv_pixels(data), pixels)
    if dtype == np.uint8:
        pillow = np.asarray(Pillow.open(io.BytesIO(data))).reshape(pixels.shape)
        assert np.array_equal(pillow, pixels)
    assert np.array_equal(png_reader.decode(data).pixels, pixels)


def predicted_rows(kind):
    """40 rows of 200 that one filter predicts to within 1, after a row of noise."""
    rows = RNG.integers(0, 256, (40, 200))
    for y in range(1, 40):
        for x in range(200):
            left, corner = (rows[y, x - 1], rows[y - 1, x - 1]) if x else (0, 0)
            guess = maker.predictor(kind, left, rows[y - 1, x], corner)
            rows[y, x] = (guess + rows[y, x] % 3 - 1) % 256
    return rows.astype(np.uint8)


def test_each_row_gets_the_filter_that_predicts_it():
    pixels = np.concatenate([predicted_rows(kind) for kind in range(5)])
    data = encoded(pixels, compress=9)
    chunks = png_chunks.walk(memoryview(data), 8)
    image = b"".join(data[start:stop] for kind, start, stop in chunks if kind == b"IDAT")
    kinds = np.frombuffer(zlib.decompress(image), np.uint8).reshape(5, 40, 201)[..., 0]
    assert [np.bincount(group).argmax() for group in kinds] == [0, 1, 2, 3, 4]
    assert np.array_equal(opencv_pixels(data)[..., 0], pixels)


@pytest.mark.parametrize("compress", LEVELS)
def test_the_file_does_not_depend_on_threads_or_bands(compress):
    pixels = photo(250, 640)
    files = {encoded(pixels, compress=compress, threads=threads) for threads in (1, 2, 5)}
    for rows in (1, 33, 250):
        parts = []
        with png_writer.Writer(parts.append, 640, 250, 3, compress=compress, threads=2) as writer:
            band = np.empty((rows, 640, 3), np.uint8)
            for start in range(0, 250, rows):
                piece = pixels[start : start + rows]
                band[: len(piece)] = piece
                writer.write(band[: len(piece)])
                band[:] = 0
            writer.finish()
        files.add(b"".join(parts))
    assert len(files) == 1


def crc32c(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


@pytest.mark.parametrize("compress", [1, 2])
def test_the_file_does_not_depend_on_where_the_deflater_lies(monkeypatch, compress):
    """In isal 1.9.1 the place of a stream decides which hash its third byte is filed under.

    The pixels begin with four bytes that have this hash, so that the third byte would hide the
    first of them from what repeats them later.
    """
    isal = pytest.importorskip("isal.isal_zlib")
    streams = [isal.compressobj(compress, zlib.DEFLATED, -15) for _ in range(12)]
    size = {1: 8192, 2: 32768}[compress]
    hashed = [crc32c((id(one) + 16 >> 16 & 0xFFFFFFFF).to_bytes(4, "little")) % size
              for one in streams]  # fmt: skip
    start = next(
        data
        for data in (number.to_bytes(4, "little") for number in range(1 << 20))
        if crc32c(data) % size == hashed[0]
    )
    block = start + RNG.bytes(60)
    data = block + RNG.bytes(50) + block + RNG.bytes(400)
    recipe = png_writer._recipes(compress)[0]

    def deflated(stream):
        monkeypatch.setattr(
            png_writer, "codec", types.SimpleNamespace(compressobj=lambda *_: stream)
        )
        return recipe.deflate(np.frombuffer(data, np.uint8), True)

    first = deflated(streams[0])
    assert zlib.decompress(first, -15) == data
    others = [one for one, key in zip(streams, hashed, strict=True) if key != hashed[0]]
    assert others
    assert all(deflated(one) == first for one in others)


def test_a_view_with_gaps_is_written_as_its_pixels():
    pixels = photo(300, 900)[::2, ::-3]
    assert np.array_equal(png_reader.decode(encoded(pixels)).pixels, pixels)


def test_gray_may_come_without_a_channel_axis():
    pixels = photo(20, 30, 1)[..., 0]
    assert np.array_equal(png_reader.decode(encoded(pixels)).pixels[..., 0], pixels)


def test_higher_levels_make_smaller_files_and_zero_stores():
    pixels = photo()
    sizes = {level: len(encoded(pixels, compress=level)) for level in LEVELS}
    assert sizes[0] > pixels.nbytes
    assert sizes["small"] < sizes[9] <= sizes[6] < sizes["fast"] == sizes[1] < pixels.nbytes


def test_a_photo_is_no_larger_than_by_pillow_at_its_fastest():
    pixels = photo()
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG", compress_level=1)
    assert len(encoded(pixels)) < 1.05 * len(file.getvalue())


def test_a_drawing_in_small_is_no_larger_than_by_pillow_at_its_best():
    pixels = np.zeros((400, 600, 3), np.uint8)
    for i in range(40):
        cv2.putText(pixels, f"{i} lines of text", (7 * i, 10 * i), 0, 0.4, (i, 255 - i, 99))
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG", optimize=True)
    assert len(encoded(pixels, compress="small")) < 1.05 * len(file.getvalue())


def test_without_isal_zlib_writes_the_same_pixels(monkeypatch):
    monkeypatch.setattr(png_writer, "codec", zlib)
    pixels = photo()
    for level in (1, 2, 3):
        assert np.array_equal(opencv_pixels(encoded(pixels, compress=level)), pixels)


def test_text_and_profile_reach_pillow():
    text = {"Software": "imgconv", "Note": "Grüße", "Name": "Łukasz", "Long": "ab" * 999,
            "Wide": "ł" * 999}  # fmt: skip
    data = encoded(photo(4, 5), text=text, icc=b"profile" * 50)
    image = Pillow.open(io.BytesIO(data))
    image.load()
    assert image.text == text
    assert image.info["icc_profile"] == b"profile" * 50
    ours = png_reader.decode(data)
    assert ours.info["text"] == text
    assert ours.icc == b"profile" * 50


@pytest.mark.parametrize("key", ["", "k" * 80, " k", "a\0b", "Ł"])
def test_a_text_keyword_that_png_forbids_is_refused(key):
    with pytest.raises(OutputError, match="1 to 79 Latin-1"):
        encoded(photo(4, 5), text={key: "value"})


@pytest.mark.parametrize(
    ("shape", "dtype", "alpha", "message"),
    [
        ((4, 5, 5), np.uint8, False, "got 5 of uint8"),
        ((4, 5, 3), np.float32, False, "float32"),
        ((4, 5, 2), np.uint8, False, "2 channels without alpha"),
        ((4, 5, 3), np.uint8, True, "3 channels with alpha"),
        ((0, 5, 3), np.uint8, False, "got 5×0"),
    ],
)
def test_what_png_cannot_hold_is_refused_at_once(shape, dtype, alpha, message):
    with pytest.raises(OutputError, match=message):
        png_writer.encode(np.zeros(shape, dtype), alpha=alpha)


@pytest.mark.parametrize("compress", [10, -1, "best", 1.5])
def test_an_unknown_level_is_refused(compress):
    with pytest.raises(OutputError, match="expected 0 to 9, fast or small"):
        png_writer.encode(np.zeros((4, 5, 3), np.uint8), compress=compress)


def test_wrong_rows_are_refused():
    writer = png_writer.Writer(lambda piece: None, 5, 4, 3)
    with pytest.raises(TypeError, match=r"expected uint8 of \(rows, 5, 3\)"):
        writer.write(np.zeros((1, 5, 4), np.uint8))
    with pytest.raises(ValueError, match="more rows"):
        writer.write(np.zeros((5, 5, 3), np.uint8))
    writer.write(np.zeros((3, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="3 rows of 4"):
        writer.finish()


def test_a_failure_in_a_thread_reaches_the_caller(monkeypatch):
    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(png_writer, "_deflate", fail)
    for threads in (1, 2):
        with pytest.raises(MemoryError, match="no room"):
            encoded(photo(), threads=threads)
