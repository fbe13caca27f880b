"""The console script, which is also `python -m imgconv`."""

import gc


def entry() -> None:
    """Run the command line and end the process."""
    # Imports make many objects and no garbage: at the usual 700 looking for some takes 5 ms.
    gc.set_threshold(10_000)
    from imgconv.cli import main
    from imgconv.cli.boundary import leave, run

    leave(run(main))


if __name__ == "__main__":
    entry()
