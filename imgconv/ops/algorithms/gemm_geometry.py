"""What the loop of matrix products is told of a layer: records instead of positions."""

from typing import Annotated, Any, NamedTuple

from imgconv.jit.record import record

Floats = Annotated[Any, "f32*"]
Integers = Annotated[Any, "i64*"]


@record
class GemmGeometry(NamedTuple):
    """A layer and its tiles; lengths in elements unless said.

    Of the source: row_stride, pixel_stride; near: padded columns before its first; width: pixels a
    row; padded: padded rows; step and stride_y: the strides; run: 1. Of the output: maps, out_width
    (pixels), out_map (from map to map).
    Of a tile: pitch (from row to row of a plane), plane (from plane to plane), rows (of a plane
    that one row of outputs sees), own (columns of one unit's row), shared (columns at a row's end
    that are the next row's first), joined (units whose columns stand in a tile) and apart (columns
    from one of them to the next).
    block: channels a block, which have `phases` planes and `taps` taps each. chunk: maps whose
    weights for one block of channels stay in the cache.
    plain: 1 where a row of a tile is fill, source and fill; 2 where it is a row of the source.
    direct: whether whole panels may be summed where the output stands. rowwise: whether every row
    of outputs has panels of its own. lying: whether panels of whole vectors read the source where
    it lies.
    """

    row_stride: int
    pixel_stride: int
    run: int
    step: int
    near: int
    width: int
    padded: int
    stride_y: int
    maps: int
    out_width: int
    out_map: int
    channels: int
    block: int
    taps: int
    phases: int
    pitch: int
    plane: int
    rows: int
    own: int
    shared: int
    joined: int
    apart: int
    chunk: int
    plain: int
    direct: int
    rowwise: int
    lying: int
    fill: float = 0.0
    floor: float = 0.0


@record
class GemmPhase(NamedTuple):
    """A plane's rows: the row phase, the first column, columns of fill and columns of the source.

    No columns of the source where a row is not fill, source and fill.
    """

    down: int
    across: int
    before: int
    inside: int


@record
class GemmUnit(NamedTuple):
    """An image and group: where it begins in source and output."""

    source: int
    out: int
    group: int


@record
class GemmRun(NamedTuple):
    """Pixels that are stored side by side: where they stand among sums and in a map.

    panel, width: the first column of their panel and its columns. column: of them, in the panel.
    """

    panel: int
    width: int
    place: int
    column: int
    length: int


@record
class GemmArrays(NamedTuple):
    """What is read and written; residual: laid out as out."""

    out: Floats
    source: Floats
    weights: Floats
    bias: Floats
    residual: Floats


@record
class GemmTables(NamedTuple):
    """Maps of padded rows and columns, channels' offsets, planes, and taps' places in a tile.

    offsets: of a block's taps, then of its channels in the source.
    """

    row_map: Integers
    col_map: Integers
    channels: Integers
    phases: Annotated[Any, "GemmPhase*"]
    offsets: Integers


@record
class GemmScratch(NamedTuple):
    """A thread's memory."""

    tile: Floats
    sums: Floats
    runs: Annotated[Any, "GemmRun*"]


@record
class GemmTask(NamedTuple):
    """Output rows top…bottom − 1 of maps low…high − 1 of units first…last − 1."""

    first: int
    last: int
    top: int
    bottom: int
    low: int
    high: int


@record
class GemmCut(NamedTuple):
    """How a tile's columns are cut into panels.

    each: panels until a gap that none of them covers, of `vectors` together. direct: of so many
    panels the sums stand where the output does; near: so many are read where the source stands,
    and `left` columns with them.
    """

    columns: int
    vectors: int
    panels: int
    each: int
    direct: int
    near: int
    left: int
