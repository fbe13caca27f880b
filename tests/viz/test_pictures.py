"""Color maps, contact sheets and directions, as pixels of the files that commands write."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage import color, data

from imgconv.cli import main
from imgconv.cli.exit_codes import run
from imgconv.kernels import Kernel, get_kernel
from imgconv.viz.colormaps import DIVERGING, NAMES, table
from imgconv.viz.direction import direction
from imgconv.viz.kernel_plot import draw as draw_kernel
from imgconv.viz.layout import Layout
from imgconv.viz.sheet import GUTTER, LINE, Shown, Tile, draw, draw_maps

PHOTO = data.astronaut()[100:196, 180:308]


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PHOTO).save("photo.png")
    return tmp_path


def imgconv(*arguments):
    return run(main, [str(one) for one in arguments])


def pixels(name):
    return np.asarray(Image.open(name))


def lightness(name):
    return color.rgb2lab(table(name)[None])[0, :, 0]


@pytest.mark.parametrize("name", ["viridis", "magma", "inferno", "plasma", "cividis", "gray"])
def test_a_sequential_map_grows_lighter_from_end_to_end(name):
    assert np.diff(lightness(name)).min() > -0.3
    assert lightness(name)[-1] - lightness(name)[0] > 70


def test_the_published_ends_and_the_neutral_middle_are_in_the_tables():
    ends = {name: [bytes(c).hex() for c in table(name)[[0, 255]]] for name in NAMES}
    assert ends["viridis"] == ["440154", "fde725"]
    assert ends["magma"] == ["000004", "fcfdbf"]
    assert ends["inferno"] == ["000004", "fcffa4"]
    assert ends["plasma"] == ["0d0887", "f0f921"]
    assert ends["cividis"] == ["00224e", "fee838"]
    assert ends["turbo"] == ["30123b", "7a0403"]
    assert ends["coolwarm"] == ["3b4cc0", "b40426"]
    assert np.ptp(table("coolwarm")[128].astype(int)) == 0
    light = lightness("coolwarm")
    assert light.argmax() == 128
    np.testing.assert_allclose(light[129:], light[127:0:-1], atol=5)
    # Brewer's eleven colors, RdBu, from end to end.
    brewer = "67001fb2182bd6604df4a582fddbc7f7f7f7d1e5f092c5de4393c32166ac053061"
    published = np.frombuffer(bytes.fromhex(brewer), np.uint8).reshape(11, 3)
    for channel in range(3):
        drawn = np.interp(np.arange(1, 256), np.linspace(1, 255, 11), published[:, channel])
        np.testing.assert_allclose(table("RdBu")[1:, channel], drawn, atol=0.6)


@pytest.mark.parametrize("name", NAMES)
def test_a_value_that_is_not_a_number_has_a_color_of_its_own(name, photo):
    values = np.linspace(-1, 1, 256, dtype=np.float32).reshape(16, 16)
    values[3, 5], values[0, 1], values[0, 2] = np.nan, np.inf, -np.inf
    np.save("holes.npy", values)
    common = ("apply", "-k", "identity", "holes.npy", "--colormap", name)
    assert imgconv(*common, "-o", "holes.png") == 0
    seen = pixels("holes.png")
    found = (seen == (255, 0, 255)).all(axis=2)
    assert np.argwhere(found).tolist() == [[3, 5]]
    assert (seen[0, 1:3] == table(name)[[255, 1 if name in DIVERGING else 0]]).all()
    assert imgconv(*common, "--sheet", "--tile", 16, "-o", "sheet.png") == 0
    sheet = pixels("sheet.png")[:, 2 * GUTTER + 16 :]
    assert (sheet == (255, 0, 255)).all(axis=2).sum() == 1
    far = np.linalg.norm(
        color.rgb2lab(table(name)[None]) - color.rgb2lab(np.uint8([[(255, 0, 255)]])), axis=2
    )
    assert far.min() > 40


def test_missing_samples_have_the_color_of_nan_in_every_format(photo):
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    values[2, 2] = 200
    Image.fromarray(values).save("gaps.png")
    for name in ("o.png", "o.tif"):
        common = ("apply", "-k", "identity", "gaps.png", "--missing", 200, "-o", name)
        assert imgconv(*common, "--colormap", "viridis") == 0
        seen = pixels(name)
        assert seen[2, 2].tolist() == [255, 0, 255]
        assert seen[[0, -1], [0, -1]].tolist() == table("viridis")[[0, 255]].tolist()
    tagged = values.astype(np.float32)
    tagged[2, 2] = -9999
    Image.fromarray(tagged).save("tagged.tif", tiffinfo={42113: "-9999"})
    common = ("apply", "-k", "identity", "tagged.tif", "--missing", "nodata", "-o", "n.tif")
    assert imgconv(*common, "--colormap", "viridis") == 0
    np.testing.assert_array_equal(pixels("n.tif"), seen)


def test_a_color_map_spans_the_map_from_its_smallest_to_its_largest_value(photo):
    assert imgconv("apply", "-k", "sobel", "--gray", "photo.png", "-o", "raw.npy") == 0
    assert imgconv("apply", "-k", "sobel", "--colormap", "magma", "photo.png", "-o", "m.png") == 0
    raw = np.load("raw.npy")[..., 0].astype(np.float64)
    index = np.rint((raw - raw.min()) / np.ptp(raw) * 255).astype(int)
    off = np.abs(pixels("m.png").astype(int) - table("magma")[index]).max(axis=2)
    assert (off == 0).mean() > 0.999
    assert off.max() < 8


def test_zero_is_the_middle_of_the_diverging_map_whatever_the_extremes(photo):
    step = np.zeros((16, 32), np.uint8)
    step[:, 16:] = 10
    Image.fromarray(step).save("step.png")
    assert imgconv("apply", "-k", "sobel-x", "--colormap", "coolwarm", "step.png") == 0
    made = pixels("step-sobel-x.png")
    assert made[0, 0].tolist() == [221, 221, 221]
    assert made[0, 16].tolist() == table("coolwarm")[255].tolist()


def test_opacity_stays_beside_the_colors(photo):
    alpha = np.arange(96 * 128, dtype=np.uint8).reshape(96, 128, 1)
    Image.fromarray(np.concatenate([PHOTO, alpha], axis=2)).save("seen.png")
    assert imgconv("apply", "-k", "sobel", "--colormap", "viridis", "seen.png", "-o", "o.png") == 0
    np.testing.assert_array_equal(pixels("o.png")[..., 3:], alpha)


@pytest.mark.parametrize("name", ["sobel", "scharr", "prewitt", "roberts", "kirsch", "sobel5"])
def test_hue_is_the_way_a_plane_rises_for_every_gradient(name, photo):
    y, x = np.mgrid[:24, :24]
    for degrees in range(0, 360, 30):
        turn = np.radians(degrees)
        plane = (0.5 + 0.01 * (np.cos(turn) * x - np.sin(turn) * y)).astype(np.float32)
        np.save("plane.npy", plane)
        arguments = ["apply", "-k", name, "--combine", "direction", "--scale", "minmax"]
        assert imgconv(*arguments, "plane.npy", "-o", "hue.png", "--depth", 8, "--overwrite") == 0
        assert imgconv(*arguments, "plane.npy", "-o", "raw.npy", "--overwrite") == 0
        found = np.load("raw.npy")[4:-4, 4:-4, 0]
        np.testing.assert_allclose((found - degrees + 180) % 360 - 180, 0, atol=0.05)
        middle = pixels("hue.png")[12:13, 12:13]
        if middle.max() > 200:
            hue = color.rgb2hsv(middle)[0, 0, 0] * 360
            assert abs((hue - degrees + 180) % 360 - 180) < 1


def test_direction_is_as_bright_as_the_magnitude(photo):
    assert imgconv("apply", "-k", "sobel", "--gray", "photo.png", "-o", "m.png") == 0
    assert (
        imgconv("apply", "-k", "sobel", "--combine", "direction", "photo.png", "-o", "d.png") == 0
    )
    np.testing.assert_array_equal(pixels("d.png").max(axis=2), pixels("m.png"))


def test_a_direction_that_is_not_a_number_is_black(photo):
    values = np.random.default_rng(0).normal(size=(12, 12)).astype(np.float32)
    values[3, 3] = np.nan
    np.save("holes.npy", values)
    arguments = [
        "apply",
        "-k",
        "sobel",
        "--combine",
        "direction",
        "--depth",
        8,
        "--scale",
        "minmax",
    ]
    assert imgconv(*arguments, "holes.npy", "-o", "holes.png") == 0
    made = pixels("holes.png").max(axis=2)
    assert (made[2:5, 2:5] == 0)[[0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]].all()
    assert made[6:, 6:].max() > 100


def test_a_kernel_that_is_no_gradient_has_no_direction():
    for name in ("gaussian-3", "sobel-x", "laplacian"):
        weights = get_kernel(name).weights[:, 0]
        with pytest.raises(Exception, match="not a gradient"):
            direction(np.zeros((len(weights), 4, 4)), weights, name)


def test_a_sheet_shows_input_and_maps_in_reading_order(photo):
    arguments = ["-k", "sobel-x", "-k", "box-3", "--sheet", "--columns", 3, "--tile", 128]
    assert imgconv("apply", *arguments, "photo.png") == 0
    for kernel in ("sobel-x", "box-3"):
        assert imgconv("apply", "-k", kernel, "photo.png", "-o", f"{kernel}.png") == 0
    made = pixels("photo-sheet.png")
    for column, name in enumerate(("photo.png", "sobel-x.png", "box-3.png")):
        left = GUTTER + column * (128 + GUTTER)
        top = GUTTER + LINE  # below the title
        np.testing.assert_array_equal(made[top : top + 96, left : left + 128], pixels(name))


@pytest.fixture
def texts(monkeypatch):
    """What is written into pictures."""
    written = []
    text = ImageDraw.ImageDraw.text

    def note(self, place, words, *rest, **more):
        written.append(words)
        return text(self, place, words, *rest, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    return written


def test_a_sheet_says_what_each_map_is(photo, texts):
    assert imgconv("apply", "-k", "gabor-bank", "--sheet", "photo.png") == 0
    assert texts[0] == "photo.png: gabor-bank"
    assert [word for word in texts if word.startswith("theta")][:3] == [
        "theta 0°", "theta 22.5°", "theta 45°",
    ]  # fmt: skip
    texts.clear()
    steps = "gray | conv gaussian:sigma=2 | canny 50,150"
    assert imgconv("run", steps, "--keep", "*", "--sheet", "photo.png", "-o", "chain.png") == 0
    labels = ["1 gray", "2 conv gaussian:sigma=2", "3 canny 50,150"]
    assert texts[0] == f"photo.png: {steps}"
    assert [word for word in texts if word in labels] == labels


def test_a_sheet_says_which_values_are_black_and_white(texts):
    values = np.array([[-3.0, 9]])[..., None]
    draw_maps([Shown("x", values, "symmetric")], 1, Layout(tile=200))
    assert texts[-1] == "-3 … 9, shown -9 … 9"
    texts.clear()
    draw_maps([Shown("x", values, "symmetric")], 1, Layout(tile=200), "coolwarm")
    assert texts[-4:] == ["-3 … 9", "-9", "9", "0"]


@pytest.mark.parametrize(
    ("tile", "said"), [(100, "-8.428 … 12.07"), (77, "-8.43 … 12.1"), (60, "-8.4 … 12")]
)
def test_a_range_has_as_many_digits_as_fit_below_its_tile(texts, tile, said):
    values = np.array([[-8.428, 12.071], [0, 0]])[..., None]
    draw_maps([Shown("x", values, "minmax")], 1, Layout(tile=tile))
    assert texts[-1] == said


def test_a_plot_names_the_filters_of_a_bank(texts):
    weights = np.arange(36.0).reshape(2, 2, 3, 3)
    draw_kernel(Kernel("bank", weights, divisor=2, labels=("a", "b")))
    words = [word for word in texts if word[0] in "abcd"]
    assert words == [
        "bank  3x3, divided by 2", "a channel 0", "a channel 1", "b channel 0", "b channel 1",
    ]  # fmt: skip
    assert [word for word in texts if word.isdigit()] == [str(k) for k in range(36)]
    texts.clear()
    rgb = np.zeros((1, 3, 2, 2))
    rgb[0, 0, 0, 0], rgb[0, 2, 1, 1] = 1, -1
    made = draw_kernel(Kernel("first", rgb))
    colors = {tuple(pixel) for pixel in made.reshape(-1, 3).tolist()}
    assert {(255, 128, 128), (128, 128, 0), (128, 128, 128)} <= colors
    assert [word for word in texts if word.isdigit()] == []


def test_a_shared_scale_keeps_maps_comparable_and_an_own_one_does_not():
    maps = [Shown(str(k), np.full((4, 4, 1), k, np.float32) + np.eye(4)[..., None], "minmax")
            for k in (0, 9)]  # fmt: skip
    at = np.s_[GUTTER + 1, [GUTTER + 20, GUTTER + 20 + 32 + GUTTER], 0]
    own = draw_maps(maps, 255, Layout(2, 32))
    shared = draw_maps(maps, 255, Layout(2, 32, shared=True))
    assert own[at].tolist() == [0, 0]
    assert shared[at].tolist() == [0, round(9 / 10 * 255)]
    assert shared.shape[0] > own.shape[0]


def test_a_small_map_grows_by_whole_pixels_and_a_large_one_keeps_its_mean():
    checks = (np.indices((5, 5)).sum(axis=0) % 2 * 255).astype(np.uint8)
    made = draw([Tile("x", checks[..., None])], Layout(tile=64))
    block = made[GUTTER : GUTTER + 60, GUTTER : GUTTER + 60, 0]
    np.testing.assert_array_equal(block, np.kron(checks, np.ones((12, 12))))
    wide = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    made = draw([Tile("x", wide[..., None])], Layout(tile=64))
    assert np.ptp(made[GUTTER : GUTTER + 64, GUTTER : GUTTER + 64].astype(int)) == 0


def test_labels_of_any_text_leave_the_tiles_as_they_are():
    tile = np.full((32, 32, 1), 7, np.uint8)
    for label in ("new\nline", "\x1b[31m", "界" * 400, "\ud800", ""):
        made = draw([Tile(label, tile)], Layout(tile=32))
        assert made.shape == (2 * GUTTER + 32 + 16, 32 + 2 * GUTTER, 3)
        assert (made[GUTTER : GUTTER + 32, GUTTER : GUTTER + 32] == 7).all()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--colormap", "jet"], 2, "expected one of gray, viridis"),
        (["--tile", "64"], 2, "--tile needs --sheet"),
        (["--colormap", "magma", "-o", "x.npy"], 2, "expected a format"),
        (["--colormap", "magma", "--depth", "16"], 2, "8 bits"),
        (["--combine", "direction", "--colormap", "magma"], 2, "expected one of them"),
        (["--combine", "direction", "--pool", "max:2"], 2, "expected one of them"),
        (["--sheet", "--tile", "4096", "-k", "dct-8x8"], 1, "a smaller --tile"),
    ],
)
def test_what_cannot_be_shown_is_one_line(photo, capfd, arguments, code, says):
    assert imgconv("apply", "-k", "sobel", "photo.png", *arguments) == code
    message = capfd.readouterr().err
    assert message.count("\n") == 1
    assert says in message
    assert sorted(path.name for path in photo.iterdir()) == ["photo.png"]


def test_a_chain_is_seen_step_by_step_on_one_sheet(photo):
    chain = "gray | conv gabor-bank:orientations=4 | relu | maxpool 2"
    assert imgconv("run", chain, "--keep", "*", "--sheet", "photo.png", "-o", "chain.png") == 0
    assert pixels("chain.png").shape[2] == 3
