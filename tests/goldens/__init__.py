"""Vectors that other programs made, and the scripts that make them again."""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


def load(name):
    """The arrays of an NPZ, or what a JSON file holds."""
    path = FOLDER / name
    return json.loads(path.read_text()) if path.suffix == ".json" else np.load(path)
