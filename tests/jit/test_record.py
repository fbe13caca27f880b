"""Records as arguments of loops: by value, in memory, in calls from body to body, and replayed."""

from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest

from imgconv.jit import capture, replay
from imgconv.jit import loop as jit
from imgconv.jit.record import array, record


@record
class Line(NamedTuple):
    first: int
    count: int
    gain: float
    offset: Annotated[float, "f64"]


@record
class Pair(NamedTuple):
    out: Annotated[Any, "f32*"]
    source: Annotated[Any, "f32*"]
    length: int
    negative: int


@jit.loop
def scale_line():
    def body(pair, line):
        for i in range(line.first, line.first + line.count):
            scaled = pair.source[i] * line.gain + line.offset
            pair.out[i] = -scaled if pair.negative else scaled

    return "disjoint Pair Line", body


@jit.loop
def scale_lines():
    scale = scale_line.part()

    def body(out, source, lines, ends, number):
        for k in range(lines.count):
            line = lines[1 + k]
            # A truth and a literal where the record has integers.
            scale(
                Pair(out, source, 0, line.gain < 0),
                Line(line.first, line.count, line.gain, line.offset),
            )
            ends[k].first = line.first + line.count
        lines.count = 0

    return "disjoint f32* f32* Line* Line* i64", body


SOURCE = np.arange(12, dtype=np.float32)
LINES = array(Line(0, 2, 0, 0), Line(1, 3, 2.5, 1 / 3), Line(6, 4, -3, 0.25))


def expected():
    out = np.zeros(12, np.float32)
    out[1:4] = SOURCE[1:4] * 2.5 + 1 / 3
    out[6:10] = -(SOURCE[6:10] * -3 + 0.25)
    return out


def test_a_record_by_value():
    out = np.zeros(12, np.float32)
    scale_line()(Pair(out, SOURCE, 0, 0), Line(1, 3, 2.5, 1 / 3))
    scale_line().fix(Pair(out, SOURCE, 0, 1))(Line(6, 4, -3, 0.25))
    np.testing.assert_array_equal(out, expected())


def test_records_in_memory_and_put_together_in_a_body():
    out, lines, ends = np.zeros(12, np.float32), LINES.copy(), np.zeros_like(LINES)
    scale_lines()(out, SOURCE, lines, ends, 0)
    np.testing.assert_array_equal(out, expected())
    assert ends["first"].tolist() == [4, 10, 0]
    assert lines["count"].tolist() == [0, 3, 4]


def test_records_are_replayed():
    out, lines = np.zeros(12, np.float32), LINES.copy()
    with capture.recording() as tape:
        scale_lines()(out, SOURCE, lines, np.zeros_like(LINES), 0)
    assert not out.any()
    assert replay.takes(tape)
    replay.Program(tape, [replay.Region(0, 1, 0)], replay.Memory(0, [tape], 1), 1).run()
    np.testing.assert_array_equal(out, expected())


def test_what_is_no_record_of_the_kind_is_refused():
    with pytest.raises(TypeError, match="takes 2 arguments"):
        scale_line()(Pair(SOURCE, SOURCE, 0, 0))
    with pytest.raises(TypeError, match="got an array of float32"):
        scale_lines()(SOURCE, SOURCE, SOURCE, LINES, 0)
    with pytest.raises(TypeError, match=f"record Line: {__name__} has one"):
        record(type("Line", (), {"__module__": "elsewhere"}))


def test_a_record_of_other_fields_is_another_loop_of_the_store(monkeypatch):
    identity = scale_lines._identity((), "Line*")
    monkeypatch.setitem(Line.__annotations__, "offset", float)
    assert scale_lines._identity((), "Line*") != identity
