"""The charts of generators: what stands where, and what is left out."""

from __future__ import annotations

import re

import pytest

from medsynth_ray.report.page import MAX_CHECKPOINTS, render
from medsynth_ray.report.pool_figures import curve, curve_floor, curve_legend, nearness, quality
from medsynth_ray.report.tables import detail_text, floor_text, main_name, ranked, separations
from medsynth_ray.report.view import ReportView


def labels(svg):
    """Texts of a chart, in order."""
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg)


def pool(name, value, low=None, high=None, *, status="ok", metric="kid_x", **details):
    item = {"name": metric, "value": value, "low": low, "high": high, "details": details}
    return {"label": name, "status": status, "measured": [item], "gates": {}}


def of(*pools):
    return ReportView("x", "x-1", "finished", generators=list(pools))


def test_generators_are_ranked_by_kid_and_status_is_told(make_view):
    view = make_view()
    assert main_name(view) == "kid_efficientnet_lite0"
    assert [row["label"] for row, _ in ranked(view)] == ["img2img", "gaussian", "dcgan_small"]
    assert [t for t in labels(nearness(view)) if t[0] in "dgi"] == ["img2img (rejected)", "gaussian", "dcgan_small"]


@pytest.mark.parametrize(
    ("vae", "expected"),
    [
        ((0.5, 0.4, 0.6), ["The interval of dcgan lies below that of vae."]),
        ((0.25, 0.15, 0.35), []),
        ((0.01, 0.0, 0.05), ["The interval of vae lies below that of dcgan."]),
        ((None, None, None), []),
        ((0.5, None, None), []),
    ],
)
def test_separation_is_of_intervals(vae, expected):
    assert separations(of(pool("vae", *vae), pool("dcgan", 0.2, 0.1, 0.3))) == expected


def test_separation_names_all_above_and_the_status():
    found = separations(of(pool("a", 1, 0, 2, status="rejected"), pool("b", 4, 3, 5), pool("c", 7, 6, 8)))
    assert found == [
        "The interval of a (rejected) lies below those of b and c.",
        "The interval of b lies below that of c.",
    ]


def test_where_no_interval_is_below_another_the_page_says_so(make_view):
    view = make_view()
    for row in view.generators[:3]:
        row["measured"][0] |= {"low": 0.0, "high": 1.0}
    assert "No generator's interval lies below that of another." in render(view)


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ({"floor": 0.0021, "floor_high": 0.0079}, "real against real 0.0021 (up to 0.0079)"),
        ({"floor": 3.39, "floor_max": 4.1}, "real against real 3.39 (up to 4.1)"),
        ({"floor": 0.96, "floor_low": 0.93}, "real against real 0.96 (down to 0.93)"),
        ({"floor": -0.0004}, "real against real -0.0004"),
        ({"p": 0.005}, ""),
    ],
)
def test_the_floor_stands_beside_the_number(details, text):
    assert floor_text({"details": details}) == text


def test_the_four_numbers_of_prdc_are_on_one_line():
    details = {"precision": 0.912, "recall": 0.4, "density": 1.04, "coverage": 0.84, "floor": 0.96, "floor_low": 0.9}
    found = {"details": details, "low": None}
    assert detail_text(found) == "precision 0.912 · recall 0.4 · density 1.04 · coverage 0.84"
    assert detail_text({"details": {"p": 0.005, "standard_error": 0.002}, "low": 0.1}) == "p 0.005"


@pytest.mark.parametrize(("details", "bands"), [({"floor": 1.0, "floor_high": 2.0}, 2), ({"floor": 1.0}, 0), ({}, 0)])
def test_each_row_has_its_floor_band(details, bands):
    svg = nearness(of(pool("a", 3, 2, 4, **details), pool("b", 5, 4, 6, **details)))
    assert svg.count('id="nearness-FillBetweenPolyCollection') == bands


def test_without_kid_there_is_no_ranking_but_a_panel():
    view = of(pool("a", 3.0, metric="frechet_x_n50"), pool("b", None, metric="prdc_x"))
    assert (main_name(view), nearness(view), separations(view)) == ("", "", [])
    assert {"frechet_x_n50", "smaller is nearer to real", "larger is nearer to real"} <= set(labels(quality(view)))


def test_a_sweep_with_kid_alone_has_no_further_panel():
    assert quality(of(pool("a", 3, 2, 4))) == ""


def row(points, *, generator="gan", candidate="0", best=True, floor=None):
    given = {"generator": generator, "candidate": candidate, "share": 1.0, "metric": "kid_x", "floor": floor}
    return {**given, "best": best, "points": points}


def curves(*rows):
    return ReportView("x", "x-1", "finished", curves=list(rows))


@pytest.mark.parametrize(
    ("seen", "ticks"),
    [
        ((100, 1999), ["250", "500", "750", "1,000", "1,250", "1,500", "1,750", "2,000"]),
        ((100, 2000), ["100", "1,000"]),
        ((0, 50_000), ["0", "10,000", "20,000", "30,000", "40,000", "50,000"]),
    ],
)
def test_images_seen_are_on_a_log_axis_where_they_span_a_factor_of_20(seen, ticks):
    svg = curve(curves(row([(n, 0.5, None, None) for n in seen])))
    assert [text for text in labels(svg) if "." not in text and text[0].isdigit()] == ticks


def test_the_best_has_a_band_and_others_have_none():
    points = [(100, 0.5, 0.4, 0.6), (200, 0.3, 0.2, 0.4)]
    svg = curve(curves(row(points), row(points, candidate="1", best=False)))
    assert svg.count('id="curve-FillBetweenPolyCollection') == 1


def test_one_colour_for_each_generator_and_a_dashed_floor(make_view):
    svg, names = curve(make_view()), curve_legend(make_view())
    assert [item["name"] for item in names] == ["gaussian", "dcgan_small"]
    assert all(svg.count(f"stroke: {item['color']}") >= 3 for item in names)
    assert curve_floor(make_view()) == 0.0021
    assert svg.count("stroke-dasharray") == 1


def test_a_floor_below_0_is_not_drawn_on_a_log_axis():
    svg = curve(curves(row([(1, 100.0, None, None), (2, 1.0, None, None)], floor=-0.01)))
    assert "stroke-dasharray" not in svg
    text = render(curves(row([(1, 100.0, None, None), (2, 1.0, None, None)], floor=-0.01)))
    assert "No generator has been fitted yet." in text
    assert "real against real: -0.01" in text


def test_points_without_a_number_are_left_out_and_a_curve_without_points():
    assert curve(curves(row([(100, None, None, None), (None, 0.3, None, None)]))) == ""
    assert curve_legend(curves(row([]), row([(1, 2.0, None, None)], generator="vae"))) == [
        {"name": "vae", "color": "#3b82c4"}
    ]


def test_every_point_stands_in_a_table(make_view):
    table = render(make_view()).partition('<table id="curve-points">')[2].partition("</table>")[0]
    assert table.count("<tr>") - 1 == sum(len(row["points"]) for row in make_view().curves)
    assert '<td class="num">128,000</td>' in table


def test_checkpoint_previews_are_a_grid_of_some_checkpoints(make_view):
    view = make_view()
    table = render(view).partition('data-checkpoints="gaussian"')[2].partition("</table>")[0]
    assert re.findall(r"<th>([\d,]+)</th>", table) == ["640", "1,920", "5,760", "25,600", "64,000", "128,000"]
    assert len(re.findall(r"<th>([\d,]+)</th>", table)) == MAX_CHECKPOINTS < 7
    assert table.count('<th scope="row">') == len(view.class_names)
    assert table.count('alt="melanoma, gaussian after 640 images') == 2
    assert table.count("<img") == 6 * 3 * 2
