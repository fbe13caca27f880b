"""Sobel over a folder by pyvips with two worker processes: source folder, target folder."""

import sys
from multiprocessing import Pool
from pathlib import Path


def work(paths: tuple[str, str]) -> None:
    import pyvips

    pyvips.Image.new_from_file(paths[0]).sobel().write_to_file(paths[1], compression=1)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    with Pool(2) as pool:
        pool.map(work, [(str(path), str(target / path.name)) for path in source.glob("*.png")])
