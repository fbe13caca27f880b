"""Write the first inputs of every target: python -m tests.fuzz.make_seeds FOLDER"""

import gzip
import io
import json
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from imgconv.io.codecs import netpbm
from imgconv.io.png import writer as png_writer
from imgconv.npy import encode_npz
from imgconv.safetensors import write_safetensors
from tests import png_maker

RAMP = np.arange(6 * 7 * 3, dtype=np.uint8).reshape(6, 7, 3)
CHECKPOINTS = Path(__file__).parents[1] / "goldens" / "checkpoints"
KERNEL = np.array([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]])


def saved(picture, form, **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def joined(pieces):
    return b"".join(bytes(piece) for piece in pieces)


def saved_array(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def tensors(**named):
    buffer = io.BytesIO()
    write_safetensors(buffer, named, {"about": "seed"})
    return buffer.getvalue()


def made(color, depth):
    samples = png_maker.random_samples(np.random.default_rng(depth), 5, 6, color, depth)
    palette = png_maker.chunk(b"PLTE", bytes(range(48)) * 16) if color == 3 else b""
    return png_maker.make(
        samples, depth, color, (0, 1, 2, 3, 4), interlaced=depth == 4, before=palette
    )


NETWORKS = [
    """input = [3, 8, 8]
labels = ["cat", "dog"]
[preprocess]
resize = [8, 8]
mean = [0.5, 0.5, 0.5]
[[layers]]
name = "conv1"
layer = "conv2d 4 3 padding=1"
[[layers]]
layer = "relu"
inputs = ["conv1"]
""",
    'input = [1, 8, 8]\nsteps = ["conv2d 4 3", "relu", "maxpool 2", "flatten", "linear 3"]\n',
]


def models():
    """ONNX models of a few operators."""
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((2, 3, 3, 3), np.float32), "w")
    nodes = [
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])],
        [helper.make_node("Relu", ["x"], ["z"]), helper.make_node("Flatten", ["z"], ["y"])],
    ]
    for chain in nodes:
        source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        kept = [weight] if chain[0].op_type == "Conv" else []
        graph = helper.make_graph(chain, "seed", [source], [result], kept)
        yield helper.make_model(graph).SerializeToString()


def quantized():
    """Models of integers: quantized before and after, and between floats."""
    from onnx import TensorProto, helper, numpy_helper

    held = {
        "s": np.float32(0.5), "z": np.uint8(3), "n": np.int8(-2),
        "w": np.ones((2, 3, 2, 2), np.int8), "m": np.ones((4, 3), np.int8),
        "t": np.float32([0.5, 0.25]),
    }  # fmt: skip
    node = helper.make_node
    before, after = node("QuantizeLinear", ["x", "s", "z"], ["q"]), node(
        "DequantizeLinear", ["p", "s", "z"], ["y"]
    )  # fmt: skip
    for inner in (
        [node("QLinearConv", ["q", "s", "z", "w", "s", "n", "s", "z"], ["p"], pads=[1, 1, 0, 0])],
        [node("QLinearMatMul", ["q", "s", "z", "m", "s", "n", "s", "z"], ["p"])],
        [node("ConvInteger", ["q", "w", "z"], ["i"]), node("Cast", ["i"], ["p"], to=2)],
        [node("DequantizeLinear", ["q", "s", "z"], ["f"]),
         node("DynamicQuantizeLinear", ["f"], ["p", "ps", "pz"])],
        [node("MaxPool", ["q"], ["p"], kernel_shape=[2, 2])],
        [node("DequantizeLinear", ["w", "t"], ["d"], axis=0), node("Conv", ["x", "d"], ["c"]),
         node("QuantizeLinear", ["c", "s", "z"], ["p"])],
    ):  # fmt: skip
        source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in held.items()]
        graph = helper.make_graph([before, *inner, after], "seed", [source], [result], tensors)
        yield helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
        ).SerializeToString()


def parts_of_metadata():
    """An EXIF block, a packet of XMP, Photoshop's resources, texts, and files that have them."""
    exif = Image.Exif()
    exif[0x010E], exif[0x0112], exif[0x011A], exif[0x011B], exif[0x0128] = "seed", 6, 72.0, 72.0, 2
    exif.get_ifd(0x8769).update({0x9003: "2024:01:01 00:00:00", 0xA002: 7, 0xA003: 6})
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    block = exif.tobytes()[6:]
    packet = (
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-"
        b"syntax-ns#'><rdf:Description rdf:about='' xmlns:tiff='http://ns.adobe.com/tiff/1.0/' "
        b"tiff:Orientation='6'><tiff:XResolution>72/1</tiff:XResolution></rdf:Description>"
        b"</rdf:RDF></x:xmpmeta>"
    )
    iptc = b"\x1c\x02\x05\x00\x04seed"
    resource = b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc + bytes(len(iptc) % 2)
    dots = b"8BIM\x03\xed\0\0\0\0\0\x10" + bytes([0, 72, 0, 0, 0, 1, 0, 1] * 2)
    yield from (b"\0" + block, b"\1" + packet, b"\2" + resource + dots)
    yield from (b"\3tEXtTitle\0seed", b"\3zTXtTitle\0\0" + zlib.compress(b"seed"),
                b"\3iTXtTitle\0\0\0en\0\0seed", b"\3cHRM" + bytes(32))  # fmt: skip
    yield b"\4ImageJ=1.53\nimages=2\nslices=2\nunit=micron\nmin=0\nmax=255\n"
    yield (
        b"\4<OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06'><Image ID='Image:0'>"
        b"<Pixels ID='Pixels:0' DimensionOrder='XYCZT' Type='uint8' SizeX='7' SizeY='6' SizeC='3' "
        b"SizeZ='1' SizeT='1' PhysicalSizeX='0.5' PhysicalSizeY='0.5'><Channel ID='Channel:0:0' "
        b"SamplesPerPixel='3'/><TiffData IFD='0'/></Pixels></Image></OME>"
    )
    picture = Image.fromarray(RAMP)
    for form in ("JPEG", "PNG", "WEBP", "TIFF"):
        yield b"\5" + saved(picture, form, exif=exif)


def zarrs():
    """Descriptions of arrays, each with its chunk."""
    chunk = np.arange(12, dtype="<u2").tobytes()
    two = {"zarr_format": 2, "shape": [3, 4], "chunks": [3, 4], "dtype": "<u2", "order": "C",
           "compressor": None, "fill_value": 0, "filters": None}  # fmt: skip
    three = {
        "zarr_format": 3, "node_type": "array", "shape": [3, 4], "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3, 4]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
    }  # fmt: skip
    packed = zlib.compress(chunk)
    shards = {"name": "sharding_indexed", "configuration": {
        "chunk_shape": [3, 2], "codecs": three["codecs"], "index_codecs": three["codecs"],
        "index_location": "end",
    }}  # fmt: skip
    for kind, table, content in (
        (b"\0", two, chunk), (b"\0", two | {"compressor": {"id": "zlib", "level": 1}}, packed),
        (b"\0", two | {"dimension_separator": "/", "filters": [{"id": "delta", "dtype": "<u2"}]},
         chunk),
        (b"\1", three, chunk), (b"\1", three | {"codecs": [shards]}, chunk),
        (b"\1", three | {"codecs": [*three["codecs"], {
            "name": "gzip", "configuration": {"level": 1}}]}, gzip.compress(chunk, mtime=0)),
    ):  # fmt: skip
        yield kind + json.dumps(table).encode() + b"\0\0" + content


def records():
    """Records of the three commands."""
    rest = {"imgconv": "0.1.0", "record": 1, "input": {"name": "a.png", "sha256": "0" * 64}}
    options = {"kernel": ["sobel-x"], "padding": "1,2", "pad-value": "0.5", "format": "png"}
    own = '{"name":"k","weights":[[0,1],[2,3]],"divisor":9,"labels":["a"]}'
    yield {**rest, "command": "apply", "options": options}
    yield {**rest, "command": "apply", "options": {
        "kernel": [own, "gaussian:2"], "sheet": True, "tile": "64", "scale": "abs", "frame": "3",
        "pool": "max:2", "activation": "relu", "format": "jpeg",
    }}  # fmt: skip
    yield {**rest, "command": "run", "chain": f"gray | conv '{own}' stride=2 | maxpool 2",
           "options": {"keep": ["2"], "format": "npz"}, "map": "2-conv"}  # fmt: skip
    yield {**rest, "command": "net features", "network": {"name": "lenet5"}, "layer": "c1",
           "options": {"layer": ["c*"], "seed": "1", "format": "png"}, "map": "0"}  # fmt: skip
    yield {"imgconv": "0.1.0", "record": 1, "unrepeatable": "too long"}


def checkpoints():
    """Small files of torch.save, and the pickles within."""
    for path in sorted(CHECKPOINTS.glob("*.p*")):
        yield path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
                yield from map(archive.read, names)


def seeds():
    """Target → inputs."""
    picture = Image.fromarray(RAMP)
    palette = picture.quantize(8)
    npy = saved_array(KERNEL)
    npz = joined(encode_npz({"a": KERNEL, "b": KERNEL[:2]}, compress=True))
    own = [
        joined(png_writer.encode(RAMP, compress=level, text={"imgconv": "{}"}))
        for level in ("fast", 9)
    ]
    own += [saved(palette, "PNG", transparency=3), saved(picture.convert("1"), "PNG")]
    own += [saved(Image.fromarray(RAMP[..., 0].astype(np.uint16) * 257), "PNG")]
    pictures = [
        saved(picture, form)
        for form in ("JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "QOI", "SGI", "PCX", "DDS")
    ]
    pictures += [saved(picture, "TIFF", compression="tiff_lzw"), *own]
    pictures += [joined(netpbm.encode(RAMP[..., :1].astype(np.float32), "pfm"))]
    pictures += [b"P2 2 2 9\n1 2 3 4\n", b"1 2 3\n4 5 6\n", npy, npz]
    texts = [
        "sobel", "gaussian:sigma=2", "gabor:theta=30,lambda=8", "box:size=5", "dog:1,2",
        "0 -1 0; -1 5 -1; 0 -1 0", "1/9 1/9 1/9\n1/9 1/9 1/9\n1/9 1/9 1/9", "3x3: 1,2,1 nan 1 2 1",
        "3 3 9 0\n1 1 1\n1 1 1\n1 1 1", "motion:length=9,angle=30", "disk:radius=3", "log:1.4",
    ]  # fmt: skip
    toml = "[edge]\nmatrix = [[0, 1], [1, 0]]\ndivisor = 2\ndescription = 'seed'\n"
    files = [b"\0" + toml.encode(), b"\1[[1, 2], [3, 4]]", b"\x021,2\n3,4\n", b"\x031 2\n3 4\n"]
    files += [b"\4" + npy, b"\5" + npz, b"\6" + tensors(weight=KERNEL[None, None])]
    files += [b"\7" + b"3 3 9 0\n1 1 1\n1 1 1\n1 1 1\n"]
    chains = [
        "gray | conv gaussian:sigma=1 | conv sobel | relu | maxpool 2",
        "conv sobel-x stride=2 | abs | avgpool 3 stride=2 padding=1",
        "conv '1 2; 3 4' padding=1,2 dilation=2 mode=circular | softmax",
        "leaky-relu:0.2 | global-avgpool", "adaptive-avgpool 3 | lppool 2", "minpool 2 | gelu",
    ]  # fmt: skip
    return {
        "png": own + [made(color, depth) for color, depth in png_maker.TYPES],
        "image": pictures,
        "kernel": [text.encode() for text in texts],
        "kernel_file": files,
        "chain": [text.encode() for text in chains],
        "safetensors": [tensors(), tensors(a=KERNEL, b=RAMP), tensors(c=KERNEL.astype(np.float32))],
        "checkpoint": list(checkpoints()),
        "network": [text.encode() for text in NETWORKS],
        "onnx": list(models()),
        "quantized": [*models(), *quantized()],
        "metadata": list(parts_of_metadata()),
        "zarr": list(zarrs()),
        "record": [json.dumps(one).encode() for one in records()],
        "arrays": [npy, npz, saved_array(RAMP), saved_array(KERNEL.T)],
    }


def main():
    for name, inputs in seeds().items():
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / f"seed-{number:02}").write_bytes(data)


if __name__ == "__main__":
    main()
