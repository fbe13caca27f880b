"""PNG, read and written with compiled row filters: see `png_reader` and `png_writer`."""

from imgconv.io.png_chunks import Unusual
from imgconv.io.png_reader import Reader, decode
from imgconv.io.png_writer import Writer, encode, encode_rows

__all__ = ["Reader", "Unusual", "Writer", "decode", "encode", "encode_rows"]
