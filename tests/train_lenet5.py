"""Train the LeNet-5 that ships with imgconv, on scikit-learn's handwritten digits.

    pip install torch==2.13.0 scikit-learn pillow && python -m tests.train_lenet5

The 1,797 images of 8×8 (E. Alpaydin, C. Kaynak, UCI, 1998) are scaled to 32×32 by the network's own
preprocessing. A quarter of each digit's images is held out and never seen in training or in the
choice of anything. Shifts, turns and changes of size and stroke make up for the small set. The
suite measures the held-out accuracy by imgconv's own inference (test_lenet5.py).
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import imgconv.nn
from imgconv.nn.models import get_network
from imgconv.safetensors import write_safetensors
from tests.digits import split

TARGET = Path(imgconv.nn.__file__).parent / "data" / "lenet5.safetensors"
EPOCHS, BATCH, RATE, SEED = 150, 64, 3e-3, 1998


class LeNet5(nn.Module):
    """The modern form, written for torch; names are those of `imgconv net summary lenet5`."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c3, self.c5 = (
            nn.Conv2d(1, 6, 5),
            nn.Conv2d(6, 16, 5),
            nn.Conv2d(16, 120, 5),
        )
        self.f6, self.output = nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.avg_pool2d(torch.tanh(self.c1(x)), 2)
        x = functional.avg_pool2d(torch.tanh(self.c3(x)), 2)
        x = torch.tanh(self.c5(x)).flatten(1)
        return self.output(torch.tanh(self.f6(x)))


def varied(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image turned by up to ±15°, resized, narrowed and shifted, its strokes changed."""
    count = len(images)

    def draw(low: float, high: float) -> torch.Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    # A matrix entry above 1 makes the digit smaller; real ones are narrower than these.
    angle, shear = draw(-0.26, 0.26), draw(-0.2, 0.2)
    wide, high = draw(0.85, 1.7), draw(0.85, 1.35)
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = torch.cos(angle) * wide, -torch.sin(angle) * wide + shear
    matrix[:, 1, 0], matrix[:, 1, 1] = torch.sin(angle) * high, torch.cos(angle) * high
    matrix[:, 0, 2], matrix[:, 1, 2] = draw(-0.2, 0.2), draw(-0.2, 0.2)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False)
    gamma = torch.exp(draw(-0.7, 0.7))[:, None, None, None]
    return moved.clamp(0, 1) ** gamma


def main() -> None:
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)
    preprocess = get_network("lenet5").preprocess
    sets = []
    for images, labels in split():
        values = np.concatenate([preprocess(image[..., None], 255.0) for image in images])
        sets.append((torch.from_numpy(values), torch.from_numpy(labels)))
    (images, labels), (held, truth) = sets
    model = LeNet5()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-2)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for picks in torch.randperm(len(images), generator=generator).split(BATCH):
            loss = functional.cross_entropy(
                model(varied(images[picks], generator)), labels[picks], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(picks)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {total / len(images):.4f}")
    with torch.no_grad():
        accuracy = (model(held).argmax(1) == truth).float().mean().item()
    print(f"held-out accuracy {accuracy:.4f} on {len(held)} images")
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    note = {
        "network": "lenet5",
        "data": "scikit-learn digits, 3/4 of each digit",
        "made by": f"tests/train_lenet5.py, torch {torch.__version__}",
    }
    write_safetensors(TARGET, arrays, note)


if __name__ == "__main__":
    main()
