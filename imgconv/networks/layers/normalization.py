"""Normalisation layers."""

from dataclasses import dataclass
from typing import ClassVar

from imgconv.networks.layers.base import Array, Layer, Shape, image_shape


@dataclass(frozen=True, eq=False)
class BatchNorm2d(Layer):
    """torch.nn.BatchNorm2d in evaluation: by the running statistics."""

    num_features: int
    eps: float = 1e-5
    affine: bool = True
    activation: str | None = None
    buffers: ClassVar[tuple[str, ...]] = ("running_mean", "running_var")

    def parameter_shapes(self) -> dict[str, Shape]:
        names = (("weight", "bias") if self.affine else ()) + self.buffers
        return dict.fromkeys(names, (self.num_features,))

    def output_shape(self, *given: Shape) -> Shape:
        image_shape(given[0], self.num_features, "BatchNorm2d")
        return given[0]

    def factors(self) -> tuple[Array, Array]:
        """(scale, shift), float64: the layer is x · scale + shift."""
        from imgconv.compute.normalization import batch_norm_factors

        weight, bias = (
            (self.parameter("weight"), self.parameter("bias")) if self.affine else (None, None)
        )
        mean, var = (self.parameter(name) for name in self.buffers)
        return batch_norm_factors(mean, var, weight, bias, self.eps)

    def forward(self, *inputs: Array) -> Array:
        from imgconv.compute.normalization import scale_shift

        return scale_shift(inputs[0], *self.factors(), self.activation)


@dataclass(frozen=True, eq=False)
class InstanceNorm2d(Layer):
    """torch.nn.InstanceNorm2d: every plane by its own mean and variance."""

    num_features: int
    eps: float = 1e-5
    affine: bool = False

    def parameter_shapes(self) -> dict[str, Shape]:
        return dict.fromkeys(("weight", "bias") if self.affine else (), (self.num_features,))

    def output_shape(self, *given: Shape) -> Shape:
        image_shape(given[0], self.num_features, "InstanceNorm2d")
        return given[0]

    def forward(self, *inputs: Array) -> Array:
        from imgconv.compute.normalization import instance_norm

        if not self.affine:
            return instance_norm(inputs[0], eps=self.eps)
        return instance_norm(inputs[0], self.parameter("weight"), self.parameter("bias"), self.eps)


@dataclass(frozen=True, eq=False)
class LocalResponseNorm(Layer):
    """torch.nn.LocalResponseNorm; near: channels before the own one, size // 2 by default."""

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0
    near: int | None = None

    def forward(self, *inputs: Array) -> Array:
        from imgconv.compute.normalization import local_response_norm

        return local_response_norm(inputs[0], self.size, self.alpha, self.beta, self.k, self.near)
