"""What `sample:` names: a photograph that ships with its license, and pictures drawn by formula."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.errors import LimitError, UsageError
from imgconv.io import sample
from imgconv.io.reading import read_images

FILE = Path(sample.__file__).with_name("chelsea.jpg")


def test_the_photo_is_the_one_that_the_license_names_and_is_small():
    image = next(read_images("sample:photo"))
    assert image.pixels.shape == (300, sample.PHOTO_WIDTH, 3)
    np.testing.assert_array_equal(image.pixels, np.asarray(Image.open(FILE)))
    off = np.abs(image.pixels.astype(int) - data.chelsea())
    assert 0 < off.mean() < 2
    assert FILE.stat().st_size < 150_000
    assert FILE.name in (Path(__file__).parents[2] / "LICENSE").read_text()


@pytest.mark.parametrize(("size", "shape"), [(451, (300, 451)), (192, (128, 192)), (16, (11, 16))])
def test_the_photo_is_made_smaller_by_its_longer_side(size, shape):
    pixels = sample.sample(f"photo:{size}").pixels
    assert pixels.shape == (*shape, 3)
    assert abs(pixels.mean() - data.chelsea().mean()) < 3


def test_names_and_sizes_that_are_not_there_are_refused_with_what_is():
    with pytest.raises(UsageError, match=r"^sample:phot: expected one of photo, .*mean 'photo'\?$"):
        sample.sample("sample:phot")
    for name, most in (
        ("photo:452", 451),
        ("photo:x", 451),
        ("chart:8193", 8192),
        ("star:9", 8192),
    ):
        with pytest.raises(UsageError, match=f"expected a number from 16 to {most}$"):
            sample.sample(name)
    with pytest.raises(LimitError, match="--max-pixels"):
        sample.sample("photo", 1000)
