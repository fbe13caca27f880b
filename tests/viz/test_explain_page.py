"""The page of `explain`: the tool's own numbers, by pointer, by keys and for ears, in any width."""

import itertools
import json
import re
import shlex

import numpy as np
import pytest

from imgconv.cli import main
from imgconv.cli.exit_codes import run
from imgconv.io.color import to_gray
from imgconv.io.sample import photo
from imgconv.kernels import get_kernel
from imgconv.ops.filter import filter_image
from imgconv.ops.padding import MODES, source_indices
from imgconv.ops.pool_text import parse_pool
from imgconv.shapes import ReceptiveField, Sides
from imgconv.viz.explain.page import PHOTO, render
from imgconv.viz.explain.steps import explain_conv, explain_pool
from imgconv.viz.explain.text import formula, number
from tests.browser import browser

GRID = np.array([[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, -0.5, 0, 2, 2]])
KERNEL = np.array([[0, 1, 2], [2, -2, 0.25]])


def conv(**options):
    return explain_conv(GRID, KERNEL, **options)


CASES = {
    "plain": conv(),
    "strided": conv(stride=(1, 2), sides=Sides(1, 2, 0, 3), dilation=(2, 1), mode="circular"),
    "flipped": conv(flip=True, divisor=3.0, bias=-0.5, sides=Sides(5, 1, 7, 2), mode="symmetric"),
    "max": explain_pool(GRID, parse_pool("max:2")),
    "avg": explain_pool(GRID, parse_pool("avg:3,stride=2,padding=1")),
    "median": explain_pool(GRID, parse_pool("median:3,stride=1,padding=1")),
    "range": explain_pool(GRID, parse_pool("range:2x3,stride=1,dilation=2x1")),
    "min": explain_pool(GRID, parse_pool("min:3,stride=1,padding=1")),
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A browser, and how to open an explanation in it."""
    folder = tmp_path_factory.mktemp("pages")
    with browser() as session:

        def show(explanation):
            path = folder / "page.html"
            path.write_bytes(render(explanation))
            session.open(path)
            session.wait("return photo.output !== undefined")
            return session

        yield show


@pytest.mark.parametrize("name", CASES)
def test_every_number_and_sentence_is_the_tools(page, name):
    explanation = CASES[name]
    session = page(explanation)
    found = session.run(
        "return [...Array(done.size[0] * done.size[1]).keys()].map(i => { show(i);"
        "  const step = done.step(...place());"
        "  return [step.result, step.cells.map(c => [c.y, c.x, c.value, c.weight]),"
        "    document.getElementById('formula').textContent]; })"
    )
    assert session.run("return done.padded") == explanation.padded.tolist()
    assert len(found) == len(explanation.steps)
    for (result, cells, words), step in zip(found, explanation.steps, strict=True):
        assert result == step.result
        assert cells == [[c.row, c.column, c.value, c.weight] for c in step.cells]
        assert words == f"output ({step.row}, {step.column}): {formula(explanation, step)}"
    assert not session.log()


@pytest.mark.parametrize("name", ["strided", "flipped", "avg"])
def test_the_command_shown_gives_the_same(page, name, capsys):
    command = page(CASES[name]).run("return document.getElementById('command').textContent")
    capsys.readouterr()
    assert run(main, [*shlex.split(command)[1:], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["output"] == CASES[name].output.tolist()


def test_pads_of_any_width_and_numbers_are_written_as_the_tool_does(page):
    session = page(CASES["plain"])
    for size, mode in itertools.product((1, 2, 5), MODES):
        found = session.run(f"return indexMap({size}, 7, 9, '{mode}')")
        assert found == source_indices(size, 7, 9, mode).tolist()
    values = [0.0, -0.0, 12.0, -0.25, 1 / 3, 12345.0, 12355.0, 0.00012345, 1e-5, 9999.5, 99995.0,
              1e300, 0.1 + 0.2, 1234.5, 1235.5, -2.5e-7]  # fmt: skip
    values += np.random.default_rng(3).integers(0, 1 << 63, 40).view(np.float64).tolist()
    assert session.run(f"return {json.dumps(values)}.map(number)") == [number(v) for v in values]


def test_the_photograph_is_filtered_as_by_the_tool(page):
    session = page(explain_conv(GRID, get_kernel("sobel-x").weights[0, 0]))
    gray = to_gray(photo(PHOTO))
    for name, options in (("sobel-x", {}), ("gaussian", {"padding_mode": "zeros"})):
        kernel = get_kernel(name)
        session.run(
            f"attempt(() => {{ state.kernel = {json.dumps(kernel.weights[0, 0].tolist())};"
            f"state.divisor = {kernel.divisor}; state.padding = 'same';"
            f"state.mode = '{options.get('padding_mode', 'reflect')}'; }})"
        )
        found = np.array(session.run("return [...photo.output]")).reshape(gray.shape[:2])
        want = filter_image(gray, kernel.effective_weights(), **options)[0, ..., 0]
        np.testing.assert_allclose(found, want, rtol=2e-6, atol=1e-4)


def test_fields_through_layers_are_the_tools(page):
    session = page(CASES["plain"])
    layers = [(7, 2, 3, 1), (3, 2, 1, 1), (3, 1, 2, 2), (1, 1, 0, 1), (4, 3, 0, 1)]
    names = ("kernel", "stride", "padding", "dilation")
    given = [dict(zip(names, layer, strict=True)) for layer in layers]
    field = ReceptiveField()
    for layer, found in zip(
        layers, session.run(f"return fields({json.dumps(given)})"), strict=True
    ):
        field = field.through(*layer)
        assert (found["size"], found["jump"], found["start"]) == field
    session.run("document.getElementById('layer-add').click()")
    text = "return document.getElementById('layers-text').textContent"
    assert "after 5 layers sees 14×14 of the input" in session.run(text)
    assert session.run("return document.getElementById('layer-add').disabled")


def test_it_is_used_by_keys_and_refuses_what_cannot_be(page):
    session = page(CASES["plain"])
    say = "return document.getElementById('formula').textContent"
    session.run("document.getElementById('output').focus()")
    session.press("\ue014", "\ue015")  # right, down
    assert session.run(say).startswith("output (1, 1): ")
    session.run("document.querySelector('#kernel input').focus()")
    session.press("1", "/", "2", "\ue007")
    assert session.run("return state.kernel[0][0]") == 0.5
    assert "·0.5 + " in session.run(say)
    session.press("x", "\ue007")
    problem = "return document.getElementById('problem').textContent"
    assert session.run(problem) == "'x': expected a number such as -1, 0.5 or 1/9"
    assert session.run("return state.kernel[0][0]") == 0.5
    session.run("attempt(() => { state.dilation = [8, 8]; })")
    assert "window is larger than the padded input" in session.run(problem)
    assert session.run("return state.dilation") == [1, 1]
    cell = session.find("#output tr:nth-child(2) td:nth-child(3)")
    session.point_at(cell, 1, 1)
    assert session.run(say).startswith("output (1, 2): ")
    marked = session.run("return document.querySelectorAll('#input td.in').length")
    assert marked == KERNEL.size
    names = session.run(
        "return [...document.querySelectorAll('input, select, button, textarea, [tabindex]')]"
        ".filter(e => !e.getAttribute('aria-label') && !e.closest('label') && !e.textContent)"
        ".map(e => e.outerHTML)"
    )
    assert not names
    assert not session.log()


def test_it_fits_a_phone_and_a_desk(page):
    for width in (390, 1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        page(CASES["plain"]).call("POST", "/goog/cdp/execute", command)
        for name in ("strided", "flipped", "avg"):
            across = "return document.documentElement.scrollWidth"
            assert page(CASES[name]).run(across) == width


def test_the_page_is_closed_to_everything_else():
    text = render(CASES["plain"]).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert " style=" not in text.split("<script>")[0]


def test_a_page_is_written_by_the_command(tmp_path, capsys):
    path = tmp_path / "window.html"
    assert run(main, ["explain", "--pool", "max:2", "-o", str(path)]) == 0
    assert "&quot;operation&quot;:&quot;max&quot;" in path.read_text(encoding="utf-8")
    assert run(main, ["explain", "-o", str(path)]) == 1  # it exists
    capsys.readouterr()
    refused = ["explain", "--pool", "avg:3,ceil_mode=true", "-o", str(tmp_path / "other.html")]
    assert run(main, refused) == 2
    assert "a page shows max, avg, min, median, range pools" in capsys.readouterr().err
