"""`medsynth ui` opens a browser once its server answers, and never fails for want of one."""

from __future__ import annotations

import socket
import sys
import time
import webbrowser

import pytest

from medsynth_ray.tracking import process

ANSWERS_ONCE = """
import http.server, sys, time
time.sleep(0.3)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status})
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Page)
server.handle_request()
time.sleep(0.5)
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
    return found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pages that were opened, on a machine with a display."""
    pages: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", lambda page: bool(pages.append(page)) or True)
    return pages


def serving(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(process, "ui_command", lambda uri, port: [sys.executable, "-c", code, str(port)])


@pytest.mark.parametrize("status", [200, 404])
def test_the_page_opens_once_the_server_answers(
    monkeypatch: pytest.MonkeyPatch, opened: list[str], port: int, status: int
) -> None:
    serving(monkeypatch, ANSWERS_ONCE.format(status=status))
    assert process.serve("sqlite:///x", port, page="http://127.0.0.1/#/charts") == 0
    assert opened == ["http://127.0.0.1/#/charts"]


def test_without_a_page_nothing_opens(monkeypatch: pytest.MonkeyPatch, opened: list[str], port: int) -> None:
    serving(monkeypatch, "pass")
    assert process.serve("sqlite:///x", port) == 0
    assert opened == []


def test_a_server_that_ends_before_it_answers_opens_nothing(
    monkeypatch: pytest.MonkeyPatch, opened: list[str], port: int
) -> None:
    serving(monkeypatch, "raise SystemExit(3)")
    assert process.serve("sqlite:///x", port, page="http://127.0.0.1/") == 3
    time.sleep(0.6)
    assert opened == []


def test_open_page_says_whether_a_browser_took_it(opened: list[str]) -> None:
    assert process.open_page("http://a") is True
    assert opened == ["http://a"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is always a display")
def test_without_a_display_no_browser_takes_over_the_terminal(
    monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    assert process.open_page("http://a") is False
    assert opened == []


@pytest.mark.parametrize("error", [webbrowser.Error("none"), OSError("none")])
def test_a_browser_that_cannot_start_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, opened: list[str], error: Exception
) -> None:
    def fails(page: str) -> bool:
        raise error

    monkeypatch.setattr(webbrowser, "open", fails)
    assert process.open_page("http://a") is False
