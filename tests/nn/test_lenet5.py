"""The LeNet-5 that ships: small, accurate on digits that it has never seen, and ready to use."""

import numpy as np
import pytest

from imgconv.io.sample import sample
from imgconv.nn.find import find_network, with_weights
from tests.digits import split


@pytest.fixture(scope="module")
def network():
    return with_weights(find_network("lenet5"), None, None)[0]


def logits(network, images):
    batch = np.concatenate([network.preprocess(image, 255.0) for image in images])
    return network.graph.run(batch)["output"]


def test_the_file_is_small(network):
    from pathlib import Path

    assert Path(network.weights).stat().st_size <= 300_000


def test_held_out_digits_are_read(network):
    _, (images, labels) = split()
    assert len(images) > 440
    found = logits(network, images[..., None]).argmax(axis=1)
    assert np.mean(found == labels) >= 0.98


def test_the_split_keeps_held_out_images_away_from_training():
    (images, labels), (held, truth) = split()
    seen = {image.tobytes() for image in images}
    assert len(images) + len(held) == 1797
    assert not any(image.tobytes() in seen for image in held)
    assert abs(np.bincount(truth) * 3 - np.bincount(labels)).max() <= 3


def test_sample_digits_are_read(network):
    drawn = [sample(f"digit-{number}").pixels for number in range(10)]
    found = logits(network, drawn)
    assert [network.labels[index] for index in found.argmax(axis=1)] == list("0123456789")


def test_a_batch_gives_the_numbers_of_its_items_alone(network):
    drawn = [sample(f"digit-{number}:64").pixels for number in range(3)]
    together = logits(network, drawn)
    for row, image in zip(together, drawn, strict=True):
        np.testing.assert_array_equal(row, logits(network, [image])[0])
