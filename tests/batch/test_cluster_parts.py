"""One large image in parts on several workers: the file that one process writes, byte for byte."""

import json
import os
import pickle
import signal

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.batch.cluster.assembly import assemble, make_part
from imgconv.batch.runner import Outcome
from imgconv.io.scaling import Lost
from imgconv.ops.rows import ArrayRows
from imgconv.pipeline.division import Divided
from tests.batch import test_cluster
from tests.batch.test_cluster import imgconv, rows, start, until
from tests.running import here

pytest.importorskip("distributed")
tifffile = pytest.importorskip("tifffile")
zarr = pytest.importorskip("zarr")
pytestmark = pytest.mark.cluster
cluster = test_cluster.cluster

PHOTO = np.tile(data.astronaut(), (3, 2, 1))[:1400]  # 1400×1024
COMMANDS = {
    "stencil": (["apply", "-k", "sobel"], "png"),
    "tiles of a transform": (["apply", "-k", "dense.npy"], "tif"),
    "missing samples": (["apply", "-k", "gaussian:sigma=2", "--missing", "0"], "tif"),
    "a chain with strides": (["run", "conv gaussian:sigma=2 stride=2 | maxpool 3 | abs"], "ppm"),
    "anchored": (["apply", "-k", "6x7+5+0: " + "1 2 0 " * 14, "--divisor", "42"], "png"),
    "an anchored chain": (["run", "conv '1 2; 3 4' anchor=1,0 stride=2 | abs"], "ppm"),
    "dilated": (["apply", "-k", "laplacian", "--dilation", "9", "--scale", "signed"], "tif"),
    "chunks": (["apply", "-k", "gaussian:sigma=3"], "zarr"),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    options = {"photometric": "rgb", "metadata": None}
    tifffile.imwrite(folder / "photo.tif", PHOTO, tile=(128, 128), compression="zlib", **options)
    zarr.create_array(folder / "photo.zarr", data=PHOTO, chunks=(100, 300, 3))
    np.save(folder / "dense.npy", np.random.default_rng(3).normal(size=(31, 31)) / 500)
    return folder


def content(path):
    """The bytes of a file, or of each file in a folder."""
    if path.is_file():
        return path.read_bytes()
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


class Here:
    """Stands for a cluster: this process makes the parts, the last one first."""

    def __init__(self):
        self.parts = 0

    def run(self, sources, address, work, recorder, total, threads):
        copy = pickle.loads(pickle.dumps(work))
        for index, source in enumerate(sources):
            with pytest.raises(Divided) as told:
                copy(source, index)
            division = told.value.division
            self.parts += division.parts
            made = PartsHere(
                division, lambda *rows, at=(source, index): make_part(copy, *at, *rows)
            )
            yield Outcome(source, [assemble(work, source, division, made, False)])


class PartsHere(ArrayRows):
    """The rows of parts that were made in another order."""

    def __init__(self, division, part):
        self.division, self.part, self.lost = division, part, Lost()
        self.height, self.width, self.channels = division.shape
        self.dtype, self.pixels, self._next = division.dtype, None, 0

    def made(self, folder):
        found = {}
        for number in reversed(range(self.division.parts)):
            found[number], lost = self.part(*self.division.bounds(number), folder)
            self.lost = self.lost.plus(lost)
        return [found[number] for number in sorted(found)]

    def write_into(self, folder):
        self.made(folder)

    def rows_into(self, out, count=None):
        if self.pixels is None:
            self.pixels = np.concatenate(self.made(None))
        return super().rows_into(out, count)


@pytest.mark.parametrize("source", ["photo.tif", "photo.zarr"])
@pytest.mark.parametrize("name", COMMANDS)
def test_parts_of_an_image_are_the_image(large, monkeypatch, source, name):
    command, suffix = COMMANDS[name]
    monkeypatch.chdir(large)
    stem = f"{source}-{name.replace(' ', '-')}"
    run = [*command, source, "--memory", "1M", "--json", "-o"]
    alone = here(*run, f"{stem}-alone.{suffix}")
    cluster = Here()
    monkeypatch.setattr("imgconv.batch.cluster.client.run", cluster.run)
    divided = here(*run, f"{stem}.{suffix}", "--cluster", "here")
    assert alone.returncode == divided.returncode == 0, alone.stderr + divided.stderr
    assert cluster.parts > (2 if suffix == "zarr" else 8)
    assert content(large / f"{stem}.{suffix}") == content(large / f"{stem}-alone.{suffix}")
    (expected,), (got,) = rows(alone.stdout), rows(divided.stdout)
    assert got | {"output": ""} == expected | {"output": ""}
    assert divided.stderr == alone.stderr or "compiling" in alone.stderr
    assert not [found for found in os.listdir(large) if found.startswith(".imgconv")]


def test_a_large_image_and_small_ones_beside_it(large):
    Image.fromarray(PHOTO[:100, :100]).save(large / "small.png")
    run = ["apply", "-k", "-1", "--bias", "255", "--memory", "1M", "--cluster", "local:2"]
    result = imgconv(*run, "photo.tif", "small.png", "-o", "both/", cwd=large)
    assert (result.returncode, result.stderr) == (0, b"")
    for name, pixels in (("photo.tif", PHOTO), ("small.png", PHOTO[:100, :100])):
        made = np.asarray(Image.open(large / "both" / name))
        np.testing.assert_array_equal(made, 255 - pixels)


@pytest.mark.parametrize("suffix", ["png", "zarr"])
def test_a_worker_killed_among_parts_costs_nothing(large, cluster, suffix):
    workers = [cluster.worker() for _ in range(2)]
    chain = ["run", "conv gaussian:sigma=9 | conv gaussian:sigma=9 | conv sobel", "photo.tif"]
    chain += ["--memory", "1M", "--json", "-o"]
    run = start(*chain, f"killed.{suffix}", "--cluster", cluster.address, cwd=large)
    until(lambda: list(large.glob(".imgconv-*")), "no output was begun")
    workers[0].send_signal(signal.SIGKILL)
    cluster.worker()
    out, err = run.communicate(timeout=120)
    assert (run.returncode, err) == (0, b"")
    assert json.loads(out)["height"] == 1400
    alone = imgconv(*chain, f"whole.{suffix}", cwd=large)
    assert alone.returncode == 0, alone.stderr
    assert content(large / f"killed.{suffix}") == content(large / f"whole.{suffix}")


def test_damage_in_one_part_is_named_and_leaves_nothing(large):
    whole = bytearray((large / "photo.tif").read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 3000] = bytes(3000)
    (large / "bad.tif").write_bytes(whole)
    for suffix in ("png", "zarr"):
        result = imgconv(
            "apply", "-k", "sobel", "bad.tif", "-o", f"bad.{suffix}", "--memory", "1M",
            "--cluster", "local:1", cwd=large,
        )  # fmt: skip
        assert (result.returncode, result.stderr.count(b"\n")) == (1, 1), result.stderr
        assert b"bad.tif: broken TIFF" in result.stderr
        assert not (large / f"bad.{suffix}").exists()
    assert not [found for found in os.listdir(large) if found.startswith(".imgconv")]
