"""Text in pictures: Pillow's built-in font, which knows ASCII and these few other signs."""

import re
import unicodedata
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

Font: TypeAlias = "ImageFont.FreeTypeFont | ImageFont.ImageFont"

_FRACTION = re.compile(r"-?[0-9]+\.[0-9]+(?:e[+-]?[0-9]+)?")
_KNOWN = frozenset("·…°±")
_INSTEAD = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "×": "x", "σ": "sigma", "θ": "theta", "λ": "lambda"}
)


def font(size: float) -> "Font":
    """The font that comes with Pillow."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def drawable(text: str) -> str:
    """The text in signs that the font has: minus as -, é as e, ? for what has no likeness."""
    signs = []
    for sign in text.translate(_INSTEAD):
        plain = sign if sign in _KNOWN else unicodedata.normalize("NFKD", sign)
        kept = "".join(c for c in plain if c in _KNOWN or (c.isascii() and c.isprintable()))
        signs.append(kept or "?")
    return "".join(signs)


def fit(text: str, width: float, pen: "ImageDraw.ImageDraw", letters: "Font") -> str:
    """The drawable text, with … where it is cut to a width in pixels."""
    clean = drawable(text)
    if pen.textlength(clean, font=letters) <= width:
        return clean
    while clean and pen.textlength(clean + "…", font=letters) > width:
        clean = clean[:-1]
    return clean + "…"


def fit_numbers(text: str, width: float, pen: "ImageDraw.ImageDraw", letters: "Font") -> str:
    """As `fit`, but with fewer digits first: a number that is cut is another number."""
    for digits in (4, 3, 2):
        short = _rounded(text, digits)
        if pen.textlength(drawable(short), font=letters) <= width:
            return drawable(short)
    return fit(text, width, pen, letters)


def _rounded(text: str, digits: int) -> str:
    """The text, its fractions rounded to significant digits."""
    return _FRACTION.sub(lambda found: f"{float(found[0]):.{digits}g}", text)
