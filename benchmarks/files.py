"""PNG coding in memory, and whole processes from file to file."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import photo, photo_file
from benchmarks.measure import Case
from imgconv.io.png import reader as png_reader
from imgconv.io.png import writer as png_writer

SCRIPTS = Path(sys.executable).parent
VIPS_THREE = """
import sys, pyvips
image = pyvips.Image.new_from_file(sys.argv[1])
x = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
kernels = {"x": x, "y": [*zip(*x)], "l": [[0, 1, 0], [1, -4, 1], [0, 1, 0]]}
for name, rows in kernels.items():
    maps = image.conv(pyvips.Image.new_from_array([*map(list, rows)]), precision="integer")
    maps.cast("uchar").write_to_file(f"{sys.argv[2]}-{name}.png", compression=1)
"""
VIPS_SOBEL = """
import sys, pyvips
image = pyvips.Image.new_from_file(sys.argv[1], access="sequential")
options = {"compression": 1} if sys.argv[2].endswith("png") else {}
image.sobel().write_to_file(sys.argv[2], **options)
"""


def codec(sizes: Sequence[str]) -> Iterator[Case]:
    import cv2
    import pyvips
    from PIL import Image

    for megapixels in sizes:
        pixels = photo(megapixels)
        picture = Image.fromarray(pixels)
        buffer = io.BytesIO()
        picture.save(buffer, "png")
        data = buffer.getvalue()
        yield Case(
            "PNG decode", f"{megapixels} MP RGB",
            {
                "imgconv": lambda d=data: png_reader.decode(d),
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
                "imgconv": lambda p=pixels: b"".join(png_writer.encode(p, compress="fast")),
                "Pillow level 1": lambda p=picture: p.save(io.BytesIO(), "png", compress_level=1),
                "OpenCV": lambda p=bgr: cv2.imencode(".png", p),
                "libvips level 1": lambda v=vips: v.pngsave_buffer(compression=1),
            },
            target={"Pillow level 1": 0.15},
        )  # fmt: skip


# A process counts the memory of the one that it was forked from, and this one holds photos.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


class Process:
    """Runs a command to its end when called, and insists on success."""

    def __init__(self, *command: str | Path, **environment: str) -> None:
        self._command = [os.fspath(part) for part in command]
        # Installed tools as their users have them: with the bytecode that pip compiled.
        self._environment = {
            key: value for key, value in os.environ.items()
            if key not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
        } | environment  # fmt: skip

    def __call__(self) -> None:
        subprocess.run(
            self._command,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )

    def peak(self) -> float:
        """MiB that the command, or the largest of its processes, holds at most."""
        told = subprocess.run(
            [sys.executable, "-S", "-c", PEAK, *self._command],
            check=True,
            stdout=subprocess.PIPE,
            env=self._environment,
        )
        return int(told.stdout) / 1024


def optional(name: str, *command: str | Path) -> dict[str, Callable[[], Any]]:
    """A peer that takes part where it is installed."""
    return {name: Process(*command)} if shutil.which(os.fspath(command[0])) else {}


def imgconv(*arguments: str | Path) -> Callable[[], Any]:
    return Process(SCRIPTS / "imgconv", *arguments, "--overwrite", "-q")


def processes(folder: Path, sizes: Sequence[str]) -> Iterator[Case]:
    goals: dict[str, dict[str, float]] = {
        "0.25": {"libvips": 2.0, "Numba's cache": 0.3}, "12": {"libvips": 1.0, "ImageMagick": 0.1}
    }  # fmt: skip
    for megapixels, suffix in [*((size, ".png") for size in sizes), (sizes[-1], ".ppm")]:
        goal = goals.get(megapixels, {}) if suffix == ".png" else {}
        source = photo_file(folder, megapixels, suffix)
        peers = {
            "imgconv": imgconv(
                "apply", "-k", "sobel", source, "-o", folder / f"ours{suffix}",
                "--max-pixels", "1000000000",
            ),
        }  # fmt: skip
        if suffix == ".png":  # the binary wheel of libvips has no PNM
            peers["libvips"] = Process(
                sys.executable, "-c", VIPS_SOBEL, source, folder / f"vips{suffix}"
            )
        if float(megapixels) <= 12:  # beyond, they take minutes
            peers |= {
                **optional("ImageMagick", "convert", source, "-define", "convolve:scale=!",
                           "-morphology", "Convolve", "Sobel:0", folder / f"magick{suffix}"),
                **optional("GraphicsMagick", "gm", "convert", source, "-convolve",
                           "1,0,-1,2,0,-2,1,0,-1", folder / f"gm{suffix}"),
            }  # fmt: skip
        if megapixels == "0.25":
            peers["Numba's cache"] = Process(
                sys.executable, Path(__file__).with_name("numba_cache.py"), source,
                folder / "cached.png", NUMBA_CACHE_DIR=str(folder / "numba"),
            )  # fmt: skip
        row = f"{megapixels} MP {suffix[1:].upper()} → sobel → {suffix[1:].upper()}"
        yield Case("whole process", row, peers, target=goal)
    source = photo_file(folder, sizes[-1])
    yield Case(
        "whole process", f"{sizes[-1]} MP PNG → three kernels → three PNG",
        {
            "imgconv": imgconv(
                "apply", "-k", "sobel-x", "-k", "sobel-y", "-k", "laplacian", "--scale", "clip",
                source, "-o", f"{folder}/three/",
            ),
            "libvips": Process(sys.executable, "-c", VIPS_THREE, source, folder / "three-vips"),
        },
    )  # fmt: skip


def growth(folder: Path, sizes: Sequence[str]) -> Iterator[Case]:
    """Time per pixel of whole processes against pixels."""
    for megapixels in sizes:
        source = photo_file(folder, megapixels)
        yield Case(
            "growth of whole processes with pixels", f"{megapixels} MP PNG → sobel → PNG",
            {
                "imgconv": imgconv(
                    "apply", "-k", "sobel", source, "-o", folder / "ours.png",
                    "--max-pixels", "1000000000",
                ),
                "libvips": Process(sys.executable, "-c", VIPS_SOBEL, source, folder / "vips.png"),
            },
            x=float(megapixels),
        )  # fmt: skip


def starts(folder: Path) -> Iterator[Case]:
    bare = Process(sys.executable, "-c", "import click")
    yield Case(
        "start", "imgconv --help",
        {"imgconv": Process(SCRIPTS / "imgconv", "--help"), "python + click": bare},
    )  # fmt: skip
    store = folder / "cold-store"
    source = photo_file(folder, "0.25")

    run = Process(
        SCRIPTS / "imgconv", "apply", "-k", "sobel", source, "-o", folder / "cold.png",
        "--overwrite", IMGCONV_STORE=str(store),
    )  # fmt: skip

    def cold() -> Any:
        shutil.rmtree(store, ignore_errors=True)
        return run()

    yield Case("start", "first run ever, 0.25 MP sobel", {"imgconv": cold}, limit=3000)


def batches(folder: Path, counts: Sequence[int]) -> Iterator[Case]:
    """Time per file against files; up to a hundred also with one process a file.

    More would tell the same: every process does what the one before did.
    """
    one = photo_file(folder, "0.25")
    for count in counts:
        source, target = folder / f"batch-{count}", folder / f"batch-{count}-out"
        target.mkdir(parents=True, exist_ok=True)
        if not source.exists():
            source.mkdir()
            for number in range(count):
                shutil.copy(one, source / f"{number:04}.png")
        loop = Path(__file__).with_name("vips_batch.py")
        peers = {
            "imgconv": imgconv("apply", "-k", "sobel", source, "--recursive", "-o", f"{target}/"),
            "pyvips, two workers": Process(sys.executable, loop, source, target),
        }
        goal = {"pyvips, two workers": 0.8}
        if count == max(number for number in counts if number <= 100):
            peers["a libvips process a file, two at once"] = each(source, target)
            goal["a libvips process a file, two at once"] = 0.2
        yield Case(
            "growth with files", f"{count:,} files of 512×512", peers, target=goal, x=float(count)
        )


def each(source: Path, target: Path) -> Callable[[], Any]:
    """One process a file, two at once."""

    def run() -> None:
        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(
                lambda path: Process(sys.executable, "-c", VIPS_SOBEL, path, target / path.name)(),
                source.iterdir(),
            ):
                pass

    return run
