"""The tap that lies on an output's pixel: OpenCV's, SciPy's and ImageMagick's; how it moves."""

import itertools
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scipy import ndimage, signal

from imgconv import kernels
from imgconv.errors import KernelError, ShapeError, UsageError
from imgconv.kernels.literal import parse_literal, spelled
from imgconv.nn.analysis.receptive import region
from imgconv.nn.chain import graph_of, parse_chain, trace
from imgconv.ops.filter import filter_image
from imgconv.pipeline.metadata import grid_of
from imgconv.pipeline.recipe import ChainRecipe, Recipe
from imgconv.shapes import Window
from tests import reference
from tests.goldens import load
from tests.running import here

GOLDENS = load("magick.json")
SIZES = [*itertools.product((1, 2, 3, 4), repeat=2), (5, 2), (2, 5)]


def anchors(size):
    return list(np.ndindex(size))


def ours(x, k, **options):
    return filter_image(x[..., None], k[None, None], out_dtype=np.float64, **options)[0, ..., 0]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_anchor_is_opencvs_and_scipys(size):
    rng = np.random.default_rng(size)
    x, k = rng.normal(size=(9, 10)), rng.normal(size=size)
    for y, z in anchors(size):
        expected = cv2.filter2D(x, -1, k, anchor=(z, y), borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(ours(x, k, anchor=(y, z)), expected, atol=1e-12)
        origin = y - size[0] // 2, z - size[1] // 2
        expected = ndimage.correlate(x, k, mode="mirror", origin=origin)
        np.testing.assert_allclose(ours(x, k, anchor=(y, z)), expected, atol=1e-12)
        # Convolution as OpenCV's manual makes it of filter2D, and SciPy's.
        turned = np.ascontiguousarray(k[::-1, ::-1])
        place = size[1] - 1 - z, size[0] - 1 - y
        expected = cv2.filter2D(x, -1, turned, anchor=place, borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(ours(x, k, anchor=(y, z), flip=True), expected, atol=1e-12)
        expected = ndimage.convolve(x, k, mode="mirror", origin=origin)
        np.testing.assert_allclose(ours(x, k, anchor=(y, z), flip=True), expected, atol=1e-12)


def test_defaults_are_those_of_the_table_in_the_docs():
    """The anchor of a side k: ours (k − 1) // 2, as PyTorch's; OpenCV's and SciPy's k // 2."""
    x = np.random.default_rng(1).normal(size=(9, 10))
    for size in SIZES:
        k = np.random.default_rng(2).normal(size=size)
        near, far = (tuple(f(side) for side in size) for f in (lambda s: (s - 1) // 2,
                                                               lambda s: s // 2))  # fmt: skip
        np.testing.assert_array_equal(ours(x, k), ours(x, k, anchor=near))
        opencv = cv2.filter2D(x, -1, k)
        np.testing.assert_allclose(opencv, ours(x, k, anchor=far), atol=1e-12)
        np.testing.assert_allclose(
            ndimage.correlate(x, k, mode="mirror"), ours(x, k, anchor=far), atol=1e-12
        )
        np.testing.assert_allclose(
            ndimage.convolve(x, k, mode="mirror"), ours(x, k, flip=True), atol=1e-12
        )
        zeros = ours(x, k, flip=True, anchor=near, padding_mode="zeros")
        np.testing.assert_allclose(signal.convolve2d(x, k, mode="same"), zeros, atol=1e-12)


def test_kernel_texts_have_imagemagicks_origin():
    image = np.array(GOLDENS["image"], np.uint8)
    for case in GOLDENS["cases"]:
        kernel = kernels.transform(kernels.get_kernel(case["kernel"]), flip=case["flip"])
        options = Window(padding_mode=case["mode"]).options(kernel.size, kernel.anchor)
        found = filter_image(image[..., None], kernel.effective_weights(), **options)
        np.testing.assert_array_equal(found[0, ..., 0], case["result"], case["kernel"])
    assert len(GOLDENS["cases"]) == 100 + 16


def test_dilation_spreads_an_anchor_and_a_stride_steps_from_it():
    rng = np.random.default_rng(3)
    for size, dilation, stride in itertools.product([(2, 3), (4, 1)], [(1, 2), (3, 1)], [1, 2]):
        x, k = rng.normal(size=(11, 12)), rng.normal(size=size)
        for place in anchors(size):
            near = [a * d for a, d in zip(place, dilation, strict=True)]
            far = [(s - 1) * d - n for s, d, n in zip(size, dilation, near, strict=True)]
            sides = near[0], far[0], near[1], far[1]
            step = stride, stride
            expected = reference.conv2d(
                x[None, None], k[None, None], None, step, sides, dilation, mode="replicate"
            )
            found = ours(
                x, k, anchor=place, dilation=dilation, stride=stride, padding_mode="replicate"
            )
            np.testing.assert_allclose(found, expected[0, 0], atol=1e-12)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_an_anchor_turns_with_its_kernel(degrees):
    """A turned image under the turned kernel is the turned result."""
    rng = np.random.default_rng(degrees)
    for size in SIZES:
        x, k = rng.normal(size=(8, 9)), rng.normal(size=size)
        for place in anchors(size):
            kernel = kernels.anchored(kernels.parse_kernel_text(json.dumps(k.tolist())), place)
            turned = kernels.transform(kernel, rotate=degrees)
            expected = np.rot90(ours(x, k, anchor=place), degrees // 90)
            found = ours(np.rot90(x, degrees // 90), turned.weights[0, 0], anchor=turned.anchor)
            np.testing.assert_allclose(found, expected, atol=1e-12)
            flipped = kernels.transform(kernel, flip=True)
            np.testing.assert_array_equal(
                ours(x, flipped.weights[0, 0], anchor=flipped.anchor),
                ours(x, k, anchor=place, flip=True),
            )


def test_eighth_turns_move_an_anchor_round_the_ring():
    kernel = kernels.get_kernel("3x3+2+0: 1 2 3 4 5 6 7 8 9")
    for degrees, tap in ((0, (0, 2)), (45, (0, 1)), (90, (0, 0)), (225, (2, 1)), (315, (1, 2))):
        turned = kernels.transform(kernel, rotate=degrees)
        assert turned.anchor == tap
        assert turned.weights[0, 0][tap] == 3


def test_filters_of_turned_texts_meet_in_one_anchor():
    x = np.random.default_rng(5).normal(size=(8, 9))
    for text, angles in (("2x2+1+1>: 1 2 3 4", range(0, 360, 90)),
                         ("3x3+0+1@: 1 2 3 4 5 6 7 8 9", range(0, 360, 45)),
                         ("3x1+0+0<: 1 2 3", (0, 180)), ("4x4>: " + "1 2 3 " * 5 + "9",
                                                         range(0, 360, 90))):  # fmt: skip
        alone = kernels.get_kernel("".join(sign for sign in text if sign not in "<>@"))
        turns = kernels.get_kernel(text)
        assert turns.labels == tuple(map(str, angles))
        for weights, angle in zip(turns.weights, angles, strict=True):
            one = kernels.transform(alone, rotate=angle)
            expected = ours(x, one.weights[0, 0], anchor=one.anchor)
            np.testing.assert_allclose(
                ours(x, weights[0], anchor=turns.anchor), expected, atol=1e-12
            )


def test_a_kernel_says_its_anchor_in_json_and_toml(tmp_path):
    kernel = kernels.get_kernel("2x3+1+2: 1 2 3 4 5 6")
    assert kernel.anchor == (2, 1)
    again = parse_literal(spelled(kernel))
    assert again.anchor == (2, 1)
    np.testing.assert_array_equal(again.weights, kernel.weights)
    assert "anchor" not in spelled(kernels.get_kernel("3x3+1+1: 1 2 3 4 5 6 7 8 9"))
    (tmp_path / "k.toml").write_text(
        '[a]\nmatrix = "1 2; 3 4"\nanchor = [1, 0]\n[b]\nmatrix = "2x2+0+1: 1 2 3 4"\n'
        '[c]\nparts = ["a", "b"]\n[d]\nmatrix = "1 2; 3 4"\nanchor = [2, 0]\n'
    )
    for name in "abc":
        assert kernels.get_kernel(f"{tmp_path / 'k.toml'}:{name}").anchor == (1, 0)
    with pytest.raises(KernelError, match=r"d: anchor=2,0 of a 2×2 kernel, expected 0,0 to 1,1"):
        kernels.get_kernel(f"{tmp_path / 'k.toml'}:d")


def test_a_chains_step_takes_an_anchor():
    x = np.random.default_rng(6).normal(size=(9, 8))
    k = np.array([[1.0, 2], [3, 4]])
    for text, options in (
        ("conv '1 2; 3 4' anchor=1,0", {"anchor": (1, 0)}),
        ("conv '1 2; 3 4' anchor=1", {"anchor": (1, 1)}),
        ("conv '1 2; 3 4' anchor=1,0 flip=1 stride=2",
         {"anchor": (1, 0), "flip": True, "stride": 2}),
        ("conv '2x2+0+1: 1 2 3 4'", {"anchor": (1, 0)}),
    ):  # fmt: skip
        maps = list(trace(x[..., None], parse_chain(text)))[-1][1]
        np.testing.assert_array_equal(maps[..., 0], ours(x, k, **options))


@pytest.mark.parametrize(
    ("text", "rows"),
    [("conv '1 1; 1 1'", (4, 5)), ("conv '1 1; 1 1' anchor=1,1", (3, 4)),
     ("conv '1 1; 1 1; 1 1' anchor=2,0 dilation=2", (0, 4)),
     ("conv '1 1; 1 1' anchor=1,1 | conv '1 1; 1 1' anchor=1,1 stride=2", (6, 8))],
)  # fmt: skip
def test_receptive_fields_lie_where_the_taps_do(text, rows):
    graph = graph_of(parse_chain(text), (1, 1, 20, 20))
    assert region(graph, graph.outputs[0], (4, 4), graph.shapes())[:2] == rows


def test_a_result_stands_on_its_anchors_pixel():
    """What GeoTIFF's tie points and the like are moved by."""
    for kernel, stride, start in (("5x5+0+4: " + "1 " * 25, 2, 0.0), ("2x2+1+1: 1 1 1 1", 3, 0.0)):
        recipe = Recipe((kernels.get_kernel(kernel),), Window(stride=stride))
        shape = -(-30 // stride), -(-30 // stride), 1
        size = dict(zip(("height", "width", "channels"), shape, strict=True))
        result = SimpleNamespace(kernel=recipe.kernels[0], name="", **size)
        found = grid_of(recipe, result, (30, 30, 1))
        assert (found.start, found.step) == ((start, start), (stride, stride))
        chain = ChainRecipe((), steps=tuple(parse_chain(f"conv '{kernel}' stride={stride}")))
        assert grid_of(chain, SimpleNamespace(name="1-conv", **size), (30, 30, 1)) == found


def test_an_anchor_that_cannot_be_is_refused(tmp_path, monkeypatch):
    x = np.zeros((5, 5, 1), np.float32)
    k = np.ones((1, 1, 2, 3))
    with pytest.raises(ShapeError, match=r"anchor=2,0 of a 2×3 kernel, expected 0,0 to 1,2"):
        filter_image(x, k, anchor=(2, 0))
    with pytest.raises(ShapeError, match="expected padding=same"):
        filter_image(x, k, anchor=(1, 0), padding="valid")
    with pytest.raises(KernelError, match=r"anchor=0,3 of a 1×3 kernel, expected 0,0 to 0,2"):
        parse_chain("conv '1 2 3' anchor=0,3")
    with pytest.raises(UsageError, match="anchor= with padding="):
        parse_chain("conv '1 2 3' anchor=0,1 padding=1")
    with pytest.raises(KernelError, match=r"2x2 with origin \+2\+0, expected \+0\+0 to \+1\+1"):
        kernels.get_kernel("2x2+2+0: 1 2 3 4")
    monkeypatch.chdir(tmp_path)
    for options, says in (
        (["--anchor", "1,2,3"], "expected 1 or 2 whole numbers from 0"),
        (["--anchor", "3,0"], "sobel-x: anchor=3,0 of a 3×3 kernel, expected 0,0 to 2,2"),
        (["--anchor", "1,0", "--padding", "valid"], "--anchor with --padding"),
    ):
        ended = here("apply", "-k", "sobel-x", *options, "sample:chart:16", "-o", "out.png")
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert says in ended.stderr
        assert not (tmp_path / "out.png").exists()


def test_the_command_line_filters_and_explains_by_an_anchor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dot.txt").write_text("0 0 0\n0 1 0\n0 0 0\n")
    options = ["--padding-mode", "zeros", "dot.txt", "-o", "out.txt", "--overwrite"]
    corner = "0 0 0\n0 0 0\n0 0 1\n"
    for words in (["-k", "1 0; 0 0", "--anchor", "1,1"], ["-k", "2x2+1+1: 1 0 0 0"],
                  ["-k", "0 0; 0 1", "--anchor", "0", "--flip"],
                  ["-k", "0 1; 0 0", "--anchor", "1,0", "--rotate", "90"]):  # fmt: skip
        assert here("apply", *words, *options).returncode == 0
        assert (tmp_path / "out.txt").read_text() == corner, words
    said = here("explain", "dot.txt", "-k", "1 0; 0 0", "--anchor", "1,1", "--padding-mode",
                "zeros", "--step", "2,2").stdout  # fmt: skip
    assert said.startswith("output (2, 2): 1·1 + 0·0 + 0·0 + 0·0 = 1")
    assert "anchor 1,1" in here("kernels", "show", "2x2+1+1: 1 0 0 0").stdout
