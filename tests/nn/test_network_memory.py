"""A network's peak memory: its weights where they are mapped, and the two largest maps."""

import subprocess
import sys

import pytest
from PIL import Image

from tests.running import peak

DRAW = """
import sys
from imgconv.nn.models import get_network
from imgconv.nn.weights import draw_weights, loaded
from imgconv.safetensors import write_safetensors
write_safetensors(sys.argv[1], loaded(draw_weights(get_network("vgg16").graph, 1)))
"""
WEIGHTS = 138_357_544 * 4 >> 20  # MB
LARGEST = 64 * 224 * 224 * 4 >> 20  # MB


@pytest.mark.slow
def test_vgg16_holds_its_weights_once_and_two_of_the_largest_maps(tmp_path):
    subprocess.run([sys.executable, "-c", DRAW, tmp_path / "w.safetensors"], check=True)
    Image.new("RGB", (224, 224), "teal").save(tmp_path / "in.png")

    def features(layer):
        # Twice: compiling the loops takes more memory than running them.
        for out in ("first", "second"):
            used = peak(
                "net", "features", "vgg16", "in.png", "--weights", "w.safetensors", "--layer",
                layer, "--format", "npz", "-o", f"{layer}-{out}/", cwd=tmp_path,
            )  # fmt: skip
        return used

    first = features("features.0")
    assert first < 128, "the first layer reads no other layer's weights"
    # Measured: 541 MB more, where 540 are asked for; a copy of the filters alone is 56.
    assert features("classifier.6") - first < WEIGHTS + LARGEST + 40
