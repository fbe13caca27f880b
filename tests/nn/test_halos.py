"""Chains of layers through files that come in pieces: the bits of the chain on the whole image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from skimage import data

from imgconv.errors import ImgconvError
from imgconv.io.streamed import open_rows
from imgconv.io.tiff import rows as tiff_rows
from imgconv.nn.chain import parse_chain, trace
from imgconv.ops import rows as rows_module
from imgconv.ops.rows import read_rows, start_at
from imgconv.pipeline.bands.chain import chain_rows

tifffile = pytest.importorskip("tifffile")
zarr = pytest.importorskip("zarr")
PHOTO = data.astronaut()[100:311, 40:197]
MEMORY = 200_000  # bytes: less than filtering the image whole takes

# Few of each number: every kind of step compiles a loop of its own.
strides = st.sampled_from([1, 3])
convolutions = st.builds(
    "conv {} stride={} dilation={} padding={} mode={}".format,
    st.sampled_from(["sobel-x", "gaussian:sigma=1.5", "box:size=5"]),
    st.sampled_from([1, "2,3"]), st.sampled_from([1, 3]),
    st.sampled_from([0, 7, "valid", "1,4"]),
    st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
)  # fmt: skip
pools = st.builds(
    "{} {} stride={} padding={}".format,
    st.sampled_from(["maxpool", "avgpool", "medianpool"]), st.sampled_from([2, "3x2"]), strides,
    st.sampled_from([0, 1]),
)  # fmt: skip
dilated = st.builds("maxpool 2 stride={} dilation={}".format, strides, st.sampled_from([2, 3]))
points = st.sampled_from(["relu", "abs", "gray"])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    tiff = {"photometric": "rgb", "metadata": None}
    tifffile.imwrite(folder / "strips.tif", PHOTO, rowsperstrip=13, **tiff)
    tifffile.imwrite(folder / "tiles.tif", PHOTO, tile=(32, 48), compression="zlib", **tiff)
    zarr.create_array(folder / "chunks.zarr", data=PHOTO, chunks=(50, 37, 3))
    zarr.create_array(folder / "tall.zarr", data=PHOTO, chunks=(150, 37, 3))
    Pillow.fromarray(PHOTO).save(folder / "bands.png")
    return folder


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(st.one_of(convolutions, pools, dilated, points), min_size=1, max_size=4),
    name=st.sampled_from(["strips.tif", "tiles.tif", "chunks.zarr", "tall.zarr", "bands.png"]),
    band=st.sampled_from([500, 9000, 1 << 20]),
    first=st.floats(0, 1),
)
def test_a_chain_through_pieces_of_a_file_gives_the_bits_of_the_whole(
    files, steps, name, band, first
):
    chain = parse_chain(" | ".join(steps))
    try:
        *_, (_, want) = trace(PHOTO, chain)
    except ImgconvError:
        return  # sizes that do not fit
    usual = rows_module.BAND, tiff_rows._BAND
    rows_module.BAND, tiff_rows._BAND = band, 4 * band
    try:
        # From the first row on, and from another, as a part of the image is made.
        for top in {0, int(first * (len(want) - 1))}:
            source = open_rows(files / name, memory=MEMORY).rows
            found = chain_rows(source, tuple(chain))
            assert (found.height, found.width, found.channels) == want.shape
            start_at(found, top)
            got = np.empty((len(want) - top, *want.shape[1:]), found.dtype)
            read_rows(found, got)
            found.close()
            assert got.tobytes() == want[top:].astype(got.dtype).tobytes()
    finally:
        rows_module.BAND, tiff_rows._BAND = usual
