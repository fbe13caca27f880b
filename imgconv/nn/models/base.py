"""What a published network is, and how its name is read."""

import difflib
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from imgconv.arguments import flag, one_value, split_arguments, whole_number
from imgconv.errors import ModelError, ValueRangeError
from imgconv.nn.graph import Graph
from imgconv.nn.preprocess import Preprocess

if TYPE_CHECKING:
    from imgconv.io.image import Image
    from imgconv.typing import Array

MAX_CLASSES = 1_000_000
# Family modules in the lecture's order.
FAMILIES = ("lenet", "alexnet", "vgg", "googlenet", "resnet", "efficientnet")


class Prediction(NamedTuple):
    """A class of an image: its number, its name where that is known, and its probability."""

    number: int
    label: str | None
    probability: float


@dataclass(frozen=True)
class Network:
    """A graph, with the preprocessing of its input and the meaning of its outputs.

    Attributes
    ----------
    name, citation
        What it is called, and the paper.
    graph
        The layers.
    preprocess
        What becomes of an image before it goes in.
    variant
        Which paper's or library's variant this is.
    labels
        Names of the classes, empty if they are not known.
    weights
        A file that comes with imgconv, or None.
    """

    name: str
    graph: Graph
    preprocess: Preprocess
    variant: str = ""
    citation: str = ""
    labels: tuple[str, ...] = ()
    weights: str | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The usual shape (1, C, H, W) of the one input."""
        return next(iter(self.graph.inputs.values()))

    @property
    def scores(self) -> str:
        """The output that scores classes: the one of several that a softmax makes, else the first.

        Raises ModelError for one that is not a number a class.
        """
        from imgconv.nn.layers import Softmax

        makers = {name: self.graph.producers.get(name) for name in self.graph.outputs}
        likely = [name for name, maker in makers.items()
                  if maker is not None and isinstance(maker.layer, Softmax)]  # fmt: skip
        name = (likely if len(likely) == 1 else self.graph.outputs)[0]
        shape = self.graph.shapes()[name]
        if shape[0] != 1 or sum(n != 1 for n in shape[1:]) > 1:  # of one image
            raise ModelError(
                f"{self.name}: its output {name} of shape {shape} is not a score for each class; "
                "`imgconv net features` writes it"
            )
        return name

    def features(
        self, image: "Image | Array | str | os.PathLike[str]", layers: "Sequence[str] | None" = None
    ) -> "dict[str, Array]":
        """Return the maps of layers for one image.

        Parameters
        ----------
        image
            An `Image`, an array (H, W) or (H, W, C), a path or `sample:NAME`. It is resized and
            normalized as the network was trained.
        layers
            Names as `imgconv net summary` lists them; by default all.

        Returns
        -------
        dict
            The maps (1, C, H, W) of each layer by its name, float32.

        Raises
        ------
        ImgconvError
            There is no such layer, or the image cannot be read or does not fit.
        """
        from imgconv.nn.fusion import FusedGraph

        tensor = self._tensor(image)
        wanted = tuple(self.graph.values if layers is None else layers)
        limit = self.preprocess.max_pixels
        fused = FusedGraph(self.graph, wanted, held=True, max_pixels=limit)
        return dict(fused.at(tensor.shape).trace(tensor, wanted))

    def predict(
        self, image: "Image | Array | str | os.PathLike[str]", top: int = 5
    ) -> list[Prediction]:
        """Return the likeliest classes of an image, the likeliest first.

        Parameters
        ----------
        image
            As for `features`.
        top
            How many classes.

        Raises
        ------
        ImgconvError
            The image cannot be read or does not fit.
        """
        from imgconv.nn.fusion import FusedGraph

        tensor, output = self._tensor(image), self.scores
        fused = FusedGraph(self.graph, max_pixels=self.preprocess.max_pixels)
        scores = fused.at(tensor.shape).run(tensor)[output]
        return self.likeliest(scores.reshape(-1), top)

    def likeliest(self, scores: "Array", top: int) -> list[Prediction]:
        """The likeliest classes by the output's scores, which softmax makes probabilities.

        Raises ValueRangeError for scores that are in no order.
        """
        import numpy as np

        from imgconv.nn.layers import Softmax

        maker = self.graph.producers.get(self.scores)
        likely = scores.astype(np.float64)
        if not likely.max(initial=-np.inf) < np.inf:
            raise ValueRangeError(f"{self.name}: NaN or infinity among its scores")
        if maker is None or not isinstance(maker.layer, Softmax):
            powers = np.exp(likely - likely.max())
            likely = powers / powers.sum()
        best = np.argsort(-likely, kind="stable")[:top]
        labels = self.labels
        return [
            Prediction(int(at), labels[at] if labels else None, float(likely[at])) for at in best
        ]

    def _tensor(self, image: "Image | Array | str | os.PathLike[str]") -> "Array":
        from imgconv.io.reading import as_image

        found = as_image(image)
        return self.preprocess(found.pixels, found.full_scale, found.alpha)


@dataclass(frozen=True)
class Family:
    """Names of a family, their options with defaults and choices, and the maker.

    options: name → (default, choices or ()); `classes` is a number. build(name, **options).
    """

    title: str
    citation: str
    names: tuple[str, ...]
    build: Callable[..., Network]
    options: Mapping[str, tuple[Any, tuple[Any, ...]]] = field(default_factory=dict)


def families() -> list[Family]:
    """All families, in the lecture's order."""
    package = __name__.rpartition(".")[0]
    return [importlib.import_module(f"{package}.{name}").FAMILY for name in FAMILIES]


def network_names() -> list[str]:
    """Names of all published networks."""
    return [name for family in families() for name in family.names]


def family_of(name: str) -> Family:
    """The family that has a network of this name. Raises ModelError with a suggestion."""
    for family in families():
        if name in family.names:
            return family
    names = network_names()
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
    raise ModelError(f"network {name!r}: {hint}")


def get_network(text: str) -> Network:
    """Return the network of `name` or `name:option=value,…`. Raises ModelError."""
    head, _, rest = text.partition(":")
    name = head.strip().lower().replace("-", "_")
    family = family_of(name)
    options = {key: default for key, (default, _) in family.options.items()}
    try:
        plain, named = split_arguments(rest)
        for key, values in [*(("", [value]) for value in plain), *named.items()]:
            if key not in options:
                expected = ", ".join(f"{known}=" for known in options)
                part = f"{key}={','.join(values)}" if key else values[0]
                raise ValueError(f"{part!r}, expected {expected}")
            options[key] = _value(key, one_value(key, values), family.options[key][1])
    except ValueError as error:
        raise ModelError(f"network {text!r}: {error}") from None
    network = family.build(name, **options)
    if options["classes"] == family.options["classes"][0] == 1000:
        from imgconv.nn.labels import imagenet_labels

        return replace(network, labels=imagenet_labels())
    return network


def _value(key: str, text: str, choices: tuple[Any, ...]) -> Any:
    """An option's value. Raises ValueError naming what was got and expected."""
    try:
        if choices == (False, True):
            return flag(text)
        if not choices and 1 <= (number := whole_number(text)) <= MAX_CLASSES:
            return number
    except ValueError:
        pass
    if text in choices:
        return text
    expected = "true or false" if choices == (False, True) else " or ".join(choices)
    raise ValueError(f"{key}={text}, expected {expected or f'a number from 1 to {MAX_CLASSES}'}")
