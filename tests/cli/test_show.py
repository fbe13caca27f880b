"""`imgconv show`: what reaches a terminal, decoded again, and how a terminal is asked."""

import base64
import io
import os
import pty
import re
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.viz.preview import Named, show
from imgconv.viz.terminal import Terminal, answered

PHOTO = data.astronaut()[:120, 200:360]
WIDE = np.concatenate([PHOTO, np.full_like(PHOTO[..., :1], 255)], axis=2)


def shown(protocol, pixels=PHOTO, columns=40, **more):
    terminal = Terminal(protocol, columns, 24, **more)
    return "".join(show([Named("photo", pixels)], terminal))


def box(width, height):
    return np.asarray(Image.fromarray(WIDE).resize((width, height), Image.Resampling.BOX))


def cells(line):
    """(character, foreground, background) of a line; None for the terminal's own color."""
    found, colors = [], [None, None]
    for codes, sign in re.findall(r"\x1b\[([\d;]*)m|(.)", line):
        if sign:
            found.append((sign, *colors))
            continue
        numbers = [int(code) for code in codes.split(";")]
        while numbers:
            head = numbers.pop(0)
            if head == 0:
                colors = [None, None]
            else:
                assert numbers.pop(0) == 2
                colors[head == 48] = tuple(numbers[:3])
                del numbers[:3]
    return found


def test_half_blocks_are_the_picture_two_rows_a_line():
    lines = shown("blocks").splitlines()
    assert lines[-1] == "photo".center(40).rstrip()
    rows = [cells(line) for line in lines[:-1]]
    upper = [[cell[1] for cell in row] for row in rows]
    lower = [[cell[2] for cell in row] for row in rows]
    expected = box(40, 30)[..., :3]
    np.testing.assert_array_equal(upper, expected[::2])
    np.testing.assert_array_equal(lower, expected[1::2])


def test_transparency_leaves_the_terminals_ground():
    pixels = WIDE[:4, :2].copy()
    pixels[..., 3] = [[255, 0], [0, 255], [0, 0], [255, 255]]
    rows = [cells(line) for line in shown("blocks", pixels, columns=2).splitlines()[:2]]
    assert [cell[0] for cell in rows[0]] == ["▀", "▄"]
    assert [cell[2] for cell in rows[0]] == [None, None]
    assert rows[0][1][1] == tuple(pixels[1, 1, :3])
    assert [cell[0] for cell in rows[1]] == ["▄", "▄"]


def test_256_colors_are_the_nearest_of_xterms():
    ramp = np.arange(256, dtype=np.uint8)
    pixels = np.stack([ramp, ramp[::-1], ramp], axis=1)[None].repeat(2, axis=0)
    text = shown("blocks", pixels, columns=256, colors="256").splitlines()[0]
    levels = [0, 95, 135, 175, 215, 255]
    palette = {16 + 36 * r + 6 * g + b: (levels[r], levels[g], levels[b])
               for r in range(6) for g in range(6) for b in range(6)}  # fmt: skip
    palette |= {232 + k: (8 + 10 * k,) * 3 for k in range(24)}
    colors = np.array(list(palette.values()))
    wanted = pixels[0].astype(int)
    best = np.square(colors[:, None] - wanted).sum(axis=2).min(axis=0)
    current, total = None, []
    for code, sign in re.findall(r"38;5;(\d+);[\d;]*m|(▀)", text):
        if code:
            current = palette[int(code)]
        elif sign:
            total.append(current)
    distances = np.square(np.array(total) - wanted).sum(axis=1)
    np.testing.assert_array_equal(distances, best)


def test_kitty_gets_a_png_in_chunks_at_the_cells_it_should_cover():
    text = shown("kitty", cell=(8, 16))
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert parts[0][0].startswith("a=T,f=100,q=2,c=40,r=15,m=")
    assert [head[-3:] for head, _ in parts] == ["m=1"] * (len(parts) - 1) + ["m=0"]
    assert max(len(body) for _, body in parts) <= 4096
    png = base64.b64decode("".join(body for _, body in parts))
    picture = np.asarray(Image.open(io.BytesIO(png)))
    assert picture.shape == (15 * 16, 40 * 8, 4)
    np.testing.assert_array_equal(picture[::2, ::2], WIDE)


def test_iterm_gets_a_png_in_its_own_sequence():
    head, body = re.search(r"\x1b\]1337;File=([^:]*):([^\a]*)\a", shown("iterm")).groups()
    assert head == "inline=1;width=40;height=15;preserveAspectRatio=0"
    assert Image.open(io.BytesIO(base64.b64decode(body))).size == (400, 300)


def unsixel(text):
    """Decode the sixel that we write: RGB palette, raster attributes, runs, $ and -."""
    body = re.search(r"\x1bP0;1q(.*)\x1b\\", text, re.DOTALL)[1]
    width, height = map(int, re.match(r'"1;1;(\d+);(\d+)', body).groups())
    out = np.zeros((height + 6, width, 4), np.uint8)
    colors, x, top, color = {}, 0, 0, None
    tokens = r'"[\d;]*|#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)([?-~])|([?-~])|([$-])'
    for match in re.finditer(tokens, body):
        number, r, g, b, count, run, single, move = match.groups()
        if r:
            colors[number] = [round(int(v) * 2.55) for v in (r, g, b)] + [255]
        elif number:
            color = colors[number]
        elif run or single:
            bits = ord(run or single) - 63
            for _ in range(int(count or 1)):
                for k in range(6):
                    if bits >> k & 1:
                        out[top + k, x] = color
                x += 1
        elif move:
            x, top = 0, top + 6 * (move == "-")
    assert (out[height:] == 0).all()
    return out[:height]


def test_sixel_is_the_picture_in_255_colors():
    pixels = WIDE.copy()
    pixels[:20, :20, 3] = 0
    found = unsixel(shown("sixel", pixels, columns=16, cell=(10, 20)))
    assert found.shape == (120, 160, 4)
    np.testing.assert_array_equal(found[..., 3], pixels[..., 3])
    error = found[..., :3].astype(int) - pixels[..., :3]
    assert np.abs(error[20:]).mean() < 8


def test_before_and_after_stand_side_by_side_and_more_wrap():
    pictures = [Named(str(k), PHOTO) for k in range(5)]
    lines = "".join(show(pictures, Terminal("ascii", 80, 24))).splitlines()
    captions = [line.split() for line in lines if re.fullmatch(r"[\d ]+", line) and line.strip()]
    assert captions == [["0", "1", "2"], ["3", "4"]]
    assert max(len(line) for line in lines) <= 80


@pytest.mark.parametrize(
    ("reply", "protocol"),
    [
        (b"\x1b_Gi=31;OK\x1b\\\x1bP>|kitty(0.35.0)\x1b\\\x1b[?62;c", "kitty"),
        (b"\x1bP>|iTerm2 3.5.1\x1b\\\x1b[?62;4c", "iterm"),
        (b"\x1b[?62;4;22c", "sixel"),
        (b"\x1b[?1;2c", None),
        (b"\x1b[?64;14;44c", None),
        (b"", None),
    ],
)
def test_the_terminals_answer_decides(reply, protocol):
    assert answered(reply) == protocol


def on_a_terminal(reply, *arguments, cwd, **environment):
    """Run the command on a pseudo-terminal that answers queries; return (code, output)."""
    import fcntl
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 640, 384))
    before = termios.tcgetattr(slave)
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    child = subprocess.Popen(
        [sys.executable, "-m", "imgconv", "show", *map(str, arguments)], cwd=cwd, stdin=slave,
        stdout=slave, stderr=subprocess.PIPE, start_new_session=True,
        env={**kept, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    output, end = b"", time.monotonic() + 60
    os.set_blocking(master, False)
    while time.monotonic() < end:
        done = child.poll() is not None
        try:
            output += os.read(master, 65536)
        except BlockingIOError:
            if done:
                break
            time.sleep(0.01)
        if reply and b"\x1b[c" in output:
            os.write(master, reply)
            reply = b""
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
    code = child.wait()
    assert child.stderr.read() == b""
    child.stderr.close()
    return code, output


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    return tmp_path


@pytest.mark.parametrize(
    ("reply", "sign"),
    [
        (b"\x1b_Gi=31;OK\x1b\\\x1b[?62c", b"\x1b_Ga=T,f=100"),
        (b"\x1b[?62;4c", b"\x1bP0;1q"),
        (b"\x1b[?1;2c", "▀".encode()),
        (b"", "▀".encode()),
    ],
)
def test_a_terminal_is_asked_and_left_as_it_was(folder, reply, sign):
    code, output = on_a_terminal(reply, "photo.png", cwd=folder)
    assert code == 0
    assert output.startswith(b"\x1b_Gi=31,s=1,v=1,a=q")
    assert sign in output


def test_tmux_and_screen_are_spared_the_query_that_they_take_for_a_title(folder):
    for environment in ({"TERM": "tmux-256color"}, {"TMUX": "/tmp/socket,1,0"}):
        code, output = on_a_terminal(b"\x1b[?62;4c", "photo.png", cwd=folder, **environment)
        assert code == 0
        assert output.startswith(b"\x1b[>q\x1b[c")
        assert b"\x1b_" not in output
        assert b"\x1bP0;1q" in output


def test_a_dumb_terminal_or_no_color_gets_plain_letters_unasked(folder):
    for environment in ({"TERM": "dumb"}, {"NO_COLOR": "1", "TERM": "dumb"}):
        code, output = on_a_terminal(b"", "photo.png", cwd=folder, **environment)
        assert code == 0
        assert b"\x1b" not in output
        assert b"@" in output or b"%" in output


def test_a_filter_is_shown_beside_its_image_through_a_pipe(folder):
    command = [sys.executable, "-m", "imgconv", "show", "-", "-k", "sobel"]
    command += ["--protocol", "ascii", "--width", "60"]
    with open(folder / "photo.png", "rb") as photo:
        result = subprocess.run(command, stdin=photo, capture_output=True, text=True, cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].split() == ["standard", "input", "sobel"]


def test_names_cannot_steer_the_terminal(folder):
    evil = "a\x1b]0;owned\a\n.png"
    os.rename(folder / "photo.png", folder / evil)
    command = [sys.executable, "-m", "imgconv", "show", evil, "--protocol", "ascii"]
    result = subprocess.run(command, capture_output=True, cwd=folder)
    assert result.returncode == 0
    assert b"\x1b" not in result.stdout
    assert b"\a" not in result.stdout
