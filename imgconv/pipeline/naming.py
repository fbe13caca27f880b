"""What files are called: names that come from data, and templates such as `{stem}-{map}.png`.

Labels of kernels, layers of networks, keys of objects in a store and the like are anybody's text.
`component` is the one way from such a text into a path: it makes a single part of it, the same on
every system, so that nothing lands outside of the folder that was chosen.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from imgconv.errors import UsageError
from imgconv.io.remote import is_url

_LONGEST = 120  # bytes: a file's name, which has further parts, ends at 255
_FORBIDDEN = frozenset('<>:"/\\|?*')  # in names on Windows; / everywhere
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# In archives of arrays these are not maps.
_RESERVED = ("imgconv", "__metadata__")
_FIELD = re.compile(r"\{\{|\}\}|\{([A-Za-z_][^{}]*)\}")
_NUMBER = re.compile(r"(0?\d{1,2})?d?")
_EXTENSION = re.compile(r"(\.\w{1,12}){0,2}", re.ASCII)
_OME = re.compile(r"\.ome\.tiff?", re.IGNORECASE)


class Part(NamedTuple):
    """What tells one result of an input from the others; each is a component.

    kernel: of the kernel. name: of the map among all, "" where there is one. full: kernel and map.
    """

    kernel: str
    name: str
    full: str


def component(text: str) -> str:
    """Return a text as one part of a path that every system takes; never empty, `.` or `..`.

    What cannot be in it becomes `_`, at its ends nothing. Twice is once:
    component(component(x)) == component(x).
    """
    safe = "".join(c if c.isprintable() and c not in _FORBIDDEN else "/" for c in text)
    name = safe.strip("/. ").replace("/", "_") or "_"
    if _DEVICE.fullmatch(name):
        name = f"_{name}"
    return name.encode()[:_LONGEST].decode("utf-8", "ignore").rstrip(". ")


def spelled(text: str) -> str:
    """A kernel's or network's name with its parameters as a component: `gaussian-sigma2`."""
    return component(re.sub(r"[\s:,;|]+", "-", text).replace("=", ""))


def unique(names: Iterable[str]) -> list[str]:
    """Names of which no two are alike, also where case does not count: alike ones are numbered."""
    names = list(names)
    keys = [name.casefold() for name in names]
    if not all(map(str.isascii, names)):
        import unicodedata

        keys = [unicodedata.normalize("NFC", key) for key in keys]
    often = Counter([*keys, *_RESERVED, *_RESERVED])
    taken = {key for key, count in often.items() if count == 1}
    numbers: Counter[str] = Counter()
    found = []
    for name, key in zip(names, keys, strict=True):
        numbered, again = name, key
        while often[key] > 1:
            numbers[key] += 1
            numbered, again = f"{name}-{numbers[key]}", f"{key}-{numbers[key]}"
            if again not in often and again not in taken:
                break
        taken.add(again)
        found.append(numbered)
    return found


def split_source(source: str) -> tuple[str, str]:
    """(stem, extension) of what an input is called; the names of files are left as they are."""
    if source == "-":
        return "stdin", ""
    if source.startswith("sample:"):
        return component(source.removeprefix("sample:").replace(":", "-")), ""
    if is_url(source):
        path = re.split(r"[?#]", source)[0] if source.startswith(("http:", "https:")) else source
        stem, suffix = _split(path.rstrip("/").rpartition("/")[2])
        return component(stem), suffix if _EXTENSION.fullmatch(suffix) else ""
    return _split(os.path.basename(source.rstrip("/" + os.sep)))


def _split(base: str) -> tuple[str, str]:
    stem, suffix = os.path.splitext(base)
    if ome := _OME.fullmatch(os.path.splitext(stem)[1] + suffix):
        return base[: -len(ome[0])], ome[0]
    return stem, suffix


def parent_of(source: str) -> str:
    """The name of the folder that an input is in."""
    if is_url(source):
        return component(source.rstrip("/").rpartition("/")[0].rpartition("/")[2])
    return os.path.basename(os.path.dirname(os.path.abspath(source)))


def below(source: str, folders: Iterable[str]) -> str:
    """The folders between an input and the nearest of `folders` that it is in, or ''.

    folders: a set of absolute paths and URLs.
    """
    if not folders:
        return ""
    if is_url(source):
        parts: list[str] = []
        place = source.rpartition("/")[0]
        while "://" in place:
            if place in folders:
                return "/".join(map(component, reversed(parts)))
            place, _, part = place.rpartition("/")
            parts.append(part)
        return ""
    start = place = os.path.dirname(os.path.abspath(source))
    while place not in folders:
        place, above = os.path.dirname(place), place
        if place == above:
            return ""
    return os.path.relpath(start, place) if start != place else ""


class Template:
    """A name with fields: `{stem}`, `{frame:03d}`; `{{` and `}}` are braces.

    fields: the names of those there are. option: what errors name. Raises UsageError for fields
    that there are not, and for formats of what is no number.
    """

    def __init__(self, text: str, fields: tuple[str, ...], option: str = "-o") -> None:
        self.text = text
        self.used: set[str] = set()
        for match in _FIELD.finditer(text):
            if match[1] is None:
                continue
            name, colon, form = match[1].partition(":")
            if name not in fields:
                known = " ".join(f"{{{field}}}" for field in fields)
                raise UsageError(f"{option} {text}: no field {match[0]}, expected {known}")
            if colon and (name not in NUMBERS or not _NUMBER.fullmatch(form)):
                expected = "such as 03d" if name in NUMBERS else f"only for {' and '.join(NUMBERS)}"
                raise UsageError(f"{option} {text}: {match[0]}: a format, expected {expected}")
            self.used.add(name)

    def __bool__(self) -> bool:
        """Whether there is a field."""
        return bool(self.used)

    def fill(self, values: Mapping[str, str | int]) -> str:
        """The name; values by their fields, those of NUMBERS as integers."""

        def value(match: re.Match[str]) -> str:
            if match[1] is None:
                return match[0][0]
            name, colon, form = match[1].partition(":")
            return format(values[name], form) if colon else _plain(name, values[name])

        return _FIELD.sub(value, self.text)


NUMBERS = ("frame", "index")


def _plain(name: str, value: str | int) -> str:
    return f"{value:04d}" if name == "index" else str(value)
