"""Files of several frames, read back by Pillow, tifffile, NumPy and zarr."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.errors import OutputError
from imgconv.io.formats import FORMATS
from imgconv.io.frames import Frame, alike, encode_frames
from imgconv.io.image import Image as Read
from imgconv.io.publish import joined, publish
from imgconv.io.reading import read_images
from tests.running import here

PHOTO = data.astronaut()[:60, :80]
MOVED = [np.roll(PHOTO, 9 * step, 1) for step in range(4)]
SHOWN = (40, 70, 1000, 20)


def in_channels(channels):
    """The frames as gray, gray with opacity, RGB or RGBA."""
    opacity = (np.indices(PHOTO.shape[:2]).sum(0) * 3 % 256).astype(np.uint8)
    found = []
    for frame in MOVED:
        colors = frame[..., 1:2] if channels < 3 else frame
        found.append(np.dstack([colors, opacity] if channels in (2, 4) else [colors]))
    return found


def encoded(frames, name, loops=0, **options):
    """The bytes of a file of frames, each with a duration of its own."""
    made = (Frame(samples, options, shown) for samples, shown in zip(frames, SHOWN, strict=False))
    return joined(encode_frames(made, len(frames), FORMATS[name], loops))


@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, channels) for name in ("png", "webp", "gif") for channels in FORMATS[name].channels],
)
@pytest.mark.parametrize("loops", [0, 3])
def test_an_animation_has_its_frames_times_and_loops(name, channels, loops):
    frames = in_channels(channels)
    alpha = {"alpha": channels in (2, 4)}
    content = encoded(frames, name, loops, quality=100, **alpha)
    with Image.open(io.BytesIO(content)) as opened:
        assert (opened.n_frames, opened.info["loop"]) == (len(frames), loops)
        for number, samples in enumerate(frames):
            opened.seek(number)
            opened.load()
            assert opened.info["duration"] == SHOWN[number]
            got = np.asarray(opened.convert("RGBA")).astype(int)
            want = np.asarray(Image.fromarray(samples.squeeze()).convert("RGBA")).astype(int)
            if name == "gif":
                want[..., 3] = np.where(want[..., 3] < 128, 0, 255)
            shown = got[..., 3] > 0
            if name == "png":
                np.testing.assert_array_equal(got, want)
            else:  # lossy, or a palette of 256 colors
                assert np.abs(got - want)[shown].mean() < 4
                np.testing.assert_array_equal(got[..., 3], want[..., 3])


def test_a_gif_without_loops_is_played_once_and_16_bits_are_kept_in_png():
    with Image.open(io.BytesIO(encoded(MOVED, "gif", None))) as opened:
        assert "loop" not in opened.info
        assert opened.n_frames == len(MOVED)
    deep = [frame.astype(np.uint16) * 257 + 3 for frame in MOVED]
    content = encoded(deep, "png")
    assert (content[24], content[25]) == (16, 2)
    kinds = []
    at = 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        kinds.append(content[at + 4 : at + 8])
        at += size + 12
    assert kinds.count(b"fcTL") == 4
    assert kinds.index(b"acTL") < kinds.index(b"IDAT") < kinds.index(b"fdAT")
    assert kinds[-1] == b"IEND"


def test_a_transparent_gif_stays_transparent(tmp_path):
    disc = np.indices((48, 64)) - np.array([20, 30])[:, None, None]
    frames = []
    for step in range(3):
        inside = (disc[0] ** 2 + (disc[1] - 4 * step) ** 2) < 150
        frames.append(np.dstack([np.where(inside, level, 0) for level in (200, 40 * step, 9)]
                                + [inside * 255]).astype(np.uint8))  # fmt: skip
    first, *others = map(Image.fromarray, frames)
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, disposal=2)
    result = here("apply", "-k", "identity", tmp_path / "a.gif", "-q", "-o", tmp_path / "b.gif")
    assert result.returncode == 0, result.stderr
    (tmp_path / "c.gif").write_bytes(encoded(frames, "gif", alpha=True))
    for name, wanted in (("b.gif", frames[:1]), ("c.gif", frames)):
        with Image.open(tmp_path / name) as opened:
            for number, want in enumerate(wanted):
                opened.seek(number)
                got = np.asarray(opened.convert("RGBA"))
                np.testing.assert_array_equal(got * (got[..., 3:] > 0), want)


def test_what_is_said_of_the_whole_is_said_once():
    with Image.open(io.BytesIO(data_of_profile())) as opened:
        icc = opened.info["icc_profile"]
    for name in ("png", "webp", "gif"):
        content = encoded(MOVED, name, record={"imgconv": "here"}, icc=icc)
        assert content.count(b'{"imgconv": "here"}') == 1
        with Image.open(io.BytesIO(content)) as opened:
            assert opened.n_frames == len(MOVED)
            if name != "gif":
                assert opened.info["icc_profile"] == icc


def data_of_profile():
    """A PNG with a profile."""
    from PIL import ImageCms

    made = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (2, 2)).save(made, "PNG", icc_profile=profile)
    return made.getvalue()


def test_a_stack_is_one_array(tmp_path):
    content = encoded(MOVED, "npy")
    np.testing.assert_array_equal(np.load(io.BytesIO(content)), np.stack(MOVED))
    np.testing.assert_array_equal(
        [image.pixels for image in read_images(content, frame="all")], np.stack(MOVED)
    )


def test_a_zarr_has_a_time_axis(tmp_path):
    zarr = pytest.importorskip("zarr")
    frames = [np.tile(frame, (9, 7, 1)) for frame in MOVED]
    path = tmp_path / "a.zarr"
    made = (Frame(samples, {"record": {"imgconv": "here"}, "pyramid": True}) for samples in frames)
    publish(str(path), encode_frames(made, len(frames), FORMATS["zarr"]))
    group = zarr.open(path, mode="r")
    (scales,) = group.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == ["t", "c", "y", "x"]
    assert len(scales["datasets"]) > 1
    np.testing.assert_array_equal(np.moveaxis(group["0"][...], 1, 3), np.stack(frames))
    for image, samples in zip(read_images(path, frame="all"), frames, strict=True):
        np.testing.assert_array_equal(image.pixels, samples)
    half = frames[2].reshape(270, 2, 280, 2, 3).mean((1, 3))
    got = next(read_images(path, frame=2, level=1)).pixels
    np.testing.assert_array_equal(got, np.rint(half))


@pytest.mark.parametrize("name", ["png", "webp", "gif", "npy", "zarr"])
def test_frames_of_two_sizes_are_refused_in_one_line(tmp_path, name):
    frames = [MOVED[0], MOVED[1][:50]]
    made = (Frame(samples, {}) for samples in frames)
    with pytest.raises(OutputError, match="frame 1 is 80×50×3 uint8, the first 80×60×3"):
        publish(str(tmp_path / f"a.{name}"), encode_frames(made, 2, FORMATS[name]))
    assert not list(tmp_path.iterdir())


def test_frames_get_the_channels_that_any_of_them_has():
    kinds = [MOVED[0][..., :1], in_channels(4)[1], MOVED[2]]

    def images():
        for samples in kinds:
            yield Read(samples, alpha=samples.shape[2] == 4)

    found = list(alike(images))
    assert all(image.alpha and image.pixels.shape == (60, 80, 4) for image in found)
    np.testing.assert_array_equal(found[0].pixels[..., 2], MOVED[0][..., 0])
    np.testing.assert_array_equal(found[1].pixels, kinds[1])
    np.testing.assert_array_equal(found[2].pixels[..., :3], MOVED[2])
    assert (found[2].pixels[..., 3] == 255).all()


@pytest.mark.parametrize("pyramid", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_tiff_has_a_page_a_frame(tmp_path, dtype, pyramid):
    tifffile = pytest.importorskip("tifffile")
    shapes = [(600, 530, 3), (600, 530, 3), (40, 50, 1), (300, 310, 5)]
    frames = [np.arange(np.prod(shape)).reshape(shape).astype(dtype) for shape in shapes]
    options = {"pyramid": pyramid, "record": {"imgconv": "here"}}
    made = (Frame(samples, options) for samples in frames)
    publish(str(tmp_path / "a.tif"), encode_frames(made, len(frames), FORMATS["tiff"]))
    with tifffile.TiffFile(tmp_path / "a.tif") as opened:
        assert len(opened.pages) == len(frames)
        for page, samples in zip(opened.pages, frames, strict=True):
            np.testing.assert_array_equal(page.asarray().reshape(samples.shape), samples)
            smaller = page.subifds or ()
            assert bool(smaller) == (pyramid and samples.shape[0] > 256)
    found = read_images(tmp_path / "a.tif", frame="all")
    for image, samples in zip(found, frames, strict=True):
        np.testing.assert_array_equal(image.pixels, samples)
    assert (tmp_path / "a.tif").read_bytes().count(b'{"imgconv": "here"}') == 1


def test_a_tiff_that_may_pass_4_gb_is_a_bigtiff(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    frames = [np.full((8, 9, 3), number, np.uint8) for number in range(3)]
    made = (Frame(samples, {}) for samples in frames)
    # As if a hundred million more were to come.
    publish(str(tmp_path / "a.tif"), encode_frames(made, 10**8, FORMATS["tiff"]))
    with tifffile.TiffFile(tmp_path / "a.tif") as opened:
        assert opened.is_bigtiff
        np.testing.assert_array_equal([page.asarray() for page in opened.pages], frames)
