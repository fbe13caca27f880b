"""URLs are opened only of known schemes, in each of their parts, or nothing is contacted at all."""

import contextlib
import http.server
import io
import os
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.errors import UsageError
from imgconv.io import remote
from tests.running import here

PHOTO = data.astronaut()[:32, :48]


@pytest.fixture
def silent(tmp_path):
    """A server on loopback that must not be contacted: its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


@contextlib.contextmanager
def web(answer):
    """A web server on loopback whose GETs are answered by `answer(handler)`: its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def picture(handler):
    """Send the photo as a PNG."""
    body = io.BytesIO()
    Image.fromarray(PHOTO).save(body, "PNG")
    handler.send_response(200)
    handler.send_header("Content-Length", str(body.tell()))
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(body.getvalue())


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PHOTO).save("photo.png")
    return "photo.png"


APPLY = ["apply", "-k", "identity"]
COMMANDS = {
    "input": [*APPLY, "{url}/a.png", "-o", "x.png"],
    "pattern": [*APPLY, "{url}/*.png", "-o", "x/"],
    "prefix": [*APPLY, "{url}/", "--recursive", "-o", "x/"],
    "zarr": [*APPLY, "{url}/a.zarr", "-o", "x.png"],
    "output": [*APPLY, "photo.png", "-o", "{url}/x.png"],
    "template": [*APPLY, "photo.png", "-o", "{url}/{{stem}}.png"],
    "folder": [*APPLY, "photo.png", "-o", "{url}/"],
    "zarr output": [*APPLY, "photo.png", "-o", "{url}/x.zarr", "--overwrite"],
    "chain": ["run", "conv sobel", "{url}/a.png", "-o", "x.png"],
    "compare": ["compare", "{url}/a.png", "photo.png"],
    "show": ["show", "{url}/a.png"],
    "network": ["net", "features", "lenet5", "{url}/a.png", "--layer", "c1", "-o", "x/"],
    "predict": ["net", "predict", "lenet5", "{url}/a.png"],
    "repeat": ["repeat", "made.png", "--input", "{url}/photo.png"],
    "repeat to": ["repeat", "made.png", "-o", "{url}/x.png"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_scheme_is_refused_before_anything_is_contacted(
    silent, photo, monkeypatch, name
):
    assert here(*APPLY, photo, "-o", "made.png").returncode == 0
    monkeypatch.setitem(sys.modules, "fsspec", None)  # not even imported
    for url in (
        f"ftp://127.0.0.1:{silent}", f"http://127.0.0.1:{silent}",
        f"zip://a.png::ftp://127.0.0.1:{silent}", f"memory://a::http://127.0.0.1:{silent}",
    ):  # fmt: skip
        scheme = next(s for s in ("zip", "ftp", "http") if f"{s}://" in url)
        result = here(*(word.format(url=url) for word in COMMANDS[name]))
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
        assert f"{scheme}:// is not opened unless --allow-scheme {scheme}" in result.stderr
    assert set(os.listdir()) == {"photo.png", "made.png"}


def test_a_list_is_gone_through_and_its_bad_urls_are_named(silent, photo):
    with open("list", "w") as file:
        file.write(f"ftp://127.0.0.1:{silent}/a.png\nphoto.png\n"
                   f"s3://bucket/a.png::http://127.0.0.1:{silent}/b\n")  # fmt: skip
    result = here(*APPLY, "--files-from", "list", "-o", "out/")
    assert (result.returncode, result.stderr.count("\n")) == (1, 2), result.stderr
    assert "--allow-scheme ftp" in result.stderr
    assert "--allow-scheme http" in result.stderr
    np.testing.assert_array_equal(np.asarray(Image.open("out/photo.png")), PHOTO)


def test_a_scheme_can_be_allowed_for_one_command(photo):
    pytest.importorskip("aiohttp")
    with web(picture) as address:
        command = [*APPLY, f"{address}/cat.png", "-o", "cat.png"]
        result = here(*command, "--allow-scheme", "http")
        assert result.returncode == 0, result.stderr
        np.testing.assert_array_equal(np.asarray(Image.open("cat.png")), PHOTO)
        assert here(*command, "--overwrite").returncode == 2
    bad = here(*APPLY, photo, "-o", "x.png", "--allow-scheme", "http:")
    assert (bad.returncode, "--allow-scheme http:" in bad.stderr) == (2, True)


def test_a_redirect_leads_only_where_a_url_may(silent, photo, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(remote, "SCHEMES", ("file",))

    def moved(handler):
        handler.send_response(302)
        handler.send_header("Location", f"https://127.0.0.1:{silent}/a.png")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with web(moved) as address:
        result = here(
            *APPLY, f"{address}/cat.png", "-o", "cat.png", "--allow-scheme", "http"
        )  # fmt: skip
    assert result.returncode == 2
    assert f"https://127.0.0.1:{silent}/a.png: https:// is not opened" in result.stderr


def test_an_object_is_not_named_like_a_chain(silent):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pipe_file(f"/images/a::https:/127.0.0.1:{silent}.png", b"x")
    system.pipe_file("/images/b.png", b"x")
    result = here(*APPLY, "memory://images/", "--recursive", "-o", "x/", "--dry-run")
    assert result.returncode == 1
    assert "a::https:" in result.stderr
    assert "memory://images/b.png ->" in result.stdout or "memory:///images/b.png" in result.stdout
    system.store.clear()


@pytest.mark.parametrize("url", [
    "s3://bucket/a.png", "gs://b/a", "az://c/a", "abfs://c@d/a", "https://host/a.png",
    "file:///tmp/a.png", "memory://a", "memory://a::file:///tmp/a", "s3://b/http://x/a.png",
])  # fmt: skip
def test_what_is_opened(url):
    remote.check(url)


@pytest.mark.parametrize("url", [
    "http://h/a", "HTTP://h/a", "S3://b/a", "github://o:r@/a.png", "reference://::s3://b/a",
    "s3://b/a::simplecache", "simplecache::ftp://h/a", "memory://a::data:text/plain,x",
    "generic://a", "dask://h", "ssh://h/a", "smb://h/a", "hf://a", "jlab://a",
])  # fmt: skip
def test_what_is_not_opened(url):
    with pytest.raises(UsageError, match="is not opened unless"):
        remote.check(url)


def test_schemes_are_seen_as_fsspec_sees_them():
    core = pytest.importorskip("fsspec.core")
    # Of file systems that fsspec brings itself: the others are imported to be asked.
    for url in ("zip://a.png::ftp://h/b.zip", "simplecache::ftp://h/a", "ftp://h/a::zip", "/a::zip",
                "blockcache::zip://a::file:///b", "dir::/a/b", "memory://a::/tmp/a b",
                "tar://a::filecache::ftp://h/x://y"):  # fmt: skip
        assert remote._schemes(url) == [protocol for _, protocol, _ in core._un_chain(url, {})]


@pytest.mark.cluster
def test_workers_of_a_cluster_open_what_the_command_may(photo):
    pytest.importorskip("distributed")
    from tests.batch.test_cluster import imgconv

    with web(picture) as address:
        result = imgconv(*APPLY, f"{address}/cat.png", "-o", "cat.png", "--cluster", "local:1",
                         "--allow-scheme", "http", cwd=Path.cwd())  # fmt: skip
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.asarray(Image.open("cat.png")), PHOTO)
