"""`imgconv repeat`: outputs come out again from their records, and from nothing else."""

import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from skimage import data

from imgconv.cli import exit_codes, main
from imgconv.io import digest
from imgconv.io.metadata.notes import read_note
from imgconv.io.reading import read_images

FORMATS = ("png", "tif", "jpg", "webp", "gif", "npz", "safetensors")


@pytest.fixture
def photo(tmp_path, monkeypatch):
    Image.fromarray(data.astronaut()[:61, :83]).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def imgconv(capfd):
    def run(*arguments):
        code = exit_codes.run(main, [str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def record_of(path):
    return json.loads(read_note(str(path)))


def with_record(path, record, source=None):
    """A PNG of the pixels of another whose record is replaced."""
    info = PngImagePlugin.PngInfo()
    info.add_text("imgconv", record if isinstance(record, str) else json.dumps(record))
    Image.open(source or path).save(path, pnginfo=info)


def same(imgconv, *arguments):
    """Repeat, expecting the same bytes."""
    code, out, err = imgconv("repeat", *arguments)
    assert (code, "the same bytes" in out) == (0, True), out + err


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_with_room_for_a_record_is_repeated_to_the_byte(imgconv, photo, form):
    imgconv("apply", "-k", "unsharp:sigma=2,amount=1", "photo.png", "-o", f"sharp.{form}")
    same(imgconv, f"sharp.{form}")
    assert imgconv("repeat", f"sharp.{form}", "-o", f"again.{form}") == (0, "", "")
    with open(f"sharp.{form}", "rb") as first, open(f"again.{form}", "rb") as second:
        assert first.read() == second.read()


def test_a_zarr_image_is_repeated_where_it_may_be_written(imgconv, photo):
    pytest.importorskip("zarr")
    imgconv("apply", "-k", "sobel", "photo.png", "-o", "edges.zarr")
    code, _, err = imgconv("repeat", "edges.zarr")
    assert (code, err) == (
        2, "imgconv: edges.zarr: a Zarr image is a folder, expected -o with a path\n"
    )  # fmt: skip
    same(imgconv, "edges.zarr", "-o", "again.zarr", "--check")
    imgconv("apply", "-k", "box:3", "edges.zarr", "-o", "soft.png")
    same(imgconv, "soft.png")


def test_pyramids_their_levels_and_ome_tiff_are_repeated(imgconv, photo):
    big = "sample:chart:1024"
    imgconv("apply", "-k", "sobel", big, "--pyramid", "-o", "levels.tif")
    imgconv("apply", "-k", "sobel", big, "--pyramid", "-o", "levels.ome.tif")
    imgconv("apply", "-k", "box:3", "levels.tif", "--level", "1", "-o", "small.png")
    for name in ("levels.tif", "levels.ome.tif", "small.png"):
        same(imgconv, name)
    assert record_of("small.png")["options"]["level"] == "1"


@pytest.mark.parametrize("name", ["out.npy", "out.csv", "out.bmp", "out.ppm", "out.pfm"])
def test_formats_without_a_place_for_a_record_say_so(imgconv, photo, name):
    imgconv("apply", "-k", "sobel", "photo.png", "--gray", "-o", name)
    code, _, err = imgconv("repeat", name)
    assert code == 1
    assert "holds no record of how it was made; PNG, TIFF" in err


def test_the_record_says_nothing_of_folders_and_times(imgconv, photo):
    shutil.copytree(photo, photo / "deep" / "er", ignore=lambda *_: ["deep"])
    imgconv("apply", "-k", "sobel", "photo.png", "-o", "a.png")
    (photo / "kernel.txt").write_text("1 2; 3 4")
    imgconv("apply", "-k", "sobel", photo / "deep/er/photo.png", "-o", "b.png")
    with open("a.png", "rb") as first, open("b.png", "rb") as second:
        assert first.read() == second.read()
    imgconv("apply", "-k", photo / "kernel.txt", photo / "photo.png", "-o", "c.png")
    assert str(photo) not in read_note("c.png")
    digest = hashlib.sha256((photo / "photo.png").read_bytes()).hexdigest()
    assert record_of("c.png")["input"] == {"name": "photo.png", "sha256": digest}


@pytest.mark.parametrize("form", FORMATS)
def test_no_metadata_leaves_no_record(imgconv, photo, form):
    imgconv("apply", "-k", "sobel", "photo.png", "--no-metadata", "-o", f"a.{form}")
    code, _, err = imgconv("repeat", f"a.{form}")
    assert (code, err) == (
        1, f"imgconv: a.{form}: no record of how it was made (--no-metadata, another program?)\n"
    )  # fmt: skip


def test_own_kernels_are_recorded_by_their_numbers(imgconv, photo):
    weights = np.random.default_rng(3).normal(size=(5, 3, 4, 2))
    np.savez("bank.npz", weight=weights, bias=np.arange(5) / 7)
    imgconv("apply", "-k", "bank.npz", "photo.png", "-o", "{map}.tif", "--depth", "32f")
    (photo / "k.toml").write_text('matrix = "0 1/3; 1 -7"\ndivisor = 3\nscale = "abs"\n')
    imgconv("apply", "-k", "k.toml", "-k", "0 -1 0; -1 1e-3 -1; 0 -1 0", "photo.png", "-o",
            "{kernel}.png", "--rotate", "90", "--flip", "--bias", "-3")  # fmt: skip
    for name in ("bank.npz", "k.toml"):
        os.unlink(name)
    for name in ("0.tif", "4.tif", "k.png", "kernel.png"):
        same(imgconv, name)
    [literal] = record_of("4.tif")["options"]["kernel"]
    assert (np.array(json.loads(literal)["weights"]) == weights).all()
    assert record_of("4.tif")["map"] == "4"


def test_a_file_named_as_a_preset_is_no_preset(imgconv, photo):
    (photo / "sobel").write_text("1 1; 1 1")
    imgconv("apply", "-k", "sobel", "photo.png", "-o", "a.png")
    (photo / "sobel").write_text("9 9; 9 9")
    same(imgconv, "a.png")


def test_chains_hold_the_steps_of_their_file_and_its_kernels(imgconv, photo):
    (photo / "my kernel.csv").write_text("1,2\n-3,0.5")
    (photo / "chain.toml").write_text(
        """steps = ["gray", "conv 'my kernel.csv' stride=2 anchor=1,0", "conv sobel", "relu",
        "maxpool 2"]"""
    )
    imgconv("run", "chain.toml", "photo.png", "--keep", "*", "-o", "{map}.png")
    os.unlink("chain.toml")
    os.unlink("my kernel.csv")
    for name in ("2-conv", "3-conv", "4-relu", "chain"):
        same(imgconv, f"{name}.png")


@pytest.mark.parametrize(
    "options",
    [
        ("-k", "sobel", "--pool", "max:2,stride=3"),
        ("-k", "kirsch", "--combine", "direction"),
        ("-k", "box:4", "--stride", "2,3", "--padding", "1,0,2,1", "--padding-mode", "constant",
         "--pad-value", "12.5"),
        ("-k", "box:4", "--anchor", "3,0", "--stride", "2", "--flip", "--rotate", "90"),
        ("-k", "2x3+1+2: 1 2 3 4 5 6", "--divisor", "21"),
        ("-k", "laplacian", "--linear", "--scale", "minmax", "--depth", "16"),
        ("-k", "gabor-bank", "--gray", "--sheet", "--share-scale", "--columns", "3"),
        ("-k", "haar-ll", "--channels", "b,g", "--dilation", "2", "--format", "tiff"),
        ("-k", "sobel-x", "--colormap", "coolwarm", "--activation", "leaky-relu:0.3"),
        ("-k", "dct-8x8", "--gray", "--padding", "valid", "--stride", "8", "--format", "npz"),
        ("-k", "gaussian:2", "--compress", "small"),
        ("-k", "gaussian:2", "--quality", "33", "--format", "jpg"),
    ],
)  # fmt: skip
def test_options_come_back(imgconv, photo, options):
    code, _, err = imgconv("apply", *options, "photo.png", "-o", "out.dat")
    if code == 2 and "extension" in err:
        code, _, err = imgconv("apply", *options, "photo.png", "-o", "out.png")
    assert code == 0, err
    [made] = [name for name in os.listdir() if name.startswith("out")]
    same(imgconv, made)


def test_each_output_of_a_batch_repeats_its_own_input_and_frame(imgconv, photo):
    frames = [Image.fromarray(data.camera()[n : n + 40, :50]) for n in (0, 90, 200)]
    frames[0].save("many.tif", save_all=True, append_images=frames[1:])
    Image.fromarray(data.camera()[:30, :30]).save("other.png")
    imgconv("apply", "-k", "sobel", "many.tif", "other.png", "photo.png", "--frame", "all", "-o",
            "out/")  # fmt: skip
    imgconv("apply", "-k", "sobel", "many.tif", "--frame", "all", "-o", "out/{stem}-{frame}.tif")
    names = sorted(os.listdir("out"))
    assert names == ["many-0.tif", "many-1.tif", "many-2.tif", "many.tif", "other.png",
                     "photo.png"]  # fmt: skip
    for name in names:
        same(imgconv, f"out/{name}")
    assert record_of("out/many-2.tif")["options"]["frame"] == "2"
    assert record_of("out/many.tif")["options"]["frame"] == "all"


def test_standard_input_has_to_be_given_again(imgconv, photo):
    words = [sys.executable, "-m", "imgconv"]
    with open("photo.png", "rb") as stdin, open("a.png", "wb") as stdout:
        subprocess.run([*words, "apply", "-k", "sobel", "-", "-o", "png:-"], stdin=stdin,
                       stdout=stdout, check=True)  # fmt: skip
    code, _, err = imgconv("repeat", "a.png")
    assert (code, err) == (1, "imgconv: a.png: made from standard input; expected --input FILE\n")
    same(imgconv, "a.png", "--input", "photo.png")
    with open("photo.png", "rb") as stdin:
        found = subprocess.run([*words, "repeat", "a.png", "--input", "-", "-o", "-"], stdin=stdin,
                               capture_output=True, check=True).stdout  # fmt: skip
    with open("a.png", "rb") as file:
        assert found == file.read()


def test_samples_need_no_file(imgconv, photo):
    imgconv("apply", "-k", "sobel", "sample:chart:64", "-o", "a.png")
    same(imgconv, "a.png")


def test_the_input_is_found_beside_the_result_here_or_where_the_user_says(imgconv, photo):
    imgconv("apply", "-k", "sobel", "photo.png", "-o", "out/a.png")
    same(imgconv, "out/a.png")
    shutil.move("photo.png", "out/photo.png")
    same(imgconv, "out/a.png")
    os.makedirs("far")
    shutil.move("out/photo.png", "far/renamed.png")
    code, _, err = imgconv("repeat", "out/a.png")
    assert (code, err) == (
        1, "imgconv: out/a.png: made from photo.png, which is neither beside it nor here; expected "
        "--input FILE\n",
    )  # fmt: skip
    same(imgconv, "out/a.png", "--input", "far/renamed.png")
    shutil.move("far/renamed.png", "far/photo.png")
    same(imgconv, "out/a.png", "--input", "far")
    shutil.copy("far/photo.png", "photo.png")
    imgconv("apply", "-k", "sobel", "photo.png", "-o", "out/")
    same(imgconv, "out/photo.png")  # which has its input's name and is not its input


def test_another_input_is_refused_by_its_digest(imgconv, photo):
    imgconv("apply", "-k", "sobel", "photo.png", "-o", "a.png")
    expected = hashlib.sha256((photo / "photo.png").read_bytes()).hexdigest()
    Image.fromarray(data.camera()[:40, :40]).save("photo.png")
    got = hashlib.sha256((photo / "photo.png").read_bytes()).hexdigest()
    code, out, err = imgconv("repeat", "a.png", "-o", "again.png")
    assert (code, out, err) == (
        1, "", f"imgconv: photo.png: SHA-256 {got}, expected {expected}: not what a.png was made "
        "from\n",
    )  # fmt: skip
    assert not os.path.exists("again.png")


def test_other_pixels_are_told_and_exit_1(imgconv, photo):
    imgconv("apply", "-k", "sobel", "photo.png", "-o", "a.png")
    note = read_note("a.png")
    pixels = np.array(Image.open("a.png"))
    pixels[3, 4, 0] ^= 5
    Image.fromarray(pixels).save("b.png")
    with_record("b.png", note)
    code, out, _ = imgconv("repeat", "b.png")
    assert code == 1
    assert "other pixels (1 of 15189 samples, by " in out
    with_record("c.png", note, "a.png")  # encoded by Pillow
    assert imgconv("repeat", "c.png")[:2] == (
        0, "c.png: the same pixels, in other bytes, from photo.png\n"
    )  # fmt: skip
    code, out, _ = imgconv("repeat", "b.png", "--json")
    assert (code, json.loads(out)["differing"]) == (1, 1)


def test_show_prints_a_command_line_that_does_the_same(imgconv, photo):
    (photo / "k.txt").write_text("1 0.1; -1 1/3")
    imgconv("apply", "-k", "k.txt", "--bias", "-4", "photo.png", "-o", "a.png")
    code, out, err = imgconv("repeat", "a.png", "--show")
    assert (code, err) == (0, "")
    words = shlex.split(out)
    assert words[:2] == ["imgconv", "apply"]
    assert imgconv(*words[1:], "-o", "b.png")[0] == 0
    np.testing.assert_array_equal(np.array(Image.open("a.png")), np.array(Image.open("b.png")))
    imgconv("run", "gray | conv k.txt | abs", "photo.png", "-o", "c.png")
    words = shlex.split(imgconv("repeat", "c.png", "--show")[1])
    assert imgconv(*words[1:], "-o", "d.png")[0] == 0
    np.testing.assert_array_equal(np.array(Image.open("c.png")), np.array(Image.open("d.png")))


def test_another_version_is_told_in_a_line(imgconv, photo):
    imgconv("apply", "-k", "sobel", "photo.png", "-o", "a.png")
    with_record("a.png", record_of("a.png") | {"imgconv": "0.0.9"})
    code, _, err = imgconv("repeat", "a.png")
    assert code == 0
    assert err == "imgconv: a.png: made by imgconv 0.0.9, this is 0.2.0\n"


def test_an_output_is_not_replaced_unasked_and_keeps_its_format(imgconv, photo):
    imgconv("apply", "-k", "sobel", "photo.png", "-o", "a.png")
    (photo / "there.png").write_bytes(b"mine")
    code, _, err = imgconv("repeat", "a.png", "-o", "there.png")
    assert code == 1
    assert "there.png: exists" in err
    assert (photo / "there.png").read_bytes() == b"mine"
    assert imgconv("repeat", "a.png", "-o", "there.png", "--overwrite")[0] == 0
    for target, message in (
        ("photo.png", "is the input"), ("a.png", "is the result itself"),
        ("b.jpg", "the result is png"), ("folder/", "expected the name of a file"),
        ("{stem}.png", "expected the name of a file"),
    ):  # fmt: skip
        code, _, err = imgconv("repeat", "a.png", "-o", target, "--overwrite")
        assert (code, message in err) == (2, True), err


def test_kernels_too_long_for_a_record_are_said_to_be(imgconv, photo):
    np.save("large.npy", np.random.default_rng(0).normal(size=(70, 70)))
    np.save("larger.npy", np.random.default_rng(0).normal(size=(9, 170, 170)))
    for form in ("jpg", "png", "webp", "gif"):  # of some 100,000 characters
        imgconv("apply", "-k", "large.npy", "photo.png", "-o", f"a.{form}")
        same(imgconv, f"a.{form}")
    imgconv("apply", "-k", "larger.npy", "photo.png", "--combine", "max", "-o", "b.jpg")
    code, _, err = imgconv("repeat", "b.jpg")
    assert (code, err) == (
        1, "imgconv: b.jpg: cannot be repeated: the record would take more than 524288 characters\n"
    )  # fmt: skip


TAMPERED = [
    ({"command": "kernels"}, "command 'kernels'"),
    ({"command": "net convert"}, "command 'net convert'"),
    ({"record": 2}, "version 2, expected 1"),
    ({"record": True}, "version True"),
    ({"extra": 1}, "'extra', expected"),
    ({"options": {"output": "/tmp/escaped.png"}}, "option 'output'"),
    ({"options": {"kernel": ["sobel"], "files-from": "/etc/passwd"}}, "option 'files-from'"),
    ({"options": {"kernel": ["sobel"], "in-place": True}}, "option 'in-place'"),
    ({"options": {"kernel": ["sobel"], "report": "x.html"}}, "option 'report'"),
    ({"options": {"kernel": ["sobel"], "cluster": "tcp://1.2.3.4:5"}}, "option 'cluster'"),
    ({"options": {"kernel": ["sobel"], "max-pixels": "9"}}, "option 'max-pixels'"),
    ({"options": {"kernel": ["secret.npy"]}}, "expected a preset's name or a JSON object"),
    ({"options": {"kernel": ["/etc/passwd"]}}, "expected a preset's name or a JSON object"),
    ({"options": {"kernel": ["1 2; 3 4"]}}, "expected a preset's name or a JSON object"),
    ({"options": {"kernel": ["-"]}}, "expected a preset's name or a JSON object"),
    ({"options": {"kernel": ['{"weights": [[1, 2], [3]]}']}}, "equally long rows"),
    ({"options": {"kernel": ['{"weights": [[NaN]]}']}}, "finite"),
    ({"options": {"kernel": ['{"weights": [[1]], "generator": "x"}']}}, "JSON object of weights"),
    ({"options": {"kernel": ["sobel"], "scale": "x"}}, "scale"),
    ({"options": {"kernel": ["sobel"], "format": "jpeg", "frame": "all"}}, "option frame: all"),
    ({"options": {"kernel": ["sobel"], "gray": "yes"}}, "option gray"),
    ({"options": {"kernel": ["sobel"], "stride": 3}}, "option stride"),
    ({"options": {"kernel": ["sobel"], "stride": "-1"}}, "stride"),
    ({"options": {"kernel": "sobel"}}, "option kernel"),
    ({"options": {"kernel": ["sobel"] * 300}}, "option kernel"),
    ({"options": {"kernel": ["sobel"], "format": "exe"}}, "format 'exe'"),
    ({"options": []}, "no options"),
    ({"options": {}}, "format None, expected one of png"),
    ({"map": "nothing"}, "no map 'nothing'"),
    ({"map": "a\x1b[2Jb"}, "expected printable text"),
    ({"command": "run"}, "chain is missing"),
    ({"command": "run", "chain": "--help", "options": {"format": "png"}}, "'--help'"),
    ({"options": {"kernel": ["sobel"], "scale": "--help"}}, "--help"),
    ({"command": "run", "chain": "steps.toml", "options": {"format": "png"}}, "'steps.toml'"),
    ({"command": "run", "chain": "conv secret.npy", "options": {"format": "png"}}, "preset's name"),
    ({"input": {"name": "../photo.png", "sha256": "0" * 64}}, "expected one without folders"),
    ({"input": {"name": "/etc/passwd", "sha256": "0" * 64}}, "expected one without folders"),
    ({"input": {"name": "s3://a/b", "sha256": "0" * 64}}, "expected one without folders"),
    ({"input": {"name": "a\0b", "sha256": "0" * 64}}, "expected one without folders"),
    ({"input": {"name": "..", "sha256": "0" * 64}}, "expected one without folders"),
    ({"input": {"name": "photo.png", "sha256": "zz"}}, "expected 64 hexadecimal digits"),
    ({"input": {"name": "photo.png"}}, "no sha256"),
    ({"input": {"name": "sample:../../x"}}, "expected one without folders"),
    ({"input": ["photo.png"]}, "expected name and sha256"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), TAMPERED)
def test_a_tampered_record_is_refused_in_a_line(imgconv, photo, changes, message):
    np.save("secret.npy", np.eye(3))
    (photo / "steps.toml").write_text('steps = ["relu"]')
    imgconv("apply", "-k", "sobel", "photo.png", "-o", "a.png")
    if "kernel" in changes.get("options", ()):
        changes = {"options": {"format": "png", **changes["options"]}}
    with_record("a.png", record_of("a.png") | changes)
    before = sorted(os.listdir())
    code, out, err = imgconv("repeat", "a.png", "-o", "again.png")
    assert (code, out) == (1, "")
    assert err.startswith("imgconv: a.png: its record: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", "[" * 100000, '{"record": 1}', "9" * 5000]
)
def test_other_text_is_no_record(imgconv, photo, text):
    with_record("a.png", text, "photo.png")
    code, out, err = imgconv("repeat", "a.png")
    assert (code, out) == (1, "")
    assert "no record of how it was made" in err


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["sobel", "../photo.png", "-", "--output", "all", "gaussian:1e9", "a.toml"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["kernel", "name", "sha256", "stride", "pool", "output"]), inner, max_size=3
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    st.dictionaries(
        st.sampled_from(["command", "options", "chain", "map", "input", "network", "record"]),
        VALUES, max_size=3,
    ),
    st.dictionaries(
        st.sampled_from(["kernel", "stride", "padding", "scale", "pool", "frame", "columns",
                         "activation", "channels", "groups", "depth", "compress", "quality"]),
        VALUES, max_size=2,
    ),
)  # fmt: skip
def test_any_record_is_repeated_or_refused_and_writes_nothing(imgconv, photo, changes, options):
    if not os.path.exists("a.png"):
        imgconv("apply", "-k", "sobel", "photo.png", "-o", "a.png")
    good = record_of("a.png")
    changed = good | {"options": good["options"] | options} | changes
    with_record("b.png", changed, "a.png")
    code, _, err = imgconv("repeat", "b.png")
    assert code in (0, 1, 2)
    assert "Traceback" not in err
    assert sorted(os.listdir()) == ["a.png", "b.png", "photo.png"]


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "--stride": st.sampled_from(["1", "2", "1,3"]),
        "--padding": st.sampled_from(["same", "valid", "full", "0", "2", "1,0", "0,1,2,3"]),
        "--padding-mode": st.sampled_from(["zeros", "reflect", "edge", "circular", "constant"]),
        "--pad-value": st.floats(-300, 300).map(repr),
        "--dilation": st.sampled_from(["1", "2"]),
        "--bias": st.floats(-99, 99).map(repr),
        "--divisor": st.floats(0.01, 99).map(repr),
        "--normalize": st.sampled_from(["abs", "none"]),
        "--rotate": st.sampled_from(["90", "180"]),
        "--flip": st.just(None),
        "--gray": st.just(None),
        "--linear": st.just(None),
        "--channels": st.sampled_from(["r", "0,2", "b,g,r"]),
        "--scale": st.sampled_from(["clip", "abs", "signed", "minmax", "percentile=3"]),
        "--activation": st.sampled_from(["relu", "leaky-relu:0.25", "tanh"]),
        "--pool": st.sampled_from(["max:2", "avg:3,stride=1", "global-avg"]),
        "--compress": st.sampled_from(["0", "small", "9"]),
    },
)  # fmt: skip
KERNELS = st.sampled_from(["sobel", "box:3", "unsharp:sigma=1,amount=2", "kirsch-nw"]) | st.lists(
    st.lists(st.floats(-9, 9, allow_subnormal=False), min_size=2, max_size=2),
    min_size=1, max_size=3,
).map(lambda rows: "; ".join(" ".join(map(repr, row)) for row in rows))  # fmt: skip


@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(KERNELS, OPTIONS)
def test_any_options_that_work_are_repeated_to_the_byte(imgconv, photo, kernel, options):
    words = [word for pair in options.items() for word in pair if word is not None]
    code, _, _ = imgconv("apply", f"--kernel={kernel}", *words, "photo.png", "-o", "a.png",
                         "--overwrite", "-q")  # fmt: skip
    if code == 0:
        same(imgconv, "a.png")
    else:
        assert code == 2 or not os.path.exists("a.png") or code == 1


def test_long_and_piped_inputs_have_the_digest_of_their_bytes(imgconv, photo):
    pixels = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    Image.fromarray(pixels).save("large.png")
    assert os.path.getsize("large.png") > 1 << 20
    os.mkfifo("pipe.png")
    child = subprocess.Popen(["cp", "large.png", "pipe.png"])
    imgconv("apply", "-k", "sobel", "pipe.png", "-o", "a.png")
    child.wait()
    imgconv("apply", "-k", "sobel", "large.png", "-o", "b.png")
    digest = hashlib.sha256((photo / "large.png").read_bytes()).hexdigest()
    assert record_of("a.png")["input"] == {"name": "pipe.png", "sha256": digest}
    assert record_of("b.png")["input"] == {"name": "large.png", "sha256": digest}
    same(imgconv, "b.png")


def test_a_record_in_a_jpeg_leaves_its_pixels_and_orientation(imgconv, photo):
    image = Image.fromarray(data.astronaut()[:40, :60])
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save("turned.jpg", exif=exif)
    imgconv("apply", "-k", "identity", "turned.jpg", "-o", "a.jpg")
    imgconv("apply", "-k", "identity", "turned.jpg", "-o", "b.jpg", "--no-metadata")
    [a], [b] = (list(read_images(name)) for name in ("a.jpg", "b.jpg"))
    assert a.pixels.shape == (60, 40, 3)
    np.testing.assert_array_equal(a.pixels, b.pixels)
    assert Image.open(io.BytesIO((photo / "a.jpg").read_bytes())).getexif().get(0x0112, 1) == 1


CHAIN = "conv k.txt | conv2d 4 3 padding=1 | relu | maxpool 2"


@pytest.mark.parametrize(
    "options",
    [
        (), ("--sheet", "--columns", "2"), ("--format", "npz"), ("--format", "safetensors"),
        ("--format", "tiff", "--depth", "8", "--scale", "abs"), ("--colormap", "viridis"),
        ("--mean", "0.1,0.5,0.2", "--order", "bgr", "--resize", "30x40", "--crop", "20"),
        ("--invert", "--white", "1", "--share-scale", "--frame", "0"),
    ],
)  # fmt: skip
def test_feature_maps_are_repeated_to_the_byte(imgconv, photo, options):
    (photo / "k.txt").write_text("1 2; -3 0.1")
    assert imgconv("net", "features", CHAIN, "photo.png", "--seed", "3", "--layer", "2-*",
                   "--layer", "4-maxpool", *options, "-q")[0] == 0  # fmt: skip
    os.unlink("k.txt")
    made = sorted(str(path) for path in (photo / "maps").rglob("*.*"))
    assert made
    before = sorted(os.walk("maps"))
    for name in made[:: max(1, len(made) // 3)]:
        same(imgconv, name, "--input", "photo.png")
    assert sorted(os.walk("maps")) == before
    suffix = os.path.splitext(made[0])[1]
    assert imgconv("repeat", made[0], "-o", f"x{suffix}", "--input", "photo.png")[0] == 0
    with open(made[0], "rb") as first, open(f"x{suffix}", "rb") as second:
        assert first.read() == second.read()


def test_networks_and_weights_are_known_by_their_digests(imgconv, photo):
    imgconv("net", "features", "lenet5", "sample:digit", "--layer", "c1", "-q")
    same(imgconv, "maps/digit/c1/0.png")
    assert "--weights" not in imgconv("repeat", "maps/digit/c1/0.png", "--show")[1]
    imgconv("net", "convert", "lenet5", "-o", "mine.safetensors", "-q")
    (photo / "net.toml").write_text('input = [1, 32, 32]\nsteps = ["conv2d 6 5", "tanh"]\n')
    imgconv("net", "features", "lenet5", "photo.png", "--weights", "mine.safetensors", "--layer",
            "c1", "-o", "a", "-q")  # fmt: skip
    imgconv("net", "features", "net.toml", "photo.png", "--seed", "1", "--layer", "2-tanh", "-o",
            "b", "-q")  # fmt: skip
    code, _, err = imgconv("repeat", "a/photo/c1/0.png", "--input", ".")
    assert (code, err) == (1, "imgconv: made with mine.safetensors, expected --weights FILE\n")
    same(imgconv, "a/photo/c1/0.png", "--input", ".", "--weights", "mine.safetensors")
    code, _, err = imgconv("repeat", "b/photo/2-tanh/0.png", "--input", ".")
    assert (code, err) == (1, "imgconv: made with net.toml, expected --network FILE\n")
    same(imgconv, "b/photo/2-tanh/0.png", "--input", ".", "--network", "net.toml")
    (photo / "net.toml").write_text('input = [1, 32, 32]\nsteps = ["conv2d 6 5", "relu"]\n')
    (photo / "mine.safetensors").write_bytes(b"other")
    for name, option, file in (
        ("a/photo/c1/0.png", "--weights", "mine.safetensors"),
        ("b/photo/2-tanh/0.png", "--network", "net.toml"),
    ):
        code, _, err = imgconv("repeat", name, "--input", ".", option, file)
        assert code == 1
        assert f"{file}: SHA-256 " in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {"name": "mine.toml"}}, "mine"),
        ({"network": {"name": "../mine.onnx", "sha256": "0" * 64}}, "without folders"),
        ({"network": {"name": "--help"}}, "network '__help'"),
        ({"network": {"name": "conv secret.npy | relu"}}, "preset's name"),
        ({"layer": "nothing"}, "no layer 'nothing'"),
        ({"map": "77"}, "no map '77'"),
        ({"weights": {"name": "/etc/passwd", "sha256": "0" * 64}}, "without folders"),
        ({"options": {"layer": ["c1"], "format": "png", "weights": "x"}}, "option 'weights'"),
        ({"options": {"layer": ["c1"], "format": "png", "output": "x"}}, "option 'output'"),
        ({"options": {"layer": ["c1"], "format": "png", "seed": "--help"}}, "--help"),
    ],
)
def test_a_tampered_record_of_feature_maps_is_refused(imgconv, photo, changes, message):
    (photo / "mine.toml").write_text('steps = ["relu"]')
    np.save("secret.npy", np.eye(3))
    imgconv("net", "features", "lenet5", "sample:digit", "--layer", "c1", "-q")
    with_record("maps/digit/c1/0.png", record_of("maps/digit/c1/0.png") | changes)
    code, out, err = imgconv("repeat", "maps/digit/c1/0.png", "-o", "again.png")
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert message in err
    assert not os.path.exists("again.png")


def test_feature_maps_without_metadata(imgconv, photo):
    imgconv("net", "features", "lenet5", "sample:digit", "--layer", "c1", "-q", "--no-metadata")
    code, _, err = imgconv("repeat", "maps/digit/c1/0.png")
    assert code == 1
    assert "no record of how it was made" in err


def test_digests_are_the_same_from_either_implementation(tmp_path, monkeypatch):
    monkeypatch.setattr(digest, "_taken", 0)
    for number, size in enumerate((0, 700_000, 700_000, 3_000_000)):
        content = np.random.default_rng(number).bytes(size)
        (tmp_path / "file").write_bytes(content)
        assert digest.sha256_of(str(tmp_path / "file")) == hashlib.sha256(content).hexdigest()
