"""`--frame all`: all frames of an input in one file a map, or a file a frame by their names."""

import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.io.reading import read_images
from tests.running import here, peak

PHOTO = data.astronaut()[100:148, 150:214]
FRAMES = [np.roll(PHOTO, 7 * step, 1) for step in range(4)]
SHOWN = [50, 60, 200, 90]
ALL = ["--frame", "all"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An animation of each kind, and a TIFF of pages."""
    monkeypatch.chdir(tmp_path)
    first, *others = map(Image.fromarray, FRAMES)
    for name in ("a.png", "a.webp", "a.gif"):
        first.save(name, save_all=True, append_images=others, duration=SHOWN, loop=2,
                   **({"lossless": True} if name == "a.webp" else {}))  # fmt: skip
    first.save("pages.tif", save_all=True, append_images=others)
    return tmp_path


def frames_of(name):
    """What the frames of a file are to Pillow, with their times."""
    found, shown = [], []
    with Image.open(name) as opened:
        for number in range(opened.n_frames):
            opened.seek(number)
            opened.load()
            found.append(np.asarray(opened.convert("RGB")))
            shown.append(opened.info.get("duration"))
    return found, shown


def apply(*arguments, code=0, kernel="sobel"):
    result = here("apply", "-k", kernel, *arguments)
    assert result.returncode == code, result.stderr
    return result


def alone(source):
    """What each frame gives when it is filtered on its own."""
    apply(source, *ALL, "-o", "alone/{frame}.tif")
    found = [frames_of(f"alone/{number}.tif")[0][0] for number in range(len(FRAMES))]
    shutil.rmtree("alone")
    return found


@pytest.mark.parametrize("source", ["a.png", "a.webp", "a.gif", "pages.tif"])
@pytest.mark.parametrize("target", ["out.tif", "out.apng", "out.npy", "out.zarr"])
def test_all_frames_are_in_one_file_as_each_is_alone(source, target):
    want = alone(source)
    said = apply(source, *ALL, "-o", target, "--dry-run").stdout
    assert said == f"{source} -> {target}\n"
    (row,) = map(json.loads, apply(source, *ALL, "-o", target, "--json").stdout.splitlines())
    assert (row["output"], row["frames"]) == (target, len(FRAMES))
    if target.endswith(("npy", "zarr")):
        pytest.importorskip("zarr")
        got = [image.pixels for image in read_images(target, frame="all")]
        if target == "out.npy":
            np.testing.assert_array_equal(np.load(target), np.stack(got))
            got = [np.rint(np.clip(frame, 0, 255)) for frame in got]
        got = [frame[..., :3] for frame in got]  # Pillow reads every WebP with opacity
    else:
        assert row["bytes"] == os.path.getsize(target)
        got, shown = frames_of(target)
        if target == "out.apng":
            assert shown == ([100] * 4 if source == "pages.tif" else SHOWN)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.gif", "pages.tif"])
def test_an_input_of_frames_gives_one_of_its_format(name):
    want = alone(name)
    stem, suffix = os.path.splitext(name)
    said = apply(name, *ALL, "--dry-run").stdout
    assert said == f"{name} -> {stem}-sobel{suffix}\n"
    apply(name, *ALL)
    apply(name, *ALL, "-o", "out/")
    with Image.open(name) as opened:
        loops = opened.info.get("loop")
    for made in (f"{stem}-sobel{suffix}", f"out/{name}"):
        got, shown = frames_of(made)
        assert len(got) == len(FRAMES)
        if name != "pages.tif":
            assert shown == SHOWN
            with Image.open(made) as opened:
                assert opened.info.get("loop") == loops == 2
        close = 0 if name in ("a.png", "pages.tif") else 12  # a palette, and lossy WebP
        assert all(np.abs(a.astype(int) - b).mean() <= close
                   for a, b in zip(got, want, strict=True))  # fmt: skip


@pytest.mark.parametrize("name", ["a.png", "a.gif", "pages.tif"])
def test_in_place_every_frame_is_filtered_and_none_is_lost(name):
    want = alone(name)
    refused = apply(name, "--in-place", code=1)
    assert "--in-place would lose frames of its 4; --frame all filters them all" in refused.stderr
    apply(name, *ALL, "--in-place")
    got, shown = frames_of(name)
    if name != "a.gif":
        np.testing.assert_array_equal(got, want)
    assert len(got) == len(want)
    if name != "pages.tif":
        assert shown == SHOWN


def test_each_map_has_a_file_of_its_own_or_an_array(monkeypatch):
    two = ["-k", "identity", "pages.tif", *ALL]
    apply(*two, "-o", "out.tif")
    names = ["out-sobel.tif", "out-identity.tif"]
    assert sorted(names) == sorted(name for name in os.listdir() if name.startswith("out"))
    np.testing.assert_array_equal(frames_of("out-sobel.tif")[0], alone("pages.tif"))
    np.testing.assert_array_equal(frames_of("out-identity.tif")[0], FRAMES)
    apply(*two, "-o", "out.npz")
    with np.load("out.npz") as arrays:
        assert {name for name in arrays if name != "imgconv"} == {"sobel", "identity"}
        np.testing.assert_array_equal(arrays["identity"], np.stack(FRAMES))
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").store.clear()
    apply(*two, "-o", "memory://out/{map}.tif")
    for name in ("sobel", "identity"):
        got = [image.pixels for image in read_images(f"memory://out/{name}.tif", frame="all")]
        np.testing.assert_array_equal(got, frames_of(f"out-{name}.tif")[0])


def test_frames_of_a_format_without_them_need_names_found_before_any_work():
    for target in ("out.png", "out.jpg", "{index}.png", "out.ppm"):
        for more in ([], ["--dry-run"]):
            result = apply("pages.tif", *ALL, "-o", target, *more, code=2)
            assert "{frame}" in result.stderr
    assert set(os.listdir()) == {"a.png", "a.webp", "a.gif", "pages.tif"}
    apply("pages.tif", *ALL, "--format", "png", "-o", "out/")
    assert sorted(os.listdir("out")) == ["pages-1.png", "pages-2.png", "pages-3.png", "pages.png"]
    apply("pages.tif", *ALL, "-o", "{stem}-{frame:03d}.tif")
    assert len(frames_of("pages-002.tif")[0]) == 1


def test_frames_go_through_pipes(monkeypatch):
    import subprocess
    import sys

    for form, source in (("tiff", "pages.tif"), ("gif", "a.gif"), ("webp", "a.webp")):
        with open(source, "rb") as file:
            result = subprocess.run(
                [sys.executable, "-m", "imgconv", "apply", "-k", "identity", "-", *ALL],
                stdin=file, capture_output=True, timeout=60,
            )  # fmt: skip
        assert result.returncode == 0, result.stderr
        with open(f"out.{form}", "wb") as file:
            file.write(result.stdout)
        assert len(frames_of(f"out.{form}")[0]) == len(FRAMES)


def test_a_frame_that_fails_leaves_nothing_and_an_old_file_whole():
    odd = np.vstack([PHOTO, PHOTO])
    first, *others = map(Image.fromarray, [FRAMES[0], FRAMES[1], odd])
    first.save("odd.tif", save_all=True, append_images=others)
    with open("out.gif", "wb") as file:
        file.write(b"precious")
    before = set(os.listdir())
    for target in ("out.gif", "new.apng", "new.npy"):
        result = apply("odd.tif", *ALL, "-o", target, "--overwrite", code=1)
        assert result.stderr.count("\n") == 1
        assert "odd.tif: frame 2 is 64×96×3 " in result.stderr
        assert ", the first 64×48×3 " in result.stderr
    assert set(os.listdir()) == before
    with open("out.gif", "rb") as file:
        assert file.read() == b"precious"
    apply("odd.tif", *ALL, "-o", "new.tif")
    assert [frame.shape for frame in frames_of("new.tif")[0]] == [(48, 64, 3)] * 2 + [(96, 64, 3)]


def test_existing_outputs_stay_and_finished_ones_are_passed_over():
    apply("pages.tif", *ALL, "-o", "out.tif")
    assert "exists" in apply("pages.tif", *ALL, "-o", "out.tif", code=1).stderr
    before = os.stat("out.tif").st_mtime_ns
    said = apply("pages.tif", *ALL, "-o", "out.tif", "--skip-existing", "--json").stdout
    assert json.loads(said)["skipped"]
    assert os.stat("out.tif").st_mtime_ns == before


@pytest.mark.parametrize("target", ["out.tif", "out.apng", "out.gif", "out.webp", "out.npz"])
def test_an_output_of_all_frames_is_made_again(target):
    source = "pages.tif" if target.endswith(("tif", "npz")) else "a.png"
    apply(source, *ALL, "-o", target)
    again = here("repeat", target, "--check")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == f"{target}: the same bytes from {source}\n"
    assert "--frame all" in here("repeat", target, "--show").stdout
    again = here("repeat", target, "-o", f"again.{target.partition('.')[2]}", "--check")
    assert again.returncode == 0, again.stderr


def test_frames_with_and_without_opacity_become_one_kind():
    clear = np.dstack([FRAMES[1], np.full(PHOTO.shape[:2], 90, np.uint8)])
    gray = FRAMES[2][..., 0]
    pages = [Image.fromarray(samples) for samples in (FRAMES[0], clear, gray)]
    pages[0].save("mixed.tif", save_all=True, append_images=pages[1:])
    apply("mixed.tif", *ALL, "-o", "out.npy", kernel="identity")
    got = np.load("out.npy")
    np.testing.assert_array_equal(got[0], np.dstack([FRAMES[0], np.full(PHOTO.shape[:2], 255)]))
    np.testing.assert_array_equal(got[1], clear)
    np.testing.assert_array_equal(got[2, ..., :3], np.dstack([gray] * 3))


def test_a_report_has_a_page_a_frame_beside_the_one_file():
    apply("a.gif", *ALL, "-o", "out.gif", "--report", "page-{frame}.html")
    pages = sorted(name for name in os.listdir() if name.endswith(".html"))
    assert len(pages) == len(FRAMES)
    assert len(frames_of("out.gif")[0]) == len(FRAMES)


def test_pages_of_a_tiff_take_the_memory_of_one(folder):
    page = np.zeros((1500, 2000, 3), np.uint8)
    peaks = []
    for count in (2, 12):
        pages = [Image.fromarray(page + number) for number in range(count)]
        pages[0].save("large.tif", save_all=True, append_images=pages[1:])
        peaks.append(
            peak("apply", "-k", "identity", "large.tif", *ALL, "-o", f"{count}.tif", "--threads",
                 "1", cwd=folder)
        )  # fmt: skip
        assert len(frames_of(f"{count}.tif")[0]) == count
    assert peaks[1] - peaks[0] < 3 * page.nbytes >> 20


def test_frames_that_a_header_only_declares_are_not_gone_through(folder):
    head = io.BytesIO()
    facts = {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 1, 1, 1)}
    np.lib.format.write_array_header_1_0(head, facts)
    (folder / "many.npy").write_bytes(head.getvalue() + b"7")
    for target in ("out.npy", "out/{frame}.png"):
        result = apply("many.npy", *ALL, "-o", target, code=1)
        assert result.stderr.count("\n") == 1
        assert "many.npy: 1099511627776 frames, more than the 1048576" in result.stderr
