"""The record in an output: everything that is needed to make it again, and nothing else.

One JSON object, version 1:

    imgconv   the version that made it
    record    1
    command   apply, run or net features
    options   option → text, true, or a list of texts, as on the command line; what has its
              default is left out. Kernels of one's own are there as their numbers.
    chain     of `run`: the steps, with the numbers of kernels of one's own
    network   of `net features`: a published name or a chain, or a file's name and SHA-256
    weights   name and SHA-256 of the weights' file; the name is `its own` where they come with it
    input     name without folders, and SHA-256 of its bytes
    map       which of several maps this is; layer: of which layer
    unrepeatable  instead of the above: why it cannot be made again

Neither times nor folders are in it. A record that is read may be anybody's: `parse` lets only
these keys pass, only the options below, and texts without control characters.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeGuard

from imgconv import __version__
from imgconv.errors import ImageError
from imgconv.io.formats import FORMATS, NOTE_LIMIT, Format, holds_frames
from imgconv.pipeline.settings import COMMANDS
from imgconv.pipeline.settings.table import Row, recorded
from imgconv.typing import JSON

VERSION = 1
OptionText = str | bool | list[str]  # as on the command line; True: a flag
# What a command records beside the options of its tables.
_OWN = {"apply": ("kernel",), "run": ("keep",), "net features": ("layer", "no-invert")}
_LISTS = frozenset(["kernel", "keep", "layer"])
_BY_X = frozenset(["size", "resize", "crop"])
_MOST = 256
ITS_OWN = "its own"  # weights that come with the network
NO_BYTES = "its input has no bytes that a digest could be made of"
_KEYS = ("imgconv", "record", "command", "options", "chain", "network", "weights", "input", "map",
         "layer", "unrepeatable")  # fmt: skip
_SAMPLE = re.compile(r"sample:[a-z0-9-]{0,40}(:[0-9]{1,5})?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Named(NamedTuple):
    """A file: its name without folders, and its SHA-256, None where it has none."""

    name: str
    sha256: str | None = None


@dataclass(eq=False, repr=False)
class Record:
    """A record as its module describes it."""

    command: str
    options: Mapping[str, OptionText] = field(default_factory=dict)
    input: Named = field(default_factory=lambda: Named("-"))
    chain: str | None = None
    network: Named | None = None
    weights: Named | None = None
    map: str | None = None
    layer: str | None = None
    imgconv: str = __version__

    def as_dict(self, limit: int = NOTE_LIMIT) -> dict[str, JSON]:
        """The JSON object, or that it cannot be repeated where it is longer than `limit`."""
        facts: dict[str, JSON] = {
            "imgconv": self.imgconv, "record": VERSION, "command": self.command,
            "options": dict(self.options), "chain": self.chain,
            "network": _named(self.network), "weights": _named(self.weights),
            "input": _named(self.input), "map": self.map, "layer": self.layer,
        }  # fmt: skip
        found: dict[str, JSON] = {key: value for key, value in facts.items() if value is not None}
        size = sum(len(text) for texts in self.options.values() for text in _texts(texts))
        if size + len(self.chain or "") > limit or len(json.dumps(found)) > limit:
            return unrepeatable(f"the record would take more than {limit} characters")
        return found

    @property
    def format(self) -> Format:
        """Of the output."""
        return FORMATS[str(self.options["format"])]

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of an option that may be given several times."""
        return tuple(_texts(self.options.get(name, [])))

    def words(self, source: str) -> list[str]:
        """The command line that does the same to `source`, without an output."""
        first = [text for text in (self.chain, self.network and self.network.name) if text]
        options = option_words(self.options)
        if self.weights and self.weights.name != ITS_OWN:
            options += ["--weights", self.weights.name]
        words = ["imgconv", *self.command.split()]
        if any(text.startswith("-") and text != "-" for text in (*first, source)):
            return [*words, *options, "--", *first, source]
        return [*words, *first, *options, source]


def option_words(options: Mapping[str, OptionText]) -> list[str]:
    """Options as words of a command line."""
    words: list[str] = []
    for name, value in options.items():
        for text in _texts(value):
            words += [f"--{name}", *([text] if value is not True else [])]
    return words


def unrepeatable(reason: str) -> dict[str, JSON]:
    """The JSON object of an output that cannot be made again."""
    return {"imgconv": __version__, "record": VERSION, "unrepeatable": reason}


def rows_of(command: str) -> dict[str, tuple[str, Row | None]]:
    """The options that a command records: the name of the parameter, and the row of its table."""
    rows: dict[str, tuple[str, Row | None]] = {}
    for name in _OWN[command]:
        rows[name] = name.replace("-", "_"), None
    if command == "net features":
        from imgconv.pipeline.settings.network import RECORDED

        return rows | recorded(RECORDED)
    return rows | recorded(COMMANDS[command])


def options_of(command: str, given: Mapping[str, object]) -> dict[str, OptionText]:
    """The recorded options among a command's, by their parameters' names; lists are left out."""
    found: dict[str, OptionText] = {}
    for name, (parameter, row) in rows_of(command).items():
        value = given.get(parameter)
        # Whatever it is by default, the format is what `repeat` begins with.
        usual = row is not None and value == row.default and name != "format"
        if name in _LISTS or value is None or value is False or usual:
            continue
        found[name] = _text(name, value)
    if given.get("invert") is False:
        found["no-invert"] = True
    return found


def options_of_output(
    command: str, given: Mapping[str, object], form: Format, frame: int | None
) -> dict[str, OptionText]:
    """`options_of` for one output: its format, and its frame of the input, None for all in one."""
    found = options_of(command, {**given, "format": form.name})
    if "frame" in found and frame is not None:
        found["frame"] = str(frame if found["frame"] == "all" else int(str(found["frame"])))
    return found


def _text(name: str, value: object) -> str | bool:
    if value is True or isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return ("x" if name in _BY_X else ",").join(str(_text(name, number)) for number in value)
    return repr(value).removesuffix(".0")


def _texts(value: OptionText) -> list[str]:
    return value if isinstance(value, list) else [value if isinstance(value, str) else ""]


def _named(one: Named | None) -> dict[str, str] | None:
    if one is None:
        return None
    return {"name": one.name} if one.sha256 is None else {"name": one.name, "sha256": one.sha256}


def parse(note: str, where: str) -> Record:
    """Return the record that a note is. Raises ImageError naming what is wrong with it."""

    def wrong(reason: str) -> ImageError:
        return ImageError(f"{where}: its record: {reason}")

    if len(note) > NOTE_LIMIT:
        raise wrong(f"{len(note)} characters, expected at most {NOTE_LIMIT}")
    try:
        found = json.loads(note)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "imgconv" not in found:
        raise ImageError(f"{where}: no record of how it was made (--no-metadata, another program?)")
    version = found.get("record")
    if version is not VERSION and not (type(version) is int and version == VERSION):
        raise wrong(f"version {_shown(version)}, expected {VERSION}")
    if set(found) - set(_KEYS):
        raise wrong(f"{_shown(min(set(found) - set(_KEYS)))}, expected {', '.join(_KEYS)}")
    for key in ("imgconv", "command", "chain", "map", "layer", "unrepeatable"):
        if key in found and not _plain(found[key]):
            raise wrong(f"{key} {_shown(found[key])}, expected printable text")
    if "unrepeatable" in found:
        raise ImageError(f"{where}: cannot be repeated: {found['unrepeatable'][:200]}")
    command = found.get("command")
    if command not in _OWN:
        raise wrong(f"command {_shown(command)}, expected {', '.join(_OWN)}")
    needed = {"run": "chain", "net features": "network"}.get(command)
    for key in filter(None, ("input", needed)):
        if key not in found:
            raise wrong(f"{key} is missing")
    options = _options(found.get("options"), command, wrong)
    files = {key: _file(found[key], key, wrong)
             for key in ("input", "network", "weights") if key in found}  # fmt: skip
    if files["input"].sha256 is None and not files["input"].name.startswith("sample:"):
        raise wrong("input: no sha256")
    return Record(
        command, options, files["input"], found.get("chain"), files.get("network"),
        files.get("weights"), found.get("map"), found.get("layer"), found["imgconv"],
    )  # fmt: skip


def _options(
    found: JSON, command: str, wrong: Callable[[str], ImageError]
) -> dict[str, OptionText]:
    if not isinstance(found, dict):
        raise wrong("no options")
    rows = rows_of(command)
    for name, value in found.items():
        if name not in rows:
            raise wrong(f"option {_shown(name)}, expected one that {command} records")
        if name in _LISTS:
            fits = isinstance(value, list) and 0 < len(value) <= _MOST and all(map(_plain, value))
        else:
            row = rows[name][1]
            flag = row.is_flag if row else name == "no-invert"
            fits = value is True if flag else _plain(value)
        if not fits:
            raise wrong(f"option {name}: {_shown(value)}, expected its text")
    if found.get("format") not in FORMATS:
        raise wrong(f"format {_shown(found.get('format'))}, expected one of {', '.join(FORMATS)}")
    if found.get("frame") == "all":
        form = FORMATS[found["format"]]
        if command == "net features" or not holds_frames(form, "", True):
            raise wrong("option frame: all, expected a number")
    return found


def _file(found: JSON, key: str, wrong: Callable[[str], ImageError]) -> Named:
    if not isinstance(found, dict) or set(found) - {"name", "sha256"}:
        raise wrong(f"{key}: expected name and sha256")
    name, digest = found.get("name"), found.get("sha256")
    if not isinstance(name, str):
        raise wrong(f"{key}: name {_shown(name)}, expected text")
    if digest is not None and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        raise wrong(f"{key}: sha256 {_shown(digest)}, expected 64 hexadecimal digits")
    if key == "network" and digest is None:  # a published name or a chain
        fits = _plain(name)
    else:
        bare = 0 < len(name) <= 255 and name not in (".", "..") and os.path.basename(name) == name
        fits = bare and not re.search(r"[/\0]", name) and not name.startswith("sample:")
        fits = fits or (key == "input" and bool(_SAMPLE.fullmatch(name)))
    if not fits:
        raise wrong(f"{key}: name {_shown(name)}, expected one without folders")
    return Named(name, digest)


def _plain(text: object) -> TypeGuard[str]:
    return isinstance(text, str) and text.isprintable()


def _shown(value: object) -> str:
    return repr(value)[:60]
