"""What a user sees in MLflow 3.17 of a sweep that the mirror copied: every arm in the charts, pictures in the grid."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from medsynth_ray.tracking import mirror
from medsynth_ray.tracking.process import QUIET, ui_command

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

ARMS = [f"gaussian-add-{i}" for i in range(12)]
"""More than the ten runs that the page shows when nobody tells it otherwise."""
START_MS = 1_700_000_000_000


def write_journal(store) -> None:
    runs = store / "sweep" / "page" / "runs"
    runs.mkdir(parents=True)
    (store / "pictures").mkdir()
    for i, name in enumerate(ARMS):
        pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(store / "pictures" / f"{i}.png")
        at_ms = START_MS + 1000 * i
        repeats = [["val/balanced_accuracy", 0.5 + (3 * i + r) / 100, r, at_ms + r] for r in range(3)]
        entry = {
            "unit": f"u{i:02d}", "name": name, "status": "FINISHED", "start_ms": at_ms, "end_ms": at_ms + 500,
            "params": {"generator": "gaussian", "ratio": i / 20}, "tags": {"stage": "mix"},
            "metrics": [*repeats, ["val_mean/balanced_accuracy", 0.51 + 3 * i / 100, 0, at_ms]],
            "images": [{"key": "samples/amd", "step": 100, "timestamp_ms": at_ms, "file": f"pictures/{i}.png"}],
            "tables": {}, "artifacts": [],
        }  # fmt: skip
        (runs / f"u{i:02d}.json").write_text(json.dumps(entry))


@pytest.fixture(scope="module")
def page(browser, free_port, serving, tmp_path_factory):
    """The charts page, served as `medsynth ui` does."""
    folder = tmp_path_factory.mktemp("page")
    write_journal(folder)
    uri, port = f"sqlite:///{folder / 'mlflow.db'}", free_port()
    state = mirror.sync(str(folder), "page", uri, base_url=f"http://127.0.0.1:{port}")
    assert (state.mirrored, state.behind, state.problem) == (len(ARMS), 0, "")
    with serving(ui_command(uri, port), port, env=QUIET):
        browser.open(state.links["charts"])
        browser.wait_for("document.querySelectorAll('.js-plotly-plot .barlayer .point').length", 120)
        yield browser


def test_the_bar_chart_has_a_bar_for_every_arm(page):
    page.wait_for(f"document.querySelectorAll('.js-plotly-plot .barlayer .point').length == {len(ARMS)}", 60)
    bars = "[...document.querySelectorAll('.js-plotly-plot .barlayer .point path')].map(p => p.getBBox().width > 0)"
    assert page.eval(bars) == [True] * len(ARMS)


def test_the_line_chart_has_a_line_for_every_arm(page):
    """The page draws a band around each line, which has the same path where there is nothing to spread."""
    lines = "[...document.querySelectorAll('.js-plotly-plot .scatterlayer .trace path.js-line')]"
    page.wait_for(f"{lines}.length >= {len(ARMS)}", 60)
    assert page.eval(f"new Set({lines}.map(line => line.getAttribute('d'))).size") == len(ARMS)


def test_the_list_names_every_arm(page):
    text = page.eval("document.body.innerText")
    assert [name for name in ARMS if name not in text] == []


def test_the_pictures_of_the_grid_are_not_blank(page):
    pictures = "[...document.querySelectorAll('img[src*=\"get-artifact\"]')].filter(i => i.complete && i.naturalWidth)"
    page.wait_for(f"{pictures}.length >= 10", 60)
    spread = """[...document.querySelectorAll('img[src*="get-artifact"]')].map(image => {
        const canvas = document.createElement('canvas');
        canvas.width = canvas.height = 32;
        const context = canvas.getContext('2d');
        context.drawImage(image, 0, 0, 32, 32);
        const red = [...context.getImageData(0, 0, 32, 32).data].filter((_, i) => i % 4 == 0);
        return Math.max(...red) - Math.min(...red);
    })"""
    assert min(page.eval(spread)) > 100
