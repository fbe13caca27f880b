"""The companion that compiles a first run's loops: same results, and nothing left of it."""

import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.jit import ahead
from imgconv.jit import loop as jit
from imgconv.ops.microkernels import png_rows
from imgconv.ops.scaling import scale_values

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(data.astronaut()[:96, :80]).save(path)
    return path


def first_run(photo: Path, store: Path, out: Path, threads: int) -> subprocess.Popen[str]:
    """`apply` with an empty store."""
    return subprocess.Popen(
        [sys.executable, "-m", "imgconv", "apply", "-k", "sobel", str(photo), "-o", str(out)],
        env={**os.environ, "IMGCONV_STORE": str(store), "IMGCONV_NUM_THREADS": str(threads)},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def companions(store: Path) -> list[int]:
    """The companions that compile into a store."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes()
            named = f"IMGCONV_STORE={store}".encode() in (place / "environ").read_bytes()
        except OSError:
            continue
        if b"imgconv.jit.ahead" in command and named:
            found.append(int(place.name))
    return found


def wait_for(condition: object, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def test_a_first_run_with_a_companion_writes_what_one_thread_writes(
    photo: Path, tmp_path: Path
) -> None:
    outputs, entries = [], []
    for threads in (1, 2):
        out, store = tmp_path / f"{threads}.png", tmp_path / f"store-{threads}"
        run = first_run(photo, store, out, threads)
        _, said = run.communicate()
        assert run.returncode == 0
        assert said.count("\n") == 1, said
        outputs.append(out.read_bytes())
        entries.append({path.name for path in store.iterdir()})
    assert outputs[0] == outputs[1]
    assert entries[0] == entries[1]


@linux
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_first_run_leaves_no_companion_and_no_output(
    photo: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    out, store = tmp_path / "out.png", tmp_path / "store"
    run = first_run(photo, store, out, 2)
    assert wait_for(lambda: companions(store))
    run.send_signal(stop)
    run.communicate()
    assert run.returncode != 0
    assert wait_for(lambda: not companions(store), 10)
    assert not out.exists()


@linux
def test_a_killed_companion_costs_only_its_time(photo: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "out.png", tmp_path / "store"
    run = first_run(photo, store, out, 2)
    assert wait_for(lambda: companions(store))
    for number in companions(store):
        os.kill(number, signal.SIGKILL)
    _, said = run.communicate()
    assert run.returncode == 0
    assert said.count("\n") == 1, said
    assert out.exists()


def test_no_companion_starts_for_a_store_that_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IMGCONV_STORE", "")
    missed = (png_rows.filter_rows, ())
    assert ahead.begin(missed, lambda: pytest.fail("rehearsed for nothing")) is None


def test_what_is_expected_is_let_go_with_the_work() -> None:
    class Rows:
        def rehearse(self) -> None:
            pytest.fail("rehearsed for nothing")

    rows = Rows()
    held = weakref.ref(rows)
    with jit.expecting(rows.rehearse):
        del rows
        assert held() is not None
    assert held() is None


def test_noting_asks_for_loops_and_runs_none() -> None:
    out = np.zeros(4, np.uint8)
    with jit.noting() as noted:
        loop = scale_values("f32", "u8", False)
        loop(out, np.ones(4, np.float32), np.zeros(4, np.float32), np.zeros(1, np.int64), 4, 1, 1)
    assert noted == [(scale_values, ("f32", "u8", False))]
    assert not out.any()
