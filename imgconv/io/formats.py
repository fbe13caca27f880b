"""The file formats: names, extensions, what their samples can be, and how files are told apart."""

import os
from typing import NamedTuple

import numpy as np

from imgconv.arguments import not_among
from imgconv.errors import UsageError

U8, U16, F32, F64 = "uint8", "uint16", "float32", "float64"
_SIGNED_AND_WIDE = ("int8", "int16", "int32", "uint32", "int64", "uint64")


class Format(NamedTuple):
    """What an output format can hold.

    name: as `--format` takes it. suffixes: lower case, the first is used for new files.
    dtypes: sample types, the poorest first. channels: counts it can hold, () for any.
    alpha: whether an opacity channel can be kept. raw: holds maps as they are computed.
    archive: holds any number of named arrays. note: the most characters it can hold of a note on
    how it was made, see `notes`.
    """

    name: str
    suffixes: tuple[str, ...]
    dtypes: tuple[str, ...] = (U8,)
    channels: tuple[int, ...] = (1, 3)
    alpha: bool = False
    raw: bool = False
    text: bool = False
    archive: bool = False
    note: int = 0


NOTE_LIMIT = 1 << 19  # PNG text is read up to twice that
_ARRAYS = (U8, U16, F32, F64)
_INTEGERS = (U8, U16, *_SIGNED_AND_WIDE)
FORMATS: dict[str, Format] = {
    made.name: made
    for made in (
        Format("png", (".png", ".apng"), (U8, U16), (1, 2, 3, 4), alpha=True, note=NOTE_LIMIT),
        Format("jpeg", (".jpg", ".jpeg", ".jpe", ".jfif"), note=NOTE_LIMIT),
        Format("webp", (".webp",), channels=(1, 2, 3, 4), alpha=True, note=NOTE_LIMIT),
        Format("avif", (".avif",), channels=(1, 2, 3, 4), alpha=True),
        Format("tiff", (".tif", ".tiff"), (*_INTEGERS, F32, F64), (), alpha=True, note=NOTE_LIMIT),
        Format("ppm", (".ppm",), (U8, U16)),
        Format("pgm", (".pgm",), (U8, U16), (1,)),
        Format("pnm", (".pnm",), (U8, U16)),
        Format("pfm", (".pfm",), (F32,), raw=True),
        Format("bmp", (".bmp", ".dib")),
        Format("gif", (".gif",), channels=(1, 2, 3, 4), alpha=True, note=NOTE_LIMIT),
        Format("zarr", (".zarr",), (*_INTEGERS, F32, F64), (), alpha=True, note=NOTE_LIMIT),
        Format("npy", (".npy",), _ARRAYS, (), alpha=True, raw=True),
        Format("npz", (".npz",), _ARRAYS, (), alpha=True, raw=True, archive=True, note=NOTE_LIMIT),
        Format(
            "safetensors",
            (".safetensors",),
            _ARRAYS,
            (),
            alpha=True,
            raw=True,
            archive=True,
            note=NOTE_LIMIT,
        ),
        Format("csv", (".csv",), (U8, U16, F32, F64), (), alpha=True, raw=True, text=True),
        Format("txt", (".txt",), (U8, U16, F32, F64), (), alpha=True, raw=True, text=True),
    )
}
_OF_FRAMES = ("tiff", "gif", "webp", "zarr", "npy", "npz", "safetensors")
_BY_SUFFIX = {suffix: made for made in FORMATS.values() for suffix in made.suffixes}
_ALIASES = {"jpg": "jpeg", "tif": "tiff", "text": "txt", "numpy": "npy"}

# Input formats that Pillow decodes, and only these: its other plugins start helper programs
# (EPS, WMF), have no decoder of their own (FITS, HDF5, GRIB) or are not pictures one filters.
# TGA has no signature and is tried only for files that say so by their name.
PILLOW_PLUGINS: dict[str, str] = {
    "PNG": "PngImagePlugin",
    "JPEG": "JpegImagePlugin",
    "TIFF": "TiffImagePlugin",
    "GIF": "GifImagePlugin",
    "WEBP": "WebPImagePlugin",
    "BMP": "BmpImagePlugin",
    "PPM": "PpmImagePlugin",
    "AVIF": "AvifImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "ICO": "IcoImagePlugin",
    "QOI": "QoiImagePlugin",
    "SGI": "SgiImagePlugin",
    "PCX": "PcxImagePlugin",
    "SUN": "SunImagePlugin",
    "PSD": "PsdImagePlugin",
    "DDS": "DdsImagePlugin",
    "TGA": "TgaImagePlugin",
}
# Of other packages, read where they are installed: (module, name to install).
OTHER_PLUGINS = {"HEIF": ("pillow_heif", "pillow-heif"), "JXL": ("pillow_jxl", "pillow-jxl-plugin")}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
# Of these, several frames are an animation; of others they are pages.
ANIMATIONS = ("GIF", "WEBP", "PNG", "AVIF")
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (8, b"WEBP", "WEBP"),
    (0, b"\x93NUMPY", "NPY"),
    (0, b"PK\x03\x04", "NPZ"),
    (0, b"PK\x05\x06", "NPZ"),
    (0, b"PF", "NETPBM"),
    (0, b"Pf", "NETPBM"),
    *((0, b"P%d" % digit, "NETPBM") for digit in range(1, 7)),
    (0, b"BM", "BMP"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"qoif", "QOI"),
    (0, b"\x01\xda", "SGI"),
    (0, b"\x59\xa6\x6a\x95", "SUN"),
    (0, b"8BPS", "PSD"),
    (0, b"DDS ", "DDS"),
    (0, b"\x0a", "PCX"),
    (0, b"\xff\x0a", "JXL"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
)
_READ_BY_NAME = {
    "jpg": "JPEG", "jpeg": "JPEG", "mpo": "JPEG", "tif": "TIFF", "tiff": "TIFF", "jp2": "JPEG2000",
    "j2k": "JPEG2000", "ppm": "NETPBM", "pgm": "NETPBM", "pbm": "NETPBM", "pnm": "NETPBM",
    "pfm": "NETPBM", "netpbm": "NETPBM", "npy": "NPY", "npz": "NPZ", "csv": "TEXT", "txt": "TEXT",
    "tsv": "TEXT", "text": "TEXT", "dib": "BMP", "heic": "HEIF", "heif": "HEIF", "jxl": "JXL",
}  # fmt: skip
_NUMBER_BYTES = frozenset(b"0123456789+-.,;eE \t\r\n#nNaAiIfF")
# What the scan of a folder takes: pictures by their extensions. Numbers (NPY, NPZ, CSV, text) are
# as often kernels, weights or notes, and have to be named; the last of these are kinds of TIFF.
SCANNED_SUFFIXES: frozenset[str] = frozenset(
    f".{name}"
    for name in (
        *(name.lower() for name in PILLOW_PLUGINS),
        *(name for name, kind in _READ_BY_NAME.items() if kind not in ("NPY", "NPZ", "TEXT")),
        "apng", "jpe", "jfif", "jpx", "jpc", "jpf", "j2c", "rgb", "rgba", "bw", "ras",
        "stk", "lsm", "btf", "tf2", "tf8",
    )
)  # fmt: skip


def format_named(name: str) -> Format:
    """Return the output format of a name such as `png` or `jpg`. Raises UsageError."""
    lowered = name.lower().removeprefix(".")
    found = FORMATS.get(_ALIASES.get(lowered, lowered)) or _BY_SUFFIX.get(f".{lowered}")
    if found is None:
        raise UsageError(f"format {name!r}: {not_among(lowered, FORMATS)}")
    return found


def format_of(path: str | os.PathLike[str]) -> Format:
    """Return the output format that a file name asks for. Raises UsageError."""
    suffix = os.path.splitext(os.fspath(path))[1]
    found = _BY_SUFFIX.get(suffix.lower())
    if found is None:
        known = " ".join(made.suffixes[0] for made in FORMATS.values())
        what = f"unknown extension {suffix!r}" if suffix else "no extension"
        raise UsageError(f"{os.fspath(path)}: {what}; expected one of {known}, or --format")
    return found


# Formats and kinds that are read and not written, with the nearest that is. All others: PNG.
_NEAREST = {
    ".mpo": "jpeg", ".pbm": "pgm", ".netpbm": "pnm", ".tsv": "txt", ".apng": "png",
    **dict.fromkeys((".stk", ".lsm", ".btf", ".tf2", ".tf8"), "tiff"),
}  # fmt: skip
_NEAREST_KINDS = {"NETPBM": "pnm", "TEXT": "txt"}


def kept_suffix(
    suffix: str, kind: str | None, depth: str | None, pictures: bool, colors: bool
) -> str | None:
    """The extension of an output that keeps its input's format, or `.png` where that cannot be.

    suffix: of the input's name. kind: what its bytes are, as `sniff` says it: asked for, by None,
    where the name does not say it. depth: as of `output_dtype`. pictures: the output is a picture
    of 8 bits in colors, which formats of raw values do not hold. colors: it may have three
    channels, whatever the input has.
    """
    made = _BY_SUFFIX.get(os.path.splitext(suffix)[1].lower() or suffix.lower())
    own = made is not None
    if made is None:
        name = _NEAREST.get(suffix.lower())
        if name is None and suffix.lower() not in SCANNED_SUFFIXES:
            if kind is None:
                return None
            name = _NEAREST_KINDS.get(kind, kind.lower())
        made = FORMATS.get(name or "png", FORMATS["png"])
    if colors and made.name == "pgm":
        made, own = FORMATS["ppm"], False
    if pictures and made.raw:
        made, own = FORMATS["png"], False
    wanted = {"8": U8, "16": U16, "32f": F32}.get(depth or "")
    if wanted and wanted not in made.dtypes:
        made, own = FORMATS["tiff" if wanted == F32 else "png"], False
    return suffix if own else made.suffixes[0]


def holds_frames(made: Format, path: str, animated: bool) -> bool:
    """Whether all frames of an input go into one file; animated: they are no pages.

    Most programs show the first frame of a PNG alone, so pages go into one only if its name says
    that it is animated.
    """
    if made.name == "png":
        return animated or path.lower().endswith(".apng")
    return made.name in _OF_FRAMES


def sniff(prefix: bytes, name: str = "", named: str | None = None) -> str | None:
    """Return how to read a file: a key of PILLOW_PLUGINS, OTHER_PLUGINS, NETPBM, NPY, NPZ, TEXT.

    None for what is none of them.

    prefix: the file's first bytes; what they say goes before the name. named: the format that
    the user gave, which then has to be right. Raises UsageError for an unknown `named`.
    """
    if named:
        return named_input(named)
    for offset, signature, found in _SIGNATURES:
        if prefix[offset : offset + len(signature)] == signature:
            return found
    if prefix[4:8] == b"ftyp" and _brands(prefix) & {b"avif", b"avis"}:
        return "AVIF"
    if prefix[4:8] == b"ftyp" and _brands(prefix) & _HEIF_BRANDS:
        return "HEIF"
    suffix = os.path.splitext(name)[1].lower()
    if suffix == ".tga":
        return "TGA"
    if suffix in (".csv", ".tsv", ".txt") or (prefix and _NUMBER_BYTES.issuperset(prefix)):
        return "TEXT"
    return None


def _brands(prefix: bytes) -> set[bytes]:
    """The major brand and the compatible ones of an ISO media file (ISO/IEC 14496-12, 4.3)."""
    stop = min(int.from_bytes(prefix[:4], "big"), len(prefix))
    return {prefix[8:12], *(prefix[at : at + 4] for at in range(16, stop - 3, 4))}


def named_input(named: str) -> str:
    """Return the reader that a format's name means. Raises UsageError."""
    key = named.lower().removeprefix(".")
    found = _READ_BY_NAME.get(key, named.upper())
    if found not in PILLOW_PLUGINS and found not in _READ_BY_NAME.values():
        known = sorted({*_READ_BY_NAME, *(plugin.lower() for plugin in PILLOW_PLUGINS)})
        raise UsageError(f"format {named!r}: {not_among(key, known)}")
    return found


def output_dtype(
    made: Format, depth: str | None, source: np.dtype[np.generic]
) -> np.dtype[np.generic]:
    """Return the sample type to write.

    depth: `8`, `16`, `32f` or None for the default: raw formats hold what was computed (float32,
    or float64 where float32 would not hold the source's values); others keep the source's own
    type where they can, 8 bits for 8-bit sources, and otherwise take the most they can hold.
    source: `sample_type` of the image that was read. Raises UsageError when the format cannot
    hold the depth.
    """
    if depth is not None:
        wanted = {"8": U8, "16": U16, "32f": F32, "32": F32, "64f": F64}.get(str(depth))
        if wanted is None:
            raise UsageError(f"depth {depth!r}: expected 8, 16 or 32f")
        if wanted not in made.dtypes:
            able = ", ".join(one.name for one in FORMATS.values() if wanted in one.dtypes)
            raise UsageError(f"{made.name} cannot hold depth {depth}; these can: {able}")
        return np.dtype(wanted)
    if made.raw:
        wide = source.kind != "b" and source.itemsize >= (8 if source.kind == "f" else 4)
        return np.dtype(F64 if wide and F64 in made.dtypes else F32)
    if source.name in made.dtypes:
        return source
    if source.itemsize == 1:
        return np.dtype(made.dtypes[0])
    if source.kind == "f" and F32 in made.dtypes:
        return np.dtype(F32)
    return np.dtype(U16 if U16 in made.dtypes else made.dtypes[0])
