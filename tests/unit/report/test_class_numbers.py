"""Measured numbers of each class stand in a table of their own, below those of all classes."""

from __future__ import annotations

import re

import pytest

from medsynth_ray.report.page import render
from medsynth_ray.report.tables import measured_by_class


def of_class(label, value, low=None, high=None, reason=""):
    found = {"name": f"kid_x_n{label}", "value": value, "low": low, "high": high, "details": {}, "reason": reason}
    return {"label": label, **found}


@pytest.fixture
def generators():
    """Two pools; the second was measured as a whole only."""
    whole = {"name": "kid_x", "value": 0.03, "low": 0.02, "high": 0.04, "details": {}, "reason": ""}
    rows = [of_class(0, 0.0123, 0.001, 0.0456), of_class(2, None, reason="needs 2 images, got 1")]
    base = {
        "use": "gaussian", "status": "ok", "reason": "", "parameters": {}, "gates": {}, "fitted_on_unknown": False,
        "cost_s": 1.0,
    }  # fmt: skip
    return [
        {**base, "label": "gaussian", "measured": [{**whole, "per_class": rows}]},
        {**base, "label": "dcgan_small", "measured": [whole]},
        {**base, "label": "real_classic", "role": "control", "measured": [{**whole, "per_class": rows}]},
    ]


def test_rows_are_of_candidates_class_by_class(make_view, generators):
    view = make_view(generators=generators)
    rows = measured_by_class(view)
    assert [(row["generator"], row["class_name"]) for row in rows] == [
        ("gaussian", view.class_names[0]), ("gaussian", view.class_names[2]),
    ]  # fmt: skip
    assert [row["cells"]["kid_x"]["value"] for row in rows] == [0.0123, None]


def test_the_page_shows_them_with_interval_and_reason(make_view, generators):
    page = render(make_view(generators=generators))
    table = page.partition('<table id="generator-classes">')[2].partition("</table>")[0]
    words = " ".join(re.sub(r"<[^>]+>", " ", table).split())
    assert "gaussian nevus 0.0123 [0.001, 0.0456]" in words
    assert "needs 2 images, got 1" in words
    assert "&lt;script&gt;" in table


def test_without_numbers_by_class_there_is_no_table(make_view, generators):
    assert "generator-classes" not in render(make_view(generators=generators[1:2]))
