"""A small WebDriver client for headless chromium: the standard library speaks to chromedriver."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1600,2600",
)  # fmt: skip


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def _serving(
    command: Sequence[str], port: int, *, timeout_s: float = 120.0, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the block ends; the block begins when something listens on `port`."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(list(command), env={**os.environ, **(env or {})}, **quiet)
    try:
        end = time.monotonic() + timeout_s
        while not _listens(port):
            assert process.poll() is None, f"{command[0]} ended with exit status {process.returncode}"
            assert time.monotonic() < end, f"{command[0]} does not listen on port {port} after {timeout_s} s"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """`free_port()` is a port on which nothing listens."""
    return _free_port


@pytest.fixture(scope="session")
def serving() -> Callable[..., contextlib.AbstractContextManager[None]]:
    """`with serving(command, port):` runs a server."""
    return _serving


class Browser:
    """One window. `eval` takes a JavaScript expression and gives its value as JSON."""

    def __init__(self, driver_url: str, profile: Path) -> None:
        self._driver_url = driver_url
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        session = self._call("POST", "/session", wanted)["sessionId"]
        self._session = f"/session/{session}"

    def open(self, url: str | Path) -> None:
        address = url.resolve().as_uri() if isinstance(url, Path) else url
        self._call("POST", f"{self._session}/url", {"url": address})

    def eval(self, expression: str) -> Any:
        body = {"script": f"return ({expression})", "args": []}
        return self._call("POST", f"{self._session}/execute/sync", body)

    def wait_for(self, expression: str, timeout_s: float = 30.0) -> Any:
        """The value of the expression once it is truthy; fails with the page's text when that takes too long."""
        end = time.monotonic() + timeout_s
        while not (value := self.eval(expression)):
            if time.monotonic() > end:
                text = self.eval("document.body.innerText.slice(0, 600)")
                raise AssertionError(f"not true after {timeout_s} s: {expression}\nThe page says: {text}")
            time.sleep(0.2)
        return value

    def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))
        return path

    def close(self) -> None:
        self._call("DELETE", self._session)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._driver_url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            problem = json.load(error)["value"]
            raise AssertionError(f"{method} {path}: {problem['error']}: {problem['message'].splitlines()[0]}") from None


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One headless chromium for all browser tests."""
    driver = shutil.which("chromedriver")
    if driver is None or not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("chromium and chromedriver are not installed (Debian: apt install chromium chromium-driver)")
    port = _free_port()
    with _serving([driver, f"--port={port}"], port, timeout_s=30):
        window = Browser(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("profile"))
        yield window
        window.close()
