"""What outputs are called and where they go: nothing lost, nothing outside, nothing by surprise."""

import io
import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.batch.inputs import Scan, Spooled
from imgconv.errors import ImageError, UsageError
from imgconv.io.reading import count_frames, read_images
from imgconv.pipeline.naming import Template, below, component, split_source, unique
from tests.running import here

PHOTO = data.astronaut()[:24, 100:132]
COMMAND = (sys.executable, "-m", "imgconv")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with a photo in it."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PHOTO).save("photo.png")
    return tmp_path


def pages(path, count):
    rng = np.random.default_rng(count)
    frames = [Image.fromarray(rng.integers(0, 256, (12, 16), np.uint8)) for _ in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def files(place="."):
    """Every file below a folder, as paths from it."""
    return sorted(str(path.relative_to(place)) for path in Path(place).rglob("*") if path.is_file())


def done(*arguments, code=0):
    """Run a command; assert its exit code, and that it says one line where it fails."""
    result = here(*arguments)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    return result


# One function from data to a part of a path


def test_any_text_becomes_one_part_of_a_path_on_every_system():
    rng = random.Random(15)
    alphabet = 'ab./\\:*?"<>|\0\n\x7f\u202e\ud800é雪_- CONnul'
    texts = [
        "",
        ".",
        "..",
        "../..",
        "/etc/passwd",
        "C:\\x",
        "con",
        "LPT1.txt",
        "x" * 999,
        "雪" * 99,
    ]
    texts += ["".join(rng.choices(alphabet, k=rng.randrange(12))) for _ in range(4000)]
    for text in texts:
        name = component(text)
        assert name == component(name), repr(text)
        assert name not in ("", ".", "..")
        assert not set(name) & set('<>:"/\\|?*')
        assert name.isprintable()
        assert len(name.encode()) <= 120
        assert not name.endswith((".", " "))
        assert name.split(".")[0].lower() not in ("con", "nul", "prn", "aux", "lpt1")
        assert os.path.normpath(os.path.join("out", name)) == os.path.join("out", name)


def test_alike_names_are_numbered_and_none_is_lost():
    assert unique(["kernel", "sobel", "kernel"]) == ["kernel-1", "sobel", "kernel-2"]
    assert unique(["a", "A", "a-1"]) == ["a-2", "A-3", "a-1"]
    rng = random.Random(15)
    for _ in range(500):
        names = rng.choices(["a", "A", "a-1", "a-2", "a-1-1", "imgconv", "é", "e\u0301"], k=6)
        found = [name.casefold() for name in unique(names)]
        assert len(set(found)) == len(names), names
        assert "imgconv" not in found


def test_stems_and_folders_of_urls_stay_below_the_output():
    assert split_source("s3://bucket/..") == ("_", "")
    assert split_source("s3://bucket/a:b|.png") == ("a_b", ".png")
    assert split_source("https://host/a/cat.jpg?to=/../../x") == ("cat", ".jpg")
    assert split_source("in/scan.ome.tif") == ("scan", ".ome.tif")
    assert below("s3://b/in/../../x/a.png", {"s3://b/in"}) == "_/_/x"
    assert below("s3://b/in/a.png", {"s3://b/in"}) == ""
    assert below("elsewhere/a.png", {"/no/such"}) == ""


# Results of one name (issue 15.1)


@pytest.mark.parametrize(
    ("kernels", "names"),
    [
        (["1 0 -1", "1;0;-1"], ["kernel-1", "kernel-2"]),
        (["a/ka.txt", "b/ka.txt"], ["ka-1", "ka-2"]),
        (["gaussian:sigma=1", "gaussian:sigma=1.0"], ["gaussian-sigma1-1", "gaussian-sigma1-2"]),
        (["sobel", "1 2", "a/kernel.txt"], ["sobel", "kernel-1", "kernel-2"]),
        (["a/x.json", "a/x-a.txt"], ["x-a-1", "x-b", "x-a-2"]),
    ],
    ids=["texts", "files", "parameters", "a text and a file", "a label and a file"],
)
@pytest.mark.parametrize("output", [None, "out/", "out.png", "{map}.png", "all.npz"])
def test_every_map_of_a_command_has_its_own_name(folder, kernels, names, output):
    for place in ("a", "b"):
        os.mkdir(place)
        Path(place, "ka.txt").write_text("1 2 1" if place == "a" else "1 0 -1")
        Path(place, "kernel.txt").write_text("3 1")
        Path(place, "x-a.txt").write_text("1 1")
        Path(place, "x.json").write_text('{"weights": [[[1, 2]], [[3, 4]]], "labels": ["a", "b"]}')
    options = [word for kernel in kernels for word in ("-k", kernel)]
    before = set(files())
    more = ["-o", output] if output else []
    listed = done("apply", *options, "photo.png", "--dry-run", *more).stdout.splitlines()
    done("apply", *options, "photo.png", "--overwrite", *more)
    made = sorted(set(files()) - before)
    assert sorted(line.partition(" -> ")[2] for line in listed) == made
    stems = sorted(Path(path).stem.removeprefix("photo-").removeprefix("out-") for path in made)
    if output == "all.npz":
        stems = sorted(set(np.load("all.npz").files) - {"imgconv"})
    assert stems == sorted(names)


def test_the_maps_of_numbered_kernels_are_those_of_each_alone(folder):
    done("apply", "-k", "1 0 -1", "-k", "1;0;-1", "photo.png", "-o", "all.npz")
    maps = np.load("all.npz")
    for name, kernel in (("kernel-1", "1 0 -1"), ("kernel-2", "1;0;-1")):
        done("apply", "-k", kernel, "photo.png", "-o", f"{name}.npy")
        np.testing.assert_array_equal(maps[name], np.load(f"{name}.npy"))
    done("apply", "-k", "1 0 -1", "-k", "1;0;-1", "photo.png", "-o", "{map}.png")
    assert "the same bytes" in done("repeat", "kernel-2.png", "--input", "photo.png").stdout


def test_names_that_presets_make_are_portable(folder):
    done("apply", "-k", "gaussian:sigma=2", "photo.png")
    done("apply", "-k", "dog:sigma=1,ratio=2", "-k", "sobel-x", "photo.png")
    done("run", "gray | conv sobel | relu", "--keep", "*", "photo.png", "--overwrite")
    assert files() == [
        "photo-1-gray.png", "photo-2-conv.png", "photo-chain.png", "photo-dog-sigma1-ratio2.png",
        "photo-gaussian-sigma2.png", "photo-sobel-x.png", "photo.png",
    ]  # fmt: skip


@pytest.mark.parametrize("output", ["maps/", "maps/{map}.png", "maps/all.npz", "maps/all.png"])
def test_labels_lead_nowhere(folder, output):
    os.makedirs("victim")
    Path("victim/notes.png").write_bytes(b"precious")
    labels = ["/../../../victim/notes", "../victim/notes", "..", "a\x1b[2J", "\ud800", "x" * 400]
    weights = [[[0, 1, 0], [1, -4, 1], [0, number, 0]] for number in range(len(labels))]
    Path("bank.json").write_text(json.dumps({"weights": weights, "labels": labels}))
    os.mkdir("maps")
    before = files()
    done("apply", "-k", "bank.json", "photo.png", "-o", output, "--overwrite")
    assert Path("victim/notes.png").read_bytes() == b"precious"
    made = set(files()) - set(before)
    assert {str(Path(path).parent) for path in made} == {"maps"}
    if output.endswith(".npz"):
        names = set(np.load("maps/all.npz").files)
        assert names == {component(name) for name in names}
        assert len(names) == len(labels) + 1
    else:
        assert len(made) == len(labels)


def test_an_output_is_no_input_of_the_command(folder):
    Image.fromarray(PHOTO[::-1]).save("0000.png")
    before = Path("0000.png").read_bytes()
    options = ("apply", "-k", "sobel", "photo.png", "0000.png", "-o", "{index}.png", "--overwrite")
    result = done(*options, code=2)
    assert "0000.png: output of photo.png, but it is the input 0000.png" in result.stderr
    os.symlink("0000.png", "0001.png")
    done(
        "apply", "-k", "sobel", "0001.png", "photo.png", "-o", "{index}.png", "--overwrite", code=2
    )
    assert Path("0000.png").read_bytes() == before


def test_in_place_filters_no_file_twice(folder):
    before = Path("photo.png").read_bytes()
    result = done("apply", "-k", "box-3", "photo.png", "./photo.png", "--in-place", code=2)
    assert "--in-place takes one result an input, named once" in result.stderr
    done("apply", "-k", "box-3", "photo.png", "photo.png", "--in-place", code=2)
    done("apply", "-k", "box-3", "-", "--in-place", code=2)
    done("apply", "-k", "box-3", "sample:chart", "--in-place", code=2)
    assert Path("photo.png").read_bytes() == before


# Frames


@pytest.mark.parametrize("name", ["pages.tif", "pages.gif", "pages.webp", "pages.png", "pages.npy",
                                  "pages.npz"])  # fmt: skip
def test_frames_are_counted_as_they_are_read(folder, name):
    for count in (1, 3):
        values = np.arange(count * 12 * 16, dtype=np.uint8).reshape(count, 12, 16, 1)
        if name.endswith(".npy"):
            np.save(name, values if count > 1 else values[0])
        elif name.endswith(".npz"):
            np.savez(name, a=values[0], b=values[1:])
        else:
            pages(name, count)
        if values[1:].size or not name.endswith(".npz"):
            found = len(list(read_images(name, frame="all")))
            assert count_frames(name).number == found == count
    assert count_frames("sample:chart").number == count_frames("photo.png").number == 1


@pytest.mark.parametrize("output", ["{index}.jpg", "{stem}.jpg", "{stem}-{kernel}.jpg"])
def test_frames_that_share_a_name_are_found_before_any_work(folder, output):
    pages("pages.tif", 3)
    before = files()
    for more in ([], ["--overwrite"], ["--dry-run"]):
        result = done("apply", "-k", "sobel", "photo.png", "pages.tif", "--frame", "all",
                      "-o", output, *more, code=2)  # fmt: skip
        assert "output of both pages.tif and pages.tif frame 1" in result.stderr
        assert result.stderr.count("\n") == 1
        assert files() == before


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["pages-sobel.tif"]),
        (["--format", "png"], ["pages-sobel-1.png", "pages-sobel-2.png", "pages-sobel.png"]),
        (["-o", "{stem}-{frame:03d}.{ext}"], ["pages-000.tif", "pages-001.tif", "pages-002.tif"]),
        (["-o", "out/"], ["out/pages.tif"]),
        (["-o", "{map}.jpg"], ["sobel-1.jpg", "sobel-2.jpg", "sobel.jpg"]),
        (["-o", "{frame}/{map}.npy"], ["0/sobel.npy", "1/sobel.npy", "2/sobel.npy"]),
        (["--report", "p/"], ["p/pages-1.html", "p/pages-2.html", "p/pages.html"]),
    ],
)
def test_a_dry_run_lists_what_a_run_writes(folder, options, names):
    pages("pages.tif", 3)
    before = set(files())
    command = ["apply", "-k", "sobel", "pages.tif", "--frame", "all", *options]
    listed = done(*command, "--dry-run").stdout
    assert set(files()) == before
    done(*command)
    assert sorted(set(files()) - before) == names
    assert sorted(line.partition(" -> ")[2] for line in listed.splitlines()) == names
    again = done(*command, "--dry-run", code=1)
    assert again.stdout == ""
    assert "exists; --overwrite" in again.stderr
    os.remove(names[-1])
    left = done(*command, "--dry-run", "--skip-existing")
    assert [line.partition(" -> ")[2] for line in left.stdout.splitlines()] == names[-1:]
    one = [*command[:4], "--frame", "2", "-o", "one-{frame:02d}.tif"]
    done(*command[:4], *one[4:])
    assert Path("one-02.tif").exists()


def test_a_field_that_there_is_not_is_refused_with_those_there_are(folder):
    for output in (
        "{stm}.png",
        "{stem!r}.png",
        "{stem:>3}.png",
        "{index:x}.png",
        "{frame:999d}.png",
    ):
        result = done("apply", "-k", "sobel", "photo.png", "-o", output, code=2)
        assert result.stderr.count("\n") == 1
        assert output in result.stderr
    assert "{stem} {kernel} {map} {frame} {parent} {ext} {index}" in done(
        "apply", "-k", "sobel", "photo.png", "-o", "{x}.png", code=2
    ).stderr  # fmt: skip
    for command in (["apply", "-k", "sobel"], ["net", "features", "lenet5", "--layer", "c1"]):
        done(*command, "photo.png", "--report", "{x}.html", code=2)
    done("net", "features", "lenet5", "--layer", "c1", "photo.png", "-o", "{kernel}.png", code=2)
    done("apply", "-k", "sobel", "photo.png", "-o", "a{{stem}}{}-{index:02d}.png")
    assert files() == ["a{stem}{}-00.png", "photo.png"]
    assert Template("{index}-{index:d}-{index:02d}", ("index",)).fill({"index": 7}) == "0007-7-07"
    for field in ("stem", "kernel", "map", "frame", "parent", "ext", "index"):
        assert f"{{{field}}}" in done("apply", "--help-all").stdout


# Formats and pipes


@pytest.mark.parametrize(
    ("name", "options", "made"),
    [
        ("cat.JPG", [], "cat-sobel.JPG"), ("cat.jpeg", [], "cat-sobel.jpeg"),
        ("cat.tif", [], "cat-sobel.tif"), ("cat.ome.tif", [], "cat-sobel.ome.tif"),
        ("cat.webp", [], "cat-sobel.webp"), ("cat.bmp", [], "cat-sobel.bmp"),
        ("cat.gif", [], "cat-sobel.gif"), ("cat.npy", [], "cat-sobel.npy"),
        ("cat.txt", [], "cat-sobel.txt"), ("cat.pgm", [], "cat-sobel.pgm"),
        ("cat.ico", [], "cat-sobel.png"), ("cat.jp2", [], "cat-sobel.png"),
        ("cat.apng", [], "cat-sobel.apng"), ("cat.stk", [], "cat-sobel.tif"),
        ("cat", [], "cat-sobel.jpg"), ("cat.bak", [], "cat-sobel.jpg"),
        ("cat.jpg", ["--depth", "16"], "cat-sobel.png"),
        ("cat.jpg", ["--depth", "32f"], "cat-sobel.tif"),
        ("cat.npy", ["--colormap", "magma"], "cat-sobel.png"),
        ("cat.pgm", ["--colormap", "magma"], "cat-sobel.ppm"),
        ("cat.jpg", ["--format", "webp"], "cat-sobel.webp"),
        ("cat.jpg", ["-o", "out/"], "out/cat.jpg"),
        ("cat.jpg", ["-o", "{stem}-x.{ext}"], "cat-x.jpg"),
        ("cat.ico", ["-o", "{stem}-x.{ext}"], "cat-x.png"),
        ("cat.jpg", ["-o", "out/", "--format", "png"], "out/cat.png"),
    ],
)  # fmt: skip
def test_outputs_keep_their_inputs_format(folder, name, options, made):
    gray = Image.fromarray(data.camera()[:24, :32])
    suffix = os.path.splitext(name)[1].lower()
    if suffix == ".npy":
        np.save(name, np.asarray(gray))
    elif suffix == ".txt":
        np.savetxt(name, np.asarray(gray))
    else:
        kind = {".apng": "png", ".stk": "tiff", ".pgm": "ppm", ".jp2": "jpeg2000"}.get(suffix)
        known = {"": "jpeg", ".bak": "jpeg"}.get(suffix, kind)
        with open(name, "wb") as file:
            gray.save(file, known or Image.registered_extensions()[suffix])
    before = set(files())
    done("apply", "-q", "-k", "sobel", name, *options)
    assert set(files()) - before == {made}
    kind = next(read_images(made)).format
    wanted = (
        next(read_images(name)).format if "-q" not in options and made.endswith(suffix) else kind
    )
    assert kind == wanted


def test_opacity_that_a_format_cannot_hold_is_said_to_be_lost(folder):
    Image.fromarray(np.dstack([PHOTO, PHOTO[..., 0]])).save("clear.png")
    for output in ("a.jpg", "{stem}-{map}.bmp"):
        kernels = ["-k", "identity", "-k", "box-3"] if "{" in output else ["-k", "identity"]
        said = done("apply", *kernels, "clear.png", "-o", output).stderr
        name = "jpeg" if output == "a.jpg" else "bmp"
        assert said == f"imgconv: clear.png: its opacity is left out: {name} holds none\n"
        drop = done("apply", "--alpha", "drop", *kernels, "clear.png", "-o", f"x{output}")
        assert drop.stderr == ""
    assert done("apply", "-k", "identity", "clear.png", "-o", "b.png").stderr == ""


def piped(*arguments, stdin=b"", **options):
    return subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, timeout=120,
        env={**os.environ, "IMGCONV_QUIET": "1"}, **options,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "gif", "bmp", "webp", "ppm", "npy", "txt"])
def test_standard_input_goes_to_standard_output_in_its_format(folder, kind):
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, PHOTO)
    elif kind == "txt":
        np.savetxt(buffer, PHOTO[..., 0])
    else:
        Image.fromarray(PHOTO).save(buffer, kind)
    result = piped("apply", "-q", "-k", "identity", "-", stdin=buffer.getvalue())
    assert (result.returncode, result.stderr) == (0, b"")
    (got,) = read_images(result.stdout)
    (want,) = read_images(buffer.getvalue())
    assert got.format == want.format
    if kind not in ("jpeg", "webp", "gif"):
        np.testing.assert_array_equal(got.pixels, want.pixels)
    assert files() == ["photo.png"]


def test_the_main_job_is_a_pipe(folder):
    done("apply", "-k", "sobel", "photo.png", "-o", "edges.png")
    line = 'cat photo.png | "$0" -m imgconv apply -k sobel - | "$0" -m imgconv compare - edges.png'
    result = subprocess.run(["bash", "-c", line, sys.executable], capture_output=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"max error 0," in result.stdout
    assert files() == ["edges.png", "photo.png"]
    one = piped("apply", "-k", "sobel", "photo.png", "-o", "-")
    assert one.stdout == Path("edges.png").read_bytes()
    other = piped("apply", "-k", "sobel", "-", "--format", "jpeg", stdin=one.stdout)
    assert other.stdout.startswith(b"\xff\xd8\xff")


def test_what_standard_output_cannot_take_is_refused_before_any_work(folder):
    stdin = Path("photo.png").read_bytes()
    pages("pages.tif", 3)
    for options in (["-k", "sobel-x", "-k", "sobel-y", "-"], ["-k", "sobel", "-", "--json"],
                    ["-k", "sobel", "photo.png", "pages.tif", "-o", "-"],
                    ["-k", "sobel", "-", "--ledger", "l.sqlite"]):  # fmt: skip
        result = piped("apply", *options, stdin=stdin)
        assert (result.returncode, result.stderr.count(b"\n"), result.stdout) == (2, 1, b"")
    frames = piped("apply", "-k", "sobel", "-", "--frame", "all", "--format", "png",
                   stdin=Path("pages.tif").read_bytes())  # fmt: skip
    assert (frames.returncode, frames.stdout) == (2, b"")
    both = piped("apply", "-q", "-k", "sobel", "-", "pages.tif", stdin=stdin)
    assert both.returncode == 0
    assert both.stdout.startswith(b"\x89PNG")
    assert "pages-sobel.tif" in files()


def test_an_image_does_not_go_to_a_terminal(folder):
    screen, terminal = pty.openpty()
    done("apply", "-k", "sobel", "photo.png", "-o", "edges.png")
    apply = ["apply", "-k", "sobel"]
    for command in ([*apply, "-"], [*apply, "photo.png", "-o", "-"],
                    [*apply, "photo.png", "-o", "png:-"],
                    ["repeat", "edges.png", "-o", "-"]):  # fmt: skip
        result = subprocess.run(
            [*COMMAND, *command], input=Path("photo.png").read_bytes(),
            stdout=terminal, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
        assert (result.returncode, result.stderr.count(b"\n")) == (2, 1), result.stderr
        assert b"standard output is a terminal" in result.stderr
        assert b"imgconv show" in result.stderr
    Path("grid.txt").write_text("1 2\n3 4\n")
    text = subprocess.run([*COMMAND, "apply", "-k", "identity", "grid.txt", "-o", "-"],
                          stdout=terminal, timeout=60, check=False)  # fmt: skip
    assert text.returncode == 0
    os.close(terminal)
    assert os.read(screen, 1000).split() == [b"1", b"2", b"3", b"4"]
    os.close(screen)


@pytest.mark.parametrize("waits", ["fifo", "stdin", "features"])
def test_a_signal_ends_the_wait_for_a_pipe(folder, waits):
    os.mkfifo("a.png")
    command = ["apply", "-k", "sobel", "a.png", "photo.png", "-o", "out/", "--jobs", "2"]
    if waits == "stdin":
        command[3] = "-"
    if waits == "features":
        command = ["net", "predict", "lenet5", "a.png", "photo.png"]
    process = subprocess.Popen([*COMMAND, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)  # fmt: skip
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (143, b"")


def test_a_named_pipe_is_read_once_it_is_written(folder):
    os.mkfifo("a.png")
    process = subprocess.Popen([*COMMAND, "apply", "-k", "identity", "a.png", "photo.png",
                                "-o", "out/"])  # fmt: skip
    time.sleep(0.5)
    Path("a.png").write_bytes(Path("photo.png").read_bytes())
    assert process.wait(60) == 0
    np.testing.assert_array_equal(np.asarray(Image.open("out/a.png")), PHOTO)


# Folders


@pytest.fixture
def tree(folder):
    """Pictures in two folders of a third, with what else lies in such folders."""
    for name in ("in/a.png", "in/2025/a.png", "in/2025/deep/b.png"):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        Image.fromarray(PHOTO).save(name)
    Image.fromarray(PHOTO).save("in/2025/c.apng", "png")
    for name in ("readme.txt", "kernel.csv", "weights.NPZ", "Thumbs.db", "._a.png", "x.html"):
        Path("in", name).write_bytes(b"1 2 1\n")
    np.save("in/kernel.npy", np.eye(3))
    os.mkfifo("in/b.png")
    os.symlink("a.png", "in/link.PNG")
    return folder


def test_a_scan_takes_pictures_alone_and_outputs_mirror_the_tree(tree):
    command = ("apply", "-q", "-k", "sobel", "in", "--recursive", "-o", "out/")
    done(*command)
    wanted = ["2025/a.png", "2025/c.apng", "2025/deep/b.png", "a.png", "link.PNG"]
    assert files("out") == wanted
    done("apply", "-q", "-k", "sobel", "in/", "--recursive", "-o", "new/", "--format", "jpeg")
    assert files("new") == [os.path.splitext(name)[0] + ".jpg" for name in wanted]
    done("apply", "-q", "-k", "sobel", "in", "-o", "flat/")
    assert files("flat") == ["a.png", "link.PNG"]
    done("net", "features", "lenet5", "in", "--recursive", "--layer", "c1", "--sheet", "-o", "maps")
    assert "2025/deep/b/c1.png" in files("maps")
    pages = ("apply", "-q", "-k", "sobel", "in", "--recursive", "--report", "pages/")
    done(*pages)
    assert "2025/deep/b.html" in files("pages")


def test_a_nightly_run_does_not_filter_its_own_outputs(tree):
    command = ("apply", "-k", "sobel", ".", "--recursive", "-o", "in/edges/")
    assert done(*command).stderr == ""
    made = files("in/edges")
    again = done(*command, "--overwrite")
    assert again.stderr == "imgconv: ./in/edges: skipped, since outputs go there\n"
    assert files("in/edges") == made


def test_two_folders_that_mirror_into_one_file_are_found_first(tree):
    os.makedirs("other")
    Image.fromarray(PHOTO).save("other/a.png")
    result = done("apply", "-k", "sobel", "in", "other", "-o", "out/", code=2)
    assert "out/a.png: output of both in/a.png and other/a.png" in result.stderr
    assert not Path("out").exists()


def test_a_folder_without_pictures_is_an_error_with_a_reason(folder):
    os.makedirs("empty/below")
    os.makedirs("notes")
    Path("notes/readme.txt").write_text("1 2")
    for name, more, why in (
        ("empty", [], "no files in it; --recursive looks into its folders"),
        ("empty", ["--recursive"], "no files in it"),
        ("notes", ["--recursive"], "none of its files is an image by its extension"),
    ):
        result = done("apply", "-k", "sobel", name, "-o", "out/", *more, code=1)
        assert result.stderr == f"imgconv: {name}: no images: {why}\n"
    done("apply", "-k", "sobel", "empt*", "-o", "out/", code=1)
    os.symlink("nowhere.png", "notes/lost.png")
    result = done("apply", "-k", "sobel", "notes", "photo.png", "-o", "out/", "--json", code=1)
    assert result.stderr == "imgconv: notes/lost.png: no such file\n"
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["input"] for row in rows] == ["notes/lost.png", "photo.png"]


def test_a_folder_that_cannot_be_looked_into_is_named(tree, monkeypatch):
    scan = os.scandir

    def refuse(place):
        if str(place).endswith("deep"):
            raise PermissionError(13, "Permission denied", place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    result = done("apply", "-q", "-k", "sobel", "in", "--recursive", "-o", "out/", code=1)
    assert result.stderr == "imgconv: in/2025/deep: Permission denied\n"
    assert "2025/a.png" in files("out")


# Lists


@pytest.mark.parametrize("null", [True, False])
def test_names_in_lists_are_literal(folder, null):
    Image.fromarray(PHOTO).save("a1.png")
    before = Path("a1.png").read_bytes()
    names = ["a[1].png", "*.png", "-", "a?.png"]
    Path("list").write_text(("\0" if null else "\n").join(names))
    more = ["-0"] if null else []
    for place in (["--in-place"], ["-o", "out/"]):
        result = done("apply", "-k", "sobel", "--files-from", "list", *more, *place, code=1)
        assert result.stderr.splitlines() == [
            f"imgconv: {'./-' if name == '-' else name}: no such file" for name in names
        ]
    assert Path("a1.png").read_bytes() == before
    assert not Path("out").exists()


def test_a_pattern_is_one_only_where_there_is_no_such_file(folder):
    Image.fromarray(PHOTO).save("a1.png")
    before = Path("a1.png").read_bytes()
    result = done("apply", "-k", "sobel", "a[1].png", "--in-place", code=1)
    assert result.stderr == "imgconv: a[1].png: no such file; --in-place takes no patterns\n"
    assert Path("a1.png").read_bytes() == before
    done("apply", "-k", "sobel", "a[1].png", "-o", "out/")
    assert files("out") == ["a1.png"]
    Image.fromarray(PHOTO[::-1]).save("a[1].png")
    done("apply", "-k", "sobel", "a[1].png", "--in-place")
    assert Path("a1.png").read_bytes() == before


def test_a_nul_in_a_list_of_lines_is_one_line(folder):
    Path("list").write_bytes(b"photo.png\na\0b/*.png\n" + b"x" * 200_000 + b"\nphoto.png\r\n")
    result = done("apply", "-k", "sobel", "--files-from", "list", "-o", "{index}.png", code=1)
    assert result.stderr.count("\n") == 2
    assert "a NUL in a name" in result.stderr
    assert "-0" in result.stderr
    assert "a name of more than 65536 bytes" in result.stderr
    assert files() == ["0000.png", "0003.png", "list", "photo.png"]


def test_a_spool_gives_back_what_was_put_in_as_often_as_one_likes():
    names = [f"{number}\udcff\n{number}" for number in range(1000)]
    spooled = Spooled([*names, ImageError("no such")])
    assert len(spooled) == 1001
    for _ in range(2):
        *got, last = spooled
        assert got == names
        assert isinstance(last, ImageError)
    spooled.close()


def test_a_list_of_a_windows_editor_is_read(folder):
    Path("list").write_bytes(b"\xef\xbb\xbfphoto.png\r\nphoto.png\r\n")
    result = done("apply", "-k", "sobel", "--files-from", "list", "-o", "{index}.png", "--dry-run")
    assert result.stdout == "photo.png -> 0000.png\nphoto.png -> 0001.png\n"
    assert result.stderr == ""


def test_an_empty_list_is_no_failure_but_is_said(folder):
    Path("list").write_text("")
    result = done("apply", "-k", "sobel", "--files-from", "list", "-o", "out/")
    assert result.stderr == "imgconv: --files-from list: no names, nothing to do\n"


# compare


def test_compare_exits_2_where_it_cannot_compare(folder):
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    Image.fromarray(PHOTO[:-1]).save("short.png")
    Image.fromarray(PHOTO[::-1]).save("other.png")
    Path("there.png").write_bytes(b"precious")
    for names in (["photo.png", "lost.png"], ["broken.png", "photo.png"], ["photo.png", "."],
                  ["photo.png", "short.png"], ["photo.png", "other.png", "-o", "there.png"],
                  ["photo.png", "http://127.0.0.1/a.png"]):  # fmt: skip
        result = done("compare", *names, code=2)
        assert result.stderr.count("\n") == 1
    done("compare", "photo.png", "other.png", code=1)
    before = Path("photo.png").read_bytes()
    os.link("photo.png", "link.png")
    result = done("compare", "photo.png", "other.png", "-o", "link.png", "--overwrite", code=2)
    assert "link.png: is the input photo.png" in result.stderr
    net = ["lenet5", "photo.png", "--layer", "c1", "--overwrite"]
    done("net", "receptive", *net, "--at", "1,1", "-o", "link.png", code=2)
    done("net", "features", *net, "--sheet", "-o", "{stem}.png", code=2)
    assert Path("photo.png").read_bytes() == before
    done("compare", "photo.png", "photo.png")


def test_scans_say_which_folders_they_looked_into(tree):
    scan = Scan(recursive=True)
    assert all(isinstance(name, str) for name in scan.expand(["in"]))
    assert scan.folders == {str(tree / "in")}
    with pytest.raises(UsageError, match="--files-from nothing"):
        list(scan.expand([], "nothing"))
