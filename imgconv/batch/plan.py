"""Where results go: names, templates, and collisions found before work starts."""

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imgconv.errors import UsageError
from imgconv.images.publish import leads_to_a_stream
from imgconv.images.remote import is_url

if TYPE_CHECKING:
    from imgconv.batch.names import SpilledNames

FIELDS = ("stem", "kernel", "map", "parent", "ext", "index")
_FIELD = re.compile(r"\{(" + "|".join(FIELDS) + r")\}")
_UNSAFE = re.compile(r"[/\0]")


@dataclass(eq=False, repr=False)
class Plan:
    """Output names for results.

    output: `-o`: None, a file, a folder (existing or ending in /), or a template with fields.
    suffix: of names that we make, with its dot. several: whether more than one result may come,
    so that a plain file name cannot serve. taken: what each output path
    belongs to; None finds no collisions. archive: the format holds many arrays, so that the maps
    of an image go into one file unless the template has {map}. advice: what else two results of
    one name may use.
    """

    output: str | None
    suffix: str
    in_place: bool = False
    several: bool = False
    archive: bool = False
    taken: "dict[str, str] | SpilledNames | None" = field(default_factory=dict)
    base: str = ""
    advice: str = "a template such as -o '{stem}-{kernel}-{map}.png'"

    def __getstate__(self) -> dict[str, Any]:
        """A copy for another process: names hold there too, and collisions are found here."""
        return {**self.__dict__, "taken": None, "base": os.getcwd()}

    @property
    def together(self) -> bool:
        """Whether the maps of an image go into one file."""
        return self.archive and "{map}" not in (self.output or "")

    def path(self, source: str, kernel: str, map_name: str, index: int, frame: int = 0) -> str:
        """Return the output path of one map of one input's frame.

        Fields are filled in one pass, so braces and percent signs in names stay as they are.
        Raises UsageError when two results would have one path.
        """
        if self.output and leads_to_a_stream(self.output):
            return self.output
        if self.together:
            map_name = ""
        if frame:
            map_name = f"{map_name}-{frame}".strip("-")
        path = self._named(source, kernel, map_name, index)
        if self.base and not is_url(path):
            path = os.path.join(self.base, path)
        if self.taken is None:
            return path
        key = path if is_url(path) else os.path.realpath(path)
        origin = f"{source} {map_name}".strip()
        if (owner := self.taken.setdefault(key, origin)) != origin:
            raise UsageError(
                f"{path}: output of both {owner} and {origin}, expected one; use {self.advice}"
            )
        return path

    def _named(self, source: str, kernel: str, map_name: str, index: int) -> str:
        if self.in_place:
            return source
        stem, extension = os.path.splitext(os.path.basename(source))
        if source == "-" or source.startswith("sample:"):
            stem, extension = (
                re.sub(r"[^\w.-]+", "-", source.removeprefix("sample:")).strip("-"),
                "",
            )
            stem = stem or "stdin"
        safe_kernel = _UNSAFE.sub("_", kernel)
        default = f"{stem}-{safe_kernel}" + (f"-{map_name}" if map_name else "") + self.suffix
        if self.output is None:
            return default
        if _FIELD.search(self.output):
            values = {
                "stem": stem,
                "kernel": safe_kernel,
                "map": _UNSAFE.sub("_", map_name) or safe_kernel,
                "parent": os.path.basename(os.path.dirname(os.path.abspath(source))),
                "ext": extension.lstrip(".") or self.suffix.lstrip("."),
                "index": f"{index:04d}",
            }
            return _FIELD.sub(lambda match: values[match[1]], self.output)
        if names_folder(self.output):
            name = stem + (f"-{map_name}" if map_name else "") + self.suffix
            return os.path.join(self.output, name)
        if map_name and self.several:
            root, suffix = os.path.splitext(self.output)
            return f"{root}-{_UNSAFE.sub('_', map_name)}{suffix}"
        return self.output


def names_folder(output: str) -> bool:
    """Whether `-o` means a folder to put files into; a Zarr image is one, but not for that."""
    if output.endswith(("/", os.sep)):
        return True
    return os.path.isdir(output) and not output.lower().endswith(".zarr")


def check_against_input(path: str, source: str, in_place: bool) -> None:
    """Raise UsageError when the output is the input by path, symlink or hard link."""
    if in_place or source == "-" or source.startswith("sample:"):
        return
    try:
        same = path == source if is_url(path) else os.path.samefile(path, source)
    except OSError:
        return
    if same:
        raise UsageError(f"{path}: is the input {source}; --in-place replaces inputs")
