"""`imgconv explain`."""

import json
import os
import sys
from typing import Any

import click

from imgconv.cli import options
from imgconv.pipeline.settings import LayerSettings

# The worked example of the lecture: 5×5 input, 3×3 kernel.
LECTURE_INPUT = "3 3 2 1 0; 0 0 1 3 1; 3 1 2 2 3; 2 0 0 2 2; 2 0 0 0 1"
LECTURE_KERNEL = "0 1 2; 2 2 0; 0 1 2"


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("grid", default=LECTURE_INPUT, metavar="[GRID]")
@click.option("-k", "--kernel", default=LECTURE_KERNEL, type=options.KERNEL, help="One filter.")
@click.option("--pool", metavar="KIND:SIZE[,stride=N]", help="A pooling instead: max:2, avg:3, …")
@options.options_of(
    LayerSettings, "stride", "padding", "padding_mode", "pad_value", "dilation", "anchor"
)
@click.option("--flip", is_flag=True, help="True convolution: rotate the kernel by 180°.")
@click.option("--step", type=options.Numbers((2,), 0), help="Only the output at row,column.")
@click.option(
    "-o", "--output", type=options.IMAGE, metavar="PATH",
    help="Write an animation, .gif or .webp; with --step also a .png.",
)  # fmt: skip
@click.option("--delay", type=click.IntRange(20, 10000), default=900, show_default=True,
              help="Milliseconds a step of the animation.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Every step as one JSON object.")
def explain(grid: str, kernel: str, **given: Any) -> None:
    """Show a convolution or pooling step by step.

    \b
    imgconv explain                              the lecture's 5×5 example
    imgconv explain --step 0,1
    imgconv explain "1 2 3; 4 5 6; 7 8 9" -k sobel-x --padding same --padding-mode zeros
    imgconv explain --pool max:2 "2 -4 2 2; 0 1 0 -1; 2 1 0 2; 5 -3 1 4"
    imgconv explain -o window.gif

    GRID is numbers as `-k` takes them, or a file of them. The window is in reverse video, or in
    [brackets] where there is no colour; (parentheses) are padding. Unlike `apply`, the default is
    no padding, so that every number is one of the input.
    """
    if grid.startswith("--"):
        raise click.NoSuchOption(grid)
    from dataclasses import replace

    explanation = _pooling(grid, given) if given["pool"] else _convolution(grid, kernel, given)
    if wanted := given["step"]:
        from imgconv.errors import UsageError

        steps = tuple(s for s in explanation.steps if wanted == (s.row, s.column))
        if not steps:
            height, width = explanation.output.shape
            raise UsageError(f"--step {wanted[0]},{wanted[1]}: the output is {height}×{width}")
    else:
        steps = explanation.steps
    if given["output"]:
        _draw(explanation, steps, given)
    elif given["as_json"]:
        click.echo(json.dumps(replace(explanation, steps=steps).as_dict()))
    else:
        from imgconv.viz.explain_text import as_text

        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        click.echo("\n\n".join(as_text(explanation, step, color) for step in steps))


def _convolution(grid: str, name: str, given: dict[str, Any]) -> Any:
    from imgconv.errors import UsageError
    from imgconv.kernels import anchored, get_kernel, preset_names
    from imgconv.ops.padding import normalize_mode
    from imgconv.shapes import Window, flipped_anchor
    from imgconv.viz.explain import explain_conv

    kernel = anchored(get_kernel(name), given["anchor"])
    filters, channels = kernel.weights.shape[:2]
    if (filters, channels) != (1, 1):
        some = next((n for n in preset_names() if n.startswith(f"{name}-")), "sobel-x")
        raise UsageError(
            f"-k {name}: {filters}×{channels} filters, expected a single one such as {some}"
        )
    padding = given["padding"]
    if given["anchor"] is not None and padding not in (None, "same"):
        raise UsageError("--anchor with --padding, expected one of them, or --padding same")
    if padding is None and given["anchor"] is None:
        padding = "valid"
    anchor = kernel.anchor
    if given["flip"] and anchor is not None:
        anchor = flipped_anchor(anchor, kernel.size)
    window = Window(given["stride"], padding, given["dilation"])
    _, stride, sides, dilation = window.geometry(kernel.size, anchor)
    return explain_conv(
        _grid(grid), kernel.weights[0, 0], stride, sides, dilation,
        normalize_mode(given["padding_mode"]), given["pad_value"], given["flip"],
        kernel.divisor, float(kernel.bias[0]) if kernel.bias is not None else 0.0,
    )  # fmt: skip


def _pooling(grid: str, given: dict[str, Any]) -> Any:
    from click.core import ParameterSource

    from imgconv.errors import UsageError
    from imgconv.ops.pool_text import parse_pool
    from imgconv.viz.explain import explain_pool

    text, context = given["pool"], click.get_current_context()
    for name in ("stride", "padding", "dilation"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            value = given[name]
            numbers = value if isinstance(value, tuple) else (value,)
            text += f",{name}={'x'.join(map(str, numbers))}"
    for name in ("kernel", "flip", "padding_mode", "pad_value", "anchor"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = name.replace("_", "-")
            raise UsageError(f"--pool {given['pool']} with --{option}, expected one of them")
    return explain_pool(_grid(grid), parse_pool(text))


def _grid(text: str) -> Any:
    from imgconv.errors import UsageError
    from imgconv.kernels import get_kernel

    grid = get_kernel(text)
    if grid.weights.shape[:2] != (1, 1):
        raise UsageError(f"{text}: {len(grid.weights)} grids, expected one of one channel")
    return grid.effective_weights()[0, 0]


def _draw(explanation: Any, steps: Any, given: dict[str, Any]) -> None:
    import io

    from imgconv.errors import UsageError
    from imgconv.io.publish import publish
    from imgconv.viz.explain_frames import frames

    output = given["output"]
    suffix = output.rpartition(".")[2].lower()
    if suffix not in ("gif", "webp", *["png"] * bool(given["step"])):
        raise UsageError(
            f"{output}: expected a name that ends in .gif or .webp, or .png with --step"
        )
    pictures = frames(explanation, steps)
    first, buffer = next(pictures), io.BytesIO()
    if suffix == "png":
        first.save(buffer, "png")
    else:
        more = {"save_all": True, "append_images": pictures, "loop": 0}
        first.save(buffer, suffix, duration=given["delay"], lossless=True, **more)
    publish(output, [buffer.getvalue()], given["overwrite"])
