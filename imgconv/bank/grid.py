"""Numbers laid out as text: rows of cells, and nested brackets. Every complaint has a place."""

import re
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from imgconv.bank.kernel import LARGEST, MAX_SIDE, MAX_WEIGHTS
from imgconv.errors import KernelError

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_CELL = re.compile(rf"({NUMBER})(?:/({NUMBER}))?", re.ASCII)
_PIECE = re.compile(r"[^\s,]+|,")
_NEWLINE = re.compile(r"\r\n|\r|\n")
_TRAILING_DIVISOR = re.compile(rf"(?<=[\s;,\])}}])/\s*({NUMBER})[\s;]*\Z", re.ASCII)
_BRACKETED = re.compile(
    rf"""(?P<open>[\[({{])|(?P<close>[\])}}])|(?P<comma>,)|(?P<skip>\s+|\#[^\n]*)
    |(?P<quote>["'])(?P<quoted>{NUMBER}(?:/{NUMBER})?)(?P=quote)|(?P<cell>[^\s,\[\](){{}}]+)""",
    re.ASCII | re.VERBOSE,
)
_PAIRS = {"[": "]", "(": ")", "{": "}"}
MAX_DEPTH = 4


def shown(text: str, limit: int = 60) -> str:
    """Text for a one-line message: printable, and shortened in the middle."""
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return safe if len(safe) <= limit else f"{safe[: limit - 20]}…{safe[-19:]}"


def parse_number(token: str) -> float:
    """Return the value of `1`, `-0.5`, `1e-3` or `1/9`; raises ValueError saying why not."""
    match = _CELL.fullmatch(token)
    if match is None:
        kind = "not finite" if token.lstrip("+-").lower() in ("nan", "inf", "infinity") else None
        raise ValueError(
            f"{shown(token, 24)!r} is {kind or 'not a number'}, "
            "expected numbers such as 1, -0.5 or 1/9"
        )
    value = float(match[1])
    if match[2] is not None:
        below = float(match[2])
        if below == 0:
            raise ValueError(f"{shown(token, 24)} divides by zero")
        value /= below
    if not abs(value) <= LARGEST:
        raise ValueError(f"{shown(token, 24)} is beyond the range of float32")
    return value


class Row(NamedTuple):
    """One row of cells and the line it stands on, counted from 1."""

    line: int
    cells: list[float]


class Grid(NamedTuple):
    """Rows, not yet checked to be equally long, and the number after a trailing slash."""

    rows: list[Row]
    divisor: float
    lines: int


def parse_rows(text: str, source: str, first_line: int = 1, holes: bool = False) -> Grid:
    """Return the rows of `text`: cells by blanks or commas, rows by newline or semicolon.

    `#` starts a comment. A last `/9`, set apart, divides the whole. With `holes`, `-` and `nan`
    are cells that do not count. Raises KernelError with line and column.
    """
    divisor, text = split_divisor(text, source, first_line)
    rows: list[Row] = []
    fractions: list[str] = []
    whole = True
    lines = _NEWLINE.split(text)
    for line, content in enumerate(lines, first_line):
        start = 0
        for part in content.partition("#")[0].split(";"):
            cells = []
            for column, token in _cells(part, source, line, start):
                if holes and token.lower() in ("-", "nan"):
                    cells.append(0.0)
                    continue
                try:
                    cells.append(parse_number(token))
                except ValueError as error:
                    fail(source, line, column, str(error))
                if "/" in token:
                    fractions.append(token)
                whole = whole and ("/" in token or cells[-1].is_integer())
            start += len(part) + 1
            if cells:
                rows.append(Row(line, cells))
                if len(cells) > MAX_SIDE:
                    fail(source, line, None, f"{len(cells)} cells, expected at most {MAX_SIDE}")
    if fractions and whole and len(rows) > 1 and text.rstrip(" \t\r\n;").endswith(fractions[0]):
        # Only the last cell is a fraction: nearly always meant for the whole kernel.
        number, slash, below = fractions[0].partition("/")
        message = (
            f"{fractions[0]} is only the last cell: write '{number} {slash}{below}' to divide the "
            f"whole kernel by {below}, or the cell as a decimal"
        )
        fail(source, rows[-1].line, None, message)
    return Grid(rows, divisor, len(lines))


def _cells(part: str, source: str, line: int, start: int) -> Iterator[tuple[int, str]]:
    """Yield (column, token) of one row; a comma needs a cell before it."""
    expecting = True
    for match in _PIECE.finditer(part):
        column = start + match.start() + 1
        if match[0] != ",":
            expecting = False
            yield column, match[0]
        elif expecting:
            fail(source, line, column, "an empty cell, expected a number before the comma")
        else:
            expecting = True


def split_divisor(text: str, source: str, first_line: int = 1) -> tuple[float, str]:
    """Return the number after a trailing ` /` (1 without one) and the text before it."""
    match = _TRAILING_DIVISOR.search(text)
    if match is None:
        return 1.0, text
    line, column = place(text, match.start(), first_line)
    try:
        divisor = parse_number(match[1])
    except ValueError as error:
        fail(source, line, column, str(error))
    if divisor == 0:
        fail(source, line, column, "the divisor is zero")
    return divisor, text[: match.start()]


def rectangle(rows: list[Row], source: str) -> npt.NDArray[np.float64]:
    """Return rows as a 2-D array; raises KernelError for none or ragged ones."""
    if not rows:
        raise KernelError(f"{source}: empty, expected rows of numbers")
    width = len(rows[0].cells)
    for number, row in enumerate(rows, 1):
        if len(row.cells) != width:
            fail(
                source,
                row.line,
                None,
                f"row {number} has {count(row.cells)}, expected {width} as in row 1",
            )
    return np.array([row.cells for row in rows], dtype=np.float64)


def parse_brackets(text: str, source: str, first_line: int = 1) -> npt.NDArray[np.float64]:
    """Return the array written as nested lists, `[[1, 2], [3, 4]]`, with up to 4 levels.

    Round and curly brackets serve as well (C and NumPy), commas may be missing, `#` starts a
    comment. Reading stops behind the last bracket; only a divisor may follow. Raises KernelError
    with line and column for ragged lists, other cells and unbalanced brackets.
    """
    open_lists: list[tuple[str, int, int]] = []  # bracket, elements so far, position
    lengths: dict[int, int] = {}
    leaf_depth = 0
    values: list[float] = []

    def bad(position: int, message: str) -> NoReturn:
        line, column = place(text, position, first_line)
        fail(source, line, column, message)

    def element(position: int) -> None:
        bracket, elements, start = open_lists[-1]
        open_lists[-1] = (bracket, elements + 1, start)

    ready = False  # a comma may come
    for match in _BRACKETED.finditer(text):
        at, kind = match.start(), match.lastgroup
        if kind == "skip":
            continue
        if kind == "open":
            if leaf_depth and len(open_lists) >= leaf_depth:
                bad(at, "a list where a number was expected")
            if len(open_lists) == MAX_DEPTH:
                bad(at, f"lists nested deeper than {MAX_DEPTH}")
            if open_lists:
                element(at)
            open_lists.append((match[0], 0, at))
            ready = False
        elif not open_lists:
            bad(at, f"{shown(match[0], 24)!r} outside the brackets")
        elif kind == "comma":
            if not ready:
                bad(at, "a comma where a number or list was expected")
            ready = False
        elif kind == "close":
            bracket, elements, start = open_lists.pop()
            if match[0] != _PAIRS[bracket]:
                bad(at, f"'{match[0]}' closes '{bracket}'")
            if not elements:
                bad(start, "an empty list, expected numbers")
            if lengths.setdefault(len(open_lists), elements) != elements:
                expected = lengths[len(open_lists)]
                bad(start, f"a list of {elements}, expected {expected} as in the first")
            ready = True
            if not open_lists:
                _only_blank(text, match.end(), bad)
                break
        else:
            if not leaf_depth:
                leaf_depth = len(open_lists)
            if len(open_lists) != leaf_depth:
                bad(at, "a number where a list was expected")
            try:
                values.append(parse_number(match["quoted"] or match[0]))
            except ValueError as error:
                bad(at, str(error))
            if len(values) > MAX_WEIGHTS:
                bad(at, f"more than {MAX_WEIGHTS} weights")
            element(at)
            ready = True
    if open_lists:
        bad(open_lists[-1][2], f"'{open_lists[-1][0]}' is not closed")
    if not values:
        raise KernelError(f"{source}: empty, expected numbers in brackets")
    return np.array(values).reshape([lengths[depth] for depth in range(leaf_depth)])


def _only_blank(text: str, start: int, bad: object) -> None:
    rest = text[start:]
    for match in _BRACKETED.finditer(rest):
        if match.lastgroup != "skip":
            assert callable(bad)
            bad(start + match.start(), f"{shown(match[0], 24)!r} after the last bracket")


def place(text: str, position: int, first_line: int = 1) -> tuple[int, int]:
    """Return (line, column) of a position, both counted from 1."""
    before = _NEWLINE.split(text[:position])
    return first_line + len(before) - 1, len(before[-1]) + 1


def count(cells: list[float]) -> str:
    """`1 number` or `3 numbers`."""
    return f"{len(cells)} number{'s' if len(cells) != 1 else ''}"


def fail(source: str, line: int, column: int | None, message: str) -> NoReturn:
    """Raise KernelError naming source, line and column."""
    where = f"{source}, line {line}" + (f", column {column}" if column else "")
    raise KernelError(f"{where}: {message}")
