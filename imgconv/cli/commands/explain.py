"""`imgconv explain`."""

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from imgconv.cli import options
from imgconv.cli.help import Command
from imgconv.pipeline.settings import LayerSettings
from imgconv.pipeline.settings.table import Range, Table, local
from imgconv.shapes import Pair

if TYPE_CHECKING:
    from imgconv.viz.explain.steps import Explanation, Grid, Step

# The worked example of the lecture: 5×5 input, 3×3 kernel.
LECTURE_INPUT = "3 3 2 1 0; 0 0 1 3 1; 3 1 2 2 3; 2 0 0 2 2; 2 0 0 0 1"
LECTURE_KERNEL = "0 1 2; 2 2 0; 0 1 2"
WINDOW = ("stride", "padding", "padding_mode", "pad_value", "dilation", "anchor", "flip")


class ExplainSettings(Table):
    """What is worked out, and as what it is shown."""

    kernel: str = local(
        "A kernel with one filter; default: the lecture's.",
        default=LECTURE_KERNEL,
        kind="kernel",
        names=("-k", "--kernel"),
    )
    pool: str | None = local(
        "Pool instead of filtering: max:2, avg:3, …", default=None, metavar="KIND:SIZE[,stride=N]"
    )
    step: Pair | None = local("Explain only the output at row,column.", default=None, kind="unit")
    output: str | None = local(
        "Write a page to play with, .html, or an animation, .gif or .webp; with --step a .png.",
        default=None,
        kind="image",
        metavar="PATH",
        names=("-o", "--output"),
    )
    delay: int = local(
        "Milliseconds per step of the animation.", default=900, kind=Range(20, 10000), shown=True
    )
    overwrite: bool = local("Replace an existing file.", default=False)
    as_json: bool = local("Print all steps as one JSON object.", default=False, names=("--json",))


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("grid", default=LECTURE_INPUT, metavar="[GRID]")
@options.options_of(ExplainSettings, "kernel", "pool")
@options.options_of(LayerSettings, *WINDOW)
@options.options_of(ExplainSettings, "step", "output", "delay", "overwrite", "as_json")
@options.gathered(ExplainSettings)  # first: --pool is its own
@options.gathered(LayerSettings, "layer")
def explain(grid: str, layer: LayerSettings, settings: ExplainSettings) -> None:
    """Show a convolution or pooling step by step.

    \b
    imgconv explain                              the lecture's 5×5 example
    imgconv explain --step 0,1
    imgconv explain "1 2 3; 4 5 6; 7 8 9" -k sobel-x --padding same --padding-mode zeros
    imgconv explain --pool max:2 "2 -4 2 2; 0 1 0 -1; 2 1 0 2; 5 -3 1 4"
    imgconv explain -o window.gif
    imgconv explain -k laplacian -o window.html

    GRID is numbers as `-k` takes them, or a file of them. The window is in reverse video, or in
    [brackets] where there is no color; (parentheses) are padding. Unlike `apply`, the default is
    no padding, so that every number is one of the input.
    """
    if grid.startswith("--"):
        raise click.NoSuchOption(grid)
    from dataclasses import replace

    if settings.pool:
        explanation = _pooling(grid, settings.pool, layer)
    else:
        explanation = _convolution(grid, settings.kernel, layer)
    if wanted := settings.step:
        from imgconv.errors import UsageError

        steps = tuple(s for s in explanation.steps if wanted == (s.row, s.column))
        if not steps:
            height, width = explanation.output.shape
            raise UsageError(f"--step {wanted[0]},{wanted[1]}: the output is {height}×{width}")
    else:
        steps = explanation.steps
    if settings.output:
        _draw(explanation, steps, settings.output, settings)
    elif settings.as_json:
        click.echo(json.dumps(replace(explanation, steps=steps).as_dict()))
    else:
        from imgconv.viz.explain.text import as_text

        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        click.echo("\n\n".join(as_text(explanation, step, color) for step in steps))


for _param in explain.params:
    if isinstance(_param, click.Option) and _param.name == "padding":  # not as for `apply`
        _param.help = (_param.help or "").partition("; default")[0] + "; default: none."


def _convolution(grid: str, name: str, layer: LayerSettings) -> "Explanation":
    from imgconv.errors import UsageError
    from imgconv.kernels import anchored, get_kernel, preset_names
    from imgconv.ops.padding import normalize_mode
    from imgconv.shapes import Window, flipped_anchor
    from imgconv.viz.explain.steps import explain_conv

    kernel = anchored(get_kernel(name), layer.anchor)
    filters, channels = kernel.weights.shape[:2]
    if (filters, channels) != (1, 1):
        some = next((n for n in preset_names() if n.startswith(f"{name}-")), "sobel-x")
        raise UsageError(
            f"-k {name}: {filters}×{channels} filters, expected a single one such as {some}"
        )
    padding = layer.padding
    if layer.anchor is not None and padding not in (None, "same"):
        raise UsageError("--anchor with --padding, expected one of them, or --padding same")
    if padding is None and layer.anchor is None:
        padding = "valid"
    anchor = kernel.anchor
    if layer.flip and anchor is not None:
        anchor = flipped_anchor(anchor, kernel.size)
    window = Window(layer.stride, padding, layer.dilation)
    _, stride, sides, dilation = window.geometry(kernel.size, anchor)
    return explain_conv(
        _grid(grid), kernel.weights[0, 0], stride, sides, dilation,
        normalize_mode(layer.padding_mode), layer.pad_value, layer.flip,
        kernel.divisor, float(kernel.bias[0]) if kernel.bias is not None else 0.0,
    )  # fmt: skip


def _pooling(grid: str, pool: str, layer: LayerSettings) -> "Explanation":
    from click.core import ParameterSource

    from imgconv.errors import UsageError
    from imgconv.ops.pool_text import parse_pool
    from imgconv.viz.explain.steps import explain_pool

    text, context = pool, click.get_current_context()
    for name in ("stride", "padding", "dilation"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            value = getattr(layer, name)
            numbers = value if isinstance(value, tuple) else (value,)
            text += f",{name}={'x'.join(map(str, numbers))}"
    for name in ("kernel", "flip", "padding_mode", "pad_value", "anchor"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = name.replace("_", "-")
            raise UsageError(f"--pool {pool} with --{option}, expected one of them")
    return explain_pool(_grid(grid), parse_pool(text))


def _grid(text: str) -> "Grid":
    from imgconv.errors import UsageError
    from imgconv.kernels import get_kernel

    grid = get_kernel(text)
    if grid.weights.shape[:2] != (1, 1):
        raise UsageError(f"{text}: {len(grid.weights)} grids, expected one of one channel")
    matrix: Grid = grid.effective_weights()[0, 0]
    return matrix


def _draw(
    explanation: "Explanation", steps: "tuple[Step, ...]", output: str, settings: ExplainSettings
) -> None:
    import io

    from imgconv.errors import UsageError
    from imgconv.io.publish import publish
    from imgconv.viz.explain.frames import frames

    suffix = output.rpartition(".")[2].lower()
    if suffix == "html":
        from imgconv.viz.explain.page import render

        publish(output, [render(explanation)], settings.overwrite)
        return
    if suffix not in ("gif", "webp", *["png"] * bool(settings.step)):
        raise UsageError(
            f"{output}: expected a name that ends in .html, .gif or .webp, or .png with --step"
        )
    pictures = frames(explanation, steps)
    first, buffer = next(pictures), io.BytesIO()
    if suffix == "png":
        first.save(buffer, "png")
    else:
        more = {"save_all": True, "append_images": pictures, "loop": 0}
        first.save(buffer, suffix, duration=settings.delay, lossless=True, **more)
    publish(output, [buffer.getvalue()], settings.overwrite)
