"""Ranks of windows against SciPy, OpenCV's rules and elements sorted in Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.errors import ShapeError
from imgconv.ops import rank as ranks
from imgconv.ops.rank import median_pool2d, range_pool2d, rank_pool2d
from imgconv.shapes import output_size, pair, pool_sides

ndimage = pytest.importorskip("scipy.ndimage")

TYPES = ("u1", "u2", "i2", "i4", "f4", "f8", "i1", "u4", "f2", "?")


def _sorted_windows(x, rank, kernel, stride, padding, dilation, ceil_mode, missing=None):
    """The elements of every window, sorted by Python, and the one that the docstring names."""
    missing = np.zeros(x.shape, bool) if missing is None else missing
    kernel, dilation = pair(kernel, "k"), pair(dilation, "d")
    stride = kernel if stride is None else pair(stride, "s")
    sides = pool_sides(padding, kernel, dilation)
    rows, columns = output_size(x.shape[1:], kernel, stride, sides, dilation, ceil_mode)
    taps = kernel[0] * kernel[1]
    least = -np.inf if x.dtype.kind == "f" else 0 if x.dtype == bool else np.iinfo(x.dtype).min
    out = np.empty((len(x), rows, columns), x.dtype)
    for c, oy, ox in np.ndindex(out.shape):
        seen = []
        for m, n in np.ndindex(kernel):
            iy = oy * stride[0] - sides.top + m * dilation[0]
            ix = ox * stride[1] - sides.left + n * dilation[1]
            if 0 <= iy < x.shape[1] and 0 <= ix < x.shape[2] and not missing[c, iy, ix]:
                seen.append(x[c, iy, ix])
        if not seen:
            out[c, oy, ox] = least
        elif any(v != v for v in seen):
            out[c, oy, ox] = np.nan
        else:
            middle = (len(seen) - 1) // 2
            place = middle if rank is None else rank % taps * (len(seen) - 1) // max(taps - 1, 1)
            out[c, oy, ox] = sorted(seen)[place]
    return out


@st.composite
def _cases(draw):
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    # Each small window and rank is a loop to compile.
    small = st.sampled_from([(1, 1), (3, 3), (2, 5)])
    kernel = draw(st.one_of(small, st.tuples(st.integers(3, 10), st.integers(9, 12))))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 3)]))
    need = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [n + draw(st.integers(0, 5)) for n in need]
    if draw(st.integers(0, 7)) == 0:
        size = [need[0], need[1] + 600 // dtype.itemsize]  # more than a block
    shape = (draw(st.integers(1, 2)), *size)
    if dtype.kind == "f":
        x = rng.normal(size=shape).astype(dtype)
        if draw(st.booleans()):
            x[rng.random(shape) < 0.02] = draw(st.sampled_from([np.nan, np.inf, -np.inf, -0.0]))
    elif dtype.kind == "b":
        x = rng.random(shape) < 0.5
    else:
        bounds = np.iinfo(dtype)
        x = rng.integers(bounds.min, bounds.max, shape, dtype, endpoint=True)
        if draw(st.booleans()):
            x = np.where(rng.random(shape) < 0.5, x, x.flat[0])
    taps = kernel[0] * kernel[1]
    ranks_drawn = st.integers(-taps, taps - 1) if taps > 25 else st.sampled_from([0, taps // 3, -1])
    rank = draw(st.one_of(st.none(), ranks_drawn))
    stride = draw(st.sampled_from([None, 1, (1, 2), 3]))
    padding = draw(st.sampled_from([0, (kernel[0] // 2, kernel[1] // 2)]))
    missing = None if draw(st.integers(0, 2)) else rng.random(shape) < draw(st.floats(0, 1))
    return x, rank, kernel, stride, padding, dilation, draw(st.booleans()), missing


@given(case=_cases())
@settings(max_examples=60, deadline=None)
def test_ranks_are_those_of_sorted_windows(case):
    x, rank, *options, missing = case
    if rank is None:
        out = median_pool2d(x, *options, missing=missing)
    else:
        out = rank_pool2d(x, rank, *options, missing=missing)
    assert out.dtype == x.dtype
    np.testing.assert_array_equal(out, _sorted_windows(x, rank, *options, missing))


@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("size", [5, 7, 31])
def test_interiors_are_scipys(size, dtype):
    x = np.random.default_rng(size).integers(0, 256, (2, 70, 130)).astype(dtype)
    for rank in (None, -2):
        wanted = (
            ndimage.median_filter(x, (1, size, size)) if rank is None
            else ndimage.rank_filter(x, rank, (1, size, size))
        )  # fmt: skip
        pool = median_pool2d(x, size, 1) if rank is None else rank_pool2d(x, rank, size, 1)
        inside = slice(size // 2, -(size // 2))
        np.testing.assert_array_equal(pool, wanted[:, inside, inside])


@pytest.mark.parametrize("size", [3, 9])
def test_bytes_do_not_depend_on_the_way_or_on_threads(size, monkeypatch):
    x = np.random.default_rng(1).integers(0, 256, (3, 80, 900), np.uint8)
    given = median_pool2d(x, size, 1, size // 2)
    monkeypatch.setenv("IMGCONV_NUM_THREADS", "1")
    monkeypatch.setattr(ranks, "COUNTED", 0 if size == 3 else 1000)
    np.testing.assert_array_equal(median_pool2d(x, size, 1, size // 2), given)


def test_a_range_is_the_greatest_less_the_least():
    x = np.array([[[-32768, 32767, 0, 5]]], np.int16)
    out = range_pool2d(x, (1, 2), 1)
    assert out.dtype == np.int32
    assert out.tolist() == [[[65535, 32767, 5]]]
    image = np.random.default_rng(2).integers(0, 256, (1, 40, 50), np.uint8)
    wanted = ndimage.morphological_gradient(image, (1, 5, 5))
    np.testing.assert_array_equal(range_pool2d(image, 5, 1), wanted[:, 2:-2, 2:-2])


@pytest.mark.parametrize("rank", [9, -10])
def test_a_rank_that_no_element_has_is_refused(rank):
    with pytest.raises(ShapeError, match=rf"rank={rank}, expected -9 to 8"):
        rank_pool2d(np.zeros((1, 5, 5)), rank, 3)
