"""Packets are blind and need nobody; answers are checked against the key; the section shows the numbers."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from medsynth_ray.errors import ConfigError
from medsynth_ray.images import concat
from medsynth_ray.readers import scored
from medsynth_ray.report.readers import packet as packets
from medsynth_ray.report.readers.answers import gather
from medsynth_ray.report.readers.section import readers_page, readers_section
from medsynth_ray.report.readers.study import MIN_APART, Questions, choose, ordered, plan
from medsynth_ray.testing import toy_images
from tests import reading

KEY = reading.study()
EVIL = "<script>alert(1)</script>"


def rendered(key: Any = KEY, reader: int = 1) -> str:
    pictures = [packets.data_uri(packets.png(image)) for image in concat(reading.images()).pixels]
    return packets.page(key, key.packets[reader - 1], pictures)


def chunks(file: bytes) -> list[bytes]:
    """Types of the chunks of a PNG."""
    found, place = [], 8
    while place < len(file):
        found.append(file[place + 4 : place + 8])
        place += 12 + int.from_bytes(file[place : place + 4], "big")
    return found


class Page(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._tag, []).append(data)


# --- what is chosen


@pytest.mark.parametrize(("per_class", "expected"), [(5, [5, 5]), (10, [10, 8]), (99, [12, 8])])
def test_kinds_are_balanced_in_each_class(per_class: int, expected: list[int]) -> None:
    chosen = choose(toy_images((12, 30)), reading.images()[1], per_class=per_class, seed=1)
    assert [images.counts().tolist() for images in chosen] == [expected, expected]


def test_the_seed_decides_which_images() -> None:
    ids = [choose(*reading.images(), per_class=4, seed=seed)[0].ids.tolist() for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def test_a_class_without_one_kind_is_left_out_and_all_of_them_are_an_error() -> None:
    real, synthetic = reading.images()
    chosen = choose(real, synthetic.of_class(1), per_class=4, seed=0)
    assert [images.counts().tolist() for images in chosen] == [[4, 4], [0, 4]]
    with pytest.raises(ConfigError, match="all images would be of class 'class_1', so the diagnosis would not be"):
        choose(real.of_class(1), synthetic.of_class(1), per_class=4, seed=0)
    with pytest.raises(ConfigError, match="no class has both real and synthetic images"):
        choose(real.of_class(0), synthetic.of_class(1), per_class=4, seed=0)


def test_other_classes_take_turns_to_keep_the_diagnosis_blind() -> None:
    real, synthetic = toy_images((9, 1, 9, 9)), toy_images((0, 0, 0, 9), prefix="s")
    assert choose(real, synthetic, per_class=6, seed=0)[0].counts().tolist() == [3, 1, 2, 6]


def test_what_keeps_readers_blind_is_not_compared() -> None:
    real, synthetic = choose(reading.images()[0], reading.images()[1].of_class(1), per_class=8, seed=0)
    key = plan(
        real, synthetic, sweep="toy", arm="a", num_readers=1, repeat_share=0.0, secret=reading.SECRET,
        questions=Questions(),
    )  # fmt: skip
    found = scored(key, {1: reading.answers(key, 1)["answers"]})
    assert [found[name] for name in ("num_real", "num_synthetic", "num_distractors")] == [8, 8, 8]
    assert (found["auc"]["num_images"], found["readers"][0]["answered"]) == (16, 24)
    assert found["fidelity"]["class_0"] == {"synthetic": None, "real": None}
    assert found["questions"][0]["real"]["yes"] == 8
    assert len(found["pool_images"]) == 8
    assert "8 more real images" in readers_section(found)


@pytest.mark.parametrize(("num_cases", "num_repeats"), [(12, 3), (11, 2), (40, 20), (200, 20)])
@pytest.mark.parametrize("seed", range(5))
def test_repeats_stand_far_from_the_first_showing(num_cases: int, num_repeats: int, seed: int) -> None:
    order = ordered(num_cases, num_repeats, seed=seed)
    first = {case: place for place, (case, repeat) in enumerate(order) if not repeat}
    gaps = [place - first[case] for place, (case, repeat) in enumerate(order) if repeat]
    assert (len(order), sorted(first)) == (num_cases + num_repeats, list(range(num_cases)))
    assert len(gaps) == num_repeats
    assert min(gaps) >= MIN_APART


def test_too_few_images_for_repeats_are_refused() -> None:
    with pytest.raises(ConfigError, match="9 images are too few to show 1 again 10 places later"):
        ordered(9, 1, seed=0)
    assert len(ordered(9, 0, seed=0)) == 9


# --- blindness


def test_ids_are_unique_and_each_reader_has_an_order_of_its_own() -> None:
    every = [s.id for packet in KEY.packets for s in packet.showings]
    assert len(set(every)) == len(every) == 3 * 44
    orders = [tuple(s.case for s in packet.showings) for packet in KEY.packets]
    assert len(set(orders)) == 3
    assert len({packet.id for packet in KEY.packets}) == 3


def test_ids_hang_on_the_secret_alone() -> None:
    assert reading.study() == KEY
    real, synthetic = reading.images()
    common = {"sweep": KEY.sweep, "arm": KEY.arm, "num_readers": 3, "repeat_share": 0.1, "questions": Questions()}
    other = plan(real, synthetic, secret=b"another secret 16", **common)
    shared = {s.id for p in other.packets for s in p.showings} & {s.id for p in KEY.packets for s in p.showings}
    assert shared == set()


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_pixels_are_equal_bytes_whatever_they_are(channels: int) -> None:
    pixels = toy_images(channels=channels).pixels[0]
    file = packets.png(pixels)
    assert file == packets.png(np.asfortranarray(pixels))
    image = Image.open(io.BytesIO(file))
    assert (image.format, image.info, image.getexif()) == ("PNG", {}, {})
    assert image.mode == {1: "L", 3: "RGB"}[channels]
    assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    assert chunks(file) == [b"IHDR", b"IDAT", b"IEND"]


def test_files_of_both_kinds_have_the_same_chunks_and_sizes_that_overlap() -> None:
    real, synthetic = reading.images((40, 40))
    sizes = {name: [len(packets.png(p)) for p in kind.pixels] for name, kind in {"r": real, "s": synthetic}.items()}
    wins = np.mean([(a > b) + 0.5 * (a == b) for a in sizes["r"] for b in sizes["s"]])
    assert 0.35 < wins < 0.65
    assert {tuple(chunks(packets.png(p))) for kind in (real, synthetic) for p in kind.pixels} == {
        (b"IHDR", b"IDAT", b"IEND")
    }


def test_nothing_in_a_packet_tells_kind_class_or_source() -> None:
    text = rendered() + json.dumps(packets.label_studio_tasks(KEY.packets[0], ["x"] * 40))
    told = [case.image_id for case in KEY.cases] + [case.digest for case in KEY.cases]
    assert [word for word in [*told, KEY.secret, KEY.arm, KEY.sweep] if word in text] == []
    data = json.loads(re.search(r'id="packet">(.*?)</script>', text, re.DOTALL)[1])
    assert {frozenset(item) for item in data["items"]} == {frozenset({"id", "picture"})}
    assert Counter(Counter(item["picture"] for item in data["items"]).values()) == {1: 36, 2: 4}


# --- the page


def test_the_page_needs_nobody_and_runs_only_its_script() -> None:
    page = Page(rendered())
    (policy,) = [value for tag, name, value in page.attributes if (tag, name) == ("meta", "content") and "src" in value]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    script, style = page.texts["script"][-1], page.texts["style"][0]
    for text in (script, style):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert [a for a in page.attributes if a[1] in ("href", "src", "action", "style") or a[1].startswith("on")] == []
    assert "http" not in script
    assert "Object.hasOwn(given(item), name)" in script  # a question may be named `constructor`


def test_every_question_is_a_labelled_group_with_all_its_answers() -> None:
    page = Page(rendered())
    names = [value for tag, name, value in page.attributes if (tag, name) == ("fieldset", "data-name")]
    assert names == [
        "diagnosis", "diagnosis_confidence", "looks_real", "plausible", "malformed", "disease", "origin",
        "origin_confidence",
    ]  # fmt: skip
    codes = [value for tag, name, value in page.attributes if (tag, name) == ("input", "value")]
    assert Counter(codes)["uncertain"] == 4
    assert codes[:3] == ["class-0", "class-1", "other"]
    assert len([text for text in page.texts["legend"] if text.strip()]) == 8


def test_words_are_escaped_and_may_be_changed() -> None:
    key = reading.study(words={"title": EVIL, "class_names": {"class_0": EVIL}, "yes_no": {"sharp": "¿Nítida?"}})
    text = rendered(key)
    assert EVIL not in text
    assert "¿Nítida?" in text
    assert Page(text).texts["title"] == [EVIL]
    assert "looks_real" not in key.questions.codes(key.class_names)


@pytest.mark.parametrize(("words", "says"), [
    ({"titel": "x"}, r"q.yaml.titel: unknown key; did you mean 'title'\?"),
    ({"yes_no": {"origin": "x"}}, "'origin' must be letters, digits and _, and none of diagnosis"),
    ({"yes_no": {"is it": "x"}}, "'is it' must be letters"),
    ({"yes_no": {}}, "yes_no"),
    ({"language": "en; x"}, "language"),
])  # fmt: skip
def test_wrong_words_are_named(words: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Questions.read(words, "q.yaml")


def test_words_for_a_class_that_is_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match="'ill' is no class of the data"):
        reading.study(words={"class_names": {"ill": "x"}})


@pytest.mark.parametrize("words", [
    {"class_names": {"class_0": "ill", "class_1": "ill"}},
    {"class_names": {"class_0": "other"}, "other": "none"},
    {"yes": "ja", "no": "ja"},
])  # fmt: skip
def test_answers_that_cannot_be_told_apart_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"the words '(ill|other|ja)' of .* cannot be told from the answer"):
        reading.study(words=words)


def test_label_studio_asks_the_same_questions() -> None:
    view = ElementTree.fromstring(packets.label_studio_config(reading.study(words={"other": EVIL})))
    controls = [node for node in view if node.tag in ("Choices", "Rating")]
    assert [node.get("name") for node in controls] == list(KEY.questions.codes(KEY.class_names))
    assert [choice.get("alias") for choice in controls[0]] == ["class-0", "class-1", "other"]
    assert controls[0][2].get("value") == EVIL
    assert {node.get("toName") for node in controls} == {view[0].get("name")} == {"image"}


# --- answers


@pytest.mark.parametrize("by_words", [False, True], ids=["aliases", "words"])
def test_label_studio_answers_are_the_same_answers(by_words: bool) -> None:
    ours = gather(KEY, [("a.json", reading.answers(KEY, 2))])
    assert gather(KEY, [("ls.json", reading.label_studio(KEY, 2, by_words=by_words))]) == ours
    assert {len(said) for said in ours[2].values()} == {8}
    assert len(ours[2]) == 44


def test_files_of_a_reader_are_joined_in_any_order() -> None:
    whole = reading.answers(KEY, 1)
    half = {**whole, "answers": dict(list(whole["answers"].items())[:9])}
    joined = gather(KEY, [("b", reading.answers(KEY, 3)), ("half", half), ("whole", whole)])
    assert list(joined) == [1, 3]
    assert joined[1] == whole["answers"]


def changed(question: str, value: Any, **top: Any) -> dict[str, Any]:
    whole = reading.answers(KEY, 1)
    first = next(iter(whole["answers"]))
    return {**whole, "answers": {first: {**whole["answers"][first], question: value}}, **top}


@pytest.mark.parametrize(("content", "says"), [
    (changed("origin_confidence", "3"), r"reader 1, image [0-9a-f]{16}, origin_confidence: ok.json says '5', x.json"),
    (changed("origin", "fake"), r"x.json: origin is answered by 'fake' \(allowed: real, synthetic\)"),
    (changed("origin_confidence", 6), "origin_confidence is answered by '6'"),
    (changed("colour", "red"), "no question 'colour' in this study"),
    (changed("origin", "real", packet="0" * 16), r"packet '0{16}', which is not of this key; it has [0-9a-f]"),
    ({**reading.answers(KEY, 1), "answers": {"abc": {"origin": "real"}}}, r"\(reader 1\) shows no image 'abc'"),
    ({**reading.answers(KEY, 1), "answers": {"abc": "real"}}, "`answers` must hold a mapping for each image"),
    ({"format": "other"}, "neither answers of a packet"),
    ([{"image": "x", "origin": "real"}], "a task has no `data.item`"),
    ([{"data": {"item": "x", "packet": "y"}, "annotations": None}], "`annotations` must be a list"),
    ([{"data": {"item": "x", "packet": "y"}, "annotations": [{"result": None}]}], "`annotations.result` must be"),
])  # fmt: skip
def test_answers_that_cannot_be_used_are_refused(content: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        gather(KEY, [("ok.json", reading.answers(KEY, 1)), ("x.json", content)])


# --- the section


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return scored(KEY, gather(KEY, [(str(r), reading.answers(KEY, r)) for r in (1, 2)]))


def test_the_section_shows_the_numbers(result: dict[str, Any]) -> None:
    text = re.sub(r"<[^>]+>", " ", readers_section(result))
    assert result["sentence"] in text
    assert "20 synthetic images of gaussian and 20 real images of val, unseen by the generator" in text
    assert "12 of 12" not in text
    assert "24 of 24: 100 %" in text
    assert text.count("44 of 44") == 2


def test_the_section_escapes_and_is_the_same_again(result: dict[str, Any]) -> None:
    evil = {**result, "arm": EVIL, "fidelity": {EVIL: result["fidelity"]["class_0"]}}
    assert EVIL not in readers_section(evil)
    assert readers_section(evil) == readers_section(json.loads(json.dumps(evil)))
    assert readers_page(evil).count("<section") == 1


def test_the_section_of_a_study_without_real_images_has_no_chart() -> None:
    synthetic_only = [row for row in KEY.cases if row.synthetic]
    first = {s.id: KEY.cases[s.case] for s in KEY.packets[0].showings}
    said = reading.answers(KEY, 1)["answers"]
    some = {1: {name: one for name, one in said.items() if first[name] in synthetic_only}}
    alone = scored(KEY, some)
    assert alone["auc"] is None
    assert "<svg" not in readers_section(alone)
    assert "nobody read both" in readers_section(alone)
