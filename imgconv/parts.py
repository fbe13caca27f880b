"""Parts of large files, read rather than mapped.

A map of a file that is cut while it is in use ends the process by SIGBUS, which no Python code can
turn into a line. Reading costs 0.1 s for 500 MB that the system has in memory.
"""

from typing import IO

import numpy as np
import numpy.typing as npt

from imgconv.errors import ModelError


def read_part(file: IO[bytes], start: int, count: int, name: str) -> npt.NDArray[np.uint8]:
    """Return `count` bytes of an open file from `start` on.

    Raises ModelError where they are not there any more.
    """
    part = np.empty(count, np.uint8)
    got, room = 0, memoryview(part)  # type: ignore[arg-type]
    try:
        file.seek(start)
        while got < count and (more := file.readinto(room[got:])):  # type: ignore[attr-defined]
            got += more
    except OSError as error:
        raise ModelError(f"{name}: {error.strerror or error}") from None
    if got < count:
        raise ModelError(f"{name}: {start + got} bytes, expected {start + count}: it was cut")
    return part
