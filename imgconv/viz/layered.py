"""Layered drawing of acyclic graphs, after K. Sugiyama, S. Tagawa, M. Toda, "Methods for Visual
Understanding of Hierarchical System Structures", IEEE Trans. SMC 1981.

Boxes stand in ranks by their longest path; an edge that skips ranks gets a bend in each of them;
ranks are ordered by barycenters; then every box moves to the mean of its neighbors as far as the
order lets it, which is an isotonic regression.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

SWEEPS = 12
_BEND_WEIGHT = 4.0


@dataclass
class Place:
    """A box or bend: its rank, width, and middle. target: of a bend, the box its edge leads to."""

    rank: int
    width: float
    x: float = 0.0
    target: str = ""
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """Places by name, bends among them, and each edge as the names that it passes."""

    places: dict[str, Place]
    edges: list[list[str]]


def arrange(
    widths: Mapping[str, float], edges: Sequence[tuple[str, str]], gap: float, bend: float
) -> Layout:
    """Arrange boxes of these widths, given in topological order, under their edges.

    gap: between neighbors of a rank. bend: the width kept free for a passing edge.
    """
    ranks = dict.fromkeys(widths, 0)
    after: dict[str, list[str]] = {name: [] for name in widths}
    for source, target in edges:
        after[source].append(target)
    for name in widths:
        for target in after[name]:
            ranks[target] = max(ranks[target], ranks[name] + 1)
    places = {name: Place(ranks[name], width) for name, width in widths.items()}
    routes = []
    for number, (source, target) in enumerate(edges):
        route = [source]
        for rank in range(ranks[source] + 1, ranks[target]):
            name = f"\0{number}.{rank}"
            places[name] = Place(rank, bend, target=target)
            route.append(name)
        route.append(target)
        for one, two in pairwise(route):
            places[one].after.append(two)
            places[two].before.append(one)
        routes.append(route)
    rows: list[list[str]] = [[] for _ in range(max(ranks.values(), default=0) + 1)]
    for name, place in places.items():
        rows[place.rank].append(name)
    _order(rows, places)
    _position(rows, places, gap)
    return Layout(places, routes)


def _order(rows: list[list[str]], places: Mapping[str, Place]) -> None:
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            for index, name in enumerate(row):
                places[name].x = index
            center = {}
            for name in row:
                near = places[name].before if down else places[name].after
                center[name] = (
                    sum(places[n].x for n in near) / len(near) if near else places[name].x
                )
            row.sort(key=center.__getitem__)
            for index, name in enumerate(row):
                places[name].x = index - (len(row) - 1) / 2


def _position(rows: list[list[str]], places: Mapping[str, Place], gap: float) -> None:
    for row in rows:
        left = -sum(places[name].width + gap for name in row) / 2
        for name in row:
            places[name].x = left + places[name].width / 2
            left += places[name].width + gap
    for sweep in range(2 * SWEEPS + 1):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            if len(row) == 1:
                # What all paths pass stays in the middle; else chains of blocks drift sideways.
                places[row[0]].x = 0.0
                continue
            wanted, weights = [], []
            for name in row:
                place = places[name]
                near = place.before if down else place.after
                wanted.append(sum(places[n].x for n in near) / len(near) if near else place.x)
                weights.append(_BEND_WEIGHT if place.target else 1.0)
            _settle([places[name] for name in row], wanted, weights, gap)


def _settle(row: list[Place], wanted: list[float], weights: list[float], gap: float) -> None:
    """Move a row to the wanted middles, least squares, its order and gaps kept.

    With the widths before each place taken off, the middles only have to grow: neighbors that
    do not are pooled at their weighted mean (pool adjacent violators).
    """
    offsets, total = [], 0.0
    for index, place in enumerate(row):
        if index:
            total += (row[index - 1].width + place.width) / 2 + gap
        offsets.append(total)
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for value, offset, weight in zip(wanted, offsets, weights, strict=True):
        mean, mass, count = value - offset, weight, 1
        while pools and pools[-1][0] > mean:
            other, heavy, many = pools.pop()
            mean = (mean * mass + other * heavy) / (mass + heavy)
            mass, count = mass + heavy, count + many
        pools.append((mean, mass, count))
    index = 0
    for mean, _, count in pools:
        for _ in range(count):
            row[index].x = mean + offsets[index]
            index += 1
