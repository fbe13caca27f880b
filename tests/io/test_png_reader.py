"""PNG reading: every type and filter, Pillow's pixels on PngSuite, streaming, metadata."""

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import PngImagePlugin

from imgconv.errors import ImageError, LimitError
from imgconv.io.png import chunks as png_chunks
from imgconv.io.png import inflate as png_inflate
from imgconv.io.png import reader as png_reader
from tests import png_maker as maker
from tests.running import num_threads

CORPORA = Path(__file__).parents[3] / "shared" / "corpora"
RNG = np.random.default_rng(20)


def palette_chunks(colors, opacity=None):
    chunks = maker.chunk(b"PLTE", colors.astype(np.uint8).tobytes())
    return chunks + (
        maker.chunk(b"tRNS", opacity.astype(np.uint8).tobytes()) if opacity is not None else b""
    )


def expected_pixels(samples, depth, color, colors=None):
    if color == 3:
        return colors[samples[..., 0]].astype(np.uint8)
    if depth == 16:
        return samples.astype(np.uint16)
    return (samples * 255 // ((1 << depth) - 1)).astype(np.uint8)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "depth"), maker.TYPES)
def test_every_type_and_filter_gives_the_samples_that_were_stored(color, depth, interlaced):
    colors = RNG.integers(0, 256, (1 << depth if color == 3 else 1, 3))
    before = palette_chunks(colors) if color == 3 else b""
    for kinds in [(0,), (1,), (2,), (3,), (4,), (4, 2, 3, 1, 0)]:
        for height, width in [(1, 1), (3, 2), (9, 13)]:
            samples = maker.random_samples(RNG, height, width, color, depth)
            data = maker.make(samples, depth, color, kinds, interlaced, before, pieces=3)
            image = png_reader.decode(data)
            expected = expected_pixels(samples, depth, color, colors)
            assert image.pixels.dtype == expected.dtype
            assert np.array_equal(image.pixels, expected)
            assert image.alpha == (color in (4, 6))
            assert image.info["bits"] == depth


@pytest.mark.parametrize(("color", "depth"), [t for t in maker.TYPES if t[0] in (0, 2)])
def test_a_transparent_color_becomes_opacity(color, depth):
    samples = maker.random_samples(RNG, 8, 9, color, depth)
    key = samples[3, 4]
    samples[5] = key
    chunk = maker.chunk(b"tRNS", key.astype(">u2").tobytes())
    pixels = png_reader.decode(maker.make(samples, depth, color, (1,), before=chunk)).pixels
    full = 65535 if depth == 16 else 255
    assert np.array_equal(pixels[..., :-1], expected_pixels(samples, depth, color))
    assert np.array_equal(pixels[..., -1], np.where((samples == key).all(-1), 0, full))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palette_with_opacity_becomes_rgba(depth):
    count = 1 << depth
    colors, opacity = RNG.integers(0, 256, (count, 3)), RNG.integers(0, 256, count // 2)
    samples = maker.random_samples(RNG, 8, 9, 3, depth)
    before = palette_chunks(colors, opacity)
    pixels = png_reader.decode(maker.make(samples, depth, 3, (0,), before=before)).pixels
    alpha = np.r_[opacity, np.full(count - len(opacity), 255)]
    assert np.array_equal(pixels, np.c_[colors, alpha][samples[..., 0]])


def test_a_palette_index_beyond_the_palette_reads_as_in_pillow():
    samples = np.arange(256).reshape(16, 16, 1)
    data = maker.make(samples, 8, 3, before=palette_chunks(RNG.integers(0, 256, (7, 3))))
    pillow = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(png_reader.decode(data).pixels, pillow)


def pillow_pixels(data, like):
    """Pillow's reading in our layout, and ours reduced to what Pillow keeps: 8 bits of color."""
    image = Pillow.open(io.BytesIO(data))
    if image.mode == "I;16":
        return np.asarray(image), like[..., 0]
    if like.dtype == np.uint16:
        like = (like >> 8).astype(np.uint8)
        if image.mode == "RGBA" and like.shape[2] == 2:
            like = like[..., [0, 0, 0, 1]]
        return np.asarray(image), like[..., : len(image.getbands())]
    mode = ("", "L", "LA", "RGB", "RGBA")[like.shape[2]]
    return np.asarray(image.convert(mode)).reshape(like.shape), like


@pytest.mark.skipif(not CORPORA.exists(), reason="no corpora beside the checkout")
def test_pngsuite_reads_as_in_pillow():
    seen = 0
    for path in sorted((CORPORA / "pngsuite").glob("[!x]*.png")):
        data = path.read_bytes()
        pixels = png_reader.decode(data).pixels
        if path.name == "tbbn0g04.png":  # Pillow compares 4-bit keys with 8-bit samples
            pixels = pixels[..., :1]
        theirs, ours = pillow_pixels(data, pixels)
        assert np.array_equal(theirs, ours), path.name
        seen += 1
    assert seen > 150


@pytest.mark.skipif(not CORPORA.exists(), reason="no corpora beside the checkout")
@pytest.mark.skipif(not CORPORA.is_dir(), reason="no corpora beside us")
def test_broken_and_foreign_files_are_left_to_pillow_unless_their_pixels_are_damaged():
    files = [*(CORPORA / "pngsuite").glob("x*.png"), *(CORPORA / "hostile").iterdir()]
    assert len(files) > 50
    for path in files:
        try:
            assert png_reader.decode(path.read_bytes()) is None, path.name
        except ImageError as error:
            assert path.name.startswith("x"), path.name
            assert str(error).startswith("damaged PNG")  # noqa: PT017 - most files raise nothing


@pytest.fixture(params=["isal 2", "isal 1", "zlib 2"])
def machinery(request, monkeypatch):
    """Both codecs, with and without the inflating thread."""
    codec, threads = request.param.split()
    if codec == "zlib":
        monkeypatch.setattr(png_chunks, "codec", zlib)
        monkeypatch.setattr(png_inflate, "codec", zlib)
    with num_threads(int(threads)):
        yield


def large(dtype=np.uint8, channels=3):
    """Over a megabyte: several blocks, and a thread for them."""
    top = np.iinfo(dtype).max
    waves = np.sin(np.arange(700)[:, None, None] / 30 + np.arange(650)[None, :, None] / 17)
    noise = RNG.normal(0, top / 50, (700, 650, channels))
    return np.clip((waves + 1) / 2 * top + noise, 0, top).astype(dtype)


def test_a_large_image_reads_as_in_pillow_and_opencv(machinery):
    file = io.BytesIO()
    Pillow.fromarray(large()).save(file, "PNG")
    data = file.getvalue()
    pixels = png_reader.decode(data).pixels
    assert np.array_equal(pixels, np.asarray(Pillow.open(file)))
    opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(pixels, opencv[..., ::-1])


def test_sixteen_bits_keep_all_their_bits(machinery):
    pixels = large(np.uint16)
    data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    assert np.array_equal(png_reader.decode(data).pixels, pixels)


@pytest.mark.parametrize("interlaced", [False, True])
def test_rows_come_out_in_any_portions(machinery, interlaced):
    pixels = large()[: 100 if interlaced else None]
    if interlaced:
        data = maker.make(pixels, 8, 2, (2,), True)
    else:
        data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    for rows in (1, 37, 5000):
        assert np.array_equal(np.concatenate(list(png_reader.Reader(data).bands(rows))), pixels)
    reader = png_reader.Reader(memoryview(data))
    out = np.zeros_like(pixels)
    assert reader.rows_into(out, 10) == 10
    assert reader.rows_into(out[10:90]) == 80
    rest = reader.read()
    assert np.array_equal(np.concatenate([out[:90], rest]), pixels)
    assert reader.rows_into(out) == 0


def test_a_reader_may_be_left_early(machinery):
    data = cv2.imencode(".png", large())[1].tobytes()
    with png_reader.Reader(data) as reader:
        reader.rows_into(np.empty((1, 650, 3), np.uint8))
    for _ in png_reader.Reader(data).bands(10):
        break


def test_an_array_of_the_wrong_kind_is_refused_before_machine_code_sees_it():
    reader = png_reader.Reader(maker.make(np.zeros((4, 5, 3), np.uint8), 8, 2))
    for wrong in (
        np.empty((4, 5, 3), np.uint16),
        np.empty((4, 4, 3), np.uint8),
        np.empty((4, 5, 6), np.uint8)[..., ::2],
    ):
        with pytest.raises(TypeError, match="rows_into"):
            reader.rows_into(wrong)


def test_more_pixels_than_the_limit_are_refused():
    data = maker.make(np.zeros((4, 5, 1), np.uint8), 8, 0)
    assert png_reader.decode(data, max_pixels=20) is not None
    with pytest.raises(LimitError, match=r"photo\.png: 5×4 .* 19; --max-pixels"):
        png_reader.decode(data, max_pixels=19, name="photo.png")


def saved(**options):
    file = io.BytesIO()
    Pillow.new("RGB", (3, 2)).save(file, "PNG", **options)
    return file.getvalue()


def test_text_profile_and_gamma_are_reported():
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "Grüße")
    info.add_text("Long", "x" * 5000, zip=True)
    info.add_itxt("Author", "Łukasz", lang="pl")
    info.add_itxt("Packed", "ł" * 3000, zip=True)
    data = saved(pnginfo=info, icc_profile=b"profile" * 100)
    gamma = maker.chunk(b"gAMA", (45455).to_bytes(4, "big"))
    private = maker.chunk(b"prVt", b"private")
    image = png_reader.decode(data[:33] + gamma + maker.chunk(b"sRGB", b"\0") + private + data[33:])
    assert image.info["text"] == {
        "Title": "Grüße", "Long": "x" * 5000, "Author": "Łukasz", "Packed": "ł" * 3000,
    }  # fmt: skip
    assert image.icc == b"profile" * 100
    assert image.info["gamma"] == 0.45455
    assert image.info["srgb"] == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_found_where_pillow_finds_it(orientation):
    exif = Pillow.Exif()
    exif[0x010E] = "description"
    exif[0x0112] = orientation
    block = exif.tobytes()
    big_endian = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0%c\0\0\0\0\0\0" % orientation
    lines = f"\nexif\n{len(block):8}\n" + "\n".join(
        block[i : i + 36].hex() for i in range(0, len(block), 36)
    )
    xmp = f'<rdf:Description tiff:Orientation="{orientation}"/>'
    legacy, packet = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    legacy.add_text("Raw profile type exif", lines, zip=True)
    packet.add_itxt("XML:com.adobe.xmp", xmp)
    plain = saved()
    late = plain[:-12] + maker.chunk(b"eXIf", big_endian) + plain[-12:]
    written = [saved(exif=block), saved(pnginfo=legacy), saved(pnginfo=packet)]
    for data in (*written, late):
        assert Pillow.open(io.BytesIO(data)).getexif().get(0x0112) == orientation
        assert png_reader.decode(data).info["orientation"] == orientation


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"]
)
def test_a_broken_exif_block_means_no_orientation(exif):
    data = maker.make(np.zeros((1, 1, 1)), 8, 0, before=maker.chunk(b"eXIf", exif))
    assert png_reader.decode(data).info["orientation"] == 1


def test_an_animation_is_left_to_pillow():
    file = io.BytesIO()
    frames = [Pillow.new("L", (4, 4), value) for value in (0, 255)]
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    assert png_reader.decode(file.getvalue()) is None
