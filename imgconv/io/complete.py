"""Is an existing output all there?"""

import os

from imgconv.errors import ImgconvError, LimitError
from imgconv.io.codecs.truncation import missing_end
from imgconv.io.formats import sniff
from imgconv.io.reading import read_images
from imgconv.io.source import is_zarr

_WALKED = ("PNG", "JPEG", "GIF", "WEBP")


def is_complete(path: str, kind: str) -> bool:
    """Whether an existing output of a format (`png`, `npy`, …) can be taken for a finished one.

    Outputs are published whole, so this is for what another program left half done: empty,
    truncated or of another kind. PNG, JPEG, GIF and WebP are walked to their end; the others,
    which cost little more than their bytes, are decoded.
    """
    container = kind.upper()
    if kind == "zarr":
        return is_zarr(path)
    try:
        with open(path, "rb") as file:
            prefix = file.read(16)
            data = file.read() if container in _WALKED else b""
    except OSError:
        return False
    if container in _WALKED:
        return sniff(prefix) == container and missing_end(container, prefix + data) is None
    if not prefix or (kind in ("csv", "txt") and not _ends_with_a_line(path)):
        return False
    try:
        if kind == "safetensors":
            from imgconv.safetensors import read_metadata

            read_metadata(path)
        else:
            for _ in read_images(os.fspath(path), format=kind, frame="all"):
                pass
    except LimitError:
        return True
    except ImgconvError:
        return False
    return True


def _ends_with_a_line(path: str) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
