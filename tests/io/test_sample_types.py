"""Identity into the format of the input gives the same samples, whatever their type and count."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from imgconv.io.formats import FORMATS
from imgconv.io.reading import read_images
from imgconv.io.writing import encode
from tests.running import here
from tests.samples import draw

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
FLOATS = ("float16", "float32", "float64")
LARGE = (421, 433)  # more than a megabyte to filter: in bands where that is the limit
LAYOUTS = [  # photometric, extra samples, channels, photometric of the result
    ("minisblack", (), 1, 1), ("minisblack", (2,), 2, 1), ("minisblack", (0,), 2, 1),
    ("rgb", (), 3, 2), ("rgb", (2,), 4, 2), ("rgb", (0,), 4, 1), ("minisblack", (0,) * 3, 4, 1),
    ("minisblack", (0,) * 4, 5, 1), ("rgb", (0, 0, 2), 6, 1), ("separated", (), 4, 5),
]  # fmt: skip


def samples_of(dtype, channels, seed, size=(9, 11)):
    """Random samples (H, W, channels), among them the least and the greatest."""
    found = draw(np.random.default_rng(seed), (*size, channels), np.dtype(dtype))
    if found.dtype.kind == "f":
        found.flat[:2] = np.nan, -np.inf
        return found
    bounds = np.iinfo(dtype)
    found.flat[:2] = max(bounds.min, -(2**53)), min(bounds.max, 2**53)
    return found


def identity(folder, name, in_bands=False, out="out"):
    """Filter a file of a folder into its own format; return the path of the result."""
    suffix = name.partition(".")[2]
    path = folder / f"{out}.{suffix}"
    memory = ("--memory", "1M") if in_bands else ()
    ended = here("apply", "-q", "-k", "identity", folder / name, "-o", path, *memory)
    assert ended.returncode == 0, ended.stderr
    return path


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from(INTEGERS + FLOATS), layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 99), in_bands=st.booleans(), tiles=st.booleans(),
    planar=st.booleans(), order=st.sampled_from("<>"), compression=st.sampled_from([None, "zlib"]),
)  # fmt: skip
def test_tiff(tmp_path_factory, dtype, layout, seed, in_bands, tiles, planar, order, compression):
    photometric, extras, channels, expected = layout
    if photometric == "separated" and np.dtype(dtype).kind != "u":
        dtype = "uint16"
    folder = tmp_path_factory.mktemp("types")
    samples = samples_of(dtype, channels, seed, LARGE if in_bands else (9, 11))
    planar = planar and channels > 1
    tifffile.imwrite(
        folder / "in.tif", samples.transpose(2, 0, 1) if planar else samples.squeeze(),
        byteorder=order, photometric=photometric, extrasamples=extras, compression=compression,
        metadata=None, planarconfig=None if channels == 1 else "separate" if planar else "contig",
        **({"tile": (64, 32)} if tiles else {"rowsperstrip": 5}),
    )  # fmt: skip
    with tifffile.TiffFile(identity(folder, "in.tif", in_bands)) as file:
        page = file.pages[0]
        assert page.dtype == ("float32" if dtype == "float16" else dtype)
        assert page.photometric == expected
        assert page.extrasamples[-1:] == extras[-1:]
        np.testing.assert_array_equal(page.asarray().reshape(samples.shape), samples)


HELD = [
    (name, dtype, channels)
    for name, dtypes, counts in (
        ("png", ("uint8", "uint16"), (1, 2, 3, 4)), ("ppm", ("uint8", "uint16"), (3,)),
        ("pgm", ("uint8", "uint16"), (1,)), ("pfm", ("float32",), (1, 3)),
        ("bmp", ("uint8",), (1, 3)),
    )
    for dtype in dtypes
    for channels in counts
]  # fmt: skip


@pytest.mark.parametrize(("name", "dtype", "channels"), HELD)
@pytest.mark.parametrize("in_bands", [False, True])
def test_pictures(tmp_path, name, dtype, channels, in_bands):
    made, samples = FORMATS[name], samples_of(dtype, channels, 3, LARGE if in_bands else (9, 11))
    pieces = encode(samples, made, alpha=made.alpha and channels in (2, 4))
    (tmp_path / f"in.{name}").write_bytes(b"".join(bytes(piece) for piece in pieces))
    [again] = read_images(identity(tmp_path, f"in.{name}", in_bands))
    assert again.pixels.dtype == dtype
    np.testing.assert_array_equal(again.pixels, samples)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_arrays(tmp_path, dtype, channels):
    samples = samples_of(dtype, channels, 5)
    np.save(tmp_path / "in.npy", samples)
    np.savez(tmp_path / "in.npz", image=samples)
    np.testing.assert_array_equal(
        np.load(identity(tmp_path, "in.npy")).reshape(samples.shape), samples
    )
    with np.load(identity(tmp_path, "in.npz")) as members:
        np.testing.assert_array_equal(members["image"].reshape(samples.shape), samples)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_zarr(tmp_path, dtype):
    zarr = pytest.importorskip("zarr")
    samples = samples_of(dtype, 3, 5)
    zarr.create_array(tmp_path / "in.zarr", data=samples, dimension_names=("y", "x", "c"))
    found = zarr.open_group(identity(tmp_path, "in.zarr"), mode="r")["0"]
    assert found.dtype == ("float32" if dtype == "float16" else dtype)
    np.testing.assert_array_equal(found[:].transpose(1, 2, 0), samples)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("in_bands", [False, True])
def test_chains(tmp_path, dtype, in_bands):
    samples = samples_of(dtype, 1, 7, LARGE if in_bands else (9, 11))[..., 0]
    tifffile.imwrite(tmp_path / "in.tif", samples, metadata=None)
    memory = ("--memory", "1M") if in_bands else ()
    steps = "conv identity | maxpool 1 | conv identity | abs"
    kept = () if in_bands else ("--keep", "1")
    ended = here("run", "-q", steps, *kept, tmp_path / "in.tif", "-o", f"{tmp_path}/out/", *memory,
                 "--format", "tiff")  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    positive = np.minimum(np.abs(samples.astype(float)), min(np.iinfo(dtype).max, 2**53))
    for path in (tmp_path / "out").iterdir():
        found = tifffile.imread(path)
        assert found.dtype == dtype
        expected = samples if "-1-" in path.name else positive
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_a_signed_map_keeps_its_sign_and_saturates(tmp_path, dtype):
    bounds = np.iinfo(dtype)
    samples = np.array([[bounds.min, -7, 0, bounds.max]], dtype)
    tifffile.imwrite(tmp_path / "in.tif", samples)
    for scale, expected in (
        ("clip", [bounds.min, -14, 0, bounds.max]), ("abs", [bounds.max, 14, 0, bounds.max]),
    ):  # fmt: skip
        path = tmp_path / f"{scale}.tif"
        ended = here("apply", "-q", "-k", "2", "--scale", scale, tmp_path / "in.tif", "-o", path)
        assert ended.returncode == 0, ended.stderr
        assert tifffile.imread(path).tolist() == [expected]


def test_integers_that_float64_rounds_are_told_of(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", np.array([[2**53 + 1, 5]], np.int64))
    ended = here("apply", "-k", "identity", tmp_path / "in.tif", "-o", tmp_path / "out.tif")
    assert ended.returncode == 0
    assert f"in.tif: integers up to {2**53 + 1} were rounded" in ended.stderr
    assert tifffile.imread(tmp_path / "out.tif").tolist() == [[2**53, 5]]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32"])
@pytest.mark.parametrize("name", ["png", "bmp"])
def test_types_that_a_format_cannot_hold_are_told_of(tmp_path, dtype, name):
    white = np.iinfo(dtype).max
    tifffile.imwrite(tmp_path / "in.tif", np.array([[0, white]], dtype))
    path = tmp_path / f"out.{name}"
    ended = here("apply", "-k", "identity", tmp_path / "in.tif", "-o", path)
    assert ended.returncode == 0
    [line] = [line for line in ended.stderr.splitlines() if " holds no " in line]
    assert line.startswith(f"imgconv: {tmp_path / 'in.tif'}: {name} holds no {dtype}: ")
    assert "tiff, zarr and npy keep them" in line
    [image] = read_images(path)
    assert image.pixels.ravel().tolist() == [0, image.full_scale]
    quiet = here("apply", "-q", "-k", "identity", tmp_path / "in.tif", "-o", path, "--overwrite")
    assert "holds no" not in quiet.stderr


def test_cmyk_stays_ink_in_tiff_and_becomes_rgb_elsewhere(tmp_path):
    inks = np.array([[[1000, 0, 65535, 0], [0, 0, 0, 30000], [65535, 1, 2, 40000]]], np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", inks, photometric="separated")
    with tifffile.TiffFile(identity(tmp_path, "in.tif")) as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.SEPARATED
        assert file.asarray().tolist() == inks.tolist()
    assert (
        here(
            "apply", "-q", "-k", "identity", tmp_path / "in.tif", "-o", tmp_path / "a.png"
        ).returncode
        == 0
    )
    [rgb] = read_images(tmp_path / "a.png")
    wide = inks.astype(int)
    assert (
        rgb.pixels.tolist() == (65535 - np.minimum(65535, wide[..., :3] + wide[..., 3:])).tolist()
    )
    # As Pillow converts inks of 8 bits.
    eight = (inks >> 8).astype(np.uint8)
    tifffile.imwrite(tmp_path / "in8.tif", eight, photometric="separated")
    [found] = read_images(tmp_path / "in8.tif")
    with Pillow.open(tmp_path / "in8.tif") as opened:
        assert found.pixels.tolist() == np.asarray(opened.convert("RGB")).tolist()


@pytest.mark.parametrize("name", ["png", "webp", "jpeg", "bmp", "ppm"])
@pytest.mark.parametrize("channels", [2, 4, 5])
def test_channels_that_are_no_opacity_are_not_taken_for_it(tmp_path, name, channels):
    np.save(tmp_path / "in.npy", np.zeros((4, 4, channels), np.uint8))
    path = tmp_path / f"out.{name}"
    ended = here("apply", "-q", "-k", "identity", tmp_path / "in.npy", "-o", path)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"imgconv: {tmp_path / 'in.npy'}: {name} holds ")
    assert "--channels" in ended.stderr
    assert not path.exists()


def test_errors_of_a_batch_name_their_file(tmp_path):
    for channels in (4, 5):
        np.save(tmp_path / f"in{channels}.npy", np.zeros((4, 4, channels), np.uint8))
    names = [tmp_path / f"in{channels}.npy" for channels in (4, 5)]
    ended = here("apply", "-q", "-k", "identity", *names, "-o", f"{tmp_path}/out/",
                 "--format", "png")  # fmt: skip
    assert ended.returncode == 1
    lines = ended.stderr.splitlines()
    assert sorted(line.split(": ")[1] for line in lines) == [str(name) for name in names]
