"""`imgconv explain`."""

import json
import sys
from typing import Any

import click

from imgconv.cli import options

# The worked example of the lecture: 5×5 input, 3×3 kernel.
LECTURE_INPUT = "3 3 2 1 0; 0 0 1 3 1; 3 1 2 2 3; 2 0 0 2 2; 2 0 0 0 1"
LECTURE_KERNEL = "0 1 2; 2 2 0; 0 1 2"


@click.command()
@click.argument("grid", default=LECTURE_INPUT, metavar="[GRID]")
@click.option("-k", "--kernel", default=LECTURE_KERNEL, type=options.KERNEL, help="One filter.")
@click.option("--pool", metavar="KIND:SIZE", help="Explain max:2, avg:2 or min:2 instead.")
@options.window
@click.option("--flip", is_flag=True, help="True convolution: rotate the kernel by 180°.")
@click.option("--step", type=options.Numbers((2,), 0), help="Only the output at row,column.")
@click.option("-o", "--output", metavar="PATH", help="Write an animation: .gif or .webp.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Every step as one JSON object.")
def explain(grid: str, kernel: str, output: str | None, **given: Any) -> None:
    """Show a convolution or pooling step by step.

    \b
    imgconv explain                              the lecture's 5×5 example
    imgconv explain --step 0,1
    imgconv explain "1 2 3; 4 5 6; 7 8 9" -k sobel-x --padding same --padding-mode zeros
    imgconv explain --pool max:2 "2 -4 2 2; 0 1 0 -1; 2 1 0 2; 5 -3 1 4"
    imgconv explain -o window.gif

    GRID is numbers as `-k` takes them, or a file of them. The window is in reverse video, or in
    [brackets] where there is no colour; (parentheses) are padding.
    """
    from imgconv.pictures import explain as pictures

    explanation = _explanation(grid, kernel, given)
    if output:
        _animate(explanation, output, given["overwrite"])
    elif given["as_json"]:
        click.echo(json.dumps(explanation.as_dict()))
    else:
        import os

        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        wanted = given["step"]
        steps = [s for s in explanation.steps if wanted in (None, (s.row, s.column))]
        if not steps:
            from imgconv.errors import UsageError

            height, width = explanation.output.shape
            raise UsageError(f"--step {wanted[0]},{wanted[1]}: the output is {height}×{width}")
        click.echo("\n\n".join(pictures.as_text(explanation, s, color) for s in steps))


def _explanation(grid: str, kernel: str, given: dict[str, Any]) -> Any:
    import numpy as np

    from imgconv.bank import get_kernel
    from imgconv.compute.padding import normalize_mode
    from imgconv.errors import UsageError
    from imgconv.pictures.explain import RULES, explain
    from imgconv.shapes import pair, resolve_padding

    source = get_kernel(grid).weights[0, 0]
    rule, weights = "conv", get_kernel(kernel).effective_weights()[0, 0]
    stride = pair(given["stride"], "stride")
    if given["pool"]:
        rule, _, size = given["pool"].partition(":")
        if rule not in RULES[1:] or not size.isdigit() or int(size) < 1:
            raise UsageError(f"--pool {given['pool']}: expected max:N, avg:N or min:N")
        weights = np.ones((int(size), int(size)))
        stride = pair(int(size), "stride") if stride == (1, 1) else stride
    dilation = pair(given["dilation"], "dilation")
    padding = "valid" if given["padding"] is None else given["padding"]
    sides = resolve_padding(padding, weights.shape, dilation, stride)
    mode = normalize_mode(given["padding_mode"])
    return explain(
        source, weights, rule, stride, sides, dilation, mode, given["pad_value"], given["flip"]
    )


def _animate(explanation: Any, output: str, overwrite: bool) -> None:
    import io

    from imgconv.errors import UsageError
    from imgconv.images.publish import publish
    from imgconv.pictures.explain_frames import frames

    suffix = output.rpartition(".")[2].lower()
    if suffix not in ("gif", "webp"):
        raise UsageError(f"{output}: expected a name that ends in .gif or .webp")
    first, *rest = frames(explanation)
    buffer = io.BytesIO()
    first.save(buffer, suffix, save_all=True, append_images=rest, duration=900, loop=0)
    publish(output, [buffer.getvalue()], overwrite)
