"""Zarr arrays are described by anybody: codecs run only if they are known, chunks have a limit."""

import copy
import json
import pickle
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgconv.errors import ImageError, LimitError
from imgconv.io.reading import read_images
from imgconv.io.zarr.arrays import ZarrRows
from imgconv.io.zarr.metadata import read_node
from tests.running import here

zarr = pytest.importorskip("zarr")
numcodecs = pytest.importorskip("numcodecs")
from zarr.abc.codec import BytesBytesCodec  # noqa: E402
from zarr.registry import register_codec  # noqa: E402

RUN = []  # what the canaries below were given to decode
IMAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)
CHUNK = IMAGE.tobytes()


class Canary2(numcodecs.abc.Codec):
    """A codec of version 2 that says when it is run, as numcodecs' pickle runs what it is given."""

    codec_id = "imgconv-canary"

    def encode(self, buf):
        return buf

    def decode(self, buf, out=None):
        RUN.append(buf)
        return buf


@dataclass(frozen=True)
class Canary3(BytesBytesCodec):
    """The same of version 3."""

    is_fixed_size = True

    @classmethod
    def from_dict(cls, _):
        return cls()

    def to_dict(self):
        return {"name": "imgconv-canary"}

    async def _decode_single(self, data, spec):
        RUN.append(data)
        return data

    async def _encode_single(self, data, spec):
        return data

    def compute_encoded_size(self, size, spec):
        return size


numcodecs.register_codec(Canary2)
register_codec("imgconv-canary", Canary3)


class Payload:
    """Pickles as a call that makes a file."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return (open, (self.canary, "w"))


def v2(folder, chunk=CHUNK, **changes):
    """Write an array of version 2 by hand."""
    folder.mkdir(parents=True)
    array = {"zarr_format": 2, "shape": [8, 8], "chunks": [8, 8], "dtype": "|u1", "order": "C",
             "fill_value": 0, "filters": None, "compressor": None} | changes  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(array))
    (folder / "0.0").write_bytes(chunk)


def v3(folder, codecs, chunks=(8, 8), chunk=CHUNK, **changes):
    """Write an array of version 3 by hand."""
    (folder / "c" / "0").mkdir(parents=True)
    array = {
        "zarr_format": 3, "node_type": "array", "shape": [8, 8], "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": codecs,
        "attributes": {},
    } | changes  # fmt: skip
    (folder / "zarr.json").write_text(json.dumps(array))
    (folder / "c" / "0" / "0").write_bytes(chunk)


BYTES = {"name": "bytes"}
CANARY = {"name": "imgconv-canary"}
INDEX = [{"name": "bytes", "configuration": {"endian": "little"}}]


def shard(codecs, index=INDEX, inner=(8, 8)):
    """A chunk of version 3 that holds chunks."""
    options = {"chunk_shape": inner, "codecs": codecs, "index_codecs": index,
               "index_location": "end"}  # fmt: skip
    return {"name": "sharding_indexed", "configuration": options}


SHARD = CHUNK + np.array([0, 64], "<u8").tobytes()
HOSTILE = {
    "compressor": lambda to: v2(to, compressor={"id": "imgconv-canary"}),
    "filter": lambda to: v2(to, filters=[{"id": "zlib"}, {"id": "imgconv-canary"}]),
    "chain": lambda to: v3(to, [BYTES, CANARY]),
    "shard": lambda to: v3(to, [shard([BYTES, CANARY])], chunk=SHARD),
    "index": lambda to: v3(to, [shard([BYTES], [*INDEX, CANARY])], chunk=SHARD),
    "after a shard": lambda to: v3(to, [shard([BYTES]), CANARY], chunk=SHARD),
}


def hostile_group(to, how):
    """An OME-Zarr image whose level is hostile."""
    to.mkdir()
    scales = [{"axes": ["y", "x"], "datasets": [{"path": "0"}]}]
    (to / "zarr.json").write_text(json.dumps(
        {"zarr_format": 3, "node_type": "group", "attributes": {"multiscales": scales}}
    ))  # fmt: skip
    HOSTILE[how](to / "0")


@pytest.mark.parametrize("how", HOSTILE)
@pytest.mark.parametrize("inside", ["array", "group"])
def test_a_codec_that_is_not_known_is_never_run(tmp_path, how, inside):
    RUN.clear()
    if inside == "array":
        HOSTILE[how](tmp_path / "a.zarr")
    else:
        hostile_group(tmp_path / "a.zarr", how)
    out = tmp_path / "out.png"
    result = here("apply", "-k", "identity", tmp_path / "a.zarr", "-o", out)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert "a.zarr: Zarr codec 'imgconv-canary' is not run, expected " in result.stderr
    assert not RUN
    assert not out.exists()


def test_a_codec_is_not_run_by_url_either_nor_where_an_image_is_replaced(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    RUN.clear()
    v2(tmp_path / "a.zarr", compressor={"id": "imgconv-canary"})
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.put(str(tmp_path / "a.zarr"), "/images/a.zarr", recursive=True)
    for url in ("memory://images/a.zarr", f"file://{tmp_path}/a.zarr"):
        result = here("apply", "-k", "identity", url, "-o", tmp_path / "out.png")
        assert result.returncode == 1
        assert "'imgconv-canary' is not run" in result.stderr
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    for target in (tmp_path / "a.zarr", "memory://images/a.zarr"):
        result = here("apply", "-k", "identity", tmp_path / "photo.png", "-o", target,
                      "--overwrite")  # fmt: skip
        assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(zarr.open(tmp_path / "a.zarr", mode="r")["0"][0], IMAGE)
    assert not RUN


@pytest.mark.parametrize("dtype", ["|u1", "|O"])
def test_row_14_a_pickle_in_a_chunk_is_refused_and_its_payload_not_run(tmp_path, dtype):
    canary = tmp_path / "canary"
    payload = pickle.dumps(Payload(str(canary)))
    v2(tmp_path / "a.zarr", payload, compressor={"id": "pickle"}, dtype=dtype)
    v2(tmp_path / "b.zarr", payload, filters=[{"id": "pickle"}], dtype=dtype)
    for name in ("a.zarr", "b.zarr"):
        result = here("apply", "-k", "identity", tmp_path / name, "-o", tmp_path / "out.png")
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert ("'pickle' is not run" if dtype == "|u1" else "Zarr of '|O'") in result.stderr
    assert not canary.exists()


def test_the_codecs_of_numbers_are_run(tmp_path):
    smooth = np.arange(64, dtype="<f4").reshape(8, 8)
    filters = {
        "delta": numcodecs.Delta("<f4"), "shuffle": numcodecs.Shuffle(4),
        "fixedscaleoffset": numcodecs.FixedScaleOffset(0, 1, "<f4", "<i2"),
        "astype": numcodecs.AsType("<f8", "<f4"), "crc32": numcodecs.CRC32(), "none": None,
    }  # fmt: skip
    compressors = [numcodecs.Blosc(), numcodecs.BZ2(), numcodecs.GZip(), numcodecs.LZ4(),
                   numcodecs.LZMA(), numcodecs.Zlib(), numcodecs.Zstd(), None]  # fmt: skip
    for number, (chosen, compressor) in enumerate(
        [(f, numcodecs.Zlib()) for f in filters.values()] + [(None, c) for c in compressors]
    ):
        path = tmp_path / f"{number}.zarr"
        array = zarr.create_array(
            path, shape=smooth.shape, dtype="<f4", chunks=(4, 4), zarr_format=2,
            filters=[chosen] if chosen else None, compressors=compressor,
        )  # fmt: skip
        array[...] = smooth
        rows = ZarrRows(str(path))
        got = np.empty((8, 8, 1), np.float32)
        rows.rows_into(got[:4])
        rows.rows_into(got[4:])
        np.testing.assert_array_equal(got[..., 0], smooth)
    zarr.create_array(tmp_path / "s.zarr", data=smooth, chunks=(4, 4), shards=(8, 8))
    got = np.empty((4, 8, 1), np.float32)
    ZarrRows(str(tmp_path / "s.zarr")).rows_into(got)
    np.testing.assert_array_equal(got[..., 0], smooth[:4])


@pytest.mark.parametrize("changes", [
    {"filters": [{"id": "delta", "dtype": "|O"}]}, {"filters": [{"id": "astype",
    "encode_dtype": "u1", "decode_dtype": [["a", "O"]]}]}, {"filters": 7}, {"filters": [7]},
    {"compressor": []}, {"compressor": {"id": ["zlib"]}}, {"dtype": [["a", "|u1"]]},
    {"dtype": "|V8"}, {"dtype": "<m8[ns]"}, {"chunks": [8, 0]}, {"chunks": [8]}, {"chunks": None},
    {"shape": [8, -8]}, {"shape": [1 << 31, 1 << 31]}, {"shape": [True, 8]}, {"zarr_format": 3},
    {"chunks": [1e3, 8]},
])  # fmt: skip
def test_what_makes_no_sense_in_a_description_is_one_line(tmp_path, changes):
    v2(tmp_path / "a.zarr", **changes)
    with pytest.raises(ImageError, match=r"a\.zarr: (Zarr|zarr_format)"):
        ZarrRows(str(tmp_path / "a.zarr"))


VALUES = [
    None, True, 0, 1, -1, 3, 8, 2**31, 2**61, 2**63, 1e3, -0.5, "", "0", "y", "zstd", "|u1", "<f8",
    "float64", "NaN", "sharding_indexed", [], {}, [[]], [{}], [1, 1], [5, 6], ["y", "x"], BYTES,
    {"id": "zlib"}, {"id": "blosc"}, {"id": "delta", "dtype": "<f8"}, "a" * 50,
    {"name": "transpose", "configuration": {"order": [1, 0]}},
]  # fmt: skip


def places(tree, path=()):
    """The paths to all that is in a JSON value."""
    if not isinstance(tree, (dict, list)):
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        yield from places(value, (*path, key))


def test_drawn_descriptions_are_read_or_refused_in_one_line(tmp_path):
    draw = random.Random(15)
    stack = np.arange(2 * 12 * 14, dtype="u1").reshape(2, 12, 14)
    names = [tmp_path / name for name in ("a.zarr", "b.zarr", "c.zarr")]
    zarr.create_array(names[0], data=stack, chunks=(1, 5, 6), shards=(1, 10, 12),
                      dimension_names=("t", "y", "x"))  # fmt: skip
    zarr.create_array(names[1], data=stack[0], chunks=(5, 6), zarr_format=2)
    group = zarr.create_group(names[2], zarr_format=2)
    group.create_array("0", data=stack, chunks=(1, 5, 6))
    axes = [{"name": name} for name in "tyx"]
    group.attrs.update({"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]})
    files = [names[0] / "zarr.json", names[1] / ".zarray", names[2] / ".zattrs",
             names[2] / "0" / ".zarray"]  # fmt: skip
    texts = {file: file.read_text() for file in files}
    read, said = 0, []
    for _ in range(300):
        file = draw.choice(files)
        tree = json.loads(texts[file])
        for _ in range(draw.randint(1, 3)):
            *path, last = draw.choice(list(places(tree)) or [("x",)])
            target = tree
            for key in path:
                target = target[key]
            target[last] = copy.deepcopy(draw.choice(VALUES))
        file.write_text(json.dumps(tree))
        root = next(name for name in names if name in file.parents)
        try:
            for _ in read_images(root, frame="all", max_pixels=10**6):
                pass
            read += 1
        except (ImageError, LimitError) as error:
            said.append((root.name, str(error)))
        file.write_text(texts[file])
    assert read > 5
    assert len(said) > 100
    for name, line in said:
        assert name in line
        assert "\n" not in line


@pytest.mark.parametrize("path", ["../b.zarr", "/../b.zarr", "x/../../b.zarr", "", "..\\b", "a//b"])
def test_a_level_lies_inside_its_image(tmp_path, path):
    v2(tmp_path / "b.zarr")
    scales = [{"axes": ["y", "x"], "datasets": [{"path": path}]}]
    (tmp_path / "a.zarr" / "x").mkdir(parents=True)
    (tmp_path / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "a.zarr" / ".zattrs").write_text(json.dumps({"multiscales": scales}))
    with pytest.raises(ImageError, match=r"a\.zarr: "):
        ZarrRows(str(tmp_path / "a.zarr"))


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"shape": [' + "9" * 5000 + "]}", "7"])
def test_a_broken_description_is_one_line(tmp_path, text):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / ".zarray").write_text(text)
    with pytest.raises(ImageError, match=r"a\.zarr: \.zarray is not a JSON object"):
        read_node("a.zarr", str(tmp_path / "a.zarr"))


def test_a_scan_takes_a_folder_for_zarr_only_by_its_name(tmp_path):
    RUN.clear()
    photos = tmp_path / "photos"
    v2(photos / "holiday", compressor={"id": "imgconv-canary"})
    v2(photos / "scans" / "good.ZARR")
    Image.fromarray(IMAGE).save(photos / "holiday" / "beach.png")
    result = here("apply", "-k", "identity", photos, "--recursive", "-o", f"{tmp_path}/out/",
                  "--format", "png")  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    made = {path.stem for path in Path(tmp_path / "out").rglob("*") if path.is_file()}
    assert made == {"beach", "good"}
    # One that is named is an image, and checked.
    result = here("apply", "-k", "identity", photos / "holiday", "-o", tmp_path / "x.png")
    assert result.returncode == 1
    assert "'imgconv-canary' is not run" in result.stderr
    assert not RUN


def test_a_local_folder_is_never_taken_for_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("simplecache::ftp:", "127.0.0.1:9", "a.zarr")
    v2(path)
    result = here("apply", "-k", "identity", path, "-o", "out.png")
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.asarray(Image.open("out.png")), IMAGE)


@pytest.mark.parametrize("kind", ["v2", "v3", "shard", "index"])
def test_a_chunk_of_a_declared_size_beyond_the_limit_is_refused(tmp_path, kind):
    side = [60_000, 60_000]
    if kind == "v2":
        v2(tmp_path / "a.zarr", chunks=side)
    elif kind == "v3":
        v3(tmp_path / "a.zarr", [BYTES], side)
    elif kind == "shard":
        v3(tmp_path / "a.zarr", [shard([BYTES], inner=side)], [120_000, 60_000])
    else:
        v3(tmp_path / "a.zarr", [shard([BYTES], inner=[1, 1])], side)
    result = here("apply", "-k", "identity", tmp_path / "a.zarr", "-o", tmp_path / "out.png")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "60000×60000 pixels" in result.stderr
    assert "--memory" in result.stderr
    with pytest.raises(LimitError):
        ZarrRows(str(tmp_path / "a.zarr"), memory=1 << 30)
    ZarrRows(str(tmp_path / "a.zarr"), memory=1 << 36)


def test_a_chunk_as_large_as_the_image_needs_no_memory_option(tmp_path):
    v2(tmp_path / "a.zarr", shape=[13_000, 12_000], chunks=[13_312, 12_288], dtype="<f8")
    ZarrRows(str(tmp_path / "a.zarr"))
    # Small chunks in a large shard are read one by one.
    v3(tmp_path / "b.zarr", [shard([BYTES], inner=[512, 512])], [61_440, 61_440])
    ZarrRows(str(tmp_path / "b.zarr"))


def test_frames_that_are_only_declared_are_not_gone_through(tmp_path):
    path = tmp_path / "a.zarr"
    v3(path, [BYTES], [1, 8, 8], shape=[1 << 40, 8, 8], dimension_names=["t", "y", "x"])
    run = ["apply", "-k", "identity", path, "-o", tmp_path / "out.png", "--frame"]
    result = here(*run, "all")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "1099511627776 frames, more than the 1048576 of --frame all" in result.stderr
    assert here(*run, "1099511627775").returncode == 0
