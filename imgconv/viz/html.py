"""Pages of one file: HTML with its style, script and pictures inside, closed to everything else.

The content security policy names the hashes of the one style and the one script, lets pictures be
data only, and forbids all else, so that no name shown on a page could load or run anything even if
it were not escaped.
"""

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np

from imgconv import __version__
from imgconv.typing import JSON, Bytes


def document(title: str, folder: Path, data: Mapping[str, JSON], body: str) -> bytes:
    """Return a page as UTF-8, with the style page.css and the script page.js of a folder.

    data: what the script finds in `document.body.dataset`, as JSON. body: HTML.
    """
    style, script = (
        (folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    attributes = "".join(f' data-{name}="{attribute(value)}"' for name, value in data.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{text(title)}</title>
<style>{style}</style>
</head>
<body{attributes}>
{body}
<footer>Made by imgconv {text(__version__)}. This page needs no network and sends nothing.</footer>
<script>{script}</script>
</body>
</html>
""".encode("utf-8", "replace")


def text(words: str) -> str:
    """Escaped, with control characters replaced, for text and quoted attributes."""
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words))


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def attribute(value: JSON) -> str:
    """A value as JSON within a quoted attribute."""
    return escape(json.dumps(value, ensure_ascii=True, separators=(",", ":")))


def picture(pixels: Bytes, kind: str, **options: int) -> str:
    """Pixels (H, W) or (H, W, 1 or 3) as the address of a picture. kind: png or jpeg."""
    from PIL import Image

    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(flat)).save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
