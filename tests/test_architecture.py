"""docs/architecture.md: each of its examples is made in a copy of the source, and works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
EXAMPLES = re.findall(r"^### … (.*?)\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL)
PLANNED = """
import numpy as np, imgconv
from imgconv.ops.algorithms import select
plans = []
with select.telling(lambda problem, candidates: plans.append(candidates[0].algorithm)):
    x = np.random.default_rng(0).normal(size=(2, 3, 40, 50)).astype(np.float32)
    w = np.float32([2, 3, 4]).reshape(3, 1, 1, 1)
    got = imgconv.conv2d(x, w, w.ravel(), groups=3)
np.testing.assert_allclose(got, x * w.ravel()[:, None, None] + w.ravel()[:, None, None], rtol=1e-6)
print(*plans)
"""


def blocks(text, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def apply(block, root):
    """Make the change of a diff with one part; one of added lines only goes to the file's end."""
    name, _, change = block.partition("\n")
    path = root / name.removeprefix("--- ")
    lines = change.splitlines()
    before = "".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "-"))
    after = "".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "+"))
    text = path.read_text() if path.exists() else ""
    if before:
        assert text.count(before) == 1, f"{name}: its lines are not there once"
        path.write_text(text.replace(before, after))
    else:
        path.write_text(text + after)


@pytest.mark.parametrize(("what", "text"), EXAMPLES, ids=[what for what, _ in EXAMPLES])
def test_an_example_works_in_a_copy_of_the_source(what, text, tmp_path):
    source, place = tmp_path / "source", tmp_path / "place"
    place.mkdir()
    for folder in ("imgconv", "kernels"):
        shutil.copytree(
            ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    changes, sessions = blocks(text, "diff"), blocks(text, "console")
    assert changes
    assert sessions
    for change in changes:
        apply(change, source)
    np.save(place / "colors.npy", np.arange(4, dtype=np.float32).reshape(1, 1, 4))
    (place / "planned.py").write_text(PLANNED)
    command = place / "imgconv"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m imgconv "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join((str(place), os.path.dirname(sys.executable), os.environ["PATH"]))
    environment = {**os.environ, "PYTHONPATH": str(source), "PATH": path}
    for session in sessions:
        for words, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
            done = subprocess.run(
                words, shell=True, cwd=place, env=environment, capture_output=True, text=True
            )
            assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_the_page_names_every_room():
    rooms = {path.parent.name for path in (ROOT / "imgconv").glob("*/__init__.py")}
    assert rooms == set(re.findall(r"^\| `(\w+)/`", PAGE, re.MULTILINE))
