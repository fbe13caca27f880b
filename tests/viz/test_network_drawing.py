"""Drawings of networks: everything is there, nothing overlaps, blocks can be told."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgconv.nn.graph import Graph, Node
from imgconv.nn.layers import Activation, Add
from imgconv.nn.models import get_network
from imgconv.viz.layered import arrange
from imgconv.viz.network_drawing import draw_network

SVG = "{http://www.w3.org/2000/svg}"


def drawn(graph, title="network"):
    root = ElementTree.fromstring(draw_network(graph, title))
    boxes = []
    for shape in root.iter():
        role = shape.get("class", "")
        if shape.tag == f"{SVG}rect" and role and role != "block":
            x, y, w, h = (float(shape.get(key)) for key in ("x", "y", "width", "height"))
            boxes.append((x, y, x + w, y + h))
        elif shape.tag == f"{SVG}circle":
            x, y, r = (float(shape.get(key)) for key in ("cx", "cy", "r"))
            boxes.append((x - r, y - r, x + r, y + r))
    frames = [r for r in root.iter(f"{SVG}rect") if r.get("class") == "block"]
    edges = [path.get("d") for path in root.iter(f"{SVG}path") if path.get("class") == "edge"]
    return root, boxes, frames, edges


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("lenet5", 0), ("vgg16", 0), ("resnet18", 8), ("resnet50", 16), ("googlenet", 9),
     ("googlenet:aux=true", 9), ("efficientnet_b0", 16)],
)  # fmt: skip
def test_every_layer_is_in_a_box_no_boxes_meet_and_blocks_are_framed(name, blocks):
    graph = get_network(name).graph
    root, boxes, frames, edges = drawn(graph)
    titles = " ".join(title.text for title in root.iter(f"{SVG}title"))
    words = set(re.split(r"[ :]+", titles))
    assert {node.name for node in graph.nodes} <= words
    assert len(frames) == blocks
    for one, two in combinations(boxes, 2):
        apart = one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
        assert apart, (one, two)
    tops = {(round((b[0] + b[2]) / 2, 1), round(b[1], 1)) for b in boxes}
    for edge in edges:
        numbers = [float(text) for text in re.findall(r"-?\d+\.\d", edge)]
        end = (numbers[-2], numbers[-1] + 4)
        assert min(abs(end[0] - x) + abs(end[1] - y) for x, y in tops) < 0.3
    left, top, width, height = map(float, root.get("viewBox").split())
    assert all(left <= b[0] and b[2] <= left + width for b in boxes)
    assert all(top <= b[1] and b[3] <= top + height for b in boxes)


def test_the_four_branches_of_inception_stand_side_by_side_and_a_skip_passes_its_block():
    _, boxes, _, _ = drawn(get_network("googlenet").graph)
    rows = {}
    for box in boxes:
        rows.setdefault(round((box[1] + box[3]) / 2), []).append(box)
    assert sum(len(row) == 4 for row in rows.values()) == 9
    _, _, _, edges = drawn(get_network("resnet18").graph)
    # The identity passes two ranks of boxes: in, down, down, down, out. A downsample passes one.
    pieces = [edge.count("L") + edge.count("C") for edge in edges]
    assert [pieces.count(5), pieces.count(3)] == [5, 3]


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0"])
def test_every_activation_has_a_shape_of_its_own_color(name):
    graph = get_network(name).graph
    root, _, _, _ = drawn(graph)
    colored = [shape for shape in root.iter() if shape.get("class") == "activation"]
    assert len(colored) == sum(isinstance(node.layer, Activation) for node in graph.nodes)


def test_shapes_stand_in_the_boxes():
    text = draw_network(get_network("vgg16").graph, "vgg16")
    for shape in ("3×224×224", "64×224×224", "512×7×7", "25088", "4096", "1000"):
        assert shape in text


def test_names_cannot_break_out_of_the_file():
    evil = '"><script>alert(1)</script>&\x00\x1b'
    relu, add = Activation("relu"), Add()
    nodes = [Node(evil, relu, ("input",)), Node(f"{evil}/sum", add, (evil, "input"))]
    graph = Graph({"input": (1, 3, 4, 4)}, nodes, (f"{evil}/sum",))
    root, boxes, _, _ = drawn(graph, evil)
    assert len(boxes) == 3
    assert not list(root.iter(f"{SVG}script"))
    assert not list(root.iter("script"))


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 14))
    pairs = [(f"{i}", f"{j}") for j in range(count) for i in range(j)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30)) if pairs else []
    widths = {f"{i}": float(draw(st.integers(10, 200))) for i in range(count)}
    return widths, edges


@given(graphs())
def test_any_graph_flows_down_in_ranks_without_overlaps(graph):
    widths, edges = graph
    layout = arrange(widths, edges, gap=10, bend=6)
    assert {(route[0], route[-1]) for route in layout.edges} == set(edges)
    for route in layout.edges:
        ranks = [layout.places[name].rank for name in route]
        assert all(b == a + 1 for a, b in pairwise(ranks))
    rows = {}
    for place in layout.places.values():
        rows.setdefault(place.rank, []).append(place)
    for row in rows.values():
        row.sort(key=lambda place: place.x)
        for one, two in pairwise(row):
            assert two.x - one.x >= (one.width + two.width) / 2 + 10 - 1e-6


def test_a_block_of_nothing_but_a_folded_layer_frames_the_join_that_it_is_folded_into():
    nodes = [
        Node("r", Activation("relu"), ("x",), ("r",)),
        Node("s", Activation("sigmoid"), ("x",), ("s",)),
        Node("a", Add(), ("r", "s"), ("a",)),
        Node("head.relu", Activation("relu"), ("a",)),
    ]
    graph = Graph({"x": (1, 3, 8, 8)}, nodes, ("head.relu",))
    root, boxes, frames, _ = drawn(graph)
    assert len(boxes) == 4
    (frame,) = frames
    (join,) = root.iter(f"{SVG}circle")
    top, height = float(frame.get("y")), float(frame.get("height"))
    assert top < float(join.get("cy")) < top + height
