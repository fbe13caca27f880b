"""Convolution of many channels: the matrix product against the definition, and its bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.errors import ShapeError
from imgconv.jit import cache
from imgconv.ops import plans
from imgconv.ops.algorithms import depthwise, gemm_layout, select, winograd_layout
from imgconv.ops.algorithms.problem import ConvProblem
from imgconv.ops.conv import conv2d
from imgconv.ops.microkernels import gemm
from tests import reference
from tests.running import bytes_by_threads

# (N, C, H, W), maps, kernel, stride, padding, dilation, groups: a network's layers, made small.
LAYERS = {
    "AlexNet's first": ((1, 3, 35, 43), 8, 11, 4, 2, 1, 1),
    "ResNet's first": ((2, 3, 30, 31), 12, 7, 2, 3, 1, 1),
    "many channels": ((1, 200, 7, 7), 33, 3, 1, 1, 1, 1),
    "several blocks of rows": ((1, 40, 57, 56), 7, 3, 1, 1, 1, 1),
    "pointwise": ((2, 64, 9, 9), 20, 1, 1, 0, 1, 1),
    "pointwise, a batch of small maps": ((9, 70, 7, 7), 40, 1, 1, 0, 1, 1),
    "pointwise, strided": ((1, 16, 14, 15), 24, 1, 2, 0, 1, 1),
    "pointwise, where it lies": ((2, 70, 16, 20), 60, 1, 1, 0, 1, 1),
    "pointwise, several blocks of channels": ((1, 600, 14, 14), 20, 1, 1, 0, 1, 1),
    "pointwise, padded": ((1, 16, 14, 15), 24, 1, 1, 1, 1, 1),
    "pointwise, strided, a batch of small maps": ((9, 70, 13, 14), 40, 1, 2, 0, 1, 1),
    "strided, medium maps": ((1, 48, 27, 28), 500, 3, 2, 1, 1, 1),
    "strided, a batch of small maps": ((6, 70, 14, 13), 230, 3, 2, 1, 1, 1),
    "panels of their own for rows": ((2, 3, 33, 63), 20, 7, 2, 3, 1, 1),
    "panels of rows, blocks of channels": ((1, 300, 9, 31), 13, 4, 1, 2, 1, 1),
    "a 1×1 map": ((3, 48, 1, 1), 10, 1, 1, 0, 1, 1),
    "groups": ((2, 12, 13, 11), 18, 3, 2, 1, 1, 3),
    "dilated": ((1, 8, 15, 15), 8, 5, 3, 2, 2, 1),
    "depthwise": ((2, 40, 7, 7), 40, 5, 1, 2, 1, 40),
    "depthwise, strided": ((1, 16, 30, 31), 16, 3, 2, 1, 1, 16),
    "depthwise, strided 5×5": ((3, 9, 29, 17), 9, 5, 2, 2, 1, 9),
    "depthwise, an odd number of small planes": ((3, 9, 7, 8), 9, 3, 1, 1, 1, 9),
    "depthwise, small planes, strided": ((1, 9, 14, 13), 9, 5, 2, 2, 1, 9),
    "depthwise, a vector and a half": ((1, 8, 15, 28), 8, 5, 1, 2, 1, 8),
    "depthwise, wide": ((1, 8, 10, 117), 8, 3, 1, 1, 1, 8),
    "depthwise, wide, strided": ((1, 8, 17, 150), 8, 5, 2, 2, 1, 8),
    "depthwise, too large to unroll": ((1, 8, 20, 37), 8, 9, 1, 4, 1, 8),
    "depthwise, taps read anew": ((1, 9, 20, 37), 9, 7, 1, 3, 1, 9),
    "few maps": ((1, 30, 8, 40), 2, 3, 1, 1, 1, 1),
    "transformed": ((2, 17, 25, 31), 70, 3, 1, 1, 1, 1),
    "transformed in groups": ((1, 34, 40, 26), 36, 3, 1, 0, 1, 2),
}


def make(layer, seed=0):
    size, maps, kernel, stride, padding, dilation, groups = layer
    generator = np.random.default_rng(seed)
    x = generator.normal(size=size).astype(np.float32)
    weight = generator.normal(size=(maps, size[1] // groups, kernel, kernel)).astype(np.float32)
    bias = generator.normal(size=maps).astype(np.float32)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return x, weight, bias, options


@pytest.fixture
def chosen(monkeypatch):
    """The names of the algorithms that the planner took."""
    names = []
    choose = select.choose

    def record(job: ConvProblem):
        offer = choose(job)
        names.append(offer.algorithm)
        return offer

    monkeypatch.setattr(select, "choose", record)
    return names


@pytest.mark.parametrize("name", LAYERS)
def test_a_networks_layer_agrees_with_the_definition(name, chosen):
    x, weight, bias, options = make(LAYERS[name])
    got = conv2d(x, weight, bias, **options, activation="relu")
    pairs = {key: (options[key],) * 2 for key in ("stride", "dilation")}
    want = reference.conv2d(
        x, weight, bias, **pairs, sides=(options["padding"],) * 4, groups=options["groups"]
    )
    bound = np.abs(weight).sum(axis=(1, 2, 3)).max() * np.abs(x).max()
    np.testing.assert_allclose(got, np.maximum(want, 0), rtol=0, atol=1e-5 * bound)
    kinds = {"a 1×1 map": [], "depthwise": ["depthwise"], "transformed": ["winograd"]}
    kinds |= {"depthwise, too large to unroll": ["gemm"], "transformed in groups": ["winograd"]}
    if cache.vectors()[0] < 8:  # masked loads would be one number at a time
        kinds["depthwise"] = ["gemm"]
    assert chosen == kinds.get(name, kinds.get(name.split(",")[0], ["gemm"]))


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(*[st.integers(0, 3)] * 4),
    st.sampled_from(["zeros", "constant", "reflect", "replicate", "circular", "symmetric"]),
    st.integers(1, 20),
    st.sampled_from([1, 4, 5]),
)
@settings(max_examples=80, deadline=None)
def test_any_window_agrees_with_the_definition(
    size, kernel, stride, dilation, sides, mode, maps, batch
):
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    height, width = (max(n, span) for n, span in zip(size, spans, strict=True))
    generator = np.random.default_rng(height * width)
    x = generator.normal(size=(batch, 8, height, width)).astype(np.float32)
    weight = generator.normal(size=(maps, 8, *kernel)).astype(np.float32)
    got = conv2d(x, weight, None, stride, sides, dilation, 1, mode, 0.5)
    want = reference.conv2d(x, weight, None, stride, sides, dilation, 1, mode, 0.5)
    bound = np.abs(weight).sum(axis=(1, 2, 3)).max() * np.abs(x).max()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * bound)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("sides", [(2, 1, 0, 0), (0, 0, 1, 0)])
def test_pointwise_kernels_meet_padded_rows(sides, mode):
    generator = np.random.default_rng(3)
    x = generator.normal(size=(2, 16, 14, 16)).astype(np.float32)
    weight = generator.normal(size=(8, 16, 1, 1)).astype(np.float32)
    want = reference.conv2d(x, weight, sides=sides, mode=mode)
    np.testing.assert_allclose(conv2d(x, weight, None, 1, sides, 1, 1, mode), want, atol=1e-4)
    every = np.ascontiguousarray(np.repeat(x, 2, axis=1))[:, ::2]
    np.testing.assert_array_equal(conv2d(every, weight), conv2d(x, weight))


def test_a_strides_last_phase_ends_beyond_the_source():
    generator = np.random.default_rng(6)
    x = generator.normal(size=(1, 8, 4, 5)).astype(np.float32)
    weight = generator.normal(size=(8, 8, 2, 2)).astype(np.float32)
    got = conv2d(x, weight, None, (1, 2), (0, 0, 0, 1), padding_mode="reflect")
    want = reference.conv2d(x, weight, None, (1, 2), (0, 0, 0, 1), mode="reflect")
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([((3, 3), (1, 1)), ((3, 3), (2, 2)), ((2, 5), (1, 2)), ((5, 1), (2, 1))]),
    st.tuples(*[st.integers(0, 4)] * 4),
    st.sampled_from(["zeros", "constant", "reflect"]),
)
@settings(max_examples=40, deadline=None)
def test_any_depthwise_window_agrees_with_the_definition(size, window, sides, mode):
    kernel, stride = window
    height, width = (max(n, k) for n, k in zip(size, kernel, strict=True))
    generator = np.random.default_rng(height * width)
    x = generator.normal(size=(2, 8, height, width)).astype(np.float32)
    weight = generator.normal(size=(8, 1, *kernel)).astype(np.float32)
    bias = generator.normal(size=8).astype(np.float32)
    got = conv2d(x, weight, bias, stride, sides, 1, 8, mode, 0.5)
    want = reference.conv2d(x, weight, bias, stride, sides, (1, 1), 8, mode, 0.5)
    bound = np.abs(weight).sum(axis=(1, 2, 3)).max() * np.abs(x).max()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * bound)


@pytest.mark.parametrize("mode", ["zeros", "constant", "reflect", "circular"])
@pytest.mark.parametrize("pixels", ["rectified", "nearly constant"])
def test_transformed_tiles_lose_less_than_a_tenth_of_the_bound(pixels, mode):
    # Transforms subtract pixels five times as large: a constant map is where that shows.
    generator = np.random.default_rng(8)
    x = generator.normal(size=(1, 64, 26, 29)).astype(np.float32)
    x = np.maximum(x, 0) if pixels == "rectified" else 1.1 + x / 1000
    weight = np.abs(generator.normal(size=(16, 64, 3, 3))).astype(np.float32)
    got = conv2d(x, weight, None, padding=(1, 2, 2, 1), padding_mode=mode, pad_value=0.5)
    want = reference.conv2d(x, weight, sides=(1, 2, 2, 1), mode=mode, value=0.5)
    bound = np.abs(weight).sum(axis=(1, 2, 3)).max() * np.abs(x).max()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * bound)


@pytest.mark.parametrize("name", LAYERS)
def test_threads_tiles_and_batch_do_not_change_a_bit(name, monkeypatch):
    x, weight, bias, options = make(LAYERS[name])
    want = conv2d(x, weight, bias, **options).tobytes()
    assert bytes_by_threads(lambda: conv2d(x, weight, bias, **options), (1, 3, 8)) == {want}
    alone = [conv2d(image, weight, bias, **options).tobytes() for image in x]
    assert b"".join(alone) == want
    plans.store.clear()
    for name, value in {"PANELS": (2_000, 3_000), "TILE": 900, "SUMS": 700, "WEIGHTS": 300}.items():
        monkeypatch.setattr(gemm_layout, name, value)
    monkeypatch.setattr(winograd_layout, "TILES", 9)
    gemm_layout.layout_of.cache_clear()
    try:
        assert conv2d(x, weight, bias, **options).tobytes() == want
    finally:
        gemm_layout.layout_of.cache_clear()
        plans.store.clear()


@pytest.mark.parametrize("registers", [(8, 16), pytest.param((4, 16), marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name",
    [
        "AlexNet's first",
        "pointwise, strided, a batch of small maps",
        "strided, medium maps",
        "transformed in groups",
        "panels of their own for rows",
        "panels of rows, blocks of channels",
        *(name for name in LAYERS if name.startswith("depthwise")),
    ],
)
def test_narrower_vectors_give_the_same_bits(name, registers, monkeypatch):
    x, weight, bias, options = make(LAYERS[name])
    want = conv2d(x, weight, bias, **options)
    monkeypatch.setattr(cache, "vectors", lambda: registers)
    monkeypatch.setattr(gemm, "blocks", gemm.blocks.__wrapped__)
    plans.store.clear()
    np.testing.assert_array_equal(conv2d(x, weight, bias, **options), want)


@pytest.mark.parametrize(
    "name", ["depthwise", "depthwise, strided 5×5", "depthwise, wide", "pointwise", "transformed"]
)
def test_an_activations_bits_do_not_depend_on_the_batch_or_the_tasks(name, monkeypatch):
    x, weight, bias, options = make(LAYERS[name])
    want = conv2d(x, weight, bias, **options, activation="silu")
    plain = conv2d(x, weight, bias, **options).astype(np.float64)
    np.testing.assert_allclose(want, plain / (1 + np.exp(-plain)), rtol=1e-6, atol=1e-6)
    for image, maps in zip(x, want, strict=True):
        alone = conv2d(image, weight, bias, **options, activation="silu")
        np.testing.assert_array_equal(alone, maps)
    plans.store.clear()
    monkeypatch.setattr(depthwise, "CALL", 1)
    try:
        np.testing.assert_array_equal(conv2d(x, weight, bias, **options, activation="silu"), want)
    finally:
        plans.store.clear()


def test_what_was_kept_of_a_layer_serves_no_other_layer():
    x, weight, bias, _ = make(LAYERS["pointwise"])
    first = conv2d(x, weight, bias)
    assert conv2d(x, weight, bias, activation="relu").min() == 0
    np.testing.assert_array_equal(conv2d(x.astype(">f4"), weight, bias), first)
    np.testing.assert_array_equal(conv2d(x[:, :, ::-1], weight, bias), first[:, :, ::-1])
    np.testing.assert_array_equal(conv2d(x[0], weight, bias), first[0])
    np.testing.assert_array_equal(conv2d(x, 2 * weight, 2 * bias), 2 * first)
    assert conv2d(x.astype(np.float64), weight, bias).dtype == np.float64
    with pytest.raises(ShapeError, match="bias"):
        conv2d(x, weight, bias[:-1])


def test_a_large_batch_is_computed_as_its_images_are():
    generator = np.random.default_rng(5)
    x = generator.normal(size=(24, 9, 40, 44)).astype(np.float32)
    for maps, groups in ((1, 1), (3, 3), (3, 1), (9, 9)):
        weight = generator.normal(size=(maps, 9 // groups, 3, 3)).astype(np.float32)
        together = conv2d(x, weight, padding=1, groups=groups)
        np.testing.assert_array_equal(together[5], conv2d(x[5], weight, padding=1, groups=groups))


def test_any_strides_of_the_input_are_read_where_they_lie():
    x, weight, bias, options = make(LAYERS["several blocks of rows"])
    want = conv2d(x, weight, bias, **options)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    backwards = x[:, ::-1, ::-1, ::-1].copy()[:, ::-1, ::-1, ::-1]
    for view in (last, backwards):
        np.testing.assert_array_equal(conv2d(view, weight, bias, **options), want)


def test_nan_reaches_exactly_the_outputs_that_see_it():
    x, weight, bias, options = make(LAYERS["many channels"])
    x[0, 100, 3, 3] = np.nan
    got = np.isnan(conv2d(x, weight, bias, **options))
    assert got[:, :, 2:5, 2:5].all()
    assert got.sum() == 33 * 9
    x, weight, bias, options = make(LAYERS["depthwise"])
    x[1, 5, 3, 3] = np.nan
    got = np.isnan(conv2d(x, weight, bias, **options))
    assert got[1, 5, 1:6, 1:6].all()
    assert got.sum() == 25
