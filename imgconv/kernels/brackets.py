"""Matrices in brackets, as languages and tools print them and as people paste them.

- MATLAB and Octave: `[0 1 0; 1 -4 1; 0 1 0]`, rows also by lines
- Python, NumPy, PyTorch: nested lists or tuples with or without commas, `np.array([[…]]) / 9`
- G'MIC: `(0,1,0;1,-4,1;0,1,0)`
- C: `{{0, 1, 0}, {1, -4, 1}, {0, 1, 0}}`, `float k[3][3] = {0, 1, …};`, numbers such as 1.0f

A factor before the matrix (`1/9 * […]`) or behind it (`[…] / 9`, `* 0.5`) multiplies every weight;
`'` and `.T` behind it transpose.
"""

import re
from typing import NamedTuple

import numpy as np

from imgconv.arguments import parse_number
from imgconv.errors import KernelError

_CLOSING = {"[": "]", "(": ")", "{": "}"}
_MOST_NESTED = 4
# Possessive throughout (`*+`): what has matched is not tried again in parts, for minutes.
_DIGITS = r"[-+]?[\d.](?:[eE][-+]\d|[\w.])*+"
_NUMBER = rf"{_DIGITS}(?:/{_DIGITS})?+"
# `k = `, `const float k[3][3] = `, `kernel: np.ndarray = `
_DECLARED = re.compile(r"\s*+[A-Za-z_][\w\s*:.]*+((?:\[\s*+\d*+\s*+\]\s*+)*+)=\s*+")
_FACTOR = re.compile(rf"\s*+(?:\(\s*+({_NUMBER})\s*+\)|({_NUMBER}))\s*+\*\s*+")
_CALL = re.compile(r"\s*+[A-Za-z_][\w.]*+\s*+\((?=\s*+[\[({])")
_END_OF_CALL = re.compile(r"\s*+(?:,\s*+(?:\w++\s*+=\s*+)?['\"A-Za-z][\w.:'\"]*+\s*+)*+,?\s*+\)")
_BEHIND = re.compile(rf"\s*+(?:([*/])\s*+({_NUMBER})|(\.T\b|'))")
_COMMENT = re.compile(r"(?:#|//|%)[^\n]*|\.\.\.[^\n]*\n")
_TOKEN = re.compile(r"([\[({])|([\])}])|([,;])|(\n)|[^\S\n]+|([^\s,;\[\](){}]+)")

Nested = list["float | Nested"]


class _Place(NamedTuple):
    """Where a token of a text is, for errors."""

    text: str
    source: str

    def at(self, position: int) -> str:
        line = self.text.count("\n", 0, position) + 1
        column = position - self.text.rfind("\n", 0, position)
        return f"{self.source}: line {line}, column {column}"


def is_bracketed(text: str) -> bool:
    """Whether a text is a matrix in brackets, perhaps declared, with a factor, or in a call."""
    at = 0
    for form in (_DECLARED, _FACTOR, _CALL):
        before = form.match(text, at)
        at = before.end() if before else at
    return text[at:].lstrip()[:1] in _CLOSING


def parse_bracketed(text: str, source: str) -> object:
    """The numbers of a matrix in brackets as nested lists or an array, (kH, kW) or deeper.

    Raises KernelError naming the line and column of what cannot be understood.
    """
    # Blanks for comments and MATLAB's continued lines, so that columns stay what they are.
    text = _COMMENT.sub(lambda comment: " " * len(comment[0]), text)
    place, at, factor, sides = _Place(text, source), 0, 1.0, []
    if declared := _DECLARED.match(text):
        at, sides = declared.end(), [int(side) for side in re.findall(r"\d+", declared[1])]
    if before := _FACTOR.match(text, at):
        factor = parse_number(before[1] or before[2], place.at(before.start(1)))
        at = before.end()
    call = _CALL.match(text, at)
    at = call.end() if call else at
    if text[at:].lstrip()[:1] not in _CLOSING:  # what stood there was a comment
        raise KernelError(f"{place.at(at)}: expected a matrix in brackets")
    values, at = _group(place, at)
    if call:
        end = _END_OF_CALL.match(text, at)
        if end is None:
            raise KernelError(f"{place.at(at)}: expected `)` behind the matrix")
        at = end.end()
    turned = False
    while behind := _BEHIND.match(text, at):
        at = behind.end()
        if behind[3]:
            turned = not turned
            continue
        number = parse_number(behind[2], place.at(behind.start(2)))
        if number == 0 and behind[1] == "/":
            raise KernelError(f"{place.at(behind.start(2))}: {behind[2]!r} divides by zero")
        factor = factor / number if behind[1] == "/" else factor * number
    if rest := text[at:].strip(" \t\r\n;"):
        at = text.index(rest, at)
        raise KernelError(f"{place.at(at)}: {rest[:40]!r} behind the matrix")
    if not any(isinstance(value, list) for value in values):
        values = _shaped(values, sides, source)
    if factor == 1 and not turned:
        return values
    try:
        with np.errstate(all="ignore"):  # `from_array` refuses what is not finite
            weights = np.array(values, np.float64) * factor
    except ValueError:
        return values  # which `from_array` refuses, in words
    return weights.swapaxes(-1, -2) if turned else weights


def _shaped(numbers: Nested, sides: list[int], source: str) -> Nested:
    """Numbers in one pair of brackets: a row, or what a C declaration says of them."""
    if len(sides) < 2:
        return [numbers]
    if np.prod(sides) != len(numbers):
        expected = "×".join(map(str, sides))
        raise KernelError(f"{source}: {len(numbers)} numbers, expected {expected} as declared")
    shaped: Nested = np.reshape(np.array(numbers, np.float64), sides).tolist()
    return shaped


def _group(place: _Place, start: int) -> tuple[Nested, int]:
    """The values of the brackets that open at `start`, and where the text goes on."""
    opened: list[tuple[str, list[Nested]]] = []  # brackets and the rows in them
    after = ""  # what the last token was
    for token in _TOKEN.finditer(place.text, start):
        opening, closing, mark, line, number = token.groups()
        where = token.start()
        if opening:
            if len(opened) == _MOST_NESTED:
                raise KernelError(f"{place.at(where)}: more than {_MOST_NESTED} levels of brackets")
            opened.append((opening, [[]]))
            after = "("
        elif closing:
            bracket, rows = opened.pop()
            if _CLOSING[bracket] != closing:
                raise KernelError(f"{place.at(where)}: {closing!r}, expected {_CLOSING[bracket]!r}")
            values = _joined(rows)
            if not values:
                raise KernelError(f"{place.at(where)}: no numbers in the brackets")
            if not opened:
                return values, token.end()
            opened[-1][1][-1].append(values)
            after = "group"
        elif mark == ",":
            if after in (",", "(", ";"):
                raise KernelError(f"{place.at(where)}: nothing before a comma, expected a number")
            after = ","
        elif mark or (line and after == "number"):
            opened[-1][1].append([])
            after = ";" if mark else "line"
        elif number:
            text = re.sub(r"(?<=[\d.])[fFlL](?=/|$)", "", number)
            opened[-1][1][-1].append(parse_number(text, place.at(where)))
            after = "number"
    bracket = opened[-1][0] if opened else "["
    raise KernelError(f"{place.source}: {bracket!r} is not closed, expected {_CLOSING[bracket]!r}")


def _joined(rows: list[Nested]) -> Nested:
    """Rows as a matrix; one row, and rows of brackets, as their values."""
    rows = [row for row in rows if row]
    if len(rows) > 1 and not any(isinstance(value, list) for row in rows for value in row):
        return list(rows)
    return [value for row in rows for value in row]
