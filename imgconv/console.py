"""What goes to standard output and standard error, whatever is in it and whoever listens."""

import errno
import os
import sys

STDOUT = "standard output"
_status = ""  # what stands on the terminal's last line, to be written over


def say(message: str) -> None:
    """One line on stderr, printable whatever the names in it; silent when stderr is gone."""
    line = printable(message)
    clear_status()
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    try:
        # In one piece: the lines of several processes do not run together.
        sys.stderr.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return


def counted(number: int, thing: str) -> str:
    """`1 map`, `2 maps`, `25,696 bytes`."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def show_status(text: str) -> None:
    """Show a text on the terminal's last line until the next status or line."""
    global _status
    _status = text
    print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)


def clear_status() -> None:
    """Take a status away, so that a line of its own can stand there."""
    global _status
    if _status:
        _status = ""
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def echo(text: object = "", err: bool = False) -> None:
    """Lines on stdout or stderr, printable whatever texts of others are in them.

    Names, labels and descriptions come from files of anybody; escape sequences in them would reach
    the terminal. Every command's plain text goes through here.
    """
    lines = "\n".join(map(printable, str(text).split("\n")))
    clear_status()
    print(lines, file=sys.stderr if err else sys.stdout, flush=True)


def printable(text: str) -> str:
    """Text on one line for a terminal: control characters and stray bytes as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
                   for c in text)  # fmt: skip


def reason(error: OSError) -> str:
    """Why standard output failed; its descriptor is bad when it was closed before the start."""
    return "closed" if error.errno == errno.EBADF else error.strerror or str(error)


def drop_stdout() -> int:
    """Point stdout at nothing, so that the interpreter's own flush at exit stays silent."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)
    except OSError:
        pass
    return 141
