"""`imgconv doctor`."""

import json
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The facts as one JSON object.")
def doctor(as_json: bool) -> None:
    """Show CPU, threads, versions, codecs and the store of compiled loops."""
    facts = _facts()
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        click.echo(f"{name:16} {value}")


def _facts() -> dict[str, Any]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import llvmlite.binding as llvm
    from PIL import features

    from imgconv import __version__
    from imgconv.compute import bands, store

    place = store.folder()
    entries = list(place.glob("*.o")) if place and place.is_dir() else []
    facts: dict[str, Any] = {
        "imgconv": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": llvm.get_host_cpu_name(),
        "threads": bands.num_threads(),
        "store": str(place) if place else "off",
        "store entries": len(entries),
        "store bytes": sum(entry.stat().st_size for entry in entries),
    }
    for package in ("numpy", "pillow", "numba", "llvmlite", "click", "isal", "onnx"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    for codec in ("jpg", "webp", "libtiff", "avif"):
        facts[f"codec {codec}"] = "yes" if features.check(codec) else "no"
    return facts
