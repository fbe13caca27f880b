"""The code for CPUs with shorter vectors, on this one: `IMGCONV_CPU` hides what it has more."""

import os
import platform
import subprocess
import sys

import pytest

X86 = platform.machine().lower() in ("x86_64", "amd64")
pytestmark = pytest.mark.skipif(not X86, reason="hides instructions of x86-64")

PROGRAM = """
import numpy as np
from imgconv.jit import cache
from imgconv.ops.conv import conv2d
from imgconv.ops.filter import filter_image
from tests import reference

rng = np.random.default_rng(5)
pixels = rng.integers(0, 256, (33, 45, 3), np.uint8)
kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], float)[None, None]
maps = filter_image(pixels, kernel, divisor=24.0, out_dtype=np.uint8, padding_mode="zeros")
planes = pixels.transpose(2, 0, 1)[:, None].astype(float)
wanted = np.rint(reference.conv2d(planes, kernel, sides=(1, 1, 1, 1)) / 24)
assert (maps[0].transpose(2, 0, 1) == wanted[:, 0]).all()

x = rng.normal(size=(1, 32, 13, 11)).astype(np.float32)
for shape, groups, pads in (((24, 32, 1, 1), 1, 0), ((32, 1, 3, 3), 32, 1)):
    weight = rng.normal(size=shape).astype(np.float32)
    found = conv2d(x, weight, padding=pads, groups=groups, activation="relu")
    wanted = reference.conv2d(x, weight, sides=(pads,) * 4, groups=groups)
    np.testing.assert_allclose(found, np.maximum(wanted, 0), rtol=0, atol=2e-5)
print(cache.vectors()[0])
"""
MODULES = (
    "jit/test_simd.py", "ops/algorithms/test_box.py", "ops/algorithms/test_fourier.py",
    "ops/algorithms/test_packed.py", "ops/algorithms/test_separable.py", "ops/test_pool.py",
)  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "lanes"), [pytest.param("avx2", 8, marks=pytest.mark.slow), ("sse", 4)]
)
def test_operations_agree_with_the_reference_on_shorter_vectors(mode, lanes):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, "IMGCONV_CPU": mode},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{lanes}\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["avx2", "sse"])
def test_the_tests_of_operations_pass_on_shorter_vectors(mode):
    modules = [f"tests/{name}" for name in MODULES]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *modules],
        env={**os.environ, "IMGCONV_CPU": mode}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]


def test_another_name_of_a_cpu_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "imgconv", "warmup"], env={**os.environ, "IMGCONV_CPU": "mmx"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "IMGCONV_CPU='mmx', expected avx2, sse or nothing" in done.stderr
