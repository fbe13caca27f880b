"""What a terminal can show: its size, its cells in pixels, its picture protocol and colors.

A terminal on the other end is asked, not guessed from its name: the kitty protocol by its own
query, sixel by the primary device attributes, iTerm2 by XTVERSION. Every terminal answers the
attributes, which are asked for last, so that the wait ends with them. Inside tmux it is tmux that
answers, for what reaches the screen through it.
"""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

PROTOCOLS = ("kitty", "iterm", "sixel", "blocks", "ascii")
COLORS = ("true", "256", "none")
_KITTY_QUERY = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
_QUERY = b"\x1b[>q\x1b[c"
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_VERSION = re.compile(rb"\x1bP>\|([^\x1b]*)\x1b\\")
_PATIENCE = 1.0
_CELL = (10, 20)


@dataclass(frozen=True)
class Terminal:
    """protocol: one of PROTOCOLS. columns, lines: in cells. cell: (width, height) in pixels.

    colors: one of COLORS, which matters to blocks.
    """

    protocol: str
    columns: int
    lines: int
    cell: tuple[int, int] = _CELL
    colors: str = "true"


def detect(stream: TextIO, environment: Mapping[str, str], wanted: str = "auto") -> Terminal:
    """Describe the terminal behind a text stream; `wanted` overrides its protocol.

    What is no terminal gets blocks of 80 columns, in full color since there is nobody to ask.
    NO_COLOR and TERM=dumb turn blocks into ascii.
    """
    columns, lines, cell = _size(stream, environment)
    colors = _colors(environment, stream.isatty())
    protocol = wanted
    if wanted == "auto":
        protocol = "ascii" if colors == "none" else "blocks"
        if stream.isatty() and environment.get("TERM", "dumb") not in ("dumb", "linux"):
            # tmux and screen take the kitty query for a new window title.
            inside = environment["TERM"].startswith(("tmux", "screen")) or "TMUX" in environment
            query = _QUERY if inside else _KITTY_QUERY + _QUERY
            protocol = answered(_ask(stream.fileno(), query)) or protocol
    return Terminal(protocol, columns, lines, cell, colors)


def answered(reply: bytes) -> str | None:
    """The best protocol that a reply to our query offers."""
    if b"\x1b_Gi=31;OK\x1b\\" in reply:
        return "kitty"
    version = _VERSION.search(reply)
    if version and version[1].startswith(b"iTerm2"):
        return "iterm"
    attributes = _ATTRIBUTES.search(reply)
    if attributes and b"4" in attributes[1].split(b";"):
        return "sixel"
    return None


def _size(stream: TextIO, environment: Mapping[str, str]) -> tuple[int, int, tuple[int, int]]:
    columns, lines, cell = 80, 24, _CELL
    try:
        import fcntl
        import struct
        import termios

        packed = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, bytes(8))
        rows, across, width, height = struct.unpack("HHHH", packed)
        if across and rows:
            columns, lines = across, rows
            if width >= across and height >= rows:
                cell = (width // across, height // rows)
    except (ImportError, OSError, ValueError):
        pass
    given = [environment.get(name, "") for name in ("COLUMNS", "LINES")]
    if given[0].isdigit() and int(given[0]):
        columns = int(given[0])
    if given[1].isdigit() and int(given[1]):
        lines = int(given[1])
    return columns, lines, cell


def _colors(environment: Mapping[str, str], terminal: bool) -> str:
    name = environment.get("TERM", "")
    if environment.get("NO_COLOR") or (terminal and name in ("", "dumb")):
        return "none"
    if not terminal or environment.get("COLORTERM") in ("truecolor", "24bit"):
        return "true"
    return "true" if name.endswith("-direct") else "256"


def _ask(descriptor: int, query: bytes) -> bytes:
    """The terminal's reply to our query, or nothing when it can't be asked."""
    try:
        import termios
        import tty

        line = os.open(os.ttyname(descriptor), os.O_RDWR | os.O_NOCTTY)
    except (ImportError, OSError):
        return b""
    try:
        if not _in_foreground(line):
            return b""
        before = termios.tcgetattr(line)
        try:
            tty.setcbreak(line, termios.TCSADRAIN)
            os.write(line, query)
            return _reply(line)
        finally:
            termios.tcsetattr(line, termios.TCSADRAIN, before)
    except (OSError, termios.error):
        return b""
    finally:
        os.close(line)


def _in_foreground(line: int) -> bool:
    """Whether changing the terminal's modes would not stop us as a background job."""
    try:
        return os.tcgetpgrp(line) == os.getpgrp()
    except OSError:
        return True  # not our controlling terminal: no job control


def _reply(line: int) -> bytes:
    import select

    reply, end = b"", time.monotonic() + _PATIENCE
    while not _ATTRIBUTES.search(reply) and (left := end - time.monotonic()) > 0:
        if not select.select([line], [], [], left)[0]:
            break
        part = os.read(line, 1024)
        if not part:
            break
        reply += part
    return reply
