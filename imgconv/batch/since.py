"""`--since`: only inputs that changed lately."""

import datetime
import os
import re
import time
from collections.abc import Iterable, Iterator

from imgconv.errors import ImageError, UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_since(text: str, ledger: str) -> float:
    """Return seconds since 1970 of a date or time, of an age such as 90m, or of `last`.

    Dates and times are ISO 8601, local unless they have a zone. `last` is when the last run
    that `ledger` saw to its end began, or 0 when there is none. Raises UsageError.
    """
    if text == "last":
        from imgconv.batch.ledger_status import last_completed

        return (last_completed(ledger) or 0.0) if os.path.exists(ledger) else 0.0
    if age := re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text):
        return time.time() - float(age[1]) * _SECONDS[age[2]]
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"--since {text}: expected last, an age such as 90m, 12h or 7d, or a date or time "
            "such as 2026-01-31 or 2026-01-31T18:00"
        ) from None


def changed_since(sources: Iterable[str | ImageError], moment: float) -> Iterator[str | ImageError]:
    """Yield the sources whose files changed at `moment` or later, and all that are not files."""
    for source in sources:
        if isinstance(source, str):
            try:
                if os.stat(source).st_mtime < moment:
                    continue
            except (OSError, ValueError):
                pass
        yield source
