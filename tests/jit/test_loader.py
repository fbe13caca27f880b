"""Object code mapped without LLVM does what LLVM's own linker makes of it."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from imgconv.jit import cache, compiling, loader
from imgconv.jit import loop as jit
from imgconv.ops.microkernels import png_rows

SIGNATURE = "f32* f32* i64 i64"


def body(out, source, count, kind):
    for i in range(count):
        x = source[i]
        if kind == 0:
            out[i] = math.exp(x) + np.float32(0.1)
        elif kind == 1:
            out[i] = math.tanh(x) * math.pow(abs(x), np.float32(1.7))
        else:
            out[i] = math.erf(x)


@pytest.fixture(scope="module")
def made():
    entry, ir = compiling.compile_ir(SIGNATURE, body)
    return cache._make_object(entry, ir, "imgconv_test")[0]


@jit.loop
def doubled():
    def twice(out, source, count):
        for i in range(count):
            out[i] = source[i] * 2

    return "f32* f32* i64", twice


@jit.loop
def quadrupled():
    part = jit.Loop(doubled.builder).part()  # not compiled yet

    def twice_twice(out, source, count):
        part(out, source, count)
        part(out, out, count)

    return "disjoint f32* f32* i64", twice_twice


def filtered(rows=40, width=300):
    """A PNG's rows after both of its loops, and an array after a loop that calls another."""
    pixels = np.random.default_rng(1).integers(0, 256, (rows, width)).astype(np.uint8)
    pixels[:, 1:] //= 8
    packed = np.zeros((rows, 1 + width), np.uint8)
    back, bad, above = np.zeros_like(pixels), np.zeros(1, np.int64), np.zeros(width, np.uint8)
    jit.Loop(png_rows.filter_rows.builder)()(packed, pixels, above, rows, width, 3)
    jit.Loop(png_rows.unfilter.builder)(3)(back, packed, above, rows, width, bad)
    assert (back == pixels).all()
    values = pixels.astype(np.float32).ravel()
    out = np.zeros_like(values)
    jit.Loop(quadrupled.builder)()(out, values, values.size)
    assert (out == 4 * values).all()
    return packed


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (compiling, "_STOPS_AT_IR", False),
        (compiling, "_IDLE", frozenset()),
        (loader, "ENABLED", False),
    ],
)
def test_results_do_not_need_what_only_saves_time(module, name, value, monkeypatch, tmp_path):
    assert compiling._STOPS_AT_IR  # this Numba has what is private to it
    monkeypatch.setenv("IMGCONV_STORE", str(tmp_path / "usual"))
    usual = filtered()
    monkeypatch.setenv("IMGCONV_STORE", str(tmp_path / "without"))
    monkeypatch.setattr(cache, "_loaded", {})
    monkeypatch.setattr(module, name, value)
    assert (filtered() == usual).all()


def bound(address):
    return jit.Function(address, SIGNATURE.split())


def test_constants_and_calls_of_c_functions_are_found(made):
    flat = loader.flatten(made, "imgconv_test")
    if flat is None:
        pytest.skip("objects of this machine are linked by LLVM")
    ours = bound(loader.load(flat))
    theirs = bound(cache._link(cache._OBJECT + b"\n" + made, "imgconv_test"))
    source = np.random.default_rng(3).normal(0, 2, 1003).astype(np.float32)
    for kind in range(3):
        got, want = np.zeros_like(source), np.zeros_like(source)
        ours(got, source, source.size, kind)
        theirs(want, source, source.size, kind)
        assert got.any()
        np.testing.assert_array_equal(got, want)


def test_a_symbol_that_does_not_exist_is_refused_and_not_jumped_to(made):
    flat = loader.flatten(made, "imgconv_test")
    if flat is None:
        pytest.skip("objects of this machine are linked by LLVM")
    assert b"erff" in flat
    with pytest.raises(ValueError, match="no symbol erfZ"):
        loader.load(flat.replace(b"erff", b"erfZ"))


def test_objects_of_other_machines_are_left_to_llvm(made):
    other = bytearray(made)
    other[18:20] = (183).to_bytes(2, "little")  # EM_AARCH64
    assert loader.flatten(bytes(other), "imgconv_test") is None
    assert loader.flatten(b"\xcf\xfa\xed\xfe" + bytes(100), "imgconv_test") is None


def test_a_store_of_linked_objects_works_too(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCONV_STORE", str(tmp_path))
    monkeypatch.setattr(loader, "flatten", lambda code, symbol: None)
    made = jit.loop(lambda: (SIGNATURE, body))
    out = np.zeros(3, np.float32)
    made()(out, np.array([0, 1, 2], np.float32), 3, 0)
    np.testing.assert_allclose(out, np.exp([0, 1, 2]) + 0.1, rtol=1e-6)
    (entry,) = tmp_path.glob("*.o")
    assert cache._OBJECT + b"\n\x7fELF" in entry.read_bytes()


def test_a_warm_apply_imports_neither_numba_nor_llvm_nor_pillow(tmp_path):
    from PIL import Image

    Image.fromarray(np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3)).save(
        tmp_path / "a.png"
    )
    program = (
        "import sys\n"
        "from imgconv.cli import main\n"
        "main(['apply', '-k', 'sobel', 'a.png', '-o', 'b.png', '--overwrite', '-q'],"
        " standalone_mode=False)\n"
        "heavy = ('numba', 'llvmlite.binding', 'PIL', 'scipy', 'onnx', 'asyncio', 'logging',"
        " 'multiprocessing', 'concurrent', 'pathlib', 'tempfile', 'hashlib', 'difflib', 'shutil',"
        " 'glob')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    for _ in range(2):
        last = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
        )
    assert (last.stdout, last.stderr) == ("[]\n", "")


@pytest.mark.slow
def test_after_a_warmup_the_usual_filters_compile_nothing(tmp_path):
    from PIL import Image
    from skimage import data

    Image.fromarray(data.astronaut()).save(tmp_path / "a.png")
    environment = {**os.environ, "IMGCONV_STORE": str(tmp_path / "store")}

    def imgconv(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "imgconv", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
        ).stderr  # fmt: skip

    assert "loops compiled into" in imgconv("warmup")
    assert imgconv("warmup").startswith("0 loops compiled")
    for kernel in ("sobel", "gaussian:sigma=2", "sharpen", "box-3"):
        assert "compiling" not in imgconv("apply", "-k", kernel, "a.png", "-o", f"{kernel[:3]}.png")


def test_what_cannot_be_mapped_is_stored_as_an_object_file(tmp_path, monkeypatch):
    """A system that refuses to make memory executable finds, the next time, what LLVM can link."""

    def refused(flat, find):  # mprotect's EACCES
        raise OSError("memory cannot be made executable")

    monkeypatch.setenv("IMGCONV_STORE", str(tmp_path))
    monkeypatch.setattr(loader, "load", refused)
    monkeypatch.setattr(cache, "_loaded", {})
    out = np.zeros(3, np.float32)
    jit.Loop(doubled.builder)()(out, np.array([0, 1, 2], np.float32), 3)
    assert out.tolist() == [0, 2, 4]
    (entry,) = tmp_path.glob("*.o")
    assert cache._OBJECT + b"\n\x7fELF" in entry.read_bytes()
