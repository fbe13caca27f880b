"""Rows 13 to 16, the network, the terminal: kernels, weights and names are untrusted too."""

import io
import json
import os
import pickle
import pty
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from tests.reliability import broken
from tests.reliability.forked import Forker
from tests.reliability.support import COMMAND, imgconv, one_line, save_photo

KERNELS = {
    "ragged.txt": (b"1 2 3\n4 5\n", "row 2 has 2 numbers, expected 3"),
    "nan.npy": (broken.npy((1, 2), "<f4", b"\0\0\xc0\x7f" * 2), "NaN or infinity"),
    "words.csv": (b"1,two\n3,4\n", "two"),
    "empty.txt": (b"", "empty"),
    "wide.txt": (b"1 " * 2_000_000, "expected"),
    "broken.toml": (b"[a]\nmatrix = [[1,\n", "broken.toml"),
    "no-matrix.toml": (b"[a]\ndivisor = 2\n", "no-matrix.toml"),
    "broken.json": (b"[[1, 2], [3", "broken.json"),
    "ragged.json": (b"[[1, 2], [3]]", "ragged.json"),
    "not-utf-8.txt": (b"\xff\xfe\x00", "not-utf-8.txt"),
    "huge.npy": (broken.npy((1_000_000_000, 1)), "huge.npy"),
    "truncated.npy": (broken.npy((5, 5), "<f4", bytes(9)), "truncated.npy"),
    "huge.npz": (broken.npz(a=broken.npy((2**15, 2**15))), "huge.npz"),
    "bomb.npz": (broken.npz(a=broken.npy((2**13, 2**13), "<f8") + bytes(64 << 20)), "bomb.npz"),
    "cut.npz": (broken.npz(a=broken.npy((3, 3), "<f4", bytes(36)))[:-30], "cut.npz"),
    "short.safetensors": (b"\xff" * 4, "short.safetensors"),
    "long.safetensors": ((1 << 60).to_bytes(8, "little") + b"{}", "header of"),
    "overlap.safetensors": (None, "overlap or gap"),
    "bits.toml": (b"[a]\nmatrix = [[1]]\ndivisor = 0x" + b"f" * 5000, "more than 64 bits"),
    "digits.toml": (b"[a]\nmatrix = [[" + b"1" * 4301 + b"]]\n", "more than 64 bits"),
    "digits.json": (b'{"weights": [[1]], "divisor": ' + b"9" * 4000 + b"}", "digits.json"),
    "nested.toml": (b"a = " + b"[" * 3000 + b"]" * 3000, "nested too deeply"),
    "wrong-channels.npy": (broken.npy((1, 7, 3, 3), "<f4", bytes(252)), "7"),
}


def overlapping():
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    text = json.dumps({"a": entry, "b": entry}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


@pytest.fixture(scope="module")
def forker():
    made = Forker()
    yield made
    made.close()


@pytest.mark.parametrize("name", KERNELS)
def test_row_13_and_15_bad_kernel_files_are_exit_code_2_within_memory(forker, tmp_path, name):
    content, words = KERNELS[name]
    (tmp_path / name).write_bytes(overlapping() if content is None else content)
    ended = forker.run("apply", "-k", name, "sample:chart:32", "-o", "a.png", cwd=tmp_path)
    assert ended.code == 2, ended
    assert ended.is_clean(), ended
    assert words in ended.said, ended
    assert ended.peak < 512 << 20, ended
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    "text", ["", " ", "1 2; 3", "a b", "1 nan x", "1/0", "0 -1 0; -1 5 -1; 0 -1", "9" * 400,
             "3x3:1,2", "gaussian:sigma=-1", "gaussian:sigma=nan", "gabor:lambda=0", "box:size=0",
             "sobl"]
)  # fmt: skip
def test_row_13_bad_kernel_text_is_exit_code_2(forker, tmp_path, text):
    ended = forker.run("apply", "-k", text, "sample:chart:32", "-o", "a.png", cwd=tmp_path)
    assert ended.code == 2, ended
    assert ended.is_clean(), ended


LAYERS = '\n[[layers]]\nlayer = "conv2d 4 3"\n[[layers]]\nlayer = "global-avgpool"\n'
NETWORKS = {
    "input = [3, 8, 8]": "",
    "input = [3, 100000000, 100000000]": "expected at most 178956970 pixels",
    f"input = [0x{'f' * 5000}, 8, 8]": "more than 64 bits",
    f"name = 0x{'f' * 5000}": "more than 64 bits",
    f"labels = [{'9' * 4301}]": "more than 64 bits",
    f"labels = {'[' * 3000}{']' * 3000}": "nested too deeply",
    "labels = ['cat', 'dog']": "2 labels for 4 classes",
    "labels = ['a', 'b', 'c', 'd', 'e']": "5 labels for 4 classes",
    "weights = '../own.npz'": "within its own folder",
    "weights = '/tmp/own.npz'": "within its own folder",
    "preprocess = {resize = [0, 8]}": "resize = [0, 8], expected a whole number",
    "preprocess = {crop = 0.5}": "crop = 0.5, expected a whole number",
    "preprocess = {mean = [inf]}": "expected finite float32 numbers",
    "preprocess = {scale = 1e39}": "expected finite float32 numbers",
    "[[layers]]\nlayer = 'conv2d'": "network.toml: chain: 'conv2d'",
}


@pytest.mark.parametrize("line", NETWORKS, ids=lambda line: line[:40])
def test_row_13_bad_networks_are_exit_code_2_naming_their_file(forker, tmp_path, line):
    (tmp_path / "network.toml").write_text(line + LAYERS)
    ended = forker.run(
        "net", "predict", "network.toml", "sample:chart:16", "--seed", "1", cwd=tmp_path
    )
    said = ended.said.replace("imgconv: network: weights are random (seed 1), not trained\n", "")
    assert (ended.code, said.count("\n")) == ((2, 1) if NETWORKS[line] else (0, 0)), ended
    assert NETWORKS[line] in said, ended
    assert said.count("network") == bool(NETWORKS[line]), ended
    assert ended.seconds < 10, ended


class Payload:
    """Pickles as a call that makes a file."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return (open, (self.canary, "w"))


@pytest.mark.parametrize("suffix", ["npy", "npz", "pth", "pt", "pkl"])
@pytest.mark.parametrize("role", ["image", "kernel", "weights"])
def test_row_14_a_pickle_is_refused_and_its_payload_not_run(forker, tmp_path, suffix, role):
    canary, name = tmp_path / "canary", f"a.{suffix}"
    value = np.array([Payload(str(canary))], dtype=object)
    buffer = io.BytesIO()
    if suffix == "npy":
        np.save(buffer, value, allow_pickle=True)
    elif suffix == "npz":
        np.savez(buffer, a=value)
    elif suffix == "pkl":
        buffer.write(pickle.dumps(Payload(str(canary))))
    else:
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Payload(str(canary))))
            archive.writestr("archive/version", "3\n")
    (tmp_path / name).write_bytes(buffer.getvalue())
    arguments = {
        "image": ("apply", "-k", "sobel", name, "-o", "out.png"),
        "kernel": ("apply", "-k", f"./{name}", "sample:chart:32", "-o", "out.png"),
    }
    if role == "weights":
        result = imgconv(
            "net", "features", "lenet5", "--weights", name, "sample:chart:32", cwd=tmp_path
        )
        assert result.returncode in (1, 2)
        assert b"Traceback" not in result.stderr
    else:
        ended = forker.run(*arguments[role], cwd=tmp_path)
        assert ended.code in (1, 2), ended
        assert ended.is_clean(), ended
    assert os.listdir(tmp_path) == [name]


NO_NETWORK = """
import sys
seen = []
def audit(event, arguments):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto")):
        seen.append((event, arguments))
sys.addaudithook(audit)
from imgconv.cli import main
from imgconv.cli.exit_codes import run
code = run(main)
assert not seen, seen
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [("apply", "-q", "-k", "sobel", "photo.png", "-o", "a.png"), ("kernels", "list"),
     ("run", "gray | conv sobel | relu", "photo.png", "-o", "b.png"), ("doctor",), ("--help",),
     ("compare", "photo.png", "photo.png"), ("completion", "bash"), ("net", "list")],
)  # fmt: skip
def test_nothing_opens_a_network_connection(photo, arguments):
    result = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, *arguments], cwd=photo, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


# The terminal


def on_a_terminal(arguments, cwd, **environment):
    """(exit code, what came on the terminal that is stderr, stdout)."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=slave,
        env={**os.environ, **environment},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    out = process.stdout.read()
    process.stdout.close()
    os.close(master)
    return process.wait(), shown, out


def test_the_progress_bar_is_on_a_terminals_stderr_only(photo):
    names = [f"{number}.png" for number in range(4)]
    for name in names:
        save_photo(photo / name)
    base = ("apply", "-k", "identity", *names, "--overwrite", "-o", "out/")
    code, shown, out = on_a_terminal(base, photo)
    assert (code, out) == (0, b"")
    assert b"4/4 [########################]" in shown
    assert shown.rpartition(b"\r\x1b[K")[2].startswith(b"4 files, ")
    for quiet in (("-q",), ("--json",)):
        assert on_a_terminal((*base, *quiet), photo)[1] == b""
    assert b"\x1b[3" not in on_a_terminal(base, photo, NO_COLOR="1")[1]
    assert imgconv(*base, cwd=photo).stderr == b""


def completions(shell, words, cwd):
    variables = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        variables["COMP_CWORD"] = words[-1]
    environment = {**os.environ, "_IMGCONV_COMPLETE": f"{shell}_complete", **variables}
    script = "from imgconv.__main__ import entry; entry()"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=cwd, env=environment, capture_output=True, text=True
    )
    return result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_kernels_modes_and_formats(tmp_path, shell):
    for option, start, word in (
        ("-k", "sob", "sobel-x"), ("--padding-mode", "refl", "reflect"), ("--format", "pn", "png"),
    ):  # fmt: skip
        found = completions(shell, ["imgconv", "apply", option, start], tmp_path)
        assert word in found.replace(",", "\n").split("\n"), found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_valid_for_their_shell(tmp_path, shell):
    script = imgconv("completion", shell, cwd=tmp_path)
    assert script.returncode == 0
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    (tmp_path / "script").write_bytes(script.stdout)
    checked = subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, b"")


ESCAPES = "\x1b]0;title\x07\x1b[31m\r"
NAMED = {
    "k.toml": f"[kernel]\nmatrix = [[0, 1, 0]]\ndescription = {json.dumps(ESCAPES)}\n",
    "n.toml": f"input = [3, 8, 8]\nname = {json.dumps(ESCAPES)}\nlabels = "
    f"{json.dumps([ESCAPES, 'b', 'c'])}\n[[layers]]\nname = {json.dumps('a' + ESCAPES)}\n"
    'layer = "global-avgpool"\n[[layers]]\nlayer = "flatten"\n',
}


@pytest.mark.parametrize(
    "words",
    [("kernels", "show", "k.toml"), ("net", "summary", "n.toml"),
     ("net", "predict", "n.toml", "sample:chart:16"),
     ("net", "receptive", "n.toml", "--layer", "*"),
     ("net", "features", "n.toml", "sample:chart:16", "--layer", "*", "-o", "f/", "--dry-run")],
    ids=lambda words: "-".join(words[:2]),
)  # fmt: skip
def test_row_28_text_of_others_reaches_no_terminal_with_its_escape_sequences(words, tmp_path):
    for name, text in NAMED.items():
        (tmp_path / name).write_text(text)
    ended = imgconv(*words, cwd=tmp_path)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert b"\\x1b" in said or words[1] == "receptive"
    assert not set(said) & {*range(10), *range(11, 32), 127}, said


@pytest.mark.parametrize("name", ["empty.npy", "empty.npz", "empty.safetensors"])
def test_row_13_empty_arrays_of_huge_shape_are_one_line(name, tmp_path):
    shape = (0, 1 << 32, 1 << 32)
    whole = broken.npy(shape, "<f4")
    header = {"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}
    text = json.dumps(header).encode()
    content = {
        "empty.npy": whole,
        "empty.npz": broken.npz(w=whole),
        "empty.safetensors": len(text).to_bytes(8, "little") + text,
    }[name]
    (tmp_path / name).write_bytes(content)
    ended = imgconv("kernels", "show", name, cwd=tmp_path)
    assert ended.returncode == 2
    one_line(ended, name.encode())
