"""Deflate: isal where there is a wheel of it, else zlib, which is 2 to 5 times slower."""

import zlib
from typing import Any

codec: Any = zlib  # or isal's module of the same interface
try:
    from isal import isal_zlib

    codec = isal_zlib
except ImportError:
    pass

CODEC_ERRORS: tuple[type[Exception], ...] = (zlib.error, codec.error)
