"""Missing samples: left out, renormalized, kept apart, in bands as on the whole."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.io.image import Image
from imgconv.io.streamed import Streamed
from imgconv.kernels import get_kernel
from imgconv.nn.chain import parse_chain
from imgconv.ops import rows
from imgconv.ops.filter import filter_image
from imgconv.ops.missing import pool_masked
from imgconv.ops.pool_kinds import KINDS
from imgconv.ops.pool_text import parse_pool
from imgconv.ops.rows import read_rows
from imgconv.pipeline.bands.maps import map_rows
from imgconv.pipeline.recipe import ChainRecipe, Recipe
from imgconv.pipeline.settings import ReadSettings
from imgconv.pipeline.whole import maps_of
from imgconv.shapes import Window
from tests import reference
from tests.goldens import load
from tests.pipeline.test_streaming import Trickle
from tests.running import bytes_by_threads, here
from tests.samples import draw

tifffile = pytest.importorskip("tifffile")
GOLDENS = load("missing.npz")
MODES = ["zeros", "constant", "reflect", "replicate", "symmetric", "circular"]
KERNELS = {
    "positive": lambda g, shape: g.integers(0, 5, shape) + (np.indices(shape).sum(0) == 0),
    "mixed": lambda g, shape: g.normal(size=shape),
    "holes": lambda g, shape: g.normal(size=shape) * (g.random(shape) < 0.4),
    "zero sum": lambda g, shape: np.diff(g.integers(-4, 5, (*shape[:3], shape[3] + 1)), axis=3),
}


@pytest.mark.parametrize("name", ["mean", "weighted", "sharpen"])
@pytest.mark.parametrize("mode", ["zeros", "replicate", "circular"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaps_are_interpolated_as_by_astropy(name, mode, dtype):
    image, kernel = GOLDENS["image"].astype(dtype)[..., None], GOLDENS[name][None, None]
    got = filter_image(
        image, kernel, padding_mode=mode, missing=np.nan, missing_fill="interpolate",
        out_dtype=dtype,
    )[0, ..., 0]  # fmt: skip
    want = GOLDENS[f"{name} {mode}"]
    known = np.isfinite(got)
    error = 1e-6 * np.abs(kernel).sum() * np.nanmax(np.abs(image)) if dtype == np.float32 else 0
    np.testing.assert_allclose(got[known], want[known], rtol=1e-12, atol=error)
    # Where nothing is known astropy gives NaN, or 0 of padding alone.
    assert np.isfinite(want[~known]).sum() <= (mode == "zeros") * 5
    assert known.mean() > 0.9


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4)),
    taps=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    kind=st.sampled_from(list(KERNELS)),
    mode=st.sampled_from(MODES),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    sides=st.tuples(*[st.integers(0, 4)] * 4),
    mixing=st.sampled_from(["each", "all", "groups"]),
    dtype=st.sampled_from(["uint8", "int16", "float32", "float64"]),
    share=st.sampled_from([0.03, 0.3, 0.8]),
)
def test_results_are_those_of_the_definition(
    seed, size, taps, kind, mode, stride, dilation, sides, mixing, dtype, share
):
    generator = np.random.default_rng(seed)
    height, width, channels = size
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, taps, strict=True)]
    if extents[0] > height + sides[0] + sides[1] or extents[1] > width + sides[2] + sides[3]:
        return
    groups = {"each": channels, "all": 1, "groups": channels}[mixing]
    pixels = draw(generator, size, dtype)
    missing = pixels.flat[0].item()
    pixels[generator.random(size) < share] = missing
    mask = pixels == missing
    per_group = 1 if mixing != "all" else channels
    count = 2 * channels if mixing == "groups" else 2
    weights = KERNELS[kind](generator, (count, per_group, *taps)).astype(float)
    bias = generator.normal(size=count)
    options = {"stride": stride, "dilation": dilation}
    got = filter_image(
        pixels, weights, bias, padding=sides, padding_mode=mode, pad_value=3.0, missing=missing,
        missing_fill="interpolate", groups=groups if mixing == "groups" else None,
        out_dtype=np.float64, **options,
    )  # fmt: skip
    planes, absent = pixels.transpose(2, 0, 1), mask.transpose(2, 0, 1)
    options |= {"sides": sides, "mode": mode, "value": 3.0}
    if mixing == "each":
        want = [
            reference.masked_conv2d(planes[c : c + 1], absent[c : c + 1], weights, bias, **options)
            for c in range(channels)
        ]
        want = np.stack(want, axis=-1)
    else:
        want = reference.masked_conv2d(planes, absent, weights, bias, groups=groups, **options)
        want = want[..., None]
    assert got.shape == want.shape
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    scale = np.abs(weights).sum() * max(1, float(np.abs(planes.astype(float)).max()))
    # The sums of float32 images are float32.
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6 * scale)
    whole = filter_image(
        np.where(mask, 0, pixels).astype(dtype), weights, bias, padding=sides, padding_mode=mode,
        pad_value=3.0, groups=groups if mixing == "groups" else None, out_dtype=np.float64,
        stride=stride, dilation=dilation,
    )  # fmt: skip
    # A window without a missing tap has the usual bits.
    clear = filter_image(
        mask.astype(np.uint8), (weights != 0).astype(float), padding=sides, padding_mode=mode,
        groups=groups if mixing == "groups" else None, stride=stride, dilation=dilation,
    ) == 0  # fmt: skip
    assert got[clear].tobytes() == whole[clear].tobytes()


def test_sums_are_exact_and_rounded_once():
    pixels = np.array([[7, 8, 255], [9, 255, 10]], np.uint8)[..., None]
    mean = np.full((1, 1, 2, 2), 0.25)
    got = filter_image(
        pixels, mean, padding="valid", missing=255, missing_fill="interpolate", out_dtype=np.uint8
    )
    assert got.ravel().tolist() == [8, 9]  # 24 / 3 and 18 / 2
    wide = np.array([[16777217, -1, 16777217]], np.int32)[..., None]
    ones = np.ones((1, 1, 1, 3))
    options = {"padding": "valid", "missing_fill": "interpolate", "out_dtype": np.int32}
    assert filter_image(wide, ones, missing=-1, **options).item() == 50331651


def test_a_constant_image_stays_constant_however_much_is_missing():
    generator = np.random.default_rng(8)
    pixels = np.full((60, 50, 1), 0.1, np.float32)
    pixels[generator.random(pixels.shape) < 0.7] = np.nan
    weights = get_kernel("gaussian:sigma=4").effective_weights()
    got = filter_image(pixels, weights, missing=np.nan, missing_fill="interpolate")
    # The kernel's own sum is 1 to a rounding or two.
    np.testing.assert_allclose(got, np.float32(0.1), rtol=2e-7)


@pytest.mark.parametrize("combine", ["magnitude", "max", "sum", "mean", "shrink"])
def test_combined_maps_are_combinations_of_the_maps(combine):
    generator = np.random.default_rng(2)
    pixels = generator.normal(size=(17, 13, 2))
    pixels[generator.random(pixels.shape) < 0.2] = np.nan
    weights, bias = generator.normal(size=(3, 1, 3, 3)), generator.normal(size=3)
    options = {"missing": np.nan, "out_dtype": np.float64, "missing_fill": "interpolate"}
    maps = filter_image(pixels, weights, bias, **options)
    sums = maps - bias[:, None, None, None]
    want = {
        "shrink": np.where(np.abs(sums) < bias[:, None, None, None], 0, sums).sum(axis=0),
        "magnitude": np.sqrt(np.square(maps).sum(axis=0)), "max": maps.max(axis=0),
        "sum": maps.sum(axis=0), "mean": maps.mean(axis=0),
    }[combine]  # fmt: skip
    got = filter_image(pixels, weights, bias, combine=combine, activation="tanh", **options)
    np.testing.assert_allclose(got[0], np.tanh(want), rtol=1e-12)
    weights[1] -= weights[1].mean()  # one that sums to zero has no result; nor has any of them
    maps = filter_image(pixels, weights, bias, **options)
    got = filter_image(pixels, weights, bias, combine=combine, **options)
    np.testing.assert_array_equal(np.isnan(got[0]), np.isnan(maps).any(axis=0))
    assert np.isnan(maps[1]).sum() > np.isnan(maps[0]).sum()


def test_other_numbers_that_are_none_spread_as_ever():
    pixels = np.ones((9, 9, 1), np.float32)
    pixels[1, 1], pixels[6, 6] = np.nan, -5
    box = np.ones((1, 1, 3, 3))
    got = filter_image(pixels, box, missing=-5, missing_fill="interpolate")[0, ..., 0]
    assert np.isnan(got[:3, :3]).all()
    got[:3, :3] = 9
    assert (got == 9).all()
    pixels[1, 1] = np.inf
    got = filter_image(pixels, box, missing=-5)[0, ..., 0]
    assert np.isinf(got[:3, :3]).all()
    assert np.isnan(got).sum() == 1


def test_fill_keep_leaves_missing_what_was_missing():
    generator = np.random.default_rng(3)
    pixels = generator.normal(size=(20, 21, 3)).astype(np.float32)
    mask = generator.random(pixels.shape) < 0.2
    pixels[mask] = np.nan
    box = np.ones((1, 1, 3, 3))
    filled = filter_image(pixels, box, missing=np.nan, missing_fill="interpolate")[0]
    kept = filter_image(pixels, box, missing=np.nan)[0]
    assert not np.isnan(filled).any()
    np.testing.assert_array_equal(kept, np.where(mask, np.nan, filled))
    even = filter_image(pixels, np.ones((1, 1, 2, 4)), missing=np.nan)[0]
    assert np.isnan(even[mask]).all()
    # Elsewhere it is the middle of the window that counts, so a stride takes every other result.
    for options in ({"stride": 2, "padding": 1}, {"stride": (3, 2), "padding": 1}):
        step = options["stride"] if isinstance(options["stride"], tuple) else (2, 2)
        strided = filter_image(pixels, box, missing=np.nan, **options)[0]
        np.testing.assert_array_equal(strided, kept[:: step[0], :: step[1]])
    # With an anchor it is the tap there.
    for anchor in ((0, 0), (2, 1)):
        every = filter_image(pixels, box, missing=np.nan, anchor=anchor)[0]
        strided = filter_image(pixels, box, missing=np.nan, anchor=anchor, stride=2)[0]
        assert np.isnan(every[mask]).all()
        np.testing.assert_array_equal(strided, every[::2, ::2])
    valid = filter_image(pixels, box, missing=np.nan, padding="valid")[0]
    np.testing.assert_array_equal(valid, kept[1:-1, 1:-1])
    mixed = filter_image(pixels, np.ones((1, 3, 3, 3)), missing=np.nan)[0]
    np.testing.assert_array_equal(np.isnan(mixed[..., 0]), mask.all(axis=2))


def test_integers_hold_the_value_where_they_can():
    pixels = np.array([[-9999, 5, 5, 5]], np.int16)[..., None]
    options = {"padding_mode": "zeros", "missing": -9999}
    edge = np.array([[[[-1, 0, 1]]]])
    got = filter_image(pixels, edge, out_dtype=np.int16, **options)[0, 0, :, 0]
    assert got.tolist() == [-9999, -9999, 0, -5]
    got = filter_image(pixels, edge, out_dtype=np.uint8, **options)[0, 0, :, 0]
    assert got.tolist() == [0, 0, 0, 0]
    got = filter_image(pixels, edge, **options)[0, 0, :, 0]
    np.testing.assert_array_equal(got, [np.nan, np.nan, 0, -5])


def test_values_are_those_of_the_samples_own_type():
    nodata = -3.4028234663852886e38  # GDAL's text of float32's least number
    pixels = np.array([[nodata, 1, 2]], np.float32)[..., None]
    got = filter_image(pixels, np.ones((1, 1, 1, 1)), missing=nodata)[0, 0, :, 0]
    np.testing.assert_array_equal(got, [np.nan, 1, 2])
    tenth = np.array([[0.1, 1, 2]], np.float32)[..., None]
    assert np.isnan(filter_image(tenth, np.ones((1, 1, 1, 1)), missing=0.1)).sum() == 1
    for value in (300, 0.5, np.nan, np.inf):  # which bytes never are
        got = filter_image(np.uint8([[[44], [0]]]), np.ones((1, 1, 1, 1)), missing=value)
        assert got.ravel().tolist() == [44, 0]


POOLS = [
    "max:2", "min:3,stride=2,padding=1", "avg:2", "avg:3,stride=2,padding=1",
    "avg:3,padding=1,count_include_pad=0", "avg:3,divisor_override=5,ceil_mode=1", "lp:2",
    "lp:3,p=1,stride=1", "max:3,dilation=2,stride=1", "adaptive-avg:3x4", "adaptive-max:3x4",
    "global-avg", "global-max",
]  # fmt: skip


@pytest.mark.parametrize("text", POOLS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_pools_take_the_samples_that_are_there(text, dtype):
    generator = np.random.default_rng(4)
    x = np.abs(draw(generator, (2, 11, 13), dtype))
    mask = generator.random(x.shape) < 0.35
    mask[:, 3:7, 2:9] = True
    pool = parse_pool(text)
    out, gone = pool_masked(x, mask, pool.kind, pool.options, "interpolate")
    plain = pool(np.where(mask, 0, x))
    assert out.dtype == plain.dtype
    base = pool.kind.rpartition("-")[2]
    power = pool.options.get("norm_type", 1.0)
    # Which samples a window has is what a pool says of a map with one sample in it.
    windows = np.stack([
        KINDS[pool.kind.replace("min", "max").replace("lp", "max").replace("avg", "max")](
            one.reshape(1, 11, 13),
            **{k: v for k, v in pool.options.items()
               if k not in ("count_include_pad", "divisor_override", "norm_type")},
        )[0]
        for one in np.eye(143, dtype=np.uint8)
    ]).transpose(1, 2, 0) > 0  # fmt: skip
    ones = pool(np.ones((1, 11, 13)))[0]
    for c, y, column in itertools.product(*map(range, out.shape)):
        seen = windows[y, column]
        present = seen & ~mask[c].ravel()
        values = x[c].ravel()[present].astype(float)
        if not (seen & mask[c].ravel()).any():
            assert out[c, y, column] == plain[c, y, column]
            assert not gone[c, y, column]
            continue
        assert gone[c, y, column] == (not present.any())
        if not present.any():
            continue
        if base in ("max", "min"):
            assert out[c, y, column] == getattr(values, base)()
            continue
        # Padding, where it counts, is known to be 0.
        kernel = pool.options.get("kernel_size")
        pads = 0
        if base == "avg" and kernel and pool.options.get("count_include_pad", True):
            pads = kernel**2 - seen.sum() if "padding" in text else 0
        total = (values**power).sum() / (present.sum() + pads) * (seen.sum() + pads)
        whole = ones[y, column] ** power / seen.sum()  # what each sample counts without gaps
        np.testing.assert_allclose(out[c, y, column], (total * whole) ** (1 / power), rtol=1e-5)


CHAINS = [
    "conv gaussian:sigma=1 | conv sobel | relu | maxpool 2", "gray | conv box-3 stride=2 | abs",
    "maxpool 3 stride=1 padding=1 | conv sharpen mode=circular", "avgpool 2 | conv box-5",
    "conv '1 2; 3 4' anchor=1,0 stride=2 | relu | conv box-3 anchor=0,2",
    "conv laplacian | lppool 2 stride=1 | minpool 2", "softmax | conv box-3 mode=zeros",
    "medianpool 3 stride=1 padding=1 | rankpool 2 rank=1 | dilate 3 | morphological-gradient 3",
    "conv box-3 dilation=2 | gray | conv box-3 padding=valid",
]  # fmt: skip
RECIPES = [
    {"kernels": ["sobel"]}, {"kernels": ["gaussian:sigma=2"], "gray": True},
    {"kernels": ["box-3", "sharpen"], "linear": True}, {"kernels": ["box-5"], "channels": "1"},
    {"kernels": ["laplacian"], "scale": "signed"}, {"kernels": ["sharpen"], "pool": "max:2"},
    {"kernels": ["box-3"], "pool": "avg:3,stride=1,padding=1", "scale": "abs"},
    {"kernels": ["box-3"], "window": Window(stride=(2, 3), padding_mode="circular")},
    {"kernels": ["disk:radius=6"], "activation": "tanh", "window": Window(padding="valid")},
    {"kernels": ["4x3+3+0: 1 2 0 1 1 1 3 1 0 1 1 1"], "window": Window(stride=(2, 3))},
    {"kernels": ["0 0 0; 0 0 0; 0 2 0"], "window": Window(padding_mode="symmetric")},
]  # fmt: skip


def recipe_of(choice, fill, alpha):
    read = ReadSettings(missing=7.0, missing_fill=fill, alpha=alpha)
    if isinstance(choice, str):
        return ChainRecipe((), steps=tuple(parse_chain(choice)), read=read)
    changes = {name: choice[name] for name in choice if name in ReadSettings.ROWS}
    options = {name: choice[name] for name in choice if name not in changes}
    options["read"] = read.changed(**changes)
    if "pool" in options:
        options["pool"] = parse_pool(options["pool"])
    options["kernels"] = tuple(map(get_kernel, options["kernels"]))
    return Recipe(**options)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    choice=st.sampled_from([*CHAINS, *RECIPES]),
    fill=st.sampled_from(["keep", "interpolate"]),
    alpha=st.sampled_from(["", "keep", "drop"]),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    target=st.sampled_from(["uint8", "float32", "raw"]),
    band=st.sampled_from([1, 700, 4000]),
    share=st.sampled_from([0, 0.001, 0.2]),
)
def test_bands_give_the_bits_of_the_whole(
    seed, choice, fill, alpha, dtype, target, band, share
):  # fmt: skip
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (70, 31, 3 + bool(alpha))).astype(dtype)
    pixels[generator.random(pixels.shape) < share] = 7
    pixels[20:30, 5:25, :3] = 7 if share else 8
    image = Image(pixels, alpha=bool(alpha), name="noise")
    recipe = recipe_of(choice, fill, alpha or "drop")
    raw = target == "raw"
    sample = np.dtype("float32" if raw else target)
    whole = list(maps_of(image, recipe, sample, raw))
    usual, rows.BAND = rows.BAND, band
    try:
        source = Streamed(Trickle(pixels), bool(alpha), "noise", None)
        maps = map_rows(source, recipe, sample, raw, wanted=range(len(whole)))
        left = "softmax" in choice or (alpha and (isinstance(choice, str) or "pool" in choice or (
            alpha == "keep" and "window" in choice)))  # fmt: skip
        if maps is None:
            assert left or (raw and alpha == "keep"), choice
            return
        found = [np.empty((m.height, m.width, m.channels), sample) for m in maps]
        for top in range(0, maps[0].height, 9):  # several maps are read side by side
            for one, out in zip(maps, found, strict=True):
                read_rows(one, out[top : top + 9])
    finally:
        rows.BAND = usual
    for out, one, want in zip(found, maps, whole, strict=True):
        np.testing.assert_array_equal(out, want.samples)
        assert out.tobytes() == want.samples.tobytes()
        assert one.warning() == want.warning()


@pytest.mark.parametrize("taps", ["0 0 0; 0 0 0; 0 2 0", "0 2 0; 0 0 0; 0 0 0"])
def test_bands_hold_the_row_that_decides_what_is_kept(taps, monkeypatch):
    pixels = np.random.default_rng(1).integers(0, 9, (40, 6, 1)).astype(np.float32)
    recipe = Recipe((get_kernel(taps),), read=ReadSettings(missing=7.0))
    real = np.dtype(np.float32)
    (whole,) = maps_of(Image(pixels), recipe, real, raw=True)
    assert np.isnan(whole.samples[pixels == 7]).all()
    monkeypatch.setattr(rows, "BAND", 1)
    (found,) = map_rows(Streamed(Trickle(pixels), False, "", None), recipe, real, raw=True)
    out = np.empty_like(whole.samples)
    read_rows(found, out)
    np.testing.assert_array_equal(out, whole.samples)


def test_threads_change_nothing():
    pixels = np.random.default_rng(5).normal(size=(300, 200, 3)).astype(np.float32)
    pixels[pixels > 1] = np.nan
    weights = get_kernel("gaussian:sigma=2").effective_weights()
    assert len(bytes_by_threads(lambda: filter_image(pixels, weights, missing=np.nan))) == 1


def test_a_chain_is_its_steps_one_by_one():
    pixels = np.random.default_rng(6).normal(size=(40, 30, 1)).astype(np.float32)
    pixels[10:20, 5:9] = np.nan
    recipe = ChainRecipe((), steps=tuple(parse_chain("conv box-3 | relu | conv sobel | maxpool 2")),
                         read=ReadSettings(missing=np.nan))  # fmt: skip
    image = Image(pixels)
    (got,) = maps_of(image, recipe, np.dtype(np.float32), raw=True)
    box, sobel = (get_kernel(name) for name in ("box-3", "sobel"))
    options = {"missing": np.nan, "activation": "relu"}
    first = filter_image(pixels, box.effective_weights(), **options)[0]
    second = filter_image(
        first, sobel.effective_weights(), combine="magnitude", missing=np.nan
    )[0, ..., 0]  # fmt: skip
    blocks = second.reshape(20, 2, 15, 2).transpose(0, 2, 1, 3).reshape(20, 15, 4)
    gone = np.isnan(blocks).all(axis=2)
    best = np.where(gone, np.nan, np.nanmax(np.where(gone[..., None], 0, blocks), axis=2))
    np.testing.assert_array_equal(got.samples[..., 0], best)
    assert 0 < gone.sum() < 40


def geotiff(path, pixels, nodata, **options):
    tags = [] if nodata is None else [(42113, "s", 0, nodata, True)]
    tifffile.imwrite(path, pixels, extratags=tags, metadata=None, **options)
    return path


@pytest.mark.parametrize("text", ["-9999", " -9999.0 \0", "-9.999e3"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"byteorder": ">"}])
def test_nodata_is_what_the_files_tag_says(tmp_path, text, options):
    pixels = np.full((32, 32), 100, np.float32)
    pixels[3:6, 3:6] = -9999
    path = geotiff(tmp_path / "in.tif", pixels, text, **options)
    made = here("apply", "-k", "box-3", "--missing", "nodata", path, "-o", tmp_path / "out.npy")
    assert (made.returncode, made.stderr) == (0, "")
    out = np.load(tmp_path / "out.npy")[..., 0]
    np.testing.assert_allclose(out, np.where(pixels == 100, 100, np.nan), rtol=1e-6)


def test_a_tiff_says_what_is_missing_as_its_tag_does(tmp_path):
    pixels = np.full((9, 9), 100, np.float32)
    pixels[4, 4] = -9999
    path = geotiff(tmp_path / "in.tif", pixels, "-9999")
    run = ("apply", "-k", "box-3", path, "--overwrite", "-o", tmp_path / "out.tif", "--missing")
    for value, more, want in (
        ("nodata", (), -9999), ("-9999", (), -9999), ("-9999", ("--scale", "signed"), -9999),
        ("nodata", ("--no-metadata",), np.nan), ("nodata", ("--memory", "1M"), -9999),
    ):  # fmt: skip
        made = here(*run, value, *more)
        assert made.returncode == 0, made.stderr
        np.testing.assert_equal(tifffile.imread(tmp_path / "out.tif")[4, 4], np.float32(want))
    bytes_ = geotiff(tmp_path / "bytes.tif", np.full((9, 9), 3, np.uint8), "-9999")
    made = here("apply", "-k", "box-3", bytes_, "--missing", "3", "-o", tmp_path / "three.tif")
    assert (made.returncode, made.stderr) == (0, "")
    assert (tifffile.imread(tmp_path / "three.tif") == 3).all()
    plain = geotiff(tmp_path / "plain.tif", pixels, None)
    made = here("run", "conv box-3", plain, "--missing", "-9999", "-o", tmp_path / "plain-out.tif")
    assert np.isnan(tifffile.imread(tmp_path / "plain-out.tif")[4, 4])


def test_what_is_not_there_is_said_once(tmp_path):
    plain = geotiff(tmp_path / "plain.tif", np.full((5, 5), 9, np.uint8), None)
    byte = geotiff(tmp_path / "byte.tif", np.full((5, 5), 9, np.uint8), "-9999")
    text = geotiff(tmp_path / "text.tif", np.full((5, 5), 9, np.uint8), "none")
    out = ("-o", f"{tmp_path}/out/", "--overwrite")
    run = ("apply", "-k", "box-3", "--missing", "nodata")
    made = here(*run, plain, *out)
    assert made.returncode == 0
    assert made.stderr == f"imgconv: {plain}: no nodata tag; no sample is taken for missing\n"
    made = here(*run, byte, *out)
    assert made.returncode == 0
    assert made.stderr.endswith("its samples of uint8 are never -9999; none is missing\n")
    made = here(*run, text, *out)
    assert made.returncode == 1
    assert "nodata tag 'none' is not a number" in made.stderr
    made = here(*run, "sample:chart", *out)
    assert made.returncode == 1
    assert "only TIFF says which value is missing" in made.stderr
    made = here("run", "conv box-3", "--missing", "many", plain, *out)
    assert made.returncode == 2
    assert "expected a number, nan or nodata" in made.stderr
    made = here(*run, "--alpha", "filter", plain, *out)
    assert made.returncode == 2


def test_scaling_leaves_missing_samples_out(tmp_path):
    pixels = np.full((8, 8), 0.25, np.float32)
    pixels[:, 4:] = 0.75
    pixels[2, 2] = -9999
    path = geotiff(tmp_path / "in.tif", pixels, "-9999")
    run = ("apply", "-k", "identity", "--missing", "nodata", path, "--scale")
    made = here(*run, "minmax", "-o", tmp_path / "out.tif", "--depth", "8")
    assert made.returncode == 0
    got = tifffile.imread(tmp_path / "out.tif")
    want = np.where(pixels == 0.75, 255, 0)
    np.testing.assert_array_equal(got, want)
    assert "1 missing samples became 0, since uint8 cannot hold -9999" in made.stderr
    zero = np.where(pixels == -9999, 7, np.where(pixels == 0.75, 200, 100)).astype(np.uint8)
    path = geotiff(tmp_path / "byte.tif", zero, "7")
    made = here("apply", "-k", "box-3", "--missing", "nodata", path, "--scale", "minmax",
                "-o", tmp_path / "held.tif")  # fmt: skip
    assert (made.returncode, made.stderr) == (0, "")
    got = tifffile.imread(tmp_path / "held.tif")
    assert got[2, 2] == 7
    assert (got[:, 0], got[:, 7]) == (pytest.approx(0), pytest.approx(255))
    # Of the known half, all is outside; of all samples it would be less than a quarter.
    dark = np.full((8, 8), -0.5, np.float32)
    dark[1:] = -9999
    path = geotiff(tmp_path / "dark.tif", dark, "-9999")
    made = here("apply", "-k", "identity", "--missing", "nodata", path, "-o", tmp_path / "d.png")
    assert "100% of the map lies outside" in made.stderr


def test_commands_do_the_same_in_bands_and_when_repeated(tmp_path):
    generator = np.random.default_rng(9)
    pixels = generator.normal(0.5, 0.2, (700, 500)).astype(np.float32)
    pixels[generator.random(pixels.shape) < 0.05] = -9999
    path = geotiff(tmp_path / "in.tif", pixels, "-9999", tile=(64, 64))
    for command, name in ((("apply", "-k", "gaussian:sigma=2"), "a"),
                          (("run", "conv sobel | relu | maxpool 2"), "r")):  # fmt: skip
        run = (*command, "--missing", "nodata", "--missing-fill", "interpolate", path)
        whole, parts = tmp_path / f"{name}.tif", tmp_path / f"{name}-bands.tif"
        assert here(*run, "-o", whole).returncode == 0
        assert here(*run, "--memory", "1M", "-o", parts).returncode == 0
        assert tifffile.imread(whole).tobytes() == tifffile.imread(parts).tobytes()
        again = here("repeat", whole, "--input", path)
        assert "the same bytes" in again.stdout, again.stderr
