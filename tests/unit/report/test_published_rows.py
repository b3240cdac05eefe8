"""The paper's numbers as they were printed, and this sweep's below them."""

from __future__ import annotations

import re

import pytest

from medsynth_ray.report.page import render
from medsynth_ray.report.published import published_tables
from medsynth_ray.report.view import ReportView


@pytest.fixture(scope="module")
def section(make_view):
    return render(make_view()).partition('<section id="published">')[2].partition("</section>")[0]


def texts(section):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", section))


def test_every_cell_is_printed_with_what_its_n_allows(make_view):
    first, second = published_tables(make_view())
    cells = {row["name"]: [f"{c['text']} {c['interval']}".strip() for c in row["cells"]] for row in first["rows"]}
    assert cells == {
        "original": ["0.90 [0.84, 0.94]", "0.87", "0.80", "–"],
        "conventional augmentation": ["0.89 [0.83, 0.93]", "0.84", "0.81", "–"],
        "<i>DreamBooth</i>": ["0.91 [0.85, 0.95]", "0.89", "0.81", "31.5"],
    }
    assert [row["cells"][0] for row in second["rows"]] == [
        {"text": "71.67", "interval": ""},
        {"text": "74.67", "interval": ""},
    ]


def test_measured_rows_stand_below(make_view):
    rows = {row["name"]: row["measured"] for row in published_tables(make_view())[0]["rows"]}
    recall, fid = rows["<i>DreamBooth</i>"]["cells"][2:]
    assert recall == {
        "text": "0.812",
        "interval": "[0.791, 0.833]",
        "what": "macro recall of gaussian+add@0.5 (locked test), 8 repeats",
    }
    assert fid == {"text": "31.2", "interval": "", "what": "frechet_efficientnet_lite0_n300 (val)"}
    assert rows["original"]["cells"][3]["text"] == "–"
    assert rows["conventional augmentation"]["any"] is False


@pytest.mark.parametrize(
    "expected",
    [
        "Doe et al. 2024, A study, Journal 1(2).",
        "The winner is the best of 17 rows on one test set.",
        "never part of the verdict",
        "selection is never evidence",
        "Acc: 95 % Wilson interval of 140 images",
        "Acc (%): n not stated: no interval.",
        "original 0.90 [0.84, 0.94]",
        "are 1 of 140 images apart",
        "nobody no number yet",
    ],
)
def test_the_section_says(section, expected):
    assert expected in texts(section)


def test_rows_are_escaped_and_the_verdict_knows_nothing_of_them(make_view, section):
    assert "&lt;i&gt;DreamBooth&lt;/i&gt;" in section
    assert "<i>" not in section
    answer = render(make_view()).partition('<section id="arms-section">')[0]
    assert "DreamBooth" not in answer


def test_a_sweep_that_quotes_no_paper_has_no_section(make_view):
    text = render(make_view(published=None))
    assert 'id="published"' not in text
    assert "#published" not in text


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([6.3e6, 3921.0], ["6,300,000", "3,921"]),
        ([0.0002, 8e-5], ["0.0002", "8e-05"]),
        ([1.2, None, -0.25], ["1.20", "–", "-0.25"]),
        ([0.0, 2.0], ["0", "2"]),
    ],
)
def test_numbers_keep_the_decimals_of_their_column(values, shown):
    rows = [{"name": str(v), "measured": None, "cells": [{"value": v, "low": None, "high": None}]} for v in values]
    table = {"title": "t", "columns": ["x"], "percent": False, "rows": rows}
    view = ReportView("x", "x-1", "finished", published={"source": "s", "notes": [], "tables": [table]})
    assert [row["cells"][0]["text"] for row in published_tables(view)[0]["rows"]] == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.81, "0.810"), (80.0, "80.0"), (0.00213, "0.00213"), (0.0, "0"), (123.4, "123"), (4321.0, "4,321")],
)
def test_measured_numbers_have_three_digits(make_view, value, text):
    cell = {"value": value, "low": value, "high": value, "n": 1, "what": "x"}
    found = published_tables(make_view(measured_cells={(0, "original", "Acc"): cell}))[0]["rows"][0]["measured"]
    assert found["cells"][0] == {"text": text, "interval": f"[{text}, {text}]", "what": "x"}
