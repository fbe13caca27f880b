"""Where the maps of a network's layers go, and what is there already."""

import math
import os
from typing import NotRequired, TypedDict

from imgconv.errors import OutputError
from imgconv.io.complete import is_complete
from imgconv.io.publish import EXISTS, exists
from imgconv.nn.layers import Shape
from imgconv.pipeline.naming import Template, below, component, parent_of, split_source, unique
from imgconv.pipeline.networks.firing import Fired
from imgconv.pipeline.networks.request import Request
from imgconv.pipeline.plan import Claims, Reports, check_against_input

FIELDS = ("stem", "parent", "index", "frame", "layer", "map")
_BYTES = 4  # of a float32
_ADVICE = "use a template such as -o 'maps/{parent}-{stem}-{frame}/{layer}/{map}.png'"


class LayerRow(TypedDict):
    """What --json says of a layer's maps; paths: of their files, which are left out there."""

    input: str
    output: str
    layer: str
    maps: int
    height: int
    width: int
    bytes: int
    paths: list[str]
    skipped: NotRequired[bool]
    top_maps: NotRequired[list[Fired]]


def numbered(count: int) -> list[str]:
    """The numbers of a layer's maps, as their files have them."""
    digits = len(str(count - 1))
    return [f"{number:0{digits}d}" for number in range(count)]


def of_one_image(value: Shape) -> Shape:
    """A value's shape with all of it as one image's: windows that a network makes of it are maps.

    Networks of windows, such as Swin, have them along the axis of images.
    """
    return (1, value[0] * value[1], *value[2:])


class LayerOutputs:
    """The outputs of a request, by image and layer.

    claims: whose each path is, so that two images never write to one. folders: those that inputs
    were looked for in, below which outputs lie as the inputs do. layers: what each is called in
    paths. Raises UsageError for fields that there are not.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.claims = Claims()
        self.folders: set[str] = set()
        self.layers = dict(
            zip(request.values, unique(map(component, request.values)), strict=True)
        )  # fmt: skip
        self._template = Template(request.settings.maps.output, FIELDS)
        report = request.settings.maps.report
        self.reports = Reports(report, several=True) if report else None
        write = request.settings.write
        self.replaces = write.overwrite or write.skip_existing

    def follow(self, folders: set[str], claims: Claims) -> None:
        """Let outputs lie as the inputs do below folders; claims: what finds collisions."""
        self.folders, self.claims = folders, claims
        if self.reports:
            self.reports.plan.folders, self.reports.plan.claims = folders, claims

    def page(self, source: str, index: int, frame: int) -> str | None:
        """The path of an image's report; None without one."""
        return self.reports.path(source, index, frame) if self.reports else None

    def path(self, source: str, index: int, frame: int, layer: str = "", number: str = "") -> str:
        """The path of a map, of a layer (no number), or of an image (no layer).

        Raises UsageError where another image has it, or is it.
        """
        template, output = self._template, self.request.settings.maps.output
        suffix = self.request.made.suffixes[0]
        stem, name = split_source(source)[0], self.layers.get(layer, "")
        if frame and "frame" not in template.used:
            stem += f"-{frame}"
        if template:
            output = template.fill({
                "stem": stem, "index": index, "layer": name, "map": number, "frame": frame,
                "parent": parent_of(source),
            })  # fmt: skip
        if template and not output.endswith(("/", os.sep)):
            path = output
        else:
            parts = (below(source, self.folders), stem, name, number)
            path = os.path.join(output, *filter(None, parts)) + suffix
        what = f"{layer}\0{number}\0{f'frame {frame}' if frame else ''}".strip("\0")
        self.claims.output(path, source, what, _ADVICE)
        check_against_input(path, source, False)
        return path

    def shape(self, value: Shape) -> tuple[int, int, int]:
        """(C, H, W) of a value; (N, features), and maps of one unit in pictures, are one row."""
        value = of_one_image(value)
        if len(value) == 4 and (value[2:] != (1, 1) or not self.request.pictures):
            return value[1], value[2], value[3]
        return 1, 1, math.prod(value[1:])

    def rows(self, source: str, index: int, frame: int, shapes: dict[str, Shape]) -> list[LayerRow]:
        """One row per layer: what it will write, where, and how many maps and bytes that is."""
        request, rows = self.request, list[LayerRow]()
        for layer in request.values:
            maps, height, width = self.shape(shapes[layer])
            if request.only_report:
                paths, output = [], request.settings.maps.report or ""
            elif request.made.archive:
                paths = [self.path(source, index, frame)]
                output = paths[0]
            elif request.sheet or not request.pictures:
                paths = [self.path(source, index, frame, layer)]
                output = paths[0]
            else:
                numbers = numbered(maps)
                paths = [self.path(source, index, frame, layer, number) for number in numbers]
                output = paths[0] if maps == 1 else os.path.dirname(paths[0]) + os.sep
            rows.append({
                "input": source, "output": output, "layer": layer, "maps": maps, "height": height,
                "width": width, "bytes": _BYTES * maps * height * width, "paths": paths,
            })  # fmt: skip
        return rows

    def unneeded(
        self, rows: list[LayerRow], page: str | None
    ) -> list[LayerRow] | None:  # fmt: skip
        """The rows of a frame whose outputs are complete and stay, None where they are to be made.

        Raises OutputError for an output that exists and is not to be replaced.
        """
        request = self.request
        paths = [path for row in rows for path in row["paths"]]
        if request.settings.write.skip_existing:
            done = all(is_complete(path, request.made.name) for path in paths)
            if done and (paths or page) and (page is None or os.path.exists(page)):
                return [row | {"skipped": True} for row in rows]
        elif not request.settings.write.overwrite:
            for path in filter(None, (*paths, page)):
                if exists(path):
                    raise OutputError(f"{path}: {EXISTS}")
        return None
