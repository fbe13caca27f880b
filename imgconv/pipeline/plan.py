"""Where results go: names, templates, and collisions found before work starts."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imgconv.errors import UsageError
from imgconv.io.formats import Format, format_of, kept_suffix, sniff
from imgconv.io.publish import leads_to_a_stream, publish
from imgconv.io.remote import is_url
from imgconv.io.source import StandardInput, is_zarr
from imgconv.pipeline.naming import Part, Template, below, parent_of, split_source

if TYPE_CHECKING:
    from imgconv.batch.names import SpilledNames

FIELDS = ("stem", "kernel", "map", "frame", "parent", "ext", "index")


class Claims:
    """Whose each path is, so that no two results have one, and none takes an input's.

    names: a dictionary, or what takes its place where there are too many for memory.
    """

    def __init__(self, names: "dict[str, str] | SpilledNames | None" = None) -> None:
        self._names = {} if names is None else names
        self._real = functools.lru_cache(4096)(os.path.realpath)

    def close(self) -> None:
        """Let go of what takes the dictionary's place."""
        if not isinstance(self._names, dict):
            self._names.close()

    def _key(self, path: str) -> str:
        """A path without links, by which the same file is found again."""
        if is_url(path):
            return path
        path = os.path.abspath(path)
        if os.path.islink(path):
            return os.path.realpath(path)
        folder, base = os.path.split(path)
        return os.path.join(self._real(folder), base)

    def input(self, source: str) -> None:
        """Note that a path is an input's. Raises UsageError where it is to be an output."""
        if source == "-" or source.startswith("sample:"):
            return
        owner = self._names.setdefault(self._key(source), f"{source}\0\0")
        if not owner.endswith("\0\0"):
            raise _is_an_input(source, owner, source)

    def output(self, path: str, source: str, part: str, advice: str) -> None:
        """Take a path for a part of an input's results. Raises UsageError where it is taken."""
        origin = f"{source}\0{part}"
        owner = self._names.setdefault(self._key(path), origin)
        if owner == origin:
            return
        if owner.endswith("\0\0"):
            raise _is_an_input(path, origin, owner)
        first, second = _shown(owner), _shown(origin)
        raise UsageError(f"{path}: output of both {first} and {second}, expected one; {advice}")


def _is_an_input(path: str, output: str, source: str) -> UsageError:
    return UsageError(
        f"{path}: output of {_shown(output)}, but it is the input {_shown(source)}; "
        "expected another folder or name"
    )


def _shown(origin: str) -> str:
    return " ".join(filter(None, origin.split("\0")))


@dataclass(eq=False, repr=False)
class Kept:
    """The extensions of outputs whose format is their input's.

    depth: `--depth`. pictures: outputs are sheets or in colors of a map, colors: they may have
    three channels although the input has one; a format that cannot hold that is not kept.
    """

    depth: str | None = None
    pictures: bool = False
    colors: bool = False
    stdin: Callable[[], bytes] = field(default_factory=StandardInput)

    def suffix(self, source: str) -> str:
        """The extension of an input's outputs, with its dot."""
        suffix = split_source(source)[1]
        found = kept_suffix(suffix, None, self.depth, self.pictures, self.colors)
        if found is None:
            kind = self._kind(source)
            found = kept_suffix(suffix, kind, self.depth, self.pictures, self.colors)
        return found or ".png"

    def format(self, source: str) -> Format:
        """The format of an input's outputs."""
        return format_of(f"x{self.suffix(source)}")

    def _kind(self, source: str) -> str:
        """What an input is whose name does not say it; "" where only its work will tell."""
        if source == "-":
            return sniff(self.stdin()[:4096]) or ""
        if is_url(source) or source.startswith("sample:"):
            return ""
        if is_zarr(source):
            return "ZARR"
        try:
            if os.path.isfile(source):  # a pipe is read once
                with open(source, "rb") as file:
                    return sniff(file.read(4096), source) or ""
        except (OSError, ValueError):
            pass  # whoever reads it as an image will say why
        return ""


@dataclass(eq=False, repr=False)
class Plan:
    """Output names for results.

    output: `-o`: None, `-`, a file, a folder (existing or ending in /), or a template with fields;
    option: what it is called. suffix: of names that we make, with its dot; None where it is the
    input's, or what `kept` makes of it. made: the format of all outputs, None where the names
    tell. several: whether an input may have more than one result, so that a plain file name cannot
    serve. claims: what belongs to whom; None finds no collisions. folders: those that were looked
    into, below which outputs in a folder lie as the inputs do. frame: of the inputs, if one was
    chosen. advice: what else two results of one name may use.
    """

    output: str | None
    suffix: str | None = None
    made: Format | None = None
    kept: Kept = field(default_factory=Kept)
    in_place: bool = False
    several: bool = False
    claims: Claims | None = field(default_factory=Claims)
    folders: set[str] = field(default_factory=set)
    frame: int = 0
    option: str = "-o"
    base: str = ""
    advice: str = "use -o DIR/ --recursive or a template such as -o '{parent}-{stem}-{map}.png'"

    def __post_init__(self) -> None:
        self.template = Template(self.output or "", FIELDS, self.option)

    def __getstate__(self) -> dict[str, object]:
        """A copy for another process: names hold there too, and collisions are found here."""
        return {**self.__dict__, "claims": None, "base": os.getcwd()}

    def together(self, source: str) -> bool:
        """Whether the maps of an image go into one file: its format holds many arrays."""
        made = self.made
        if made is None and self.suffix is None:
            try:
                made = format_of(source) if self.in_place else self.kept.format(source)
            except UsageError:
                return False  # said when its turn comes
        return made is not None and made.archive and "map" not in self.template.used

    def path(self, source: str, part: Part, index: int, frame: int = 0) -> str:
        """Return the output path of one part of one input's frame; `-` is standard output.

        Raises UsageError when two results would have one path.
        """
        if self.output and leads_to_a_stream(self.output):
            return self.output
        if self.together(source):
            part = Part(part.kernel, "", part.kernel)
        path = self._named(source, part, index, frame)
        if path == "-":
            return path
        if self.base and not is_url(path):
            path = os.path.join(self.base, path)
        if self.claims is not None:
            what = f"{part.name}\0{f'frame {frame}' if frame else ''}"
            advice = self.advice
            if self.in_place:
                what += f"\0(input {index})"
                advice = "--in-place takes one result an input, named once; -o DIR/ takes more"
            elif frame:
                advice = f"use {self.option} DIR/ or a template with {{frame}}"
            self.claims.output(path, source, what.rstrip("\0"), advice)
        return path

    def _named(self, source: str, part: Part, index: int, frame: int) -> str:
        if self.in_place:
            return source
        if self.output is None and source == "-":
            return "-"
        stem = split_source(source)[0]
        if self.output and not self.template and not names_folder(self.output):
            if not (part.name and self.several):
                return self.output
            root, suffix = os.path.splitext(self.output)
            return f"{root}-{part.name}{suffix}"
        suffix = self.suffix or (self.made and self.made.suffixes[0]) or self.kept.suffix(source)
        name, full, shown = part.name, part.full, part.name or part.kernel
        if frame and "frame" not in self.template.used:
            name = f"{name}-{frame}".lstrip("-")
            full, shown = f"{full}-{frame}", f"{shown}-{frame}"
        if self.output is None:
            return f"{stem}-{full}{suffix}"
        folder = self.output
        if self.template:
            folder = self.template.fill({
                "stem": stem, "kernel": part.kernel, "map": shown,
                "frame": frame or self.frame, "parent": parent_of(source),
                "ext": suffix.removeprefix("."), "index": index,
            })  # fmt: skip
            if not names_folder(self.output):
                return folder
        file = (f"{stem}-{name}" if name else stem) + suffix
        return os.path.join(folder, below(source, self.folders), file)


def names_folder(output: str) -> bool:
    """Whether `-o` means a folder to put files into; a Zarr image is one, but not for that."""
    if output.endswith(("/", os.sep)):
        return True
    return os.path.isdir(output) and not output.lower().endswith(".zarr")


def folder_of(target: str | None) -> str | None:
    """The folder that outputs go into, which a scan leaves out; None for the current one."""
    if target is None or target == "-" or is_url(target):
        return None
    literal, brace, _ = target.partition("{")
    folder = target if names_folder(target) and not brace else os.path.dirname(literal)
    return os.path.realpath(folder) if folder else None


def check_against_input(
    path: str, source: str, in_place: bool, advice: str = "--in-place replaces inputs"
) -> None:
    """Raise UsageError when the output is the input by path, symlink or hard link."""
    if in_place or source == "-" or source.startswith("sample:"):
        return
    try:
        same = path == source if is_url(path) else os.path.samefile(path, source)
    except OSError:
        return
    if same:
        raise UsageError(f"{path}: is the input {source}; {advice}")


_PAGE = Part("report", "", "report")


class Reports:
    """Names and writes the pages of a command's inputs."""

    def __init__(self, target: str, several: bool) -> None:
        if target == "-":
            raise UsageError("--report -: expected a file, a folder/ or a template with {stem}")
        plain = not target.endswith(os.sep) and not os.path.isdir(target)
        if plain and os.path.splitext(target)[1].lower() not in (".html", ".htm"):
            raise UsageError(f"--report {target}: expected a name that ends in .html")
        advice = "use --report DIR/ or a template such as --report '{parent}-{stem}.html'"
        self.plan = Plan(target, ".html", several=several, option="--report", advice=advice)

    def path(self, source: str, index: int, frame: int = 0) -> str:
        """The page of an input. Raises UsageError where two inputs would have one."""
        path = self.plan.path(source, _PAGE, index, frame)
        check_against_input(path, source, False)
        return path

    def write(self, page: bytes, path: str, replace: bool) -> int:
        """Publish an input's page; return its size."""
        return publish(path, [page], replace)
