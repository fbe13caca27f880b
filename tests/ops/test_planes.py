"""Every algorithm on planes: channels by kernels of their own, laid out (N, C, H, W)."""

import numpy as np
import pytest

from imgconv.ops import plans
from imgconv.ops.algorithms import problem, select
from imgconv.ops.conv import conv2d
from imgconv.ops.filter import filter_image
from tests import reference
from tests.running import bytes_by_threads

# Kernel, maps per channel, stride, dilation, padding, mode.
GEOMETRIES = {
    "plain": ((5, 5), 1, (1, 1), (1, 1), (2, 2, 2, 2), "zeros"),
    "two maps": ((7, 4), 2, (1, 1), (1, 1), (3, 0, 1, 2), "reflect"),
    "tall": ((13, 9), 1, (1, 1), (1, 1), (6, 6, 4, 4), "zeros"),
    "strided": ((5, 3), 1, (2, 2), (1, 1), (2, 2, 1, 1), "zeros"),
    "one map, dilated": ((3, 5), 1, (2, 3), (1, 3), (1, 1, 6, 6), "reflect"),
    "dilated": ((3, 5), 2, (2, 1), (1, 3), (1, 1, 6, 6), "circular"),
}
PLANAR = {
    "direct": GEOMETRIES,
    "sparse": GEOMETRIES,
    "box": ["plain", "tall"],
    "separable": ["plain", "two maps", "tall"],
    "fourier": ["plain", "two maps", "tall"],
    "depthwise": ["plain", "strided"],
    "blocked": ["plain", "tall", "strided", "one map, dilated"],
    "gemm": GEOMETRIES,
}


def only(monkeypatch, algorithm):
    """Let the planner know one algorithm, for images of any size."""
    monkeypatch.setattr(select, "ALGORITHMS", (algorithm,))
    monkeypatch.setattr(problem, "SMALL", 0)
    monkeypatch.setattr(plans, "CONTENT", -1)  # each call is planned


def draw(algorithm, geometry, batch=2):
    """Planes, their kernels, a bias and what else conv2d needs."""
    kernel, maps, stride, dilation, sides, mode = GEOMETRIES[geometry]
    generator = np.random.default_rng(4)
    x = generator.normal(size=(batch, 19, 31, 45)).astype(np.float32)
    weight = generator.normal(size=(19 * maps, 1, *kernel))
    bias = generator.normal(size=19 * maps)
    if algorithm == "separable":
        weight = weight[..., :1] * weight[..., :1, :]
    if algorithm == "box":
        x = generator.integers(0, 256, x.shape).astype(np.uint8)
        weight, bias = np.full_like(weight, 3), bias * 0
    options = {"stride": stride, "padding": sides, "dilation": dilation, "padding_mode": mode}
    return x, weight.astype(np.float32), bias.astype(np.float32), options


@pytest.mark.parametrize(
    ("algorithm", "geometry"), [(name, one) for name, some in PLANAR.items() for one in some]
)
def test_planes_agree_with_the_definition(algorithm, geometry, monkeypatch):
    only(monkeypatch, algorithm)
    x, weight, bias, options = draw(algorithm, geometry)
    names = []
    with select.telling(lambda job, offers: names.append(offers[0].algorithm)):
        got = conv2d(x, weight, bias, **options, groups=19, activation="relu")
    assert names == [algorithm]
    _, _, stride, dilation, sides, mode = GEOMETRIES[geometry]
    want = reference.conv2d(x, weight, bias, stride, sides, dilation, 19, mode)
    bound = np.abs(weight).sum(axis=(1, 2, 3)).max() * np.abs(x).max()
    np.testing.assert_allclose(got, np.maximum(want, 0), rtol=0, atol=1e-5 * bound)


@pytest.mark.parametrize("algorithm", ["direct", "sparse", "box", "separable", "fourier"])
def test_planes_have_the_bits_of_the_interleaved_image(algorithm, monkeypatch):
    only(monkeypatch, algorithm)
    for geometry in ("plain", "tall"):
        x, weight, bias, options = draw(algorithm, geometry, 1)
        x, weight, bias = x[:, :9], weight[:1], bias[:1]
        got = conv2d(x, weight.repeat(9, 0), bias.repeat(9), **options, groups=9)
        image = np.ascontiguousarray(x[0].transpose(1, 2, 0))
        want = filter_image(image, weight, bias, **options)
        np.testing.assert_array_equal(got[0], want[0].transpose(2, 0, 1))


@pytest.mark.parametrize("algorithm", PLANAR)
def test_planes_do_not_depend_on_threads_or_batch(algorithm, monkeypatch):
    only(monkeypatch, algorithm)
    x, weight, bias, options = draw(algorithm, "plain", 5)
    results = bytes_by_threads(lambda: conv2d(x, weight, bias, **options, groups=19))
    assert len(results) == 1
    alone = [conv2d(image, weight, bias, **options, groups=19) for image in x]
    assert results == {np.stack(alone).tobytes()}


def planned(size, kernel, monkeypatch, dtype=np.float32):
    """The algorithm that the planner takes for planes, without computing them."""
    problems = []
    monkeypatch.setattr(plans, "run", lambda problem, *_: problems.append(problem))
    x = np.zeros(size, dtype)  # untouched, so it takes no memory
    weight = np.random.default_rng(kernel).normal(size=(size[-3], 1, kernel, kernel))
    conv2d(x, weight.astype(np.float32), padding=kernel // 2, groups=size[-3])
    return select.choose(problems[0]).algorithm


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    ("kernel", "algorithm"),
    [(3, "direct"), (9, "direct"), (15, "direct"), (31, "fourier"), (63, "fourier")],
)
def test_large_planes_meet_the_algorithms_of_interleaved_images(
    kernel, algorithm, dtype, monkeypatch
):
    assert planned((3, 3000, 4000), kernel, monkeypatch, dtype) == algorithm
    assert planned((16, 3000, 4000), kernel, monkeypatch, dtype) == algorithm


@pytest.mark.parametrize("batch", [1, 8, 300])
def test_layers_are_planned_alike_in_any_batch(batch, monkeypatch):
    assert planned((batch, 96, 56, 56), 3, monkeypatch) == "depthwise"
    assert planned((batch, 3, 250, 250), 21, monkeypatch) == "direct"
    assert planned((batch, 1, 250, 250), 3, monkeypatch) == "sparse"
