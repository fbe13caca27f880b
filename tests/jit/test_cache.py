"""The compiled-loop store: warm starts, damage, and what a cast does."""

import os
import subprocess
import sys

import numpy as np
import pytest

from imgconv.jit import cache
from imgconv.jit import loop as jit

PROGRAM = """
import sys
import numpy as np
from imgconv.jit import loop as jit
from tests.jit.test_cache import cast_all
cast_all("u8")(out := np.zeros(3, np.uint8), np.array([1.5, 2.5, 300], np.float32), 3)
print(out.tolist(), "numba" in sys.modules)
"""


@jit.loop
def cast_all(element):
    cast = jit.caster(element)

    def body(out, source, count):
        for i in range(count):
            out[i] = cast(source[i])

    return f"{element}* f32* i64", body


def run(place, **environment):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "IMGCONV_STORE": str(place), **environment},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize("element", ["u8", "u16", "i16"])
def test_casts_round_half_to_even_and_saturate(element):
    values = np.array([0.5, 1.5, -0.5, 2.5, np.nan, 1e9, -1e9, np.inf, -np.inf], np.float32)
    out = np.zeros(values.size, jit.DTYPES[element])
    cast_all(element)(out, values, values.size)
    bounds = np.iinfo(out.dtype)
    expected = np.clip(np.rint(np.nan_to_num(values, nan=0.0)), bounds.min, bounds.max)
    assert out.tolist() == expected.astype(out.dtype).tolist()


def test_a_warm_process_never_imports_numba(tmp_path):
    assert run(tmp_path).stdout == "[2, 2, 255] True\n"
    warm = run(tmp_path)
    assert warm.stdout == "[2, 2, 255] False\n"
    assert warm.stderr == ""


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_entry_is_recompiled(tmp_path, damage):
    run(tmp_path)
    (entry,) = tmp_path.glob("*.o")
    content = bytearray(entry.read_bytes())
    content[-100] ^= 1
    entry.write_bytes(content if damage is None else damage)
    assert run(tmp_path).stdout == "[2, 2, 255] True\n"
    assert run(tmp_path).stdout == "[2, 2, 255] False\n"


def test_an_unwritable_store_compiles_in_memory_with_one_warning(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    result = run(blocked / "store")
    assert result.stdout == "[2, 2, 255] True\n"
    assert result.stderr.count("not kept") == 1


def test_a_store_that_others_can_write_is_not_trusted(tmp_path):
    run(tmp_path)
    tmp_path.chmod(0o777)
    result = run(tmp_path)
    assert result.stdout == "[2, 2, 255] True\n"
    assert "writable by another user" in result.stderr


def test_wrong_dtype_is_refused_before_machine_code_sees_it():
    with pytest.raises(TypeError, match="float32"):
        cast_all("u8")(np.zeros(3, np.uint8), np.zeros(3, np.float64), 3)


def test_no_home_means_no_store(monkeypatch):
    monkeypatch.delenv("IMGCONV_STORE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache.folder() is None


@jit.loop
def raise_sometimes():
    def body(out, step):
        for i in range(0, 8, step):
            out[i] = i

    return "i64* i64", body


def test_a_loop_that_may_raise_is_refused_when_it_compiles():
    with pytest.raises(RuntimeError, match="may raise"):
        raise_sometimes()


@jit.loop
def doubled():
    def body(out, at, source, count):
        for i in range(count):
            out[at + i] = source[i] + source[i]

    return "f32* i64 f32* i64", body


@jit.loop
def doubled_twice():
    double = doubled.part()

    def body(out, source, count):
        double(out, 0, source, count)
        double(out, count, source, count)

    return "f32* f32* i64", body


PARTS = """
import sys
import numpy as np
from tests.jit.test_cache import doubled_twice
if "linked" in sys.argv:
    from imgconv.jit import loader
    loader.flatten = lambda code, symbol: None
out = np.zeros(4, np.float32)
doubled_twice()(out, np.array([1, 2], np.float32), 2)
print(out.tolist(), "numba" in sys.modules)
"""


@pytest.mark.parametrize("how", ["flat", "linked"])
def test_a_loop_calls_another_that_is_compiled_once_and_by_itself(tmp_path, how):
    def run():
        done = subprocess.run(
            [sys.executable, "-c", PARTS, how], capture_output=True, text=True, check=True,
            env={**os.environ, "IMGCONV_STORE": str(tmp_path)},
        )  # fmt: skip
        return done.stdout

    cold, warm = "[2.0, 4.0, 2.0, 4.0] True\n", "[2.0, 4.0, 2.0, 4.0] False\n"
    assert run() == cold
    entries = sorted(tmp_path.glob("*.o"), key=lambda path: path.stat().st_mtime_ns)
    assert len(entries) == 2
    assert run() == warm
    # What is called was compiled first; without its entry both are made again.
    entries[0].unlink()
    assert run() == cold
    assert run() == warm
    assert sorted(tmp_path.glob("*.o")) == sorted(entries)


def test_a_part_is_called_from_bodies_only():
    with pytest.raises(TypeError, match="only be called from a loop's body"):
        doubled.part()(np.zeros(2, np.float32), 0, np.zeros(2, np.float32), 2)
