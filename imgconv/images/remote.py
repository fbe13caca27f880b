"""Images at URLs (s3://, gs://, file://, memory://, …) through fsspec.

Object stores make an object visible once it is whole, so publishing is one PUT. The extra
`imgconv[cluster]` brings fsspec and s3fs; other stores need their own package (gcsfs, adlfs).
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from imgconv.errors import ImageError, ImgconvError, LimitError, OutputError, UsageError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(name: str) -> bool:
    """Whether a name is a URL; Windows drives and `sample:` names are not."""
    return _URL.match(name) is not None


def fetch(url: str, limit: int) -> bytes:
    """Return an object's bytes by one ranged GET.

    Raises ImageError naming the URL, LimitError beyond `limit` bytes, UsageError where the
    package for its kind of store is missing.
    """
    with _reported(url, ImageError):
        system, path = _open(url)
        data: bytes = system.cat_file(path, start=0, end=limit + 1)
    if len(data) > limit:
        raise LimitError(f"{url}: more than {limit} bytes; --max-pixels raises the limit")
    return data


def publish(url: str, pieces: Iterable[Any], overwrite: bool) -> int:
    """Write an object whole; return its size. Raises OutputError where it exists, UsageError."""
    from imgconv.images.publish import EXISTS, joined

    content = joined(pieces)
    with _reported(url, OutputError):
        system, path = _open(url)
        if not overwrite and system.exists(path):
            raise OutputError(f"{url}: {EXISTS}")
        if getattr(system, "protocol", None) in ("file", ("file", "local")):
            system.makedirs(system._parent(path), exist_ok=True)
        system.pipe_file(path, content)
    return len(content)


def stamp(url: str) -> tuple[int, int, bytes] | None:
    """Return (size, time of change in ns, the store's own digest) or None where there is none."""
    try:
        system, path = _open(url)
        system.invalidate_cache()
        facts = system.info(path)
    except Exception:  # any store's own errors: what is not there has no stamp
        return None
    changed = facts.get("LastModified") or facts.get("mtime") or facts.get("created") or 0
    moment = changed.timestamp() if hasattr(changed, "timestamp") else float(changed)
    digest = str(facts.get("ETag") or facts.get("etag") or facts.get("md5Hash") or moment)
    return int(facts.get("size") or 0), int(moment * 1e9), digest.encode()


def exists(url: str) -> bool:
    """Whether there is an object of this name. Raises OutputError, UsageError."""
    with _reported(url, OutputError):
        system, path = _open(url)
        return bool(system.exists(path))


def listed(url: str, recursive: bool) -> Iterator[str]:
    """Yield the URLs that a pattern, or with `recursive` a prefix ending in /, stands for."""
    with _reported(url, ImageError):
        system, path = _open(url)
        found = system.glob(path) if _magic(url) else system.find(path) if recursive else [path]
        names = [system.unstrip_protocol(name) for name in found]
    yield from sorted(names)


def _magic(url: str) -> bool:
    return "*" in url or "?" in url


def _open(url: str) -> tuple[Any, str]:
    import fsspec

    system, path = fsspec.core.url_to_fs(url)
    return system, path


@contextlib.contextmanager
def _reported(url: str, kind: type[ImgconvError]) -> Iterator[None]:
    """Turn whatever a store raises into one line."""
    try:
        yield
    except ImgconvError:
        raise
    except ImportError as error:
        raise UsageError(f"{url}: {error}; imgconv[cluster] reads s3:// and file://") from None
    except FileNotFoundError:
        raise kind(f"{url}: no such object or bucket") from None
    except Exception as error:  # every store raises its own types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise kind(f"{url}: {reason}") from None
