"""Rows 19 to 22 and the options of a batch: what a run leaves behind however it ends."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.io import formats
from imgconv.io.complete import is_complete
from imgconv.io.writing import encode
from tests.reliability.support import COMMAND, imgconv, one_line, pixels, save_photo, temporaries

COUNT = 24
BATCH = ("apply", "-q", "-k", "gaussian:sigma=2", "in", "--recursive", "-o", "out/", "--jobs", "2")


def digests(folder):
    return {
        path.name: hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in Path(folder).iterdir()
        if not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """A folder of inputs, the digests of their finished outputs, and a run's seconds."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "in").mkdir()
    for number in range(COUNT):
        crop = data.astronaut()[number * 8 : number * 8 + 256, :256]
        Image.fromarray(crop).save(folder / "in" / f"{number:02}.png")
    assert imgconv(*BATCH, cwd=folder).returncode == 0
    shutil.rmtree(folder / "out")
    start = time.monotonic()
    assert imgconv(*BATCH, cwd=folder).returncode == 0
    seconds = time.monotonic() - start
    finished = digests(folder / "out")
    assert len(finished) == COUNT
    return folder, finished, seconds


def interrupt(batch, number, moment):
    """Send a signal at a moment of a batch, check what is there, and finish the rest."""
    folder, finished, _ = batch
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    replacing = moment % 0.02 < 0.01
    if replacing:
        out.mkdir()
        for name in finished:
            (out / name).write_bytes(b"old")
    arguments = (*BATCH, *(["--overwrite"] if replacing else []))
    process = subprocess.Popen([*COMMAND, *arguments], cwd=folder, stderr=subprocess.PIPE)
    time.sleep(moment)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    # Before our first line runs, the interpreter's own handling holds.
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    if number == signal.SIGINT and b"KeyboardInterrupt" in said and b"imgconv" not in said:
        expected, said = 1, b""
    assert process.returncode in (0, expected, -number), said
    if process.returncode == expected != -number:
        assert said == b""
    allowed = {hashlib.blake2b(b"old").hexdigest()} if replacing else set()
    left = digests(out) if out.exists() else {}
    for name, digest in left.items():
        assert digest == finished[name] or digest in allowed, f"{name} after {moment:.3f} s"
    if number != signal.SIGKILL:
        assert temporaries(folder) == []
    for name, digest in left.items():
        if digest in allowed:
            (out / name).unlink()
    assert imgconv(*BATCH, "--skip-existing", cwd=folder).returncode == 0
    assert digests(out) == finished
    return process.returncode


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_row_19_a_signal_leaves_whole_outputs_and_the_rest_can_be_finished(batch, number):
    _, _, seconds = batch
    codes = [interrupt(batch, number, seconds * share) for share in (0.4, 0.6, 0.8)]
    assert any(codes), "every run was over before its signal"


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(
            """
class Referent: pass
referent = Referent()
reference = weakref.ref(referent, lambda _: signal.raise_signal(signal.SIGTERM))
del referent
""",
            id="a weak reference's callback, whose exceptions are dropped",
        ),
        pytest.param(
            """
class Finder:
    def find_spec(*_):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        try:
            exit_codes._stop(signal.SIGTERM, sys._getframe(1))
        except exit_codes.Stopped:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
sys.meta_path.insert(0, Finder())
try:
    import no_such_module
except ModuleNotFoundError:
    pass
""",
            id="importlib, which would keep its lock",
        ),
        pytest.param(
            """
with tempfile.TemporaryDirectory() as folder:
    with open(os.path.join(folder, "drops_all.py"), "w") as file:
        file.write("try:\\n    import signal\\n    signal.raise_signal(signal.SIGTERM)\\n"
                   "except BaseException:\\n    pass\\n")
    sys.path.insert(0, folder)
    import drops_all
""",
            id="a module that drops any exception while it is imported",
        ),
        pytest.param(
            """
try:
    signal.raise_signal(signal.SIGTERM)
except BaseException:
    raise TypeError("expected a message argument") from None
""",
            id="C code that answers with an exception of its own",
        ),
    ],
)
def test_row_19_a_signal_stops_the_run_wherever_it_meets_it(work):
    program = f"""
import os, signal, sys, tempfile, time, weakref
import click
from imgconv.cli import exit_codes

@click.command
def busy():
    exec({work!r}, globals())
    print("went on", flush=True)
    time.sleep(30)

sys.argv = ["imgconv"]
sys.exit(exit_codes.run(busy))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (143, "")


@pytest.mark.slow
def test_row_19_at_100_random_moments_outputs_are_old_absent_or_complete(batch):
    generator = random.Random(19)
    _, _, seconds = batch
    codes = [
        interrupt(batch, SIGNALS[turn % 3], generator.uniform(0.0, seconds)) for turn in range(100)
    ]
    assert sum(code != 0 for code in codes) > 50


def test_row_20_one_bad_file_among_a_thousand_is_listed_and_the_rest_is_done(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(1000):
        (tmp_path / "in" / f"{number:04}.pgm").write_bytes(b"P5 4 4 255\n" + bytes(16))
    (tmp_path / "in" / "0500.pgm").write_bytes(b"P5 4 4 255\n" + bytes(15))
    result = imgconv(
        "apply", "-k", "sobel", "in", "--recursive", "-o", "out/", "--json", cwd=tmp_path
    )
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 1
    assert [row["input"] for row in rows if "error" in row] == ["in/0500.pgm"]
    one_line(result, b"in/0500.pgm")
    assert len(os.listdir(tmp_path / "out")) == 999
    assert len(rows) == 1000


MEMORY_PROGRAM = """
import sys
from imgconv.cli import main
from imgconv.cli.exit_codes import run
code = run(main)
sys.stdout.flush()
# Not getrusage: its peak is at least what the process that forked this one had in memory.
with open("/proc/self/status") as file:
    print(code, file.read().partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""


def peak_of(arguments, names, cwd):
    """(exit code, peak resident KiB, stdout) of imgconv with names on standard input."""
    result = subprocess.run(
        [sys.executable, "-c", MEMORY_PROGRAM, *arguments],
        cwd=cwd, input=names, capture_output=True, check=True,
    )  # fmt: skip
    code, peak = map(int, result.stderr.split()[-2:])
    return code, peak, result.stdout


@pytest.mark.parametrize(
    ("end", "count"), [pytest.param(b"\n", 100_000, marks=pytest.mark.slow), (b"\0", 2_000)]
)
def test_row_21_a_hundred_thousand_names_take_bounded_memory(photo, end, count):
    """Names of 400 bytes and more: 100,000 kept in memory would be 98 MB, on disk 4 are taken."""
    deep = os.path.join("d" * 200, "e" * 200)
    (photo / deep).mkdir(parents=True)
    for number in range(100):
        os.link(photo / "photo.png", photo / deep / f"{number}.png")
    names = [b"%s/%d.png" % (os.fsencode(deep), turn % 100) for turn in range(count)]
    arguments = ["apply", "-q", "-k", "sobel", "--files-from", "-", "--dry-run"]
    arguments += ["-o", f"{deep}/out/{{index}}.png", *(["-0"] if end == b"\0" else [])]
    _, small, _ = peak_of(arguments, end.join(names[:100]), photo)
    code, large, said = peak_of(arguments, end.join(names), photo)
    assert code == 0
    assert said.count(b"\n") == count
    assert large - small < 16_000, f"{large - small} KiB more for {count} names"


NAMES = [
    b"-k.png", b"%d.png", b"a[0].png", b"{}.png", b"{stem}.png", b"new\nline.png",
    b"caf\xe9.png", "雪.png".encode(), b"x" * 251 + b".png", b" .png", b"'\"$HOME`.png", b"*.png",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:12]))
@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "ascii"])
def test_row_22_names_are_taken_literally_and_reported_printably(photo, name, locale):
    (photo / os.fsdecode(name)).write_bytes((photo / "photo.png").read_bytes())
    environment = dict(os.environ, LC_ALL="C" if locale == "ascii" else locale)
    if locale == "ascii":
        environment |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    options = ["-k", "sobel", "-o", "out/", "-v", "-q"]
    result = imgconv("apply", *options, "--", os.fsdecode(name), cwd=photo, env=environment)
    assert result.returncode == 0, result.stderr
    assert os.listdir(os.fsencode(photo / "out")) == [name]
    one_line(result)
    (photo / os.fsdecode(name)).write_bytes(b"broken")
    listed = imgconv(
        "apply", *options, "--json", "--files-from", "-", "-0",
        cwd=photo, env=environment, stdin=name,
    )  # fmt: skip
    assert listed.returncode == 1
    one_line(listed)
    assert "error" in json.loads(listed.stdout)
    dry = imgconv("apply", *options, "--dry-run", "--overwrite", "--", os.fsdecode(name),
                  cwd=photo, env=environment)  # fmt: skip
    assert dry.returncode == 0
    assert dry.stdout.count(b"\n") == 1


# Options of a batch


def test_in_place_replaces_every_input_by_its_result(photo):
    save_photo(photo / "second.png")
    expected = {
        name: imgconv("apply", "-q", "-k", "sobel", name, "-o", "png:-", cwd=photo).stdout
        for name in ("photo.png", "second.png")
    }
    (photo / "photo.png").chmod(0o600)
    arguments = ("apply", "-q", "-k", "sobel", "photo.png", "second.png", "--in-place")
    assert imgconv(*arguments, cwd=photo).returncode == 0
    for name, content in expected.items():
        assert (photo / name).read_bytes() == content
    assert (photo / "photo.png").stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(photo)) == ["photo.png", "second.png"]


@pytest.mark.parametrize("more", [[], ["--frame", "1"]])
def test_in_place_never_loses_frames(tmp_path, more):
    frames = [Image.fromarray(data.camera()[:16, n : n + 16]) for n in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    before = (tmp_path / "a.gif").read_bytes()
    result = imgconv("apply", "-q", "-k", "sobel", "a.gif", "--in-place", *more, cwd=tmp_path)
    assert result.returncode != 0
    one_line(result, b"a.gif")
    assert (tmp_path / "a.gif").read_bytes() == before


def test_in_place_with_several_maps_is_refused_before_any_work(photo):
    before = (photo / "photo.png").read_bytes()
    arguments = ("apply", "-k", "sobel", "-k", "box-3", "photo.png", "--in-place")
    result = imgconv(*arguments, cwd=photo)
    assert result.returncode == 2
    one_line(result, b"photo.png: output of both")
    assert (photo / "photo.png").read_bytes() == before


def outputs():
    """(format, the bytes of a small finished output) of every output format."""
    grid = np.arange(120).reshape(8, 15, 1) / 7
    for name, made in formats.FORMATS.items():
        if name == "zarr":  # a folder, published by one rename
            continue
        samples = grid.astype(made.dtypes[0])
        yield name, b"".join(bytes(piece) for piece in encode(samples, made, record={"a": 1}))


OUTPUTS = dict(outputs())


@pytest.mark.parametrize("name", OUTPUTS)
def test_only_a_whole_output_counts_as_finished(name, tmp_path):
    path, content = str(tmp_path / "out"), OUTPUTS[name]
    # What can be missing at the end without loss of a sample is padding. Text that ends with a
    # line cannot be told from a smaller grid.
    spare = {"bmp": 2, "tiff": 4}.get(name, 0)
    half = len(content) // 2
    half -= content[half - 1 : half] == b"\n"
    for length in (0, 1, 8, half, len(content) - spare - 1):
        Path(path).write_bytes(content[:length])
        assert not is_complete(path, name), f"{length} of {len(content)} bytes"
    Path(path).write_bytes(content)
    assert is_complete(path, name)
    assert not is_complete(path + "not there", name)


def test_skip_existing_replaces_what_is_incomplete_and_leaves_the_rest(photo):
    save_photo(photo / "second.png", 32)
    arguments = ("apply", "-q", "-k", "sobel", "photo.png", "second.png", "-o", "out/")
    assert imgconv(*arguments, cwd=photo).returncode == 0
    done, cut = photo / "out" / "photo.png", photo / "out" / "second.png"
    whole, stamp = cut.read_bytes(), done.stat()
    cut.write_bytes(whole[:-20])
    result = imgconv(*arguments, "--skip-existing", "--json", cwd=photo)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0
    assert [row.get("skipped", False) for row in rows] == [True, False]
    assert cut.read_bytes() == whole
    assert (done.stat().st_ino, done.stat().st_mtime_ns) == (stamp.st_ino, stamp.st_mtime_ns)


def test_skip_existing_leaves_the_finished_maps_of_an_unfinished_input(photo):
    arguments = ("apply", "-q", "-k", "sobel-x", "-k", "sobel-y", "photo.png", "-o", "out/")
    assert imgconv(*arguments, cwd=photo).returncode == 0
    first, second = sorted((photo / "out").iterdir())
    stamp = first.stat().st_ino
    second.unlink()
    assert imgconv(*arguments, "--skip-existing", cwd=photo).returncode == 0
    assert second.exists()
    assert first.stat().st_ino == stamp


def test_skip_existing_finishes_the_frames_that_are_missing(tmp_path):
    frames = [Image.fromarray(data.camera()[:16, 20 * n : 20 * n + 16]) for n in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    arguments = ("apply", "-q", "-k", "sobel", "a.tif", "--frame", "all", "-o",
                 "out/{frame}.{ext}")  # fmt: skip
    assert imgconv(*arguments, cwd=tmp_path).returncode == 0
    made = digests(tmp_path / "out")
    assert len(made) == 3
    (tmp_path / "out" / sorted(made)[-1]).unlink()
    assert imgconv(*arguments, "--skip-existing", cwd=tmp_path).returncode == 0
    assert digests(tmp_path / "out") == made


def test_recursive_takes_the_images_below_and_nothing_else(photo):
    (photo / "in" / "deep").mkdir(parents=True)
    for name in ("in/a.png", "in/deep/b.png", "in/notes.md"):
        (photo / name).write_bytes((photo / "photo.png").read_bytes())
    arguments = ("apply", "-q", "-k", "sobel", "in", "-o", "out/")
    assert imgconv(*arguments, "--recursive", cwd=photo).returncode == 0
    assert sorted(os.listdir(photo / "out")) == ["a.png", "deep"]
    assert os.listdir(photo / "out" / "deep") == ["b.png"]
    shutil.rmtree(photo / "out")
    assert imgconv(*arguments, cwd=photo).returncode == 0
    assert os.listdir(photo / "out") == ["a.png"]


def test_a_map_of_each_image_is_the_same_alone_and_in_a_batch(photo):
    for number in range(6):
        save_photo(photo / f"{number}.png", 40 + number)
    names = [f"{number}.png" for number in range(6)]
    base = ("apply", "-q", "-k", "sobel", "--no-metadata")
    assert imgconv(*base, *names, "-o", "a/", "--jobs", "3", cwd=photo).returncode == 0
    for name in names:
        alone = imgconv(*base, name, "-o", "png:-", cwd=photo).stdout
        assert alone == (photo / "a" / name).read_bytes()
        assert pixels(photo / "a" / name).ndim == 3
