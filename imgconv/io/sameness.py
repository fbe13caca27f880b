"""Whether two files of one format hold the same: byte for byte, or at least sample for sample."""

import filecmp
import json
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from imgconv.io.digest import sha256_of
from imgconv.io.reading import read_images
from imgconv.io.source import is_zarr
from imgconv.typing import JSON, Array


class Sameness(NamedTuple):
    """bytes, pixels: whether they are the same. differing: samples that are not, of `samples`."""

    bytes: bool
    pixels: bool
    differing: int = 0
    samples: int = 0
    largest: float = 0.0

    @property
    def words(self) -> str:
        """The finding, for people."""
        if self.pixels:
            return "the same bytes" if self.bytes else "the same pixels, in other bytes,"
        if not self.samples:
            return "another size or kind of pixels"
        return (
            f"other pixels ({self.differing} of {self.samples} samples, by {self.largest:g} at "
            "most)"
        )

    def as_dict(self) -> dict[str, JSON]:
        """For --json."""
        return {"same_bytes": self.bytes, "same_pixels": self.pixels,
                "differing": self.differing, "samples": self.samples}  # fmt: skip


def compared(first: str, second: str | bytes) -> Sameness:
    """Compare a file with another one, or with the bytes of one. Raises ImageError."""
    if _same_bytes(first, second):
        return Sameness(True, True)
    if first.lower().endswith(".safetensors"):
        return Sameness(False, _arrays(_content(first)) == _arrays(_content(second)))
    differing = samples = 0
    largest = 0.0
    for a, b in _pairs(first, second):
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            return Sameness(False, False)
        with np.errstate(invalid="ignore"):
            unlike = (a != b) & ~((a != a) & (b != b))
            samples += a.size
            if unlike.any():
                differing += int(unlike.sum())
                apart = np.abs(a[unlike].astype(np.float64) - b[unlike].astype(np.float64))
                largest = max(largest, float(apart.max()))
    return Sameness(False, not differing, differing, samples, largest)


def _pairs(first: str, second: str | bytes) -> Iterator[tuple[Array | None, Array | None]]:
    others = read_images(second, frame="all", name="the repeated one")
    for image in read_images(first, frame="all"):
        other = next(others, None)
        yield image.pixels, None if other is None else other.pixels
    if next(others, None) is not None:
        yield None, None


def _same_bytes(first: str, second: str | bytes) -> bool:
    if is_zarr(first):
        return isinstance(second, str) and sha256_of(first) == sha256_of(second)
    if isinstance(second, bytes):
        return os.path.getsize(first) == len(second) and _content(first) == second
    return filecmp.cmp(first, second, shallow=False)


def _content(file: str | bytes) -> bytes:
    if isinstance(file, bytes):
        return file
    with open(file, "rb") as opened:
        return opened.read()


def _arrays(content: bytes) -> tuple[JSON, bytes]:
    """A safetensors file without what is written about it."""
    stop = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:stop])
    header.pop("__metadata__", None)
    return header, content[stop:]
