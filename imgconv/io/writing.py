"""Encoding: samples become the bytes of a file."""

import io
import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np

from imgconv.errors import OutputError, UsageError
from imgconv.io.formats import Format
from imgconv.io.publish import Folder, Piece, joined
from imgconv.jit.loop import Wanted
from imgconv.ops.microkernels import png_rows
from imgconv.ops.rows import ArrayRows, RowSource, read_rows
from imgconv.typing import Array

if TYPE_CHECKING:
    from PIL import Image as Pillow

    from imgconv.io.metadata import Metadata
    from imgconv.io.png.writer import PngOptions
    from imgconv.io.tiff.writer import PageOptions, TiffOptions

_JPEG_QUALITY = 92  # where neither the user nor the input says one
_LARGE = 1 << 26  # bytes of samples from which on a TIFF is written in bands
Record = Mapping[str, object] | None


class EncodeOptions(TypedDict, total=False):
    """What there is to say of a file beside its samples and format.

    alpha: whether the last channel is opacity. compress: PNG's level, 0 to 9, or "fast" or "small".
    quality: 1 to 100, of JPEG, WebP and AVIF. record: how the file was made; kept as JSON where the
    format has a place for it (see `notes`), and left out elsewhere. icc: the samples' profile.
    metadata: the input's, as it describes the samples. pyramid: with smaller levels, in TIFF and
    Zarr. ome: a TIFF described as OME-TIFF. cmyk: the samples of a TIFF are inks.
    """

    alpha: bool
    compress: int | str
    quality: int | None
    record: Record
    icc: bytes | None
    metadata: "Metadata | None"
    pyramid: bool
    ome: bool
    cmyk: bool


def encode(samples: Array, format: Format, **options: Unpack[EncodeOptions]) -> Iterable[Piece]:
    """Return the pieces of a file that holds samples (H, W, C) of a dtype the format takes.

    Raises UsageError for channels, sizes or levels that the format cannot hold.
    """
    alpha, pyramid = options.get("alpha", False), options.get("pyramid", False)
    _check(samples.shape, format, pyramid, alpha)
    if format.name == "png":
        from imgconv.io.png import writer as png_writer

        return png_writer.encode(samples, alpha=alpha, **_png_options(options))
    if format.name in ("ppm", "pgm", "pnm", "pfm"):
        from imgconv.io.codecs import netpbm

        return netpbm.encode(samples, format.name)
    if format.name in ("csv", "txt"):
        from imgconv.io.codecs import text as grids

        return grids.encode(samples, format.name)
    if format.archive:
        return encode_archive({"image": samples}, format, options.get("record"))
    if format.name == "npy":
        from imgconv import npy

        return npy.encode_npy(samples)
    if format.name == "zarr":
        return _zarr(ArrayRows(samples), options)
    if format.name == "tiff":
        from imgconv.io.tiff import writer as tiff_writer

        if pyramid:
            return [joined(tiff_writer.encode_rows(ArrayRows(samples), **page_options(options)))]
        return tiff_writer.encode(samples, **tiff_options(options))
    return [_by_pillow(samples, format, options)]


def writing_loops(format: Format) -> list[Wanted]:
    """The loops that writing a format needs."""
    return [Wanted(png_rows.filter_rows, ())] if format.name == "png" else []


def encode_rows(
    source: RowSource, format: Format, patched: bool = False, **options: Unpack[EncodeOptions]
) -> Iterable[Piece]:
    """As `encode`, of rows that come in order: PNG and PNM need no more than a few bands.

    patched: whether a `Patch` may be among the pieces; a large TIFF needs no more either then.
    """
    if isinstance(source, ArrayRows) and format.name != "zarr":
        return encode(source.pixels, format, **options)
    shape = source.height, source.width, source.channels
    alpha = options.get("alpha", False)
    _check(shape, format, options.get("pyramid", False), alpha)
    if format.name == "png":
        from imgconv.io.png import writer as png_writer

        return png_writer.encode_rows(source, alpha=alpha, **_png_options(options))
    if format.name in ("ppm", "pgm", "pnm"):
        from imgconv.io.codecs import netpbm

        return netpbm.encode_rows(source, format.name)
    if format.name == "zarr":
        return _zarr(source, options)
    if format.name == "tiff" and patched and math.prod(shape) * source.dtype.itemsize > _LARGE:
        from imgconv.io.tiff import writer as tiff_writer

        return tiff_writer.encode_rows(source, **page_options(options))
    samples = np.empty(shape, source.dtype)
    read_rows(source, samples)
    return encode(samples, format, **options)


def note_of(record: Record) -> str:
    """A record as the text that formats keep, ASCII; "" for none."""
    return json.dumps(record, ensure_ascii=True) if record else ""


def tiff_options(options: EncodeOptions) -> "TiffOptions":
    """What `tiff_writer` is to know of the options of `encode`."""
    return {
        "alpha": options.get("alpha", False), "icc": options.get("icc"),
        "metadata": options.get("metadata"), "ome": options.get("ome", False),
        "cmyk": options.get("cmyk", False), "note": note_of(options.get("record")),
    }  # fmt: skip


def page_options(options: EncodeOptions) -> "PageOptions":
    """`tiff_options` of a page, which may have smaller levels."""
    return {**tiff_options(options), "pyramid": options.get("pyramid", False)}


def _png_options(options: EncodeOptions) -> "PngOptions":
    own: PngOptions = {"compress": options.get("compress", "fast"), "icc": options.get("icc")}
    if note := note_of(options.get("record")):
        own["text"] = {"imgconv": note}
    if metadata := options.get("metadata"):
        from imgconv.io.metadata.writing import png_chunks

        own["chunks"] = png_chunks(metadata)
    return own


def _zarr(source: RowSource, options: EncodeOptions) -> Folder:
    def write(folder: str) -> None:
        from imgconv.io.zarr import arrays as zarr_arrays

        zarr_arrays.write(folder, source, options.get("record"), options.get("pyramid", False))

    return Folder(write)


def check_pyramid(format: Format, pyramid: bool) -> None:
    """Raise UsageError where a format holds one size of an image only."""
    if pyramid and format.name not in ("tiff", "zarr"):
        raise UsageError(f"--pyramid: {format.name} holds one size, expected tiff or zarr")


def _check(shape: tuple[int, ...], format: Format, pyramid: bool, alpha: bool) -> None:
    height, width, channels = shape
    check_pyramid(format, pyramid)
    colors = channels - alpha
    if format.channels and channels not in format.channels:
        raise UsageError(
            f"{format.name} holds {_counted(format)}, got {channels}; choose some with --channels, "
            "drop opacity with --alpha drop, or write npy or tiff"
        )
    if format.channels and format.alpha and colors not in (1, 3):
        raise UsageError(
            f"{format.name} holds {_counted(format)}, got {channels} of which none is opacity; "
            "choose some with --channels, or write npy or tiff"
        )
    if 0 in shape and not format.raw:
        raise OutputError(f"{format.name} cannot hold an image of {width}×{height}")


def _counted(format: Format) -> str:
    """What a format holds, in words."""
    if format.alpha:
        return "gray or RGB, with or without opacity"
    return f"{' or '.join(map(str, format.channels))} channels"


def encode_archive(
    named: dict[str, Array], format: Format, record: Record = None
) -> Iterable[Piece]:
    """Return the pieces of an NPZ or safetensors file of named arrays; record as in `encode`."""
    note = note_of(record)
    if format.name == "npz":
        from imgconv.io.codecs import arrays

        return arrays.encode_npz(named, note or None)
    from imgconv.safetensors import write_safetensors

    buffer = io.BytesIO()
    write_safetensors(buffer, named, {"imgconv": note} if note else None)
    return [buffer.getbuffer()]


def _indexed(samples: Array) -> "tuple[Pillow.Image, dict[str, object]]":
    """A GIF's picture of at most 255 colors and a transparent one, and how it is saved.

    Opacity is there or not: half of it and more is there.
    """
    from PIL import Image as Pillow

    colors = samples[..., 0] if samples.shape[2] == 2 else samples[..., :3]
    reduced = Pillow.fromarray(colors).convert("RGB").quantize(255)
    indices = np.array(reduced)
    indices[samples[..., -1] < 128] = 255
    picture = Pillow.fromarray(indices)
    picture.putpalette(((reduced.getpalette() or []) + [0] * 768)[:768])
    return picture, {"transparency": 255}


def _by_pillow(samples: Array, format: Format, given: EncodeOptions) -> bytes:
    from PIL import Image as Pillow

    quality, metadata = given.get("quality"), given.get("metadata")
    icc, note = given.get("icc"), note_of(given.get("record"))
    options: dict[str, object] = {}
    if format.name == "gif" and samples.shape[2] in (2, 4):
        picture, options = _indexed(samples)
    else:
        picture = Pillow.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    if metadata:
        from imgconv.io.metadata.writing import pillow_options

        options |= pillow_options(metadata, format.name, samples.shape[2], quality)
    if format.name == "jpeg" and "qtables" not in options:
        options["quality"] = quality or _JPEG_QUALITY
    elif format.name in ("webp", "avif") and quality:
        options["quality"] = quality
    if icc and format.name in ("jpeg", "webp", "avif"):
        options["icc_profile"] = icc
    buffer = io.BytesIO()
    try:
        picture.save(buffer, format.name, **options)
    except KeyError:
        raise OutputError(f"{format.name}: this Pillow cannot write it") from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{format.name}: {error}") from None
    content = buffer.getvalue()
    if not (note or metadata):
        return content
    from imgconv.io.metadata import writing as held

    if format.name == "jpeg":
        return held.jpeg_with(content, metadata, note)
    if format.name == "webp":
        return held.webp_with(content, note, samples.shape[:2], samples.shape[2] in (2, 4))
    return held.gif_with(content, metadata, note) if format.name == "gif" else content
