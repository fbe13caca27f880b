"""How far it is from a command to the loop: few files, and never back to the command line."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgconv.cli import main

ROOT = str(Path(__file__).parents[2] / "imgconv")


def files_between(words, first):
    """The files of the package on the stack from the first one to an algorithm's `run`."""
    stack = []

    def look(frame, event, _):
        nonlocal stack
        code = frame.f_code
        runs = code.co_name == "run" and "ops/algorithms" in code.co_filename
        if event != "call" or not runs or code.co_filename.endswith("select.py"):
            return
        names = []
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(ROOT):
                names.append(name[len(ROOT) + 1 :])
            if name.endswith(first):
                break
            frame = frame.f_back
        if frame is not None and len(names) > len(stack):
            stack = names[::-1]

    sys.setprofile(look)
    try:
        main.main(words, standalone_mode=False)
    finally:
        sys.setprofile(None)
    return stack


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["apply", "-k", "laplacian", "a.png", "-o", "b.png"], "commands/apply.py"),
        (
            ["apply", "-k", "sobel", "--scale", "minmax", "a.png", "-o", "b.png"],
            "commands/apply.py",
        ),
        (["apply", "-k", "kirsch", "a.jpg", "-o", "maps/"], "commands/apply.py"),
        (["run", "gray | conv sobel", "a.png", "-o", "b.png"], "commands/run.py"),
    ],
)
def test_a_command_is_at_most_eight_files_from_its_loop(tmp_path, monkeypatch, words, first):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("a.png", "a.jpg"):
        Image.fromarray(pixels).save(name)
    found = files_between([*words, "-q"], first)
    files = list(dict.fromkeys(found))
    assert files[0].endswith(first)
    assert "pipeline/filter.py" in files
    assert len(files) <= 8
    assert not any(name.startswith("cli/") for name in files[1:])
