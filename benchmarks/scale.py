"""Large images in bands and whole, and batches of small files by one machine and by a cluster."""

import importlib.util
import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.data import SIZES, photo, photo_file
from benchmarks.files import imgconv
from benchmarks.measure import Case

KERNELS = ("sobel", "gaussian:sigma=5", "disk:radius=15")


def large(folder: Path, sizes: Sequence[str]) -> Iterator[Case]:
    """TIFF to TIFF, with a quarter of the memory that filtering whole takes and with more."""
    for megapixels, kernel in itertools.product(sizes, KERNELS):
        source = photo_file(folder, megapixels, ".tif")
        height, width = SIZES[megapixels]
        run = ("apply", "-k", kernel, source, "-o", folder / "large.tif", "--memory")
        yield Case(
            "large images in bands", f"{megapixels} MP RGB, {kernel}",
            {
                "imgconv": imgconv(*run, str(height * width * 3 * 6 // 4)),
                "imgconv, whole": imgconv(*run, "64G", "--max-pixels", "1000000000"),
            },
            target={"imgconv, whole": 1.25},
        )  # fmt: skip


def batches(folder: Path, counts: Sequence[int]) -> Iterator[Case]:
    """Files of 64×64, of which almost all of the time is what a file costs beside its pixels."""
    from PIL import Image

    tile = Image.fromarray(photo("0.25")[:64, :64])
    for count in counts:
        source, names = folder / f"small-{count}", folder / f"small-{count}.txt"
        if not source.exists():
            source.mkdir()
            tile.save(folder / "small.png")
            paths = [source / f"{number:06}.png" for number in range(count)]
            for path in paths:
                shutil.copy(folder / "small.png", path)
            names.write_text("".join(f"{path}\n" for path in paths))
        run = ("apply", "-k", "sobel", "--files-from", names, "-o", f"{folder}/small-out/")
        peers = {"imgconv": imgconv(*run)}
        peers["with a ledger"] = imgconv(*run, "--ledger", folder / "small.sqlite")
        if importlib.util.find_spec("distributed"):
            for workers in (1, 2):
                peers[f"a cluster of {workers}"] = imgconv(*run, "--cluster", f"local:{workers}")
        yield Case("batches of small files", f"{count:,} files of 64×64", peers, x=float(count))
