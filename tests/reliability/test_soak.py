"""The short form of the soak; an hour of it is run by hand, see docs/reliability.md."""

import pytest

from tests.reliability.soak import soak


@pytest.mark.slow
def test_mixed_commands_leave_nothing_behind_and_repeat_their_outputs(tmp_path):
    report = soak(tmp_path, minutes=1)
    assert report["faults"] == []
    assert report["rounds"] >= 4
    assert report["ended_by_signals"] > 0
