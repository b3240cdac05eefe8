"""How numbers are written."""

from __future__ import annotations

import pytest

from medsynth_ray.report.figures import gain, legend
from medsynth_ray.report.page import render
from medsynth_ray.report.tables import (
    duration,
    family_line,
    fmt,
    interval,
    level_text,
    mark_id,
    metric_words,
    settings,
)
from medsynth_ray.report.view import ReportView


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (0.81249, "score", "0.812"),
        (-0.03449, "signed", "-0.034"),
        (0.5, "signed", "+0.500"),
        (1430, "score", "1,430"),
        (3, "signed", "+3"),
        (0.00042351, "free", "0.000424"),
        (31.249, "free", "31.2"),
        (123456.7, "free", "123,457"),
        (None, "score", "–"),
        (True, "score", "True"),
        ("x", "free", "x"),
    ],
)
def test_fmt(value, style, text):
    assert fmt(value, style) == text


def test_interval_is_empty_where_there_is_none():
    assert interval(0.1, 0.25) == "[0.100, 0.250]"
    assert interval(-0.1, 0.25, "signed") == "[-0.100, +0.250]"
    assert interval(None, 0.25) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (0.04, "0.0 s"), (99.0, "99.0 s"), (150.0, "2.5 min"), (9000.0, "2.5 h")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_settings():
    assert settings({"learning_rate": 1e-5, "rank": 8, "head": "mlp"}) == "learning_rate=1e-05, rank=8, head=mlp"
    assert settings(None) == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("macro_auc", "macro AUC"),
        ("macro_f1", "macro F1"),
        ("sensitivity_at_0.90/1", "sensitivity at specificity 0.90 (melanoma)"),
        ("sensitivity_at_0.95/7", "sensitivity at specificity 0.95 (class 7)"),
    ],
)
def test_metric_words(make_view, name, text):
    assert metric_words(make_view(), name) == text


def test_one_arm_has_intervals_of_95_percent(make_view):
    assert (level_text(make_view()), family_line(make_view())) == ("95 %", "")


def test_several_arms_have_wider_intervals_and_the_page_says_so(make_view):
    view = make_view()
    view.verdict.update(num_arms=2, p_adjusted=0.0156)
    for item in view.verdict["comparisons"]:
        item["level"] = 0.975
    assert level_text(view) == "97.5 %"
    assert family_line(view) == (
        "The sweep confirms 2 arms, which have 2 chances: intervals are at level 97.5 %, and the largest p of this "
        "arm, adjusted by Holm over the arms, is 0.016."
    )
    text = render(view)
    assert family_line(view) in text
    assert "<th>97.5 % interval</th>" in text


def test_mark_ids_hold_no_space_and_no_quote():
    assert mark_id({"arm": "a b\"c'd", "phase": "mix"}) == "mark-a_b_c_d"
    assert mark_id({"arm": "real_only", "phase": "confirm"}) == "mark-real_only-test"


def test_settings_of_one_generator_are_series_of_their_own(make_arm):
    def row(ratio, rank):
        given = {"generator": "lora", "mixer": "add", "ratio": ratio, "parameters": {"rank": rank}}
        return make_arm(f"lora-{rank}/add/{ratio}", "mix", 0.7 + ratio / 10, **given)

    view = ReportView("x", "x-1", "finished", arms=[row(r, rank) for rank in range(9) for r in (0.5, 0.25)])
    series = legend(view)
    assert [item["name"] for item in series] == [f"lora · add · rank={rank}" for rank in range(9)]
    assert [item["dashed"] for item in series] == [False] * 8 + [True]
    assert gain(view).count('id="mark-') == 18


def test_a_mixer_without_ratio_stands_at_its_share(make_arm):
    given = {"generator": "gaussian", "mixer": "balance", "ratio": None, "synthetic_share": 0.31}
    svg = gain(ReportView("x", "x-1", "finished", arms=[make_arm("gaussian/balance", "mix", 0.7, **given)]))
    assert "<title>gaussian/balance: 0.700 [0.679, 0.721]</title>" in svg
