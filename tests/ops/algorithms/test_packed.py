"""Products with maps in the lanes have the bits of those with pixels there."""

import gc

import numpy as np
import pytest

from imgconv.jit import cache, capture
from imgconv.jit.replay import Memory, Program, Region
from imgconv.ops import plans
from imgconv.ops.algorithms import copies, packed, packed_layout, select
from imgconv.ops.conv import conv2d
from tests.running import num_threads

# (N, C, H, W), maps, kernel, and the options that differ from 1×1 layers' usual ones.
LAYERS = {
    "pointwise": ((1, 100, 14, 14), 64, 1, {}),
    "several images a task": ((11, 130, 7, 7), 130, 1, {}),
    "one block of taps": ((2, 64, 5, 7), 48, 1, {}),
    "a map under a vector": ((3, 70, 3, 3), 33, 1, {}),
    "padded": ((3, 60, 13, 13), 100, 3, {"padding": 1}),
    "padded by a value": ((2, 30, 7, 9), 40, 3, {"padding": (2, 0, 1, 1), "pad_value": 0.5,
                                                 "padding_mode": "constant"}),
    "strided": ((2, 90, 14, 15), 80, 1, {"stride": 2}),
    "strided, padded": ((5, 70, 14, 14), 64, 3, {"stride": 2, "padding": 1}),
    "strides apart": ((1, 40, 9, 12), 36, 3, {"stride": (1, 3), "padding": 1}),
    "mostly borders": ((2, 64, 3, 2), 32, 3, {"stride": 4, "padding": 6}),
    "5×5": ((1, 20, 27, 27), 70, 5, {"padding": 2}),
    "dilated": ((2, 24, 13, 13), 32, 3, {"dilation": 2, "padding": 2}),
    "dilated, inside": ((2, 24, 13, 13), 32, 3, {"dilation": (2, 1)}),
}  # fmt: skip


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def compute(monkeypatch):
    """Both results of a layer: by conv2d, then by this module with `lanes` lanes."""
    jobs = []
    choose = select.choose

    def record(job):
        jobs.append(job)
        return choose(job)

    monkeypatch.setattr(select, "choose", record)
    plans.store.clear()

    def both(x, weight, bias, registers, **options):
        expected = conv2d(x, weight, bias, **options)
        monkeypatch.setattr(cache, "vectors", lambda: registers)
        job = jobs[-1]
        product = packed.Product(job)
        got = np.full_like(expected, np.nan)
        more = () if job.residual is None else (job.residual,)
        product(got, job.source, job.weights, job.bias.astype(np.float32), *more)
        return got, expected

    both.jobs = jobs
    return both


@pytest.mark.parametrize("registers", [(16, 32), (8, 16)])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_the_same_bits(name, registers, compute):
    size, maps, kernel, options = LAYERS[name]
    x, weight = drawn(*size), drawn(maps, size[1], kernel, kernel, seed=1)
    got, expected = compute(x, weight, drawn(maps, seed=2), registers, **options)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("activation", [None, "relu", "silu"])
@pytest.mark.parametrize("with_residual", [False, True])
def test_what_follows_the_sums_is_the_same(activation, with_residual, compute):
    x, weight = drawn(3, 150, 7, 7), drawn(72, 150, 1, 1, seed=1)
    x[1, 3, 2, 2] = np.nan
    options = {"residual": drawn(3, 72, 7, 7, seed=3)} if with_residual else {}
    got, expected = compute(
        x, weight, drawn(72, seed=2), (16, 32), activation=activation, **options
    )
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("size", "maps", "kernel", "options"),
    [
        ((1, 40, 14, 14), 192, 3, {"padding": 1}), ((1, 64, 13, 13), 192, 1, {}),
        ((3, 24, 15, 13), 72, 3, {"stride": 2, "padding": (2, 0, 1, 1)}),
        ((1, 64, 28, 26), 100, 1, {"stride": 2}),
    ],
)  # fmt: skip
def test_threads_change_no_bit(count, size, maps, kernel, options, compute):
    with num_threads(count):
        x, weight = drawn(*size), drawn(maps, size[1], kernel, kernel, seed=1)
        got, expected = compute(x, weight, drawn(maps, seed=2), (16, 32), **options)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("maps", "channels", "mode", "computed", "expected"),
    [
        (64, 64, "zeros", 220, True), (64, 64, "zeros", 200, False), (30, 64, "zeros", 220, False),
        (64, 7, "zeros", 220, False), (64, 64, "reflect", 220, False),
    ],
)  # fmt: skip
def test_other_layers_are_left_to_the_other_module(
    maps, channels, mode, computed, expected, compute
):
    x, weight = drawn(1, channels, 14, 14), drawn(maps, channels, 3, 3)
    conv2d(x, weight, padding=1, padding_mode=mode)
    assert packed_layout.applies(compute.jobs[-1], computed) is expected


def test_copies_are_shared_while_a_tape_holds_one():
    rows, made = drawn(64, 100), []

    def make():
        made.append(packed.pack(rows, 16, 64))
        return made[-1]

    with capture.recording(packs=True) as noted:
        assert copies.copy_of(rows, ("packed",), make) is copies.copy_of(rows, ("packed",), make)
    np.testing.assert_array_equal(made.pop().reshape(100, 64), rows.T)
    assert not noted.calls
    del noted
    gc.collect()
    with capture.recording(packs=True):
        copies.copy_of(rows, ("packed",), make)
    assert made


@pytest.mark.parametrize("size", [(3, 20, 30, 27), (1, 34, 24, 24)])
def test_transformed_kernels_that_are_kept_change_no_bit(size):
    groups = 2 if size[1] == 34 else 1
    x, weight = drawn(*size), drawn(100, size[1] // groups, 3, 3, seed=1)
    expected = conv2d(x, weight, padding=1, groups=groups)
    with capture.recording(packs=True) as noted:
        got = conv2d(x, weight, padding=1, groups=groups)
    assert not noted.refused
    regions = [Region(x.ctypes.data, x.nbytes, -1), Region(got.ctypes.data, got.nbytes, -2)]
    program, results = Program(noted, regions, Memory(0, [noted], 2), 2), np.empty_like(expected)
    program.run([x, results])
    np.testing.assert_array_equal(results, expected)
