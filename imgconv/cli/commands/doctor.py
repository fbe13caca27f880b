"""`imgconv doctor`."""

import json
import os
from collections.abc import Iterator

import click

from imgconv.cli.help import Command
from imgconv.console import echo

PACKAGES = ("numpy", "pillow", "numba", "llvmlite", "click", "isal", "onnx", "zarr", "dask")
CODECS = ("jpg", "webp", "libtiff", "avif", "jpg_2000")


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="The facts as one JSON object.")
def doctor(as_json: bool) -> None:
    """Show CPU, threads, versions, codecs and the store of compiled loops."""
    facts = {**_machine(), **_store(), **dict(_versions()), **dict(_codecs())}
    if as_json:
        echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        echo(f"{name:{width}}  {value}")


def _machine() -> dict[str, str | int]:
    import platform

    from imgconv import __version__
    from imgconv.jit import cache, parallel

    name, instructions = cache.cpu()
    wide = ("avx2", "fma", "avx512f", "avx512vnni", "neon", "sve")
    return {
        "imgconv": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": name,
        "instructions": " ".join(each for each in wide if each in instructions) or "plain",
        "cpus": os.cpu_count() or 1,
        "threads": parallel.num_threads(),
    }


def _store() -> dict[str, str | int]:
    from imgconv.jit import cache

    place = cache.folder()
    entries = list(os.scandir(place)) if place and os.path.isdir(place) else []
    loops = [entry for entry in entries if entry.name.endswith(".o")]
    return {
        "store": place or "off",
        "store state": cache.state(),
        "store entries": len(loops),
        "store bytes": sum(entry.stat().st_size for entry in loops),
    }


def _versions() -> Iterator[tuple[str, str]]:
    from importlib.metadata import PackageNotFoundError, version

    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"


def _codecs() -> Iterator[tuple[str, str]]:
    from PIL import features

    from imgconv.io.codecs.deflate import codec

    fast = codec.__name__.startswith("isal")
    yield "codec png", "isal" if fast else "zlib (isal is not installed: slower)"
    for name in CODECS:
        found = features.version(name) if features.check(name) else None
        yield f"codec {name}", str(found or ("yes" if features.check(name) else "no"))
