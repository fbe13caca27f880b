"""`imgconv apply` as a person drives it: outputs are opened again and compared."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import data

SOBEL_X = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def imgconv(*arguments, cwd, stdin=None, **options):
    return subprocess.run(
        [sys.executable, "-m", "imgconv", *map(os.fspath, arguments)],
        cwd=cwd, input=stdin, capture_output=True, timeout=120, **options,
    )  # fmt: skip


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(data.astronaut()[:96, :128]).save(tmp_path / "photo.png")
    return tmp_path


def pixels(path):
    return np.asarray(Image.open(path))


def test_sobel_of_a_photo_is_scipys_magnitude(photo):
    assert imgconv("apply", "-k", "sobel", "photo.png", cwd=photo).returncode == 0
    image = pixels(photo / "photo.png").astype(np.float64)
    gx = ndimage.correlate(image, SOBEL_X[..., None], mode="mirror")
    gy = ndimage.correlate(image, SOBEL_X.T[..., None], mode="mirror")
    expected = np.clip(np.rint(np.hypot(gx, gy)), 0, 255)
    assert np.abs(pixels(photo / "photo-sobel.png") - expected).max() <= 1
    assert (pixels(photo / "photo-sobel.png") == expected).mean() > 0.999


def test_the_lecture_example_comes_out_as_text(tmp_path):
    (tmp_path / "grid.txt").write_text("3 3 2 1 0\n0 0 1 3 1\n3 1 2 2 3\n2 0 0 2 2\n2 0 0 0 1\n")
    arguments = ["apply", "-k", "0 1 2; 2 2 0; 0 1 2", "grid.txt", "-o", "-", "--format", "txt"]
    valid = imgconv(*arguments, "--padding", "valid", cwd=tmp_path)
    assert valid.stdout.split() == b"12 12 17 10 17 19 9 6 14".split()
    same = imgconv(*arguments, "--padding-mode", "zeros", cwd=tmp_path)
    rows = [line.split() for line in same.stdout.splitlines()]
    assert [len(row) for row in rows] == [5] * 5
    assert [row[1:4] for row in rows[1:4]] == [line.split() for line in valid.stdout.splitlines()]


def test_pipes_carry_png_both_ways(photo):
    data_in = (photo / "photo.png").read_bytes()
    result = imgconv("apply", "-k", "box-3", "-", "-o", "png:-", cwd=photo, stdin=data_in)
    assert result.returncode == 0
    (photo / "out.png").write_bytes(result.stdout)
    image = pixels(photo / "photo.png").astype(np.float64)
    expected = np.rint(ndimage.uniform_filter(image, (3, 3, 1), mode="mirror"))
    assert np.abs(pixels(photo / "out.png") - expected).max() <= 1


def test_one_bad_file_leaves_the_others_done_and_exit_code_1(photo):
    (photo / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    (photo / "good.png").write_bytes((photo / "photo.png").read_bytes())
    result = imgconv(
        "apply",
        "-k",
        "sobel",
        "photo.png",
        "bad.png",
        "good.png",
        "-o",
        "out/",
        "--json",
        cwd=photo,
    )
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 1
    assert sorted(path.name for path in (photo / "out").iterdir()) == ["good.png", "photo.png"]
    assert [row["input"] for row in rows if "error" in row] == ["bad.png"]
    assert result.stderr.count(b"\n") == 1
    assert b"bad.png" in result.stderr


def test_collisions_are_found_before_any_work(photo):
    (photo / "sub").mkdir()
    (photo / "sub" / "photo.png").write_bytes((photo / "photo.png").read_bytes())
    result = imgconv("apply", "-k", "sobel", "photo.png", "sub/photo.png", "-o", "out/", cwd=photo)
    assert result.returncode == 2
    assert not (photo / "out").exists()
    link = photo / "link.png"
    os.link(photo / "photo.png", link)
    before = (photo / "photo.png").read_bytes()
    result = imgconv(
        "apply", "-k", "sobel", "photo.png", "-o", "link.png", "--overwrite", cwd=photo
    )
    assert result.returncode == 2
    assert (photo / "photo.png").read_bytes() == before


def test_an_existing_output_stays_unless_told(photo):
    (photo / "out.png").write_bytes(b"precious")
    arguments = ["apply", "-k", "sobel", "photo.png", "-o", "out.png"]
    assert imgconv(*arguments, cwd=photo).returncode == 1
    assert (photo / "out.png").read_bytes() == b"precious"
    assert imgconv(*arguments, "--overwrite", cwd=photo).returncode == 0
    assert pixels(photo / "out.png").shape == (96, 128, 3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-k", "sobl", "photo.png"], b"did you mean sobel"),
        (["-k", "1 2; 3", "photo.png"], b"row 2 has 1 numbers, expected 2"),
        (["-k", "1 nan x", "photo.png"], b"expected a number"),
        (["-k", "sobel", "photo.png", "--stride", "0"], b"--stride"),
        (["-k", "sobel", "photo.png", "--dilation", "0"], b"--dilation"),
        (["-k", "sobel", "photo.png", "--scale", "huge"], b"--scale huge"),
        (["-k", "sobel", "photo.png", "-o", "x.xyz"], b".xyz"),
        (["-k", "sobel", "photo.png", "-o", "{stm}.png"], b"expected {stem} {kernel} {map}"),
        (["-k", "sobel", "photo.png", "-o", "{map:03d}.png"], b"only for frame and index"),
        (["-k", "laplacian", "--normalize", "sum", "photo.png"], b"--normalize abs"),
        (["-k", "box-5", "--padding", "valid", "grid.txt"], b"spans 5"),
        (["-k", "sobel"], b"no input"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(photo, arguments, says):
    (photo / "grid.txt").write_text("1 2\n3 4\n")
    result = imgconv("apply", *arguments, cwd=photo)
    assert (result.returncode, result.stderr.count(b"\n")) == (2, 1), result.stderr
    assert says in result.stderr
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize(
    "name", ["%d.png", "a[0].png", "{stem}.png", "new\nline.png", "x" * 251 + ".png"]
)
def test_names_are_taken_literally(photo, name):
    (photo / name).write_bytes((photo / "photo.png").read_bytes())
    result = imgconv(
        "apply", "-k", "sobel", name, "-o", "out/", cwd=photo, env={**os.environ, "LC_ALL": "C"}
    )
    assert result.returncode == 0, result.stderr
    assert os.listdir(photo / "out") == [name]


def test_a_full_device_and_a_gone_reader_have_their_codes(photo):
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "imgconv", "apply", "-k", "sobel", "photo.png", "-o", "png:-"],
            cwd=photo, stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert result.returncode == 1
    assert b"No space left" in result.stderr
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-m", "imgconv", "apply", "-k", "sobel", "photo.png", "-o", "png:-"],
        cwd=photo, stdout=write, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")


def test_sixteen_bits_stay_sixteen(photo):
    values = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    Image.fromarray(values).save(photo / "deep.png")
    assert (
        imgconv("apply", "-k", "identity", "deep.png", "-o", "same.png", cwd=photo).returncode == 0
    )
    np.testing.assert_array_equal(pixels(photo / "same.png"), values)


def test_the_sharpen_mask_of_24_saturates_and_never_wraps(photo):
    mask = "-1 -1 -1; -1 32 -1; -1 -1 -1"
    arguments = ["apply", "-k", mask, "--divisor", "24", "photo.png", "-o", "sharp.png"]
    assert imgconv(*arguments, cwd=photo).returncode == 0
    image = pixels(photo / "photo.png").astype(np.int64)
    weights = np.array([[-1, -1, -1], [-1, 32, -1], [-1, -1, -1]])[..., None]
    expected = np.clip(np.rint(ndimage.correlate(image, weights, mode="mirror") / 24), 0, 255)
    np.testing.assert_array_equal(pixels(photo / "sharp.png"), expected)


def test_every_sample_can_be_filtered_and_a_wrong_one_is_named(tmp_path):
    for name in ("chart", "chart:64", "star", "zoneplate", "ramp", "noise", "edges", "chart:16"):
        source, out = f"sample:{name}", ["-o", "out.png", "--overwrite"]
        result = imgconv("apply", "-k", "sobel", source, *out, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        side = int(name.partition(":")[2] or 512)
        assert pixels(tmp_path / "out.png").shape[:2] == (side, side)
    result = imgconv("apply", "-k", "sobel", "sample:cat", cwd=tmp_path)
    assert (result.returncode, result.stderr.count(b"\n")) == (2, 1)
    assert b"expected one of photo, chart, " in result.stderr


def test_opacity_follows_maps_that_are_smaller_than_the_image(tmp_path):
    image = np.dstack([data.astronaut()[:40, :48], np.arange(40 * 48).reshape(40, 48) % 251])
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / "rgba.png")
    opacity = image[..., 3]
    cases = {
        "valid": (["--padding", "valid"], opacity[1:-1, 1:-1]),
        "stride": (["--stride", "2"], opacity[::2, ::2]),
        "pool": (["--pool", "max:3"], opacity[1:-1:3, 1::3]),
        # The anchor says which pixel an output stands for, wherever in the window it is.
        "anchor": (["--anchor", "0,2", "--stride", "2"], opacity[::2, ::2]),
    }
    for name, (options, expected) in cases.items():
        out = f"{name}.png"
        result = imgconv("apply", "-k", "box-3", "rgba.png", *options, "-o", out, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        np.testing.assert_array_equal(pixels(tmp_path / out)[..., 3], expected)
    result = imgconv(
        "apply", "-k", "identity", "--pool", "global-avg", "rgba.png", "-o", "one.png", cwd=tmp_path
    )
    assert pixels(tmp_path / "one.png").shape == (1, 1, 4)


def test_nine_numbers_in_a_row_are_said_to_be_one_row(photo):
    arguments = ["apply", "photo.png", "--overwrite", "-o", "a.npy", "-k"]
    result = imgconv(*arguments, "1 1 1 1 1 1 1 1 1", cwd=photo)
    said = "imgconv: 9 numbers in one row are a 1×9 kernel; for 3×3, end each row with ;\n"
    assert (result.returncode, result.stderr.decode()) == (0, said)
    for quiet in (["1 1 1 1 1 1 1 1 1", "-q"], ["1;1;1;1;1;1;1;1;1"], ["1 2 1"]):
        result = imgconv(*arguments, *quiet, cwd=photo)
        assert (result.returncode, result.stderr) == (0, b""), quiet


def test_groups_filter_each_color_by_its_own_kernel(photo):
    np.save(photo / "bank.npy", np.array([[[[1.0]]], [[[0.5]]], [[[0.25]]]]))
    arguments = ["apply", "-k", "bank.npy", "--groups", "3", "photo.png", "-o", "{map}.npy"]
    assert imgconv(*arguments, cwd=photo).returncode == 0
    image = pixels(photo / "photo.png").astype(np.float32)
    for number, weight in enumerate((1, 0.5, 0.25)):
        got = np.load(photo / f"{number}.npy")
        np.testing.assert_array_equal(got, image[..., number : number + 1] * weight)
    result = imgconv("apply", "-k", "bank.npy", "--groups", "2", "photo.png", cwd=photo)
    assert (result.returncode, result.stderr.count(b"\n")) == (2, 1)
    assert b"groups=2 does not divide" in result.stderr


def test_linear_light_blurs_to_the_mean_of_light_in_every_frame(tmp_path):
    stripes = np.zeros((16, 16), np.uint8)
    stripes[:, ::2] = 255
    pages = [Image.fromarray(stripes), Image.fromarray(255 - stripes)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    arguments = ["-k", "1 2 1", "--divisor", "4", "--linear", "--frame", "all", "pages.tif"]
    result = imgconv("apply", *arguments, "-o", "out/{frame}.tif", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = sorted((tmp_path / "out").iterdir())
    assert len(found) == 2
    for path in found:
        # Half the light is 188 in sRGB; without --linear it would be 128.
        assert (pixels(path) == 188).all(), path


@pytest.mark.parametrize("target", ["maps.npz", "npz:-"])
def test_the_maps_of_an_image_share_an_archive(photo, target):
    arguments = ["-k", "haar", "-k", "box-3", "--stride", "2", "--padding", "valid", "photo.png"]
    result = imgconv("apply", *arguments, "-o", target, cwd=photo)
    assert result.returncode == 0, result.stderr
    content = result.stdout if target.endswith("-") else (photo / target).read_bytes()
    maps = np.load(io.BytesIO(content), allow_pickle=False)
    names = ["haar-ll", "haar-lh", "haar-hl", "haar-hh", "box-3", "imgconv"]
    assert maps.files == names
    image = pixels(photo / "photo.png").astype(np.float64)
    quarters = image.reshape(48, 2, 64, 2, 3).sum((1, 3)) / 2
    np.testing.assert_allclose(maps["haar-ll"], quarters, rtol=1e-6)
    apart = imgconv("apply", *arguments, "-o", "{map}.npz", cwd=photo)
    assert apart.returncode == 0, apart.stderr
    assert {path.stem for path in photo.glob("*.npz")} >= set(names[:5])


def test_explain_plan_says_what_filtered_and_what_else_could_have(photo):
    done = imgconv("apply", "-k", "gaussian:sigma=5", "--explain-plan", "photo.png", cwd=photo)
    first, *offers = [line for line in done.stderr.decode().splitlines() if "compiling" not in line]
    assert first.startswith("96×128×3 samples, uint8 to ")
    assert offers[0].startswith(" * ")
    assert sum(" * " in line for line in offers) == 1
    assert any(line.split()[0] == "sparse" and " ns " in line for line in offers[1:])


def test_a_rule_of_scaling_holds_for_float_files_too(photo):
    for rule, low, high in (("minmax", 0, 255), ("symmetric", 0, 255), ("abs", 0, 1021)):
        out = f"{rule}.tif"
        arguments = ["-k", "sobel-x", "--gray", "photo.png", "--depth", "32f", "--scale", rule]
        assert imgconv("apply", *arguments, "-o", out, cwd=photo).returncode == 0
        samples = pixels(photo / out)
        assert samples.dtype == np.float32
        assert low <= samples.min()
        assert samples.max() <= high
        assert rule != "minmax" or (samples.min(), samples.max()) == (0, 255)
