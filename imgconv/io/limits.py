"""How large an image may be before it is refused, and what says so."""

from imgconv.errors import ImageError, LimitError

# Pillow raises above twice its warning limit of 2³⁰ / 4 / 3 pixels; so do we.
MAX_PIXELS = 2 * (1024 * 1024 * 1024 // 4 // 3)
MAX_FRAMES = 1 << 20
_BYTES_PER_PIXEL = 16
_SLACK = 1 << 26


def check_frames(name: str, number: int) -> None:
    """Raise LimitError for more frames than are gone through; a header may declare any number."""
    if number > MAX_FRAMES:
        raise LimitError(f"{name}: {number} frames, more than the {MAX_FRAMES} of --frame all")


def file_limit(max_pixels: int) -> int:
    """The most bytes a file of an image within the limit can need."""
    return _BYTES_PER_PIXEL * max_pixels + _SLACK


def check_size(name: str, height: int, width: int, limit: int) -> None:
    """Raise LimitError for a declared size beyond the limit, ImageError for an empty one."""
    if height * width > limit:
        raise LimitError(
            f"{name}: {width}×{height} pixels are more than the limit of {limit}; "
            "--max-pixels raises it"
        )
    if height < 1 or width < 1:
        raise ImageError(f"{name}: an image of {width}×{height} pixels")
