"""TIFF frames to images: any sample type, any number of bands, strips or tiles, whole or in rows.

Tags are tifffile's. Strips and tiles are decoded one by one by `tiff_samples`, each on its own,
so that threads share them and large images come in bands; those that a sparse file leaves out are
nodata, or 0. Pictures of 8 bits in the codecs and colors that Pillow knows are left to Pillow.
"""

import math
import threading
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

import numpy as np

from imgconv.errors import ImageError, LimitError
from imgconv.io.image import Image, holder, rounded_note
from imgconv.io.limits import check_passes, scans_of
from imgconv.io.tiff import color as tiff_color
from imgconv.io.tiff import samples as tiff_samples
from imgconv.jit import parallel
from imgconv.typing import Array, Dtype

if TYPE_CHECKING:
    from tifffile import TiffPage

_PHOTOMETRIC, _ORIENTATION, _TILE_WIDTH, _INK_SET, _SUBSAMPLING, _ICC = (
    262, 274, 322, 332, 530, 34675,
)  # fmt: skip
# What libtiff in Pillow reads: CCITT, JPEG of both kinds, ThunderScan.
_PILLOW_CODECS = frozenset({2, 3, 4, 6, 7, 32771, 32809})
_WHITE_IS_ZERO, _GRAY, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR, _LAB, _ICC_LAB = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    9,
)
_LINEAR_RAW = 34892
_JPEG = frozenset({6, 7, 33007, 34892})
_TILES = 16  # of the limit of pixels in a tile of a small image
_UNASSOCIATED, _ASSOCIATED = 2, 1
# Photometric, samples and extras of 8-bit pictures that Pillow reads as they are.
_PLAIN = {(_GRAY, 1, ()), (_GRAY, 2, (2,)), (_RGB, 3, ()), (_RGB, 4, (2,))}


class TiffFrame:
    """One frame of a file: how its samples lie in strips or tiles, and what they mean.

    Parameters
    ----------
    page: tifffile's; depth: which slice of it. size: of the file. name: for messages.
    cmyk: keep inks, which become RGB otherwise.

    Raises ImageError for what cannot be: no size, chunks beyond the file's end.
    """

    def __init__(
        self, page: "TiffPage", depth: int, size: int, name: str, cmyk: bool = False
    ) -> None:
        self.page, self.name = page, name
        self.height, self.width = int(page.imagelength), int(page.imagewidth)
        self.samples = int(page.samplesperpixel)
        self.photometric = int(page.photometric) if _PHOTOMETRIC in page.tags else _GRAY
        self.compression = int(page.compression)
        self.planar = int(page.planarconfig) == 2 and self.samples > 1
        self.per_pixel = 1 if self.planar else self.samples
        self.order = page.parent.byteorder
        self.tiled = _TILE_WIDTH in page.tags
        self.bits, self.kind = self._kind_of_samples()
        self._depth, self._keep_inks = depth, cmyk
        self._lay_out()
        for chunk in self.chunks:
            if chunk and sum(chunk) > size:
                raise ImageError(
                    f"{name}: truncated TIFF: image data up to byte {sum(chunk)}, the file has "
                    f"{size}"
                )

    def _kind_of_samples(self) -> tuple[tuple[int, ...], str]:
        bits, form = self.page.bitspersample, self.page.sampleformat
        formats = set(form) if isinstance(form, tuple) else {int(form)}
        kind = {1: "u", 2: "i", 3: "f", 4: "u"}.get(min(formats), "")
        widths = tuple(map(int, bits)) if isinstance(bits, tuple) else (int(bits),) * self.samples
        held = {"u": range(1, 33), "i": (8, 16, 32, 64), "f": (16, 24, 32, 64)}.get(kind, ())
        whole = all(width in held or (kind == "u" and width == 64) for width in widths)
        mixed = len(set(widths)) > 1 and (kind != "u" or self.planar or max(widths) > 16)
        if len(formats) > 1 or not kind or not whole or mixed or len(widths) != self.samples:
            shown = "/".join(map(str, sorted(set(widths))))
            raise ImageError(
                f"{self.name}: TIFF with samples of {shown} bits and sample format "
                f"{'/'.join(map(str, sorted(formats)))} cannot be read without loss"
            )
        return widths, kind

    def _lay_out(self) -> None:
        page, name = self.page, self.name
        if self.tiled:
            self.rows, self.columns = int(page.tilelength), int(page.tilewidth)
            slices = max(1, int(page.tiledepth))
        else:
            self.rows, self.columns = min(int(page.rowsperstrip), self.height), self.width
            slices = 1
        if min(self.height, self.width, self.samples, self.rows, self.columns) < 1:
            raise ImageError(f"{name}: broken TIFF: a size of zero")
        if self.samples > 65535 or self.columns > 4 * self.width + 65536:
            raise ImageError(f"{name}: broken TIFF: tiles of {self.columns} columns")
        self.across = math.ceil(self.width / self.columns)
        self.down = math.ceil(self.height / self.rows)
        self.within = self._depth % slices  # slice of a tile that holds several
        self.slices = slices
        planes = self.samples if self.planar else 1
        layers = math.ceil(max(1, int(page.imagedepth)) / slices)
        layer, area = self._depth // slices, self.across * self.down
        offsets, counts = page.dataoffsets, page.databytecounts
        needed = area * layers * planes
        if min(len(offsets), len(counts)) < needed:
            raise ImageError(
                f"{name}: broken TIFF: {min(len(offsets), len(counts))} strips or tiles, expected "
                f"{needed}"
            )
        self.chunks: list[tuple[int, int] | None] = []
        self.numbers: list[int] = []  # each chunk's place in the page's list
        for plane in range(planes):
            first = (plane * layers + layer) * area
            self.numbers += range(first, first + area)
            pairs = zip(offsets[first : first + area], counts[first : first + area], strict=True)
            self.chunks += [(int(o), int(c)) if o > 0 and c > 0 else None for o, c in pairs]

    @property
    def stored(self) -> Dtype:
        """The type that holds the samples unscaled."""
        width = max(self.bits)
        if self.kind == "f":
            return np.dtype(f"f{4 if width == 24 else width // 8}")
        return np.dtype(f"{self.kind}{next(n for n in (1, 2, 4, 8) if 8 * n >= width)}")

    @property
    def extras(self) -> tuple[int, ...]:
        """The meanings of the samples beyond the colors, as far as the file says them."""
        found = self.page.extrasamples
        return tuple(map(int, found if isinstance(found, Sequence) else (found,)))

    @property
    def _inks(self) -> bool:
        """Whether the samples are cyan, magenta, yellow, black, and what is beyond them."""
        inks = self.page.tags.valueof(_INK_SET, 1) == 1
        return self.photometric == _CMYK and inks and self.samples >= 4 and self.kind == "u"

    @property
    def shared(self) -> tuple[int, int]:
        """How many columns and rows of pixels share a color; 1 and 1 but in YCbCr."""
        if self.photometric != _YCBCR or self.compression not in tiff_samples.BYTE_CODECS:
            return 1, 1
        found = self.page.tags.valueof(_SUBSAMPLING, (2, 2))
        across, down = found if isinstance(found, tuple) and len(found) == 2 else (0, 0)
        if across not in (1, 2, 4) or down not in (1, 2, 4):
            raise ImageError(f"{self.name}: broken TIFF: a color for {across}×{down} pixels")
        return across, down

    @property
    def turned(self) -> bool:
        """Whether rows or columns of the picture are stored in another order."""
        return bool(self.page.tags.valueof(_ORIENTATION, 1) != 1)

    @property
    def for_pillow(self) -> bool:
        """Whether Pillow reads it, and without loss: 8-bit pictures of its own codecs or colors."""
        widths = set(self.bits)
        if self.kind != "u" or len(widths) > 1 or max(widths) > 8 or int(self.page.imagedepth) > 1:
            return False
        if None in self.chunks and tiff_samples.has_imagecodecs():
            return False
        simple = self.photometric in (_WHITE_IS_ZERO, _GRAY, _RGB, _MASK)
        if self.compression in _PILLOW_CODECS:
            return not simple or max(widths) in (1, 4, 8)
        convertible = self.photometric in (_LAB, _ICC_LAB) and self.samples == 3
        keeps_bytes = self.compression in tiff_samples.BYTE_CODECS
        return keeps_bytes and convertible and widths == {8} and not self.planar

    @property
    def quick_by_pillow(self) -> bool:
        """Whether Pillow reads the same samples, strips by one call: each costs 0.15 ms here."""
        meaning = self.samples, self.extras
        known = (self.photometric, *meaning) in _PLAIN
        whole = self.kind == "u" and set(self.bits) == {8} and None not in self.chunks
        at_once = self.compression in tiff_samples.BY_LIBTIFF and not self.planar
        return known and whole and at_once and int(self.page.imagedepth) <= 1

    def check_work(self, file: IO[bytes], max_pixels: int) -> None:
        """Raise LimitError for tiles far larger than the image, and for JPEGs of endless scans."""
        area = self.rows * self.columns * self.slices
        if area > max(self.height * self.width * self.slices, max_pixels // _TILES):
            raise LimitError(
                f"{self.name}: a tile of {self.columns}×{self.rows}×{self.slices} pixels in an "
                f"image of {self.width}×{self.height}; --max-pixels raises the limit"
            )
        if self.compression in _JPEG:
            passes = 0
            for start, count in set(filter(None, self.chunks)):
                file.seek(start)
                passes += scans_of(file.read(count))
            check_passes(self.name, passes, area, max_pixels)

    def check_amount(self, max_pixels: int) -> None:
        """Raise ImageError or LimitError where far more samples are declared than are there."""
        across, down = self.shared
        plain = self.bits == (8, 8, 8) and int(self.page.predictor) == 1
        if across * down > 1 and not (plain and not self.planar and self.rows % down == 0):
            raise ImageError(
                f"{self.name}: TIFF of YCbCr in {self.bits[0]} bits{' and planes' * self.planar} "
                f"with a color for {across}×{down} pixels is not read"
            )
        chunk = self.rows * self.columns * self.slices * sum(self.bits[: self.per_pixel]) // 8
        present = [held for held in self.chunks if held]
        total = self.height * self.width * self.samples
        share = len(present) / len(self.chunks)
        least = min(chunk * len(present), int(total * self.bits[0] // 8 * share))
        stored = sum(count for _, count in present)
        if across * down > 1:
            least = least * (across * down + 2) // (3 * across * down)
        # LZMA packs zeros about 7,000 to 1; nothing that is read here goes further.
        if least > 10_000 * stored or (self.compression == 1 and least > stored):
            raise ImageError(f"{self.name}: truncated TIFF: {least} bytes of samples from {stored}")
        if None in self.chunks and total > 4 * max_pixels:
            raise LimitError(
                f"{self.name}: a sparse TIFF of {total} samples is above the limit of "
                f"{4 * max_pixels} (4 for each of --max-pixels)"
            )

    def prepare(self) -> None:
        """Get ready to decode. Raises ImageError for a codec that is not there."""
        tiff_samples.check_codec(self.compression, self.name)
        if self.compression not in tiff_samples.BYTE_CODECS and tiff_samples.has_imagecodecs():
            self.page.decode  # noqa: B018 - made once, and not by several threads

    def image(self, file: IO[bytes]) -> Image:
        """Decode the frame. The caller has checked its declared size against the limit.

        Opacity that is premultiplied in the file (associated alpha) is divided out again.
        """
        self.prepare()
        pixels = np.empty((self.height, self.width, self.samples), self.stored)
        reading = threading.Lock()

        def work(start: int, stop: int) -> None:
            for index, chunk in enumerate(self.chunks[start:stop], start):
                raw = None
                if chunk:
                    with reading:
                        file.seek(chunk[0])
                        raw = file.read(chunk[1])
                self.place(pixels, index, raw)

        parallel.over_bands(len(self.chunks), 1, work)
        notes = rounded_note(pixels, self.name)
        image = self.meant(pixels)
        image.notes += notes
        return image

    def place(self, pixels: Array, index: int, raw: bytes | None, first_row: int = 0) -> None:
        """Decode a chunk into the rows from `first_row` on of its frame. Raises ImageError."""
        plane, rest = divmod(index, self.across * self.down)
        row, column = divmod(rest, self.across)
        top, left = row * self.rows - first_row, column * self.columns
        stored_rows = self.rows if self.tiled else min(self.rows, self.height - row * self.rows)
        height = min(stored_rows, len(pixels) - top)
        width = min(self.columns, self.width - left)
        target = pixels[top : top + height, left : left + width, plane : plane + self.per_pixel]
        if raw is None:
            target[...] = self.page.nodata
        elif self.compression in tiff_samples.BYTE_CODECS:
            target[...] = self._samples(raw, plane, stored_rows)[:height, :width]
        else:
            target[...] = self._by_tifffile(raw, self.numbers[index])[:height, :width]

    def _samples(self, raw: bytes, plane: int, rows: int) -> Array:
        """The samples (rows, columns, per pixel) of a chunk in a codec that keeps bytes."""
        bits = self.bits[plane : plane + self.per_pixel]
        row_bytes = -(-self.columns * sum(bits) // 8)
        if int(self.page.fillorder) == 2:
            raw = raw.translate(tiff_samples.REVERSED)
        across, down = self.shared
        if across * down > 1:
            units = -(-self.columns // across) * (across * down + 2)
            high = -(-rows // down)
            content = tiff_samples.decompress(
                raw, self.compression, units * high, units, units * self.rows, self.name
            )
            return tiff_samples.spread(content, rows, self.columns, across, down)
        content = tiff_samples.decompress(
            raw, self.compression, row_bytes * rows * self.slices, row_bytes,
            row_bytes * self.rows, self.name,
        )  # fmt: skip
        shape = (rows * self.slices, self.columns, self.per_pixel)
        values = tiff_samples.unpacked(
            content, shape, bits, self.kind, self.order, int(self.page.predictor), self.name
        )
        return values[self.within * rows : (self.within + 1) * rows]

    def _by_tifffile(self, raw: bytes, number: int) -> Array:
        """The samples of a chunk in a codec of pictures."""
        if not tiff_samples.has_imagecodecs():
            shape = self.rows, self.columns, self.per_pixel
            values = tiff_samples.from_file(raw, self.compression, shape, self.name)
            if values.dtype != self.stored:  # Pillow narrows what it cannot hold
                raise ImageError(
                    f"{self.name}: TIFF of {self.stored} in compression {self.compression} needs "
                    "imagecodecs: pip install 'imgconv[tiff]'"
                )
            return values
        size = self.rows, self.columns
        tiff_samples.check_file(raw, self.compression, size, self.name)
        found, _, _ = self.page.decode(
            raw, number, jpegtables=self.page.jpegtables, jpegheader=self.page.jpegheader
        )
        return self._checked(found[min(self.within, len(found) - 1)])

    def _checked(self, values: Array) -> Array:
        """Samples that a codec of pictures gave, if they are of the type that the tags say."""
        if not np.can_cast(values.dtype, self.stored, "safe"):
            raise ImageError(
                f"{self.name}: broken TIFF: samples of {values.dtype} in a file of {self.stored}"
            )
        return values

    def meant(self, pixels: Array) -> Image:
        """Return stored samples (H, W, C), or rows of them, as an image; may change them."""
        pixels, colors, described = self._colored(pixels)
        beyond, extras = pixels.shape[2] - colors, self.extras
        marked = len(extras) == beyond and extras[-1:] in ((_ASSOCIATED,), (_UNASSOCIATED,))
        alpha = marked or (beyond == 1 and colors == 3 and not extras)
        if marked and extras[-1] == _ASSOCIATED:
            pixels = tiff_color.divided_by_opacity(pixels, colors)
        held, stored = holder(pixels.dtype)
        result = pixels.astype(held, copy=False)
        tags = self.page.tags
        icc = tags.valueof(_ICC) if described else None
        orientation = tags.valueof(_ORIENTATION, 1)
        known = isinstance(orientation, int) and 1 <= orientation <= 8
        return Image(
            result,
            alpha=alpha,
            name=self.name,
            icc=icc if isinstance(icc, bytes) and icc else None,
            format="TIFF",
            info={"orientation": int(orientation) if known else 1},
            stored=stored,
            cmyk=self._inks and colors == 4,
        )

    def _colored(self, pixels: Array) -> tuple[Array, int, bool]:
        """Return (gray, RGB or bands with what is beyond them, how many of them are colors,
        whether a profile in the file describes them)."""
        kept = self.compression in tiff_samples.BYTE_CODECS  # others make RGB of YCbCr
        color = self.photometric
        if color == _PALETTE:
            return tiff_color.through_palette(pixels, self.page.colormap, self.name), 3, True
        if color == _WHITE_IS_ZERO and self.kind == "u":
            white = (1 << self.bits[0]) - 1
            np.subtract(pixels.dtype.type(white), pixels, out=pixels)
        if max(self.bits) < 8:
            pixels = tiff_color.stretched(pixels, self.bits)
        if self._inks:
            if self._keep_inks:
                return pixels, 4, True
            return tiff_color.from_cmyk(pixels), 3, False
        if color == _YCBCR and kept and self.samples >= 3:
            return tiff_color.from_ycbcr(pixels, self.page.tags, self.name), 3, False
        if color in (_LAB, _ICC_LAB) and self.samples >= 3 and self.kind == "u":
            return tiff_color.from_lab(pixels, color == _ICC_LAB), 3, False
        three = color in (_RGB, _YCBCR, _LINEAR_RAW) and self.samples >= 3
        return pixels, 3 if three else 1, True
