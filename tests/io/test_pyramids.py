"""Pyramids: levels written here are read by tifffile and zarr, levels they wrote are read here."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from skimage import data

from imgconv import __version__
from imgconv.io.publish import joined
from imgconv.io.pyramid import Cascade, level_sizes
from imgconv.io.reading import read_images
from imgconv.io.streamed import open_rows
from imgconv.io.tiff import writer as tiff_writer
from tests.pipeline.test_large_images import photo, read
from tests.pipeline.test_streaming import Trickle
from tests.running import here

tifffile = pytest.importorskip("tifffile")
zarr = pytest.importorskip("zarr")
PHOTO = np.tile(data.astronaut(), (2, 2, 1))[:901, :613]


def halves(image):
    """The mean of 2×2 by NumPy in float64, edges repeated."""
    height, width = image.shape[:2]
    image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    blocks = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, -1)
    means = blocks.astype(np.float64).mean(axis=(1, 3))
    return (np.rint(means) if image.dtype.kind == "u" else means).astype(image.dtype)


def levels_of(image):
    """An image and its halves until both sides are at most 256."""
    found = [image]
    while max(found[-1].shape[:2]) > 256:
        found.append(halves(found[-1]))
    return found


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 70), width=st.integers(257, 600), channels=st.integers(1, 3),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]), seed=st.integers(0, 99),
    units=st.lists(st.integers(1, 40), min_size=3, max_size=3), step=st.integers(1, 30),
)  # fmt: skip
def test_levels_are_means_whatever_pieces_the_rows_come_in(
    height, width, channels, dtype, seed, units, step
):
    high = 256 if dtype == "uint8" else 65536
    image = np.random.default_rng(seed).integers(0, high, (height, width, channels)).astype(dtype)
    want = levels_of(image)
    sizes = level_sizes(height, width)
    assert sizes == [level.shape[:2] for level in want]
    units = units[: len(sizes)]
    cascade, got = Cascade(sizes, units), [[] for _ in sizes]
    for top in range(0, height, step):
        for level, rows in cascade.add(image[top : top + step]):
            got[level].append(rows.copy())
    for found, expected, unit in zip(got, want, units, strict=True):
        assert all(len(rows) % unit == 0 for rows in found[:-1])
        made = np.concatenate(found)
        assert made.dtype == expected.dtype
        np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 3), ("uint16", 1), ("float32", 5)])
def test_tifffile_finds_the_levels_of_a_tiff(tmp_path, monkeypatch, big, dtype, channels):
    pixels = np.tile(photo(dtype, channels), (3, 2, 1))
    monkeypatch.setattr(tiff_writer, "_STRIP", 20_000)
    monkeypatch.setattr(tiff_writer, "_CLASSIC_END", 1 if big else 1 << 32)
    path = tmp_path / "out.tif"
    pieces = tiff_writer.encode_rows(Trickle(pixels), note="n", icc=b"icc!", pyramid=True)
    path.write_bytes(joined(pieces))
    want = levels_of(pixels)
    assert len(want) == 3
    with tifffile.TiffFile(path) as file:
        assert (file.is_bigtiff, len(file.pages)) == (big, 1)
        assert [level.shape for level in file.series[0].levels] == [
            level.shape if channels > 1 else level.shape[:2] for level in want
        ]
        for level, expected in zip(file.series[0].levels, want, strict=True):
            np.testing.assert_array_equal(level.asarray().reshape(expected.shape), expected)
    for number, expected in enumerate(want):
        np.testing.assert_array_equal(read(open_rows(path, memory=1, level=number).rows), expected)
        image = next(iter(read_images(path, level=number)))
        np.testing.assert_array_equal(image.pixels, expected)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    Pillow.fromarray(PHOTO).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_ome_tiff_holds_its_levels_and_what_was_applied(folder):
    run = ["apply", "-k", "-1", "--bias", "255", "photo.png", "--pyramid", "-o"]
    assert here(*run, "out.ome.tif").returncode == 0
    with tifffile.TiffFile(folder / "out.ome.tif") as file:
        assert file.is_ome
        assert file.series[0].kind == "ome"
        assert file.series[0].axes == "YXS"
        for level, expected in zip(file.series[0].levels, levels_of(255 - PHOTO), strict=True):
            np.testing.assert_array_equal(level.asarray(), expected)
        facts = tifffile.xml2dict(file.ome_metadata)["OME"]["StructuredAnnotations"]
        note = facts["CommentAnnotation"]["Value"]
    note = note if isinstance(note, dict) else json.loads(note)
    assert note["imgconv"] == __version__


def test_an_ome_zarr_holds_its_levels(folder):
    run = ["apply", "-k", "-1", "--bias", "255", "photo.png", "--pyramid", "-o", "out.zarr"]
    assert here(*run).returncode == 0
    group = zarr.open(folder / "out.zarr", mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    want = levels_of(255 - PHOTO)
    assert [one["path"] for one in datasets] == ["0", "1", "2"]
    for number, expected in enumerate(want):
        np.testing.assert_array_equal(np.moveaxis(group[str(number)][...], 0, 2), expected)
        scale, *moved = datasets[number]["coordinateTransformations"]
        assert scale == {"type": "scale", "scale": [1, 2**number, 2**number]}
        middle = (2**number - 1) / 2
        assert moved == [{"type": "translation", "translation": [0, middle, middle]}] * (number > 0)
        result = here(
            "apply", "-k", "identity", "out.zarr", "--level", number, "-o", f"{number}.png"
        )
        assert result.returncode == 0, result.stderr
        np.testing.assert_array_equal(np.asarray(Pillow.open(f"{number}.png")), expected)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["SubIFDs", "frames", "BigTIFF"])
def test_a_level_that_tifffile_wrote_is_filtered(folder, compression, kind):
    small = PHOTO[::2, ::2].copy()
    options = {"tile": (64, 64), "photometric": "rgb", "compression": compression}
    with tifffile.TiffWriter("slide.tif", bigtiff=kind == "BigTIFF") as writer:
        writer.write(PHOTO, subifds=0 if kind == "frames" else 1, **options)
        writer.write(small, subfiletype=1, **options)
    with tifffile.TiffFile("slide.tif") as file:
        page = file.pages[1] if kind == "frames" else file.pages[0].pages[0]
        np.testing.assert_array_equal(page.asarray(), small)
    result = here("apply", "-k", "identity", "slide.tif", "--level", 1, "-o", "small.png", "-q")
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.asarray(Pillow.open("small.png")), small)
    result = here("apply", "-k", "identity", "slide.tif", "--level", 2, "-o", "none.png")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "slide.tif: no level 2: it has 2 (0 to 1)" in result.stderr


def test_levels_where_there_are_none_are_refused(folder):
    for arguments, code, said in (
        (
            ["photo.png", "--level", "1", "-o", "x.png"],
            1,
            "photo.png: no level 1: it has 1 (0 to 0)",
        ),
        (["sample:chart", "--level", "1", "-o", "x.png"], 1, "no level 1"),
        (["photo.png", "--pyramid", "-o", "x.png"], 2, "--pyramid: png holds one size"),
    ):
        result = here("apply", "-k", "sobel", *arguments)
        assert (result.returncode, result.stderr.count("\n")) == (code, 1), result.stderr
        assert said in result.stderr
        assert not (folder / "x.png").exists()
