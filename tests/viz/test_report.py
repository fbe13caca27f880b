"""The report page: whole by itself, closed to the rest, and usable by pointer, keys and ear."""

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import data

import imgconv as imgconv_api
from imgconv.cli import main
from imgconv.cli.exit_codes import run
from imgconv.nn.analysis.receptive import Field
from imgconv.nn.models import get_network
from imgconv.shapes import ReceptiveField
from imgconv.viz.report.page import Page, render
from imgconv.viz.report.sections import (
    BUDGET,
    MOST_FLAT,
    MOST_MAPS,
    dense_section,
    parts,
    section,
    statistics,
)
from tests.browser import browser

PHOTO = data.astronaut()[:120, 160:320]
EVIL = '"><img src=x onerror=alert(1)><script>alert(2)</script>\x1b&'


class Reader(HTMLParser):
    """Collects tags with their attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page.decode())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def all(self, tag, **wanted):
        return [a for t, a in self.tags if t == tag
                and all(a.get(key) == value for key, value in wanted.items())]  # fmt: skip


def picture(source):
    head, _, text = source.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PHOTO).save("photo.png")
    return tmp_path


def imgconv(*arguments):
    return run(main, [str(one) for one in arguments])


def made(folder, *arguments):
    assert imgconv(*arguments, "photo.png", "--report", "page.html") == 0
    return (folder / "page.html").read_bytes()


def test_without_o_only_the_page_is_written_and_with_it_both(folder):
    page = made(folder, "apply", "-k", "sobel")
    assert sorted(path.name for path in folder.iterdir()) == ["page.html", "photo.png"]
    arguments = ["apply", "-k", "sobel", "photo.png", "-o", "edges.png", "--report", "again.html"]
    assert imgconv(*arguments) == 0
    assert (folder / "again.html").read_bytes() == page
    assert (folder / "edges.png").exists()
    assert imgconv(*arguments, "--skip-existing") == 0
    assert imgconv(*arguments) == 1


def test_every_input_has_its_page_and_collisions_are_found_first(folder, capfd):
    Image.fromarray(PHOTO[::2]).save("other.png")
    both = ["apply", "-k", "sobel", "photo.png", "other.png"]
    assert imgconv(*both, "--report", "one.html") == 2
    assert capfd.readouterr().err == (
        "imgconv: one.html: output of both photo.png and other.png, expected one; use --report "
        "DIR/ or a template such as --report '{parent}-{stem}.html'\n"
    )
    assert imgconv(*both, "-o", "one.png") == 2
    assert "or a template such as -o '{parent}-{stem}-{map}.png'" in capfd.readouterr().err
    assert imgconv(*both, "--report", "pages/") == 0
    assert sorted(path.name for path in (folder / "pages").iterdir()) == [
        "other.html", "photo.html",
    ]  # fmt: skip
    for target in ("-", "page.png", "photo.png"):
        assert imgconv("apply", "-k", "sobel", "photo.png", "--report", target) == 2


def test_maps_and_kernels_are_the_real_ones(folder):
    page = Reader(made(folder, "apply", "-k", "sobel-x", "--channels", "g"))
    (layer,) = page.all("section")
    facts = json.loads(layer["data-layer"])
    gray = PHOTO[..., 1].astype(np.float64)
    expected = ndimage.correlate(
        gray, np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]), mode="mirror"
    )
    (shown,) = facts["maps"]
    assert (shown["low"], shown["high"]) == (expected.min(), expected.max())
    assert shown["mean"] == pytest.approx(expected.mean(), abs=1e-3)
    (atlas,) = page.all("img", **{"class": "atlas"})
    assert atlas["loading"] == "lazy"
    values = shown["low"] + picture(atlas["src"]) * (shown["high"] - shown["low"]) / 255
    assert np.abs(values - expected).max() <= np.ptp(expected) / 510 + 1e-3
    (kernel,) = page.all("img", width="64")
    colors = picture(kernel["src"]).astype(int)
    assert (colors[:, 0, 2] > colors[:, 0, 0]).all()
    assert (colors[:, 2, 0] > colors[:, 2, 2]).all()
    assert np.ptp(colors[:, 1]) == 0
    assert facts["field"]["down"] == {"size": 3, "jump": 1, "start": 0.0}


def test_a_chains_steps_know_what_they_see(folder):
    page = Reader(made(folder, "run", "gray | conv sobel | maxpool 2 | conv box-5 stride=2 | relu"))
    layers = [json.loads(layer["data-layer"]) for layer in page.all("section")]
    assert [layer["name"] for layer in layers] == [
        "1-gray", "2-conv", "3-maxpool", "4-conv", "5-relu",
    ]  # fmt: skip
    assert [layer["field"]["down"]["size"] for layer in layers] == [1, 3, 4, 12, 12]
    assert [layer["field"]["across"]["jump"] for layer in layers] == [1, 1, 2, 4, 4]
    assert [(layer["height"], layer["width"]) for layer in layers[2:]] == [
        (60, 80), (30, 40), (30, 40),
    ]  # fmt: skip


def bars_of(reader):
    return [float(a["width"]) for a in reader.all("rect", height="10")]


def test_a_networks_page_begins_with_the_classes_and_shows_dense_layers_as_bars(folder):
    arguments = ["net", "features", "lenet5", "sample:digit", "--layer", "c1"]
    more = ["--layer", "f6", "--layer", "output"]
    assert imgconv(*arguments, *more, "--report", "page.html") == 0
    page = (folder / "page.html").read_text()
    head, _, layers = page.partition("<main>")
    likeliest = imgconv_api.network("lenet5").predict("sample:digit")
    assert re.findall(r"<li><span>(.*?)</span>", head) == [one.label for one in likeliest]
    assert bars_of(Reader(head.encode())) == pytest.approx(
        [100 * one.probability for one in likeliest], abs=0.006
    )
    _, hidden, output = layers.split("<section ")[1:]
    assert len(re.findall("M[0-9]", hidden.partition("Largest")[0])) == 84
    assert "data-layer" not in hidden
    assert re.findall(r"<li><span>(.*?)</span>", output)[:5] == [one.label for one in likeliest]
    # Of a layer before it the page tells the classes too.
    assert imgconv(*arguments, "--report", "c1.html") == 0
    assert (folder / "c1.html").read_text().partition("<main>")[0].count("<li>") == 5


def test_units_go_up_and_down_from_zero_and_those_that_are_not_finite_have_no_bar():
    made = dense_section("f", "", np.array([2, -1, np.nan, 0, 1], np.float32))
    page = Reader(render(Page("x", [], np.zeros((4, 4, 1), np.uint8), [made])))
    up, down = (path["d"] for path in page.all("path"))
    assert up == "M0 80.0v-80.0h0.8V80.0zM4 80.0v-40.0h0.8V80.0z"
    assert down == "M1 80.0v40.0h0.8V80.0z"
    assert bars_of(page) == [100, 50, 0, 0]
    many = np.tile(np.array([0.5, -1, 0], np.float32), 1024)
    page = Reader(
        render(Page("x", [], np.zeros((4, 4, 1), np.uint8), [dense_section("f", "", many)]))
    )
    up, down = (path["d"] for path in page.all("path"))
    assert (up.count("M"), down.count("M")) == (0, 1024)


def test_large_networks_are_divided_where_no_part_has_more_than_half():
    names = [node.name for node in get_network("resnet50").graph.nodes]
    found = parts(names)
    assert [index for _, indices in found for index in indices] == list(range(len(names)))
    assert [path for path, _ in found if path] == ["layer1", "layer2", "layer3", "layer4"]
    names = [node.name for node in get_network("vgg16").graph.nodes]
    assert all(len(indices) <= len(names) for _, indices in parts(names))
    assert [path for path, _ in parts(list("abc") * MOST_FLAT)] == [""] * 3 * MOST_FLAT
    paths = [path for path, _ in parts([f"features.{n // 5}.{n % 5}" for n in range(30)])]
    assert paths == [f"features.{n}" for n in range(6)]


def test_statistics_count_every_value_and_leave_what_is_not_finite_out():
    values = np.array([0, 0, 1, 3, np.nan, np.inf])
    found = statistics(values)
    assert (found.low, found.high, found.mean, found.odd, found.zeros) == (0, 3, 1, 2, 0.5)
    assert sum(found.counts) == 4
    assert found.deviation == pytest.approx(np.std([0, 0, 1, 3]))
    assert statistics(np.full(3, np.nan)).odd == 3


def test_large_maps_are_means_of_blocks_and_the_liveliest_are_chosen():
    noise = np.random.default_rng(2).normal(size=(40, 101, 77)).astype(np.float32)
    noise[::2] *= 0.01
    found = section("x", "", noise, [f"channel {i}" for i in range(40)], layers=20)
    assert [tile.label for tile in found.tiles] == sorted(
        (tile.label for tile in found.tiles), key=lambda label: int(label.split()[1])
    )
    assert all(int(tile.label.split()[1]) % 2 for tile in found.tiles)
    tile = found.tiles[0]
    block = -(-101 // tile.pixels.shape[0])
    assert tile.pixels.shape[0] * tile.pixels.shape[1] <= BUDGET / 20 / MOST_MAPS
    plane = noise[int(tile.label.split()[1])]
    value = tile.low + tile.pixels[0, 0] * (tile.high - tile.low) / 255
    assert value == pytest.approx(plane[:block, :block].mean(), abs=(tile.high - tile.low) / 500)


def test_a_page_of_forty_layers_of_noise_stays_below_five_megabytes():
    generator = np.random.default_rng(3)
    sections = [
        section(f"layer {n}", "", generator.normal(size=(24, 224, 224)).astype(np.float32),
                [str(i) for i in range(24)], 40)
        for n in range(40)
    ]  # fmt: skip
    shown = generator.integers(0, 255, (256, 256, 3), np.uint8)
    assert len(render(Page("noise", [], shown, sections))) < 5_000_000


def test_the_policy_lets_only_the_pages_own_style_and_script_run(folder):
    page = made(folder, "apply", "-k", "sobel")
    reader = Reader(page)
    (policy,) = reader.all("meta", **{"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.strip().split(" ", 1) for rule in policy["content"].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page.decode(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    for _, attributes in reader.tags:
        assert not {"style", "onload", "onerror", "onclick"} & attributes.keys()
        for key in ("src", "href"):
            assert attributes.get(key, "#").startswith(("data:image/", "#"))


def evil_page():
    maps = np.random.default_rng(4).normal(size=(3, 30, 40)).astype(np.float32)
    maps[1:] *= 2
    field = Field(ReceptiveField(7, 4, 1.5), ReceptiveField(5, 2, 0.0))
    layers = [section(EVIL, EVIL, maps, [EVIL, "b", "c"], 2, field, [(EVIL, np.eye(3))]),
              section("plain", "", maps[:1], ["x"], 2)]  # fmt: skip
    shown = np.zeros((120, 80, 3), np.uint8)
    return maps, render(Page(EVIL, [(EVIL, EVIL)], shown, layers))


def test_names_are_text_wherever_they_stand():
    _, page = evil_page()
    reader = Reader(page)
    assert len(reader.all("script")) == 1
    assert not [a for _, a in reader.tags if "onerror" in a]
    assert b"\x1b" not in page
    layer = json.loads(reader.all("section")[0]["data-layer"])
    assert layer["name"] == EVIL


def test_every_picture_has_words_and_every_control_a_label():
    reader = Reader(evil_page()[1])
    assert reader.all("html")[0]["lang"] == "en"
    assert all(a.get("alt") for a in reader.all("img"))
    assert all(a.get("aria-label") for a in reader.all("svg"))
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert reader.all("p", **{"aria-live": "polite"})


def test_the_page_works_in_a_browser_by_pointer_and_keys(tmp_path):
    maps, page = evil_page()
    path = tmp_path / "page #1%.html"
    path.write_bytes(page)
    with browser() as window:
        window.open(path)
        window.wait("return document.querySelectorAll('.maps canvas').length === 4")
        severe = [e for e in window.log() if e["level"] in ("SEVERE", "WARNING")]
        assert severe == []
        loaded = window.run("return performance.getEntriesByType('resource').map(e => e.name)")
        assert [name for name in loaded if not name.startswith("data:")] == []
        assert window.run("return document.querySelector('h1').textContent").startswith('"><img')
        # The middle of the second map of 30×40 is unit (15, 20).
        canvas = window.find("section:first-of-type figure:nth-of-type(2) canvas")
        window.point_at(canvas, 1, 1)
        text = window.run("return document.getElementById('readout').textContent")
        number = re.search(r"about (\S+)\. Sees", text)[1].replace("−", "-")
        value = float(number)
        assert "row 15, column 20" in text
        assert value == pytest.approx(maps[1, 15, 20], abs=float(np.ptp(maps[1])) / 250)
        # Middles: 1.5 + 15·4 = 61.5 of 7 rows, 20·2 = 40 of 5 columns.
        assert "rows 59–64, columns 38–42 of the input (6×5)" in text
        drawn = """const c = document.getElementById('field');
            return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]
                .some((v) => v > 0)"""
        assert window.run(drawn)
        window.run("document.querySelector('.maps canvas').focus()")
        window.press("\ue014", "\ue014", "\ue015")  # right, right, down
        text = window.run("return document.getElementById('readout').textContent")
        assert "row 16, column 22" in text
        window.press("\ue00f")  # page down
        assert ", b, row 16, column 22" in window.run(
            "return document.getElementById('readout').textContent"
        )
        label = window.run("return document.activeElement.getAttribute('aria-label')")
        assert f"mean {maps[1].mean(dtype=np.float64):.4g}".replace("-", "−") in label


def test_colors_and_scale_repaint_the_maps_and_print_has_them(tmp_path):
    _, page = evil_page()
    (tmp_path / "page.html").write_bytes(page)
    pixel = """const c = document.querySelector('.maps canvas');
        return [...c.getContext('2d').getImageData(3, 3, 1, 1).data]"""
    with browser() as window:
        window.open(tmp_path / "page.html")
        window.wait("return document.querySelectorAll('.maps canvas').length === 4")
        seen = [window.run(pixel)]
        for name, value in (("colors", "gray"), ("scale", "shared"), ("colors", "coolwarm")):
            window.run(f"""const s = document.querySelector('select[name={name}]');
                s.value = '{value}'; s.dispatchEvent(new Event('change'))""")
            seen.append(window.run(pixel))
        assert len({tuple(color) for color in seen}) == 4
        assert seen[1][0] == seen[1][1] == seen[1][2]
        pdf = base64.b64decode(window.call("POST", "/print", {"background": True}))
        assert pdf.startswith(b"%PDF")


def test_the_page_fits_a_phone_and_a_desk_and_links_open_closed_parts(tmp_path):
    maps = np.random.default_rng(6).normal(size=(6, 30, 40)).astype(np.float32)
    made = section("x", "does", maps, [f"channel {n}" for n in range(6)], 30)
    names = [f"part{n // 10}.{n}.{'long' * 12}" for n in range(30)]
    labels = [f"class {n} {'of many words ' * 4}" for n in range(12)]
    layers = [replace(made, name=name) for name in names]
    layers.append(dense_section("out", "Linear", np.arange(12) - 4.5, labels))
    shown = np.zeros((120, 80, 3), np.uint8)
    classes = [(label, 0.2) for label in labels[:5]]
    path = tmp_path / "page.html"
    path.write_bytes(render(Page("x" * 80, [("weights", "w" * 90)], shown, layers, classes)))
    with browser() as window:
        for width in (390, 1280):
            size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
            window.call("POST", "/goog/cdp/execute", command)
            window.open(path)
            assert window.run("return document.querySelectorAll('#layers details').length") == 3
            across = "return document.documentElement.scrollWidth"
            assert window.run(across) == width
            window.run("location.hash = 'layer-12'")
            window.wait("return document.querySelectorAll('#layer-12 canvas').length === 6")
            assert window.run("""return [...document.querySelectorAll('#layers details')]
                .map((part) => part.open)""") == [False, True, False]
            assert window.run(across) == width
            # The maps take the place that there is.
            right = """return Math.max(...[...document.querySelectorAll('#layer-12 canvas')]
                .map((map) => map.getBoundingClientRect().right))"""
            assert window.run(right) > 0.85 * width
