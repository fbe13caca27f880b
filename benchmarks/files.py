"""PNG coding in memory, and whole processes from file to file."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import photo, photo_file
from benchmarks.measure import Case
from imgconv.images import png

SCRIPTS = Path(sys.executable).parent
VIPS_SOBEL = """
import sys, pyvips
image = pyvips.Image.new_from_file(sys.argv[1], access="sequential")
options = {"compression": 1} if sys.argv[2].endswith("png") else {}
image.sobel().write_to_file(sys.argv[2], **options)
"""


def codec() -> Iterator[Case]:
    import cv2
    import pyvips
    from PIL import Image

    for megapixels in ("0.25", "12"):
        pixels = photo(megapixels)
        picture = Image.fromarray(pixels)
        buffer = io.BytesIO()
        picture.save(buffer, "png")
        data = buffer.getvalue()
        yield Case(
            "PNG decode", f"{megapixels} MP RGB",
            {
                "imgconv": lambda d=data: png.decode(d),
                "Pillow": lambda d=data: Image.open(io.BytesIO(d)).load(),
                "OpenCV": lambda d=data: cv2.imdecode(np.frombuffer(d, np.uint8), cv2.IMREAD_COLOR),
                "libvips": lambda d=data: pyvips.Image.new_from_buffer(d, "").write_to_memory(),
            },
            target={"Pillow": 0.35},
        )  # fmt: skip
        bgr = pixels[..., ::-1].copy()
        vips = pyvips.Image.new_from_array(pixels)
        yield Case(
            "PNG encode", f"{megapixels} MP RGB, fast",
            {
                "imgconv": lambda p=pixels: png.encode(p, compress="fast"),
                "Pillow level 1": lambda p=picture: p.save(io.BytesIO(), "png", compress_level=1),
                "OpenCV": lambda p=bgr: cv2.imencode(".png", p),
                "libvips level 1": lambda v=vips: v.pngsave_buffer(compression=1),
            },
            target={"Pillow level 1": 0.15},
        )  # fmt: skip


def process(*command: str | Path, **environment: str) -> Callable[[], Any]:
    """A callable that runs a command to its end and insists on success."""

    def run() -> None:
        subprocess.run(
            [os.fspath(part) for part in command],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )

    return run


def optional(name: str, *command: str | Path) -> dict[str, Callable[[], Any]]:
    """A peer that takes part where it is installed."""
    return {name: process(*command)} if shutil.which(os.fspath(command[0])) else {}


def imgconv(*arguments: str | Path) -> Callable[[], Any]:
    return process(SCRIPTS / "imgconv", *arguments, "--overwrite", "-q")


def processes(folder: Path) -> Iterator[Case]:
    for megapixels, suffix, goal in (
        ("0.25", ".png", {"libvips": 2.0, "Numba's cache": 0.3}),
        ("12", ".png", {"libvips": 1.0, "ImageMagick": 0.1}),
        ("12", ".ppm", {}),
    ):
        source = photo_file(folder, megapixels, suffix)
        peers = {
            "imgconv": imgconv("apply", "-k", "sobel", source, "-o", folder / f"ours{suffix}"),
            "libvips": process(sys.executable, "-c", VIPS_SOBEL, source, folder / f"vips{suffix}"),
            **optional("ImageMagick", "convert", source, "-define", "convolve:scale=!",
                       "-morphology", "Convolve", "Sobel:0", folder / f"magick{suffix}"),
            **optional("GraphicsMagick", "gm", "convert", source, "-convolve",
                       "1,0,-1,2,0,-2,1,0,-1", folder / f"gm{suffix}"),
        }  # fmt: skip
        if megapixels == "0.25":
            peers["Numba's cache"] = process(
                sys.executable, Path(__file__).with_name("numba_cache.py"), source,
                folder / "cached.png", NUMBA_CACHE_DIR=str(folder / "numba"),
            )  # fmt: skip
        row = f"{megapixels} MP {suffix[1:].upper()} → sobel → {suffix[1:].upper()}"
        yield Case("whole process", row, peers, target=goal)


def starts(folder: Path) -> Iterator[Case]:
    bare = process(sys.executable, "-c", "import click")
    yield Case(
        "start", "imgconv --help",
        {"imgconv": process(SCRIPTS / "imgconv", "--help"), "python + click": bare},
    )  # fmt: skip
    store = folder / "cold-store"
    source = photo_file(folder, "0.25")

    def cold() -> None:
        shutil.rmtree(store, ignore_errors=True)
        process(
            SCRIPTS / "imgconv", "apply", "-k", "sobel", source, "-o", folder / "cold.png",
            "--overwrite", IMGCONV_STORE=str(store),
        )()  # fmt: skip

    warm = imgconv("apply", "-k", "sobel", source, "--recursive", "-o", folder / "warm.png")
    yield Case("start", "first run ever on 0.25 MP", {"imgconv": cold, "warm run": warm})


def batches(folder: Path) -> Iterator[Case]:
    source = folder / "batch"
    source.mkdir(exist_ok=True)
    one = photo_file(folder, "0.25")
    for number in range(1000):
        if not (source / f"{number:04}.png").exists():
            shutil.copy(one, source / f"{number:04}.png")
    target = folder / "batch-out"
    vips_loop = process(sys.executable, Path(__file__).with_name("vips_batch.py"), source, target)
    target.mkdir(exist_ok=True)
    yield Case(
        "batch", "1,000 files of 512×512",
        {
            "imgconv": imgconv("apply", "-k", "sobel", source, "--recursive", "-o", f"{target}/"),
            "pyvips, two workers": vips_loop,
        },
        target={"pyvips, two workers": 0.8},
    )  # fmt: skip
