"""The one place where a failure becomes a message and an exit code."""

import atexit
import contextlib
import os
import signal
import sys
import threading
from typing import Any, NoReturn

import click

from imgconv.errors import ImgconvError


class Terminated(BaseException):
    """SIGTERM, raised in the main thread so that temporaries are removed on the way out."""


def say(message: str) -> None:
    """One line on stderr, printable whatever the names in it; silent when stderr is gone."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
                   for c in message)  # fmt: skip
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    try:
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)
    except (OSError, ValueError, AttributeError):
        return


def run(group: click.Group, arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code of the documented table."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words or bool(os.environ.get("IMGCONV_DEBUG"))
    if arguments is None and hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, _terminate)
    try:
        result: Any = group.main(words, prog_name="imgconv", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        return _flush() or code
    except (Terminated, KeyboardInterrupt, click.Abort) as error:
        return 143 if isinstance(error, Terminated) else 130
    except click.exceptions.Exit as error:
        return _flush() or error.exit_code
    except click.ClickException as error:
        if debug:
            raise
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        say(f"imgconv: {error.format_message()}{hint}")
        return 2
    except ImgconvError as error:
        if debug:
            raise
        say(f"imgconv: {error}")
        return error.exit_code
    except (BrokenPipeError, SystemExit):
        # click turns EPIPE into SystemExit, and raises SystemExit for nothing else here.
        return _drop_stdout()
    except MemoryError:
        if debug:
            raise
        say("imgconv: out of memory")
        return 1
    except OSError as error:
        if debug:
            raise
        name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        say(f"imgconv: {name}{error.strerror or error}")
        return 1


def leave(code: int) -> NoReturn:
    """End the process without taking it apart, which takes 15 ms and gives nothing back."""
    alone = all(one.daemon for one in threading.enumerate() if one is not threading.main_thread())
    if not alone:
        sys.exit(code)
    atexit._run_exitfuncs()
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
    os._exit(code)


def _terminate(*_: object) -> None:
    raise Terminated


def _flush() -> int:
    """Write out what stdout still holds; 0, or the exit code of what went wrong."""
    if sys.stdout is None:
        return 0
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _drop_stdout()
    except OSError as error:
        _drop_stdout()
        say(f"imgconv: standard output: {error.strerror}")
        return 1
    except ValueError:
        return 0
    return 0


def _drop_stdout() -> int:
    """Point stdout at nothing, so that the interpreter's own flush at exit stays silent."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)
    except OSError:
        pass
    return 141
