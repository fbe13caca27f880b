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
    marks: str = "not slow and not cluster"


MUTATIONS = (
    Mutation(1, "imgconv/io/codecs/pillow.py", "        except broken as error:",
             "        except ZeroDivisionError as error:", "row_01 and own_broken"),
    Mutation(1, "imgconv/npy.py", "if _ODD.search(written):", "if False:", "row_01 and own_broken"),
    Mutation(2, "imgconv/io/png/chunks.py",
             "if position > size:\n            raise ImageError(",
             "if position > size:\n            return\n            raise ImageError(", "row_02"),
    Mutation(3, "imgconv/io/png/chunks.py",
             "if codec.crc32(data[start - 4 : stop]) != stored:", "if False:", "row_03"),
    Mutation(4, "imgconv/io/png/reader.py",
             "if max_pixels is not None and header.width * header.height > max_pixels:",
             "if False:", "row_04"),
    Mutation(5, "imgconv/pipeline/recipe.py", "if size[0] * size[1] > limit:", "if False:",
             "row_05 and pooled"),
    Mutation(5, "imgconv/ops/window.py",
             "min(self.stride[0], padded[0]), min(self.stride[1], padded[1])",
             "self.stride", "row_05 and steps"),
    Mutation(6, "imgconv/io/reading.py",
             "        if kind is None:\n            raise",
             "        if kind is None:\n            from PIL import Image as Pillow\n\n"
             "            try:\n                Pillow.open(opened.file(limit)).load()\n"
             "            except Exception:\n                pass\n            raise", "row_06"),
    Mutation(7, "imgconv/io/codecs/orientation.py",
             "    if orientation != 1:", "    if False:", "row_07"),
    Mutation(8, "imgconv/io/codecs/pillow.py", '"PA": "RGBA",', '"PA": "PA",', "row_08"),
    Mutation(8, "imgconv/io/tiff/samples.py", 'np.dtype(f"{order}{', 'np.dtype(f"{',
             "row_08"),
    Mutation(9, "imgconv/io/codecs/pillow.py", 'mode not in ("CMYK", "YCbCr", "HSV")', "True",
             "row_09"),
    Mutation(9, "imgconv/pipeline/recipe.py",
             "return not (self.needs_gray() or self.read.linear or self.sheet)", "return True",
             "row_09"),
    Mutation(10, "imgconv/io/codecs/decoder.py", "* (count > 1)", "* 0", "row_10"),
    Mutation(10, "imgconv/io/codecs/decoder.py", "if self.wanted >= count:", "if False:", "row_10"),
    Mutation(11, "imgconv/jit/loop.py",
             "        value = value if value < high else type(value)(high)\n", "", "row_11"),
    Mutation(12, "imgconv/io/codecs/arrays.py", "if 0 in shape:", "if False:", "row_12"),
    Mutation(12, "imgconv/ops/borders.py",
             "places %= period\n        return np.minimum(places, period - places)",
             "return np.minimum(np.abs(places), period - places)", "row_12"),
    Mutation(12, "imgconv/shapes.py", "if steps < 0:", "if False:", "row_12"),
    Mutation(13, "imgconv/kernels/text.py", "if len(row) != width:", "if False:", "row_13"),
    Mutation(13, "imgconv/toml.py", "value.bit_length() >= _BITS", "False", "row_13"),
    Mutation(13, "imgconv/nn/user.py", "if size[1] * size[2] > MAX_PIXELS:", "if False:",
             "row_13 and networks"),
    Mutation(13, "imgconv/nn/user.py",
             "if not (place / name).resolve().is_relative_to(place.resolve()):", "if False:",
             "row_13 and networks"),
    Mutation(13, "imgconv/nn/labels.py", "len(network.labels) != classes", "False",
             "row_13 and networks"),
    Mutation(13, "imgconv/nn/preprocess.py", "if not np.isfinite(numbers).all():", "if False:",
             "row_13 and networks"),
    Mutation(14, "imgconv/npy.py",
             "if dtype.hasobject:\n        raise ArrayFileError(f\"{name}: holds pickled Python "
             "objects, which are never loaded\")\n    if dtype.str[1:] not in _KINDS:",
             "if False:", "row_14"),
    Mutation(15, "imgconv/npy.py", "if declared.size > len(data):", "if False:",
             "row_01 or row_13_and_15"),
    Mutation(15, "imgconv/safetensors.py", "length > min(MAX_HEADER, size - 8)", "False",
             "row_13_and_15"),
    Mutation(15, "imgconv/safetensors.py", "if start != position:", "if False:", "row_13_and_15"),
    Mutation(16, "imgconv/nn/onnx/reading.py", "if not location or not inside:", "if False:",
             "row_16"),
    Mutation(16, "imgconv/nn/models/base.py", "if shape[0] != 1 or", "if", "row_16 and axis"),
    Mutation(16, "imgconv/pipeline/networks/outputs.py", "(1, value[0] * value[1], *value[2:])",
             "value", "row_16 and axis"),
    Mutation(16, "imgconv/nn/onnx/indexing.py", "if how not in _JOINS:", "if False:",
             "row_16 and reduction"),
    Mutation(16, "imgconv/nn/models/base.py", "if not likely.max(initial=-np.inf) < np.inf:",
             "if False:", "row_16 and scores"),
    Mutation(16, "imgconv/cli/exit_codes.py", "if not sys.warnoptions:", "if False:",
             "row_16 and scores"),
    Mutation(17, "imgconv/cli/exit_codes.py", "except (BrokenPipeError, SystemExit):",
             "except ZeroDivisionError:", "row_17"),
    Mutation(17, "imgconv/cli/exit_codes.py", "        _hold_standard_streams()\n",
             "        pass\n", "row_17"),
    Mutation(17, "imgconv/cli/exit_codes.py", "            error.filename = STDOUT\n", "",
             "row_17"),
    Mutation(17, "imgconv/cli/exit_codes.py", "if error.filename == STDOUT:",
             "if error.filename in (STDOUT, None):", "row_17 and name"),
    Mutation(17, "imgconv/io/publish/pieces.py",
             "if error.errno is None:  # an encoder's", "if True:", "row_17 and name"),
    Mutation(18, "imgconv/io/publish/staged.py", "            os.unlink(self._temporary)",
             "            pass", "row_18"),
    Mutation(18, "imgconv/io/publish/staged.py",
             "to_disk(self._file.fileno())\n            self._file.close()\n            if",
             "self._file.close()\n            if", "row_18"),
    Mutation(18, "imgconv/io/publish/staged.py", "if error.errno not in _NOT_THERE:", "if True:",
             "row_18 and fsync"),
    Mutation(18, "imgconv/batch/ledger.py", 'raise OutputError(f"{self.path}: ledger: {error}")',
             'raise OutputError("ledger")', "row_18 and ledger"),
    Mutation(19, "imgconv/cli/exit_codes.py", "                signal.signal(number, _stop)",
             "                pass", "row_19"),
    Mutation(19, "imgconv/pipeline/outputs.py",
             "return skipping and is_complete(path, self.format(source, path).name)",
             "return skipping", "row_19"),
    Mutation(20, "imgconv/batch/runner.py", "    except Exception as error:\n        return",
             "    except ZeroDivisionError as error:\n        return", "row_20"),
    Mutation(21, "imgconv/batch/inputs.py",
             "with contextlib.closing(Claims(SpilledNames())) as claims:",
             "with contextlib.closing(Claims()) as claims:", "row_21", "slow"),
    Mutation(22, "imgconv/console.py", "    if text.isprintable():", "    if True:", "row_22"),
    Mutation(23, "imgconv/jit/cache.py",
             "    except OSError as error:\n        if temporary:",
             "    except ZeroDivisionError as error:\n        if temporary:", "row_23"),
    Mutation(23, "imgconv/jit/cache.py",
             "    if key not in _announced:\n        _announced.add(key)", "    if True:",
             "row_23"),
    Mutation(24, "imgconv/jit/cache.py",
             "status.st_uid == os.geteuid() and not status.st_mode & 0o022", "bool(status)",
             "row_24"),
    Mutation(24, "imgconv/jit/cache.py", "or not _trusted(status):", "or False:", "row_24"),
    Mutation(24, "imgconv/jit/cache.py",
             "code if _checksum(path, code) == checksum else None", "code", "row_24"),
    Mutation(24, "imgconv/jit/cache.py", "os.path.basename(path).encode() + code", "code",
             "row_24"),
    Mutation(25, "imgconv/jit/cache.py",
             'descriptor, temporary = tempfile.mkstemp(dir=place, prefix=".new-")',
             'temporary = f"{place}/.new"\n        descriptor = os.open(temporary, '
             "os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)", "row_25", "slow"),
    Mutation(26, "imgconv/batch/cluster/client.py", "if group.attempt < ATTEMPTS:", "if False:",
             "row_26", "cluster"),
    Mutation(26, "imgconv/pipeline/outputs.py",
             "or_same = bool(self.request.settings.batch.cluster)", "or_same = False", "row_26",
             "cluster"),
    Mutation(27, "imgconv/ops/algorithms/box.py",
             "    if not exact.is_integer(job.source.dtype, job.weights, job.fill):\n"
             "        return None\n", "", "row_27"),
    Mutation(27, "imgconv/ops/algorithms/select.py",
             'return int(_module("fourier").rows_of_tiles(job, offer))', "return 1", "row_27"),
    Mutation(34, "imgconv/jit/cache.py", "        _check_room()\n", "", "row_34 and addresses"),
    Mutation(34, "imgconv/threads.py", "    except (RuntimeError, MemoryError):",
             "    except ZeroDivisionError:", "row_34"),
    Mutation(34, "imgconv/batch/runner.py", "    except Exception as error:\n        return",
             "    except ImgconvError as error:\n        return", "row_34"),
    Mutation(36, "imgconv/jit/cache.py", '" ".join([*_architecture(), *', '" ".join([*',
             "row_36"),
    Mutation(36, "imgconv/jit/cache.py", "if not loader.may_execute():\n            raise",
             "if False:\n            raise", "row_36"),
    Mutation(36, "imgconv/batch/runner.py", "if isinstance(error, MachineError):", "if False:",
             "row_36"),
    Mutation(39, "imgconv/io/limits.py", "if passes * pixels > _PASSES * limit:", "if False:",
             "row_39 and work"),
    Mutation(39, "imgconv/io/tiff/reader.py", "if area > max(", "if False and area > max(",
             "row_39 and work"),
    Mutation(39, "imgconv/io/png/chunks.py", "if facts.profiles == 1 and", "if",
             "row_39 and beside"),
    Mutation(39, "imgconv/io/png/chunks.py", "if facts.text_size > 4 * _TEXT_LIMIT and",
             "if False and", "row_39 and beside"),
    Mutation(39, "imgconv/kernels/text.py", "    if lines > _MAX_LINES:", "    if False:",
             "row_39 and lists"),
    Mutation(39, "imgconv/kernels/files.py", "    if len(data) > MAX_TEXT:", "    if False:",
             "row_39 and lists"),
    Mutation(39, "imgconv/io/limits.py",
             "while (room := limit + 1 - content.tell()) > 0 and (piece",
             "while (room := limit + 1) > 0 and (piece", "row_39 and standard_input"),
    Mutation(39, "imgconv/io/limits.py", "    if size > limit:", "    if False:",
             "row_39 and networks"),
    Mutation(40, "imgconv/parts.py", "    if got < count:", "    if False:", "row_40"),
    Mutation(40, "imgconv/parts.py", "    part = np.empty(count, np.uint8)\n",
             "    return np.memmap(file, np.uint8, 'r')[start : start + count]\n", "row_40"),
    Mutation(41, "imgconv/threads.py", "{-8: 1, ", "{", "row_41"),
    Mutation(28, "imgconv/console.py", '"\\n".join(map(printable, str(text).split("\\n")))',
             "str(text)", "row_28"),
    Mutation(28, "imgconv/viz/report/page.py", 'return escape("".join(',
             'return ("".join(', "row_28"),
    Mutation(42, "imgconv/pipeline/records/origin.py",
             "return source if in_parts else opened.data(limit)", "return source",
             "row_42 and png"),
    Mutation(42, "imgconv/pipeline/records/origin.py",
             "if self._file and self._file != _status(self._source):", "if False:",
             "row_42 and tif"),
)  # fmt: skip


def passes(tests, marks, folder):
    """Whether the tests that two expressions select, of names and of marks, pass in a folder."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
         "tests/reliability", "-k", tests, "-m", marks],
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
        return not passes(mutation.tests, mutation.marks, folder)
    finally:
        path.write_text(whole)


def main():
    wanted = set(map(int, sys.argv[1:]))
    missed = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "copy")
        copytree(ROOT, folder, ignore=ignore_patterns(".*_cache", ".git", "__pycache__", "*.pyc"))
        chosen = [one for one in MUTATIONS if not wanted or one.row in wanted]
        for marks in sorted({one.marks for one in chosen}):
            tests = " or ".join(f"({one.tests})" for one in chosen if one.marks == marks)
            if not passes(tests, marks, folder):
                sys.exit(f"the tests fail before any change: {tests}")
        for mutation in chosen:
            good = noticed(mutation, folder)
            missed += not good
            verdict = "noticed" if good else "MISSED"
            print(f"row {mutation.row}: {mutation.file}: {verdict}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
