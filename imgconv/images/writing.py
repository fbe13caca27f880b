"""Encoding: samples become the bytes of a file."""

import io
import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from imgconv.errors import OutputError, UsageError
from imgconv.images.formats import Format
from imgconv.images.publish import Folder, joined
from imgconv.jit.loop import Wanted
from imgconv.ops.microkernels import png_rows
from imgconv.ops.rows import ArrayRows, RowSource, read_rows
from imgconv.typing import Array

if TYPE_CHECKING:
    from imgconv.images.metadata import Metadata

_JPEG_QUALITY = 92  # where neither the user nor the input says one
_LARGE = 1 << 26  # bytes of samples from which on a TIFF is written in bands


def encode(
    samples: Array,
    made: Format,
    *,
    alpha: bool = False,
    compress: int | str = "fast",
    quality: int | None = None,
    metadata: dict[str, Any] | None = None,
    icc: bytes | None = None,
    carried: "Metadata | None" = None,
    pyramid: bool = False,
    ome: bool = False,
    cmyk: bool = False,
) -> Iterable[Any]:
    """Return the pieces of a file that holds samples (H, W, C) of a dtype the format takes.

    metadata: what was applied; kept as JSON where the format has a place for it (see `notes`), and
    left out elsewhere. carried: the input's metadata, as it describes the samples. pyramid: with
    smaller levels, in TIFF and Zarr. ome: a TIFF described as OME-TIFF.

    Raises UsageError for channels, sizes or levels that the format cannot hold.
    """
    _check(samples.shape, made, pyramid, alpha)
    note = json.dumps(metadata, ensure_ascii=True) if metadata else ""
    if made.name == "png":
        from imgconv.images import png

        return png.encode(samples, alpha=alpha, **_png_options(compress, note, icc, carried))
    if made.name in ("ppm", "pgm", "pnm", "pfm"):
        from imgconv.images import netpbm

        return netpbm.encode(samples, made.name)
    if made.name in ("csv", "txt"):
        from imgconv.images import text as grids

        return grids.encode(samples, made.name)
    if made.archive:
        return encode_archive({"image": samples}, made, metadata)
    if made.name == "npy":
        from imgconv import npy

        return npy.encode_npy(samples)
    if made.name == "zarr":
        return _zarr(ArrayRows(samples), metadata, pyramid)
    if made.name == "tiff":
        from imgconv.images import tiff_writer

        told = tiff_options(
            alpha=alpha, metadata=metadata, icc=icc, carried=carried, ome=ome, cmyk=cmyk
        )
        if pyramid:
            return [joined(tiff_writer.encode_rows(ArrayRows(samples), pyramid=True, **told))]
        return tiff_writer.encode(samples, **told)
    return [_by_pillow(samples, made, quality, icc, note, carried)]


def writing_loops(made: Format) -> list[Wanted]:
    """The loops that writing a format needs."""
    return [Wanted(png_rows.filter_rows, ())] if made.name == "png" else []


def encode_rows(
    source: RowSource,
    made: Format,
    *,
    alpha: bool = False,
    compress: int | str = "fast",
    quality: int | None = None,
    metadata: dict[str, Any] | None = None,
    icc: bytes | None = None,
    carried: "Metadata | None" = None,
    pyramid: bool = False,
    ome: bool = False,
    cmyk: bool = False,
    patched: bool = False,
) -> Iterable[Any]:
    """As `encode`, of rows that come in order: PNG and PNM need no more than a few bands.

    patched: whether a `Patch` may be among the pieces; a large TIFF needs no more either then.
    """
    shape = source.height, source.width, source.channels
    _check(shape, made, pyramid, alpha)
    if made.name == "png":
        from imgconv.images import png

        note = json.dumps(metadata, ensure_ascii=True) if metadata else ""
        options = _png_options(compress, note, icc, carried)
        return png.encode_rows(source, alpha=alpha, **options)
    if made.name in ("ppm", "pgm", "pnm"):
        from imgconv.images import netpbm

        return netpbm.encode_rows(source, made.name)
    if made.name == "zarr":
        return _zarr(source, metadata, pyramid)
    if made.name == "tiff" and patched and math.prod(shape) * source.dtype.itemsize > _LARGE:
        from imgconv.images import tiff_writer

        told = tiff_options(
            alpha=alpha, metadata=metadata, icc=icc, carried=carried, ome=ome, cmyk=cmyk
        )
        return tiff_writer.encode_rows(source, pyramid=pyramid, **told)
    samples = np.empty(shape, source.dtype)
    read_rows(source, samples)
    return encode(samples, made, alpha=alpha, compress=compress, quality=quality,
                  metadata=metadata, icc=icc, carried=carried, pyramid=pyramid,
                  ome=ome, cmyk=cmyk)  # fmt: skip


def tiff_options(
    *, metadata: dict[str, Any] | None = None, carried: "Metadata | None" = None, **given: Any
) -> dict[str, Any]:
    """What `tiff_writer` is to know of the options of `encode`."""
    note = json.dumps(metadata, ensure_ascii=True) if metadata else ""
    own: dict[str, Any] = {"note": note, "metadata": carried}
    names = ("alpha", "icc", "ome", "pyramid", "cmyk")
    return own | {name: given[name] for name in names if name in given}


def _png_options(
    compress: int | str, note: str, icc: bytes | None, carried: "Metadata | None"
) -> dict[str, Any]:
    options: dict[str, Any] = {"compress": compress, "icc": icc}
    if note:
        options["text"] = {"imgconv": note}
    if carried:
        from imgconv.images.metadata.writing import png_chunks

        options["chunks"] = png_chunks(carried)
    return options


def _zarr(source: RowSource, metadata: dict[str, Any] | None, pyramid: bool) -> Folder:
    def write(folder: str) -> None:
        from imgconv.images import zarr_arrays

        zarr_arrays.write(folder, source, metadata, pyramid)

    return Folder(write)


def check_pyramid(made: Format, pyramid: bool) -> None:
    """Raise UsageError where a format holds one size of an image only."""
    if pyramid and made.name not in ("tiff", "zarr"):
        raise UsageError(f"--pyramid: {made.name} holds one size, expected tiff or zarr")


def _check(shape: tuple[int, ...], made: Format, pyramid: bool, alpha: bool) -> None:
    height, width, channels = shape
    check_pyramid(made, pyramid)
    colors = channels - alpha
    if made.channels and channels not in made.channels:
        raise UsageError(
            f"{made.name} holds {_counted(made)}, got {channels}; choose some with --channels, "
            "drop opacity with --alpha drop, or write npy or tiff"
        )
    if made.channels and made.alpha and colors not in (1, 3):
        raise UsageError(
            f"{made.name} holds {_counted(made)}, got {channels} of which none is opacity; choose "
            "some with --channels, or write npy or tiff"
        )
    if 0 in shape and not made.raw:
        raise OutputError(f"{made.name} cannot hold an image of {width}×{height}")


def _counted(made: Format) -> str:
    """What a format holds, in words."""
    if made.alpha:
        return "gray or RGB, with or without opacity"
    return f"{' or '.join(map(str, made.channels))} channels"


def encode_archive(
    named: dict[str, Array], made: Format, metadata: dict[str, Any] | None = None
) -> Iterable[Any]:
    """Return the pieces of an NPZ or safetensors file of named arrays; metadata as in `encode`."""
    note = json.dumps(metadata, ensure_ascii=True) if metadata else ""
    if made.name == "npz":
        from imgconv.images import arrays

        return arrays.encode_npz(named, note or None)
    from imgconv.safetensors import write_safetensors

    buffer = io.BytesIO()
    write_safetensors(buffer, named, {"imgconv": note} if note else None)
    return [buffer.getbuffer()]


def _indexed(samples: Array) -> tuple[Any, dict[str, Any]]:
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


def _by_pillow(
    samples: Array, made: Format, quality: int | None, icc: bytes | None, note: str,
    carried: "Metadata | None",
) -> bytes:  # fmt: skip
    from PIL import Image as Pillow

    options: dict[str, Any] = {}
    if made.name == "gif" and samples.shape[2] in (2, 4):
        picture, options = _indexed(samples)
    else:
        picture = Pillow.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    if carried:
        from imgconv.images.metadata.writing import pillow_options

        options |= pillow_options(carried, made.name, samples.shape[2], quality)
    if made.name == "jpeg" and "qtables" not in options:
        options["quality"] = quality or _JPEG_QUALITY
    elif made.name == "webp" and quality:
        options["quality"] = quality
    if icc and made.name in ("jpeg", "webp"):
        options["icc_profile"] = icc
    buffer = io.BytesIO()
    try:
        picture.save(buffer, made.name, **options)
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"{made.name}: {error}") from None
    content = buffer.getvalue()
    if not (note or carried):
        return content
    from imgconv.images.metadata import writing as held

    if made.name == "jpeg":
        return held.jpeg_with(content, carried, note)
    if made.name == "webp":
        return held.webp_with(content, note, samples.shape[:2], samples.shape[2] in (2, 4))
    return held.gif_with(content, carried, note) if made.name == "gif" else content
