"""Encoding: samples become the bytes of a file."""

import io
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.errors import OutputError, UsageError
from imgconv.images.formats import Format

KEYWORD = "imgconv"
_IMAGE_DESCRIPTION = 270


def encode(
    samples: npt.NDArray[Any],
    made: Format,
    *,
    alpha: bool = False,
    compress: int | str = "fast",
    quality: int | None = None,
    metadata: dict[str, Any] | None = None,
    icc: bytes | None = None,
) -> Iterable[Any]:
    """Return the pieces of a file that holds samples (H, W, C) of a dtype the format takes.

    metadata: what was applied; kept as JSON in PNG text, TIFF's ImageDescription, an NPZ member
    or safetensors metadata, and left out elsewhere. Raises UsageError for channels or sizes that
    the format cannot hold.
    """
    channels = samples.shape[2]
    if made.channels and channels not in made.channels:
        raise UsageError(
            f"{made.name} holds {' or '.join(map(str, made.channels))} channels, got {channels}; "
            "choose some with --channels, drop opacity with --alpha drop, or write npy or tiff"
        )
    if 0 in samples.shape and not made.raw:
        raise OutputError(
            f"{made.name} cannot hold an image of {samples.shape[1]}×{samples.shape[0]}"
        )
    note = json.dumps(metadata, ensure_ascii=True) if metadata else ""
    if made.name == "png":
        from imgconv.images import png

        text = {KEYWORD: note} if note else {}
        return png.encode(samples, alpha=alpha, compress=compress, text=text, icc=icc)
    if made.name in ("ppm", "pgm", "pnm", "pfm"):
        from imgconv.images import netpbm

        return netpbm.encode(samples, made.name)
    if made.name in ("csv", "txt"):
        from imgconv.images import text as grids

        return grids.encode(samples, made.name)
    if made.name in ("npy", "npz"):
        from imgconv.images import arrays

        if made.name == "npy":
            return arrays.encode_npy(samples)
        return arrays.encode_npz({"image": samples}, note or None)
    if made.name == "safetensors":
        from imgconv.safetensors import write_safetensors

        buffer = io.BytesIO()
        write_safetensors(buffer, {"image": samples}, {KEYWORD: note} if note else None)
        return [buffer.getvalue()]
    return [_by_pillow(samples, made, quality, note, icc)]


def _by_pillow(
    samples: npt.NDArray[Any], made: Format, quality: int | None, note: str, icc: bytes | None
) -> bytes:
    from PIL import Image as Pillow

    if samples.dtype != np.uint8 and samples.shape[2] != 1:
        raise UsageError(
            f"{made.name} with {samples.dtype} holds one channel, got {samples.shape[2]}; "
            "use --gray, --depth 8, or write png or npy"
        )
    if made.name == "tiff" and samples.shape[2] > 4:
        raise UsageError(f"tiff: {samples.shape[2]} channels, expected 1 to 4; write npy instead")
    picture = Pillow.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    options: dict[str, Any] = {}
    if made.name in ("jpeg", "webp") and quality:
        options["quality"] = quality
    if made.name == "tiff":
        options["compression"] = "tiff_adobe_deflate"
        if note:
            options["tiffinfo"] = {_IMAGE_DESCRIPTION: note}
    if icc and made.name in ("jpeg", "webp", "tiff"):
        options["icc_profile"] = icc
    buffer = io.BytesIO()
    try:
        picture.save(buffer, made.name, **options)
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"{made.name}: {error}") from None
    return buffer.getvalue()
