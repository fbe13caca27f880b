"""Networks after their papers as PyTorch modules, to be exported as others export theirs.

Weights are drawn: what a network computes takes as long whatever they are.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(
    channels: int, maps: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: Any = nn.ReLU
) -> nn.Sequential:
    """A convolution with batch normalization and an activation."""
    layers = [
        nn.Conv2d(channels, maps, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(maps),
    ]
    return nn.Sequential(*layers, *([act()] if act else []))


class Gate(nn.Module):
    """Squeeze and excitation by a hard sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels // 4, 1)
        self.up = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))
        return x * F.hardsigmoid(self.up(seen))


class Inverted(nn.Module):
    """MobileNetV2's and V3's block (arXiv:1801.04381, 1905.02244)."""

    def __init__(
        self, channels: int, wide: int, maps: int, kernel: int, stride: int, act: Any, gate: bool
    ) -> None:
        super().__init__()
        first = [conv(channels, wide, 1, act=act)] if wide != channels else []
        gates = [Gate(wide)] if gate else []
        self.body = nn.Sequential(
            *first,
            conv(wide, wide, kernel, stride, wide, act),
            *gates,
            conv(wide, maps, 1, act=None),
        )
        self.adds = stride == 1 and channels == maps

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def head(channels: int, classes: int = 1000) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def mobilenet_v2() -> nn.Module:
    layers, channels = [conv(3, 32, 3, 2, act=nn.ReLU6)], 32
    for factor, maps, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for number in range(count):
            step = 1 if number else stride
            layers.append(Inverted(channels, channels * factor, maps, 3, step, nn.ReLU6, False))
            channels = maps
    return nn.Sequential(*layers, conv(channels, 1280, 1, act=nn.ReLU6), *head(1280))


def mobilenet_v3() -> nn.Module:
    relu, swish = nn.ReLU, nn.Hardswish
    layers, channels = [conv(3, 16, 3, 2, act=swish)], 16
    for kernel, wide, maps, gate, act, stride in (
        (3, 16, 16, False, relu, 1), (3, 64, 24, False, relu, 2), (3, 72, 24, False, relu, 1),
        (5, 72, 40, True, relu, 2), (5, 120, 40, True, relu, 1), (5, 120, 40, True, relu, 1),
        (3, 240, 80, False, swish, 2), (3, 200, 80, False, swish, 1), (3, 184, 80, False, swish, 1),
        (3, 184, 80, False, swish, 1), (3, 480, 112, True, swish, 1), (3, 672, 112, True, swish, 1),
        (5, 672, 160, True, swish, 2), (5, 960, 160, True, swish, 1), (5, 960, 160, True, swish, 1),
    ):  # fmt: skip
        layers.append(Inverted(channels, wide, maps, kernel, stride, act, gate))
        channels = maps
    return nn.Sequential(*layers, conv(160, 960, 1, act=swish), *head(960))


class Fire(nn.Module):
    """SqueezeNet's block (arXiv:1602.07360)."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.one, self.three = (
            nn.Conv2d(squeeze, expand, 1),
            nn.Conv2d(squeeze, expand, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


def squeezenet() -> nn.Module:
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool, Fire(64, 16, 64), Fire(128, 16, 64), pool,
        Fire(128, 32, 128), Fire(256, 32, 128), pool, Fire(256, 48, 192), Fire(384, 48, 192),
        Fire(384, 64, 256), Fire(512, 64, 256), nn.Conv2d(512, 1000, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


class Shuffle(nn.Module):
    """ShuffleNetV2's block (arXiv:1807.11164)."""

    def __init__(self, channels: int, maps: int, stride: int) -> None:
        super().__init__()
        half, self.stride = maps // 2, stride
        source = channels if stride == 2 else half
        self.left = nn.Sequential(
            conv(channels, channels, 3, 2, channels, None), conv(channels, half, 1)
        ) if stride == 2 else nn.Identity()  # fmt: skip
        self.right = nn.Sequential(
            conv(source, half, 1), conv(half, half, 3, stride, half, None), conv(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        a, b = (x, x) if self.stride == 2 else x.chunk(2, 1)
        x = torch.cat([self.left(a), self.right(b)], 1)
        count, channels, height, width = x.shape
        return x.view(count, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)


def shufflenet_v2() -> nn.Module:
    layers, channels = [conv(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1)], 24
    for maps, count in ((116, 4), (232, 8), (464, 4)):
        for number in range(count):
            layers.append(Shuffle(channels, maps, 1 if number else 2))
            channels = maps
    return nn.Sequential(*layers, conv(464, 1024, 1), *head(1024))


class Dense(nn.Module):
    """DenseNet's layer (arXiv:1608.06993)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 32, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet121() -> nn.Module:
    layers: list[nn.Module] = [conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for block, count in enumerate((6, 12, 24, 16)):
        for _ in range(count):
            layers.append(Dense(channels))
            channels += 32
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        if block < 3:
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
    return nn.Sequential(*layers, *head(channels))


class RegBlock(nn.Module):
    """RegNetX's block (arXiv:2003.13678)."""

    def __init__(self, channels: int, maps: int, stride: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(channels, maps, 1), conv(maps, maps, 3, stride, maps // width),
            conv(maps, maps, 1, act=None),
        )  # fmt: skip
        same = channels == maps and stride == 1
        self.way = nn.Identity() if same else conv(channels, maps, 1, stride, act=None)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.way(x) + self.body(x))


def regnet_x_800mf() -> nn.Module:
    layers, channels = [conv(3, 32, 3, 2)], 32
    for maps, count in ((64, 1), (128, 3), (288, 7), (672, 5)):
        for number in range(count):
            layers.append(RegBlock(channels, maps, 1 if number else 2, 16))
            channels = maps
    return nn.Sequential(*layers, *head(channels))


class LayerNorm2d(nn.LayerNorm):
    """Layer normalization over channels."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NextBlock(nn.Module):
    """ConvNeXt's block (arXiv:2201.03545)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, 1e-6)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.spread(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


def convnext_tiny() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), LayerNorm2d(96, 1e-6)]
    channels = 96
    for number, count in enumerate((3, 3, 9, 3)):
        if number:
            layers += [LayerNorm2d(channels, 1e-6), nn.Conv2d(channels, 2 * channels, 2, 2)]
            channels *= 2
        layers += [NextBlock(channels) for _ in range(count)]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), LayerNorm2d(channels, 1e-6), nn.Flatten(),
        nn.Linear(channels, 1000),
    )  # fmt: skip


class UNet(nn.Module):
    """U-Net (arXiv:1505.04597) with same padding; enlarges by bilinear steps."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        ins = (3, *widths[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(conv(a, b), conv(b, b)) for a, b in zip(ins, widths, strict=True)
        )
        self.up = nn.ModuleList(
            nn.Sequential(conv(a + b, a), conv(a, a)) for a, b in pairwise(widths)
        )
        self.out = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for number, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if number else x)
            kept.append(x)
        for number in reversed(range(len(self.up))):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = self.up[number](torch.cat([kept[number], x], 1))
        return self.out(x)


class Pyramid(nn.Module):
    """A feature pyramid (arXiv:1612.03144) on a residual trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1))
        widths = (64, 128, 256, 512)
        self.trunk = nn.ModuleList(
            nn.Sequential(RegBlock(a, b, 1 if b == 64 else 2, b), RegBlock(b, b, 1, b))
            for a, b in zip((64, *widths[:-1]), widths, strict=True)
        )
        self.side = nn.ModuleList(nn.Conv2d(width, 128, 1) for width in widths)
        self.smooth = nn.ModuleList(nn.Conv2d(128, 128, 3, padding=1) for _ in widths)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x, maps = self.stem(x), []
        for block in self.trunk:
            x = block(x)
            maps.append(x)
        made = [self.side[3](maps[3])]
        for level in (2, 1, 0):
            made.append(self.side[level](maps[level]) + F.interpolate(made[-1], scale_factor=2.0))
        return tuple(smooth(x) for smooth, x in zip(self.smooth, reversed(made), strict=True))


class DeepLab(nn.Module):
    """Atrous pooling (arXiv:1706.05587) on MobileNetV2's trunk."""

    def __init__(self) -> None:
        super().__init__()
        trunk = list(mobilenet_v2())[:15]  # type: ignore[call-overload]
        self.trunk = nn.Sequential(*trunk)
        self.parts = nn.ModuleList([conv(160, 128, 1)])
        for rate in (6, 12, 18):
            part = conv(160, 128, 3)
            part[0].dilation, part[0].padding = (rate, rate), (rate, rate)
            self.parts.append(part)
        self.pooled = conv(160, 128, 1)
        self.join, self.out = conv(640, 128, 1), nn.Conv2d(128, 21, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        x = self.trunk(x)
        seen = self.pooled(F.adaptive_avg_pool2d(x, 1))
        every = [
            *(part(x) for part in self.parts),
            F.interpolate(seen, x.shape[2:], mode="bilinear"),
        ]
        scores = self.out(self.join(torch.cat(every, 1)))
        return F.interpolate(scores, size, mode="bilinear", align_corners=False)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MobileNetV2": mobilenet_v2, "MobileNetV3": mobilenet_v3, "SqueezeNet": squeezenet,
    "ShuffleNetV2": shufflenet_v2, "DenseNet-121": densenet121, "RegNetX-800MF": regnet_x_800mf,
    "ConvNeXt-T": convnext_tiny, "U-Net": UNet, "FPN": Pyramid, "DeepLab": DeepLab,
}  # fmt: skip


def export(name: str, folder: Path, batch: int, dynamo: bool) -> Path:
    """Write a network of NETWORKS for inputs of 224×224 as ONNX; return the file.

    dynamo: by PyTorch's newer exporter, which needs onnxscript.
    """
    torch.manual_seed(0)
    path = folder / f"{name}-{batch}-{'dynamo' if dynamo else 'legacy'}.onnx"
    network, x = NETWORKS[name](), torch.randn(batch, 3, 224, 224)
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 224, 224))  # statistics of batch norms that fit
        options = {} if dynamo else {"opset_version": 17}
        torch.onnx.export(
            network.eval(), (x,), str(path), input_names=["x"], dynamo=dynamo, **options
        )
    return path
