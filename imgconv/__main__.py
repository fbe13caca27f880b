"""The console script, which is also `python -m imgconv`."""

import gc
import os


def entry() -> None:
    """Run the command line and end the process."""
    # Imports make 60,000 objects and no garbage: looking for some among them takes 12 ms.
    gc.set_threshold(100_000)
    # Nothing here is left to OpenBLAS, whose threads wait for work by spinning: 20 ms of a start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from imgconv.cli import main
    from imgconv.cli.exit_codes import leave, run

    leave(run(main))


if __name__ == "__main__":
    entry()
