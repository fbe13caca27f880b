"""The maps of many images in one safetensors file: an array (N, C, H, W) a layer, and an index.

Images come one after the other and nobody knows how many of them can be read, while the file
begins with how many there are. So each layer's maps go to a temporary file, and all of them into
the output at the end: memory does not grow with the images.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, TypedDict

import numpy as np

from imgconv.errors import OutputError, ShapeError, UsageError
from imgconv.io.publish import EXISTS, exists, publish
from imgconv.nn.layers import Shape
from imgconv.safetensors import encode_header
from imgconv.typing import Array

_PIECE = 1 << 20


class Gathered(TypedDict):
    """What --json says of the file: its layers by name, with the shape of all images' maps."""

    output: str
    images: int
    layers: dict[str, list[int]]
    bytes: int


class Gathering:
    """Takes the maps of image after image.

    path: the output, which `overwrite` may replace. Raises UsageError for another format,
    OutputError for a file that exists.
    """

    def __init__(self, path: str, overwrite: bool) -> None:
        if not path.lower().endswith(".safetensors"):
            raise UsageError(f"--gather {path}: expected a name that ends in .safetensors")
        if not overwrite and exists(path):
            raise OutputError(f"{path}: {EXISTS}")
        self.path, self._overwrite = path, overwrite
        self._files: dict[str, IO[bytes]] = {}
        self._shapes: dict[str, Shape] = {}
        self._index: list[dict[str, object]] = []
        self._stack = ExitStack()

    def add(self, layer: str, maps: Array) -> None:
        """Keep a layer's maps (1, C, H, W) or (1, F) of the next image.

        They count once `commit` says so. Raises ShapeError for another shape than those before.
        """
        shape = self._shapes.setdefault(layer, maps.shape[1:])
        if maps.shape[1:] != shape:
            got, expected = ("×".join(map(str, sizes)) for sizes in (maps.shape[1:], shape))
            raise ShapeError(f"--gather: {layer} is {got}, but {expected} in earlier images")
        if layer not in self._files:
            folder = os.path.dirname(self.path) or "."
            try:
                file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by the stack
            except OSError as error:
                raise OutputError(f"{self.path}: {error.strerror or error}") from None
            self._files[layer] = self._stack.enter_context(file)
        data = np.ascontiguousarray(maps, "<f4").reshape(-1).view(np.uint8).data
        try:
            self._files[layer].seek(len(self._index) * len(data))
            self._files[layer].write(data)
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror or error}") from None

    def commit(self, source: str, frame: int | None) -> None:
        """The maps that were added last are all of an image's; frame: its number, if it matters."""
        name = source.encode("utf-8", "backslashreplace").decode()
        self._index.append({"input": name} | ({} if frame is None else {"frame": frame}))

    def publish(self, facts: dict[str, str]) -> Gathered | None:
        """Write the file; return its row for --json, None where there was no image.

        facts: what else its metadata says.
        """
        with self._stack:
            if not self._index:
                return None
            metadata = facts | {"inputs": json.dumps(self._index)}
            size = publish(self.path, self._pieces(metadata), self._overwrite)
        layers = {name: [len(self._index), *shape] for name, shape in self._shapes.items()}
        return {"output": self.path, "images": len(self._index), "layers": layers, "bytes": size}

    def _pieces(self, metadata: dict[str, str]) -> Iterator[bytes]:
        count = len(self._index)
        kind = np.dtype(np.float32)
        shapes = {name: (kind, (count, *shape)) for name, shape in self._shapes.items()}
        yield encode_header(shapes, metadata)
        for name, (_, shape) in shapes.items():
            file, left = self._files[name], int(np.prod(shape)) * kind.itemsize
            file.seek(0)
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    raise OutputError(f"{self.path}: a temporary file lost its end")
                left -= len(piece)
                yield piece
