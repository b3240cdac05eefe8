"""A reader works through a packet by keyboard, closes it, goes on, and sends a file that can be scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medsynth_ray.images import concat
from medsynth_ray.readers import score, write
from tests import reading

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

ENTER = "\ue007"
KEYS = "35111215"
"""diagnosis: other, sure; yes, yes, yes, no; real, sure."""
SAID = {
    "diagnosis": "other", "diagnosis_confidence": "5", "looks_real": "yes", "plausible": "yes", "malformed": "yes",
    "disease": "no", "origin": "real", "origin_confidence": "5",
}  # fmt: skip


@pytest.fixture(scope="module")
def packet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with reader-1.html and the key beside it."""
    folder = tmp_path_factory.mktemp("study")
    write(reading.study(readers=1), concat(reading.images()).pixels, folder / "study", folder / "key.json")
    return folder


def press(browser: Any, keys: str) -> None:
    """Type into whatever has the focus."""
    actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
    body = {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}
    browser._call("POST", f"{browser._session}/actions", body)


def place(browser: Any) -> str:
    return str(browser.eval("document.getElementById('place').textContent"))


def test_a_packet_is_read_by_keyboard_kept_and_scored(browser: Any, packet: Path, tmp_path: Path) -> None:
    page = packet / "study" / "reader-1.html"
    browser.open(page)
    browser.wait_for("document.getElementById('picture').naturalWidth === 16")
    for number in (1, 2, 3):
        assert place(browser) == f"Image {number} / 44"
        press(browser, KEYS + ENTER)
    assert place(browser) == "Image 4 / 44"
    press(browser, "1" + ENTER)
    assert place(browser) == "Image 4 / 44"
    assert browser.eval("document.getElementById('status').textContent") == "Please answer every question first."
    assert browser.eval("document.activeElement.name") == "diagnosis_confidence"

    browser.open("about:blank")
    browser.open(page)
    assert place(browser) == "Image 4 / 44"
    assert browser.eval("document.getElementById('progress').value") == 3
    assert browser.eval("document.querySelector('input[name=diagnosis]:checked').value") == "class-0"
    said = json.loads(browser.eval("answersText()"))
    assert said["finished"] is False
    assert [one for one in said["answers"].values() if len(one) > 1] == [SAID] * 3

    (tmp_path / "answers.json").write_text(json.dumps(said))
    result = score(packet / "key.json", [tmp_path / "answers.json"])
    assert (result["readers"][0]["answered"], result["readers"][0]["shown"]) == (3, 44)
    assert sum(row["real"]["yes"] + row["synthetic"]["yes"] for row in result["questions"]) in range(3, 10)


def test_the_page_asks_nobody_and_breaks_no_policy(browser: Any, packet: Path) -> None:
    browser.open(packet / "study" / "reader-1.html")
    loaded = "performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length"
    assert browser.eval(loaded) == 0
    assert browser.eval("getComputedStyle(document.querySelector('fieldset')).borderTopStyle") == "solid"
    assert browser.eval("[...document.querySelectorAll('input')].every(i => i.labels.length === 1)") is True
    small = (
        "[...document.querySelectorAll('.options label, button')].every(e => e.getBoundingClientRect().height >= 44)"
    )
    assert browser.eval(small) is True


def test_the_answers_are_downloaded_as_the_same_json(browser: Any, packet: Path) -> None:
    browser.open(packet / "study" / "reader-1.html")
    saved = """(() => {
        const kept = {};
        const click = HTMLAnchorElement.prototype.click;
        HTMLAnchorElement.prototype.click = function () { kept.name = this.download; kept.url = this.href; };
        document.getElementById("download").click();
        HTMLAnchorElement.prototype.click = click;
        return kept;
    })()"""
    link = browser.eval(saved)
    assert link["name"].startswith("answers-reader-1-")
    assert link["url"].startswith("blob:")
