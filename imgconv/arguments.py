"""Arguments in a text: the `3,5,stride=2,1` behind the name of a kernel, pool, activation or step.

A value without a name belongs to the name before it, so a pair is `N,N` everywhere: vertical,
horizontal. Whoever reads such a text says in the ValueErrors' words what was wrong with it.
"""

import re
from collections.abc import Collection, Iterable

from imgconv.errors import KernelError

_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_COUNTS = {1: "one whole number", 2: "a pair N,N", 4: "four N,N,N,N"}


def not_among(name: str, known: Iterable[str]) -> str:
    """What a message says of a name that is not among those known: which are, and which is near.

    >>> not_among("reflct", ["zeros", "reflect"])
    "expected one of zeros, reflect; did you mean 'reflect'?"
    """
    import difflib

    names = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.strip().lower(), names, 1)
    hint = f"; did you mean {names[near[0]]!r}?" if near else ""
    return f"expected one of {', '.join(names.values())}{hint}"


def split_arguments(text: str) -> tuple[list[str], dict[str, list[str]]]:
    """Return the values before any name, and those of each name, as texts.

    Names are in lower case, with `_` for `-`. Raises ValueError for a value that is empty and a
    name that comes twice.
    """
    plain: list[str] = []
    named: dict[str, list[str]] = {}
    values = plain
    for part in text.split(",") if text.strip() else ():
        name, equals, value = part.partition("=")
        if equals:
            key = name.strip().lower().replace("-", "_")
            if key in named:
                raise ValueError(f"{name.strip()}= twice, expected it once")
            values = named[key] = []
        value = (value if equals else part).strip()
        if not value:
            where = f"no value after {part.strip()}" if equals else "nothing between two commas"
            raise ValueError(f"{where}, expected a value")
        values.append(value)
    return plain, named


def bind_arguments(text: str, known: Iterable[str]) -> dict[str, list[str]]:
    """Return the values of each known name that a text gives, those before any name in its order.

    Raises ValueError for a name that is not known, for more values than there are names, and for
    what `split_arguments` refuses.
    """
    names = {name.replace("-", "_"): name for name in known}
    expected = ", ".join(names.values()) or "no parameters"
    plain, named = split_arguments(text)
    if len(plain) > len(names):
        raise ValueError(f"{plain[len(names)]!r}, expected {expected}")
    found = {name: [value] for name, value in zip(names.values(), plain, strict=False)}
    for key, values in named.items():
        if key not in names:
            raise ValueError(f"{key + '=' + ','.join(values)!r}, expected {expected}")
        if names[key] in found:
            raise ValueError(f"{names[key]}= twice, expected it once")
        found[names[key]] = values
    return found


def one_value(name: str, values: list[str]) -> str:
    """The only value of a name. Raises ValueError where there are several."""
    if len(values) != 1:
        raise ValueError(f"{name}={','.join(values)}, expected one value")
    return values[0]


def whole_number(text: str) -> int:
    """Return the integer that a text of digits spells. Raises ValueError for anything else."""
    if not _WHOLE.fullmatch(text) or len(text) > 100:
        raise ValueError(f"{text.strip()[:40]!r}, expected a whole number")
    return int(text)


def whole_numbers(text: str, counts: Collection[int] = (1, 2)) -> int | tuple[int, ...]:
    """Return one integer, or a tuple of as many as `counts` allows, separated by commas.

    Raises ValueError naming what was got and expected.
    """
    parts = text.split(",")
    if len(parts) not in counts or not all(map(_WHOLE.fullmatch, parts)):
        raise ValueError(f"{text.strip()[:60]!r}, expected {counted(counts)}")
    numbers = tuple(map(whole_number, parts))
    return numbers[0] if len(numbers) == 1 else numbers


def counted(counts: Collection[int]) -> str:
    """How messages say that so many whole numbers are expected."""
    return " or ".join(_COUNTS.get(count, f"{count} whole numbers") for count in counts)


def real_number(text: str) -> float:
    """Return a decimal number. Raises ValueError for anything else."""
    try:
        if "_" not in text:
            return float(text)
    except ValueError:
        pass
    raise ValueError(f"{text.strip()[:40]!r}, expected a number")


def flag(text: str) -> bool:
    """Return what `true`, `1`, `false` or `0` says. Raises ValueError for anything else."""
    if text.strip().lower() not in _FLAGS:
        raise ValueError(f"{text.strip()[:40]!r}, expected true or false")
    return _FLAGS[text.strip().lower()]


def parse_number(token: str, where: str) -> float:
    """Return a decimal number or a fraction of two; `where` names its place in errors."""
    if token in ("nan", "NaN"):
        return 0.0
    try:
        if "_" in token:  # Python's digits in groups: nobody writes a kernel so
            raise ValueError
        if "/" in token:
            from fractions import Fraction

            above, below = token.split("/")
            for part in (above, below):
                # A fraction is exact: 1e99999999 would be written out, for minutes.
                if abs(int(part.lower().partition("e")[2] or 0)) > 400:
                    raise OverflowError
            return float(Fraction(above) / Fraction(below))
        return float(token)
    except ZeroDivisionError:
        raise KernelError(f"{where}: {token!r} divides by zero") from None
    except (ValueError, OverflowError):
        raise KernelError(f"{where}: {token[:40]!r}, expected a number") from None
