"""Fuzz one target with atheris: python -m tests.fuzz.run TARGET [libFuzzer options] [CORPUS…]

Needs the extra `fuzz`. For example ten minutes on the PNG reader, new inputs kept in /tmp/png:

    python -m tests.fuzz.make_seeds /tmp/seeds && mkdir -p /tmp/png
    python -m tests.fuzz.run png -max_total_time=600 /tmp/png /tmp/seeds/png

Minimize what was found with `-merge=1 EMPTY_FOLDER /tmp/png`, and keep it by `tests.fuzz.corpus`.
"""

import os
import sys

os.environ.setdefault("IMGCONV_QUIET", "1")

import importlib
import pkgutil

import atheris

import imgconv.ops

# Before instrumentation: Numba compiles the loops in there, and could not with atheris's calls.
for module in pkgutil.walk_packages(imgconv.ops.__path__, "imgconv.ops."):
    importlib.import_module(module.name)
with atheris.instrument_imports(include=["imgconv"]):
    import imgconv.cli.commands.repeat
    import imgconv.io.codecs.netpbm
    import imgconv.io.codecs.pillow
    import imgconv.io.metadata.reading
    import imgconv.io.metadata.scientific
    import imgconv.io.metadata.tiff
    import imgconv.io.png.reader
    import imgconv.io.reading
    import imgconv.io.tiff.pages
    import imgconv.io.tiff.reader
    import imgconv.io.writing
    import imgconv.io.zarr.arrays
    import imgconv.kernels.files
    import imgconv.nn.chain
    import imgconv.nn.checkpoint
    import imgconv.nn.onnx
    import imgconv.nn.user
    import imgconv.nn.weights
    import imgconv.npy
    import imgconv.pipeline.records.origin
    import imgconv.pipeline.records.record
    import imgconv.pipeline.rerun
    import imgconv.safetensors
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Hand libFuzzer the rest of the command line."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"expected one of {', '.join(TARGETS)}")
    name = sys.argv.pop(1)
    options = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=4096"]
    # What libFuzzer starts for -merge and -jobs, by a shell.
    again = f"{sys.executable} -m tests.fuzz.run {name}"
    atheris.Setup([again, *options, *sys.argv[1:]], TARGETS[name])
    atheris.Fuzz()


main()
