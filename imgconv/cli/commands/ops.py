"""`imgconv ops`: what can follow a convolution, up to the colors that show it."""

import json

import click

from imgconv.cli.help import Group
from imgconv.console import echo


@click.group(cls=Group)
def ops() -> None:
    """List activations and pools, with their parameters, and color maps.

    \b
    imgconv ops list
    """


@ops.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per operation.")
def list_(as_json: bool) -> None:
    """List what --activation, --pool, chains and --colormap take."""
    from imgconv.ops.activation import ACTIVATIONS, ALIASES
    from imgconv.ops.pool_kinds import KINDS, MORPHOLOGY
    from imgconv.ops.pool_text import parameters
    from imgconv.viz.colormaps import DIVERGING, NAMES

    also: dict[str, list[str]] = {}
    for alias, name in (ALIASES | MORPHOLOGY).items():
        also.setdefault(name, []).append(alias)
    rows = [
        ("activation", name, {key: f"{value:g}" for key, value in usual.items()})
        for name, (_, usual) in (ACTIVATIONS | {"softmax": (None, {})}).items()
    ]
    rows += [("pool", kind, parameters(kind)) for kind in KINDS]
    rows += [("color map", name, {}) for name in NAMES]
    heading = ""
    for family, name, usual in rows:
        if as_json:
            names = also.get(name, [])
            echo(json.dumps({"name": name, "family": family, "parameters": usual, "also": names}))
            continue
        if family != heading:
            echo(f"{family}s:")
            heading = family
        told = ", ".join(f"{key}={value}" if value else key for key, value in usual.items())
        other = f"(also {', '.join(also[name])})" if name in also else ""
        middle = "zero in its middle" if family == "color map" and name in DIVERGING else ""
        echo(" ".join([f"  {name:13}", *filter(None, (told, other, middle))]).rstrip())
