"""`imgconv kernels`: what the bank holds, how a kernel looks, whether a file can be used."""

import json
from typing import TYPE_CHECKING

import click

from imgconv.cli.help import Group
from imgconv.cli.options import IMAGE, KERNEL, options_of
from imgconv.console import counted, echo
from imgconv.pipeline.settings import WriteSettings

if TYPE_CHECKING:
    from imgconv.kernels import Kernel
    from imgconv.typing import JSON


@click.group(cls=Group)
def kernels() -> None:
    """List, show, plot and check kernels.

    \b
    imgconv kernels list
    imgconv kernels show sobel
    imgconv kernels plot gabor-bank -o gabor.png
    imgconv kernels check mine.toml
    """


@kernels.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per kernel.")
def list_(as_json: bool) -> None:
    """List presets and parametric kernels by family."""
    from imgconv.kernels import generators, get_kernel, presets

    groups = [*presets.families(), ("parametric", list(generators.GENERATORS))]
    for family, names in groups:
        if not as_json:
            echo(f"{family}:")
        for name in names:
            kernel = get_kernel(name)
            height, width = kernel.size
            count = len(kernel.weights)
            if as_json:
                echo(json.dumps({
                    "name": name, "family": family, "size": [height, width], "filters": count,
                    "combine": kernel.combine, "description": kernel.description,
                }))  # fmt: skip
                continue
            shape = f"{height}×{width}" + (f" ×{count}" if count > 1 else "")
            example = generators.GENERATORS[name].example if family == "parametric" else ""
            hint = f" ({example})" if example else ""
            echo(f"  {name:18} {shape:10} {kernel.description}{hint}")


@kernels.command()
@click.argument("name", type=KERNEL)
@click.option("--json", "as_json", is_flag=True, help="The kernel as one JSON object.")
def show(name: str, as_json: bool) -> None:
    """Show a kernel's matrix, divisor and source. KERNEL is anything that `apply -k` takes."""
    from imgconv.kernels import get_kernel

    kernel = get_kernel(name)
    if as_json:
        echo(json.dumps(_facts(kernel)))
        return
    echo(f"{kernel.name}: {kernel.description}" if kernel.description else kernel.name)
    if kernel.citation:
        echo(f"source: {kernel.citation}")
    echo(
        f"divisor {kernel.divisor:g}, combine {kernel.combine}, default scale {kernel.scale}, "
        f"sum {float(kernel.effective_weights().sum()):g}"
        + (f", anchor {kernel.anchor[0]},{kernel.anchor[1]}" if kernel.anchor else "")
    )
    if kernel.parameters:
        _show_parameters(kernel)
    for number, bank in enumerate(kernel.weights):
        if kernel.labels:
            echo(f"\n{kernel.labels[number]}:")
        else:
            echo("")
        for plane in bank:
            texts = [[f"{value:.4g}" for value in row] for row in plane]
            width = max(len(text) for row in texts for text in row)
            for row in texts:
                echo(" ".join(text.rjust(width) for text in row))


def _show_parameters(kernel: "Kernel") -> None:
    from imgconv.kernels import generators

    name = kernel.name.partition(":")[0]
    usual = generators.parameters(name)
    rows = [("parameter", "value", "default", "unit", "range", "meaning")]
    for key, (meaning, unit, bounds) in generators.described(name).items():
        value, default = (f"{number:g}" for number in (kernel.parameters[key], usual[key]))
        rows.append((key, value, default, unit or "–", bounds, meaning))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    echo("")
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        echo("  ".join(cells).rstrip())


@kernels.command()
@click.argument("name", type=KERNEL)
@click.option("-o", "--output", type=IMAGE, required=True, metavar="PATH", help="Picture to write.")
@options_of(WriteSettings, "overwrite")
def plot(name: str, output: str, overwrite: bool) -> None:
    """Draw a kernel as a heat map: negative blue, zero light gray, positive red."""
    from imgconv.io.formats import format_of
    from imgconv.io.publish import publish
    from imgconv.io.writing import encode
    from imgconv.kernels import get_kernel
    from imgconv.viz.kernel_plot import draw

    publish(output, encode(draw(get_kernel(name)), format_of(output)), overwrite)


@kernels.command()
@click.argument("file", type=click.Path(exists=False))
def check(file: str) -> None:
    """Check whether a kernel file can be used, and say what it holds."""
    from imgconv.kernels import load_kernel_file

    kernel = load_kernel_file(file)
    count, channels, height, width = kernel.weights.shape
    echo(
        f"{file}: ok: {counted(count, 'filter')} of {height}×{width}, "
        f"{counted(channels, 'input channel')}, sum {float(kernel.effective_weights().sum()):g}"
        + (", with bias" if kernel.bias is not None else "")
    )


def _facts(kernel: "Kernel") -> "dict[str, JSON]":
    return {
        "name": kernel.name,
        "weights": kernel.weights.tolist(),
        "bias": None if kernel.bias is None else kernel.bias.tolist(),
        "divisor": kernel.divisor,
        "combine": kernel.combine,
        "scale": kernel.scale,
        "labels": list(kernel.labels),
        "anchor": None if kernel.anchor is None else list(kernel.anchor),
        "description": kernel.description,
        "citation": kernel.citation,
        "parameters": kernel.parameters,
    }
