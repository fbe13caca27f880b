"""What a person at a terminal is told, and that a pipe is told nothing of it."""

import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from tests.running import here

COMMAND = (sys.executable, "-m", "imgconv", "apply")


def at_terminal(*arguments, interrupt=None, **environment):
    """What a command prints on a terminal, with bars taken away, and its exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
        env={**os.environ, "IMGCONV_QUIET": "1", **environment},
    )  # fmt: skip
    os.close(theirs)
    told = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        told += piece
        if interrupt and interrupt in told:
            process.send_signal(signal.SIGINT)
            interrupt = None
    os.close(ours)
    text = told.decode().replace("\r\n", "\n")
    lines = [re.sub(r".*\r\x1b\[K|.*\r(?=[^\r]*$)", "", line) for line in text.split("\n")]
    assert not any("\x1b" in line for line in lines), lines  # no line has a bar's rest in it
    return [line for line in lines if line], process.wait(60)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert here("apply", "-k", "identity", "sample:chart:64", "-o", "1.png").returncode == 0
    for name in ("2.png", "3.png"):
        (tmp_path / name).write_bytes((tmp_path / "1.png").read_bytes())
    (tmp_path / "4.png").write_bytes(b"no image")
    return tmp_path


def test_a_success_names_the_file_whose_name_was_chosen(photos):
    assert at_terminal("-k", "box", "1.png") == (["1.png -> 1-box.png"], 0)
    assert at_terminal("-k", "box", "1.png", "-o", "mine.png") == ([], 0)
    assert at_terminal("-k", "box", "1.png", "--overwrite", "-q") == ([], 0)
    piped = here("apply", "-k", "box", "2.png")
    assert (piped.stdout, piped.stderr) == ("", "")


@pytest.mark.parametrize("verbose", [(), ("-v",)])
def test_a_batch_ends_with_one_line(photos, verbose):
    lines, code = at_terminal("-k", "box", *(f"{n}.png" for n in range(1, 5)), "-o", "o/", *verbose)
    assert code == 1
    assert re.fullmatch(r"4 files, 1 failed, \d+\.\d s, [\d.,]+ files/s", lines.pop())
    assert lines.pop().startswith("imgconv: 4.png: not an image")
    assert lines == [f"{n}.png -> o/{n}.png" for n in (1, 2, 3) if verbose]
    lines, code = at_terminal("-k", "box", "1.png", "2.png", "-o", "d/", "--dry-run")
    assert (lines, code) == (["1.png -> d/1.png", "2.png -> d/2.png"], 0)  # without a speed
    piped = here("apply", "-k", "box", "1.png", "2.png", "-o", "p/")
    assert (piped.stdout, piped.stderr) == ("", "")


@pytest.mark.parametrize(
    ("options", "way"), [((), "--skip-existing"), (("--ledger", "l.sqlite"), "--resume")]
)
def test_an_interrupted_batch_says_how_to_go_on(photos, options, way):
    os.mkfifo("pipe.png")
    names = ("1.png", "2.png", "3.png", "pipe.png")
    lines, code = at_terminal(
        "-k", "box", *names, "-o", "o/", "--jobs", "1", "-v", *options, interrupt=b"3.png ->"
    )
    assert code == 130
    assert re.fullmatch(
        rf"imgconv: stopped: 3 files, .* files/s; the same command with {way} continues", lines[-1]
    )


def test_compiling_is_told_once_with_its_size_and_to_no_pipe(photos):
    fresh = {
        "IMGCONV_STORE": str(photos / "store"), "IMGCONV_NUM_THREADS": "2", "IMGCONV_QUIET": "",
    }  # fmt: skip
    lines, code = at_terminal("-k", "box", "1.png", **fresh)
    assert code == 0
    told = re.fullmatch(
        r"imgconv: compiling (\d+) loops for this machine, about \d+ s, once", lines[0]
    )
    assert told
    assert int(told[1]) == len([name for name in os.listdir("store") if name.endswith(".o")])
    assert lines[1:] == ["1.png -> 1-box.png"]
    # The loops of other everyday filters were among them.
    for kernel in ("box", "sobel", "sharpen", "gaussian:sigma=2", "binomial-3"):
        lines, code = at_terminal("-k", kernel, "2.png", "--gray", **fresh)
        assert code == 0
        assert not any("compiling" in line for line in lines), (kernel, lines)
    piped = subprocess.run(
        [*COMMAND, "-k", "box", "3.png"], capture_output=True, text=True,
        env={**os.environ, **fresh, "IMGCONV_STORE": str(photos / "another")},
    )  # fmt: skip
    assert (piped.returncode, piped.stdout, piped.stderr) == (0, "", "")
    assert os.listdir("another")
