"""What the fault tests share: running the command line, and photographs to run it on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

CORPORA = Path(__file__).parents[3] / "shared" / "corpora"
NOBODY = ("setpriv", "--reuid=65534", "--clear-groups")
COMMAND = (sys.executable, "-m", "imgconv")
TEMPORARY = ".imgconv-"


def imgconv(*arguments, cwd, stdin=None, under=(), **options):
    """Run imgconv, perhaps under another program such as strace, and capture what it says."""
    return subprocess.run(
        [*under, *COMMAND, *map(os.fspath, arguments)],
        cwd=cwd, input=stdin, capture_output=True, timeout=120, **options,
    )  # fmt: skip


def one_line(result, *said):
    """The error is one line with these words and no traceback."""
    assert result.stderr.count(b"\n") == 1, result.stderr
    assert b"Traceback" not in result.stderr
    for words in said:
        assert words in result.stderr, result.stderr


def save_photo(path, side=64):
    Image.fromarray(data.astronaut()[:side, :side]).save(path)


def pixels(path):
    with Image.open(path) as opened:
        return np.asarray(opened)


def temporaries(folder):
    return [path for path in Path(folder).rglob("*") if path.name.startswith(TEMPORARY)]


def corpus(folder):
    """Parameters: the files of a corpus, or one that is skipped where it is not beside us."""
    found = sorted((CORPORA / folder).glob("*")) if CORPORA.is_dir() else []
    if not found:
        reason = f"no corpus {folder!r} in ../shared/corpora"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(path, id=path.name[:40]) for path in found]


def skip_unless_nobody_can_run():
    """Skip where a user without privileges cannot read the checkout or its environment."""
    probe = [*NOBODY, sys.executable, "-c", "import imgconv.cli"]
    if os.geteuid() or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("dropping privileges needs root, and a checkout that others may read")
