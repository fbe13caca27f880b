"""Rows 23 to 25 and 27: the store of compiled loops, and outputs that depend on nothing else."""

import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from skimage import data

import imgconv as package
from imgconv.jit import cache
from tests.reliability.support import (
    COMMAND,
    NOBODY,
    imgconv,
    one_line,
    save_photo,
    skip_unless_nobody_can_run,
)

# Runs a command without the right to make memory executable (PR_SET_MDWE), or fails.
DENYING = (
    sys.executable, "-c",
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) and sys.exit(1)\n"
    "os.execv(sys.argv[1], sys.argv[1:])",
)  # fmt: skip
APPLY = ("apply", "-q", "-k", "sobel-x", "photo.png", "-o", "npy:-")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="dropping privileges needs root")


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A warm store of its own, the photo and the right output."""
    monkeypatch.setenv("IMGCONV_QUIET", "0")
    monkeypatch.setenv("IMGCONV_STORE", str(tmp_path / "store"))
    save_photo(tmp_path / "photo.png")
    result = imgconv(*APPLY, cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr.count(b"compiling loops") == 1
    again = imgconv(*APPLY, cwd=tmp_path)
    assert (again.stdout, again.stderr) == (result.stdout, b"")
    return tmp_path, result.stdout


# Row 23


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("apply", "--help")])
def test_row_23_help_works_without_home_and_store(tmp_path, arguments):
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    for home in ({}, {"HOME": ""}, {"HOME": "/nonexistent"}, {"IMGCONV_STORE": "/proc/none"}):
        result = imgconv(*arguments, cwd=tmp_path, env=bare | home)
        assert (result.returncode, result.stderr) == (0, b"")


def test_row_23_a_store_that_cannot_be_written_is_one_warning(store):
    skip_unless_nobody_can_run()
    folder, expected = store
    (folder / "store").chmod(0o555)
    folder.chmod(0o755)
    for parent in folder.parents[:2]:
        parent.chmod(0o755)
    environment = {**os.environ, "IMGCONV_STORE": str(folder / "other")}
    result = imgconv(
        *APPLY, cwd=folder, env=environment,
        under=NOBODY,
    )  # fmt: skip
    assert result.returncode == 0
    assert result.stdout == expected
    assert result.stderr.count(b"not kept") == 1
    assert result.stderr.count(b"\n") == 2


@as_root
def test_row_23_a_full_store_is_one_warning(store):
    folder, expected = store
    full = folder / "full"
    full.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "none", full]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs")
    try:
        environment = {**os.environ, "IMGCONV_STORE": str(full)}
        result = imgconv(*APPLY, cwd=folder, env=environment)
        assert (result.returncode, result.stdout) == (0, expected)
        assert result.stderr.count(b"not kept: No space left on device") == 1
        assert os.listdir(full) == []
    finally:
        subprocess.run(["umount", full], check=True)


# Row 24


def entries(folder):
    return sorted((folder / "store").glob("*.o"))


def damage(kind, folder):
    """Spoil every entry of a store."""
    found = entries(folder)
    assert found
    contents = [path.read_bytes() for path in found]
    for number, path in enumerate(found):
        content = bytearray(contents[number])
        if kind == "flipped":
            content[-50] ^= 1
        elif kind == "foreign":
            content = bytearray(contents[number - 1])
        elif kind == "truncated":
            del content[len(content) // 2 :]
        elif kind == "empty":
            content = bytearray()
        elif kind == "rubbish":
            content = bytearray(os.urandom(len(content)))
        path.unlink()
        if kind == "folders":
            path.mkdir()
        else:
            path.write_bytes(content)


@pytest.mark.parametrize("kind", ["flipped", "foreign", "truncated", "empty", "rubbish"])
def test_row_24_a_spoilt_entry_is_compiled_again(store, kind):
    folder, expected = store
    damage(kind, folder)
    result = imgconv(*APPLY, cwd=folder)
    assert (result.returncode, result.stdout) == (0, expected)
    assert b"compiling loops" in result.stderr
    again = imgconv(*APPLY, cwd=folder)
    assert (again.stdout, again.stderr) == (expected, b"")


def test_row_24_an_edited_source_never_meets_its_old_code(store):
    folder, expected = store
    before = {path.name for path in entries(folder)}
    copy = folder / "copy"
    copy.mkdir()
    source = Path(package.__file__).parent
    shutil.copytree(source, copy / "imgconv", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(source.parent / "kernels", copy / "kernels")
    with open(copy / "imgconv" / "ops" / "algorithms" / "direct.py", "a") as file:
        file.write("\n# edited\n")
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    result = imgconv(*APPLY, cwd=folder, env=environment)
    assert (result.returncode, result.stdout) == (0, expected)
    assert b"compiling loops" in result.stderr
    assert before < {path.name for path in entries(folder)}


@pytest.mark.parametrize("how", ["others may write", "another owner", "a pipe"])
def test_row_24_an_entry_that_is_not_ours_alone_is_compiled_again(store, how):
    """In a folder that is; the entry is asked once it is open."""
    folder, expected = store
    for path in entries(folder):
        if how == "others may write":
            path.chmod(0o666)
        elif how == "a pipe":
            path.unlink()
            os.mkfifo(path)
        elif os.geteuid() == 0:
            os.chown(path, 1234, -1)
        else:
            pytest.skip("chown needs root")
    result = imgconv(*APPLY, cwd=folder)
    assert (result.returncode, result.stdout) == (0, expected)
    assert b"compiling loops" in result.stderr
    again = imgconv(*APPLY, cwd=folder)
    assert (again.stdout, again.stderr) == (expected, b"")


@pytest.mark.parametrize("how", ["others may write", "another owner"])
def test_row_24_a_store_that_is_not_ours_alone_is_neither_read_nor_written(store, how):
    folder, expected = store
    place = folder / "store"
    if how == "others may write":
        place.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(place, 1234, -1)
    else:
        pytest.skip("chown needs root")
    stamps = [path.stat().st_mtime_ns for path in entries(folder)]
    result = imgconv(*APPLY, cwd=folder)
    assert (result.returncode, result.stdout) == (0, expected)
    assert b"compiling loops" in result.stderr
    assert result.stderr.count(b"not kept") == 1
    assert [path.stat().st_mtime_ns for path in entries(folder)] == stamps


def test_row_24_layers_that_save_time_can_be_left_out(store):
    """Objects are linked by LLVM, memory is always new, one core compiles: the same pixels."""
    folder, expected = store
    without = {"IMGCONV_STORE": str(folder / "other"), "IMGCONV_NUM_THREADS": "1"}
    environment = {**os.environ, **without, "IMGCONV_WITHOUT": "loader,memory,scratch"}
    for said in (1, 0):
        result = imgconv(*APPLY, cwd=folder, env=environment)
        assert (result.returncode, result.stdout) == (0, expected)
        assert result.stderr.count(b"compiling loops") == said
    del environment["IMGCONV_WITHOUT"]
    again = imgconv(*APPLY, cwd=folder, env=environment)
    assert (again.stdout, again.stderr) == (expected, b"")


# Row 25


@pytest.mark.slow
def test_row_25_32_processes_that_start_cold_on_one_store_agree(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCONV_QUIET", "0")
    monkeypatch.setenv("IMGCONV_STORE", str(tmp_path / "store"))
    save_photo(tmp_path / "photo.png")

    def start(_):
        result = subprocess.run([*COMMAND, *APPLY], cwd=tmp_path, capture_output=True, timeout=600)
        return result.returncode, result.stdout, result.stderr

    with ThreadPoolExecutor(32) as pool:
        outcomes = list(pool.map(start, range(32)))
    again = imgconv(*APPLY, cwd=tmp_path)
    assert again.stderr == b""
    assert {outcome[:2] for outcome in outcomes} == {(0, again.stdout)}
    # The last of them may find the others' loops; that a loop is not kept is said of none.
    for _, _, said in outcomes:
        assert said.count(b"\n") == said.count(b"compiling loops") <= 1, said
    assert not [name for name in os.listdir(tmp_path / "store") if not name.endswith(".o")]


# Row 36


def test_row_36_machines_of_two_architectures_share_no_entry(monkeypatch):
    """Even where the system shows both the same CPU, as QEMU does."""
    here = cache._machine_digest.__wrapped__()
    names = os.uname()

    def emulated():
        return SimpleNamespace(machine="riscv64", sysname=names.sysname)

    monkeypatch.setattr(os, "uname", emulated)
    assert cache._machine_digest.__wrapped__() != here
    if platform.machine() == "x86_64" and cache.vectors()[0] > 4:
        monkeypatch.setattr(cache, "_features", lambda: "+neon")
        assert not cache._cpu.__wrapped__() & {"avx", "avx2", "avx512f"}


@pytest.mark.parametrize("place", ["store", "new", ""])
def test_row_36_where_no_memory_may_become_executable_one_line_says_so(store, place):
    folder, _ = store
    if imgconv("--version", cwd=folder, under=DENYING).returncode:
        pytest.skip("this kernel has no PR_SET_MDWE")
    environment = {**os.environ, "IMGCONV_STORE": place and str(folder / place)}
    for command in (
        ("apply", "-q", "-k", "sobel", "photo.png", "photo.png", "-o", "{index}.png"),
        ("net", "predict", "lenet5", "photo.png", "photo.png"),
    ):
        result = imgconv(*command, cwd=folder, env=environment, under=DENYING)
        assert result.returncode == 1
        one_line(result, b"no program make memory executable")
        assert b".png" not in result.stderr
    assert not list(folder.glob("?.png"))
    told = imgconv("doctor", cwd=folder, env=environment, under=DENYING)
    state = next(line for line in told.stdout.splitlines() if line.startswith(b"store state"))
    assert b"no program make memory executable" in state


# Row 27


@pytest.mark.parametrize("kernel", ["sobel", "gaussian:sigma=2", "box:size=15", "log:1.4"])
def test_row_27_threads_jobs_and_order_leave_every_bit_alone(tmp_path, kernel):
    names = []
    for number in range(4):
        names.append(f"{number}.png")
        crop = data.astronaut()[number * 16 : number * 16 + 300 + number, :257]
        Image.fromarray(crop).save(tmp_path / names[-1])
    made = {}
    for threads, jobs, order in ((1, 1, names), (2, 4, names[::-1]), (7, 2, names)):
        out = f"{threads}-{jobs}/"
        result = imgconv(
            "apply", "-q", "-k", kernel, *order, "-o", out, "--depth", "16",
            "--threads", str(threads), "--jobs", str(jobs), cwd=tmp_path,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        made[out] = [(tmp_path / out / name).read_bytes() for name in names]
    assert made["1-1/"] == made["2-4/"] == made["7-2/"]


def test_row_27_a_piece_of_any_size_is_filtered_as_in_the_whole():
    """A pixel never knows where its tile began: what padding adds at a piece's edges aside."""
    from imgconv.kernels import get_kernel
    from imgconv.ops.filter import filter_image

    image = data.astronaut()[:200, :230].astype(np.float32) / 7
    weights = get_kernel("sobel-x").effective_weights()
    reach = max(weights.shape[-2:])
    whole = filter_image(image, weights)
    for top, left, height, width in ((0, 0, 64, 64), (37, 51, 100, 33), (120, 101, 80, 129)):
        tile = filter_image(image[top : top + height, left : left + width], weights)
        inner = np.s_[:, reach:-reach, reach:-reach]
        piece = whole[:, top : top + height, left : left + width]
        assert np.array_equal(tile[inner], piece[inner])
