"""Make tests/goldens/missing.npz: what astropy.convolution makes of images with NaN.

pip install astropy==8.0.2 && python -m tests.goldens.make_missing
"""

from pathlib import Path

import astropy
import numpy as np
from astropy.convolution import convolve

BOUNDARIES = {"zeros": "fill", "replicate": "extend", "circular": "wrap"}


def main() -> None:
    generator = np.random.default_rng(0)
    image = np.round(generator.normal(100, 30, (23, 29)), 3)
    image[generator.random(image.shape) < 0.15] = np.nan
    image[5:12, 8:17] = np.nan
    found = {"astropy": np.array(astropy.__version__), "image": image}
    kernels = {
        "mean": np.full((3, 3), 1 / 9),
        "weighted": np.arange(1, 36.0).reshape(5, 7),
        "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0.0]]),
    }
    for name, kernel in kernels.items():
        found[name] = kernel
        for mode, boundary in BOUNDARIES.items():
            # It is true convolution, and leaves a sum of zero for us to judge.
            found[f"{name} {mode}"] = convolve(
                image, kernel[::-1, ::-1], boundary=boundary, nan_treatment="interpolate",
                normalize_kernel=False,
            )  # fmt: skip
    np.savez_compressed(Path(__file__).with_name("missing.npz"), **found)


if __name__ == "__main__":
    main()
