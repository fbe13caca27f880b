"""A network as SVG: boxes with what they do and their shapes, blocks framed, skips drawn."""

import re
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from imgconv.nn.graph import Graph, Node
from imgconv.nn.layers import Activation, Shape
from imgconv.viz.layered import Layout, Place, arrange

WIDTH = 208.0
JOINT = 34.0
LINE = 15.0
# The strip of an activation at the bottom of the box that it is folded into.
BAND = 18.0
GAP = 22.0
RISE = 34.0
BEND = 14.0
# What the shape beside a join takes.
JOINT_TEXT = 70.0
MARGIN = 28.0

# Roles and their colors: fill, outline.
COLORS = {
    "conv": ("#dbe9fb", "#2f6db5"),
    "pool": ("#dff3df", "#3b8a3e"),
    "dense": ("#efe2fa", "#7a45b0"),
    "join": ("#ffe9c7", "#b56a00"),
    "activation": ("#fde0d8", "#c2410c"),
    "end": ("#ffffff", "#444b57"),
    "other": ("#eef0f3", "#6b7280"),
}
STYLE = """
text { font: 12px system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: #1f2430 }
.does { font-weight: 600 } .small { font-size: 11px; fill: #555d6b }
.edge { fill: none; stroke: #7b8494; stroke-width: 1.5 }
.block { fill: #f6f7f9; stroke: #c3c9d3; stroke-dasharray: 4 3 }
""" + "\n".join(
    f".{role} {{ fill: {fill}; stroke: {line}; stroke-width: 1.4 }}"
    for role, (fill, line) in COLORS.items()
)
_FOLDED = ("BatchNorm2d", "Dropout", "Identity")
_JOINTS = {"Add": "+", "Mul": "×", "Concat": "cat"}


@dataclass
class Box:
    """Layers drawn as one: a layer with what follows it and changes no shape."""

    nodes: list[Node]
    shape: Shape

    @property
    def name(self) -> str:
        """The value that the box makes."""
        return self.nodes[-1].outputs[0]

    @property
    def role(self) -> str:
        """Which colors it has."""
        kind = self.nodes[0].layer.kind
        if kind in _JOINTS:
            return "join"
        if kind.lower().startswith("conv"):
            return "conv"
        if isinstance(self.nodes[0].layer, Activation):
            return "activation"
        return "pool" if "Pool" in kind else "dense" if kind == "Linear" else "other"

    @property
    def activation(self) -> str:
        """The function that the box ends in, such as ReLU."""
        kinds = [node.layer.kind for node in self.nodes[1:] if isinstance(node.layer, Activation)]
        return " · ".join(kinds)

    @property
    def height(self) -> float:
        """In pixels."""
        if self.role == "join":
            return JOINT
        more = any(not isinstance(node.layer, Activation) for node in self.nodes[1:])
        return 16 + LINE * (2 + more) + (BAND if self.activation else 0)


def draw_network(graph: Graph, title: str) -> str:
    """Return a network's drawing as the text of an SVG file; the input is at the top.

    Normalization and dropout are named in the box of the layer they follow, activations in a strip
    of their own color at its bottom. Frames show blocks: layers whose names share the path of a
    join, such as layer1.0 or inception3a.
    """
    boxes = _boxes(graph)
    made_by = {value: box.name for box in boxes for node in box.nodes for value in node.outputs}
    widths: dict[str, float] = dict.fromkeys(graph.inputs, WIDTH)
    widths |= {box.name: JOINT if box.role == "join" else WIDTH for box in boxes}
    edges = [
        (made_by.get(value, value), box.name)
        for box in boxes
        for value in box.nodes[0].inputs
        if value in made_by or value in graph.inputs
    ]
    layout = arrange(widths, edges, GAP, BEND)
    heights = dict.fromkeys(graph.inputs, 16 + 2 * LINE) | {b.name: b.height for b in boxes}
    tops = _tops(layout, heights)
    blocks = _blocks(boxes)
    parts = _frames(blocks, boxes, layout, tops, heights)
    parts += [_edge(route, layout.places, tops, heights) for route in layout.edges]
    for name, shape in graph.inputs.items():
        parts.append(_end(name, shape, layout.places[name], tops[name]))
    for box in boxes:
        frame = next((path for path in blocks if _within(box.nodes[0].name, path)), "")
        parts.append(_drawn(box, layout.places[box.name], tops[box.name], frame))
    return _page(parts, layout, tops, heights, title)


def _boxes(graph: Graph) -> list[Box]:
    readers: dict[str, int] = dict.fromkeys(graph.outputs, 1)
    for node in graph.nodes:
        for value in node.inputs:
            readers[value] = readers.get(value, 0) + 1
    shapes = graph.shapes()
    boxes: list[Box] = []
    last: dict[str, Box] = {}
    for node in graph.nodes:
        box = last.get(node.inputs[0]) if len(node.inputs) == 1 else None
        small = node.layer.kind in _FOLDED or isinstance(node.layer, Activation)
        if box and small and len(node.outputs) == 1 and readers[node.inputs[0]] == 1:
            box.nodes.append(node)
        else:
            box = Box([node], shapes[node.outputs[0]])
            boxes.append(box)
        for value in node.outputs:
            last[value] = box
    return boxes


def _tops(layout: Layout, heights: dict[str, float]) -> dict[str, float]:
    """The upper edge of every place; boxes are in the middle of their rank's height.

    Bends get their rank's height, so that an edge turns only between ranks.
    """
    ranks = 1 + max(place.rank for place in layout.places.values())
    tallest = [0.0] * ranks
    for name, place in layout.places.items():
        tallest[place.rank] = max(tallest[place.rank], heights.get(name, 0.0))
    starts, y = [], 0.0
    for tall in tallest:
        starts.append(y)
        y += tall + RISE
    for name, place in layout.places.items():
        heights.setdefault(name, tallest[place.rank])
    return {
        name: starts[place.rank] + (tallest[place.rank] - heights[name]) / 2
        for name, place in layout.places.items()
    }


def _path(name: str) -> str:
    """The path of a name without its last part: layer1.0 of layer1.0.add."""
    head = re.match(r"(.*)[./]", name)
    return head[1] if head else ""


def _blocks(boxes: list[Box]) -> list[str]:
    """The outermost paths of joins."""
    paths = sorted({_path(box.name) for box in boxes if box.role == "join"} - {""}, key=len)
    outer: list[str] = []
    for path in paths:
        if not any(_within(path, other) for other in outer):
            outer.append(path)
    return outer


def _within(name: str, path: str) -> bool:
    return name.startswith((f"{path}.", f"{path}/"))


def _frames(
    blocks: list[str],
    boxes: list[Box],
    layout: Layout,
    tops: dict[str, float],
    heights: dict[str, float],
) -> list[str]:
    parts = []
    joints = {box.name for box in boxes if box.role == "join"}
    for path in blocks:
        # A layer that is folded into the box before it may be all of its block.
        members = {box.name for box in boxes if any(_within(node.name, path) for node in box.nodes)}
        inside = [name for name, place in layout.places.items()
                  if name in members or place.target in members]  # fmt: skip
        first = min(layout.places[name].rank for name in members)
        inside = [name for name in inside if layout.places[name].rank >= first]
        left = min(layout.places[n].x - layout.places[n].width / 2 for n in inside) - 12
        right = max(
            layout.places[n].x + layout.places[n].width / 2 + JOINT_TEXT * (n in joints)
            for n in inside
        ) + 12  # fmt: skip
        top = min(tops[n] for n in members) - 14
        bottom = max(tops[n] + heights[n] for n in members) + 10
        parts.append(
            f'<rect class="block" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{bottom - top:.1f}" rx="8"/>'
            f'<text class="small" x="{left + 10:.1f}" y="{bottom - 9:.1f}">{_clean(path)}</text>'
        )
    return parts


def _edge(
    route: list[str], places: dict[str, Place], tops: dict[str, float], heights: dict[str, float]
) -> str:
    """Down out of a box, through its bends, into the next; curved where it moves sideways."""
    x, y = places[route[0]].x, tops[route[0]] + heights[route[0]]
    steps = [f"M{x:.1f} {y:.1f}"]
    for name in route[1:]:
        to = tops[name] - (4 if name == route[-1] else 0)
        bend = (y + to) / 2
        across = places[name].x
        if abs(across - x) < 0.5:
            steps.append(f"L{across:.1f} {to:.1f}")
        else:
            steps.append(f"C{x:.1f} {bend:.1f} {across:.1f} {bend:.1f} {across:.1f} {to:.1f}")
        x, y = across, to
        if name != route[-1]:
            y += heights[name]
            steps.append(f"L{x:.1f} {y:.1f}")
    return f'<path class="edge" marker-end="url(#tip)" d="{"".join(steps)}"/>'


def _drawn(box: Box, place: Place, top: float, frame: str) -> str:
    """The box with its text; frame: the path that its frame shows already, or nothing."""
    node = box.nodes[0]
    names = " → ".join(one.name for one in box.nodes)
    hover = f"<title>{_clean(f'{names}: {does(node)}, {_size(box.shape)}')}</title>"
    if box.role == "join":
        sign = _JOINTS[node.layer.kind]
        middle, beside = top + JOINT / 2, place.x + JOINT / 2 + 5
        pill = _pill(box.activation, beside, middle + 1) if box.activation else ""
        lower = middle + (-5 if pill else 4)
        return (
            f'<g>{hover}<circle class="join" cx="{place.x:.1f}" cy="{middle:.1f}" '
            f'r="{JOINT / 2}"/><text class="does" text-anchor="middle" x="{place.x:.1f}" '
            f'y="{middle + 4:.1f}">{sign}</text><text class="small" '
            f'x="{beside:.1f}" y="{lower:.1f}">{_size(box.shape)}</text>{pill}</g>'
        )
    # As the papers write it: conv, 64, /2.
    lines = [("does", does(node).replace(", stride ", ", /"))]
    folded = [one.layer.kind for one in box.nodes[1:] if not isinstance(one.layer, Activation)]
    if folded:
        lines.append(("small", " · ".join(folded)))
    size, name = _size(box.shape), node.name
    if frame and _within(name, frame):
        name = name[len(frame) + 1 :]
    lines.append(("small", f"{_short(name, 33 - len(size))}  {size}"))
    return _box(box.role, lines, place, top, box.height, hover, box.activation)


def _end(name: str, shape: Shape, place: Place, top: float) -> str:
    return _box("end", [("does", name), ("small", _size(shape))], place, top, 16 + 2 * LINE, "")


def _box(
    role: str, lines: list[tuple[str, str]], place: Place, top: float, height: float, hover: str,
    activation: str = "",
) -> str:  # fmt: skip
    left = place.x - WIDTH / 2
    texts = "".join(
        f'<text class="{style}" text-anchor="middle" x="{place.x:.1f}" '
        f'y="{top + 6 + LINE * (index + 1):.1f}">{_clean(_short(text))}</text>'
        for index, (style, text) in enumerate(lines)
    )
    return (
        f'<g>{hover}<rect class="{role}" x="{left:.1f}" y="{top:.1f}" width="{WIDTH}" '
        f'height="{height}" rx="6"/>{texts}{_strip(activation, place, top + height)}</g>'
    )


def _pill(activation: str, left: float, top: float) -> str:
    """The activation of a join, beside it."""
    words = _short(activation, 8)
    width = 12 + 6.5 * len(words)
    outline = f"M{left:.1f} {top:.1f}h{width:.1f}v15h{-width:.1f}z"
    return (
        f'<path class="activation" d="{outline}"/><text class="small" text-anchor="middle" '
        f'x="{left + width / 2:.1f}" y="{top + 11.5:.1f}">{_clean(words)}</text>'
    )


def _strip(activation: str, place: Place, bottom: float) -> str:
    """The strip inside a box that ends at `bottom`, round where the box is; or nothing."""
    if not activation:
        return ""
    left, right, top = place.x - WIDTH / 2, place.x + WIDTH / 2, bottom - BAND
    outline = (
        f"M{left:.1f} {top:.1f}H{right:.1f}V{bottom - 6:.1f}"
        f"a6 6 0 0 1 -6 6H{left + 6:.1f}a6 6 0 0 1 -6 -6z"
    )
    return (
        f'<path class="activation" d="{outline}"/><text class="small" text-anchor="middle" '
        f'x="{place.x:.1f}" y="{bottom - 5:.1f}">{_clean(_short(activation))}</text>'
    )


def does(node: Node) -> str:
    """What a layer does, such as `Conv2d 3×3, 64, stride 2`."""
    layer = node.layer
    window = getattr(layer, "geometry", None) or getattr(layer, "window", None)
    said = layer.kind
    if window:
        said += f" {window[0][0]}×{window[0][1]}"
    channels = getattr(layer, "out_channels", None) or getattr(layer, "out_features", None)
    more = [str(channels)] if channels else []
    groups = getattr(layer, "groups", 1)
    if groups > 1:
        inside = getattr(layer, "in_channels", 0)
        more.append("depthwise" if groups == inside else f"{groups} groups")
    if window:
        for word, pair in (("stride", window[1]), ("dilation", window[3])):
            if pair != (1, 1):
                more.append(f"{word} {pair[0] if pair[0] == pair[1] else f'{pair[0]}×{pair[1]}'}")
    output = getattr(layer, "output_size", None)
    if output is not None:
        more.append(f"to {output}")
    return ", ".join([said, *more])


def _size(shape: Shape) -> str:
    """Channels × height × width, without the batch."""
    return "×".join(str(number) for number in shape[1:])


def _short(text: str, limit: int = 34) -> str:
    """The text with its middle left out where it would not fit into a box."""
    if len(text) <= limit:
        return text
    half = max(1, limit // 2)
    return f"{text[: half - 1]}…{text[-half:]}"


def _clean(text: str) -> str:
    """Escaped, without the control characters that XML cannot hold."""
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))


def _page(
    parts: list[str], layout: Layout, tops: dict[str, float], heights: dict[str, float], title: str
) -> str:
    places = layout.places
    left = min(place.x - place.width / 2 for place in places.values()) - MARGIN
    right = max(place.x + place.width / 2 for place in places.values()) + MARGIN + JOINT_TEXT
    bottom = max(tops[name] + heights[name] for name in places) + MARGIN
    width, height = right - left, bottom + MARGIN + 24
    box = f"{left:.1f} {-MARGIN - 24:.1f} {width:.1f} {height:.1f}"
    name = _clean(title)
    label = quoteattr(f"{name}: {len(layout.edges)} connections from the input at the top")
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{width:.0f}" \
height="{height:.0f}" role="img" aria-label={label}>
<title>{name}</title>
<style>{STYLE}</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="6" markerHeight="6" \
orient="auto"><path d="M0 0L8 4L0 8z" fill="#7b8494"/></marker></defs>
<rect x="{left:.1f}" y="{-MARGIN - 24:.1f}" width="{width:.1f}" height="{height:.1f}" fill="#fff"/>
<text class="does" x="{left + MARGIN:.1f}" y="{-MARGIN + 2:.1f}" font-size="15">{name}</text>
{body}
</svg>
"""
