"""The one place where a failure becomes a message and an exit code."""

import atexit
import contextlib
import io
import os
import signal
import sys
import threading
import warnings
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from imgconv.console import STDOUT, drop_stdout, reason, say
from imgconv.errors import ImgconvError, unforeseen

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

    from _typeshed import ReadableBuffer


_asked = 0  # the signal that asked this process to stop


class Stopped(BaseException):
    """SIGINT or SIGTERM, raised in the main thread so that temporaries go on the way out.

    Not KeyboardInterrupt, for which click prints an empty line.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.exit_code = 128 + number


def run(group: click.Group, arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code of the documented table."""
    try:
        return _run(group, arguments)
    except Exception as error:
        if not _asked:
            if debug_asked(arguments):
                raise
            say(f"imgconv: {unforeseen(error)}")
            return 1
        # C code under an import answers `Stopped` with an exception of its own: a SIGTERM that
        # met NumPy's import once came out as TypeError("expected a message argument").
        return 128 + _asked


def debug_asked(arguments: list[str] | None) -> bool:
    """Whether failures are to show where they came from."""
    words = sys.argv[1:] if arguments is None else arguments
    return "--debug" in words or bool(os.environ.get("IMGCONV_DEBUG"))


def _run(group: click.Group, arguments: list[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    debug = debug_asked(arguments)
    if arguments is None:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell's background jobs have
                signal.signal(number, _stop)
        sys.unraisablehook = _unraisable
        if not sys.warnoptions:  # a library's remarks are no lines of ours: `python -W` shows them
            warnings.simplefilter("ignore")
        _hold_standard_streams()
    try:
        result: object = group.main(words, prog_name="imgconv", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        return _flush() or code
    except Stopped as error:
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except click.exceptions.Exit as error:
        return _flush() or error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        if debug:
            raise
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        say(f"imgconv: {' '.join(error.format_message().split())}{hint}")
        return 2
    except ImgconvError as error:
        if debug:
            raise
        say(f"imgconv: {error}")
        return error.exit_code
    except (BrokenPipeError, SystemExit):
        # click turns EPIPE into SystemExit, and raises SystemExit for nothing else here.
        return drop_stdout()
    except MemoryError:
        if debug:
            raise
        say("imgconv: out of memory")
        return 1
    except OSError as error:
        if debug:
            raise
        if error.filename == STDOUT:
            drop_stdout()
            say(f"imgconv: {STDOUT}: {reason(error)}")
        else:
            name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            say(f"imgconv: {name}{error.strerror or error}")
        return 1


def leave(code: int) -> NoReturn:
    """End the process without taking it apart, which takes 15 ms and gives nothing back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to stop
    code = code or _flush()
    alone = all(one.daemon for one in threading.enumerate() if one is not threading.main_thread())
    if not alone:
        sys.exit(code)
    atexit._run_exitfuncs()
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
    os._exit(code)


def _hold_standard_streams() -> None:
    """Give closed standard streams a descriptor, so that no image file takes their place.

    A library's message on descriptor 2 would otherwise end up in an output. What is written to a
    closed standard output fails: 1 becomes a descriptor that is open for reading only.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            opened = os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        old, file = sys.stdout, sys.stdout.buffer
        if os.name == "posix":  # Windows' consoles have a class of their own
            file = io.BufferedWriter(_Stdout(1, "w", closefd=False))
        sys.stdout = io.TextIOWrapper(
            file, old.encoding, "backslashreplace", line_buffering=old.line_buffering
        )


class _Stdout(io.FileIO):
    """Standard output, which its failures name: an OSError without a name is somebody else's."""

    def write(self, content: "ReadableBuffer") -> int:
        try:
            return super().write(content)
        except OSError as error:
            error.filename = STDOUT
            raise


def _stop(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = number
    # Not under an import, which takes 0.3 s at most. importlib takes the import lock a line before
    # its `try`: raised between the two, the lock would stay taken and every thread that imports
    # something would wait for ever. And what is imported may drop any exception: of 440 SIGTERMs in
    # the first second of a first run, 12 were lost in Numba's modules.
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _stop_soon(number)
            return
        frame = frame.f_back
    raise Stopped(number)


def _unraisable(what: "UnraisableHookArgs") -> None:
    """Stop after all when the interpreter has dropped `Stopped`, as in a weak reference's callback.

    It would otherwise print a traceback and go on with the work.
    """
    if isinstance(what.exc_value, Stopped):
        _stop_soon(what.exc_value.number)
    else:
        sys.__unraisablehook__(what)


def _stop_soon(number: int) -> None:
    """Call `_stop` a millisecond later, where the main thread then is."""
    signal.signal(signal.SIGALRM, lambda _, frame: _stop(number, frame))
    signal.setitimer(signal.ITIMER_REAL, 0.001)


def _flush() -> int:
    """Write out what stdout still holds; 0, or the exit code of what went wrong."""
    if sys.stdout is None:
        return 0
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return drop_stdout()
    except OSError as error:
        drop_stdout()
        say(f"imgconv: {STDOUT}: {reason(error)}")
        return 1
    except ValueError:
        return 0
    return 0
