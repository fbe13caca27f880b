"""Pillow as a decoder: which plugins may run, and what each of its modes becomes.

| Pillow's mode | array |
|---|---|
| 1 | uint8 gray, 0 and 255 |
| L, LA, RGB, RGBA | as it is |
| La, RGBa (premultiplied) | LA, RGBA: opacity divided out |
| P | uint8 RGB; RGBA where the palette or the file has transparency |
| PA | uint8 RGBA |
| L, RGB, 1 with one transparent color | LA, RGBA |
| CMYK, YCbCr, HSV | uint8 RGB by Pillow's own formulas (CMYK: 255 − min(255, C + K); YCbCr: JFIF) |
| LAB | uint8 RGB through LittleCMS, to sRGB |
| I;16, I;16L, I;16B, I;16N | uint16 |
| I | int32; int16 where the file's samples are signed and 16 bits wide |
| F | float32 |

A profile of CMYK or LAB does not describe the RGB that comes out and is dropped.
"""

import contextlib
import ctypes
import functools
import importlib
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import numpy as np

from imgconv.errors import ImageError, ImgconvError, LimitError
from imgconv.io.formats import OTHER_PLUGINS, PILLOW_PLUGINS
from imgconv.io.limits import check_size
from imgconv.typing import Array

if TYPE_CHECKING:
    from PIL import Image as Pillow
    from PIL.ImageFile import ImageFile

# What Pillow raises for files that are broken (its own bomb types are added when it is imported).
_BROKEN = (
    OSError, SyntaxError, ValueError, MemoryError, NotImplementedError, OverflowError, EOFError,
    TypeError, IndexError, KeyError, AttributeError, AssertionError, RuntimeError,
    ZeroDivisionError, struct.error, zlib.error,
)  # fmt: skip
_guard_lock = threading.Lock()
_guard_depth = 0
_guard_stack: contextlib.ExitStack | None = None


@contextlib.contextmanager
def _guarded(max_pixels: int) -> Iterator[None]:
    """Silence Pillow's warnings about odd files and let our limit be the one that holds.

    Both are settings of the whole process, so threads that overlap in here share them: the first
    one sets, the last one restores, and the largest limit wins (each caller checks its own too).
    """
    global _guard_depth, _guard_stack
    import logging

    from PIL import Image as Pillow

    with _guard_lock:
        if _guard_stack is None:
            logging.getLogger("PIL").addHandler(logging.NullHandler())
            _guard_stack = contextlib.ExitStack()
            _guard_stack.callback(setattr, Pillow, "MAX_IMAGE_PIXELS", Pillow.MAX_IMAGE_PIXELS)
            _guard_stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _guard_depth += 1
        if Pillow.MAX_IMAGE_PIXELS is not None:  # it raises above twice this
            Pillow.MAX_IMAGE_PIXELS = max(Pillow.MAX_IMAGE_PIXELS, -(-max_pixels // 2))
    try:
        yield
    finally:
        with _guard_lock:
            _guard_depth -= 1
            if _guard_depth == 0 and _guard_stack is not None:
                _guard_stack.close()
                _guard_stack = None


@contextlib.contextmanager
def decoding(
    name: str, max_pixels: int, broken: tuple[type[Exception], ...] = _BROKEN
) -> Iterator[None]:
    """Turn what a library raises for a broken file into an ImageError or LimitError of one line.

    broken: the errors of that library, Pillow's by default.
    """
    from PIL import Image as Pillow

    with _guarded(max_pixels):
        try:
            yield
        except ImgconvError:
            raise
        except Pillow.DecompressionBombError:
            raise LimitError(
                f"{name}: declares more pixels than the limit of {max_pixels}; "
                "--max-pixels raises it"
            ) from None
        except broken as error:
            raise ImageError(f"{name}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    words = " ".join(str(error).split())
    if isinstance(error, struct.error):
        words = "a part of it is shorter than it has to be"
    # Numbers and names of a library's insides tell nobody what is wrong.
    inside = (KeyError, IndexError, AttributeError, AssertionError, TypeError, UnicodeError)
    if isinstance(error, inside) or not re.search("[A-Za-z]{3} ", words + " "):
        words = "its data makes no sense"
    if words.startswith("decoder error"):
        words = "its compressed data makes no sense"
    if words == "not identified by this driver":
        words = "its header makes no sense"
    return f"broken image: {words}"


def open_image(file: IO[bytes], kind: str, name: str) -> "ImageFile":
    """Return an opened, not yet decoded Pillow image. Call inside `decoding`."""
    from PIL import Image as Pillow

    if kind in OTHER_PLUGINS:
        _register(kind, name)
    else:
        importlib.import_module(f"PIL.{PILLOW_PLUGINS[kind]}")
    if kind == "TIFF":
        silence_libtiff()
    factory, accept = Pillow.OPEN[kind]
    file.seek(0)
    if accept is not None and accept(file.read(16)) is not True:
        raise ImageError(f"{name}: not a {kind} image")
    file.seek(0)
    # Not Image.open: it warns of images that our own limit allows, and imports every plugin.
    return factory(file, "")


def _register(kind: str, name: str) -> None:
    """Let Pillow know a format that another package reads. Raises ImageError without it."""
    module, package = OTHER_PLUGINS[kind]
    try:
        plugin = importlib.import_module(module)
    except ImportError:
        raise ImageError(f"{name}: {kind} is read where {package} is installed") from None
    if kind == "HEIF":
        plugin.register_heif_opener()


def check_pixels(opened: "ImageFile", name: str, max_pixels: int) -> None:
    """Raise LimitError where an opened image declares more pixels than the limit."""
    check_size(name, opened.height, opened.width, max_pixels)


def load(opened: "ImageFile", partial: bool) -> str:
    """Decode an opened image; partial: as far as it goes, and return why it ends there.

    Call inside `decoding`.
    """
    try:
        opened.load()
    except OSError as error:
        if not partial or opened.im is None:
            raise
        if opened.tile:
            opened.tile = []  # Pillow has kept what it decoded
            with contextlib.suppress(*_BROKEN):
                opened.load_end()
        return " ".join(str(error).split())
    return ""


@functools.cache
def silence_libtiff() -> None:
    """Keep libtiff from printing to standard error what Pillow raises anyway.

    Pillow has no switch for it; the library that it has loaded is asked itself.
    """
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            path = next(line.split(maxsplit=5)[5].rstrip() for line in maps if "/libtiff" in line)
        library = ctypes.CDLL(path)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            function = getattr(library, name)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
            function(None)
    except (AttributeError, OSError, StopIteration):
        return


def frame_count(opened: "ImageFile") -> int:
    """How many frames an opened image has."""
    return int(getattr(opened, "n_frames", 1))


def orientation_of(opened: "ImageFile") -> int:
    """EXIF orientation 1…8; 1 where there is none or it cannot be read."""
    try:
        value = opened.getexif().get(0x0112, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def to_array(loaded: "Pillow.Image", signed_16: bool = False) -> tuple[Array, bool, bool]:
    """Return (pixels (H, W, C), whether the last is opacity, whether a profile still fits)."""
    mode = loaded.mode
    if mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        return _sixteen(loaded)
    if mode == "I":
        wide = np.asarray(loaded, dtype=np.int32)
        return (wide.astype(np.int16) if signed_16 else wide)[..., None], False, True
    if mode == "F":
        return np.asarray(loaded, dtype=np.float32)[..., None], False, True
    keyed = loaded.info.get("transparency") is not None
    if mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(loaded, lab, srgb, outputMode="RGB")
        return np.asarray(converted), False, False
    target = {
        "1": "LA" if keyed else "1",
        "L": "LA" if keyed else "L",
        "La": "LA",
        "LA": "LA",
        "RGB": "RGBA" if keyed else "RGB",
        "RGBa": "RGBA",
        "RGBA": "RGBA",
        "PA": "RGBA",
        "P": "RGBA" if loaded.has_transparency_data else "RGB",
    }.get(mode, "RGB")
    if mode == "1" and keyed:
        loaded = loaded.convert("L")
        loaded.info["transparency"] = 255 * (loaded.info.get("transparency", 0) > 0)
    pixels = np.asarray(loaded if target == loaded.mode else loaded.convert(target))
    if pixels.dtype == np.bool_:
        pixels = pixels * np.uint8(255)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return pixels, target in ("LA", "RGBA"), mode not in ("CMYK", "YCbCr", "HSV")


def _sixteen(loaded: "Pillow.Image") -> tuple[Array, bool, bool]:
    pixels = np.asarray(loaded).astype(np.uint16)[..., None]
    key = loaded.info.get("transparency")
    if not isinstance(key, int):
        return pixels, False, True
    opacity = np.where(pixels == key, 0, 65535).astype(np.uint16)
    return np.concatenate([pixels, opacity], axis=2), True, True
