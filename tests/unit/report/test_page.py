"""The page shows the verdict's numbers, escapes what users wrote, needs no network, and is the same again."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from medsynth_ray.report.page import MAX_PREVIEW_PX, png_uri, render
from medsynth_ray.report.view import ReportView

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Texts of cells, ids, tags and attributes of a page; checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.tags, self.attributes = [], [], []
        self.cells: dict[tuple[str, str, str], str] = {}
        self._open, self._row, self._cell = [], None, None
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [found["id"]] if "id" in found else []
        if tag == "tr":
            self._row = (found.get("data-phase", ""), found.get("data-arm") or found.get("data-control") or "")
        if tag in ("td", "span", "b") and "data-field" in found:
            self._cell = (*(self._row or ("", "")), found["data-field"])
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag in ("td", "span", "b", "tr"):
            self._cell = None

    def handle_data(self, data):
        if self._cell:
            self.cells[self._cell] = (self.cells.get(self._cell, "") + data).strip()


@pytest.fixture(scope="module")
def view(make_view):
    return make_view()


@pytest.fixture(scope="module")
def text(view):
    return render(view)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_first_words_are_the_answer(view, text):
    body = re.sub(r"<[^>]+>", "", text[text.index("<main>") :]).strip()
    assert body.startswith(view.verdict["sentence"])


@pytest.mark.parametrize("index", range(3))
def test_comparisons_are_those_of_the_verdict(view, page, index):
    item = view.verdict["comparisons"][index]
    shown = {field: page.cells["", item["control"], field] for field in ("difference", "interval", "p", "beaten")}
    assert shown == {
        "difference": f"{item['difference']:+.3f}",
        "interval": f"[{item['low']:+.3f}, {item['high']:+.3f}]",
        "p": f"{item['p']:.3f}",
        "beaten": "yes",
    }


@pytest.mark.parametrize(
    ("phase", "arm", "field", "expected"),
    [
        ("confirm", "gaussian+add@0.5", "mean", "0.812"),
        ("confirm", "gaussian+add@0.5", "interval", "[0.791, 0.833]"),
        ("confirm", "gaussian+add@0.5", "gain", "+0.041"),
        ("confirm", "gaussian+add@0.5", "repeats", "8"),
        ("confirm", "gaussian+add@0.5", "num_train", "2,400"),
        ("confirm", "real_oversampled", "cost", "2.5 h"),
        ("confirm", "real_only", "gain", "–"),
        ("mix", "real_only", "mean", "0.781"),
        ("mix", "gaussian+replace@0.75", "gain", "-0.050"),
        ("mix", "gaussian+replace@0.75", "parameters", "learning_rate=0.0001, num_components=24"),
        ("mix", "img2img+add@0.25", "mean", "–"),
        ("mix", "img2img+add@0.25", "ratio", "0.25"),
    ],
)
def test_arms(page, phase, arm, field, expected):
    assert page.cells[phase, arm, field] == expected


def test_every_arm_has_a_row_and_a_mark(view, page):
    keys = {(row["phase"], row["arm"]) for row in view.arms}
    assert {(phase, arm) for phase, arm, field in page.cells if field == "mean"} == keys
    marks = [name for name in page.ids if name.startswith("mark-")]
    suffix = {"mix": "", "confirm": "-test"}
    assert sorted(marks) == sorted(f"mark-{arm}{suffix[phase]}" for phase, arm in keys)


def test_ids_are_unique_and_references_have_a_target(page):
    assert len(page.ids) == len(set(page.ids))
    references = {v[1:] for k, v in page.attributes if k in ("href", "xlink:href") and v.startswith("#")}
    references |= {found for k, v in page.attributes if v for found in re.findall(r"url\(#([^)]+)\)", v)}
    assert references - set(page.ids) == set()


def test_what_users_wrote_is_escaped(text, page):
    assert "script" not in page.tags
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5
    assert "&lt;img src=x&gt;.png" in text
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_a_generator_named_like_markup_is_escaped_in_the_charts(make_view, make_arm):
    row = {"generator": "<b>$x_1$", "mixer": "add", "ratio": 0.5}
    text = render(make_view(arms=[make_arm("<b> & 'x'/add", "mix", 0.7, **row), make_arm("real_only", "mix", 0.6)]))
    page = Page(text)
    assert "mark-_b_____x_/add" in page.ids
    assert "&lt;b&gt;$x_1$ · add" in text


def test_needs_no_network_and_no_script(text, page):
    assert "://" not in text
    sources = [value for name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert [source for source in sources if not source.startswith(("#", "data:image/png;base64,"))] == []
    assert {"script", "link", "iframe", "object", "form"} & set(page.tags) == set()
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert "@import" not in text


def test_size_is_reasonable(text):
    assert 100_000 < len(text) < 1_200_000


def test_same_view_same_bytes_whatever_the_process_drew_before(make_view, text):
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": False, "svg.hashsalt": "x"}):
        assert render(make_view()) == text


def test_same_bytes_in_another_process(text):
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import conftest; "
        "from medsynth_ray.report.page import render; sys.stdout.buffer.write(render(conftest.view()).encode())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=120)
    assert done.stdout.decode() == text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("unfinished", "No verdict yet: the sweep is not finished."),
        ("budget reached", "No verdict yet: the budget was reached first."),
        ("some trials failed", "No verdict yet: some trials failed."),
    ],
)
def test_a_sweep_without_a_verdict(status, words):
    text = render(ReportView(name="x", sweep_id="x-1", status=status))
    page = Page(text)
    assert words in re.sub(r"<[^>]+>", "", text)
    assert "No arm has been scored yet." in text
    assert "svg" not in page.tags


def test_a_verdict_without_a_candidate(make_view):
    verdict = {"word": "no_candidate", "sentence": "No candidate: no pool passed its gates.", "comparisons": []}
    verdict |= {"caveats": [], "metric": "accuracy", "about": "pool", "detectable": None, "effect": 0.03}
    text = render(make_view(verdict=verdict, arms=[]))
    assert "There is nothing to compare" in text
    assert "There is no comparison on the locked test." in text


def test_a_harmed_class_is_told_beside_the_answer(make_view):
    view = make_view()
    view.verdict["comparisons"][0]["per_class"][1] |= {"difference": -0.08, "low": -0.12, "high": -0.04}
    answer = render(view).partition('<section id="why">')[0]
    assert "Recall of melanoma is lower than with real only: -0.080 [-0.120, -0.040]" in answer
    assert "Recall of nevus" not in answer


def test_privacy_that_nobody_judged_is_said(make_view):
    view = make_view()
    del view.generators[0]["gates"]["near_copy"]
    assert "Privacy was not judged for gaussian." in render(view)


@pytest.mark.parametrize(
    ("label", "judged", "told"), [("copies", True, False), ("near_copy", False, True), ("near_copy", True, False)]
)
def test_the_row_says_whether_near_copy_judged_whatever_the_label(make_view, label, judged, told):
    view = make_view()
    row = view.generators[0]
    row["gates"] = {label: row["gates"]["near_copy"]}
    row["near_copy_judged"] = judged
    privacy = render(view).partition('<section id="privacy">')[2].partition("</section>")[0]
    assert ("Privacy was not judged for gaussian." in privacy) is told
    assert (f'<th scope="row">gaussian</th><td>{label}</td>' in privacy) is not told


def test_the_privacy_of_the_winner_stands_under_the_answer(make_view):
    view = make_view()
    view.verdict["privacy"] = "Privacy: 2 of 500 images were <dropped>."
    answer = render(view).partition("</h1>")[2].lstrip()
    assert answer.startswith('<p id="privacy-answer">Privacy: 2 of 500 images were &lt;dropped&gt;.</p>')
    assert "privacy-answer" not in render(make_view())


def test_what_p_and_intervals_of_kid_stand_for_is_told(text):
    assert "p over training runs (same test images)</th>" in text
    assert "whose repeats barely differ it is small by construction, and the interval decides." in text
    assert "Intervals of KID treat rows as independent images" in text


def test_a_number_that_was_refused_says_why(make_view):
    view = make_view()
    view.generators[0]["measured"][0] |= {"value": None, "low": None, "high": None, "reason": "needs 20 images, got 7"}
    assert "needs 20 images, got 7" in render(view)


def test_facts_of_the_run(text):
    rows = dict(re.findall(r'<th scope="row" class="nowrap">(.+?)</th><td>(.+?)</td>', text))
    assert rows["failures"] == "job fit-1, message NaN"
    assert rows["versions"] == "ray 2.60"
    assert rows["hours"] == "0.4"


def test_pools_of_controls_are_no_generators(page):
    shown = {value for name, value in page.attributes if name == "data-generator"}
    assert shown == {"gaussian", "dcgan_small", "img2img"}


def test_real_images_that_are_withheld(make_view):
    text = render(make_view())
    assert text.count("real image left out (report.real_images: false)") == 1
    assert text.count('alt="real image') == 1


def test_images_come_back_from_the_page(view, text):
    uris = re.findall(r'<img class="preview" src="data:image/png;base64,([^"]+)" alt="melanoma, gaussian, image', text)
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri)))) for uri in uris]
    expected = next(p.images for p in view.previews if (p.generator, p.class_name) == ("gaussian", "melanoma"))
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize(("shape", "size"), [((20, 30, 1), (30, 20)), ((512, 256, 3), (64, MAX_PREVIEW_PX))])
def test_png_is_made_smaller_never_larger(shape, size):
    uri = png_uri(np.full(shape, 7, dtype=np.uint8), MAX_PREVIEW_PX)
    picture = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    assert picture.size == size
    assert picture.getextrema() in [(7, 7), ((7, 7),) * 3]


@pytest.mark.parametrize(
    ("pilot", "told"),
    [(None, "the assumed discordance"), ({"num_repeats": 3}, "what a pilot of 3 real-only repeats showed")],
)
def test_where_the_noise_of_the_power_comes_from(make_view, pilot, told):
    view = make_view()
    view.power["pilot"] = pilot
    assert told in render(view).partition('<section id="power">')[2].partition("</section>")[0]


def test_several_looks_at_the_locked_test_are_told(make_view):
    several, one = render(make_view(looks=3)), render(make_view(looks=1))
    assert "The locked test of these images was opened by 3 sweeps." in several
    assert Page(several).cells["", "", "looks"] == "3"
    assert "The locked test of these images was opened by" not in one
