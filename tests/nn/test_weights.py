"""Weights: what fits, what is refused, and that fusing changes nothing but rounding."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from imgconv.errors import ModelError
from imgconv.nn.builder import Builder
from imgconv.nn.fusion import fuse
from imgconv.nn.layers import (
    Activation,
    Add,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
)
from imgconv.nn.models import get_network
from imgconv.nn.weights import draw_weights, fits, load_weights, loaded
from imgconv.safetensors import read_safetensors, write_safetensors

CLASSES = 3


def small():
    """Every layer that owns parameters, with statistics, in a graph of two branches."""
    net = Builder(3, 9, 8)
    net.add("conv", Conv2d(3, 4, 3, padding=1, bias=False))
    net.add("bn", BatchNorm2d(4, 1e-3))
    entry = net.add("relu", Activation("relu"))
    net.add("side", Conv2d(4, 4, 3, padding=1, groups=2))
    side = net.add("side_bn", BatchNorm2d(4))
    net.add("add", Add(), side, entry)
    net.add("relu", Activation("relu"))
    net.add("drop", Dropout())
    net.add("flatten", Flatten())
    net.add("fc", Linear(288, CLASSES))
    net.add("tanh", Activation("tanh"))
    return net.graph()


def arrays(graph, seed=0):
    draw = np.random.default_rng(seed)
    return {
        name: draw.uniform(0.5, 1.5, p.shape).astype(np.float32) * draw.choice([-1, 1], p.shape)
        if not p.buffer else draw.uniform(0.5, 1.5, p.shape).astype(np.float32)
        for name, p in graph.parameters().items()
    }  # fmt: skip


def save(path, given):
    if path.suffix == ".npz":
        np.savez(path, **given)
    else:
        write_safetensors(path, {k: np.asarray(v, np.float32) for k, v in given.items()})
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_weights_come_back_as_they_were_written(suffix, tmp_path):
    graph = small()
    given = arrays(graph) | {"bn.num_batches_tracked": np.array(3)}
    found = loaded(load_weights(graph, save(tmp_path / f"w{suffix}", given)))
    assert list(found) == list(graph.parameters())
    for name, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, given[name].astype(np.float32))


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_weights_are_read_when_they_are_needed_and_a_file_that_is_cut_is_one_error(
    tmp_path, suffix
):
    given = arrays(small())
    path = save(tmp_path / f"w.{suffix}", given)
    graph = load_weights(small(), path)
    last = list(given)[-1]
    found = loaded(graph)  # all of it, before the cut
    np.testing.assert_array_equal(found[last], given[last])
    graph = load_weights(small(), path)
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(ModelError, match=rf"w\.{suffix}: "):
        loaded(graph)


def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path):
    # Bits and values by the format's definition: 1 sign, 8 exponent and 7 fraction bits.
    known = {
        0x3F80: 1.0, 0xC049: -3.140625, 0x0001: 2.0**-133, 0x7F7F: 2.0**128 - 2.0**120,
        0x8000: -0.0, 0xFF80: -np.inf,
    }  # fmt: skip
    data = np.array([*known, 0x7FC0, 0x3F80], "<u2").tobytes()
    header = {
        "w": {"dtype": "BF16", "shape": [2, 4], "data_offsets": [0, 16]},
        "empty": {"dtype": "BF16", "shape": [0], "data_offsets": [16, 16]},
        "b": {"dtype": "F32", "shape": [], "data_offsets": [16, 20]},
    }
    for spaces in range(4):  # data that is and is not aligned
        text = json.dumps(header).encode() + b" " * spaces
        body = len(text).to_bytes(8, "little") + text + data + np.float32(7).tobytes()
        (tmp_path / "w.safetensors").write_bytes(body)
        found = read_safetensors(tmp_path / "w.safetensors")
        assert found["w"].dtype == np.float32
        expected = np.array([*known.values(), np.nan, 1], np.float32).reshape(2, 4)
        np.testing.assert_array_equal(found["w"], expected)
        assert np.signbit(found["w"][1, 0])
        assert found["empty"].shape == (0,)
        assert found["b"] == 7


def test_a_header_of_any_length_is_one_of_safetensors(tmp_path):
    # Its length comes first, so the file may begin as a pickle does (0x80), or an NPY's or ZIP's
    # first letter; one file in 32 that pads its header to 8 bytes does.
    graph = Builder(1, 1, 1)
    graph.add("fc", Linear(1, 1))
    header = {
        "fc.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
        "fc.bias": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
    }
    text, data = json.dumps(header).encode(), np.array([2, 3], "<f4").tobytes()
    lengths = set()
    for spaces in range(256):
        length = (len(text) + spaces).to_bytes(8, "little")
        lengths.add(length[0])
        # By the name of another format too: the file's own marks decide.
        path = tmp_path / ("w.safetensors" if spaces % 2 else "w.onnx")
        path.write_bytes(length + text + b" " * spaces + data)
        found = loaded(load_weights(graph.graph(), path))
        assert (found["fc.weight"].item(), found["fc.bias"].item()) == (2, 3), length
    assert len(lengths) == 256


def test_half_and_double_precision_are_converted(tmp_path):
    graph = small()
    given = arrays(graph)
    mixed = {
        name: a.astype((np.float16, np.float64)[i % 2]) for i, (name, a) in enumerate(given.items())
    }
    np.savez(tmp_path / "w.npz", **mixed)
    found = loaded(load_weights(graph, tmp_path / "w.npz"))
    for name, array in mixed.items():
        np.testing.assert_array_equal(found[name], array.astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("fc.bias"), r"1 missing \(fc.bias\)$"),
        (lambda w: w.update(head=np.zeros(2)), r"1 unexpected \(head\)$"),
        (lambda w: w.update({"conv.weight": np.zeros((4, 3, 5, 5))}),
         r"1 of another shape \(conv.weight is 4×3×5×5, expected 4×3×3×3\)$"),
        (lambda w: w.clear() or w.update(x=np.zeros(1)), r"13 missing \(.* and 9 more\), 1 unex"),
    ],
)  # fmt: skip
def test_every_difference_in_names_and_shapes_is_told(change, message, tmp_path):
    given = arrays(small())
    change(given)
    path = save(tmp_path / "w.safetensors", given)
    with pytest.raises(ModelError, match=message) as caught:
        load_weights(small(), path, "small")
    assert str(caught.value).startswith(f"{path}: these weights are not small's: ")


def test_weights_of_training_heads_are_let_pass_where_the_network_has_none():
    plain, heads = (
        get_network(f"googlenet:form=torchvision,aux={aux}").graph for aux in ("false", "true")
    )
    shapes = {name: p.shape for name, p in heads.parameters().items()}
    assert fits(plain, shapes)
    assert not fits(heads, {name: p.shape for name, p in plain.parameters().items()})


class Canary:
    """Unpickling it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def hostile(kind, tmp_path):
    path = tmp_path / "w.bin"
    payload = pickle.dumps(Canary(tmp_path / "ran"))
    graph = small()
    if kind == "pickle":
        path.write_bytes(payload)
    elif kind == "legacy torch":  # a magic number, a version and the rest, each pickled
        first = [pickle.dumps(n, 2) for n in (0x1950A86A20F9469CFC6C, 1001)]
        path.write_bytes(b"".join([*first, payload]))
    elif kind == "torch":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", payload)
    elif kind == "object array":
        np.savez(path, **{"fc.bias": np.array([Canary(tmp_path / "ran")], object)})
        path = tmp_path / "w.bin.npz"
    elif kind == "bomb":
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
        )
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("fc.bias.npy", header.getvalue() + bytes(1 << 24))
    elif kind == "large":
        given = arrays(graph) | {"fc.weight": np.zeros((3000, 3000), np.float32)}
        np.savez_compressed(path, **given)
        path = tmp_path / "w.bin.npz"
    else:
        save(tmp_path / "w.safetensors", arrays(graph))
        data = (tmp_path / "w.safetensors").read_bytes()
        cut = {"truncated": data[:-7], "header alone": data[:40], "empty": b"", "lie": data}[kind]
        if kind == "lie":
            cut = (1 << 60).to_bytes(8, "little") + data[8:]
        path.write_bytes(cut)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pickle", r"names io\.open; .* nothing was called"),
        ("torch", r"names io\.open; .* nothing was called"),
        ("legacy torch", r"names io\.open; .* nothing was called.*torch\.save"),
        ("object array", "pickled Python objects, which are never loaded"),
        ("bomb", "bytes declared by the array"),
        ("large", "fc.weight is 3000×3000, expected 3×288"),
        ("truncated", "expected .* bytes within"),
        ("header alone", "safetensors header"),
        ("empty", "safetensors header"),
        ("lie", "safetensors header"),
    ],
)
def test_broken_and_hostile_files_are_refused_by_what_they_declare(kind, message, tmp_path):
    path = hostile(kind, tmp_path)
    with pytest.raises(ModelError, match=message):
        load_weights(small(), path)
    assert not (tmp_path / "ran").exists()


def test_drawn_weights_depend_on_the_seed_and_the_name_alone():
    first, again, other = (loaded(draw_weights(small(), seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["fc.weight"], other["fc.weight"])
    weight = first["fc.weight"]
    assert abs(np.var(weight) * 288 / 2 - 1) < 0.15
    assert (first["bn.running_var"] == 1).all()
    assert (first["conv.weight"] != first["conv.weight"].ravel()[0]).any()


def test_a_fused_graph_gives_the_same_outputs_in_fewer_nodes():
    graph = small()
    graph = graph.with_parameters(arrays(graph))
    x = np.random.default_rng(3).normal(size=(2, 3, 9, 8)).astype(np.float32)
    fused = fuse(graph)
    assert [node.name for node in fused.nodes] == ["relu", "side_bn", "relu_1", "flatten", "tanh"]
    np.testing.assert_allclose(
        fused.run(x)["tanh"], graph.run(x)["tanh"], rtol=1e-4, atol=1e-5
    )  # fmt: skip


@pytest.mark.parametrize("wanted", [["conv"], ["bn", "add"], ["drop", "side"], ["fc"], []])
def test_wanted_maps_stay_what_they_are(wanted):
    graph = small()
    graph = graph.with_parameters(arrays(graph))
    x = np.random.default_rng(4).normal(size=(1, 3, 9, 8)).astype(np.float32)
    plain = dict(graph.trace(x))
    fused = dict(fuse(graph, wanted).trace(x, [*wanted, "tanh"]))
    assert set(fused) == {*wanted, "tanh"}
    for name, maps in fused.items():
        np.testing.assert_allclose(maps, plain[name], rtol=1e-4, atol=1e-4)
