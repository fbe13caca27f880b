"""One version of imgconv as a process: `python kept_side.py FOLDER` makes rows and times them.

Reads one JSON value per line: the number of a row makes it, {"calls": N} runs it N times; answers
each with a line: [seconds, CPU seconds] of the calls, or a string that says what went wrong.
"""

import importlib
import importlib.util
import json
import os
import sys
import time
import traceback
import types
from typing import Any

# Where what the rows import was before it moved; packages stand before their modules.
MOVED = {
    "ops.filter": "compute.filtering", "ops.conv": "compute.convolution",
    "ops.conv_transpose": "compute.transposed", "ops.pool": "compute.pooling",
    "ops.linear": "compute.linear", "kernels": "bank", "io": "images",
    "io.reading": "images.reading", "io.formats": "images.formats", "io.writing": "images.writing",
    "nn": "networks", "nn.models": "networks.architectures", "nn.fusion": "networks.fusion",
    "nn.weights": "networks.weights",
}  # fmt: skip


def find_moved() -> None:
    """Let an old version's modules be imported by their names of today."""
    rooms = {name.partition(".")[0] for name in MOVED}
    missing = {room for room in rooms if importlib.util.find_spec(f"imgconv.{room}") is None}
    if "ops" in missing:
        sys.modules["imgconv.ops"] = types.ModuleType("imgconv.ops")
    for name, before in MOVED.items():
        if name.partition(".")[0] in missing:
            sys.modules[f"imgconv.{name}"] = importlib.import_module(f"imgconv.{before}")


def serve(answers: Any) -> None:
    """Answer until the input ends."""
    from benchmarks.kept_rows import rows

    listed, call = rows(), None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if isinstance(request, int):
                call = None  # the memory of the row before is free before the next takes its own
                call = listed[request].make()
                answer: Any = [0.0, 0.0]
            else:
                answer = timed(call, request["calls"])
        except Exception:
            answer = traceback.format_exc(limit=-3)
        print(json.dumps(answer), file=answers, flush=True)


def timed(call: Any, calls: int) -> list[float]:
    """Seconds and CPU seconds, of all threads, of so many calls."""
    spent, start = time.process_time(), time.perf_counter()
    for _ in range(calls):
        call()
    elapsed = time.perf_counter() - start
    return [elapsed, time.process_time() - spent]


if __name__ == "__main__":
    # First this version's package, then the benchmarks, and nothing of the current folder.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[0:1] = [sys.argv[1], os.path.dirname(here)]
    channel, sys.stdout = sys.stdout, sys.stderr
    find_moved()
    serve(channel)
