"""Minimized corpora, one archive a target: what long runs of the fuzzer found worth keeping.

python -m tests.fuzz.corpus pack kernel FOLDER      after -merge=1 FOLDER
python -m tests.fuzz.corpus unpack kernel FOLDER    to go on from there
"""

import sys
import zipfile
from pathlib import Path

CORPORA = Path(__file__).parent / "corpora"


def inputs_of(name):
    """The inputs of a target, none where no corpus is kept."""
    path = CORPORA / f"{name}.zip"
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as archive:
        return [archive.read(member) for member in archive.namelist()]


def pack(name, folder):
    """Archive a folder's files by size, under numbers and without dates."""
    inputs = sorted((path.read_bytes() for path in folder.iterdir()), key=lambda d: (len(d), d))
    CORPORA.mkdir(exist_ok=True)
    with zipfile.ZipFile(CORPORA / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, data in enumerate(inputs):
            archive.writestr(zipfile.ZipInfo(f"{number:04}"), data, zipfile.ZIP_DEFLATED)


def unpack(name, folder):
    """Write a target's inputs into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs_of(name)):
        (folder / f"corpus-{number:04}").write_bytes(data)


if __name__ == "__main__":
    {"pack": pack, "unpack": unpack}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
