"""Filtering, blurring and pooling in memory against OpenCV, SciPy and PyTorch."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.data import photo
from benchmarks.measure import Case
from imgconv.ops.filter import filter_image
from imgconv.ops.pool import avg_pool2d, max_pool2d

KERNELS = (3, 5, 7, 11, 15, 31, 63)
TYPES = {"u8→u8": (np.uint8, np.uint8), "u8→f32": (np.uint8, np.float32),
         "u16→u16": (np.uint16, np.uint16), "f32→f32": (np.float32, np.float32)}  # fmt: skip


def dense(size: int) -> Any:
    """A kernel of full rank without zeros, its absolute sum 1, so that u8 does not saturate."""
    weights = np.random.default_rng(size).normal(size=(size, size))
    return weights / np.abs(weights).sum()


def filters(megapixels: str, kernels: Sequence[int] = KERNELS) -> Iterator[Case]:
    import cv2

    image = photo(megapixels)
    for size in kernels:
        weights = dense(size)
        for name, (source, target) in TYPES.items():
            pixels = image.astype(source)
            depth = {np.uint8: cv2.CV_8U, np.uint16: cv2.CV_16U}.get(target, cv2.CV_32F)
            peers = {
                "imgconv": lambda p=pixels, w=weights, t=target: filter_image(
                    p, w[None, None], padding_mode="reflect", out_dtype=t
                ),
                "OpenCV": lambda p=pixels, w=weights, d=depth: cv2.filter2D(
                    p, d, w, borderType=cv2.BORDER_REFLECT_101
                ),
            }
            if size == 3 and name == "f32→f32":
                from scipy import ndimage

                peers["SciPy"] = lambda p=pixels, w=weights: ndimage.correlate(
                    p, w[..., None], mode="mirror"
                )
            goal = {"OpenCV": 1.0 if size == 63 else 0.5}
            yield Case("dense kernels", f"{size}×{size} {name}", peers, target=goal, x=size)


def gaussians(megapixels: str) -> Iterator[Case]:
    import cv2

    from imgconv.kernels import get_kernel

    image = photo(megapixels)
    for sigma in (1, 2, 5, 10):
        weights = get_kernel(f"gaussian:sigma={sigma}").effective_weights()
        side = weights.shape[-1]
        for name, (source, target) in TYPES.items():
            if name == "u8→f32":
                continue
            pixels = image.astype(source)
            yield Case(
                "Gaussian", f"σ={sigma} ({side}×{side}) {name}",
                {
                    "imgconv": lambda p=pixels, w=weights, t=target: filter_image(
                        p, w, out_dtype=t
                    ),
                    "OpenCV": lambda p=pixels, k=side, s=sigma: cv2.GaussianBlur(p, (k, k), s),
                },
                target={"OpenCV": 0.5}, x=sigma,
            )  # fmt: skip


def pools(megapixels: str) -> Iterator[Case]:
    import torch
    import torch.nn.functional as functional

    maps = np.ascontiguousarray(photo(megapixels).transpose(2, 0, 1)).astype(np.float32)
    tensor = torch.from_numpy(maps)[None]
    for size in (2, 3):
        for name, ours, theirs in (
            ("max", max_pool2d, functional.max_pool2d),
            ("average", avg_pool2d, functional.avg_pool2d),
        ):
            yield Case(
                "pooling", f"{name} {size}×{size}/2",
                {
                    "imgconv": lambda f=ours, k=size: f(maps, k, 2),
                    "PyTorch": lambda f=theirs, k=size: f(tensor, k, 2),
                },
                target={"PyTorch": 0.5},
            )  # fmt: skip


def boxes(megapixels: str) -> Iterator[Case]:
    """Time against size, which running sums do not know; OpenCV's filter2D and its own box."""
    import cv2

    image = photo(megapixels)
    for size in (5, 15, 31, 63):
        weights = np.full((size, size), 1 / size**2)
        yield Case(
            "box", f"{size}×{size} u8→u8",
            {
                "imgconv": lambda w=weights: filter_image(
                    image, w[None, None], out_dtype=np.uint8
                ),
                "OpenCV filter2D": lambda w=weights: cv2.filter2D(image, cv2.CV_8U, w),
                "OpenCV blur": lambda k=size: cv2.blur(image, (k, k)),
            },
            target={"OpenCV filter2D": 0.5}, x=size,
        )  # fmt: skip


def growth(sizes: Sequence[str]) -> Iterator[Case]:
    """Time per pixel against pixels."""
    import cv2

    for megapixels in sizes:
        image = photo(megapixels, gray=True)
        weights = dense(5)
        yield Case(
            "growth with pixels", f"{megapixels} MP gray, 5×5 u8→u8",
            {
                "imgconv": lambda p=image[..., None], w=weights[None, None]: filter_image(
                    p, w, out_dtype=np.uint8
                ),
                "OpenCV": lambda p=image, w=weights: cv2.filter2D(
                    p, cv2.CV_8U, w, borderType=cv2.BORDER_REFLECT_101
                ),
            },
            x=float(megapixels),
        )  # fmt: skip
