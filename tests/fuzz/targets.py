"""What is fuzzed: each target takes bytes and either works or raises an ImgconvError of one line.

Any other exception, a warning that Python would print, a hang or too much memory is a finding.
Targets that read a path get it from a file in memory, so that a run leaves nothing behind.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator

from imgconv.errors import ImgconvError

MAX_PIXELS = 1 << 18
# Python prints these only when it is told to.
SILENT = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
TARGETS: dict[str, Callable[[bytes], None]] = {}


def target(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Register a function as a target under its name."""

    def guarded(data: bytes) -> None:
        message = "none"
        # Not made errors: Python's parser turns those into a SyntaxError, which is caught.
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                function(data)
            except ImgconvError as error:
                message = str(error)
        assert message.strip(), "an error that says nothing"
        for warning in warned:
            if f"{os.sep}zarr{os.sep}" in warning.filename:
                continue  # in threads of its own; the command line shows no package's remarks
            assert issubclass(warning.category, SILENT), f"a second line: {warning.message}"

    TARGETS[function.__name__] = guarded
    return guarded


@contextlib.contextmanager
def file_of(data: bytes, suffix: str) -> Iterator[str]:
    """A path that ends in `suffix` and reads as `data`."""
    descriptor = os.memfd_create("fuzz")
    path = f"/tmp/imgconv-fuzz-{os.getpid()}{suffix}"
    try:
        os.write(descriptor, data)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(f"/proc/{os.getpid()}/fd/{descriptor}", path)
        yield path
    finally:
        os.unlink(path)
        os.close(descriptor)


@target
def png(data: bytes) -> None:
    """Our own PNG reader, with checksums made right so that mutations reach behind them."""
    from imgconv.io.png import reader

    for candidate in (data, with_right_checksums(data)):
        with contextlib.suppress(ImgconvError):
            reader.decode(candidate, max_pixels=MAX_PIXELS, name="fuzz")


def with_right_checksums(data: bytes) -> bytes:
    """The same chunks, each with the checksum of what it holds."""
    import zlib

    pieces, position = [data[:8]], 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end > len(data):
            break
        body = data[position + 4 : end]
        pieces.append(data[position : position + 4] + body + zlib.crc32(body).to_bytes(4, "big"))
        position = end + 4
    return b"".join(pieces) + data[position:]


@target
def image(data: bytes) -> None:
    """Everything that `read_images` sniffs, every frame up to the fourth."""
    from imgconv.io.reading import read_images

    for number, _ in enumerate(read_images(data, frame="all", max_pixels=MAX_PIXELS)):
        if number == 3:
            break


@target
def kernel(data: bytes) -> None:
    """What stands after -k, and what is read from standard input."""
    from imgconv.kernels import get_kernel, parse_kernel_text

    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(ImgconvError):
        parse_kernel_text(text, "-")
    if "/" not in text:  # no file of this machine
        get_kernel(text)


@target
def kernel_file(data: bytes) -> None:
    """The first byte picks the kind of file."""
    from imgconv.kernels import load_kernel_file

    suffixes = (".toml", ".json", ".csv", ".txt", ".npy", ".npz", ".safetensors", ".mat")
    with file_of(data[1:], suffixes[data[0] % len(suffixes)] if data else ".txt") as path:
        load_kernel_file(path)


@target
def chain(data: bytes) -> None:
    """The chain of `imgconv run`, and its run on a tiny image when it parses."""
    import numpy as np

    from imgconv.nn.chain import parse_chain, trace

    text = data.decode("utf-8", "surrogateescape")
    if "/" in text or text.endswith(".toml"):
        return
    steps = parse_chain(text)
    pixels = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
    for _, maps in trace(pixels, steps[:4]):
        assert maps.ndim == 3


@target
def safetensors(data: bytes) -> None:
    """Arrays behind a header; all of them are touched."""
    from imgconv.safetensors import read_metadata, read_safetensors

    with file_of(data, ".safetensors") as path:
        for array in read_safetensors(path).values():
            array.tobytes()
        read_metadata(path)


@target
def checkpoint(data: bytes) -> None:
    """A PyTorch checkpoint, or the pickle of one that has 64 bytes of numbers."""
    import io
    import math
    import zipfile

    from imgconv.nn.weights import opened

    candidates = [data]
    if data[:2] != b"PK":
        wrapped = io.BytesIO()
        with zipfile.ZipFile(wrapped, "w") as archive:
            archive.writestr("a/data.pkl", data)
            archive.writestr("a/data/0", bytes(64))
        candidates.append(wrapped.getvalue())
    for content in candidates:
        with (
            contextlib.suppress(ImgconvError),
            file_of(content, ".pth") as path,
            opened(path) as stored,
        ):
            for entry in stored.values():
                # Weights are compared with their network's shapes before they are loaded.
                if math.prod(entry.shape) <= 1 << 16:
                    assert entry.load().shape == entry.shape


@target
def arrays(data: bytes) -> None:
    """NPY and NPZ images, whatever their first bytes say."""
    from imgconv.io.reading import read_images

    kind = "npz" if data[:2] == b"PK" else "npy"
    for number, _ in enumerate(
        read_images(data, format=kind, frame="all", max_pixels=MAX_PIXELS, name="fuzz")
    ):
        if number == 3:
            break


@target
def network(data: bytes) -> None:
    """A network described in TOML, as far as its shapes."""
    from imgconv.nn.user import file_network

    with file_of(data, ".toml") as path:
        file_network(path).graph.shapes()


@target
def onnx(data: bytes) -> None:
    """An ONNX model, as far as its shapes."""
    from imgconv.nn.onnx import load_onnx

    with file_of(data, ".onnx") as path:
        load_onnx(path).shapes()


@target
def record(data: bytes) -> None:
    """The record in an output, as far as the work that it asks for; nothing of it is run."""
    from imgconv.cli.commands.repeat import blamed, values_of
    from imgconv.pipeline.records.origin import Origin
    from imgconv.pipeline.records.record import parse
    from imgconv.pipeline.rerun import work_of
    from imgconv.pipeline.settings import ReadSettings
    from imgconv.pipeline.settings.repeat import RepeatSettings

    found = parse(data.decode("utf-8", "surrogateescape"), "fuzz")
    assert found.words("image.png")[0] == "imgconv"
    if found.network:
        return  # whose weights would be drawn: seconds for VGG
    settings = RepeatSettings(read=ReadSettings(max_pixels=MAX_PIXELS))
    with blamed("fuzz"):
        origin = Origin("image.png", known="0" * 64)
        work_of(found, "fuzz", settings, origin, values_of(found, settings))


@target
def metadata(data: bytes) -> None:
    """A part of a file's metadata, or a file with it: checked, made a smaller result's, written.

    The first byte picks the part.
    """
    import numpy as np

    from imgconv.io.formats import FORMATS
    from imgconv.io.image import Image
    from imgconv.io.metadata import SAME, Change, Grid, Metadata, adjusted, checked
    from imgconv.io.metadata.exif import Broken, decoded
    from imgconv.io.metadata.scientific import calibration_of
    from imgconv.io.reading import read_images
    from imgconv.io.writing import encode

    kind, content = data[0] % 6 if data else 0, data[1:]
    found: Metadata | None = None
    if kind < 3:
        found = checked("fuzz", Metadata(**{("exif", "xmp", "resources")[kind]: content}))
    elif kind == 3:
        found = Metadata(chunks=((content[:4], content[4:]),), comments=(decoded(content),))
    elif kind == 4:
        with contextlib.suppress(Broken):  # as the reader of TIFF takes it
            found = Metadata(calibration=calibration_of(decoded(content), None, 0, 1))
    else:
        for image in read_images(content, max_pixels=MAX_PIXELS):
            assert isinstance(image, Image)
            found = image.metadata
    if found is None:
        return
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    for grid in (SAME, Grid((0.5, 0.5), (2.0, 3.0)), None):
        change = Change(grid, (4, 4), grid == SAME, grid == SAME)
        carried = adjusted(found, change)
        for form in ("png", "tiff", "jpeg", "webp"):
            for piece in encode(pixels, FORMATS[form], metadata=carried, record={"imgconv": "0"}):
                assert piece is not None


@target
def zarr(data: bytes) -> None:
    """What a Zarr array says of itself, with one chunk; the first byte picks version 2 or 3."""
    import tempfile

    from imgconv.errors import LimitError
    from imgconv.io.zarr.arrays import images

    def check(height: int, width: int) -> None:
        if height * width > MAX_PIXELS:
            raise LimitError(f"{height}×{width}")

    two = bool(data) and data[0] % 2 == 0
    text, _, chunk = data[1:].partition(b"\0\0")
    with tempfile.TemporaryDirectory(prefix="imgconv-fuzz-") as place:
        chunks = os.path.join(place, "0" if two else "c/0")
        os.makedirs(chunks)
        for path, content in ((os.path.join(place, ".zarray" if two else "zarr.json"), text),
                              (os.path.join(chunks, "0"), chunk)):  # fmt: skip
            with open(path, "wb") as file:
                file.write(content)
        for image in images(place, None, check, memory=1 << 24):
            assert image.pixels.ndim == 3


@target
def quantized(data: bytes) -> None:
    """An ONNX model, int8 ones among the seeds, run where its values are few."""
    import math

    import numpy as np

    from imgconv.nn.onnx import load_onnx

    with file_of(data, ".onnx") as path:
        graph = load_onnx(path)
        if sum(map(math.prod, graph.shapes().values())) < 1 << 14:
            graph.run({
                name: np.linspace(-3, 300, math.prod(shape), dtype=np.float32).reshape(shape)
                for name, shape in graph.inputs.items()
            })  # fmt: skip
