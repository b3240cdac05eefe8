"""What a person sees of a finished sweep: the report page, and MLflow's charts and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from medsynth_ray.report.tables import fmt
from medsynth_ray.tracking.process import QUIET, ui_command
from tests.runner import Runner

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

SPREAD = """[...document.querySelectorAll('%s')].filter(i => i.complete && i.naturalWidth).map(image => {
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 32;
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0, 32, 32);
    const red = [...context.getImageData(0, 0, 32, 32).data].filter((_, i) => i %% 4 == 0);
    return Math.max(...red) - Math.min(...red);
})"""


@pytest.fixture(scope="module")
def verdict(reference: Runner) -> dict[str, Any]:
    """verdict.json."""
    found: dict[str, Any] = json.loads(reference.verdict())
    return found


@pytest.fixture(scope="module")
def page(browser: Any, reference: Runner) -> Any:
    """The report, opened as a file."""
    (path,) = reference.store.glob("sweep/*/report.html")
    browser.open(path)
    return browser


def cells(page: Any, phase: str, field: str) -> dict[str, str]:
    """Text of one column of the arms table, by arm."""
    rows = f"[...document.querySelectorAll('table#arms tr[data-phase=\"{phase}\"]')]"
    pairs = page.eval(
        f"{rows}.map(r => [r.dataset.arm, r.querySelector('td[data-field=\"{field}\"]').innerText.trim()])"
    )
    return dict(pairs)


@pytest.mark.parametrize("phase", ["mix", "confirm"])
def test_the_arms_table_says_what_verdict_json_says(page: Any, verdict: dict[str, Any], phase: str) -> None:
    assert cells(page, phase, "mean") == {row["arm"]: fmt(row["mean"]) for row in verdict[phase]}
    intervals = {row["arm"]: f"[{fmt(row['low'])}, {fmt(row['high'])}]" for row in verdict[phase]}
    assert cells(page, phase, "interval") == intervals


def test_the_page_begins_with_the_answer(page: Any, verdict: dict[str, Any]) -> None:
    shown = " ".join(page.eval("document.querySelector('h1').parentElement.innerText").split())
    assert " ".join(verdict["sentence"].split()) in shown


def test_the_pictures_of_the_report_are_not_blank(page: Any) -> None:
    spread = page.eval(SPREAD % "img.preview")
    assert len(spread) >= 3 * 3
    assert min(spread) > 30


def test_the_chart_has_a_mark_for_every_arm(page: Any, verdict: dict[str, Any]) -> None:
    marks = page.eval(
        "[...document.querySelectorAll('svg [id^=\"mark-\"]')].filter(m => m.getBBox().width > 0).map(m => m.id)"
    )
    assert {f"mark-{row['arm']}" for row in verdict["mix"]} <= set(marks)
    assert {f"mark-{row['arm']}-test" for row in verdict["confirm"]} <= set(marks)


def test_the_page_asks_nobody_for_anything(page: Any) -> None:
    assert page.eval("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0


@pytest.fixture(scope="module")
def charts(
    browser: Any,
    reference: Runner,
    free_port: Callable[[], int],
    serving: Callable[..., AbstractContextManager[None]],
) -> Iterator[Any]:
    """MLflow's charts page of the sweep, through the link that `medsynth sweep sync` prints."""
    port = free_port()
    command = [*reference.command("sweep sync", "tracking.enabled=true"), "--port", str(port)]
    state = reference.call(command)
    assert state["behind"] == 0
    with serving(ui_command(state["uri"], port), port, env=QUIET):
        browser.open(state["links"]["charts"])
        browser.wait_for("document.querySelectorAll('.js-plotly-plot .barlayer .point').length", 180)
        yield browser


def test_mlflow_has_a_bar_for_every_arm(charts: Any, verdict: dict[str, Any]) -> None:
    names = [row["arm"] for row in verdict["mix"]]
    text = charts.wait_for(
        f"{json.dumps(names)}.every(n => document.body.innerText.includes(n)) && document.body.innerText", 60
    )
    assert [name for name in names if name not in text] == []
    charts.wait_for(f"document.querySelectorAll('.js-plotly-plot .barlayer .point').length >= {len(names)}", 60)


SAMPLES = "[...document.querySelectorAll('*')].find(e => !e.children.length && e.innerText === 'samples')"


def test_mlflow_shows_pictures(charts: Any) -> None:
    """The page loads pictures when one scrolls to their section, below the charts of numbers."""
    charts.wait_for(f"{SAMPLES} && ({SAMPLES}.scrollIntoView(), true)", 60)
    shown = "[...document.querySelectorAll('img[src*=\"get-artifact\"]')].some(i => i.complete && i.naturalWidth)"
    charts.wait_for(shown, 90)
    assert max(charts.eval(SPREAD % 'img[src*="get-artifact"]')) > 30
