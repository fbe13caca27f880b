"""`imgconv explain`: every number is right, and every setting is seen."""

import itertools
import json

import numpy as np
import pytest
from PIL import Image
from scipy import signal

from imgconv.cli import main
from imgconv.cli.exit_codes import run
from imgconv.ops.pool_text import parse_pool
from imgconv.shapes import Sides
from imgconv.viz.explain.frames import CELL, MARGIN, TITLE, WINDOW, frames
from imgconv.viz.explain.steps import explain_conv, explain_pool
from imgconv.viz.explain.text import as_text, formula

LECTURE = "3 3 2 1 0; 0 0 1 3 1; 3 1 2 2 3; 2 0 0 2 2; 2 0 0 0 1"


@pytest.fixture
def say(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def imgconv(*arguments):
        code = run(main, ["explain", *map(str, arguments)])
        found = capfd.readouterr()
        return code, found.out, found.err

    return imgconv


def test_the_lectures_example_is_the_default(say):
    code, text, _ = say("--json")
    found = json.loads(text)
    assert code == 0
    assert found["output"] == [[12, 12, 17], [10, 17, 19], [9, 6, 14]]
    assert found["input"] == [list(map(float, row.split())) for row in LECTURE.split(";")]
    for step in found["steps"]:
        assert sum(value * weight for _, _, value, weight in step["cells"]) == step["result"]
        for row, column, value, _ in step["cells"]:
            assert found["padded"][row][column] == value


@pytest.mark.parametrize(
    ("stride", "dilation", "flip"),
    [*itertools.product([(1, 1), (2, 3)], [(1, 1), (2, 1)], [0, 1])],
)
def test_a_convolution_is_scipys(stride, dilation, flip):
    generator = np.random.default_rng(5)
    source, weights = generator.normal(size=(9, 11)), generator.normal(size=(3, 2))
    sides = Sides(1, 2, 0, 3)
    spread = np.zeros((2 * dilation[0] + 1, dilation[1] + 1))
    spread[:: dilation[0], :: dilation[1]] = weights
    padded = np.pad(source, ((1, 2), (0, 3)), "reflect")
    full = (signal.convolve2d if flip else signal.correlate2d)(padded, spread, "valid")
    found = explain_conv(
        source, weights, stride, sides, dilation, "reflect", flip=bool(flip), divisor=4, bias=1
    )
    np.testing.assert_allclose(found.output, full[:: stride[0], :: stride[1]] / 4 + 1, rtol=1e-12)


@pytest.mark.parametrize(
    "text",
    ["max:2", "min:3,stride=2,padding=1", "avg:3,stride=2,padding=1", "lp:2,p=3", "global-avg",
     "avg:3,stride=2,padding=1,count_include_pad=false", "max:2,stride=2,ceil_mode=true",
     "adaptive-avg:3", "adaptive-max:4x2", "max:2,dilation=2,stride=1", "avg:2,divisor_override=3",
     "avg:3x2,stride=2,padding=1,ceil_mode=true", "lp:3,2,stride=2,ceil_mode=true",
     "max:8,stride=4,ceil_mode=true"],
)  # fmt: skip
def test_a_pooling_is_what_apply_computes(text):
    source = np.abs(np.random.default_rng(6).normal(size=(7, 9)))
    pool = parse_pool(text)
    found = explain_pool(source, pool)
    np.testing.assert_allclose(found.output, pool(source[None])[0], rtol=1e-12)
    assert all(step.cells for step in found.steps)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max:2,padding=1,dilation=2", "max() = −inf"),
        ("min:2,padding=1,dilation=2", "min() = inf"),
        ("avg:2,padding=1,dilation=2,count_include_pad=0", "mean() = 0 / 0 = nan"),
        ("lp:3,stride=3,ceil_mode=1", "((5^2) · 9/1)^(1/2) = 15"),
    ],
)
def test_windows_of_which_little_is_left_are_explained(text, said):
    source, pool = np.array([[5.0]]), parse_pool(text)
    found = explain_pool(source, pool)
    np.testing.assert_array_equal(found.output, pool(source[None])[0])
    assert formula(found, found.steps[0]) == said


def test_padding_stride_dilation_and_flip_are_named_and_seen():
    source, weights = np.arange(25.0).reshape(5, 5), np.arange(9.0).reshape(3, 3)
    found = explain_conv(source, weights, (2, 2), Sides(1, 1, 1, 1), (2, 2), "zeros", flip=True)
    text = as_text(found, found.steps[0], color=False)
    assert "stride 2, dilation 2, kernel turned by 180°, padding 1 (zeros)" in text
    rows = text.splitlines()[3:]
    assert rows[0].startswith("[ 0]( 0)[ 0]( 0)[ 0]( 0)( 0)")
    assert rows[2].startswith("[ 0]  5 [ 6]  7 [ 8]  9 ( 0)")
    for row, weights in zip(rows, ("8 7 6", "5 4 3", "2 1 0"), strict=False):
        assert f"   {weights}" in row
    colored = as_text(found, found.steps[0], color=True)
    assert "\x1b[7;90m  0 \x1b[0m" in colored
    assert "\x1b[7m  6 \x1b[0m" in colored


def test_an_animation_has_a_frame_a_step_with_its_window_lit(say, tmp_path):
    for name in ("w.gif", "w.webp"):
        assert say("--dilation", 2, "-o", name, "--delay", 300)[0] == 0
        with Image.open(tmp_path / name) as moving:
            assert moving.n_frames == 1
    assert say("-o", "w.gif", "--delay", 300, "--overwrite")[0] == 0
    with Image.open(tmp_path / "w.gif") as moving:
        assert (moving.n_frames, moving.info["duration"], moving.info["loop"]) == (9, 300, 0)
        for step in range(9):
            moving.seek(step)
            shown = np.asarray(moving.convert("RGB"))
            corners = shown[MARGIN + TITLE + 3 :: CELL, MARGIN + 3 :: CELL][:5, :5].astype(int)
            lit = np.abs(corners - WINDOW).max(axis=2) < 12
            expected = np.zeros((5, 5), bool)
            expected[step // 3 : step // 3 + 3, step % 3 : step % 3 + 3] = True
            np.testing.assert_array_equal(lit, expected)


def test_long_numbers_and_formulas_fit_into_the_frame():
    found = explain_conv(np.full((6, 6), -1234.5678), np.full((5, 5), -0.0001234))
    (first, *_) = frames(found)
    shown = np.asarray(first)
    margin = np.concatenate([shown[:, -MARGIN + 4 :].ravel(), shown[-10:].ravel()])
    assert (margin == 255).all()


def test_a_negative_number_may_come_first(say):
    assert json.loads(say("-1 2; 3 4", "-k", "-1 1", "--json")[1])["output"] == [[3], [1]]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["-k", "sobel"], 2, "2×1 filters, expected a single one such as sobel-"),
        (["--step", "3,0"], 2, "the output is 3×3"),
        (["--pool", "max:2", "--padding", "3"], 2, "expected at most 1"),
        (["--pool", "max:2", "-k", "sobel-x"], 2, "expected one of them"),
        (["--pool", "huge:2"], 2, "expected one of max"),
        (["-o", "x.png"], 2, ".png with --step"),
        (["gaussian:sigma=12", "-o", "x.gif"], 1, "take a smaller input"),
        (["--jsno"], 2, "No such option"),
        (["-k", "box:size=7"], 2, "spans 7"),
    ],
)
def test_what_cannot_be_explained_is_one_line(say, tmp_path, arguments, code, says):
    found = say(*arguments)
    assert found[:2] == (code, "")
    assert found[2].count("\n") == 1
    assert says in found[2]
    assert not list(tmp_path.iterdir())
