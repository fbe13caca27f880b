"""Make tests/goldens/magick.json: what ImageMagick's Correlate and Convolve give for kernel texts.

    apt-get install imagemagick && python -m tests.goldens.make_magick

Made with ImageMagick 6.9.11-60 Q16; the test suite only reads the file.
"""

import json
import subprocess
from pathlib import Path

import numpy as np

SIZE = (7, 6)
EDGES = {"edge": "replicate", "black": "zeros", "tile": "circular"}


def filtered(image, kernel, method, edge):
    """The bytes of an image under `convert -morphology`."""
    height, width = image.shape
    raw = ["-size", f"{width}x{height}", "-depth", "8", "gray:-"]
    words = ["convert", *raw, "-virtual-pixel", edge, "-morphology", method, kernel, *raw[2:]]
    result = subprocess.run(words, input=image.tobytes(), capture_output=True, check=True)
    assert not result.stderr, (kernel, result.stderr)
    return np.frombuffer(result.stdout, np.uint8).reshape(height, width)


def texts(rng):
    """Kernels of every side up to 4, with every origin, and without one."""
    for height, width in np.ndindex(4, 4):
        size = f"{width + 1}x{height + 1}"
        origins = [f"+{x}+{y}" for y, x in np.ndindex(height + 1, width + 1)]
        for origin in ["", *origins]:
            # Few and small numbers, so that no sum leaves a byte, which has no sign either.
            taps = rng.integers(0, 4, (height + 1) * (width + 1))
            yield f"{size}{origin}: {' '.join(map(str, taps))}"


def main():
    rng = np.random.default_rng(15)
    image = rng.integers(0, 6, SIZE).astype(np.uint8)
    cases = []
    for number, text in enumerate(texts(rng)):
        method, edge = ("Correlate", "Convolve")[number % 2], list(EDGES)[number % 3]
        found = filtered(image, text, method, edge).tolist()
        cases.append({"kernel": text, "flip": method == "Convolve", "mode": EDGES[edge],
                      "result": found})  # fmt: skip
    rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path = Path(__file__).with_name("magick.json")
    path.write_text(f'{{"image":{json.dumps(image.tolist())},"cases":[\n{rows}\n]}}\n')


if __name__ == "__main__":
    main()
