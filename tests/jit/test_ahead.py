"""The companion that compiles a first run's loops: same results, and nothing left of it."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.io.formats import FORMATS
from imgconv.io.png import reader as png_reader
from imgconv.io.png import writer as png_writer
from imgconv.io.streamed import Streamed
from imgconv.io.writing import encode_rows, writing_loops
from imgconv.jit import ahead
from imgconv.jit.loop import Loop, Wanted
from imgconv.kernels import get_kernel
from imgconv.ops.algorithms import problem, select
from imgconv.ops.algorithms.transform import transform
from imgconv.ops.microkernels import png_rows
from imgconv.pipeline.bands.maps import map_rows
from imgconv.pipeline.recipe import Recipe

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
        assert said == ""
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
    assert said == ""
    assert out.exists()


def test_no_companion_starts_where_it_cannot_help(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: object, **options: object) -> None:
        pytest.fail("a companion for nothing")

    monkeypatch.setattr(subprocess, "Popen", start)
    wanted = [Wanted(png_rows.filter_rows, ()), Wanted(png_rows.unfilter, (3,))]
    with monkeypatch.context() as patch:
        patch.setenv("IMGCONV_STORE", "")
        ahead.compile_missing(wanted)
    with monkeypatch.context() as patch:
        patch.setattr(Wanted, "is_stored", lambda self: True)
        ahead.compile_missing(wanted)


@pytest.mark.parametrize(
    ("algorithm", "kernel"),
    [
        ("direct", "sharpen"),
        ("sparse", "sobel"),
        ("box", "box:size=21"),
        ("separable", "gaussian:sigma=2"),
        ("fourier", "disk:radius=15"),
    ],
)
def test_rows_tell_every_loop_that_they_call(
    algorithm: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not told beforehand is compiled by one core later: a first run would be slower."""
    pixels = np.random.default_rng(0).integers(0, 256, (160, 150, 3)).astype(np.uint8)
    image = Streamed(png_reader.Reader(b"".join(png_writer.encode(pixels))), False, "", None)
    module = importlib.import_module(f"imgconv.ops.algorithms.{algorithm}")
    monkeypatch.setattr(select, "offers", lambda job: [module.offer(job)])
    monkeypatch.setattr(problem, "SMALL", 0)  # as if the image were worth any algorithm
    recipe = Recipe((get_kernel(kernel),), scale="clip")
    maps = map_rows(image, recipe, np.dtype(np.uint8), raw=False)
    assert maps is not None
    format_ = FORMATS["png"]
    told = {*writing_loops(format_), *maps[0].loops()}

    called: set[Wanted] = set()
    usual = Loop.__call__

    def noted(self: Loop, *constants: Any) -> Any:
        called.add(Wanted(self, constants))
        return usual(self, *constants)

    monkeypatch.setattr(Loop, "__call__", noted)
    list(encode_rows(maps[0], format_))
    # A part is called only while the loop that it belongs to is compiled.
    assert called <= told
    assert {wanted.loop for wanted in told - called} <= {transform}
