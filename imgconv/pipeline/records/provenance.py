"""What the records of all outputs of one command share, and what tells one from another."""

from dataclasses import dataclass, replace

from imgconv.io.formats import Format
from imgconv.kernels import Kernel
from imgconv.pipeline.recipe import ChainRecipe, MapName, Recipe
from imgconv.pipeline.records.origin import Origin
from imgconv.pipeline.records.record import NO_BYTES, Named, Record, options_of_output, unrepeatable
from imgconv.pipeline.settings import Settings
from imgconv.typing import JSON


@dataclass(eq=False, repr=False)
class Provenance:
    """A command and its options; `record` makes an output's record.

    kernels: as they were loaded, before the options that change them, in the recipe's order.
    """

    command: str
    settings: Settings
    kernels: tuple[Kernel, ...] = ()

    def record(
        self, origin: Origin, frame: int | None, recipe: Recipe, one: MapName | None, form: Format,
    ) -> dict[str, JSON]:  # fmt: skip
        """The record of an output of a format, no longer than it holds.

        one: the only map in it, of which alone the record then speaks; None where an output holds
        them all. frame: of the input, for `--frame all`; None where it holds all.
        """
        limit = form.note
        options = options_of_output(self.command, self.settings.values(), form, frame)
        if not origin.is_known:
            return unrepeatable(NO_BYTES)
        made = Record(self.command, options, Named(origin.name, origin.digest))
        chosen, name = self.kernels, one.label if one else None
        if isinstance(recipe, ChainRecipe):
            chosen = tuple(step.loaded for step in recipe.steps if step.loaded)
        elif one:
            at = recipe.kernels.index(one.kernel)
            chosen = self.kernels[at : at + 1]
        if sum(kernel.weights.size for kernel in chosen if not kernel.named) > limit // 2:
            return unrepeatable(f"its kernels would take more than {limit} characters")
        if isinstance(recipe, ChainRecipe):
            made = _of_chain(made, recipe, name)
        else:
            options = {"kernel": [_text(kernel) for kernel in chosen]} | options
            made = replace(made, options=options, map=name or None)
        return made.as_dict(limit)


def _of_chain(made: Record, recipe: ChainRecipe, name: str | None) -> Record:
    numbers = {step.name: str(index + 1) for index, step in enumerate(recipe.steps)}
    kept = [numbers[recipe.steps[index].name] for index in recipe.kept]
    if name is not None:
        kept = [numbers[name]] if name else []
    from imgconv.nn.steps import literal

    chain = " | ".join(literal(step.text, step.loaded) for step in recipe.steps)
    options = {"keep": kept} | dict(made.options) if kept else made.options
    return replace(made, chain=chain, options=options, map=name or None)


def _text(kernel: Kernel) -> str:
    if kernel.named:
        return kernel.source
    from imgconv.kernels.literal import spelled

    return spelled(kernel)
