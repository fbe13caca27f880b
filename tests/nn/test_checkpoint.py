"""PyTorch checkpoints: what torch.save wrote, hostile pickles, and names of others."""

import io
import json
import os
import pickle
import struct
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from imgconv.errors import ModelError
from imgconv.nn.builder import Builder
from imgconv.nn.checkpoint import files, unpickler
from imgconv.nn.find import find_network, with_weights
from imgconv.nn.fusion import fuse
from imgconv.nn.layers import BatchNorm2d, Conv2d
from imgconv.nn.models import get_network
from imgconv.nn.stored import Stored
from imgconv.nn.weight_names import as_named, from_timm
from imgconv.nn.weights import fits, load_weights, loaded, opened
from tests.network_samples import CLASSES, golden_network_input, golden_parameters
from tests.running import here

GOLDENS = Path(__file__).parents[1] / "goldens" / "checkpoints"
EXPECTED = np.load(GOLDENS / "expected.npz")
TIMM = np.load(GOLDENS / "timm.npz")
TRAINED = [key for key in EXPECTED.files if key.startswith("module.")]
KINDS = [key for key in EXPECTED.files if key not in TRAINED]


def arrays_of(path):
    with opened(path) as stored:
        return {key: (entry, entry.load()) for key, entry in stored.items()}


def repacked(path, change=lambda name, data: data, method=zipfile.ZIP_STORED, prefix=b""):
    """A checkpoint's entries in an archive of Python's."""
    buffer = io.BytesIO()
    buffer.write(prefix)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(buffer, "a", method) as archive:
        for name in source.namelist():
            data = change(name, source.read(name))
            if data is not None:
                archive.writestr(name, data)
    return buffer.getvalue()


def assert_kinds(path):
    found = arrays_of(path)
    assert list(found) == KINDS
    for key, (entry, array) in found.items():
        expected = EXPECTED[key]
        assert (entry.shape, entry.dtype) == (expected.shape, expected.dtype), key
        assert array.flags.c_contiguous
        assert array.dtype.isnative
        np.testing.assert_array_equal(array, expected, key)


@pytest.mark.parametrize("name", ["kinds.pth", "kinds-legacy.pth"])
def test_every_type_stride_and_shared_storage_is_read(name):
    assert_kinds(GOLDENS / name)


def test_types_of_version_3_are_read():
    ((_, array),) = arrays_of(GOLDENS / "unsigned.pth").values()
    assert (array.tolist(), array.dtype) == ([1, 65535], np.uint16)


def test_deflated_archives_are_read(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(repacked(GOLDENS / "kinds.pth", method=zipfile.ZIP_DEFLATED))
    assert_kinds(path)


def test_big_endian_archives_are_read(tmp_path):
    widths = {}
    with zipfile.ZipFile(GOLDENS / "kinds.pth") as archive:
        unpickled = unpickler.Unpickler(
            io.BytesIO(archive.read("kinds/data.pkl")), "kinds", Recording(),
            lambda identity: widths.setdefault(identity[2], identity[1]),
        )  # fmt: skip
        unpickled.load()
    names = {"Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2,
             "Char": 1, "Byte": 1, "Bool": 1, "ComplexFloat": 4}  # fmt: skip

    def swapped(name, data):
        key = name.rpartition("/")[2]
        if name.endswith("byteorder"):
            return b"big"
        if "/data/" not in name:
            return data
        width = names[widths[key].removesuffix("Storage")]
        return np.frombuffer(data, f"V{width}").view(f"u{width}").byteswap().tobytes()

    path = tmp_path / "w.pt"
    path.write_bytes(repacked(GOLDENS / "kinds.pth", swapped))
    assert_kinds(path)


class Recording(dict):
    """Names that stand for themselves, and can be called to no effect."""

    def __missing__(self, key):
        if key[1].endswith("Storage"):
            return key[1]
        if key[1] == "OrderedDict":
            return unpickler.Constructor(key[1], dict)
        return unpickler.Constructor(key[1], lambda *arguments: None)


def small():
    net = Builder(1, 5, 5)
    net.add("conv", Conv2d(1, 2, 3))
    net.add("bn", BatchNorm2d(2))
    return net.graph()


@pytest.mark.parametrize("name", ["training.pth", "training-legacy.pth"])
def test_weights_are_found_in_what_training_saved_and_said_to_be(name):
    told = []
    found = loaded(load_weights(small(), GOLDENS / name, "small", told.append))
    for key, array in found.items():
        np.testing.assert_array_equal(array, EXPECTED[f"module.{key}"])
    path = GOLDENS / name
    assert told == [
        f"{path}: weights taken from 'state_dict'", f"{path}: took 'module.' off every name"
    ]  # fmt: skip


def test_nothing_is_said_of_plain_weights():
    told = []
    loaded(load_weights(small(), GOLDENS / "plain.pth", "small", told.append))
    assert not told


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (lambda key: f"_orig_mod.module.{key}", ["'_orig_mod.' off", "'module.' off"]),
        (lambda key: f"encoder.body.{key}", ["'encoder.body.' off the names"]),
        (lambda key: key, []),
    ],
)
def test_prefixes_are_taken_off_and_said(names, said):
    graph, told = small(), []
    entries = {names(key): Stored(p.shape, np.dtype("f4"), None)
               for key, p in graph.parameters().items()}  # fmt: skip
    if said == ["'encoder.body.' off the names"]:
        entries["head.weight"] = Stored((3,), np.dtype("f4"), None)
    assert as_named(graph, entries, "w", told.append).keys() == graph.parameters().keys()
    assert len(told) == len(said)
    for message, part in zip(told, said, strict=True):
        assert part in message
    if "head.weight" in entries:
        assert "; ignored the other 1" in told[0]


def test_two_models_in_one_file_are_not_guessed_between():
    graph = small()
    entries = {
        f"{who}.{key}": Stored(p.shape, np.dtype("f4"), None)
        for who in ("student", "teacher") for key, p in graph.parameters().items()
    }  # fmt: skip
    assert as_named(graph, entries, "w", print) is entries


@pytest.mark.parametrize(
    "name", ["resnet50", "vgg16", "vgg16_bn", "efficientnet_b0", "efficientnet_b1"]
)
def test_timms_names_are_mapped(name):
    graph = get_network(f"{name}:classes={CLASSES}").graph
    shapes = json.loads(str(TIMM[name]))
    entries = {key: Stored(tuple(shape), np.dtype("f4"), None) for key, shape in shapes.items()}
    entries = as_named(graph, entries, name, lambda text: None)
    assert fits(graph, {key: entry.shape for key, entry in entries.items()})


def test_timms_efficientnet_computes_what_timm_does():
    shapes = {key: tuple(shape) for key, shape in json.loads(str(TIMM["efficientnet_b0"])).items()}
    arrays = golden_parameters(shapes)
    graph = get_network(f"efficientnet_b0:classes={CLASSES}").graph
    entries = {key: Stored(a.shape, a.dtype, lambda a=a: a) for key, a in arrays.items()}
    renamed = as_named(graph, entries, "timm", lambda text: None)
    graph = fuse(graph.with_parameters({key: e.load() for key, e in renamed.items()}))
    result = graph.run(golden_network_input("efficientnet_b0", 3))["classifier.1"]
    expected = TIMM["output"]
    np.testing.assert_allclose(result, expected, atol=3e-5 * np.abs(expected).max())


def test_timms_dense_layers_as_convolutions_keep_their_order():
    weight = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 2, 2)
    entries = {"pre_logits.fc1.weight": Stored(weight.shape, weight.dtype, lambda: weight),
               "head.fc.weight": Stored((1,), weight.dtype, None)}  # fmt: skip
    found = from_timm(entries, {"classifier.6.weight": None})["classifier.0.weight"]
    assert found.shape == (2, 12)
    np.testing.assert_array_equal(found.load(), weight.reshape(2, -1))


# Hostile pickles, written operation by operation.

PROTO, STOP = b"\x80\x04", b"."


def text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def global_(module, name):
    return text(module) + text(name) + b"\x93"


def storage(kind="FloatStorage", key="0", numel=4):
    """A persistent id of the ZIP form."""
    return (b"(" + text("storage") + global_("torch", kind) + text(key) + text("cpu")
            + struct.pack("<BI", ord("J"), numel & 0xFFFFFFFF) + b"tQ")  # fmt: skip


def number(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def tensor(shape=(2, 2), stride=(2, 1), offset=0, kept=None, call="_rebuild_tensor_v2"):
    sizes = b"".join(b"(" + b"".join(map(number, part)) + b"t" for part in (shape, stride))
    return (global_("torch._utils", call) + b"(" + (kept or storage()) + number(offset) + sizes
            + b"\x89" + global_("collections", "OrderedDict") + b")RtR")  # fmt: skip


def state(*items):
    return PROTO + b"}(" + b"".join(items) + b"u" + STOP


def archive(pickled, data=bytes(16), **others):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as found:
        found.writestr("a/data.pkl", pickled)
        found.writestr("a/data/0", data)
        for name, content in others.items():
            found.writestr(f"a/{name}", content)
    return buffer.getvalue()


RUN = text("touch ran")
CALLS = {
    "os.system": PROTO + global_("os", "system") + RUN + b"\x85R.",
    "posix.system": PROTO + global_("posix", "system") + RUN + b"\x85R.",
    "GLOBAL os": b"cos\nsystem\n(S'touch ran'\ntR.",
    "builtins.eval": PROTO + global_("builtins", "eval") + text("open('ran','w')") + b"\x85R.",
    "nested in a state": state(text("w"), global_("os", "system") + RUN + b"\x85R"),
    "dotted": PROTO + global_("torch", "serialization.os.system") + RUN + b"\x85R.",
    "dotted module": PROTO + global_("collections", "OrderedDict.__class__") + RUN + b"\x85R.",
    "allowed module": PROTO + global_("torch._utils", "_import_dotted_name") + RUN + b"\x85R.",
    "INST": b"(S'touch ran'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch ran'\no.",
    "NEWOBJ": PROTO + global_("collections", "OrderedDict") + b")\x81.",
    "NEWOBJ_EX": PROTO + global_("collections", "OrderedDict") + b")}\x92.",
    "EXT1": b"\x80\x02\x82\x01.", "EXT2": b"\x80\x02\x83\1\0.", "EXT4": b"\x80\x02\x84\1\0\0\0.",
    "result called": PROTO + global_("collections", "OrderedDict") + b")R)R.",
    "text called": PROTO + RUN + RUN + b"\x85R.",
    "type called": PROTO + global_("torch", "FloatStorage") + RUN + b"\x85R.",
    "BUILD of a tensor": PROTO + tensor() + b"}" + text("__setstate__") + RUN + b"sb.",
    "BUILD with a text": PROTO + b"}" + RUN + b"b.",
    "BUILD of a name": PROTO + global_("torch._utils", "_rebuild_parameter") + b"}b.",
    "set": PROTO + b"\x8f.", "PERSID": b"\x80\x02Pstorage\n.", "BYTEARRAY8": b"\x80\x05\x96"
    + bytes(8) + b".", "NEXT_BUFFER": b"\x80\x05\x97.",
    "reduce in __reduce__": pickle.dumps(type("Canary", (), {
        "__reduce__": lambda self: (open, ("ran", "w"))})()),
}  # fmt: skip
BROKEN = {
    "no tuple": PROTO + b"]Q.", "no storage": PROTO + text("storage") + b"\x85Q.",
    "type of another kind": PROTO + b"(" + text("storage") * 5 + b"tQ.",
    "module": PROTO + b"(" + text("module") + RUN * 4 + b"tQ.",
    "key of a tuple": PROTO + b"(" + text("storage") + global_("torch", "FloatStorage") + b")"
    + text("cpu") + b"K\1tQ.",
    "other storage": state(text("w"), tensor(kept=storage(key="1"))),
    "path": state(text("w"), tensor(kept=storage(key="../../etc/passwd"))),
    "more than the file": state(text("w"), tensor(kept=storage(numel=5))),
    "negative count": state(text("w"), tensor(kept=storage(numel=-1))),
    "huge count": state(text("w"), tensor(kept=storage(numel=1 << 30))),
    "past the end": state(text("w"), tensor(shape=(2, 3))),
    "offset past the end": state(text("w"), tensor(offset=1)),
    "negative offset": state(text("w"), tensor(offset=-1)),
    "negative stride": state(text("w"), tensor(stride=(-2, 1))),
    "negative size": state(text("w"), tensor(shape=(-2, 2))),
    "huge": state(text("w"), tensor(shape=(1 << 62, 1 << 62), stride=(1 << 62, 1 << 62))),
    "rank": state(text("w"), tensor(shape=(1,) * 40, stride=(1,) * 40)),
    "sizes without strides": state(text("w"), tensor(stride=(1,))),
    "no storage in a tensor": state(text("w"), tensor(kept=RUN)),
    "sizes of text": PROTO + global_("torch", "Size") + RUN + b"\x85\x85R.",
    "arguments": PROTO + global_("torch._utils", "_rebuild_tensor_v2") + b")R.",
    "no arguments": PROTO + global_("collections", "OrderedDict") + b"NR.",
    "pairs": PROTO + global_("collections", "OrderedDict") + b"]K\1a\x85R.",
    "parameter of a text": PROTO + global_("torch._utils", "_rebuild_parameter") + RUN
    + b"\x89N\x87R.",
    "top is a list": PROTO + b"].", "empty": PROTO + b"}.", "numbers": state(text("w"), b"K\1"),
    "stack": PROTO + b"R.", "no mark": PROTO + b"t.", "pops a mark's": PROTO + b"}(s.",
    "odd items": state(text("w")), "no end": PROTO + b"}", "nothing": b"", "unknown": b"\xff.",
    "memo": PROTO + b"h\7.", "huge memo": PROTO + b"}r\xff\xff\xff\xffj\xfe\xff\xff\xff.",
    "append to a dict": PROTO + b"}Na.", "items of a list": PROTO + b"]NNs.",
    "tuple as a key": state(b")", b"N"), "name of a number": PROTO + b"K\1K\1\x93.",
    "long text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"a.",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"a.",
    "long frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"R.",
    "many digits": b"I" + b"9" * 5000 + b"\n.", "long number": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
    "deep": PROTO + b"(" * 100_000 + b".", "deep tuples": PROTO + b")" + b"\x85" * 200_000 + b".",
    # A tuple of itself twice, sixty times over: hashing or printing it would never end.
    "memo bomb": state(b")" + b"2\x86" * 60, b"N"),
    "memo bomb as a value": state(text("w"), b")" + b"2\x86" * 60),
    "in itself": PROTO + b"}\x94" + text("state_dict") + b"h\0s.",
    "operations": PROTO + b"N0" * (unpickler.MAX_OPERATIONS // 2 + 1) + b"N.",
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS | BROKEN)
def test_hostile_pickles_are_refused_in_a_line_and_nothing_is_called(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickled = (CALLS | BROKEN)[name]
    magic = [pickle.dumps(n, 2) for n in (0x1950A86A20F9469CFC6C, 1001, {})]
    for content in (archive(pickled), b"".join(magic) + pickled, b"\x80\x02" + pickled):
        Path("w.pth").write_bytes(content)
        with pytest.raises(ModelError) as caught:
            arrays_of("w.pth")
        message = str(caught.value)
        assert message.startswith("w.pth: ")
        assert len(message) < 500
        assert "\n" not in message
    assert not Path("ran").exists()
    if name in CALLS:
        Path("w.pth").write_bytes(archive(pickled))
        with pytest.raises(ModelError, match=r"nothing was called: torch\.save\(model\.state_dict"):
            arrays_of("w.pth")


def test_what_is_refused_is_named(tmp_path):
    path = tmp_path / "w.pth"
    for name, expected in (("os.system", "names os.system"),
                           ("dotted", "names torch.serialization.os.system"),
                           ("INST", "names os.system"), ("OBJ", "names os.system")):  # fmt: skip
        path.write_bytes(archive(CALLS[name]))
        with pytest.raises(ModelError, match=expected):
            arrays_of(path)


def test_what_the_hostile_ones_are_made_of_is_read(tmp_path):
    path = tmp_path / "w.pth"
    data = np.array([1, 2, 3, 4], "<f4").tobytes()
    pairs = (global_("collections", "OrderedDict") + b"](]" + text("w") + b"a" + tensor()
             + b"ae\x85R.")  # fmt: skip
    for pickled in (state(text("w"), tensor()), PROTO + pairs):  # the latter is Python 2's
        path.write_bytes(archive(pickled, data))
        assert arrays_of(path)["w"][1].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("name", ["script.pt", "export.pt2", "whole.pth"])
def test_programs_and_whole_models_are_refused_with_advice(name):
    expected = {"script.pt": "TorchScript", "export.pt2": "torch.export",
                "whole.pth": "names torch.nn.modules.container.Sequential"}[name]  # fmt: skip
    with pytest.raises(ModelError, match=rf"{expected}.*torch\.save\(model\.state_dict\(\)"):
        arrays_of(GOLDENS / name)


@pytest.mark.parametrize("name", ["training.pth", "training-legacy.pth"])
def test_a_file_that_ends_early_is_refused(name, tmp_path):
    data, path = (GOLDENS / name).read_bytes(), tmp_path / "w.pth"
    for length in range(0, len(data) - 1, 7):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError, match=r"w\.pth: "):
            arrays_of(path)


def test_a_compressed_bomb_is_not_inflated(tmp_path):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as found:
        found.writestr("a/data.pkl", PROTO + bytes(1 << 25))
    with pytest.raises(ModelError, match=r"data.pkl of 33,554,434 bytes, at most"):
        arrays_of(path)


def test_a_tensor_that_spans_a_bomb_is_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_INFLATED", 1 << 16)
    path = tmp_path / "w.pth"
    kept = storage(numel=1 << 16)
    for stride, refused in (((1 << 15, 1), True), ((2, 1), False)):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as found:
            found.writestr("a/data.pkl", state(text("w"), tensor(stride=stride, kept=kept)))
            found.writestr("a/data/0", bytes(1 << 18))
        with opened(path) as stored:
            if not refused:
                assert not stored["w"].load().any()
                continue
            with pytest.raises(ModelError, match="a tensor spans 131,080 compressed bytes, at"):
                stored["w"].load()


def test_types_that_are_no_weights_are_refused_by_name(tmp_path):
    net = Builder(1, 5, 5)
    net.add("complex64", Conv2d(1, 1, 1, bias=False))
    with opened(GOLDENS / "kinds.pth") as stored:
        assert stored["complex64"].dtype == np.complex64
    path = tmp_path / "w.pth"
    kept = storage("ComplexFloatStorage", numel=1)
    path.write_bytes(
        archive(state(text("complex64.weight"), tensor((1,) * 4, (1,) * 4, kept=kept)))
    )
    with pytest.raises(ModelError, match=r"complex64.weight: complex64, expected numbers"):
        load_weights(net.graph(), path)


def test_the_command_reads_a_checkpoint_and_says_what_it_did(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("m.toml").write_text(
        'input = [1, 8, 8]\n[[layers]]\nname = "conv"\nlayer = "conv2d 2 3"\n'
        '[[layers]]\nname = "bn"\nlayer = "batchnorm"\n'
    )
    result = here("net", "features", "m.toml", "sample:digit", "--weights",
                  GOLDENS / "training.pth", "--layer", "bn", "--format", "npy")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "took 'module.' off every name" in result.stderr
    assert np.load("maps/digit/bn.npy").shape == (2, 6, 6)
    refused = here("net", "predict", "w.pth", "sample:digit")
    assert refused.returncode == 2
    assert "expected the network's name and --weights w.pth" in refused.stderr


def test_weights_for_another_number_of_classes_name_it(tmp_path):
    shapes = {key: p.shape for key, p in get_network("lenet5:classes=3").graph.parameters().items()}
    np.savez(tmp_path / "w.npz", **{key: np.zeros(shape, "f4") for key, shape in shapes.items()})
    with pytest.raises(ModelError, match=r"they are those of lenet5:form=modern,classes=3$"):
        with_weights(find_network("lenet5"), str(tmp_path / "w.npz"), None)
    with pytest.raises(ModelError, match=r"they are those of lenet5:form=modern,classes=3$"):
        with_weights(find_network("alexnet"), str(tmp_path / "w.npz"), None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html></html>", "a web page, expected weights"),
        (b"<html><body>404", "a web page, expected weights"),
    ],
)
def test_what_often_lies_in_the_place_of_a_download_is_named(content, message, tmp_path):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_weights(small(), tmp_path / "w.pth")


def test_a_checkpoint_from_a_pipe_is_refused_in_a_line(tmp_path):
    os.mkfifo(tmp_path / "w.pth")
    data = (GOLDENS / "training-legacy.pth").read_bytes()
    writer = threading.Thread(target=(tmp_path / "w.pth").write_bytes, args=(data,))
    writer.start()
    with pytest.raises(ModelError, match=r"w\.pth: "):
        load_weights(small(), tmp_path / "w.pth")
    writer.join()
