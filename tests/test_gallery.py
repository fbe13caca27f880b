"""The gallery is whole: every preset is in it, every picture is there, and it stays small."""

import re
from pathlib import Path

from PIL import Image

from imgconv.kernels import generators, presets

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "gallery.md").read_text()
LIMIT = 2 * 1024 * 1024


def test_every_preset_and_generator_is_listed():
    listed = {spec.partition(":")[0] for spec in re.findall(r"^- `([^`]+)`", PAGE, re.MULTILINE)}
    named = {name for _, names in presets.families() for name in names}
    assert listed == named | set(generators.GENERATORS)


def test_the_page_shows_exactly_the_pictures_that_are_there():
    shown = re.findall(r"!\[[^]]*\]\((gallery/[^)]+)\)", PAGE)
    files = sorted(path.relative_to(DOCS).as_posix() for path in (DOCS / "gallery").iterdir())
    assert sorted(shown) == files
    assert sum((DOCS / name).stat().st_size for name in files) < LIMIT
    for name in files:
        with Image.open(DOCS / name) as picture:
            picture.load()
            assert picture.format == "WEBP"
