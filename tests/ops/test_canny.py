"""Canny's edges against OpenCV's, pixel by pixel."""

import cv2
import numpy as np
import pytest
from skimage import data

from imgconv.cli import main
from imgconv.errors import ShapeError
from imgconv.ops.canny import canny
from tests.running import run

PHOTOS = ("astronaut", "camera", "coffee", "chelsea", "page", "coins", "rocket")


@pytest.mark.parametrize("name", PHOTOS)
def test_photographs_have_opencvs_edges(name):
    image = getattr(data, name)()[:300, :300]
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    blue_first = np.ascontiguousarray(image if image.ndim == 2 else image[..., ::-1])
    for low, high in ((50, 150), (10.5, 30), (0, 0)):
        for l2gradient in (False, True):
            wanted = cv2.Canny(blue_first, low, high, L2gradient=l2gradient)
            np.testing.assert_array_equal(canny(planes, low, high, l2gradient)[0], wanted)


def test_all_shapes_of_small_images_and_all_directions(monkeypatch):
    rng = np.random.default_rng(3)
    for _ in range(400):
        image = rng.integers(0, rng.integers(2, 256), rng.integers(1, 9, 2), np.uint8)
        np.testing.assert_array_equal(canny(image[None], 20, 60)[0], cv2.Canny(image, 20, 60))
    large = rng.integers(0, 256, (1, 300, 400), np.uint8)
    edges = canny(large, 300, 700)
    monkeypatch.setenv("IMGCONV_NUM_THREADS", "1")
    np.testing.assert_array_equal(canny(large, 300, 700), edges)
    np.testing.assert_array_equal(canny(large.astype(np.float64), 300, 700), edges)
    np.testing.assert_array_equal(canny(large.astype(np.uint16) * 257, 300 * 257, 700 * 257), edges)


def test_the_wrong_way_round_is_refused():
    with pytest.raises(ShapeError, match="low=9 with high=3, expected low ≤ high"):
        canny(np.zeros((1, 5, 5)), 9, 3)


def test_a_chain_finds_edges(tmp_path, capsys):
    photo, edges = tmp_path / "photo.png", tmp_path / "edges.png"
    image = data.astronaut()[:200, :240, ::-1]
    cv2.imwrite(str(photo), image)
    assert run(main, ["run", "canny 50,150", str(photo), "-o", str(edges)]) == 0
    wanted = cv2.Canny(np.ascontiguousarray(image), 50, 150)
    np.testing.assert_array_equal(cv2.imread(str(edges), cv2.IMREAD_UNCHANGED), wanted)
    assert run(main, ["run", "canny low=50 high=40", str(photo), "-o", "other.png"]) == 2
    assert "low=50 with high=40, expected low ≤ high" in capsys.readouterr().err
