"""Row 39: sizes are known before memory or time is taken for them, wherever a file names one."""

import io
import struct
import subprocess
import zlib

import pytest
from PIL import Image

from tests.reliability.forked import Forker
from tests.reliability.support import COMMAND, one_line

APPLY = ("apply", "-q", "-k", "identity")
LITTLE = 96 << 20  # bytes beside those of the interpreter and its libraries


@pytest.fixture(scope="module")
def forker():
    made = Forker()
    yield made
    made.close()


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(*chunks):
    """An 8×8 PNG with chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(72)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def profiles():
    """A PNG of 1,000 profiles of 16 MB."""
    packed = zlib.compress(bytes((16 << 20) - 1), 9)
    return png(chunk(b"iCCP", b"a\0\0" + packed) * 1000)


def texts():
    """A PNG of 20,000 texts of 1 MB."""
    packed = zlib.compress(bytes((1 << 20) - 1), 9)
    return png(chunk(b"zTXt", b"a\0\0" + packed) * 20000)


def scans(side, count):
    """A progressive JPEG whose last scan is there many times more."""
    made = io.BytesIO()
    Image.new("L", (side, side), 128).save(made, "jpeg", progressive=True)
    data = made.getvalue()
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * count + b"\xff\xd9"


def tiff(data, compression, tile, bits=8, side=16):
    """A TIFF of one tile (columns, rows)."""
    entries = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, bits), (259, 3, 1, compression),
               (262, 3, 1, 1), (277, 3, 1, 1), (322, 4, 1, tile[0]), (323, 4, 1, tile[1]),
               (324, 4, 1, 8), (325, 4, 1, len(data))]  # fmt: skip
    data += bytes(len(data) % 2)
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (
        b"II*\0" + struct.pack("<I", 8 + len(data)) + data
        + struct.pack("<H", len(entries)) + table + bytes(4)
    )  # fmt: skip


TALL = zlib.compress(bytes(16 * 46_000_000 // 8))
REFUSED = {
    "scans.jpg": (lambda: scans(3000, 500), "scans of 9000000 pixels are more work than"),
    "scans.tif": (lambda: tiff(scans(3000, 500), 7, (3000, 3000), side=3000), "more work than"),
    "tall.tif": (lambda: tiff(TALL, 8, (16, 46_000_000)), "a tile of 16×46000000×1 pixels"),
    "tall-16.tif": (lambda: tiff(TALL, 8, (16, 46_000_000), 16), "a tile of 16×46000000×1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_row_39_work_and_memory_that_a_file_asks_for_are_bounded(forker, tmp_path, name):
    made, said = REFUSED[name]
    (tmp_path / name).write_bytes(made())
    # A limit of its own, so that smaller files ask for more than it.
    ended = forker.run(*APPLY, name, "-o", "a.npy", "--max-pixels", "9000000", cwd=tmp_path)
    assert (ended.code, ended.is_clean()) == (1, True), ended
    assert said in ended.said
    assert "--max-pixels raises" in ended.said
    small = forker.run(*APPLY, "sample:chart:32", "-o", "b.npy", cwd=tmp_path)
    assert ended.peak - small.peak < LITTLE


def test_row_39_usual_scans_and_tiles_pass(forker, tmp_path):
    (tmp_path / "a.jpg").write_bytes(scans(16, 1000))
    (tmp_path / "a.tif").write_bytes(tiff(zlib.compress(bytes(256 * 256)), 8, (256, 256)))
    assert forker.run(*APPLY, "a.jpg", "a.tif", "-o", "out/", cwd=tmp_path).code == 0


@pytest.mark.parametrize("made", [profiles, texts])
def test_row_39_what_is_beside_the_pixels_is_not_inflated_without_end(forker, tmp_path, made):
    (tmp_path / "a.png").write_bytes(made())
    ended = forker.run(*APPLY, "a.png", "-o", "b.png", cwd=tmp_path)
    assert (ended.code, ended.is_clean()) == (0, True), ended
    assert ended.seconds < 6, ended


@pytest.mark.parametrize("name", ["k.csv", "k.txt", "k.json", "k.toml"])
def test_row_39_texts_of_kernels_are_refused_before_lists_are_made(forker, tmp_path, name):
    rows = "[" + "[1.5,2.5]," * 4_000_000 + "[1.5,2.5]]"
    text = {"k.txt": "1;" * 10_000_000, "k.csv": "1\n" * 10_000_000, "k.json": rows}
    (tmp_path / name).write_text(text.get(name, f"matrix = {rows}"))
    ended = forker.run("apply", "-k", name, "sample:chart:32", cwd=tmp_path)
    assert (ended.code, ended.is_clean()) == (2, True), ended
    small = forker.run(*APPLY, "sample:chart:32", "-o", "b.npy", cwd=tmp_path)
    assert ended.peak - small.peak < LITTLE, ended


def test_row_39_a_long_grid_takes_the_memory_of_its_numbers(forker, tmp_path):
    (tmp_path / "long.csv").write_text("1\n" * 1_000_000)
    ended = forker.run(*APPLY, "long.csv", "-o", "a.npy", cwd=tmp_path)
    small = forker.run(*APPLY, "sample:chart:32", "-o", "b.npy", cwd=tmp_path)
    assert ended.code == 0
    # 8 MB, its image, its maps, and a compiler where the store is cold; lists had taken 360 MB.
    assert ended.peak - small.peak < 192 << 20, ended


@pytest.mark.parametrize(
    ("head", "arguments", "code", "said"),
    [
        (b"", ("-k", "-", "sample:chart:32"), 2, b"bytes of a text"),
        (b"", ("-k", "sobel", "-"), 1, b"not an image in a known format"),
        (b"P5 50 50 255\n", ("-k", "sobel", "-", "--max-pixels", "2500"), 1, b"--max-pixels"),
    ],
)  # fmt: skip
def test_row_39_standard_input_without_end_is_not_read_to_it(tmp_path, head, arguments, code, said):
    (tmp_path / "head").write_bytes(head)
    endless = ["sh", "-c", "cat head; exec yes"]
    with subprocess.Popen(endless, cwd=tmp_path, stdout=subprocess.PIPE) as source:
        result = subprocess.run(
            [*COMMAND, "apply", *arguments, "-o", "a.png"],
            stdin=source.stdout, cwd=tmp_path, capture_output=True, timeout=60,
        )  # fmt: skip
        source.kill()
    assert result.returncode == code
    one_line(result, said)


def test_row_39_networks_take_no_more_than_an_image_at_the_limit(forker, tmp_path):
    (tmp_path / "large.toml").write_text(
        'input = [3, 8, 8]\npreprocess = {resize = [16000, 16000]}\nlayers = [{layer = "relu"}]'
    )
    (tmp_path / "deep.toml").write_text(
        'input = [1, 300, 300]\nlayers = [{layer = "conv-transpose 1000 3 stride=3"}]'
    )
    (tmp_path / "text.toml").write_text("#" * 40_000_000)
    for name, said in (("large", "16000×16000 pixels for the network"), ("deep", "the network:")):
        words = ("net", "features", f"{name}.toml", "sample:chart:32", "--seed", "1")
        more = ("--layer", "*", "--format", "npz", "-o", "a.npz")
        ended = forker.run(*words, *more, cwd=tmp_path)
        assert ended.code == 1, ended
        assert said in ended.said
        assert "--max-pixels raises it" in ended.said
    ended = forker.run("net", "features", "text.toml", "sample:chart:32", "--layer", "*",
                       cwd=tmp_path)  # fmt: skip
    assert (ended.code, ended.is_clean()) == (2, True), ended


def test_row_39_onnx_models_take_no_more_either(forker, tmp_path):
    onnx = pytest.importorskip("onnx")
    sizes = {"Expand": [1, 1, 30000, 30000], "Tile": [1, 1, 4000, 4000],
             "Resize": [1, 1, 30000, 30000], "Pad": [0, 0, 15000, 15000] * 2}  # fmt: skip
    for kind, numbers in sizes.items():
        inputs = ["x", "", "", "s"] if kind == "Resize" else ["x", "s"]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node(kind, inputs, ["y"])], "g",
            [onnx.helper.make_tensor_value_info("x", 1, [1, 1, 8, 8])],
            [onnx.helper.make_tensor_value_info("y", 1, None)],
            [onnx.helper.make_tensor("s", 7, [len(numbers)], numbers)],
        )  # fmt: skip
        if kind == "Expand":
            graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1
            graph.input[0].type.tensor_type.shape.dim[3].dim_value = 1
        opset = [onnx.helper.make_opsetid("", 13)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset), tmp_path / "a.onnx")
        ended = forker.run("net", "features", "a.onnx", "sample:chart:32", "--layer", "*",
                           cwd=tmp_path)  # fmt: skip
        assert (ended.code, ended.is_clean()) == (1, True), (kind, ended)
        assert "the network: 3" in ended.said or "the network: 4" in ended.said, ended
