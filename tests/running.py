"""How tests run imgconv: on so many threads."""

from contextlib import contextmanager

from imgconv.compute import bands


@contextmanager
def num_threads(count):
    """Work on so many threads within a `with`."""
    bands.set_num_threads(count)
    try:
        yield
    finally:
        bands.set_num_threads(0)


def bytes_by_threads(compute, counts=(1, 2, 5)):
    """The distinct bytes of what `compute()` returns on each number of threads: one, if right."""
    results = set()
    for count in counts:
        with num_threads(count):
            results.add(compute().tobytes())
    return results
