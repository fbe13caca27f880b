"""Bands of rows over threads: all of them, once, whoever asks and whatever fails."""

import os
import threading

import pytest

from imgconv.jit import capture, parallel
from tests.running import num_threads


@pytest.fixture
def three_threads():
    with num_threads(3):
        yield


@pytest.mark.usefixtures("three_threads")
def test_every_row_is_worked_on_once():
    for rows, band in ((100, 7), (1, 1), (0, 3), (9, 0)):
        seen = []
        parallel.over_bands(rows, band, lambda a, b, seen=seen: seen.extend(range(a, b)))
        assert sorted(seen) == list(range(rows))


@pytest.mark.usefixtures("three_threads")
def test_a_failure_is_raised_and_ends_the_work():
    def work(start, stop):
        if start == 3:
            raise KeyError(start)

    for _ in range(50):
        with pytest.raises(KeyError):
            parallel.over_bands(1000, 1, work)


@pytest.mark.usefixtures("three_threads")
def test_work_may_be_divided_within_divided_work_and_by_many_threads():
    total = []

    def inner(start, stop):
        total.append(stop - start)

    def outer(start, stop):
        parallel.over_bands(20, 3, inner)

    callers = [
        threading.Thread(target=parallel.over_bands, args=(40, 1, outer)) for _ in range(8)
    ]  # fmt: skip
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert sum(total) == 8 * 40 * 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.usefixtures("three_threads")
def test_a_forked_process_starts_threads_of_its_own():
    parallel.over_bands(10, 1, lambda a, b: None)
    child = os.fork()
    if child == 0:
        seen = []
        parallel.over_bands(10, 1, lambda a, b: seen.append(a))
        os._exit(0 if sorted(seen) == list(range(10)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_thread_that_came_too_late_leaves_its_askers_cpu(monkeypatch):
    moves = []
    usable = {0, 1}
    monkeypatch.setattr(parallel, "_cpu", lambda: 0)
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda pid: set(usable), raising=False)
    monkeypatch.setattr(
        parallel.os, "sched_setaffinity", lambda pid, cpus: moves.append(cpus), raising=False
    )
    for asker in (-1, 1):
        parallel._leave(asker)
    assert moves == []
    parallel._leave(0)
    assert moves == [{1}, {0, 1}]
    usable = {0}
    parallel._leave(0)
    assert len(moves) == 2


def test_bands_are_as_large_as_waking_a_thread_is_worth():
    with num_threads(2):
        assert parallel.band_of(1000, 10) == 125
        assert parallel.band_of(1000, 100) == 800
        with capture.recording():
            assert parallel.band_of(1000, 100) == 125
            assert parallel.band_of(1000, 200) == 200
