"""Presets against independent constants; kernel text and files, right and wrong."""

import json
import pickle
import re
import zipfile

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgconv import kernels
from imgconv.errors import KernelError
from imgconv.kernels import generators
from tests.running import here


@pytest.mark.parametrize(("name", "order"), [("sobel-x", (1, 0)), ("sobel-y", (0, 1))])
def test_sobel_is_opencvs(name, order):
    column, row = cv2.getDerivKernels(*order, 3)
    np.testing.assert_array_equal(kernels.get_kernel(name).weights[0, 0], np.outer(row, column))


@pytest.mark.parametrize("name", kernels.preset_names())
def test_every_preset_is_whole(name):
    kernel = kernels.get_kernel(name)
    assert kernel.description
    assert kernel.citation
    assert np.isfinite(kernel.effective_weights()).all()
    assert len(kernel.labels) in (0 if len(kernel.weights) == 1 else -1, len(kernel.weights))
    total = kernel.effective_weights()[0].sum()
    assert min(abs(total), abs(total - 1), abs(total - 2), abs(total - 8)) < 1e-9


@pytest.mark.parametrize("name", ["dct-8x8", "frei-chen-basis", "haar"])
def test_transform_banks_are_orthonormal(name):
    flat = (
        kernels.get_kernel(name)
        .effective_weights()
        .reshape(-1, kernels.get_kernel(name).size[0] ** 2)
    )
    np.testing.assert_allclose(flat @ flat.T, np.eye(len(flat)), atol=1e-12)


def test_the_gaussian_is_opencvs():
    column = cv2.getGaussianKernel(17, 2, cv2.CV_64F)
    np.testing.assert_allclose(
        kernels.get_kernel("gaussian:sigma=2").weights[0, 0], column @ column.T, atol=1e-12
    )


def test_binomials_are_rows_of_pascals_triangle():
    for size in (3, 5, 7):
        fixed = kernels.get_kernel(f"binomial-{size}").effective_weights()
        np.testing.assert_allclose(fixed, kernels.get_kernel(f"binomial:{size}").weights)


@pytest.mark.parametrize(
    "text",
    ["0 -1 0; -1 5 -1; 0 -1 0", "0,-1,0;-1,5,-1;0,-1,0", "0 -1 0\n-1 5 -1\n0 -1 0\n",
     "[[0,-1,0],[-1,5,-1],[0,-1,0]]", "3x3: 0 -1 0 -1 5 -1 0 -1 0", "3x3: 0,-1,0 -1,5,-1 0,-1,0",
     "3 3 1 0\n0 -1 0\n-1 5 -1\n0 -1 0",
     "[0 -1 0; -1 5 -1; 0 -1 0]", "k = [0, -1, 0\n     -1, 5, -1  % the middle\n     0, -1, 0];",
     "[0 -1 ...\n 0; -1 5 -1; 0 -1 0]'", "[[ 0 -1  0]\n [-1  5 -1]\n [ 0 -1  0]]",
     "k = np.array([[0., -1., 0.],\n [-1., 5., -1.],  # the middle\n [0., -1., 0.]], dtype=float)",
     "torch.tensor([[[[0, -1, 0], [-1, 5, -1], [0, -1, 0]]]], dtype=torch.float32, device='cpu')",
     "((0, -1, 0), (-1, 5, -1), (0, -1, 0),)", "(0,-1,0;-1,5,-1;0,-1,0)",
     "{{0, -1, 0}, {-1, 5, -1}, {0, -1, 0}}", "{ {0,-1.0f,0},\n  {-1,5.f,-1},\n  {0,-1,0} };",
     "static const float k[3][3] = {0, -1, 0, -1, 5, -1, 0, -1, 0};  // a comment",
     "1/4 * [0 -4 0; -4 20 -4; 0 -4 0]", "(0.5)*[[0,-4,0],[-4,20,-4],[0,-4,0]] / 2",
     "[0 -1 0; -1 5 -1; 0 -1 0]'", "[[0, -1, 0], [-1, 5, -1], [0, -1, 0]].T"],
)  # fmt: skip
def test_every_way_to_write_a_matrix_means_the_same(text):
    np.testing.assert_array_equal(
        kernels.get_kernel(text).effective_weights()[0, 0], [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
    )


def test_fractions_and_rotations():
    assert kernels.get_kernel("1/9 2/9").weights[0, 0].tolist() == [[1 / 9, 2 / 9]]
    turned = kernels.get_kernel("3x3>: 1 0 0 0 0 0 0 0 0").weights[:, 0]
    assert [tuple(np.argwhere(plane)[0]) for plane in turned] == [(0, 0), (2, 0), (2, 2), (0, 2)]


@pytest.mark.parametrize(
    ("text", "says"),
    [("1 2; 3", "row 2"), ("", "empty"), ("1 a", "column 3"), ("1/0", "zero"),
     ("1/1e99999999", "number"),
     ("3x3: 1 2", "expected 9"), ("box:size=0", "size=0"), ("gaussian:foo=1", "expected sigma"),
     ("sobel:7", "no parameters"), ("[[1,2],[3]]", "equally long"), ("99999x99999: 1", "sides"),
     ("nothere.toml", "No such file"), ("1 inf", "finite")],
)  # fmt: skip
def test_bad_kernels_say_what_was_expected(text, says):
    with pytest.raises(KernelError, match=says):
        kernels.get_kernel(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0,5 0,5; 0,5 0,5", "line 1: '0,5 0,5': both blanks and commas between numbers"),
        ("1,2 3,4", "both blanks and commas"),
        ("1,,2; 3,,4", "nothing before a comma"),
        ("0,25; 0,5; 0,25", "'0,25': a decimal comma? expected a point"),
        ("[1,,2]", "line 1, column 4: nothing before a comma"),
        ("sobel,laplacian", "2 names, expected one; -k sobel -k laplacian takes each"),
        ("sobel | relu", "2 names, expected one; a chain is for imgconv run"),
        ("[[1, 2]\n[3, x]]", "line 2, column 5: 'x', expected a number"),
        ("[[1, 2], [3, 4]", "'[' is not closed"),
        ("[1 2; 3 4)", "column 10: ')', expected ']'"),
        ("[1 2; 3]", "equally long"),
        ("[]", "no numbers in the brackets"),
        ("[1 2] sobel", "column 7: 'sobel' behind the matrix"),
        ("[1 2] / 0", "divides by zero"),
        ("np.array([[1, 2]]", "expected `)` behind the matrix"),
        ("float k[2][3] = {1, 2, 3, 4};", "4 numbers, expected 2×3 as declared"),
        (",1,2", "nothing before a comma"),
        ("1 - 1", "line 1, column 3: '-', expected a number"),
        ("1_0 2", "'1_0', expected a number"),
        (
            "2x3: 1 2 3; 4 5 6",
            "2x3 is width by height, expected 3 rows of 2 numbers, got rows of 3",
        ),
        ("2x3:\n1 2 3\n4 5 6", "expected 3 rows of 2 numbers"),
        ("2x2: 1 2 3; 4", "expected 2 rows of 2 numbers, got rows of 3, 1"),
        ('[["1", "2"]]', "rows of numbers"),
        ("[[true, false]]", "rows of numbers"),
        ('{"weights": [[1, 2]], "weights": [[3, 4]]}', "key 'weights' twice"),
        ('{"weights": [["1", 2]]}', "rows of numbers"),
    ],
)
def test_what_could_be_misread_is_refused(text, says):
    with pytest.raises(KernelError) as caught:
        kernels.get_kernel(text)
    assert says in str(caught.value)


def test_commas_with_and_without_blanks_part_numbers():
    for text, shape in (
        ("[1 2 1]", (1, 3)),
        ("[1;2;1]", (3, 1)),
        ("[1 2 1]'", (3, 1)),
        ("0, 5", (1, 2)),
    ):
        assert kernels.get_kernel(text).size == shape
    assert kernels.get_kernel("1,0; 0,1").size == (2, 2)  # not each row has a 0 before the comma
    for text in ("1,2,3;4,5,6", "1, 2 ,3,; 4,\t5,6 ;", "1 2 3\n4 5 6"):
        assert kernels.get_kernel(text).weights[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert kernels.get_kernel("3x1: 1 - nan").weights.ravel().tolist() == [1, 0, 0]
    assert kernels.get_kernel("5x2: 1 2 3 4\n5 6 7 8\n9 10").size == (2, 5)  # lines as they come


def test_a_mask_files_header_is_one_only_where_it_cannot_be_a_row(tmp_path):
    square = "3 2 1; 1 2 3; 4 5 6"  # may be a mask of 3×2 with a scale of 1
    assert kernels.get_kernel(square).weights[0, 0].tolist() == [[3, 2, 1], [1, 2, 3], [4, 5, 6]]
    path = tmp_path / "k.mat"
    path.write_text(square.replace(";", "\n"))
    assert kernels.get_kernel(str(path)).weights[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    path.write_text("2 1\n3, 4")
    assert kernels.get_kernel(str(path)).weights[0, 0].tolist() == [[3, 4]]
    for text in ("1 2 1\n2 4 2\n1 2 1", "4 3 9 0\n1 1 1 1\n2 2 2 2", "1 2"):
        path.write_text(text)
        with pytest.raises(KernelError, match="expected the width and height of the rows below"):
            kernels.get_kernel(str(path))


def test_a_spreadsheets_semicolons_are_refused(tmp_path):
    path = tmp_path / "k.csv"
    for text in ("0,5;0,5\n0,25;0,25", "0.5;0.5\n0.25;0.25"):
        path.write_text(text)
        with pytest.raises(KernelError, match=r"k.csv: line 1: semicolons between numbers"):
            kernels.get_kernel(str(path))
    path.write_text("1,2;\n3,4;\n")
    assert kernels.get_kernel(str(path)).weights[0, 0].tolist() == [[1, 2], [3, 4]]


def test_arrays_that_would_be_ignored_are_refused(tmp_path):
    path = tmp_path / "k.npz"
    np.savez(path, weight=np.ones((1, 1, 2, 2)), scale=np.ones(1))
    with pytest.raises(KernelError, match="arrays weight, scale, expected weight and bias"):
        kernels.get_kernel(str(path))


@given(st.text(max_size=60))
def test_any_text_is_a_kernel_or_a_kernel_error(text):
    try:
        kernel = kernels.parse_kernel_text(text)
    except KernelError:
        return
    assert np.isfinite(kernel.weights).all()


class Canary:
    def __reduce__(self):
        return (pytest.fail, ("the payload ran",))


def test_pickles_are_refused_unread(tmp_path):
    array = np.array([Canary()], dtype=object)
    np.save(tmp_path / "evil.npy", array, allow_pickle=True)
    np.savez(tmp_path / "evil.npz", weight=array)
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Canary()))
    with zipfile.ZipFile(tmp_path / "torch.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Canary()))
    (tmp_path / "legacy.pth").write_bytes(pickle.dumps(Canary(), 2))
    for name in ("evil.npy", "evil.npz", "raw.npy", "torch.pth", "legacy.pth"):
        with pytest.raises(KernelError, match=f"{name}.*pickled Python objects"):
            kernels.load_kernel_file(tmp_path / name)


def test_the_marks_in_a_file_go_before_its_name(tmp_path):
    text = json.dumps({"k": {"dtype": "F64", "shape": [1, 2], "data_offsets": [0, 16]}}).encode()
    for length in range(len(text), len(text) + 256):
        path = tmp_path / ("k.safetensors" if length % 2 else "k.txt")
        data = np.array([5.0, 7.0]).tobytes()
        path.write_bytes(length.to_bytes(8, "little") + text.ljust(length) + data)
        assert kernels.get_kernel(str(path)).weights.ravel().tolist() == [5, 7], length
    np.save(tmp_path / "k.npy", np.eye(2))
    (tmp_path / "k.npy").rename(tmp_path / "weights.txt")
    assert kernels.get_kernel(str(tmp_path / "weights.txt")).weights[0, 0].tolist() == [
        [1, 0],
        [0, 1],
    ]


def test_files_of_every_kind_hold_the_same_bank(tmp_path):
    weights = np.random.default_rng(0).normal(size=(2, 3, 3, 5))
    bias = np.array([1.0, -2.0])
    np.save(tmp_path / "k.npy", weights)
    np.savez(tmp_path / "k.npz", weight=weights, bias=bias)
    table = {"weights": weights.tolist(), "bias": bias.tolist()}
    (tmp_path / "k.json").write_text(json.dumps(table))
    (tmp_path / "k.toml").write_text(
        f"[k]\nweights = {json.dumps(weights.tolist())}\nbias = [1, -2]\n"
    )
    from imgconv.safetensors import write_safetensors

    write_safetensors(tmp_path / "k.safetensors", {"weight": weights, "bias": bias})
    for suffix in ("npy", "npz", "json", "toml", "safetensors"):
        kernel = kernels.load_kernel_file(tmp_path / f"k.{suffix}")
        np.testing.assert_array_equal(kernel.weights, weights)
        assert suffix == "npy" or kernel.bias.tolist() == [1, -2]


def test_normalizing_a_zero_sum_points_to_abs():
    with pytest.raises(KernelError, match="--normalize abs"):
        kernels.transform(kernels.get_kernel("sobel-x"), normalize="sum")
    assert kernels.transform(kernels.get_kernel("sobel-x"), normalize="abs").divisor == 8


def test_generators_take_positional_and_named_parameters():
    assert set(generators.GENERATORS) >= {
        "gaussian",
        "log",
        "dog",
        "gabor",
        "box",
        "disk",
        "motion",
        "ring",
        "ramp",
        "unsharp",
    }
    np.testing.assert_array_equal(
        kernels.get_kernel("gaussian:2").weights, kernels.get_kernel("Gaussian:sigma=2").weights
    )
    assert kernels.get_kernel("box:size=9x3").size == (3, 9)  # width × height, as others write it
    for text in ("box:3,9", "box:size=3,9", "box:size=9,height=3"):
        assert kernels.get_kernel(text).size == (3, 9)  # a pair, the vertical one first
    assert kernels.get_kernel("unsharp:sigma=1,amount=2").weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("gaussian:sigma=2,3", "sigma=2,3, expected one value"),
        ("gaussian:2,sigma=3", "sigma= twice"),
        ("blur:0,2", "'2', expected sigma"),
        ("box:size=3,5,7", "size=3,5,7, expected one value"),
        ("box:3x5,height=2", "height twice"),
        ("gaussian:sigma=2,,size=3", "nothing between two commas"),
        ("gaussian:sigma=", "no value after sigma="),
        ("binomial:5x3", "'5x3', expected a number"),
        ("gabor:theta=1_0", "'1_0', expected a number"),
    ],
)
def test_parameters_that_are_not_understood_are_refused(spec, says):
    with pytest.raises(KernelError) as caught:
        kernels.get_kernel(spec)
    assert says in str(caught.value)


def test_a_filter_of_a_bank_has_the_name_of_its_label():
    for name in ("kirsch", "robinson", "sobel-compass", "prewitt-compass", "dct-8x8"):
        whole = kernels.get_kernel(name)
        for number, label in enumerate(whole.labels):
            one = kernels.get_kernel(f"{name}-{label}")
            np.testing.assert_array_equal(one.weights, whole.weights[number : number + 1])
            assert (one.combine, one.labels) == ("none", ())
    assert kernels.get_kernel("robinson-n").weights[0, 0].tolist() == [
        [1, 2, 1],
        [0, 0, 0],
        [-1, -2, -1],
    ]
    with pytest.raises(KernelError, match="no preset"):
        kernels.get_kernel("kirsch-up")


@pytest.mark.parametrize(
    "text",
    ["1" + "e" * 200_000, "k[" + " " * 200_000, "np.array([[1]]" + " " * 200_000 + "x",
     "[1] / 1" + "e" * 200_000 + "!"],
)  # fmt: skip
def test_no_text_takes_minutes_to_refuse(text):
    with pytest.raises(KernelError):
        kernels.parse_kernel_text(text)


@pytest.mark.parametrize("name", sorted(generators.GENERATORS))
def test_what_is_said_of_a_parameter_is_so(name):
    usual = generators.parameters(name)
    for key, (_, unit, bounds) in generators.described(name).items():
        assert unit in ("", "pixels", "degrees", "samples")
        outside = {"more than 0": ("0", "-1"), "from 0": (), "any": ()}
        refused = outside.get(bounds, ("-2", "1.5", "1026"))
        for text in (*refused, *(["4"] if bounds.startswith("odd") else [])):
            with pytest.raises(KernelError):
                kernels.get_kernel(f"{name}:{key}={text}")
        assert kernels.get_kernel(f"{name}:{key}={usual[key]:g}").parameters == usual


def test_show_tells_a_generators_parameters():
    shown = here("kernels", "show", "gabor:theta=30").stdout.splitlines()
    rows = {row.split()[0]: row for row in shown if "  " in row}
    assert rows["theta"].split()[1:4] == ["30", "0", "degrees"]
    assert "0.56 lambda" in rows["sigma"]
    assert list(rows)[1:7] == ["theta", "lambda", "sigma", "gamma", "psi", "size"]
    assert "parameter" not in here("kernels", "show", "sobel").stdout


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Gaussian:0x2", "gaussian:sigma=2"),
        ("gaussian:3x1.5", "gaussian:sigma=1.5,size=7"),
        ("LoG:0x2", "log:sigma=2"),
        ("unsharp:0x1,amount=2", "unsharp:sigma=1,amount=2"),
    ],
)
def test_radius_and_sigma_are_read_as_imagemagick_writes_them(text, same):
    weights = kernels.get_kernel(text).weights
    np.testing.assert_array_equal(weights, kernels.get_kernel(same).weights)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("comet:2x3", "radius=2, expected 0"),
        ("median", "is not a kernel, expected --pool median:3,stride=1,padding=1"),
        ("Canny", "is not a kernel, expected imgconv run 'canny 50,150'"),
        ("bilateral", "OpenCV has bilateralFilter"),
    ],
)
def test_names_of_other_tools_lead_to_what_does_it_here(text, says):
    with pytest.raises(KernelError, match=re.escape(says)):
        kernels.get_kernel(text)
