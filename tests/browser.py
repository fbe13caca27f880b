"""A browser for tests: headless Chromium by the W3C WebDriver protocol, where it is installed."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

# --disable-background-networking and what follows keep Chromium from calling its maker's hosts.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--window-size=1300,1000",
)  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One session."""

    def __init__(self, port):
        self.address = f"http://127.0.0.1:{port}"
        self.profile = tempfile.mkdtemp(prefix="imgconv-browser-")
        options = {
            "args": [*FLAGS, f"--user-data-dir={self.profile}"],
            "binary": shutil.which("chromium"),
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        found = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.address += f"/session/{found['sessionId']}"

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    def open(self, path):
        self.call("POST", "/url", {"url": path.as_uri()})

    def run(self, script):
        """The value of a script's `return`."""
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def wait(self, script):
        """Wait until a script returns something true."""
        end = time.monotonic() + 20
        while not (found := self.run(script)):
            assert time.monotonic() < end, script
            time.sleep(0.05)
        return found

    def find(self, selector):
        body = {"using": "css selector", "value": selector}
        return self.call("POST", "/element", body)[ELEMENT]

    def point_at(self, element, x, y):
        """Move the pointer to (x, y) from the middle of an element."""
        move = {"type": "pointerMove", "duration": 0, "x": x, "y": y, "origin": {ELEMENT: element}}
        action = {"type": "pointer", "id": "mouse", "actions": [move]}
        self.call("POST", "/actions", {"actions": [action]})

    def press(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "k", "actions": actions}]})

    def log(self):
        return self.call("POST", "/se/log", {"type": "browser"})


@contextmanager
def browser():
    """A browser; skips the test where Chromium and its driver are not installed."""
    driver = shutil.which("chromedriver")
    if not driver or not shutil.which("chromium"):
        pytest.skip("needs Chromium and ChromeDriver (Debian: chromium, chromium-driver)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=quiet
    )
    session = None
    try:
        end = time.monotonic() + 20
        while session is None:
            try:
                session = Browser(port)
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < end, "ChromeDriver does not answer"
                time.sleep(0.1)
        yield session
        session.call("DELETE", "")
    finally:
        process.terminate()
        process.wait(10)
        if session:
            shutil.rmtree(session.profile, ignore_errors=True)
