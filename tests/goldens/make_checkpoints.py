"""Make tests/goldens/checkpoints: small files of torch.save, and what timm calls its parameters.

    pip install torch==2.13.0 timm && python -m tests.goldens.make_checkpoints

`kinds` has every type, stride and sharing that a state dictionary can; `expected.npz` its numbers.
`timm.npz` has names and shapes of timm's parameters, and what its EfficientNet computes with the
numbers that network_samples.py draws for these names.
"""

import json
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn

from tests.network_samples import CLASSES, golden_network_input, golden_parameters

FOLDER = Path(__file__).with_name("checkpoints")
TIMM = ("resnet50", "vgg16", "vgg16_bn", "efficientnet_b0", "efficientnet_b1")


def kinds() -> OrderedDict[str, torch.Tensor]:
    """Tensors of every type that is read, some of them views of one storage."""
    base = torch.arange(24.0).reshape(4, 6) - 11.5
    images = torch.arange(24.0).reshape(1, 2, 3, 4)
    found = OrderedDict(
        float32=base, view=base[1:3, 1::2], transposed=base.t(), last=base[3],
        channels_last=images.to(memory_format=torch.channels_last),
        expanded=torch.arange(3.0).expand(2, 3), scalar=torch.tensor(2.5),
        empty=torch.empty(0, 3), parameter=nn.Parameter(torch.ones(2, 2) / 3),
    )  # fmt: skip
    for kind in ("float16", "bfloat16", "float64", "int64", "int32", "int16", "int8"):
        found[kind] = (base * 2).to(getattr(torch, kind))
    found["uint8"] = torch.arange(5, dtype=torch.uint8)
    found["bool"] = torch.tensor([True, False])
    found["complex64"] = torch.tensor([1 + 2j])
    return found


def checkpoints() -> dict[str, object]:
    """File name → what is saved in it."""
    model = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), bn=nn.BatchNorm2d(2)))
    wrapped = OrderedDict((f"module.{key}", value) for key, value in model.state_dict().items())
    trained = {
        "epoch": 3, "state_dict": wrapped, "best": torch.tensor(0.5),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
    }  # fmt: skip
    return {
        "kinds": kinds(), "unsigned": OrderedDict(uint16=torch.tensor([1, 65535]).to(torch.uint16)),
        "training": trained, "whole": model, "plain": model.state_dict(),
    }  # fmt: skip


def main() -> None:
    torch.manual_seed(1)
    FOLDER.mkdir(exist_ok=True)
    found = checkpoints()
    for name, value in found.items():
        torch.save(value, FOLDER / f"{name}.pth")
    for name in ("kinds", "training"):
        path = FOLDER / f"{name}-legacy.pth"
        torch.save(found[name], path, _use_new_zipfile_serialization=False)
    arrays = {key: value.detach() for key, value in found["kinds"].items()}
    arrays |= found["training"]["state_dict"]
    np.savez_compressed(FOLDER / "expected.npz", **{
        key: (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        for key, value in arrays.items()
    })  # fmt: skip
    programs()
    np.savez_compressed(FOLDER / "timm.npz", **of_timm())


def programs() -> None:
    """Programs, which are refused: TorchScript and torch.export."""
    model, x = nn.Linear(2, 1).eval(), torch.ones(1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, x).save(FOLDER / "script.pt")
    torch.export.save(torch.export.export(model, (x,)), FOLDER / "export.pt2")
    for name in ("script.pt", "export.pt2"):
        without_paths(FOLDER / name)


def without_paths(path: Path) -> None:
    """Take the folders of this machine out of a program's traces; their lengths are written too."""
    import zipfile

    folders = [
        str(Path(file).parents[n]).encode() for file, n in ((torch.__file__, 1), (__file__, 2))
    ]
    with zipfile.ZipFile(path) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in entries:
            for folder in folders:
                content = content.replace(folder, b"x" * len(folder))
            archive.writestr(zipfile.ZipInfo(entry.filename), content)


def of_timm() -> dict[str, np.ndarray]:
    """Names and shapes as JSON, and EfficientNet-B0's output."""
    found = {"timm": np.array(timm.__version__)}
    for name in TIMM:
        network = timm.create_model(name, num_classes=CLASSES).eval()
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        found[name] = np.array(json.dumps(shapes))
        if name == "efficientnet_b0":
            arrays = golden_parameters(shapes)
            network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()})
            with torch.no_grad():
                x = torch.from_numpy(golden_network_input(name, 3)).double()
                found["output"] = network.double()(x).numpy()
    return found


if __name__ == "__main__":
    main()
