"""The tutorial's notebook is what its script makes, and every cell of it runs."""

import base64
import io
import json
import runpy
from pathlib import Path

import numpy as np
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"


def test_every_cell_runs_and_shows_what_the_notebook_says():
    made = runpy.run_path(str(DOCS / "make_notebook.py"))["notebook"]()
    kept = json.loads((DOCS / "tutorial.ipynb").read_text())
    assert [cell["source"] for cell in made["cells"]] == [cell["source"] for cell in kept["cells"]]
    pictures = 0
    for cell, before in zip(made["cells"], kept["cells"], strict=True):
        outputs = zip(cell.get("outputs", []), before.get("outputs", []), strict=True)
        for now, then in outputs:
            assert now["data"]["text/plain"] == then["data"]["text/plain"]
            if "image/png" in then["data"]:
                pictures += 1
                shown, earlier = (
                    np.asarray(Image.open(io.BytesIO(base64.b64decode(one["data"]["image/png"]))))
                    for one in (now, then)
                )
                # Letters may be drawn by another version of Pillow.
                assert shown.shape == earlier.shape
                assert np.mean(shown != earlier) < 0.05
    assert pictures == 8
