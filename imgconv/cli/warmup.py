"""`imgconv warmup`."""

from typing import Any

import click


@click.command()
def warmup() -> None:
    """Compile the loops of the common commands now, so that the first filter is quick."""
    import itertools

    import numpy as np

    from imgconv.bank import get_kernel
    from imgconv.compute.filtering import filter_image
    from imgconv.images import png

    names = ("sobel", "kirsch", "gaussian-3", "gaussian:sigma=2", "box:size=9", "sharpen")
    dtypes: tuple[Any, ...] = (np.uint8, np.uint16, np.float32)
    for name, dtype, channels in itertools.product(names, dtypes, (1, 3)):
        kernel = get_kernel(name)
        image = np.zeros((64, 64, channels), dtype)
        for out in {np.dtype(dtype), np.dtype(np.float32)}:
            filter_image(image, kernel.effective_weights(), combine=kernel.combine, out_dtype=out)
    for dtype, channels in itertools.product(dtypes[:2], (1, 2, 3, 4)):
        pixels = np.random.default_rng(0).integers(0, 255, (64, 64, channels)).astype(dtype)
        for level in ("fast", "small"):
            data = b"".join(png.encode(pixels, alpha=channels in (2, 4), compress=level))
            png.decode(data)
    click.echo("compiled", err=True)
