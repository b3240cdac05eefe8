"""What is said of the real images."""

from __future__ import annotations

import re

import pytest

from medsynth_ray.report.data_tables import caveats, count_rows, finding_groups, real_share_line
from medsynth_ray.report.page import MAX_THUMBNAILS, render
from medsynth_ray.report.view import ReportView


def shares(classifier, generator):
    return {"classifier": 0.1, "generator": 1.0, "classifier_images": classifier, "generator_images": generator}


MORE = (
    "Generators were shown 12,000 real images, the classifier 1,200: a gain may come from the generator's extra real "
    "images, not from synthesis (as in Jiao et al. 2025, HybridQ)."
)


@pytest.mark.parametrize(
    ("given", "reference", "line"),
    [
        (None, None, ""),
        (shares(700, 700), None, ""),
        (shares(1200, 12000), None, MORE),
        (shares(1200, 12000), "real_showable", f"{MORE} Compare with real_showable, real only on all of them."),
        (
            shares(900, 90),
            "real_showable",
            "Generators were shown 90 real images, the classifier 900: synthetic images cannot carry what only the "
            "classifier's further real images show.",
        ),
    ],
)
def test_unequal_shares_of_real_images_are_a_sentence(given, reference, line):
    assert real_share_line(given, reference) == line


def test_unequal_shares_stand_in_the_answer_and_with_the_data(make_view):
    text = render(make_view())
    escaped = MORE.replace("'", "&#39;")
    assert text.partition('<section id="why">')[0].count(f"<li>{escaped}</li>") == 1
    assert text.partition('<section id="data">')[2].count(escaped) == 1
    assert "Generators were shown" not in render(make_view(real_share=None))


def test_a_caveat_that_the_verdict_has_already_is_not_said_twice(make_view):
    view = make_view()
    view.verdict["caveats"].append(MORE)
    assert caveats(view).count(MORE) == 1


def test_the_reference_arm_is_named_where_there_is_one(make_view, make_arm):
    arms = [
        make_arm("real_only", "mix", 0.7, role="control"),
        make_arm("real_showable", "confirm", 0.8, role="reference"),
    ]
    text = render(make_view(arms=arms))
    assert "Compare with real_showable, real only on all of them." in text
    assert '<small class="soft">reference</small>' in text


def test_counts_of_a_split_are_a_row_and_a_bar(make_view):
    train = count_rows(make_view())[0]
    assert (train["split"], train["counts"], train["total"]) == ("train", [700, 300, 200], 1200)
    assert [(part["name"], part["percent"]) for part in train["bar"]][:2] == [("nevus", "58.3"), ("melanoma", "25.0")]


def test_an_empty_class_or_split_has_no_bar():
    view = ReportView("x", "x-1", "finished", counts={"train": [3, 0], "val": [0, 0]}, class_names=("a", "b"))
    assert [len(row["bar"]) for row in count_rows(view)] == [1, 0]
    assert render(view).count('style="--c: #3b82c4; width: 100.0%"') == 1


def test_findings_are_grouped_by_severity_the_gravest_first(make_view):
    groups = finding_groups(make_view())
    assert [(g["severity"], len(g["findings"]), g["open"]) for g in groups] == [
        ("quarantine", 1, True),
        ("warn", 2, True),
        ("info", 1, False),
    ]


def test_an_unknown_severity_is_not_lost():
    odd = {"severity": "curious", "kind": "x", "message": "m", "ids": []}
    view = ReportView("x", "x-1", "finished", audit=[odd])
    assert [group["severity"] for group in finding_groups(view)] == ["curious"]
    assert "<b>x</b>: m" in render(view)


def test_findings_show_thumbnails_of_their_first_images(make_view):
    data = render(make_view()).partition('<section id="data">')[2].partition("</section>")[0]
    found = data.partition('data-kind="near_duplicate"')[2].partition('data-kind="')[0]
    assert re.findall(r'alt="(id-\d+)"', found) == [f"id-{i}" for i in range(MAX_THUMBNAILS)]
    assert "24 ids" in found
    unreadable = data.partition('data-kind="unreadable"')[2].partition('data-kind="')[0]
    assert "<img" not in unreadable


def test_without_thumbnails_no_picture_stands_with_the_data(make_view):
    data = render(make_view(thumbnails={})).partition('<section id="data">')[2].partition("</section>")[0]
    assert "<img" not in data
    assert "12 pairs of near duplicates were joined to one group" in data


def test_nothing_found_is_said():
    assert "Nothing was found." in render(ReportView("x", "x-1", "unfinished"))
