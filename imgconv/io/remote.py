"""Images at URLs (s3://, gs://, file://, memory://, …) through fsspec.

Object stores make an object visible once it is whole, so publishing is one PUT. The extra
`imgconv[cluster]` brings fsspec and s3fs; other stores need their own package (gcsfs, adlfs).

fsspec opens some fifty kinds of URL, also chained ones such as zip://a.png::ftp://host/b.zip, and
a name may come from anybody's list or folder. So only the schemes of SCHEMES are opened, and those
that `allow` adds: everything here looks before fsspec is imported.
"""

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING

from imgconv.errors import ImageError, ImgconvError, LimitError, OutputError, UsageError

if TYPE_CHECKING:
    import aiohttp
    from fsspec import AbstractFileSystem

_ONE_PUT = 1 << 23  # bytes: what is more goes from the file, in parts where the store has them
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+")
# This machine's files and memory, object stores, and what is encrypted and only read.
SCHEMES = (
    "abfs", "abfss", "az", "file", "gcs", "gs", "https", "local", "memory", "s3", "s3a",
)  # fmt: skip
_more: frozenset[str] = frozenset()


def is_url(name: str) -> bool:
    """Whether a name is a URL; Windows drives and `sample:` names are not."""
    return _URL.match(name) is not None


def allow(schemes: Iterable[str]) -> None:
    """Let this process open URLs of further schemes, instead of those it was told before.

    Raises UsageError for what is not the name of one.
    """
    global _more
    wanted = frozenset(scheme.removesuffix("://") for scheme in schemes)
    for scheme in sorted(wanted):
        if not _SCHEME.fullmatch(scheme):
            raise UsageError(f"--allow-scheme {scheme}: expected the name of one, such as http")
    _more = wanted


def allowed() -> frozenset[str]:
    """The schemes that `allow` added."""
    return _more


def check(url: str) -> None:
    """Raise UsageError where a part of a URL is of a scheme that is not to be opened."""
    for scheme in _schemes(url):
        if scheme not in SCHEMES and scheme not in _more:
            raise UsageError(
                f"{url}: {scheme}:// is not opened unless --allow-scheme {scheme} is given; "
                f"expected one of {', '.join(SCHEMES)}"
            )


def _schemes(url: str) -> list[str]:
    """The schemes of a URL's parts, as fsspec will understand them (`fsspec.core._un_chain`)."""
    found = []
    for part in url.split("::"):
        scheme, mark, _ = part.partition("://")
        if mark and len(scheme) > 1:
            found.append(scheme)
        elif part.startswith("data:"):
            found.append("data")
        else:
            found.append(part if re.fullmatch("[a-z]+", part) else "file")
    return found


def fetch(url: str, limit: int) -> bytes:
    """Return an object's bytes by one ranged GET.

    Raises ImageError naming the URL, LimitError beyond `limit` bytes, UsageError where the
    package for its kind of store is missing.
    """
    with reported(url, ImageError):
        system, path = _open(url)
        data: bytes = system.cat_file(path, start=0, end=limit + 1)
    if len(data) > limit:
        raise LimitError(f"{url}: more than {limit} bytes; --max-pixels raises the limit")
    return data


def found(url: str, limit: int) -> bytes | None:
    """The first `limit` + 1 bytes of an object, None where there is none. Raises ImageError."""
    with reported(url, ImageError):
        system, path = _open(url)
        try:
            data: bytes = system.cat_file(path, start=0, end=limit + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        return data


def on_disk(url: str) -> str | None:
    """The path that a file:// URL means, None for other stores."""
    with reported(url, OutputError):
        return str(_open(url)[1]) if url.startswith(("file://", "local://")) else None


def publish(url: str, content: IO[bytes], size: int) -> None:
    """Write an object whole from a file of `size` bytes. Raises OutputError, UsageError."""
    with reported(url, OutputError):
        system, path = _open(url)
        content.seek(0)
        if size <= _ONE_PUT:
            system.pipe_file(path, content.read())
        else:
            system.put_file(content.name, path)


def fetch_file(url: str, target: str) -> None:
    """Copy an object into a file. Raises ImageError, UsageError."""
    with reported(url, ImageError):
        system, path = _open(url)
        system.get_file(path, target)


def tree(url: str) -> dict[str, int]:
    """The objects under a prefix: their names after it, and their sizes. Raises OutputError."""
    with reported(url, OutputError):
        system, path = _open(url)
        system.invalidate_cache()
        found = system.find(path, detail=True)
        return {name[len(path) :].strip("/"): int(facts["size"]) for name, facts in found.items()}


def remove_tree(url: str) -> None:
    """Remove all objects under a prefix, if there are any. Raises OutputError."""
    with reported(url, OutputError):
        system, path = _open(url)
        if system.exists(path):
            system.rm(path, recursive=True)


def stamp(url: str) -> tuple[int, int, bytes] | None:
    """Return (size, time of change in ns, the store's own digest) or None where there is none."""
    try:
        system, path = _open(url)
        system.invalidate_cache()
        facts = system.info(path)
        if facts.get("type") == "directory":  # a Zarr image: what lies in it may change
            return None
    except Exception:  # any store's own errors: what is not there has no stamp
        return None
    changed = facts.get("LastModified") or facts.get("mtime") or facts.get("created") or 0
    moment = changed.timestamp() if hasattr(changed, "timestamp") else float(changed)
    digest = str(facts.get("ETag") or facts.get("etag") or facts.get("md5Hash") or moment)
    return int(facts.get("size") or 0), int(moment * 1e9), digest.encode()


def exists(url: str) -> bool:
    """Whether there is an object of this name. Raises OutputError, UsageError."""
    with reported(url, OutputError):
        system, path = _open(url)
        system.invalidate_cache()
        return bool(system.exists(path))


def listed(url: str, recursive: bool) -> Iterator[str]:
    """Yield the URLs that a pattern, or with `recursive` a prefix ending in /, stands for.

    Raises ImageError, at last for objects whose names would lead to another store.
    """
    with reported(url, ImageError):
        system, path = _open(url)
        found = system.glob(path) if _magic(url) else system.find(path) if recursive else [path]
        names = [system.unstrip_protocol(name) for name in found]
    odd = [name for name in names if "::" in name and "::" not in url]
    yield from sorted(set(names).difference(odd))
    if odd:
        raise ImageError(f"{min(odd)}: an object with :: in its name, which means a chain of URLs")


def _magic(url: str) -> bool:
    return "*" in url or "?" in url


def _open(url: str) -> "tuple[AbstractFileSystem, str]":
    options = storage_options(url)
    import fsspec

    system, path = fsspec.core.url_to_fs(url, **options)
    return system, path


def storage_options(url: str) -> dict[str, object]:
    """What fsspec needs to know to open a URL. Raises UsageError where it is not to be opened."""
    check(url)
    web = {"http", "https"} & set(_schemes(url))
    return {scheme: {"client_kwargs": {"trace_configs": [_redirects()]}} for scheme in web}


@functools.cache
def _redirects() -> "aiohttp.TraceConfig":
    """What keeps a web server from leading on to a scheme that is not allowed."""
    import aiohttp

    async def look(_: object, __: object, found: aiohttp.TraceRequestRedirectParams) -> None:
        target = found.response.headers.get("Location", "")
        if "://" in target:
            check(target)

    tracer = aiohttp.TraceConfig()
    tracer.on_request_redirect.append(look)
    return tracer


@contextlib.contextmanager
def reported(url: str, kind: type[ImgconvError]) -> Iterator[None]:
    """Turn whatever a store raises into one line."""
    try:
        yield
    except ImgconvError:
        raise
    except ImportError as error:
        raise UsageError(f"{url}: {error}; imgconv[cluster] brings s3://") from None
    except FileNotFoundError:
        raise kind(f"{url}: no such object or bucket") from None
    except Exception as error:  # every store raises its own types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise kind(f"{url}: {reason}") from None
