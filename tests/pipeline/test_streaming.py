"""Bands of rows: the same bits as the whole image at once, whatever the bands and threads."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from skimage import data

from imgconv.io.image import Image
from imgconv.io.streamed import Streamed, open_rows, rows_of
from imgconv.jit import parallel
from imgconv.kernels import get_kernel
from imgconv.ops import rows
from imgconv.ops.filter import filter_image
from imgconv.ops.pool_text import parse_pool
from imgconv.ops.rows import ArrayRows, FilteredRows, read_rows
from imgconv.pipeline.bands.maps import map_rows
from imgconv.pipeline.bands.shared import shared
from imgconv.pipeline.recipe import Recipe
from imgconv.pipeline.settings import ReadSettings
from imgconv.pipeline.whole import maps_of
from imgconv.shapes import Window
from tests.cli.test_apply import imgconv

MODES = ["zeros", "constant", "reflect", "replicate", "symmetric", "circular"]


class Trickle:
    """Rows of an array, a few at a time, each of them once."""

    def __init__(self, pixels, most=7):
        self.pixels, self.most, self.next = pixels, most, 0
        self.height, self.width, self.channels = pixels.shape
        self.dtype = pixels.dtype

    def rows_into(self, out, count=None):
        count = min(len(out) if count is None else count, self.most, self.height - self.next)
        out[:count] = self.pixels[self.next : self.next + count]
        self.next += count
        return count

    def close(self):
        pass


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 90), st.integers(1, 50), st.integers(1, 4)),
    kernel=st.tuples(st.integers(1, 9), st.integers(1, 7)),
    mode=st.sampled_from(MODES),
    stride=st.tuples(st.integers(1, 5), st.integers(1, 3)),
    dilation=st.integers(1, 3),
    padding=st.integers(0, 12),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    band=st.sampled_from([1, 300, 5000]),
)
def test_bands_give_the_bits_of_the_whole(
    seed, size, kernel, mode, stride, dilation, padding, dtype, band
):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, size).astype(dtype)
    weights = generator.normal(size=(2, 1, *kernel))
    options = {
        "stride": stride, "padding": padding, "dilation": dilation, "padding_mode": mode,
        "pad_value": 9.0, "combine": "magnitude",
    }  # fmt: skip
    if any(dilation * (k - 1) + 1 > n + 2 * padding for k, n in zip(kernel, size[:2], strict=True)):
        return
    want = filter_image(pixels, weights, **options)[0]
    usual, rows.BAND = rows.BAND, band
    try:
        for source in (Trickle(pixels), ArrayRows(pixels)):
            filtered = FilteredRows(source, weights, **options)
            got = np.empty((filtered.height, filtered.width, filtered.channels), filtered.dtype)
            done = 0
            while done < filtered.height:
                ask = int(generator.integers(1, 30))
                done += filtered.rows_into(got[done : done + ask])
            assert got.tobytes() == want.tobytes()
    finally:
        rows.BAND = usual


def test_a_tall_image_is_never_whole_in_memory(monkeypatch):
    monkeypatch.setattr(rows, "BAND", 4000)
    filtered = FilteredRows(Trickle(np.ones((6000, 40, 3), np.uint8), 100), np.ones((1, 1, 9, 9)))
    for _ in range(0, 6000, 500):
        got = np.empty((500, 40, 3), np.float32)
        read_rows(filtered, got)
        assert (got == 81).all()
        assert len(filtered._window.rows) < 200


RECIPES = {
    "sobel": Recipe((get_kernel("sobel"),)),
    "kept opacity, signed": Recipe((get_kernel("laplacian"),), scale="signed"),
    "no opacity": Recipe((get_kernel("gaussian:sigma=1.5"),), read=ReadSettings(alpha="drop")),
    "abs, gray": Recipe((get_kernel("sobel-x"),), read=ReadSettings(gray=True), scale="abs"),
    "one channel": Recipe((get_kernel("sharpen"),), read=ReadSettings(channels="0")),
    "anchored": Recipe(
        (get_kernel("6x7+5+0: " + "1 2 0 " * 14),),
        Window(padding_mode="circular"),
        read=ReadSettings(alpha="drop"),
    ),
    "anchored, strided": Recipe(
        (get_kernel("5x2+0+1: 1 2 3 4 5 6 7 8 9 0"),),
        Window(stride=2),
        read=ReadSettings(alpha="drop"),
    ),
    "strided": Recipe(
        (get_kernel("box:size=5"),), Window(stride=(2, 3)), read=ReadSettings(alpha="drop")
    ),
    "valid": Recipe(
        (get_kernel("emboss"),), Window(padding="valid"), read=ReadSettings(alpha="drop")
    ),
    "activated": Recipe((get_kernel("kirsch"),), activation="tanh"),
    "linear": Recipe((get_kernel("gaussian:sigma=1"),), read=ReadSettings(linear=True)),
    "linear, gray, signed": Recipe(
        (get_kernel("sobel-y"),), read=ReadSettings(linear=True, gray=True), scale="signed"
    ),
    "max pool": Recipe(
        (get_kernel("sobel"),), pool=parse_pool("max:3,stride=2"), read=ReadSettings(alpha="drop")
    ),
    "average pool": Recipe(
        (get_kernel("sharpen"),),
        pool=parse_pool("avg:2x3,padding=1"),
        read=ReadSettings(alpha="drop"),
    ),
    "linear pool": Recipe(
        (get_kernel("emboss"),),
        pool=parse_pool("lp:2"),
        read=ReadSettings(linear=True, alpha="drop"),
    ),
    "circular": Recipe((get_kernel("prewitt"),), Window(padding_mode="circular")),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_in_bands_is_the_recipe_on_the_whole(recipe, monkeypatch):
    generator = np.random.default_rng(5)
    kinds = itertools.product((1, 2, 3, 4), (np.uint8, np.uint16))
    for (channels, dtype), target in itertools.product(kinds, (np.uint8, np.uint16)):
        high = np.iinfo(dtype).max + 1
        pixels = generator.integers(0, high, (150, 61, channels)).astype(dtype)
        image = Image(pixels, alpha=channels in (2, 4), name="noise")
        (whole,) = maps_of(image, recipe, np.dtype(target), raw=False)
        for threads, band in ((1, 900), (2, 4000), (2, 1 << 20)):
            monkeypatch.setattr(rows, "BAND", band)
            monkeypatch.setattr(parallel, "_threads", threads)
            (found,) = map_rows(rows_of(image), recipe, np.dtype(target), raw=False)
            got = np.empty((found.height, found.width, found.channels), target)
            read_rows(found, got)
            assert got.tobytes() == whole.samples.tobytes()
            assert found.warning() == whole.warning()


def test_what_needs_the_whole_map_is_left_to_it():
    image = rows_of(Image(np.zeros((8, 8, 4), np.uint8), alpha=True))
    sobel = (get_kernel("sobel"),)
    for recipe in (
        Recipe(sobel, scale="minmax"),
        Recipe(sobel, scale="percentile=1"),
        Recipe(sobel, read=ReadSettings(alpha="filter")),
        Recipe(sobel, activation="softmax"),
        Recipe(sobel, Window(padding="valid")),
        Recipe(sobel, pool=parse_pool("max:1")),  # whose opacity would have to be pooled
        Recipe(sobel, pool=parse_pool("adaptive-max:4"), read=ReadSettings(alpha="drop")),
        Recipe(sobel, pool=parse_pool("max:2,ceil_mode=1"), read=ReadSettings(alpha="drop")),
        Recipe((get_kernel("haar"),)),
    ):
        assert map_rows(image, recipe, np.dtype(np.uint8), raw=False) is None


SEVERAL = {
    "plain": Recipe((get_kernel("sobel"), get_kernel("gaussian:sigma=2"), get_kernel("box-3"))),
    "gray, strided": Recipe(
        (get_kernel("disk:radius=6"), get_kernel("laplacian")), Window(stride=3),
        read=ReadSettings(gray=True, alpha="drop"), scale="abs",
    ),
    "linear, of opacity": Recipe(
        (get_kernel("emboss"), get_kernel("sharpen")), read=ReadSettings(linear=True)
    ),
}  # fmt: skip


@pytest.mark.parametrize("recipe", SEVERAL.values(), ids=SEVERAL)
def test_several_maps_of_one_reading_are_those_of_the_whole(recipe, monkeypatch):
    pixels = np.random.default_rng(6).integers(0, 256, (190, 47, 4)).astype(np.uint8)
    image = Image(pixels, alpha=True, name="noise")
    byte = np.dtype(np.uint8)
    whole = [one.samples for one in maps_of(image, recipe, byte, raw=False)]
    wanted = range(len(whole))
    for band in (500, 6000, 1 << 20):
        monkeypatch.setattr(rows, "BAND", band)
        source = Streamed(Trickle(pixels), True, "noise", None)
        maps = map_rows(source, recipe, byte, raw=False, wanted=wanted)
        got = [np.empty((one.height, one.width, one.channels), byte) for one in maps]
        while any(one.done() < one.height for one in maps):
            place = min(wanted, key=lambda n: maps[n].done())
            at = maps[place].done()
            maps[place].rows_into(got[place][at : at + 5])
        for one, same in zip(got, whole, strict=True):
            assert one.tobytes() == same.tobytes()


def test_readers_who_stay_together_hold_a_few_bands(monkeypatch):
    monkeypatch.setattr(rows, "BAND", 4000)
    pixels = np.random.default_rng(7).integers(0, 256, (5000, 40, 1)).astype(np.uint8)
    readers = shared(Trickle(pixels), 3)
    out = np.empty((90, 40, 1), np.uint8)
    for top in range(0, 5000, 90):
        for reader in readers:
            assert reader.rows_into(out) == min(90, 5000 - top)
            assert out[: 5000 - top].tobytes() == pixels[top : top + 90].tobytes()
            assert len(reader._bands._kept) <= 3
    assert [reader.rows_into(out) for reader in readers] == [0, 0, 0]


@pytest.fixture
def large(tmp_path):
    pixels = np.tile(data.astronaut(), (3, 1, 1))
    Pillow.fromarray(pixels).save(tmp_path / "large.png", compress_level=1)
    return tmp_path


def test_damage_found_in_the_middle_leaves_no_output(large):
    content = bytearray((large / "large.png").read_bytes())
    middle = len(content) * 2 // 3
    content[middle : middle + 4000] = b"\xff" * 4000
    (large / "bad.png").write_bytes(content)
    image = open_rows(large / "bad.png")
    first = np.empty((100, 512, 3), np.uint8)
    read_rows(image.rows, first)
    image.rows.close()
    result = imgconv("apply", "-k", "sobel", "bad.png", "-o", "out.png", cwd=large)
    assert result.returncode == 1, result.stderr
    assert result.stderr.splitlines()[-1].startswith(b"imgconv: bad.png: ")
    assert sorted(path.name for path in large.iterdir()) == ["bad.png", "large.png"]


KERNELS = ("-k", "sobel-x", "-k", "laplacian", "-k", "gaussian:sigma=2")


def test_maps_written_side_by_side_are_those_written_alone(large):
    done = imgconv("apply", *KERNELS, "large.png", "-o", "all/", cwd=large)
    assert done.returncode == 0, done.stderr
    names = ["large-gaussian-sigma2.png", "large-laplacian.png", "large-sobel-x.png"]
    assert sorted(path.name for path in (large / "all").iterdir()) == names

    def name(kernel):
        return kernel.replace(":", "-").replace("=", "")

    for kernel in KERNELS[1::2]:
        imgconv("apply", "-k", kernel, "large.png", "-o", "one.png", "--overwrite", cwd=large)
        want = np.asarray(Pillow.open(large / "one.png"))
        got = np.asarray(Pillow.open(large / "all" / f"large-{name(kernel)}.png"))
        np.testing.assert_array_equal(got, want)
    made = (large / "all" / "large-sobel-x.png").stat().st_mtime_ns
    (large / "all" / "large-laplacian.png").unlink()
    imgconv("apply", *KERNELS, "large.png", "-o", "all/", "--skip-existing", cwd=large)
    assert sorted(path.name for path in (large / "all").iterdir()) == names
    assert (large / "all" / "large-sobel-x.png").stat().st_mtime_ns == made


def test_of_maps_side_by_side_none_is_left_of_a_damaged_image(large):
    content = bytearray((large / "large.png").read_bytes())
    middle = len(content) * 2 // 3
    content[middle : middle + 4000] = b"\xff" * 4000
    (large / "bad.png").write_bytes(content)
    done = imgconv("apply", *KERNELS, "bad.png", "-o", "all/", cwd=large)
    assert done.returncode == 1
    assert not (large / "all").exists() or not list((large / "all").iterdir())


def test_one_thread_and_two_write_the_same_file(large):
    for threads in ("1", "2"):
        result = imgconv(
            "apply", "-k", "gaussian:sigma=1", "large.png", "-o", f"{threads}.png",
            "--threads", threads, cwd=large,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    assert (large / "1.png").read_bytes() == (large / "2.png").read_bytes()
    imgconv("apply", "-k", "gaussian:sigma=1", "large.png", "-o", "out.ppm", cwd=large)
    pixels = np.asarray(Pillow.open(large / "1.png"))
    np.testing.assert_array_equal(np.asarray(Pillow.open(large / "out.ppm")), pixels)


def test_a_wrong_compression_is_found_before_any_work(tmp_path):
    for value in ("10", "-1", "best", ""):
        result = imgconv("apply", "-k", "sobel", "missing.png", "--compress", value, cwd=tmp_path)
        assert (result.returncode, result.stderr.count(b"\n")) == (2, 1)
        assert b"--compress" in result.stderr
