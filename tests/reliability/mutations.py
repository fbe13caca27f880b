"""Take each protection away and see that its row's test notices.

    python -m tests.reliability.mutations [ROW…]

Works on a copy of the checkout, whose tests have to pass at first. Then for each entry one text of
one file is replaced, and the row's tests are run: they have to fail. The exit code is 1 when nobody
misses a protection.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Mutation(NamedTuple):
    """What stands in a file, what stands there instead, and the tests that have to fail."""

    row: int
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = (
    Mutation(2, "imgconv/images/png_chunks.py",
             "if position > size:\n            raise ImageError(",
             "if position > size:\n            return\n            raise ImageError(", "row_02"),
    Mutation(4, "imgconv/images/png_reader.py",
             "if max_pixels is not None and header.width * header.height > max_pixels:",
             "if False:", "row_04"),
    Mutation(5, "imgconv/batch/filtering.py", "if size[0] * size[1] > limit:", "if False:",
             "row_05 and pooled"),
    Mutation(5, "imgconv/compute/convolution.py",
             "min(self.stride[0], padded[0]), min(self.stride[1], padded[1])",
             "self.stride", "row_05 and steps"),
    Mutation(7, "imgconv/images/reading.py", "    if orientation != 1:", "    if False:", "row_07"),
    Mutation(13, "imgconv/bank/text.py", "if len(row) != width:", "if False:", "row_13"),
    Mutation(14, "imgconv/npy.py",
             "if dtype.hasobject:\n        raise ArrayFileError(f\"{name}: holds pickled Python "
             "objects, which are never loaded\")\n    if dtype.str[1:] not in _KINDS:",
             "if False:", "row_14"),
    Mutation(16, "imgconv/networks/onnx/reading.py", "if not location or not inside:", "if False:",
             "row_16"),
    Mutation(18, "imgconv/images/publish.py", "            os.unlink(self._temporary)",
             "            pass", "row_18"),
    Mutation(18, "imgconv/images/publish.py",
             "os.fsync(self._file.fileno())\n            self._file.close()\n            if",
             "self._file.close()\n            if", "row_18"),
    Mutation(20, "imgconv/batch/runner.py", "    except ImgconvError as error:\n        return",
             "    except ZeroDivisionError as error:\n        return", "row_20"),
    Mutation(22, "imgconv/cli/boundary.py", "    if text.isprintable():", "    if True:", "row_22"),
    Mutation(24, "imgconv/compute/store.py",
             "status.st_uid == os.geteuid() and not status.st_mode & 0o022", "bool(status)",
             "row_24"),
    Mutation(24, "imgconv/compute/store.py",
             "code if blake2b(code, digest_size=32).digest() == checksum else None", "code",
             "row_24"),
    Mutation(28, "imgconv/pictures/report/page.py", 'return escape("".join(',
             'return ("".join(', "row_28"),
)  # fmt: skip


def passes(tests, folder):
    """Whether the tests that an expression selects pass in a folder."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
         "tests/reliability", "-k", tests, "-m", "not slow and not cluster"],
        cwd=folder, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip
    assert result.returncode in (0, 1), result.stdout[-2000:]
    return result.returncode == 0


def noticed(mutation, folder):
    """Whether the tests fail once the protection is gone; the file is put right again."""
    path = folder / mutation.file
    whole = path.read_text()
    assert whole.count(mutation.old) == 1, f"{mutation.file}: {mutation.old!r} is not there once"
    path.write_text(whole.replace(mutation.old, mutation.new))
    try:
        return not passes(mutation.tests, folder)
    finally:
        path.write_text(whole)


def main():
    wanted = set(map(int, sys.argv[1:]))
    missed = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "copy")
        copytree(ROOT, folder, ignore=ignore_patterns(".git", "__pycache__", "*.pyc"))
        chosen = [one for one in MUTATIONS if not wanted or one.row in wanted]
        if not passes(" or ".join(f"({one.tests})" for one in chosen), folder):
            sys.exit("the tests fail before any change")
        for mutation in chosen:
            good = noticed(mutation, folder)
            missed += not good
            verdict = "noticed" if good else "MISSED"
            print(f"row {mutation.row}: {mutation.file}: {verdict}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
