"""`imgconv apply`."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from imgconv.cli import options
from imgconv.cli.help import Command, Option

if TYPE_CHECKING:
    from imgconv.kernels import Kernel
    from imgconv.ops.algorithms.problem import Candidate, ConvProblem
    from imgconv.pipeline.settings import Settings


@click.command(cls=Command)
@options.kernel
@options.inputs
@options.settings_of("apply")
@click.option(
    "--explain-plan", is_flag=True, cls=Option, rare=True,
    help="Say which algorithm filters, and why.",
)  # fmt: skip
def apply(
    inputs: tuple[str, ...], kernels: tuple[str, ...], explain_plan: bool, settings: "Settings"
) -> int:
    """Filter images with kernels and write the maps.

    \b
    imgconv apply -k sobel photo.jpg                        writes photo-sobel.jpg
    imgconv apply -k gaussian:sigma=2 photo.jpg -o soft.jpg
    imgconv apply -k "0 -1 0; -1 5 -1; 0 -1 0" a.png b.png -o sharp/
    imgconv apply -k sobel photos --recursive -o edges/     photos/a/b.jpg to edges/a/b.jpg
    cat photo.png | imgconv apply -k laplacian - > edges.png

    Inputs are files, folders, globs, - for standard input, or sample:photo. Without -o,
    photo.jpg becomes photo-KERNEL.jpg in this folder, and - goes to standard output.

    \f
    Formats that cannot be written become PNG. `imgconv ops list` tells all activations and pools.

    -o may be a template of these fields:

    \b
    {stem}    the input's name without folder and extension
    {kernel}  the kernel's name
    {map}     the map's name among all of an image
    {frame}   number of the frame or page; {frame:03d} pads it
    {parent}  name of the input's folder
    {ext}     the output's extension: the input's, or that of --format
    {index}   the input's number, in four digits; {index:06d}
    """
    from imgconv.batch import files
    from imgconv.cli.printing import Printer, show_files
    from imgconv.pipeline.requests import apply_request

    loaded = tuple(map(_loaded, kernels))
    if not settings.batch.quiet:
        _tell_surprises(loaded)
    request = apply_request(inputs, loaded, settings)
    with contextlib.ExitStack() as stack:
        if explain_plan:
            from imgconv.ops.algorithms import select

            stack.enter_context(select.telling(_teller()))
        outcomes, total, work = stack.enter_context(files.opened(request))
        printer = stack.enter_context(Printer(total, settings.batch, show_files(settings, total)))
        work.watch = printer.progress.rows if total == 1 else None
        for outcome in outcomes:
            printer.tell(outcome)
        return printer.exit_code


def _teller() -> "Callable[[ConvProblem, Sequence[Candidate]], None]":
    """A listener that prints each different plan once."""
    from imgconv.console import say
    from imgconv.ops.algorithms import select

    seen: set[str] = set()

    def tell(problem: "ConvProblem", candidates: "Sequence[Candidate]") -> None:
        text = select.described(problem, list(candidates))
        if text not in seen:
            seen.add(text)
            for line in text.splitlines():
                say(line)

    return tell


def _loaded(spec: str) -> "Kernel":
    from imgconv.kernels import get_kernel

    if spec == "-":
        from imgconv.kernels.files import kernel_from_stdin

        return kernel_from_stdin()
    return get_kernel(spec)


def _tell_surprises(loaded: "tuple[Kernel, ...]") -> None:
    """Say what kernels are that other tools make something else of.

    Nine numbers in a row are a square there, and `blur` blurs both ways.
    """
    from imgconv.console import say

    for kernel in loaded:
        if kernel.named and kernel.source.partition(":")[0].strip().lower() == "blur":
            say(
                "imgconv: blur is ImageMagick's kernel of that name and blurs along rows only; "
                f"{kernel.name.replace('blur', 'gaussian')} blurs both ways"
            )
        (height, width), side = kernel.size, math.isqrt(kernel.size[1])
        text = kernel.source in ("kernel", "-") and not kernel.named
        if text and height == 1 and side > 1 and side % 2 and side * side == width:
            say(
                f"imgconv: {width} numbers in one row are a 1×{width} kernel; for {side}×{side}, "
                "end each row with ;"
            )
