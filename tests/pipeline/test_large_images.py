"""Images in bands: TIFFs of every layout and chains of layers, as when whole, in less memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from skimage import data

from imgconv.errors import ImageError
from imgconv.io import reading, streamed
from imgconv.io.publish import joined
from imgconv.io.reading import read_images
from imgconv.io.streamed import open_rows
from imgconv.io.tiff import rows as tiff_rows
from imgconv.io.tiff import writer as tiff_writer
from imgconv.nn.chain import parse_chain, trace
from imgconv.ops import rows as rows_module
from imgconv.ops.filter import filter_image
from imgconv.ops.rows import ArrayRows, FilteredRows, read_rows
from imgconv.pipeline import recipe
from imgconv.pipeline.bands.chain import chain_rows
from tests.pipeline.test_streaming import Trickle
from tests.running import here, peak

tifffile = pytest.importorskip("tifffile")


def photo(dtype, channels, height=301, width=203):
    image = data.astronaut()[:height, :width]
    image = np.dstack([image, image[::-1, ::-1]])[..., :channels]
    if dtype == "float32":
        return (image / np.float32(255)).astype(dtype)
    return image.astype(dtype) * (257 if dtype == "uint16" else 1)


def read(source):
    out = np.empty((source.height, source.width, source.channels), source.dtype)
    read_rows(source, out)
    source.close()
    return out


LAYOUTS = {
    "strips": {"rowsperstrip": 7},
    "one strip": {"rowsperstrip": 301},
    "tiles": {"tile": (64, 48)},
    "deflated strips": {"rowsperstrip": 16, "compression": "zlib", "predictor": True},
    "deflated tiles": {"tile": (32, 32), "compression": "zlib"},
    "planes": {"rowsperstrip": 11, "planarconfig": "separate"},
    "big-endian": {"rowsperstrip": 5, "byteorder": ">"},
    "BigTIFF": {"tile": (16, 64), "bigtiff": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("dtype", "channels"), [("uint8", 1), ("uint8", 3), ("uint16", 3), ("float32", 5)]
)
def test_rows_of_a_tiff_are_its_pixels(tmp_path, monkeypatch, layout, dtype, channels):
    options = dict(LAYOUTS[layout])
    if options.get("predictor") and dtype == "float32":
        options["predictor"] = False
    if channels == 1:
        options.pop("planarconfig", None)
    pixels = photo(dtype, channels)
    writing = {k: options.pop(k) for k in ("byteorder", "bigtiff") if k in options}
    photometric = "rgb" if channels == 3 else "minisblack"
    options.setdefault("planarconfig", "contig" if channels > 1 else None)
    if options.get("planarconfig") == "separate":
        stored = pixels.transpose(2, 0, 1)
    else:
        stored = pixels if channels > 1 else pixels[..., 0]
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, stored, photometric=photometric, metadata=None, **options, **writing)
    monkeypatch.setattr(tiff_rows, "_BAND", 20_000)
    found = open_rows(path, memory=1)
    assert found is not None
    got = read(found.rows)
    np.testing.assert_array_equal(got, pixels)
    whole = next(iter(read_images(path)))
    assert (got.dtype, found.alpha) == (whole.pixels.dtype, whole.alpha)
    np.testing.assert_array_equal(got, whole.pixels)


def test_the_first_level_of_a_pyramid_and_the_first_plane_of_ome_are_read(tmp_path):
    pixels = photo("uint8", 3, 256, 256)
    path = tmp_path / "pyramid.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        options = {"tile": (64, 64), "photometric": "rgb"}
        writer.write(pixels, subifds=2, metadata={"axes": "YXS"}, **options)
        for step in (2, 4):
            writer.write(pixels[::step, ::step], subfiletype=1, **options)
    np.testing.assert_array_equal(read(open_rows(path, memory=1).rows), pixels)
    stack = tmp_path / "stack.ome.tif"
    planes = np.stack([pixels[..., 0], pixels[..., 1]])
    tifffile.imwrite(stack, planes, metadata={"axes": "CYX"}, photometric="minisblack")
    found = open_rows(stack, memory=1)
    assert found.notes == (f"{stack}: only the first of 2 frames is read; see --frame",)
    np.testing.assert_array_equal(read(found.rows)[..., 0], planes[0])


def test_what_pillow_has_to_read_is_left_to_it(tmp_path):
    turned = Pillow.fromarray(photo("uint8", 3))
    exif = Pillow.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.tif", exif=exif)
    turned.convert("P").save(tmp_path / "palette.tif")
    turned.convert("1").save(tmp_path / "bits.tif")
    turned.save(tmp_path / "jpeg.tif", compression="jpeg")
    for name in ("turned", "jpeg"):
        assert open_rows(tmp_path / f"{name}.tif", memory=1) is None, name
    for name in ("palette", "bits"):
        path = tmp_path / f"{name}.tif"
        found = open_rows(path, memory=1)
        rows = np.empty((found.rows.height, found.rows.width, found.rows.channels), np.uint8)
        read_rows(found.rows, rows)
        found.rows.close()
        with Pillow.open(path) as opened:
            expected = np.asarray(opened.convert("RGB" if name == "palette" else "L"))
        assert np.array_equal(rows.squeeze(), expected), name


def test_a_truncated_tiff_is_refused_before_or_when_it_is_reached(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, photo("uint8", 3), rowsperstrip=16, compression="zlib", metadata=None)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError):
        read(open_rows(path, memory=1).rows)
    middle = len(content) * 3 // 4
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(ImageError, match="broken TIFF"):
        read(open_rows(path, memory=1).rows)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 3), ("uint16", 1), ("float32", 6)])
def test_a_tiff_written_in_bands_is_read_by_tifffile_and_pillow(
    tmp_path, monkeypatch, big, dtype, channels
):
    pixels = photo(dtype, channels)
    monkeypatch.setattr(tiff_writer, "_STRIP", 10_000)
    monkeypatch.setattr(tiff_writer, "_CLASSIC_END", 1 if big else 1 << 32)
    path = tmp_path / "out.tif"
    path.write_bytes(joined(tiff_writer.encode_rows(Trickle(pixels), note="n", icc=b"icc!")))
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff == big
        assert file.pages[0].description == "n"
        np.testing.assert_array_equal(file.asarray().reshape(pixels.shape), pixels)
    if dtype == "uint8":
        np.testing.assert_array_equal(np.asarray(Pillow.open(path)), pixels)


@pytest.mark.parametrize("mode", ["reflect", "circular"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_large_dense_kernel_in_bands_gives_the_bits_of_the_whole(monkeypatch, mode, dtype):
    generator = np.random.default_rng(7)
    pixels = generator.integers(0, 256, (2400, 150, 2)).astype(dtype)
    if dtype == "float32":
        pixels[1200, 70] = np.nan
    weights = generator.normal(size=(1, 1, 31, 31))
    want = filter_image(pixels[..., :1], weights, padding_mode=mode)[0]
    monkeypatch.setattr(rows_module, "BAND", 1000)
    filtered = FilteredRows(Trickle(pixels, 50), weights, colors=1, padding_mode=mode)
    assert filtered.band < 1000
    assert len(filtered._window.rows) < 1500 or mode == "circular"
    got, beside = np.empty_like(want), np.empty_like(pixels[..., 1:])
    done = 0
    while done < 2400:
        count = filtered.rows_into(got[done : done + int(generator.integers(1, filtered.band))])
        beside[done : done + count] = filtered.opacity(done, count)
        done += count
    assert got.tobytes() == want.tobytes()
    assert beside.tobytes() == pixels[..., 1:].tobytes()


STEPS = [
    "conv sobel-x", "conv gaussian:sigma=2 stride=2", "conv box-3 dilation=3 mode=zeros",
    "conv sobel", "conv box-5 padding=valid", "relu", "abs", "sigmoid", "gray", "maxpool 2",
    "maxpool 3 stride=2 padding=1", "avgpool 3 stride=1 padding=1", "minpool 2 stride=5",
    "avgpool 5 stride=2 padding=2 count_include_pad=false", "lppool 2", "maxpool 3 dilation=2",
    "avgpool 2x3 padding=1x0x1x1",
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=5),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    channels=st.sampled_from([1, 3]),
    band=st.sampled_from([500, 9000, 1 << 20]),
    most=st.integers(1, 40),
)
def test_a_chain_in_bands_gives_the_bits_of_the_chain_on_the_whole(
    steps, dtype, channels, band, most
):
    pixels = photo(dtype, channels, 190, 83)
    chain = parse_chain(" | ".join(steps))
    try:
        *_, (_, want) = trace(pixels, chain)
    except Exception as error:
        with pytest.raises(type(error)):
            read(chain_rows(ArrayRows(pixels), tuple(chain)))
        return
    usual, rows_module.BAND = rows_module.BAND, band
    try:
        found = chain_rows(Trickle(pixels, most), tuple(chain))
        assert (found.height, found.width, found.channels) == want.shape
        got = read(found)
    finally:
        rows_module.BAND = usual
    assert got.tobytes() == want.astype(got.dtype).tobytes()


def test_a_chain_that_needs_the_whole_image_says_so():
    for text in ("adaptive-maxpool 3", "global-avgpool", "conv haar", "maxpool 3 ceil_mode=true"):
        assert chain_rows(ArrayRows(photo("uint8", 3)), tuple(parse_chain(text))) is None


def test_a_large_image_goes_through_31x31_and_a_chain_in_little_memory(tmp_path):
    """38 megapixels, of which the samples alone are 113 MB and a map 453 MB."""
    side, tile = 6144, 512
    block = data.astronaut()

    def tiles():
        for number in range((side // tile) ** 2):
            yield np.roll(block, number * 37, axis=1)

    tifffile.imwrite(
        tmp_path / "large.tif", tiles(), shape=(side, side, 3), dtype=np.uint8, tile=(tile, tile),
        photometric="rgb", metadata=None,
    )  # fmt: skip
    out = ["large.tif", "-o", "out.tif", "--overwrite", "--memory", "200M"]
    np.save(tmp_path / "dense.npy", np.random.default_rng(0).normal(size=(31, 31)) / 500)
    assert peak("apply", "-k", "dense.npy", *out, cwd=tmp_path) < 330
    assert peak("apply", "-k", "gaussian:sigma=5", *out, cwd=tmp_path) < 300
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        whole = file.asarray()
    part = np.concatenate([np.roll(block, n * 37, axis=1) for n in range(3)], axis=1)
    Pillow.fromarray(part).save(tmp_path / "part.png")
    arguments = ["apply", "-k", "gaussian:sigma=5", "part.png", "-o", "part-out.png"]
    peak(*arguments, cwd=tmp_path)
    expected = np.asarray(Pillow.open(tmp_path / "part-out.png"))
    # The small image may be filtered by another algorithm, which rounds halves otherwise.
    np.testing.assert_allclose(whole[:450, :1400].astype(int), expected[:450, :1400], atol=1)
    assert peak("run", "conv gaussian:sigma=2 | maxpool 4 | conv sobel", *out, cwd=tmp_path) < 300
    assert tifffile.imread(tmp_path / "out.tif").shape == (side // 4, side // 4, 3)


def test_with_memory_an_image_and_its_maps_may_have_any_size(tmp_path, monkeypatch):
    """The default limit stands for the gigapixel that would take too long here."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("large.tif", data.astronaut(), photometric="rgb", metadata=None)
    for module in (streamed, recipe):
        monkeypatch.setattr(module, "MAX_PIXELS", 100_000)
    monkeypatch.setattr(reading, "MAX_PIXELS", 100_000)
    run = ["large.tif", "-o", "out.tif", "--overwrite", "-q"]
    for command in (["apply", "-k", "sobel"], ["run", "conv sobel | maxpool 2"]):
        assert here(*command, *run, "--memory", "1M").returncode == 0
        assert here(*command, *run).returncode == 1
        refused = here(*command, *run, "--memory", "1M", "--max-pixels", "200000")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    wide = here("apply", "-k", "sobel", "--padding", "400", *run, "--memory", "1M")
    assert (wide.returncode, wide.stderr.count("\n")) == (1, 1)
    assert "--max-pixels raises it" in wide.stderr
