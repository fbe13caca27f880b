"""Kernel text: the forms people write a matrix in.

- rows by `;` or lines, numbers by blanks or commas, fractions such as 1/9:
  `0 -1 0; -1 5 -1; 0 -1 0`
- in brackets, as Python, MATLAB, G'MIC and C have them (`brackets`)
- ImageMagick's `3x3: 1 2 1 …`, width by height, with an origin (`3x3+0+2:`, x and y of the anchor)
  and a rotation suffix: `@` all eight 45° turns, `>` four 90° turns, `<` two 180° turns
- libvips' mask files: a first line `width height [scale [offset]]`, then the rows

A cell `nan`, in ImageMagick's text also `-`, is outside the kernel's shape and weighs nothing.
"""

import re
from dataclasses import replace
from typing import Literal

import numpy as np

from imgconv.arguments import parse_number
from imgconv.errors import KernelError
from imgconv.kernels.kernel import Kernel
from imgconv.kernels.transform import joined, rotated, turned_anchor

Form = Literal["text", "csv", "mask"]

MAX_SIDE = 1025
MAX_WEIGHTS = 1 << 24
_MAX_LINES = 1 << 16  # with comments and empty ones
_ENDS = ";\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # of rows; the last nine as `splitlines` has it

_MAGICK = re.compile(r"\s*(\d+)(?:x(\d+))?(?:\+(\d+)\+(\d+))?\s*([@<>^])?\s*:\s*(.*)", re.DOTALL)
_GAP = re.compile(r"(?<=[^\s,])[\s,]+(?=[^\s,])")
_DECIMAL = re.compile(r"[-+]?0,\d+")
_TURNS = {"@": range(0, 360, 45), ">": range(0, 360, 90), "^": range(0, 360, 90), "<": (0, 180)}


def parse_kernel_text(text: str, source: str = "kernel", form: Form = "text") -> Kernel:
    """Return the kernel that a text spells; `source` names it in errors.

    form: `mask` is a libvips mask file, whose first line is a header whatever it looks like; in
    `csv` a comma always parts two numbers. Raises KernelError naming the line and column of what
    cannot be understood.
    """
    if not text.strip():
        raise KernelError(f"{source}: empty, expected a matrix such as '0 -1 0; -1 5 -1; 0 -1 0'")
    if any(bracket in text for bracket in "[({"):
        from imgconv.kernels import brackets  # whose expressions take a millisecond

        if brackets.is_bracketed(text):
            return from_array(_nested(text, source), source)
    magick = _MAGICK.fullmatch(text)
    if magick:
        return _from_magick(magick, source)
    rows = _rows(text, source, form == "mask")
    if form == "text":
        _check_decimals(text, source)
    if form == "mask" or _is_mask(rows):
        return _from_mask(rows, source)
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise KernelError(
                f"{source}: row {number} has {len(row)} numbers, expected {width} as in row 1"
            )
    return from_array(rows, source)


def _nested(text: str, source: str) -> object:
    """The numbers in brackets; large ones are mostly JSON, which its own parser reads fast."""
    if text.lstrip().startswith("[["):
        import json

        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    from imgconv.kernels.brackets import parse_bracketed

    return parse_bracketed(text, source)


# A signalling NaN's conversion, and a sum of huge weights, are no news on standard error.
@np.errstate(invalid="ignore", over="ignore")
def from_array(values: object, source: str) -> Kernel:
    """Return a kernel from an array of (kH, kW), (C_out, kH, kW) or (C_out, C_in, kH, kW).

    Raises KernelError for ragged, empty, non-finite or oversized arrays.
    """
    try:
        weights = np.array(values, np.float64)
        if isinstance(values, list) and not _only_numbers(values):
            raise TypeError
    except (ValueError, TypeError, OverflowError):
        raise KernelError(f"{source}: expected equally long rows of numbers") from None
    if weights.ndim == 2:
        weights = weights[None, None]
    elif weights.ndim == 3:
        weights = weights[:, None]
    if weights.ndim != 4 or 0 in weights.shape:
        raise KernelError(
            f"{source}: an array of shape {weights.shape}, expected (kH, kW), (C_out, kH, kW) or "
            "(C_out, C_in/groups, kH, kW)"
        )
    if max(weights.shape[2:]) > MAX_SIDE or weights.size > MAX_WEIGHTS:
        raise KernelError(
            f"{source}: a kernel of {weights.shape[2]}×{weights.shape[3]} and {weights.size} "
            f"weights, expected sides of at most {MAX_SIDE} and at most {MAX_WEIGHTS} weights"
        )
    if not np.isfinite(weights).all():
        raise KernelError(f"{source}: NaN or infinity among the weights, expected finite numbers")
    labels = tuple(str(i) for i in range(len(weights))) if len(weights) > 1 else ()
    signed = bool((weights < 0).any()) and abs(float(weights.sum())) < 1e-9
    return Kernel(
        "kernel", weights, labels=labels, scale="abs" if signed else "clip", source=source
    )


def _only_numbers(values: object) -> bool:
    """Whether nested lists hold numbers, not texts or truths, which NumPy takes for numbers too."""
    if isinstance(values, list):
        return all(map(_only_numbers, values))
    return isinstance(values, int | float) and not isinstance(values, bool)


def _rows(text: str, source: str, loose: bool) -> list[list[float]]:
    """The numbers by rows; `loose` takes any mixture of blanks and commas between them."""
    check_rows(text, source)
    rows = []
    for line_number, line in enumerate(text.splitlines(), 1):
        column = 1
        for part in line.split("#")[0].split(";"):
            row: list[float] = []
            if "," in part and not loose:
                _check_commas(part, f"{source}: line {line_number}")
            for token in re.finditer(r"[^\s,]+", part):
                where = f"{source}: line {line_number}, column {column + token.start()}"
                row.append(parse_number(token[0], where))
                if len(row) > MAX_SIDE:
                    raise KernelError(
                        f"{where}: more than {MAX_SIDE} numbers in a row, expected at most "
                        f"{MAX_SIDE}"
                    )
            column += len(part) + 1
            if row:
                rows.append(row)
            elif part.strip(", \t"):
                raise KernelError(f"{source}: line {line_number}: no numbers in {part!r}")
    if not rows:
        raise KernelError(f"{source}: no numbers, expected a matrix")
    return rows


def check_rows(text: str, source: str) -> None:
    """Raise KernelError for far more lines than a kernel has, before a list is made of them."""
    lines = sum(map(text.count, _ENDS))
    if lines > _MAX_LINES:
        raise KernelError(
            f"{source}: {lines} lines, expected sides of at most {MAX_SIDE} and {_MAX_LINES} lines"
        )


def _check_decimals(text: str, source: str) -> None:
    """Raise KernelError where every row is `0,25`: hardly anybody means a column of zeros there."""
    rows = [part.strip() for line in text.splitlines() for part in line.split("#")[0].split(";")]
    rows = [row for row in rows if row]
    if all(map(_DECIMAL.fullmatch, rows)):
        raise KernelError(
            f"{source}: {rows[0][:40]!r}: a decimal comma? expected a point in decimal fractions, "
            "or a blank behind a comma between two numbers"
        )


def _check_commas(part: str, where: str) -> None:
    """Raise KernelError where commas may be decimal ones, or nothing is before one."""
    gaps = _GAP.findall(part)
    if any(gap.count(",") > 1 for gap in gaps) or part.lstrip().startswith(","):
        raise KernelError(f"{where}: nothing before a comma, expected a number")
    if len({"," in gap for gap in gaps}) > 1:
        raise KernelError(
            f"{where}: {part.strip()[:40]!r}: both blanks and commas between numbers, expected one "
            "of them, and a point in decimal fractions"
        )


def _fits_header(rows: list[list[float]]) -> bool:
    """Whether the first row is the width and height of those below, perhaps with their scale."""
    head, body = rows[0], rows[1:]
    return (
        2 <= len(head) <= 4 and bool(body) and head[:2] == [len(body[0]), len(body)]
        and all(len(row) == head[0] for row in body)
    )  # fmt: skip


def _is_mask(rows: list[list[float]]) -> bool:
    """Whether a text can only be a mask: its first row is a header, and too short or too long."""
    return _fits_header(rows) and len(rows[0]) != len(rows[1])


def _from_mask(rows: list[list[float]], source: str) -> Kernel:
    if not _fits_header(rows):
        raise KernelError(
            f"{source}: line 1: expected the width and height of the rows below, and perhaps their "
            "scale and offset, such as 3 3 9 0"
        )
    kernel = from_array(rows[1:], source)
    scale, offset = (*rows[0], 1.0, 0.0)[2:4] if len(rows[0]) != 3 else (rows[0][2], 0.0)
    if scale == 0:
        raise KernelError(f"{source}: line 1: scale 0, expected a divisor other than 0")
    bias = np.array([offset]) if offset else None
    return Kernel("kernel", kernel.weights, bias, scale, scale=kernel.scale, source=source)


def _from_magick(match: re.Match[str], source: str) -> Kernel:
    width = int(match[1])
    height = int(match[2] or match[1])
    if max(width, height) > MAX_SIDE or min(width, height) < 1:
        raise KernelError(f"{source}: {width}x{height}, expected sides of 1 to {MAX_SIDE}")
    anchor = int(match[4] or (height - 1) // 2), int(match[3] or (width - 1) // 2)
    if anchor[0] >= height or anchor[1] >= width:
        raise KernelError(
            f"{source}: {width}x{height} with origin +{anchor[1]}+{anchor[0]}, expected +0+0 to "
            f"+{width - 1}+{height - 1}"
        )
    _check_layout(match[6], width, height, source)
    tokens = re.split(r"[\s,;]+", match[6].strip(" \t\r\n,;"))
    if len(tokens) != width * height:
        raise KernelError(
            f"{source}: {width}x{height} with {len(tokens)} numbers, expected {width * height}"
        )
    values = [
        0.0 if token == "-" else parse_number(token, f"{source}: number {number}")
        for number, token in enumerate(tokens, 1)
    ]
    kernel = from_array(np.reshape(values, (height, width)), source)
    if (2 * anchor[0] + 1, 2 * anchor[1] + 1) != (height, width):  # a middle needs no saying
        kernel = replace(kernel, anchor=anchor)
    if not match[5]:
        return kernel
    angles = _TURNS[match[5]]
    if width != height and 90 in angles:
        raise KernelError(
            f"{source}: {width}x{height}{match[5]}, expected a square matrix for turns by 90°"
        )
    bank, turned = joined(
        [rotated(kernel.weights, angle, source) for angle in angles],
        [kernel.anchor and turned_anchor(kernel.anchor, kernel.size, angle, source)
         for angle in angles],
    )  # fmt: skip
    return replace(
        kernel, weights=bank, labels=tuple(map(str, angles)),
        captions=tuple(f"{angle}°" for angle in angles), anchor=turned,
    )  # fmt: skip


def _check_layout(text: str, width: int, height: int, source: str) -> None:
    """Raise KernelError for rows of another length than the width, which comes first there."""
    lines = re.split(r"[;\n]", text)
    counts = [len(found) for line in lines if (found := re.findall(r"[^\s,]+", line))]
    turned = counts == [height] * width and 1 < width != height
    if turned or (";" in text and len(counts) > 1 and counts != [width] * height):
        raise KernelError(
            f"{source}: {width}x{height} is width by height, expected {height} rows of {width} "
            f"numbers, got rows of {', '.join(map(str, dict.fromkeys(counts)))}"
        )
