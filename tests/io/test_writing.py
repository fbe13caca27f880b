"""Every output format: opened again by other readers, it holds the samples that were given."""

import io
import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import data

from imgconv.cli import main
from imgconv.errors import OutputError, UsageError
from imgconv.io.formats import FORMATS
from imgconv.io.publish import Patch, publish
from imgconv.io.reading import read_images
from imgconv.io.tiff import writer as tiff_writer
from imgconv.io.writing import encode
from tests.running import run
from tests.samples import draw

NOTE = {"kernels": ["sobel"], "text": "é"}


def written(samples, name, **options):
    return b"".join(bytes(piece) for piece in encode(samples, FORMATS[name], **options))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 12])
def test_a_tiff_of_any_channels_and_depth_is_read_alike_by_others(dtype, channels):
    samples = draw(np.random.default_rng(channels), (61, 47, channels), dtype)
    alpha = channels in (2, 4)
    content = written(samples, "tiff", alpha=alpha, record=NOTE, icc=b"profile of odd length")
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        np.testing.assert_array_equal(page.asarray().reshape(samples.shape), samples)
        assert json.loads(page.description) == NOTE
        assert page.photometric.name == ("RGB" if channels in (3, 4) else "MINISBLACK")
        assert page.tags["InterColorProfile"].value == b"profile of odd length"
    [again] = read_images(content)
    np.testing.assert_array_equal(again.pixels, samples)
    assert again.alpha == alpha
    if channels in (1, 3):
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        colors = decoded[..., ::-1] if channels == 3 else decoded[..., None]
        np.testing.assert_array_equal(colors, samples)


def test_a_large_tiff_has_several_strips_and_a_huge_one_would_be_bigtiff(monkeypatch):
    photo = np.tile(data.astronaut(), (3, 3, 1))
    for end, big in ((1 << 32, False), (0, True)):
        monkeypatch.setattr(tiff_writer, "_CLASSIC_END", end)
        content = written(photo, "tiff")
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            assert file.is_bigtiff == big
            assert len(file.pages[0].dataoffsets) > 2
            np.testing.assert_array_equal(file.asarray(), photo)
        np.testing.assert_array_equal(next(read_images(content)).pixels, photo)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), photo)


LOSSLESS = [
    (made.name, dtype, channels)
    for made in FORMATS.values()
    if made.name not in ("jpeg", "webp", "avif", "gif", "safetensors", "zarr")
    for dtype in made.dtypes
    for channels in (made.channels or (1, 2, 3, 4, 7))
]


@pytest.mark.parametrize(("name", "dtype", "channels"), LOSSLESS)
def test_a_lossless_format_gives_back_every_sample(name, dtype, channels):
    samples = draw(np.random.default_rng(1), (19, 23, channels), np.dtype(dtype))
    content = written(samples, name, alpha=FORMATS[name].alpha and channels in (2, 4))
    [again] = read_images(content, format="text" if FORMATS[name].text else None)
    expected = np.repeat(samples, 3, 2) if (name, channels) == ("ppm", 1) else samples
    # Text is read as float64, of which the shortest digits of a float32 are not its value.
    found = again.pixels.astype(dtype) if FORMATS[name].text else again.pixels
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", FORMATS["safetensors"].dtypes)
def test_safetensors_hold_the_samples_behind_their_header(dtype):
    samples = draw(np.random.default_rng(1), (19, 23, 5), np.dtype(dtype))
    content = written(samples, "safetensors", record=NOTE)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    first, last = header["image"]["data_offsets"]
    found = np.frombuffer(content[start + first : start + last], dtype).reshape(19, 23, 5)
    np.testing.assert_array_equal(found, samples)
    assert json.loads(header["__metadata__"]["imgconv"]) == NOTE


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_quality_is_the_users(name):
    photo = np.ascontiguousarray(data.astronaut()[:128, :128])
    sizes, errors = [], []
    for quality in (20, 95):
        content = written(photo, name, quality=quality)
        [again] = read_images(content)
        sizes.append(len(content))
        errors.append(np.abs(again.pixels.astype(int) - photo).mean())
    assert sizes[0] < sizes[1] / 2
    assert errors[0] > errors[1]
    assert errors[1] < 3


def test_metadata_is_in_the_file_or_left_out():
    samples = np.zeros((4, 5, 1), np.uint8)
    assert Image.open(io.BytesIO(written(samples, "png", record=NOTE))).text["imgconv"]
    archive = np.load(io.BytesIO(written(samples, "npz", record=NOTE)), allow_pickle=False)
    assert json.loads(str(archive["imgconv"])) == NOTE
    for name in ("png", "tiff", "npz", "safetensors"):
        assert len(written(samples, name, record=NOTE)) > len(written(samples, name))
        assert b"imgconv" not in written(samples, name)


def test_what_a_format_cannot_hold_is_refused_by_its_name():
    with pytest.raises(UsageError, match="jpeg holds 1 or 3 channels, got 5"):
        written(np.zeros((4, 4, 5), np.uint8), "jpeg")
    with pytest.raises(OutputError, match="png cannot hold an image of 0×4"):
        written(np.zeros((4, 0, 3), np.uint8), "png")


def deflated_otherwise(content):
    """A PNG of the same chunks whose rows are deflated by zlib at its best."""
    found, rows, place = [], b"", 8
    while place < len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        if kind == b"IDAT":
            rows += content[place + 8 : place + 8 + length]
        else:
            found.append((kind, content[place + 8 : place + 8 + length]))
        place += length + 12
    found.insert(-1, (b"IDAT", zlib.compress(zlib.decompress(rows), 9)))
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in found
    ]
    return content[:8] + b"".join(chunks)


@pytest.mark.parametrize("place", ["file", "memory"])
def test_an_output_that_is_there_counts_as_made_if_its_pixels_and_notes_are_the_same(
    tmp_path, place
):
    fsspec = pytest.importorskip("fsspec")
    photo = data.astronaut()[:90, :70]

    def made(pixels, note):
        return b"".join(bytes(p) for p in encode(pixels, FORMATS["png"], record={"map": note}))

    path = str(tmp_path / "a.png") if place == "file" else "memory://same/a.png"
    first, other = made(photo, "a"), deflated_otherwise(made(photo, "a"))
    assert first != other
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(other))), photo)
    for there in (first, other):
        with fsspec.open(path, "wb") as file:
            file.write(there)
        assert publish(path, [first], or_same=True) == len(first)
        with pytest.raises(OutputError, match="exists"):
            publish(path, [first])
        changed = photo.copy()
        changed[40, 30, 1] ^= 1
        for content in (made(changed, "a"), made(photo, "b"), first[:-3], b"text", b""):
            with pytest.raises(OutputError, match="exists"):
                publish(path, [content], or_same=True)
        with fsspec.open(path, "rb") as file:
            assert file.read() == there
    assert [name.name for name in tmp_path.iterdir()] == ["a.png"] * (place == "file")


def test_an_upload_is_not_joined_in_memory(monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    sent = []
    monkeypatch.setattr(type(system), "put_file", lambda _, a, b: sent.append(Path(a).read_bytes()))
    monkeypatch.setattr(type(system), "pipe_file", None)
    pieces = [b"header", *(bytes([n]) * (1 << 20) for n in range(9)), Patch(0, b"HEADER")]
    assert publish("memory://large/a.tif", iter(pieces)) == 6 + 9 * (1 << 20)
    assert sent == [b"HEADER" + b"".join(pieces[1:-1])]


def test_avif_is_written_with_opacity_and_what_the_input_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    colors = np.zeros((40, 60, 4), np.uint8)
    colors[..., :3] = np.indices((40, 60)).sum(axis=0)[..., None]
    colors[..., 3] = 200
    exif = Image.Exif()
    exif[0x010E] = "a ramp"
    Image.fromarray(colors).save(tmp_path / "in.png", exif=exif)
    out = tmp_path / "out.avif"
    command = ["apply", "-k", "identity", "--quality", "100", str(tmp_path / "in.png")]
    assert run(main, [*command, "-o", str(out)]) == 0
    with Image.open(out) as made:
        assert made.format == "AVIF"
        assert made.getexif()[0x010E] == "a ramp"
        assert np.abs(np.asarray(made).astype(int) - colors).max() <= 4
    assert run(main, ["apply", "-k", "sobel", str(out)]) == 0
    assert (tmp_path / "out-sobel.avif").exists()
