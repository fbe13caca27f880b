"""A short run of every fuzz target: seeds, corpora, what was once found, and mutations of them."""

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.corpus import inputs_of
from tests.fuzz.make_seeds import seeds
from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).parent / "found"
SEEDS = seeds()
ROUNDS = 150


def mutated(generator, data, others):
    """One mutation: bits, bytes, cuts, repeats, or a piece of another input."""
    data = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(data) + 1)
        end = min(len(data), at + generator.randint(1, 8))
        kind = generator.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            data[at:end] = generator.randbytes(end - at)
        elif kind == 2:
            del data[at:end]
        elif kind == 3:
            data[at:at] = data[at:end] * generator.randint(1, 50)
        elif kind == 4:
            other = generator.choice(others)
            start = generator.randrange(len(other) + 1)
            data[at:end] = other[start : start + generator.randint(1, 32)]
        else:
            data[at:at] = generator.choice(
                [b"0", b"-1", b"9" * 30, b"nan", b"1e999", b"\0", b"\xff" * 4]
            )
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_mutations_work_or_are_refused_in_a_line(name):
    found = (path.read_bytes() for path in sorted(FOUND.glob(f"{name}-*")))
    inputs = [*SEEDS[name], *inputs_of(name), *found]
    generator = random.Random(name)
    for data in inputs:
        TARGETS[name](data)
    for _ in range(ROUNDS):
        TARGETS[name](mutated(generator, generator.choice(inputs), inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_of_atheris_finds_nothing(name, tmp_path):
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("no atheris: the extra `fuzz` is not installed")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, data in enumerate([*SEEDS[name], *inputs_of(name)]):
        (corpus / str(number)).write_bytes(data)
    result = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", name, "-seed=1", "-max_total_time=20", corpus],
        cwd=Path(__file__).parents[2], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
