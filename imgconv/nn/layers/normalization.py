"""Normalization layers."""

from typing import ClassVar

from imgconv.errors import ShapeError
from imgconv.nn.layers.base import Layer, Reach, Shape, all_of, image_shape
from imgconv.shapes import check_groups
from imgconv.typing import Array


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
        from imgconv.ops.norm import batch_norm_factors

        weight, bias = (
            (self.parameter("weight"), self.parameter("bias")) if self.affine else (None, None)
        )
        mean, var = (self.parameter(name) for name in self.buffers)
        return batch_norm_factors(mean, var, weight, bias, self.eps)

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.norm import scale_shift

        return scale_shift(inputs[0], *self.factors(), self.activation)


class InstanceNorm2d(Layer):
    """torch.nn.InstanceNorm2d: every plane by its own mean and variance."""

    num_features: int
    eps: float = 1e-5
    affine: bool = False
    everywhere: ClassVar[bool] = True

    def parameter_shapes(self) -> dict[str, Shape]:
        return dict.fromkeys(("weight", "bias") if self.affine else (), (self.num_features,))

    def output_shape(self, *given: Shape) -> Shape:
        image_shape(given[0], self.num_features, "InstanceNorm2d")
        return given[0]

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.norm import instance_norm

        if not self.affine:
            return instance_norm(inputs[0], eps=self.eps)
        return instance_norm(inputs[0], self.parameter("weight"), self.parameter("bias"), self.eps)


class GroupNorm(Layer):
    """torch.nn.GroupNorm: every group of channels by its own mean and variance."""

    num_groups: int
    num_channels: int
    eps: float = 1e-5
    everywhere: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_groups(self.num_channels, self.num_channels, self.num_groups, "GroupNorm")

    def parameter_shapes(self) -> dict[str, Shape]:
        return dict.fromkeys(("weight", "bias"), (self.num_channels,))

    def output_shape(self, *given: Shape) -> Shape:
        if len(given[0]) < 2 or given[0][1] != self.num_channels:
            raise ShapeError(f"GroupNorm: input {given[0]}, expected (N, {self.num_channels}, …)")
        return given[0]

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.norm import instance_norm, scale_shift

        x = inputs[0]
        groups = instance_norm(x.reshape(len(x), self.num_groups, -1), eps=self.eps)
        return scale_shift(
            groups.reshape(x.shape), self.parameter("weight"), self.parameter("bias")
        )


class LayerNorm(Layer):
    """torch.nn.LayerNorm over the last axes, of shape normalized_shape."""

    normalized_shape: Shape
    eps: float = 1e-5
    bias: bool = True

    def parameter_shapes(self) -> dict[str, Shape]:
        return dict.fromkeys(("weight", "bias")[: 1 + self.bias], self.normalized_shape)

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        if len(before) == 4 and 4 - len(self.normalized_shape) <= 2 + axis:
            return all_of(before[2 + axis])
        return super().reach(axis, before, after)

    def output_shape(self, *given: Shape) -> Shape:
        if given[0][len(given[0]) - len(self.normalized_shape) :] != self.normalized_shape:
            raise ShapeError(f"LayerNorm: input {given[0]}, expected (…, {self.normalized_shape})")
        return given[0]

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.norm import layer_norm

        bias = self.parameter("bias") if self.bias else None
        return layer_norm(inputs[0], self.parameter("weight"), bias, self.eps)


class LocalResponseNorm(Layer):
    """torch.nn.LocalResponseNorm; near: channels before the own one, size // 2 by default."""

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0
    near: int | None = None

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.norm import local_response_norm

        return local_response_norm(inputs[0], self.size, self.alpha, self.beta, self.k, self.near)
