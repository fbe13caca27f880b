"""Every failure that imgconv reports on purpose.

The message is one line that names the file or option, what was got and what was expected.
`exit_code` is the process's exit code when the error ends the whole command.
"""


class ImgconvError(Exception):
    """Base of all reported failures: some or all of the work could not be done."""

    exit_code = 1


class UsageError(ImgconvError):
    """A wrong option or argument, found before any work."""

    exit_code = 2


class KernelError(UsageError):
    """Kernel text or a kernel file that cannot be used."""


class ShapeError(UsageError):
    """Sizes, strides, groups or channels that do not fit together."""


class ModelError(UsageError):
    """A network description or its weights that cannot be used."""


class ImageError(ImgconvError):
    """An input image that cannot be read.

    source: the input's name, where the error stands for it in a list of inputs.
    """

    source: str | None = None


class LimitError(ImgconvError):
    """Refused before allocation: the declared or computed size is beyond the limit."""


class ValueRangeError(ImgconvError):
    """Samples with which a result would not be exact that has to be."""


class OutputError(ImgconvError):
    """An output that cannot be written."""


class MachineError(ImgconvError):
    """What this system allows for no input, so that nothing else needs to be tried."""


def unforeseen(error: Exception) -> ImgconvError:
    """The one line for what nobody foresaw; `--debug` shows where it came from."""
    if isinstance(error, ImgconvError):
        return error
    if isinstance(error, MemoryError):
        found = ImgconvError("out of memory")
    elif isinstance(error, OSError) and error.strerror:
        found = ImgconvError(f"{error.filename}: {error.strerror}" if error.filename
                             else error.strerror)  # fmt: skip
    else:
        words = " ".join(str(error).split())[:500]
        found = ImgconvError(f"unexpected {type(error).__name__}: {words}; --debug shows where")
    found.__cause__ = error
    return found
