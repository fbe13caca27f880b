"""The bar on a terminal: how much is done and how long the rest will take."""

import io

import pytest

from imgconv.batch import runner
from imgconv.batch.runner import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Begin: the time, which the test moves, and the terminal."""

    def begin():
        # Within the test: pytest sets streams of its own between its phases.
        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setattr("imgconv.console._status", "")
        now = [100.0]
        monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
        return now, terminal

    return begin


def last(terminal):
    return terminal.getvalue().rpartition("\r")[2].removesuffix("\x1b[K")


def test_files_that_took_so_long_say_how_long_the_others_will_take(clock):
    now, terminal = clock()
    bar = Progress(10, quiet=False)
    for _ in range(4):
        now[0] += 30
        bar.step()
    assert last(terminal) == f"4/10 [{'#' * 9:<24}] 3:00 left"
    for _ in range(5):
        now[0] += 1000
        bar.step()
    assert last(terminal) == f"9/10 [{'#' * 21:<24}] 9:29 left"
    now[0] += 1
    bar.step()
    assert last(terminal) == f"10/10 [{'#' * 24}] 0:00 left"
    bar.end()
    assert last(terminal) == ""


def test_hours_are_shown_and_an_unknown_number_has_a_rate(clock):
    now, terminal = clock()
    bar = Progress(1000, quiet=False)
    now[0] += 40
    bar.step()
    assert last(terminal).endswith("] 11:06:00 left")
    endless = Progress(None, quiet=False)
    for _ in range(6):
        now[0] += 4
        endless.step()
    assert last(terminal) == "6 0.2/s"


def test_one_image_advances_by_its_rows(clock):
    now, terminal = clock()
    bar = Progress(1, quiet=False)
    bar.rows(10, 1000)  # nothing is shown of what takes less than a second
    assert terminal.getvalue() == ""
    now[0] += 5
    bar.rows(250, 1000)
    assert last(terminal) == f"25% [{'#' * 6:<24}] 0:15 left"


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_drawn_elsewhere_or_if_quiet(clock, monkeypatch, quiet):
    now, terminal = clock()
    if not quiet:
        terminal = io.StringIO()
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setattr("imgconv.console._status", "")
    bar = Progress(3, quiet)
    now[0] += 9
    bar.step()
    bar.end()
    assert terminal.getvalue() == ""
