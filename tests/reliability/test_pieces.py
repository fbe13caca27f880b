"""Row 27, within one operation: the sizes of tiles, bands and strips leave every bit alone.

Each size is one that was measured to be fast; here they are odd, tiny or huge instead.
"""

from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from imgconv.cli import main
from imgconv.cli.exit_codes import run
from imgconv.io.tiff import rows as tiff_rows
from imgconv.kernels import get_kernel
from imgconv.ops import activation as pointwise
from imgconv.ops import arithmetic, epilogue, linear, plans, rows, scaling
from imgconv.ops import norm as normalization
from imgconv.ops import pool as pooling
from imgconv.ops.algorithms import box, direct, fourier, problem, separable, sparse, tiles
from imgconv.ops.algorithms import gemm_layout as matmul_layout
from imgconv.ops.algorithms import select as plan
from imgconv.ops.conv import conv2d
from imgconv.ops.filter import filter_image
from imgconv.ops.microkernels import pool as pool_loops
from tests.reliability.support import save_photo
from tests.running import num_threads

PHOTO = data.astronaut()
RANDOM = np.random.default_rng(27)
NOISE = RANDOM.normal(size=(2, 1, 5, 5))
# What sets the sizes of pieces, and odd values of it.
SIZES = {
    (tiles, "TILE_FLOATS"): (1, 777, 5001, 1 << 22),
    (direct, "BLOCK"): (1, 48, 333, 8192),
    (direct, "CACHE"): (1, 33_333, 1 << 30),
    (box, "STRIP"): (1, 97, 1001, 1 << 20),
    (epilogue, "LARGE"): (1, 1 << 40),
    (separable, "STRIP"): (1, 97, 601, 1 << 20),
    (matmul_layout, "PANELS"): ((500, 900, 1500), (3001, 7001, 11_001), (1 << 22,) * 3),
    (matmul_layout, "TILE"): (1, 1999, 1 << 24),
    (matmul_layout, "SUMS"): (1, 1999, 1 << 24),
    (matmul_layout, "NEAR"): (1, 1 << 24),
    (matmul_layout, "CALL"): (1, 1 << 40),
    (matmul_layout, "WEIGHTS"): (1, 1 << 24),
    **{(module, "_FEW"): (1, 37, 1001, 1 << 30)
       for module in (arithmetic, linear, normalization, pointwise, pool_loops)},
    (scaling, "_PIECE"): (1, 1001, 1 << 24),
}  # fmt: skip
BANDED = (direct, sparse, box, separable)


def filtered(kernel, dtype=np.uint8, size=(191, 267), **options):
    """A filter of a part of the photo, as often as one likes."""
    weights = get_kernel(kernel).effective_weights() if isinstance(kernel, str) else kernel
    image = PHOTO[: size[0], : size[1]].astype(dtype)
    if image.dtype == np.float32:
        image /= 7  # sums of integers would be exact
    return lambda: filter_image(image, weights, **options)


# Algorithm (None: the one that is chosen) and work.
CASES = {
    "direct: many taps at once": ("direct", filtered(NOISE, combine="magnitude")),
    "direct: read in place": ("direct", filtered(NOISE[:1], np.float32)),
    "direct: strided, dilated": (
        "direct",
        filtered(RANDOM.normal(size=(1, 1, 11, 13)), stride=(2, 3), dilation=(1, 2), padding=5),
    ),
    "direct: passes": ("direct", filtered(RANDOM.normal(size=(1, 1, 9, 9)), np.uint16)),
    "sparse": ("sparse", filtered("sobel-x", size=(61, 83))),
    "sparse: strided": (
        "sparse", filtered(NOISE, size=(61, 83), stride=(3, 2), dilation=2, padding=2),
    ),
    "box": ("box", filtered("box:size=15")),
    "box of 16 bits to 8": ("box", filtered("box:size=15", np.uint16, out_dtype=np.uint8)),
    "box of floats": (None, filtered("box:size=15", np.float32, (391, 467))),
    "separable": ("separable", filtered("gaussian:sigma=4")),
    "separable floats": ("separable", filtered("gaussian:sigma=4", np.float32)),
    "separable integers": (
        "separable",
        filtered(np.outer(np.arange(1, 8), np.arange(2, 9))[None, None].astype(float)),
    ),
    "fourier": ("fourier", filtered(RANDOM.normal(size=(1, 1, 41, 41)))),
    "fourier of floats": ("fourier", filtered(RANDOM.normal(size=(2, 1, 41, 41)), np.float32)),
}  # fmt: skip


def layers():
    """Operations of networks, by name."""
    maps = RANDOM.normal(size=(2, 24, 45, 53)).astype(np.float32)
    weight = RANDOM.normal(size=(20, 24, 3, 3)).astype(np.float32)
    rows_of = maps.reshape(2, -1)[:, :5000]
    table = RANDOM.normal(size=(37, 5000)).astype(np.float32)
    statistics = RANDOM.uniform(1, 2, (4, 24)).astype(np.float32)
    return {
        "convolution": lambda: conv2d(maps, weight, padding=1),
        "strided convolution": lambda: conv2d(maps, weight, padding=2, stride=2, dilation=2),
        "grouped convolution": lambda: conv2d(maps, weight[:, :6], groups=4),
        "max pool": lambda: pooling.max_pool2d(maps, 3, 2, 1),
        "mean pool": lambda: pooling.avg_pool2d(maps, 2),
        "linear": lambda: linear.linear(rows_of, table),
        "sum": lambda: arithmetic.add(maps, maps[:, ::-1].copy()),
        "norm": lambda: normalization.batch_norm(maps, *statistics),
        "sigmoid": lambda: pointwise.activate(maps, "sigmoid"),
    }


LAYERS = layers()


def patched(sizes, algorithm=None, band=None):
    """Other sizes, only one algorithm, and so many rows a band instead of its own choice."""
    stack = ExitStack()
    stack.enter_context(patch.object(plans, "CONTENT", -1))  # each call is planned
    for (module, name), value in sizes.items():
        stack.enter_context(patch.object(module, name, value))
    if band:
        for module in BANDED:
            stack.enter_context(
                patch.object(module, "band_rows", lambda job, *_: min(band, job.out_size[0]))
            )
    if algorithm:
        stack.enter_context(patch.object(plan, "ALGORITHMS", (algorithm,)))
        stack.enter_context(
            patch.object(problem, "SMALL", 1.0)
        )  # it offers whatever the job's size
    matmul_layout.layout_of.cache_clear()
    stack.callback(matmul_layout.layout_of.cache_clear)
    return stack


some_sizes = st.fixed_dictionaries({key: st.sampled_from(few) for key, few in SIZES.items()})
some_bands = st.sampled_from([None, 1, 2, 3, 5, 7, 64, 101])
some_threads = st.integers(1, 5)
EXAMPLES = settings(max_examples=12, deadline=None)


@pytest.mark.parametrize("name", CASES)
def test_row_27_tiles_bands_and_strips_of_any_size_give_the_same_bits(name):
    algorithm, work = CASES[name]
    with patched({}, algorithm):
        want = work().tobytes()

    @EXAMPLES
    @given(some_sizes, some_bands, some_threads)
    def check(sizes, band, threads):
        with patched(sizes, algorithm, band), num_threads(threads):
            assert work().tobytes() == want

    check()


@pytest.mark.parametrize("name", LAYERS)
def test_row_27_tasks_of_a_layer_of_any_size_give_the_same_bits(name):
    work = LAYERS[name]
    want = work().tobytes()

    @EXAMPLES
    @given(some_sizes, some_threads)
    def check(sizes, threads):
        with patched(sizes), num_threads(threads):
            assert work().tobytes() == want

    check()


def test_row_27_a_fourier_transform_of_any_size_gives_the_same_integers():
    work = filtered(RANDOM.integers(-9, 10, (1, 1, 31, 31)).astype(float))
    made = set()
    for size in (128, 256, 512):
        with patched({(fourier, "SIZES"): (size,)}, "fourier"):
            made.add(work().tobytes())
    with patched({}, "direct"):
        made.add(work().tobytes())
    assert len(made) == 1


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_row_27_files_of_bands_of_any_height_are_the_same_bytes(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    save_photo("photo.png", 512)
    made = set()
    for number, (band, threads) in enumerate(((rows.BAND, 1), (1, 2), (3001, 1), (50_001, 3))):
        monkeypatch.setattr(rows, "BAND", band)
        monkeypatch.setattr(tiff_rows, "_BAND", band)
        for kernel in ("sobel", "laplacian", "gabor:theta=30,lambda=8,sigma=3"):
            out = f"{kernel[0]}{number}.{suffix}"
            words = ["apply", "-q", "-k", kernel, "photo.png", "-o", out]
            with num_threads(0):
                assert run(main, [*words, "--threads", str(threads)]) == 0
            made.add((kernel, (tmp_path / out).read_bytes()))
    assert len(made) == 3
