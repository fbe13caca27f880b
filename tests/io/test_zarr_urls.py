"""Zarr images in stores that fsspec opens, and chunks that are taller than memory."""

import json

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.errors import LimitError
from imgconv.io.reading import read_images
from imgconv.io.zarr.arrays import ZarrRows
from imgconv.ops.rows import read_rows, start_at
from tests.batch import test_cluster
from tests.batch.test_cluster import imgconv as clustered
from tests.batch.test_cluster import rows
from tests.cli.test_apply import imgconv
from tests.running import here

zarr = pytest.importorskip("zarr")
fsspec = pytest.importorskip("fsspec")
bucket = test_cluster.bucket
PHOTO = data.astronaut()
INVERT = ["-k", "-1", "--bias", "255"]


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    """The URL of an empty folder."""
    if request.param == "file":
        return f"file://{tmp_path}/images"
    system = fsspec.filesystem("memory")
    system.store.clear()
    return "memory://images"


def place_of(url):
    """What the zarr package takes, which knows no file:// URLs."""
    return url.removeprefix("file://")


def written(url):
    return np.moveaxis(zarr.open(url, mode="r")["0"][...], 0, 2)


def test_an_image_goes_from_url_to_url(store):
    zarr.create_array(place_of(f"{store}/photo.zarr"), data=PHOTO, chunks=(64, 64, 3))
    run = ["apply", *INVERT, f"{store}/photo.zarr", "-o", f"{store}/out.zarr", "--json"]
    result = here(*run)
    assert result.returncode == 0, result.stderr
    place = place_of(f"{store}/out.zarr")
    np.testing.assert_array_equal(written(place), 255 - PHOTO)
    image = next(iter(read_images(f"{store}/out.zarr")))
    np.testing.assert_array_equal(image.pixels, 255 - PHOTO)
    system, path = fsspec.core.url_to_fs(f"{store}/out.zarr")
    assert json.loads(result.stdout)["bytes"] == system.du(path)
    again = here(*run)
    assert again.returncode == 1
    assert "exists" in again.stderr
    replaced = here("apply", "-k", "identity", f"{store}/photo.zarr", "--channels", "0",
                    "-o", f"{store}/out.zarr", "--overwrite")  # fmt: skip
    assert replaced.returncode == 0, replaced.stderr
    np.testing.assert_array_equal(written(place), PHOTO[..., :1])
    listed = here("apply", *INVERT, f"{store}/", "--recursive", "--dry-run", "-o", "x/")
    assert listed.stdout.count("photo.zarr -> ") == listed.stdout.count("out.zarr -> ") == 1


def test_an_image_that_fails_in_the_middle_is_not_there(tmp_path):
    system = fsspec.filesystem("memory")
    system.store.clear()
    pixels = np.tile(PHOTO, (3, 1, 1))
    source = zarr.create_array(tmp_path / "bad.zarr", data=pixels, chunks=(512, 512, 3))
    del source
    (tmp_path / "bad.zarr" / "c" / "2" / "0" / "0").write_bytes(b"rubbish")
    result = here("apply", *INVERT, str(tmp_path / "bad.zarr"), "-o", "memory://images/out.zarr")
    assert result.returncode == 1
    assert "bad.zarr" in result.stderr
    assert not system.store


def test_a_store_without_its_package_is_named(tmp_path):
    pytest.importorskip("fsspec")
    with pytest.raises(ImportError):
        import gcsfs  # noqa: F401
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    for names in (
        ["gs://bucket/a.zarr", "-o", "x.png"],
        ["photo.png", "-o", "gs://bucket/a.zarr"],
        ["gs://bucket/a.png", "-o", "x.png"],
        ["photo.png", "-o", "gs://bucket/a.png"],
    ):
        result = imgconv("apply", *INVERT, *names, cwd=tmp_path)
        assert (result.returncode, result.stderr.count(b"\n")) == (2, 1), result.stderr
        assert b"gs://bucket/a." in result.stderr
        assert b"gcsfs" in result.stderr


@pytest.mark.cluster
def test_workers_write_their_parts_of_an_image_in_a_bucket(tmp_path, bucket):
    bucket.create_bucket(Bucket="slides")
    pixels = np.tile(PHOTO, (3, 2, 1))
    system = fsspec.filesystem("s3")
    zarr.create_array("s3://slides/in.zarr", data=pixels, chunks=(200, 512, 3))
    run = ["apply", "-k", "sobel", "s3://slides/in.zarr", "--memory", "2M", "--json", "-o"]
    result = clustered(*run, "s3://slides/out.zarr", "--cluster", "local:2", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, b"")
    alone = clustered(*run, "alone.zarr", "-q", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    np.testing.assert_array_equal(
        written("s3://slides/out.zarr"), written(tmp_path / "alone.zarr")
    )  # fmt: skip
    (row,) = rows(result.stdout)
    assert row["bytes"] == system.du("s3://slides/out.zarr")


@pytest.mark.parametrize("axes", ["yxc", "cyx"])
def test_tall_chunks_are_decoded_once_and_never_side_by_side(tmp_path, monkeypatch, axes):
    pixels = np.tile(PHOTO, (2, 2, 1))
    if axes == "yxc":
        zarr.create_array(tmp_path / "tall.zarr", data=pixels, chunks=(700, 90, 3))
    else:
        array = zarr.create_array(
            tmp_path / "tall.zarr", shape=(3, 1024, 1024), chunks=(1, 700, 90), dtype="u1",
            dimension_names=("c", "y", "x"),
        )  # fmt: skip
        array[...] = pixels.transpose(2, 0, 1)
    decoded = []
    block = ZarrRows._block

    def watched(self, top, end, left, right):
        found = block(self, top, end, left, right)
        decoded.append((top, left, found.nbytes))
        return found

    monkeypatch.setattr(ZarrRows, "_block", watched)
    memory = 1 << 20
    for first in (0, 300, 900):
        source = ZarrRows(str(tmp_path / "tall.zarr"), memory=memory)
        start_at(source, first)
        got = np.empty((1024 - first, 1024, 3), np.uint8)
        read_rows(source, got)
        source.close()
        np.testing.assert_array_equal(got, pixels[first:])
    assert len(decoded) == (2 + 2 + 1) * 12
    assert max(size for *_, size in decoded) <= memory // 2
    with pytest.raises(LimitError, match="700×90"):
        ZarrRows(str(tmp_path / "tall.zarr"), memory=700 * 90)
