"""Rows 7 to 12: odd but legitimate images and windows have a defined result."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.png_maker import SIGNATURE, chunk, header
from tests.reliability import broken
from tests.reliability.forked import Forker
from tests.reliability.support import corpus

RANDOM = np.random.default_rng(7)
COLORS = RANDOM.integers(0, 256, (9, 14, 3), np.uint8)
IDENTITY = ("apply", "-q", "-k", "identity")


@pytest.fixture(scope="module")
def forker():
    made = Forker()
    yield made
    made.close()


@pytest.fixture
def pixels_of(forker, tmp_path):
    """The pixels that the identity kernel makes of a file."""

    def filtered(name, content=None, *more):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        ended = forker.run(*IDENTITY, name, "-o", "out.npy", "--overwrite", *more, cwd=tmp_path)
        assert ended.code == 0, ended
        return np.load(tmp_path / "out.npy")

    return filtered


def saved(picture, form, **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


# Row 7


def stored_as(pixels, orientation):
    """How a camera held in that way stores what is to be seen as `pixels`."""
    stored = {
        1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1],
        5: pixels.transpose(1, 0, 2), 6: pixels.transpose(1, 0, 2)[::-1],
        7: pixels.transpose(1, 0, 2)[::-1, ::-1], 8: pixels.transpose(1, 0, 2)[:, ::-1],
    }[orientation]  # fmt: skip
    return Image.fromarray(np.ascontiguousarray(stored))


@pytest.mark.parametrize("form", ["TIFF", "PNG", "WEBP"])
def test_row_07_all_eight_orientations_give_the_same_pixels(pixels_of, form):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if form == "WEBP" else {}
        data = saved(stored_as(COLORS, orientation), form, exif=exif, **options)
        assert pixels_of(f"a.{form.lower()}", data).tolist() == COLORS.tolist(), orientation


def test_row_07_all_eight_orientations_of_a_jpeg_look_the_same(pixels_of):
    flat = np.kron(RANDOM.integers(0, 256, (2, 3, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = saved(stored_as(flat, orientation), "JPEG", exif=exif, quality=98, subsampling=0)
        assert np.abs(pixels_of("a.jpg", data) - flat.astype(int)).max() <= 6, orientation


@pytest.mark.parametrize("path", corpus("orientation"))
def test_row_07_the_corpus_of_orientations_is_upright(forker, tmp_path, path):
    (tmp_path / path.name).write_bytes(path.read_bytes())
    ended = forker.run(*IDENTITY, path.name, "-o", "out.npy", cwd=tmp_path)
    assert ended.code == 0, ended
    seen = np.load(tmp_path / "out.npy")
    with Image.open(path) as opened:
        stored = opened.size
    turned = int(path.stem[-1]) >= 5
    # Pillow turns a TIFF itself while it loads, and says its size as it is to be seen.
    expected = stored[::-1] if turned and path.suffix != ".tif" else stored
    assert (seen.shape[1], seen.shape[0]) == expected


# Row 8


def test_row_08_every_mode_becomes_what_is_documented(pixels_of):
    picture = Image.fromarray(COLORS)
    gray, bits = picture.convert("L"), picture.convert("1")
    opacity = Image.fromarray(COLORS[..., 0])
    palette = picture.quantize(16)
    rgba, la = picture.copy(), gray.copy()
    rgba.putalpha(opacity)
    la.putalpha(opacity)
    pa = palette.convert("PA")
    pa.putalpha(opacity)
    wide = RANDOM.integers(-(2**31), 2**31, (9, 14), np.int32)
    deep = RANDOM.integers(0, 2**16, (9, 14), np.uint16)
    real = RANDOM.normal(size=(9, 14)).astype(np.float32)
    shown = np.asarray(palette.convert("RGB"))
    cases = [
        ("1", bits, "PNG", np.asarray(bits) * 255),
        ("L", gray, "PNG", np.asarray(gray)),
        ("LA", la, "PNG", np.asarray(la)),
        ("P", palette, "PNG", shown),
        ("PA", pa, "TIFF", np.dstack([shown, COLORS[..., 0]])),
        ("RGB", picture, "PNG", COLORS),
        ("RGBA", rgba, "PNG", np.asarray(rgba)),
        ("CMYK", picture.convert("CMYK"), "TIFF", COLORS),
        ("I", Image.fromarray(wide), "TIFF", wide),
        ("F", Image.fromarray(real), "TIFF", real),
        ("I;16", Image.fromarray(deep), "TIFF", deep),
        ("I;16B", Image.frombytes("I;16B", (14, 9), deep.astype(">u2").tobytes()), "TIFF", deep),
    ]
    for mode, image, form, expected in cases:
        assert image.mode == mode or mode == "I;16"
        found = pixels_of(f"a.{form.lower()}", saved(image, form))
        assert found.squeeze().tolist() == np.squeeze(expected).tolist(), mode
    keyed = pixels_of("a.png", saved(palette, "PNG", transparency=3))
    assert keyed[..., 3].tolist() == np.where(np.asarray(palette) == 3, 0, 255).tolist()
    for mode in ("YCbCr", "LAB"):
        smooth = np.linspace(30, 220, 300).reshape(10, 10, 3).astype(np.uint8)
        image = Image.fromarray(smooth)
        if mode == "LAB":
            profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
            image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
        else:
            image = image.convert(mode)
        found = pixels_of("a.tif", saved(image, "TIFF"))
        assert np.abs(found - smooth).max() <= 4, mode


def test_row_08_16_bit_color_is_neither_clipped_nor_narrowed(forker, tmp_path):
    samples = RANDOM.integers(0, 2**16, (5, 6, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    import zlib

    (tmp_path / "a.png").write_bytes(broken.png(6, 5, zlib.compress(rows), depth=16))
    for out in ("out.png", "out.npy"):
        assert forker.run(*IDENTITY, "a.png", "-o", out, cwd=tmp_path).code == 0
    assert np.load(tmp_path / "out.npy").tolist() == samples.tolist()
    assert (tmp_path / "out.png").read_bytes()[24] == 16


# Row 9


def test_row_09_a_profile_is_carried_only_where_it_describes_the_pixels(forker, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(COLORS), "PNG", icc_profile=profile))
    cmyk = Image.fromarray(COLORS).convert("CMYK")
    (tmp_path / "c.tif").write_bytes(saved(cmyk, "TIFF", icc_profile=profile))
    (tmp_path / "c.jpg").write_bytes(saved(cmyk, "JPEG", icc_profile=profile))
    kept = {("a.png",): profile, ("a.png", "--gray"): None, ("a.png", "--linear"): None,
            ("c.tif",): None, ("c.jpg",): None}  # fmt: skip
    for arguments, expected in kept.items():
        ended = forker.run(*IDENTITY, *arguments, "-o", "out.png", "--overwrite", cwd=tmp_path)
        assert ended.code == 0, ended
        with Image.open(tmp_path / "out.png") as opened:
            assert opened.info.get("icc_profile") == expected, arguments


def test_row_09_a_gamma_leaves_the_samples_as_they_are(pixels_of):
    import zlib

    rows = b"".join(b"\0" + row.tobytes() for row in COLORS)
    start = SIGNATURE + header(14, 9, 8, 2) + chunk(b"gAMA", (100_000).to_bytes(4, "big"))
    data = start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert pixels_of("a.png", data).tolist() == COLORS.tolist()


# Row 10


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_row_10_frames_are_chosen_and_the_default_says_so(forker, tmp_path, form):
    frames = [Image.fromarray(np.full((8, 8), 60 * n + 5, np.uint8)) for n in range(3)]
    name = f"a.{form.lower()}"
    options = {"lossless": True} if form == "WEBP" else {}
    (tmp_path / name).write_bytes(
        saved(frames[0], form, save_all=True, append_images=frames[1:], **options)
    )
    run = ("apply", "-k", "identity", name, "--overwrite")
    first = forker.run(*run, "-o", "out.npy", cwd=tmp_path)
    assert first.code == 0
    assert first.said == f"imgconv: {name}: only the first of 3 frames is read; see --frame\n"
    assert np.load(tmp_path / "out.npy")[0, 0, 0] == 5
    chosen = forker.run(*run, "--frame", "2", "-o", "out.npy", cwd=tmp_path)
    assert (chosen.code, chosen.said) == (0, "")
    assert np.load(tmp_path / "out.npy")[0, 0, 0] == 125
    beyond = forker.run(*run, "--frame", "3", "-o", "out.npy", cwd=tmp_path)
    assert beyond.code == 1
    assert "no frame 3: it has 3 (0 to 2)" in beyond.said
    assert forker.run(*run, "--frame", "all", "-o", "all/x.npy", cwd=tmp_path).code in (0, 2)


# Row 11


@pytest.mark.parametrize("rule", ["clip", "minmax", "abs", "signed", "percentile=5"])
@pytest.mark.parametrize("depth", ["8", "16"])
def test_row_11_no_value_wraps_around_in_an_integer_format(forker, tmp_path, rule, depth):
    """Order is kept, the ends saturate, and NaN is nothing."""
    extremes = [-np.inf, -1e30, -70_000, -300, -1, 0, 0.4, 1, 254.6, 255, 300, 70_000, 1e30, np.inf]
    image = np.array([[*extremes, np.nan]], np.float32)
    np.save(tmp_path / "a.npy", image)
    ended = forker.run(
        *IDENTITY, "a.npy", "-o", "out.png", "--scale", rule, "--depth", depth, cwd=tmp_path
    )
    assert ended.code == 0, ended
    with Image.open(tmp_path / "out.png") as opened:
        found = np.asarray(opened).astype(int)[0]
    top = 2 ** int(depth) - 1
    ordered = found[:-1] if rule != "abs" else found[5:-1]
    assert (np.diff(ordered) >= 0).all(), found
    assert found[13] == top, found
    if rule == "abs":
        assert found[0] == top
    elif rule != "signed":
        assert found[0] == 0


def test_row_11_float_formats_hold_the_values_as_they_are(forker, tmp_path):
    image = np.array([[np.nan, np.inf, -np.inf, -5, 1e30]], np.float32)
    np.save(tmp_path / "a.npy", image)
    for name in ("out.npy", "out.tif", "out.pfm"):
        ended = forker.run(*IDENTITY, "a.npy", "-o", name, "--scale", "none", cwd=tmp_path)
        assert ended.code == 0, ended
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy")[..., 0], image)
    with Image.open(tmp_path / "out.tif") as opened:
        np.testing.assert_array_equal(np.asarray(opened), image)


# Row 12


def test_row_12_one_pixel_and_windows_beyond_the_image_have_a_result(forker, tmp_path):
    one = np.full((1, 1), 7.0, np.float32)
    np.save(tmp_path / "one.npy", one)
    np.save(tmp_path / "two.npy", np.array([[1.0, 2.0]], np.float32))
    box = ("apply", "-q", "-k", "box:size=9")
    for mode in ("reflect", "replicate", "symmetric", "circular"):
        ended = forker.run(
            *box, "one.npy", "-o", f"{mode}.npy", "--padding-mode", mode, cwd=tmp_path
        )
        assert ended.code == 0, ended
        np.testing.assert_allclose(np.load(tmp_path / f"{mode}.npy").squeeze(), 7, rtol=1e-6)
    # Reflection goes on and on: 1 2 1 2 …, so a window of 9 sees five of one and four of the other.
    assert forker.run(*box, "two.npy", "-o", "wide.npy", cwd=tmp_path).code == 0
    wide = np.load(tmp_path / "wide.npy").squeeze()
    np.testing.assert_allclose(wide, [(5 * 1 + 4 * 2) / 9, (4 * 1 + 5 * 2) / 9], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-k", "box-5", "--padding", "valid"), ("spans 5", "is 2")),
        (("-k", "sobel", "--stride", "0"), ("--stride", "'0'")),
        (("-k", "sobel", "--dilation", "0"), ("--dilation", "'0'")),
        (("-k", "sobel-x", "--groups", "2"), ("groups=2", "3")),
        (("-k", "sobel-x", "--pool", "max:9"), ("9", "2")),
        (("-k", "sobel-x", "--pool", "max:2,stride=0"), ("stride", "0")),
    ],
)
def test_row_12_windows_that_do_not_fit_are_exit_code_2_with_both_numbers(
    forker, tmp_path, arguments, said
):
    np.save(tmp_path / "a.npy", np.zeros((2, 2, 3), np.float32))
    ended = forker.run("apply", "-q", *arguments, "a.npy", "-o", "out.npy", cwd=tmp_path)
    assert ended.code == 2, ended
    assert ended.is_clean()
    for words in said:
        assert words in ended.said, ended
    assert not (tmp_path / "out.npy").exists()


def test_row_12_an_empty_image_is_named(forker, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 5), np.float32))
    (tmp_path / "b.ppm").write_bytes(b"P6 0 5 255\n")
    for name in ("a.npy", "b.ppm"):
        ended = forker.run("apply", "-q", "-k", "sobel", name, "-o", "out.npy", cwd=tmp_path)
        assert (ended.code, ended.is_clean()) == (1, True), ended
        assert name in ended.said
