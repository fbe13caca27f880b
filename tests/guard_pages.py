"""Run compiled loops on arrays that lie between pages which nobody may touch.

    python -m tests.guard_pages after|before [beyond]

A loop that reads or writes one byte past the end (`after`) or before the start (`before`) of an
array ends the process by SIGSEGV. `beyond` reads such a byte on purpose.
"""

import ctypes
import itertools
import mmap
import sys
import weakref

import numpy as np

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PAGE = mmap.PAGESIZE
SIZES = ((120, 97), (33, 64), (7, 5), (1, 1))
KERNELS = (
    "sobel-x", "box:size=3", "gaussian:sigma=1", "gaussian:sigma=4", "gabor:theta=30,lambda=8",
    "box:size=31",
)  # fmt: skip


class Guarded:
    """Stands in for numpy.empty and numpy.zeros; `after` says which end touches a guard page."""

    def __init__(self, after):
        self.after, self.plain = after, np.empty

    def empty(self, shape, dtype=float, order="C", **more):
        dtype = np.dtype(dtype)
        shape = tuple(shape) if np.iterable(shape) else (shape,)
        count = dtype.itemsize * int(np.prod(shape, dtype=object))
        if count == 0 or dtype.hasobject or order != "C":
            return self.plain(shape, dtype, order, **more)
        size = -(-count // PAGE) * PAGE
        start = LIBC.mmap(
            None, size + 2 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE,
            mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0,
        )  # fmt: skip
        for page in (start, start + PAGE + size):
            assert LIBC.mprotect(page, PAGE, 0) == 0
        place = start + PAGE + (size - count if self.after else 0)
        memory = (ctypes.c_char * count).from_address(place)
        weakref.finalize(memory, LIBC.munmap, start, size + 2 * PAGE)
        return np.ndarray(shape, dtype, memory)

    def zeros(self, shape, dtype=float, **more):
        made = self.empty(shape, dtype, **more)
        made[...] = 0
        return made

    def copy(self, array):
        made = self.empty(array.shape, array.dtype)
        made[...] = array
        return made


def loops(guarded):
    """Filter, convolve, pool, encode and decode crops of a photo, every type and size."""
    from skimage import data

    from imgconv.io.png import reader as png_reader
    from imgconv.io.png import writer as png_writer
    from imgconv.jit import parallel
    from imgconv.kernels import get_kernel
    from imgconv.ops.conv import conv2d
    from imgconv.ops.filter import filter_image
    from imgconv.ops.pool import avg_pool2d, max_pool2d

    parallel.set_num_threads(2)
    generator = np.random.default_rng(1)
    kernels = [get_kernel(spec).effective_weights() for spec in KERNELS]
    kernels.append(generator.normal(size=(1, 1, 7, 7)))
    weight = guarded.copy(generator.normal(size=(8, 3, 3, 3)).astype(np.float32))
    many = guarded.copy(generator.normal(size=(200, 3, 3, 3)).astype(np.float32))
    photo = data.astronaut()
    for (height, width), dtype in itertools.product(SIZES, (np.uint8, np.uint16, np.float32)):
        pixels = guarded.copy(photo[:height, :width].astype(dtype))
        for weights, out in itertools.product(kernels, (dtype, np.float32)):
            # Repeated borders: a window may be larger than the image.
            filter_image(pixels, weights, padding_mode="replicate", out_dtype=out)
        if dtype != np.float32:
            made = b"".join(png_writer.encode(pixels, compress="fast"))
            np.testing.assert_array_equal(png_reader.decode(made).pixels, pixels)
            continue
        maps = guarded.copy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        conv2d(maps, weight, padding=1)
        planes = guarded.copy(np.concatenate([maps] * 6))
        for size in (3, 5, 7):
            bank = guarded.copy(generator.normal(size=(18, 1, size, size)).astype(np.float32))
            conv2d(planes, bank, padding=size // 2, groups=18)
        four = guarded.copy(np.stack([maps] * 4))
        for stride, sides in itertools.product((2, 4), (1, 0)):
            if sides or min(height, width) >= 3:
                conv2d(four, many, stride=stride, padding=sides)
        for pool, size in itertools.product((max_pool2d, avg_pool2d), (2, 3)):
            pool(maps, size, 2, padding=1)


def main():
    side, *beyond = sys.argv[1:]
    guarded = Guarded(side == "after")
    if beyond:
        array = guarded.zeros(3, np.uint8)
        ctypes.c_char.from_address(array.ctypes.data + (3 if side == "after" else -1)).value  # noqa: B018
    np.empty, np.zeros = guarded.empty, guarded.zeros
    loops(guarded)
    print("within")


if __name__ == "__main__":
    main()
