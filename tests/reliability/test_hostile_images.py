"""Rows 1 to 6: broken and hostile images give an output or one line, whatever is in them."""

import os
import shutil

import pytest

from tests.reliability import broken
from tests.reliability.forked import Forker
from tests.reliability.support import corpus

# More than any small picture takes; a limit of pixels of 179 million would allow 2 GB.
PEAK = 1 << 30
# Of the lying files: what is wrong in them leaves the pixels whole.
HARMLESS = ("one-long-line.txt", "bomb-in-rows.png", "bomb-in-text.png", "bomb-in-profile.png",
            "two-headers.png", "negative.bmp", "directory-loop.tif", "many-values.tif")  # fmt: skip
APPLY = ("apply", "-q", "-k", "sobel")


@pytest.fixture(scope="module")
def forker():
    made = Forker()
    yield made
    made.close()


def filtered(forker, folder, name, *more):
    """Filter a file; return how it ended, with the output there exactly if the code is 0."""
    ended = forker.run(*APPLY, name, "-o", "out.npy", "--overwrite", *more, cwd=folder)
    assert ended.is_clean(), (name, ended)
    out = folder / "out.npy"
    assert out.exists() == (ended.code == 0), (name, ended)
    if ended.code:
        assert str(name) in ended.said, ended
    out.unlink(missing_ok=True)
    assert not [path for path in os.listdir(folder) if path.startswith(".imgconv")]
    return ended


def taken(forker, folder, ended):
    """Bytes that a run took beyond those of a small image."""
    small = forker.run(*APPLY, "sample:chart:32", "-o", "small.npy", "--overwrite", cwd=folder)
    assert small.code == 0, small
    return ended.peak - small.peak


@pytest.mark.parametrize("path", corpus("hostile"))
def test_row_01_hostile_files_give_an_output_or_one_line(forker, tmp_path, path):
    copy = tmp_path / path.name
    shutil.copyfile(path, copy)
    for more in ((), ("--frame", "all", "-o", "out/")):
        ended = forker.run(*APPLY, path.name, "-o", "out.npy", *more, cwd=tmp_path)
        assert ended.is_clean(), ended
        assert ended.peak < 2 * PEAK, ended


@pytest.mark.parametrize("path", corpus("pngsuite"))
def test_row_01_the_png_suite_gives_outputs_and_its_broken_files_one_line(forker, tmp_path, path):
    if path.suffix != ".png":
        pytest.skip("not an image of the suite")
    shutil.copyfile(path, tmp_path / path.name)
    ended = filtered(forker, tmp_path, path.name)
    if not path.name.startswith("x"):
        assert ended.code == 0, ended


@pytest.mark.parametrize("name", broken.lying())
def test_row_01_our_own_broken_files_give_one_line_within_memory(forker, tmp_path, name):
    (tmp_path / name).write_bytes(broken.lying()[name])
    ended = filtered(forker, tmp_path, name)
    assert ended.code != 0 or name in HARMLESS, ended
    assert ended.peak < PEAK, ended


@pytest.mark.parametrize("form", ["png", "jpg", "progressive.jpg", "tif", "lzw.tif", "gif", "webp"])
def test_row_02_no_prefix_gives_an_output_but_where_the_end_mark_alone_is_lost(
    forker, tmp_path, form
):
    data, name = broken.whole(form), f"picture.{form}"
    (tmp_path / name).write_bytes(data)
    assert filtered(forker, tmp_path, name).code == 0
    # The last directory's end is padding; a JPEG's and a GIF's, a mark (tests/io/test_reading.py).
    spare = 4 if "tif" in form else 3 if "jpg" in form or form == "gif" else 0
    step = max(1, len(data) // 150)
    for length in [*range(64), *range(64, len(data) - spare, step), len(data) - spare - 1]:
        (tmp_path / name).write_bytes(data[:length])
        ended = filtered(forker, tmp_path, name)
        assert ended.code == 1, f"{length} of {len(data)} bytes: {ended}"


@pytest.mark.parametrize("form", broken.FORMS)
def test_row_03_flipped_bits_give_an_output_or_one_line(forker, tmp_path, form):
    name = f"picture.{form}"
    for damaged in broken.flipped(broken.whole(form), 40, seed=3):
        (tmp_path / name).write_bytes(damaged)
        filtered(forker, tmp_path, name, "--max-pixels", "1000000")


@pytest.mark.slow
@pytest.mark.parametrize("form", broken.FORMS)
def test_row_03_a_thousand_times_flipped_bits_give_an_output_or_one_line(forker, tmp_path, form):
    name = f"picture.{form}"
    for damaged in broken.flipped(broken.whole(form), 1000, seed=33):
        (tmp_path / name).write_bytes(damaged)
        filtered(forker, tmp_path, name, "--max-pixels", "1000000")


def test_row_03_a_wrong_checksum_is_named(forker, tmp_path):
    data = bytearray(broken.whole("png"))
    data[data.index(b"IDAT") + 6] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    ended = filtered(forker, tmp_path, "a.png")
    assert ended.code == 1
    assert "IDAT" in ended.said


@pytest.mark.parametrize(
    "name", ["huge-header.png", "huge-square.png", "huge.jpg", "huge.gif", "huge.bmp", "huge.ppm",
             "huge.pfm", "huge.tif", "long.tif"],
)  # fmt: skip
def test_row_04_huge_dimensions_are_refused_before_allocation(forker, tmp_path, name):
    (tmp_path / name).write_bytes(broken.lying()[name])
    ended = filtered(forker, tmp_path, name)
    assert ended.code == 1
    assert "--max-pixels" in ended.said, ended
    assert taken(forker, tmp_path, ended) < 32 << 20


def test_row_04_the_limit_is_raised_deliberately(forker, tmp_path):
    (tmp_path / "a.png").write_bytes(broken.whole("png"))
    assert filtered(forker, tmp_path, "a.png", "--max-pixels", "100").code == 1
    assert filtered(forker, tmp_path, "a.png", "--max-pixels", "224").code == 0


PADDED = [
    ("apply", "-k", "sobel", "--padding-mode", "zeros", "--padding", "100000"),
    ("apply", "-k", "sobel", "--padding", "0,0,9000000,9000000", "--padding-mode", "replicate"),
    (
        "apply",
        "-k",
        "sobel",
        "--padding",
        "full",
        "--dilation",
        "1000000",
        "--padding-mode",
        "zeros",
    ),
    ("run", "gray | conv box-3 padding=100000 mode=zeros"),
]


@pytest.mark.parametrize("arguments", PADDED)
def test_row_05_padding_beyond_the_limit_is_refused_from_the_computed_size(
    forker, tmp_path, arguments
):
    (tmp_path / "a.png").write_bytes(broken.whole("png"))
    ended = forker.run(*arguments, "a.png", "-o", "out.npy", cwd=tmp_path)
    assert ended.code == 1, ended
    assert ended.is_clean(), ended
    assert "more than the limit of 178956970; --max-pixels raises it" in ended.said
    assert taken(forker, tmp_path, ended) < 32 << 20
    ended = forker.run(*arguments, "a.png", "-o", "out.npy", "--max-pixels", "300", cwd=tmp_path)
    assert "limit of 300" in ended.said


@pytest.mark.parametrize("pool", ["adaptive-max:20000", "adaptive-avg:1x200000000"])
def test_row_05_pooled_maps_beyond_the_limit_are_refused_from_the_computed_size(
    forker, tmp_path, pool
):
    (tmp_path / "a.png").write_bytes(broken.whole("png"))
    arguments = ("apply", "-q", "-k", "sobel-x", "--pool", pool, "a.png", "-o", "out.npy")
    ended = forker.run(*arguments, cwd=tmp_path)
    assert ended.code == 1, ended
    assert ended.is_clean(), ended
    assert f"{pool}: a map of" in ended.said
    assert "more than the limit of 178956970; --max-pixels raises it" in ended.said
    assert taken(forker, tmp_path, ended) < 32 << 20


@pytest.mark.parametrize("number", [10**9, 10**23])
@pytest.mark.parametrize(
    "arguments",
    [
        ("apply", "-k", "sobel-x", "--stride", "{n}"),
        ("apply", "-k", "sobel-x", "--dilation", "{n}"),
        ("apply", "-k", "sobel-x", "--pool", "max:2,stride={n}"),
        ("run", "conv sobel-x stride={n}"),
        ("run", "conv sobel-x dilation={n}"),
        ("run", "lppool 2 stride={n}"),
    ],
    ids=lambda words: " ".join(words),
)
def test_row_05_steps_without_end_take_no_memory(forker, tmp_path, arguments, number):
    """A stride of 10⁹ is one window; it had taken 16 GB of spare columns."""
    (tmp_path / "a.png").write_bytes(broken.whole("png"))
    words = [word.replace("{n}", str(number)) for word in arguments]
    ended = forker.run(*words, "-q", "a.png", "-o", "out.npy", cwd=tmp_path)
    assert ended.code in (0, 1, 2), ended
    assert ended.is_clean(), ended
    assert (ended.code == 0) == (number == 10**9 and "dilation" not in "".join(arguments)), ended
    assert ended.peak < 512 << 20  # with a compiler at work where the store is cold


@pytest.mark.parametrize("kernel", ["gaussian:sigma=1e9", "box:size=1000000", "disk:radius=1e8",
                                    "gabor:sigma=1e7", "motion:length=1e9"])  # fmt: skip
def test_row_05_kernels_beyond_the_limit_are_refused_from_their_parameters(
    forker, tmp_path, kernel
):
    ended = forker.run("apply", "-k", kernel, "sample:chart:32", "-o", "a.npy", cwd=tmp_path)
    assert ended.code == 2, ended
    assert ended.is_clean(), ended
    assert ended.peak < PEAK


@pytest.mark.parametrize("name", ["postscript.png", "document.png", "script.png"])
def test_row_06_no_helper_program_runs(tmp_path, name):
    """Every exec of the process tree is traced: there is none but our own."""
    from tests.reliability.support import imgconv, one_line

    if shutil.which("strace") is None:
        pytest.skip("no strace")
    for written in (name, name.replace(".png", ".eps")):
        (tmp_path / written).write_bytes(broken.lying()[name])
        result = imgconv(
            *APPLY, written, cwd=tmp_path,
            under=("strace", "-f", "-o", "log", "-e", "trace=execve,fork,vfork"),
        )  # fmt: skip
        assert result.returncode == 1
        one_line(result, written.encode())
        assert (tmp_path / "log").read_text().count("execve(") == 1
    assert sorted(os.listdir(tmp_path)) == sorted([name, written, "log"])
