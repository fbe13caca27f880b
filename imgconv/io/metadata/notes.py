"""The text that says how a file was made: where each format keeps it, and reading it again.

| format | where |
|---|---|
| PNG | text of the keyword `imgconv` |
| TIFF | ImageDescription; where the input has one, the private tag 65333 |
| OME-TIFF | an annotation of the namespace `imgconv` in its XML |
| JPEG | segments APP15 that begin with `imgconv` and NUL |
| WebP | chunk `IMGC` |
| GIF | application extension `imgconv rec` |
| NPZ | the member `imgconv`, Unicode |
| safetensors | `__metadata__`, key `imgconv` |
| Zarr | attribute `imgconv` |

The other formats have no place for it. imgconv 0.1 put it into TIFF's ImageDescription, into that
of EXIF and into GIF's comment, where it is still found.
"""

import json
import os
from collections.abc import Callable
from xml.sax.saxutils import unescape

from imgconv import npy
from imgconv.errors import ImageError, ModelError
from imgconv.io.codecs import pillow
from imgconv.io.codecs.arrays import METADATA_MEMBER
from imgconv.io.formats import NOTE_LIMIT, sniff
from imgconv.io.limits import MAX_PIXELS, file_limit
from imgconv.io.png import chunks as png_chunks
from imgconv.io.source import Source, is_zarr

KEYWORD = "imgconv"
_DESCRIPTION, _TIFF_RECORD = 0x010E, 65333
_HOLD = "PNG, TIFF, JPEG, WebP, GIF, NPZ, safetensors and Zarr hold one"


def read_note(path: str) -> str:
    """Return the note in a file, "" where there is none; nothing of it is believed.

    Raises ImageError for files that cannot be read, or whose format holds no notes.
    """
    if is_zarr(path):
        return _of_zarr(path)
    with Source(path) as source:
        if path.lower().endswith(".safetensors"):
            return _of_safetensors(path)
        kind = sniff(source.prefix, source.name, None)
        if kind is None:
            raise ImageError(f"{source.name}: not an image in a known format")
        reader = _READERS.get(kind)
        if reader is None:
            raise ImageError(f"{path}: {kind} holds no record of how it was made; {_HOLD}")
        return reader(source, kind)


def _of_png(source: Source, kind: str) -> str:
    data = memoryview(source.data(file_limit(MAX_PIXELS)))
    try:
        png_chunks.parse_header(data)
        if any(kind == b"acTL" for kind, _, _ in png_chunks.walk(data, 33)):  # animated
            return png_chunks.carried_facts(bytes(data)).text.get(KEYWORD, "")
        return png_chunks.parse_facts(data)[0].text.get(KEYWORD, "")
    except ImageError as error:
        raise ImageError(f"{source.name}: {error}") from None


def _of_npz(source: Source, kind: str) -> str:
    with npy.reported_as(ImageError):
        file = source.file(file_limit(MAX_PIXELS))
        return npy.read_text(file, source.name, METADATA_MEMBER, NOTE_LIMIT)


def _of_tiff(source: Source, kind: str) -> str:
    from imgconv.io.tiff.pages import TiffPages, reported

    file = source.file(file_limit(MAX_PIXELS))
    size = len(source.data(file_limit(MAX_PIXELS))) if source.size is None else source.size
    with reported(source.name, MAX_PIXELS):
        pages = TiffPages(file, size, source.name)
        own = pages.frame(0)[0].tags if len(pages) else None
        found = own and (own.valueof(_TIFF_RECORD) or own.valueof(_DESCRIPTION))
    text = found if isinstance(found, str) and len(found) <= 2 * NOTE_LIMIT else ""
    _, ours, rest = text.partition('Namespace="imgconv"><Value>')  # of OME-TIFF's XML
    return unescape(rest.partition("</Value>")[0]) if ours else text


def _of_blocks(source: Source, kind: str) -> str:
    """The record in a JPEG, WebP or GIF, where this version and where the first one put it."""
    from imgconv.io.metadata import reading, writing

    data = source.data(file_limit(MAX_PIXELS))
    parts: list[bytes] = []
    if kind == "JPEG":
        parts = [payload.removeprefix(writing.JPEG_RECORD)
                 for marker, payload in reading.jpeg_segments(data)
                 if marker == 0xEF and payload.startswith(writing.JPEG_RECORD)]  # fmt: skip
    elif kind == "WEBP":
        parts = [data[start:stop] for name, start, stop in reading.riff_chunks(data)
                 if name == writing.WEBP_RECORD]  # fmt: skip
    else:
        for label, content in reading.gif_extensions(data):
            if label == 0xFF and content[0] == writing.GIF_RECORD:
                parts += content[1:]
    return b"".join(parts).decode("latin-1") or _by_pillow(source, kind)


def _by_pillow(source: Source, kind: str) -> str:
    with pillow.decoding(source.name, MAX_PIXELS):
        opened = pillow.open_image(source.file(file_limit(MAX_PIXELS)), kind, source.name)
        found = opened.info.get("comment") if kind == "GIF" else opened.getexif().get(_DESCRIPTION)
        text = found.decode("latin-1") if isinstance(found, bytes) else str(found or "")
    return text.rstrip("\0")


_READERS: dict[str, Callable[[Source, str], str]] = {
    "PNG": _of_png, "NPZ": _of_npz, "TIFF": _of_tiff, "JPEG": _of_blocks, "WEBP": _of_blocks,
    "GIF": _of_blocks,
}  # fmt: skip


def _of_safetensors(path: str) -> str:
    from imgconv.safetensors import read_metadata

    try:
        return read_metadata(path).get(KEYWORD, "")
    except ModelError as error:
        raise ImageError(str(error)) from None


def _of_zarr(path: str) -> str:
    try:
        with open(os.path.join(path, "zarr.json"), "rb") as file:
            attributes = json.loads(file.read(4 * NOTE_LIMIT))["attributes"]
            return json.dumps(attributes.get(KEYWORD, ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
