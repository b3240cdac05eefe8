"""The section on the locked test in detail shows what `describe` found, and nothing where there is nothing."""

from __future__ import annotations

import copy
import html
import re

import pytest

from medsynth_ray.report.evidence import MAX_FLIPS, detail, p_text, shown_flips
from medsynth_ray.report.evidence_figures import learning_curve, reliability, subgroup_forest
from medsynth_ray.report.page import render
from medsynth_ray.report.view import ReportView

LOST = "#d1495b"
EMPTY = ReportView(name="x", sweep_id="x-1", status="finished")


@pytest.fixture(scope="module")
def view(make_view):
    return make_view()


@pytest.fixture(scope="module")
def section(view):
    return render(view).partition('<section id="detail">')[2].partition("</section>")[0]


def table(section, name):
    """Texts of a table's body: one list of cells for each row, tags taken out."""
    body = re.search(rf'<table [^>]*(?:id|data-confusion)="{re.escape(name)}".*?</table>', section, re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", body.group().partition("<tbody>")[2], re.DOTALL)
    cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[re.sub(r"<[^>]+>", " ", cell).split() for cell in row] for row in cells]


def test_a_view_without_evidence_has_no_section():
    text = render(EMPTY)
    assert 'id="detail"' not in text
    assert 'href="#detail"' not in text
    assert detail(EMPTY) is None
    assert [draw(EMPTY) for draw in (reliability, subgroup_forest, learning_curve)] == ["", "", ""]


def test_the_section_is_in_the_navigation(view):
    assert render(view).count('<a href="#detail">Detail</a>') == 1


@pytest.mark.parametrize("arm", [0, 1], ids=["winner", "control"])
def test_classes_stand_side_by_side(view, section, arm):
    name = (view.evidence["winner"], view.evidence["control"])[arm]
    expected = view.evidence["arms"][name]["per_class"][1]
    row = table(section, "per-class")[1]
    assert row[:3] == [["melanoma"], ["100"], ["100"]]
    for cell, key in zip(row[3 + arm : 9 : 2], ("sensitivity", "specificity", "auc"), strict=True):
        found = expected[key]
        assert " ".join(cell) == f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def test_delongs_test_stands_at_the_end_of_the_row(view, section):
    found = view.evidence["delong"][0]
    row = table(section, "per-class")[0]
    assert " ".join(row[9]) == f"{found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
    assert " ".join(row[10]) == p_text(found["p"])


@pytest.mark.parametrize(("p", "text"), [(0.00049, "< 0.001"), (0.0005, "0.001"), (0.2, "0.200"), (None, "–")])
def test_p_is_never_0(p, text):
    assert p_text(p) == text


@pytest.mark.parametrize("name", ["gaussian+add@0.5", "real_only"])
def test_confusions_are_counts_shares_and_shades(view, section, name):
    counts = view.evidence["arms"][name]["confusion"][0]
    row = table(section, name)[0]
    assert row[0] == ["nevus"]
    assert [float(cell[0]) for cell in row[1:]] == pytest.approx(counts, rel=5e-3)
    assert [float(cell[1]) for cell in row[1:]] == pytest.approx([c / 100 for c in counts], abs=6e-4)
    assert f"rgba(59, 130, 196, {0.6 * counts[0] / 100:.3f})" in section


def test_a_class_without_images_has_no_shares(make_view):
    view = make_view(evidence=copy.deepcopy(make_view().evidence))
    view.evidence["arms"]["real_only"]["confusion"][1] = [0.0, 0.0, 0.0]
    assert [cell["share"] for cell in detail(view)["matrices"][1]["rows"][1]["cells"]] == ["–"] * 3


def test_flips_are_counted_and_the_first_are_shown(view, section):
    flips = view.evidence["flips"]
    assert flips["gained"] > flips["lost"] > 0
    text = re.sub(r"<[^>]+>", "", section)
    assert f"{flips['gained']} images are right with gaussian+add@0.5 that were wrong with real_only (gained)" in text
    assert f"{flips['lost']} the other way (lost)" in text
    assert f"The first {MAX_FLIPS} of {len(flips['rows'])}" in text
    assert "ignores training noise" in text
    rows = table(section, "flips")
    assert len(rows) == MAX_FLIPS
    first = {key: html.escape(str(value)) for key, value in flips["rows"][0].items()}
    assert rows[0][1:4] == [[first["id"]], [first["class"]], [first["control"], first["control_votes"], "of", "8"]]


def test_thumbnails_are_those_of_the_view(view, section, make_view):
    assert section.count('class="preview flip"') == MAX_FLIPS == len(shown_flips(view))
    withheld = render(make_view(flip_images={}))
    assert 'class="preview flip"' not in withheld
    assert '<table id="flips">' in withheld


def test_calibration_of_every_arm(view, section):
    rows = {row[0][0]: row[1:] for row in table(section, "calibration-table")}
    assert list(rows) == ["gaussian+add@0.5", "real_only", "real_classic"]
    found = view.evidence["arms"]["real_only"]["calibration"]
    expected = [found[when][key]["value"] for key in ("ece", "brier") for when in ("before", "after")]
    assert [float(cell[0]) for cell in rows["real_only"][:4]] == pytest.approx(expected, abs=5e-4)
    mean = sum(found["temperatures"]) / 8
    assert float(rows["real_only"][4][0]) == pytest.approx(mean, rel=5e-3)


def test_every_point_of_the_reliability_chart_stands_in_a_table(view, section):
    parts = [view.evidence["arms"][name]["calibration"] for name in ("gaussian+add@0.5", "real_only")]
    assert len(table(section, "reliability-bins")) == sum(
        len(part[when]["bins"]) for part in parts for when in ("before", "after")
    )


def test_without_temperatures_nothing_is_scaled(make_view):
    view = make_view(evidence=copy.deepcopy(make_view().evidence))
    for arm in view.evidence["arms"].values():
        arm["calibration"] |= {"after": None, "temperatures": None}
    row = table(render(view), "calibration-table")[0]
    assert (row[2], row[4], row[5]) == (["–"], ["–"], ["–"])


def test_subgroups_are_rows_and_the_lost_one_a_warning(view, section):
    warning = view.evidence["subgroups"]["warnings"][0]
    assert "loses in sex = F" in warning
    assert warning in section
    rows = {" ".join(row[0] + row[1]): row for row in table(section, "subgroup-table")}
    assert list(rows)[:4] == ["all images", "sex F", "sex M", "age &lt;= 46"]
    assert rows["&lt;site&gt; rare"][-1] == ["fewer", "than", "20", "images"]
    assert "Left out: note (300 values that are no numbers, at most 12 are shown)." in section
    assert "Not stated: &lt;site&gt; (10 images)." in section
    assert "They are not corrected for the number of subgroups" in section


def test_the_forest_has_a_row_for_each_number_and_a_colour_for_a_loss(view):
    chart = subgroup_forest(view)
    shown = [t for t in re.findall(r"<text[^>]*>([^<]+)</text>", chart) if re.match("all images|sex|age|&lt;site", t)]
    assert shown == ["all images", "sex = F", "sex = M", "age &lt;= 46", "age = 46-63", "age &gt; 63",
                     "&lt;site&gt; = main"]  # fmt: skip
    losses = [row for row in view.evidence["subgroups"]["columns"][0]["values"] if row["difference"]["high"] < 0]
    assert [row["value"] for row in losses] == ["F"]
    assert LOST in chart
    without = copy.deepcopy(view.evidence)
    without["subgroups"]["columns"][0]["values"].remove(losses[0])
    assert LOST not in subgroup_forest(ReportView("x", "x-1", "finished", evidence=without))


def test_without_metadata_there_are_no_subgroups(make_view):
    view = make_view(evidence=copy.deepcopy(make_view().evidence))
    view.evidence["subgroups"] |= {"columns": [], "left_out": [], "warnings": []}
    text = render(view)
    assert "<h3>Subgroups</h3>" not in text
    assert subgroup_forest(view) == ""


def test_images_that_stand_alone_have_no_column_of_groups(make_view, section):
    assert "with as many cases as there are groups" in section
    assert section.count('class="num">Groups</th>') == 2
    text = render(make_view(evidence={**make_view().evidence, "num_groups": 300}))
    assert "with as many cases as there are groups" not in text
    assert 'class="num">Groups</th>' not in text


def test_the_learning_curve_and_its_sentence(view, section):
    assert "worth about 900 &lt;b&gt;more&lt;/b&gt; real images" in section
    rows = table(section, "learning-points")
    assert [row[1] for row in rows] == [["150"], ["300"], ["600"], ["1,200"], ["2,400"]]
    assert rows[-1][2] == ["0.812", "[0.800,", "0.824]"]
    assert "balanced accuracy (test)" in learning_curve(view)


def test_a_learning_curve_stands_without_evidence_and_says_where_it_was_measured(view):
    curve = {**view.learning_curve, "winner": None, "split": "val", "metric": "macro_auc"}
    text = render(ReportView(name="x", sweep_id="x-1", status="finished", learning_curve=curve))
    assert '<section id="detail">' in text
    assert "macro AUC (val)" in text
    assert "selection: val, no evidence" in text
    assert '<table id="per-class">' not in text


def test_a_learning_curve_without_points_is_no_section():
    curve = {"points": [], "winner": None, "sentence": "none"}
    text = render(ReportView(name="x", sweep_id="x-1", status="finished", learning_curve=curve))
    assert 'id="detail"' not in text


def test_the_power_of_the_design_stands_with_it(view, section):
    assert view.power["line"][:40] in section


def test_tables_have_captions_and_headers_and_charts_a_label(section):
    assert section.count("<table") == section.count("<caption>") == 8
    assert re.findall(r"<th(?![^>]*scope=|ead)[^>]*>", section) == []
    assert section.count("<svg") == len(re.findall(r'<svg [^>]*role="img" aria-label="[^"]{20,}"', section)) == 3
