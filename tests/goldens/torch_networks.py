"""The six families in PyTorch, written from papers and torchvision's module structure.

Used by make_network.py alone; nothing of imgconv is imported here, and the suite does not
need torch. Attribute names give torchvision's parameter names.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

# Table I of LeCun et al.: a row a map of S2, a column a map of C3.
TABLE = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)
PLANS = {
    11: "64 M 128 M 256 256 M 512 512 M 512 512 M",
    16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
}


class LeNet5(nn.Module):
    def __init__(self, classes, paper):
        super().__init__()
        self.paper = paper
        self.c1, self.c5 = nn.Conv2d(1, 6, 5), nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        if not paper:
            self.c3, self.output = nn.Conv2d(6, 16, 5), nn.Linear(84, classes)
            return
        # 60 filters in the order of LeCun et al., table I, read map by map.
        self.c3 = nn.Module()
        self.c3.weight = nn.Parameter(torch.zeros(60, 5, 5))
        self.c3.bias = nn.Parameter(torch.zeros(16))
        for name, channels in (("s2", 6), ("s4", 16)):
            part = nn.Module()
            part.weight, part.bias = (nn.Parameter(torch.zeros(channels)) for _ in range(2))
            setattr(self, name, part)
        self.output = nn.Module()
        self.output.register_buffer("weight", torch.zeros(classes, 84))

    def act(self, x):
        return 1.7159 * torch.tanh(2 / 3 * x) if self.paper else torch.tanh(x)

    def pool(self, x, part):
        if not self.paper:
            return F.avg_pool2d(x, 2)
        total = F.avg_pool2d(x, 2, divisor_override=1)
        scaled = total * part.weight[:, None, None] + part.bias[:, None, None]
        return self.act(scaled)

    def third(self, x):
        if not self.paper:
            return self.c3(x)
        maps, place = [], 0
        for out in range(16):
            total = self.c3.bias[out]
            for channel in range(6):
                if TABLE[channel][out] == "X":
                    weight = self.c3.weight[place][None, None]
                    total = total + F.conv2d(x[:, channel : channel + 1], weight)
                    place += 1
            maps.append(total)
        return torch.cat(maps, 1)

    def forward(self, x):
        x = self.pool(self.act(self.c1(x)), getattr(self, "s2", None))
        x = self.pool(self.act(self.third(x)), getattr(self, "s4", None))
        x = self.act(self.f6(self.act(self.c5(x)).flatten(1)))
        if self.paper:
            return -(torch.cdist(x, self.output.weight) ** 2)
        return self.output(x)


def alexnet(classes):
    class AlexNet(nn.Module):
        def __init__(self):
            super().__init__()
            relu, pool = nn.ReLU, lambda: nn.MaxPool2d(3, 2)
            self.features = nn.Sequential(
                nn.Conv2d(3, 64, 11, 4, 2), relu(), pool(), nn.Conv2d(64, 192, 5, padding=2),
                relu(), pool(), nn.Conv2d(192, 384, 3, padding=1), relu(),
                nn.Conv2d(384, 256, 3, padding=1), relu(), nn.Conv2d(256, 256, 3, padding=1),
                relu(), pool(),
            )  # fmt: skip
            self.classifier = nn.Sequential(
                nn.Dropout(), nn.Linear(9216, 4096), relu(), nn.Dropout(), nn.Linear(4096, 4096),
                relu(), nn.Linear(4096, classes),
            )  # fmt: skip

        def forward(self, x):
            return self.classifier(F.adaptive_avg_pool2d(self.features(x), 6).flatten(1))

    return AlexNet()


class AlexNetOfThePaper(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 96, 11, 4), nn.Conv2d(96, 256, 5, 1, 2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, 1, 1)
        self.conv4 = nn.Conv2d(384, 384, 3, 1, 1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, 1, 1, groups=2)
        self.fc6, self.fc7 = nn.Linear(9216, 4096), nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, classes)

    @staticmethod
    def normalize(x):
        """b = a / (2 + 1e-4 Σ a²)^0.75 over five channels: section 3.3."""
        squares = F.pad(x * x, (0, 0, 0, 0, 2, 2))
        total = sum(squares[:, i : i + x.shape[1]] for i in range(5))
        return x / (2 + 1e-4 * total) ** 0.75

    def forward(self, x):
        x = F.max_pool2d(self.normalize(self.conv1(x).relu()), 3, 2)
        x = F.max_pool2d(self.normalize(self.conv2(x).relu()), 3, 2)
        x = F.max_pool2d(self.conv5(self.conv4(self.conv3(x).relu()).relu()).relu(), 3, 2)
        return self.fc8(self.fc7(self.fc6(x.flatten(1)).relu()).relu())


class Vgg(nn.Module):
    def __init__(self, depth, normed, classes):
        super().__init__()
        parts, channels = [], 3
        for word in PLANS[depth].split():
            if word == "M":
                parts.append(nn.MaxPool2d(2, 2))
                continue
            parts.append(nn.Conv2d(channels, channels := int(word), 3, padding=1))
            parts += [nn.BatchNorm2d(channels)] * normed + [nn.ReLU()]
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(
            nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
            nn.Dropout(), nn.Linear(4096, classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 7).flatten(1))


class ConvRelu(nn.Module):
    """GoogLeNet's convolution: with batch norm as torchvision, or with bias as the paper."""

    def __init__(self, before, after, kernel, paper, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=paper)
        self.bn = nn.Identity() if paper else nn.BatchNorm2d(after, eps=0.001)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


class Inception(nn.Module):
    def __init__(self, before, one, r3, three, r5, five, pool, paper):
        super().__init__()
        wide = 5 if paper else 3
        self.branch1 = ConvRelu(before, one, 1, paper)
        self.branch2 = nn.Sequential(ConvRelu(before, r3, 1, paper), ConvRelu(r3, three, 3, paper))
        self.branch3 = nn.Sequential(
            ConvRelu(before, r5, 1, paper), ConvRelu(r5, five, wide, paper)
        )  # fmt: skip
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvRelu(before, pool, 1, paper))

    def forward(self, x):
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x) for branch in branches], 1)


class Head(nn.Module):
    def __init__(self, before, classes, paper):
        super().__init__()
        self.paper = paper
        self.conv = ConvRelu(before, 128, 1, paper)
        self.fc1, self.fc2 = nn.Linear(2048, 1024), nn.Linear(1024, classes)

    def forward(self, x):
        x = F.avg_pool2d(x, 5, 3) if self.paper else F.adaptive_avg_pool2d(x, 4)
        return self.fc2(self.fc1(self.conv(x).flatten(1)).relu())


class GoogLeNet(nn.Module):
    def __init__(self, paper, classes):
        super().__init__()
        self.paper = paper
        self.conv1, self.conv2 = ConvRelu(3, 64, 7, paper, 2), ConvRelu(64, 64, 1, paper)
        self.conv3 = ConvRelu(64, 192, 3, paper)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32, paper)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64, paper)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64, paper)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64, paper)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64, paper)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64, paper)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128, paper)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128, paper)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128, paper)
        self.aux1, self.aux2 = Head(512, classes, paper), Head(528, classes, paper)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x):
        def pool(x, size=3):
            return F.max_pool2d(x, size, 2, ceil_mode=True)

        def norm(x):
            return F.local_response_norm(x, 5, 1e-4, 0.75, 1) if self.paper else x

        x = norm(pool(self.conv1(x)))
        x = pool(norm(self.conv3(self.conv2(x))))
        x = self.inception4a(pool(self.inception3b(self.inception3a(x))))
        first = self.aux1(x)
        x = self.inception4d(self.inception4c(self.inception4b(x)))
        second = self.aux2(x)
        x = pool(self.inception4e(x), 3 if self.paper else 2)
        x = self.inception5b(self.inception5a(x))
        return torch.cat([self.fc(x.mean((2, 3))), first, second])


class Block(nn.Module):
    """ResNet's block, basic or bottleneck; early: v1, the stride in the first convolution."""

    def __init__(self, before, width, stride, deep, early):
        super().__init__()
        after = 4 * width if deep else width
        sizes = (1, 3, 1) if deep else (3, 3)
        where = 1 if deep and not early else 0
        channels = (before, width, width, after) if deep else (before, width, width)
        for number, size in enumerate(sizes):
            conv = nn.Conv2d(channels[number], channels[number + 1], size,
                             stride if number == where else 1, size // 2, bias=False)  # fmt: skip
            setattr(self, f"conv{number + 1}", conv)
            setattr(self, f"bn{number + 1}", nn.BatchNorm2d(channels[number + 1]))
        self.count = len(sizes)
        self.downsample = None
        if stride != 1 or before != after:
            conv = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(after))

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = y.relu() if number < self.count else y
        return (y + (self.downsample(x) if self.downsample else x)).relu()


class ResNet(nn.Module):
    def __init__(self, counts, deep, early, classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        before = 64
        for stage, count in enumerate(counts):
            width, blocks = 64 << stage, []
            for index in range(count):
                stride = 2 if stage and not index else 1
                blocks.append(Block(before, width, stride, deep, early))
                before = width * (4 if deep else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, classes)

    def forward(self, x):
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def conv_norm(before, after, size, stride=1, groups=1, active=True, eps=1e-5):
    conv = nn.Conv2d(before, after, size, stride, (size - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after, eps), nn.SiLU() if active else nn.Identity())


class Squeeze(nn.Module):
    def __init__(self, wide, narrow):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(wide, narrow, 1), nn.Conv2d(narrow, wide, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(F.silu(self.fc1(x.mean((2, 3), keepdim=True)))))


class MBConv(nn.Module):
    def __init__(self, before, after, expand, size, stride, eps):
        super().__init__()
        wide = before * expand
        parts = [] if expand == 1 else [conv_norm(before, wide, 1, eps=eps)]
        parts.append(conv_norm(wide, wide, size, stride, wide, eps=eps))
        parts.append(Squeeze(wide, before // 4))
        parts.append(conv_norm(wide, after, 1, active=False, eps=eps))
        self.block = nn.Sequential(*parts)
        self.skips = stride == 1 and before == after

    def forward(self, x):
        return x + self.block(x) if self.skips else self.block(x)


class EfficientNet(nn.Module):
    def __init__(self, width, depth, eps, classes):
        super().__init__()

        def eighth(channels):
            near = int(channels * width + 4) // 8 * 8
            return near + 8 if near < 0.9 * channels * width else near

        table = [(1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
                 (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)]  # fmt: skip
        before = eighth(32)
        stages = [conv_norm(3, before, 3, 2, eps=eps)]
        for expand, size, stride, channels, count in table:
            blocks = []
            for index in range(math.ceil(count * depth)):
                after = eighth(channels)
                step = stride if index == 0 else 1
                blocks.append(MBConv(before, after, expand, size, step, eps))
                before = after
            stages.append(nn.Sequential(*blocks))
        stages.append(conv_norm(before, 4 * before, 1, eps=eps))
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(4 * before, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def model(name, classes):
    """The module for a network's name as imgconv has it."""
    return {
        "lenet5": lambda: LeNet5(classes, False),
        "lenet5:form=paper": lambda: LeNet5(classes, True),
        "alexnet": lambda: alexnet(classes),
        "alexnet:form=paper": lambda: AlexNetOfThePaper(classes),
        "vgg11_bn": lambda: Vgg(11, True, classes),
        "vgg16": lambda: Vgg(16, False, classes),
        "googlenet:aux=true": lambda: GoogLeNet(True, classes),
        "googlenet:form=torchvision,aux=true": lambda: GoogLeNet(False, classes),
        "resnet18": lambda: ResNet((2, 2, 2, 2), False, False, classes),
        "resnet50": lambda: ResNet((3, 4, 6, 3), True, False, classes),
        "resnet50:form=v1": lambda: ResNet((3, 4, 6, 3), True, True, classes),
        "efficientnet_b0": lambda: EfficientNet(1.0, 1.0, 1e-5, classes),
        "efficientnet_b5": lambda: EfficientNet(1.6, 2.2, 1e-3, classes),
    }[name]()
