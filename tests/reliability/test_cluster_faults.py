"""Row 26: a cluster whose workers are killed in the middle of a batch that has a bad input."""

import json
import os
import signal

import pytest

pytest.importorskip("distributed")

from tests.batch.test_cluster import (
    INVERT,
    assert_inverted,
    batch,
    cluster,
    outputs,
    start,
    until,
)

assert batch, cluster  # fixtures
pytestmark = pytest.mark.cluster


def test_row_26_killed_workers_cost_no_output_and_the_bad_input_alone_is_listed(batch, cluster):
    """Both workers are killed, one after the other; the groups that they had are done again."""
    (batch / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    workers = [cluster.worker() for _ in range(2)]
    command = ("apply", *INVERT, "in", "-o", "out/", "--cluster", cluster.address, "--json")
    run = start(*command, cwd=batch)
    for number, worker in enumerate(workers):
        seen = 3 + 12 * number
        until(lambda seen=seen: len(outputs(batch)) >= seen, f"no {seen} outputs", seconds=240)
        worker.send_signal(signal.SIGKILL)
        cluster.worker()
    out, said = run.communicate(timeout=240)
    assert run.returncode == 1
    assert said.count(b"\n") == 1
    failed = [row["input"] for row in map(json.loads, out.splitlines()) if "error" in row]
    assert [os.path.basename(name) for name in failed] == ["bad.png"]
    assert_inverted(batch, ["bad.png"])


def test_row_26_a_task_that_is_done_twice_is_as_good_as_done_once(batch):
    """What the first run made is found to have the same bytes; another file is left and named."""
    command = ("apply", *INVERT, "in", "-o", "out/", "--cluster", "local:2")
    first = start(*command, cwd=batch)
    assert first.communicate(timeout=240) == (b"", b"")
    (batch / "out" / "03.png").unlink()
    (batch / "out" / "05.png").write_bytes(b"precious")
    second = start(*command, cwd=batch)
    _, said = second.communicate(timeout=240)
    assert second.returncode == 1
    assert said.count(b"\n") == 1
    assert b"05.png: exists" in said
    assert (batch / "out" / "05.png").read_bytes() == b"precious"
    (batch / "out" / "05.png").unlink()
    assert_inverted(batch, ["05.png"])
