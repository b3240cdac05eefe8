"""A real `mlflow server`: the links that `medsynth run` prints lead to charts, pictures with steps, a comparison."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from medsynth_ray.tracking.process import QUIET
from tests.runner import Runner

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

SECTIONS = ("checkpoint", "cost", "data", "gates", "privacy", "quality", "samples", "test", "val")
SECTION = "[...document.querySelectorAll('*')].find(e => !e.children.length && e.innerText === %s)"
PICTURES = "[...document.querySelectorAll('img[src*=\"get-artifact\"]')].filter(i => i.complete && i.naturalWidth)"


@pytest.fixture(scope="module")
def links(
    reference: Runner,
    tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
    serving: Callable[..., AbstractContextManager[None]],
) -> Iterator[dict[str, str]]:
    """What `run` prints when a server is named. The sweep is finished, so it only mirrors."""
    folder = tmp_path_factory.mktemp("server")
    runner = Runner(folder / "sweep")
    shutil.copytree(reference.store, runner.store)
    for left in runner.store.glob("sweep/*/mlflow.json"):
        left.unlink()
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with serving(command, port, env=QUIET):
        uri = f"http://127.0.0.1:{port}"
        printed = runner.call([*runner.command("run", "tracking.enabled=true"), "--yes", "--mlflow-uri", uri])
        sync = runner.command("sync", "tracking.enabled=true")
        sync.insert(sync.index("sync"), "sweep")
        assert runner.call([*sync, "--mlflow-uri", uri])["behind"] == 0
        yield printed["links"]


@pytest.fixture(scope="module")
def charts(browser: Any, links: dict[str, str]) -> Any:
    """The experiment's page of charts."""
    browser.open(links["charts"])
    browser.wait_for("document.querySelectorAll('.js-plotly-plot .barlayer .point').length", 180)
    return browser


@pytest.mark.parametrize("section", SECTIONS)
def test_charts_stand_in_sections_by_prefix(charts: Any, section: str) -> None:
    assert charts.wait_for(f"!!({SECTION % json.dumps(section)})", 60) is True


def test_quality_is_a_line_over_training_images_seen(charts: Any) -> None:
    assert charts.wait_for(f"({SECTION % json.dumps('checkpoint')}).scrollIntoView() || true", 60)
    charts.wait_for("document.querySelectorAll('.js-plotly-plot .scatterlayer .trace path.js-line').length", 60)


def test_the_grid_shows_pictures_with_a_slider_for_steps(charts: Any) -> None:
    """The grid has room for ten runs; the slider is alive where some run has pictures at several steps."""
    charts.wait_for(f"!!({SECTION % json.dumps('samples')})", 60)
    charts.eval(f"({SECTION % json.dumps('samples')}).scrollIntoView() || true")
    charts.wait_for(f"{PICTURES}.length", 90)
    alive = "[...document.querySelectorAll('[role=slider]')].filter(s => +s.getAttribute('aria-valuemax') > 0).length"
    assert charts.wait_for(alive, 60) >= 3


def test_the_comparison_of_the_best_arms_shows_parameters_and_scores(
    browser: Any, links: dict[str, str], reference: Runner
) -> None:
    verdict = json.loads(reference.verdict())
    browser.open(links["compare"])
    browser.wait_for("document.body.innerText.includes('Run details')", 120)
    text = browser.wait_for(
        "document.body.innerText.includes('gaussian.num_components') && document.body.innerText", 60
    )
    means = {row["arm"]: row["mean"] for row in verdict["mix"]}
    best = max((m, a) for a, m in means.items() if a.startswith("gaussian"))[1]
    for name in (best, "real_only", "real_classic", "real_oversampled", "gaussian.shrinkage", "ratio"):
        assert name in text, f"{name} is not on the comparison page"
    assert "test/balanced_accuracy" in text
    assert f"confirm {verdict['arm']}" in text, "the winner on the locked test stands first"


def test_everything_went_to_the_server_and_nothing_beside_the_store(links: dict[str, str]) -> None:
    assert {name: link.split("/#/")[0].rsplit(":", 1)[0] for name, link in links.items()} == dict.fromkeys(
        links, "http://127.0.0.1"
    )
    assert not Path("mlruns").exists()
