"""The documentation is true: every command and option is described, every example runs."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from PIL import Image
from skimage import data

from imgconv.cli import main

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(sh|console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


leaves = runpy.run_path(str(ROOT / "docs" / "update_options.py"))["leaves"]
COMMANDS = {" ".join(path): command for path, command in leaves(main)}


def test_the_manual_pages_are_as_their_script_writes_them():
    made = runpy.run_path(str(ROOT / "docs" / "make_man.py"))["pages"]()
    assert made == {path.name: path.read_text() for path in (ROOT / "docs" / "man").glob("*.1")}
    for name, text in made.items():
        assert ".SH NAME" in text
        assert not [line for line in text.splitlines() if line.startswith("'")], name


def page_of(path):
    return ROOT / "docs" / f"{path.split()[0]}.md"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_has_its_place_in_the_docs(path):
    page = page_of(path).read_text()
    assert f"imgconv {path}" in page
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            for name in (*parameter.opts, *parameter.secondary_opts):
                assert f"`{name}" in page, f"{path}: {name} is not described"


def test_every_page_is_reached_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    for page in PAGES:
        assert f"docs/{page.name}" in readme, page.name


def anchors(path):
    """The names under which GitHub shows a page's headings."""
    headings = re.findall(r"^#+ +(.*)$", path.read_text(), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {word.replace(" ", "-") for word in words}


def test_every_link_leads_to_a_file_and_a_heading():
    pages = [*PAGES, *ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md"]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if "://" not in link
    ]
    assert len(links) > 80
    for page, link in links:
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not heading or heading in anchors(target), f"{page.name}: {link}"


def blocks(path):
    for number, match in enumerate(BLOCK.finditer(path.read_text())):
        if "# not run:" not in match[2]:
            # Compiling every loop takes a minute.
            marks = [pytest.mark.slow] if "imgconv warmup" in match[2] else []
            yield pytest.param(match[1], match[2], id=f"{path.stem}-{number}", marks=marks)


# The examples of architecture.md change the source; test_architecture.py makes them in a copy.
RUN = [path for path in PAGES if path.stem != "architecture"]
EXAMPLES = [example for path in RUN for example in blocks(path)]


@pytest.fixture
def folder(tmp_path):
    """A folder with the files that examples speak of."""
    photo = Image.fromarray(data.astronaut()[:256, :256])
    photo.save(tmp_path / "photo.png")
    photo.save(tmp_path / "photo.jpg")
    Image.fromarray(data.camera()[::2, ::2]).save(tmp_path / "gray.png")
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, image in (("coffee", data.coffee()), ("chelsea", data.chelsea())):
        Image.fromarray(image[:200, :200]).save(photos / f"{name}.jpg")
    (tmp_path / "grid.txt").write_text("3 3 2 1 0\n0 0 1 3 1\n3 1 2 2 3\n2 0 0 2 2\n2 0 0 0 1\n")
    (tmp_path / "pool.txt").write_text("2 -4 2 2\n0 1 0 -1\n2 1 0 2\n5 -3 1 4\n")
    return tmp_path


def environment():
    scripts = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"}


def run(language, text, folder):
    """Run an example in a folder; what it prints is what it says."""
    if language == "python":
        command, expected = [sys.executable, "-W", "error", "-c", text], None
    else:
        script, expected = text, None
        if language == "console":
            lines = text.splitlines()
            script = "\n".join(line[2:] for line in lines if line.startswith(("$ ", "> ")))
            expected = [line for line in lines if not line.startswith(("$ ", "> "))]
        command = [shutil.which("bash"), "-euo", "pipefail", "-c", script]
    result = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    if expected is not None:
        assert [line.rstrip() for line in result.stdout.splitlines()] == expected


@pytest.mark.parametrize(("language", "text"), EXAMPLES)
def test_every_example_runs_and_prints_what_it_says(language, text, folder):
    run(language, text, folder)


def test_the_readme_runs_in_order_in_an_empty_folder(tmp_path):
    examples = [match.groups() for match in BLOCK.finditer((ROOT / "README.md").read_text())]
    steps = [(language, text) for language, text in examples if "venv" not in text]
    assert len(examples) == len(steps) + 2  # the set-up commands, of which .ci/run runs one
    for language, text in steps:
        run(language, text, tmp_path)
    for name in ("photo-sobel.png", "canny.png", "edges/cat.jpg", "digit.html", "edges.png"):
        assert (tmp_path / name).stat().st_size > 1000, name


def test_what_the_readme_claims_was_measured():
    measured = (ROOT / "benchmarks" / "README.md").read_text()
    introduction = (ROOT / "README.md").read_text().partition("\n## ")[0].replace("\n", " ")
    claims = re.findall(r"(\d\.\d\d × \w+)", introduction)
    assert len(claims) == 5
    for claim in claims:
        assert claim in measured, claim
