"""Zarr and OME-Zarr images, written and read by the zarr package itself beside ours."""

import json
import os

import numpy as np
import pytest
from PIL import Image as Pillow
from skimage import data

from imgconv.io.formats import FORMATS
from imgconv.io.publish import publish
from imgconv.io.reading import read_images
from imgconv.io.streamed import open_rows
from imgconv.io.writing import encode
from imgconv.ops.rows import read_rows
from tests.cli.test_apply import imgconv

zarr = pytest.importorskip("zarr")
PHOTO = data.astronaut()[:200, :150]


def read(path):
    rows = open_rows(path).rows
    out = np.empty((rows.height, rows.width, rows.channels), rows.dtype)
    read_rows(rows, out)
    np.testing.assert_array_equal(out, next(iter(read_images(path))).pixels)
    return out


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
def test_plain_arrays_are_rows_columns_and_channels(tmp_path, version, dtype):
    for name, pixels in (("gray", PHOTO[..., 0]), ("bands", np.dstack([PHOTO, PHOTO])[..., :5])):
        path = tmp_path / f"{name}.zarr"
        chunks = (64, 40) + (2,) * (pixels.ndim - 2)
        zarr.create_array(
            path, data=pixels.astype(dtype), chunks=chunks, zarr_format=version
        )  # fmt: skip
        got = read(path)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, pixels.reshape(*pixels.shape[:2], -1))


def pyramid(path, version):
    group = zarr.create_group(path, zarr_format=2 if version == "0.4" else 3)
    volume = np.stack([PHOTO, 255 - PHOTO])  # z, y, x, c
    axes = [{"name": name, "type": "space"} for name in "czyx"]
    for level in range(2):
        step = 2**level
        pixels = volume.transpose(3, 0, 1, 2)[..., ::step, ::step]
        group.create_array(str(level), data=pixels, chunks=(1, 1, 50, 50))
    scales = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}]
    group.attrs.update(
        {"multiscales": scales} if version == "0.4" else {"ome": {"multiscales": scales}}
    )
    return volume


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_pyramid_is_its_first_level_and_planes_are_frames(tmp_path, version):
    volume = pyramid(tmp_path / "stack.zarr", version)
    np.testing.assert_array_equal(read(tmp_path / "stack.zarr"), volume[0])
    assert open_rows(tmp_path / "stack.zarr").notes[0].endswith("see --frame")
    frames = list(read_images(tmp_path / "stack.zarr", frame="all"))
    for image, pixels in zip(frames, volume, strict=True):
        np.testing.assert_array_equal(image.pixels, pixels)


def test_an_image_goes_from_zarr_to_zarr_whole_or_not_at_all(tmp_path):
    Pillow.fromarray(PHOTO).save(tmp_path / "photo.png")
    zarr.create_array(tmp_path / "photo.zarr", data=PHOTO, chunks=(64, 64, 3))
    run = ["apply", "-k", "sobel"]
    assert imgconv(*run, "photo.png", "-o", "want.png", cwd=tmp_path).returncode == 0
    result = imgconv(*run, "photo.zarr", "-o", "edges.zarr", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    want = np.asarray(Pillow.open(tmp_path / "want.png"))
    group = zarr.open(tmp_path / "edges.zarr", mode="r")
    ome = group.attrs["ome"]
    assert [axis["name"] for axis in ome["multiscales"][0]["axes"]] == ["c", "y", "x"]
    np.testing.assert_array_equal(np.moveaxis(group["0"][...], 0, 2), want)
    row = json.loads(result.stdout)
    files = [os.path.join(place, name) for place, _, names in os.walk(tmp_path / "edges.zarr")
             for name in names]  # fmt: skip
    assert row["bytes"] == sum(map(os.path.getsize, files))
    again = imgconv(*run, "photo.zarr", "-o", "edges.zarr", cwd=tmp_path)
    assert (again.returncode, again.stderr.count(b"\n")) == (1, 1)
    assert b"exists" in again.stderr
    replaced = imgconv("apply", "-k", "identity", "photo.zarr", "-o", "edges.zarr", "--overwrite",
                       cwd=tmp_path)  # fmt: skip
    assert replaced.returncode == 0, replaced.stderr
    np.testing.assert_array_equal(read(tmp_path / "edges.zarr"), PHOTO)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".imgconv")]
    out = imgconv("apply", "-k", "identity", "photo.zarr", "-o", "zarr:-", cwd=tmp_path)
    assert (out.returncode, out.stdout, out.stderr.count(b"\n")) == (2, b"", 1)


@pytest.mark.parametrize("dtype", FORMATS["zarr"].dtypes)
@pytest.mark.parametrize("channels", [1, 4, 7])
def test_every_sample_is_given_back(tmp_path, dtype, channels):
    samples = (np.arange(600 * 530 * channels).reshape(600, 530, channels) % 251).astype(dtype)
    publish(str(tmp_path / "a.zarr"), encode(samples, FORMATS["zarr"], record={"a": 1}))
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), samples)


@pytest.mark.parametrize("what", ["group", "bytes", "complex", "broken"])
def test_what_is_no_image_is_one_line(tmp_path, what):
    path = tmp_path / "odd.zarr"
    if what == "group":
        zarr.create_group(path)
    elif what == "broken":
        path.mkdir()
        (path / "zarr.json").write_text("{")
    else:
        zarr.create_array(path, data=np.zeros((4, 4), "c8" if what == "complex" else "?"))
    result = imgconv("apply", "-k", "sobel", "odd.zarr", "-o", "x.png", cwd=tmp_path)
    assert (result.returncode, result.stderr.count(b"\n")) == (1, 1), result.stderr
    assert b"odd.zarr" in result.stderr
    assert not (tmp_path / "x.png").exists()
