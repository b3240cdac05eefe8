"""What is printed beside a paper's tables: intervals that n allows, what a test could call, this sweep's numbers."""

from __future__ import annotations

from typing import Any

import pytest

from medsynth_ray.sections import PublishedConfig
from medsynth_ray.stats.published import measured_cells, published_tables

XRAY: dict[str, Any] = {
    "title": "X-rays",
    "columns": ["Acc", "P"],
    "rows": {"original": [0.90, 0.87], "classic": [0.89, None], "DreamBooth": [0.91, 0.89]},
    "num_test": 140,
    "proportions": ["Acc"],
    "measured": {"original": "real_only", "DreamBooth": "vae"},
    "metrics": {"Acc": "accuracy", "P": "macro_precision"},
}


def quoted(**change: Any) -> PublishedConfig:
    return PublishedConfig.model_validate({"source": "Doe 2024", "tables": [{**XRAY, **change}], "notes": ["one run"]})


def table(**change: Any) -> dict[str, Any]:
    found: dict[str, Any] = published_tables(quoted(**change))["tables"][0]
    return found


def test_every_cell_is_there_and_shares_have_wilson_intervals() -> None:
    found = published_tables(quoted())
    assert (found["source"], found["notes"]) == ("Doe 2024", ["one run"])
    rows = {row["name"]: row["cells"] for row in found["tables"][0]["rows"]}
    assert [[cell["value"] for cell in cells] for cells in rows.values()] == [[0.90, 0.87], [0.89, None], [0.91, 0.89]]
    assert rows["original"][0]["low"] == pytest.approx(0.8391, abs=1e-4)
    assert rows["original"][0]["high"] == pytest.approx(0.9395, abs=1e-4)
    assert [cells[1]["low"] for cells in rows.values()] == [None, None, None]


def test_percent_is_given_back_in_percent() -> None:
    cell = table(rows={"none": [71.67, 0.62], "GAN": [74.67, 0.7]}, percent=True, num_test=900, measured={})["rows"][0]
    assert cell["cells"][0] == pytest.approx({"value": 71.67, "low": 68.64, "high": 74.52}, abs=0.01)


@pytest.mark.parametrize(
    ("change", "note", "sentence"),
    [
        ({"num_test": None}, "Acc: n not stated: no interval.", "differ by more than chance cannot be told."),
        (
            {"proportions": []},
            "No column is given as a share of test images",
            "differ by more than chance cannot be told.",
        ),
        ({}, "Acc: 95 % Wilson interval of 140 images; the other columns have none.", "1 of 140 images apart"),
    ],
)
def test_the_note_says_why_there_are_intervals_or_none(change: dict[str, Any], note: str, sentence: str) -> None:
    found = table(**change)
    assert note in found["note"]
    assert sentence in found["sentence"]


def test_a_table_of_counts_needs_no_interval() -> None:
    found = table(rows={"a": [6.3e6, 100], "b": [None, 50]}, proportions=[], measured={})
    assert (found["note"], found["sentence"]) == ("", "")


def test_one_image_of_140_cannot_be_called() -> None:
    assert table()["sentence"] == (
        "Acc: the first row, original 0.90 [0.84, 0.94], and the best of the others, DreamBooth 0.91 [0.85, 0.95], are "
        "1 of 140 images apart (difference +1.0 points [-6.1, +8.1]). The smallest difference that a two-sided 5 % "
        "test can call: 6 images (4.3 points) if both saw the same images and all that change change one way (exact "
        "McNemar), 9 (6.4 points) if they saw different ones. No test can call this difference. The best of 2 was "
        "picked on the images that score it, which flatters it."
    )


@pytest.mark.parametrize(
    ("best", "reading", "flattered"),
    [
        (0.66, "Only a paired test might call it, and the paper gives no pairs.", True),
        (0.80, "That is more than other test images would explain", True),
        (0.50, "No test can call this difference.", False),
        (0.30, "That is more than other test images would explain", False),
    ],
)
def test_the_reading_follows_from_the_images_apart(best: float, reading: str, flattered: bool) -> None:
    sentence = table(rows={"a": [0.56, 1], "b": [0.2, 1], "c": [best, 1]}, num_test=75, measured={})["sentence"]
    assert reading in sentence
    assert ("picked on the images that score it" in sentence) is flattered


def test_where_no_image_is_left_to_win_no_number_would_do() -> None:
    sentence = table(rows={"a": [0.9, 1], "b": [0.95, 1]}, num_test=20, measured={})["sentence"]
    assert "no number of them would do if they saw different ones" in sentence


def test_a_table_of_one_number_compares_nothing() -> None:
    assert table(rows={"a": [0.9, 1], "b": [None, 1]}, measured={})["sentence"] == ""


@pytest.mark.parametrize(("value", "percent", "most"), [(71.67, False, "1"), (120.0, True, "100"), (-0.1, False, "1")])
def test_a_share_outside_its_range_is_refused(value: float, percent: bool, most: str) -> None:
    with pytest.raises(ValueError, match=rf"row 'a': Acc is {value:g}, a share must be in \[0, {most}\]"):
        table(rows={"a": [value, 1]}, percent=percent, measured={})


def arm(name: str, phase: str, mean: float | None, **change: Any) -> dict[str, Any]:
    row = {
        "arm": name,
        "phase": phase,
        "mean": mean,
        "low": 0.7,
        "high": 0.8,
        "repeats": [0.74, 0.76],
        "role": "control",
    }
    return {**row, "metric": "balanced_accuracy", "generator": "", **change}


ARMS = [
    arm("real_only", "mix", 0.9),
    arm("real_only", "confirm", 0.75),
    arm("vae+add@0.25", "mix", 0.77, generator="vae", role="candidate"),
    arm("vae+add@0.5", "mix", 0.79, generator="vae", role="candidate"),
    arm("vae+add@0.75", "mix", None, generator="vae", role="candidate"),
]
POOLS = [
    {"label": "gan", "name": "gan", "measured": [{"name": "frechet_x_n50", "value": 9.0, "low": None, "high": None}]},
    {
        "label": "vae",
        "measured": [
            {"name": "frechetian_x", "value": 1.0, "low": None, "high": None},
            {"name": "frechet_x_n50", "value": 21.5, "low": 20.0, "high": 23.0},
        ],
    },
]
SCORES = {
    ("confirm", "real_only"): [{"accuracy": 0.70, "macro_precision": 0.6}, {"accuracy": 0.74, "macro_precision": 0.6}],
    ("mix", "vae+add@0.5"): [{"accuracy": 0.8}],
}


def cells(**change: Any) -> dict[tuple[int, str, str], dict[str, Any]]:
    return measured_cells(quoted(**change), arms=ARMS, generators=POOLS, repeat_scores=SCORES)


def test_the_locked_test_goes_before_val_and_repeats_give_a_t_interval() -> None:
    found = cells()[0, "original", "Acc"]
    assert found["value"] == pytest.approx(0.72)
    assert (found["high"] - found["low"]) / 2 == pytest.approx(12.7062 * 0.02, rel=1e-4)
    assert found["n"] == 2
    assert found["what"] == "accuracy of real_only (locked test); interval over training runs only"


def test_a_generator_stands_for_its_best_arm_and_val_is_named() -> None:
    found = cells()[0, "DreamBooth", "Acc"]
    assert found == {
        "value": 0.8,
        "low": None,
        "high": None,
        "n": 1,
        "what": "accuracy of vae+add@0.5 (val: selection, no evidence)",
    }


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_recall"])
def test_the_verdicts_metric_keeps_its_two_way_interval(metric: str) -> None:
    found = cells(metrics={"P": metric})[0, "original", "P"]
    assert [found[key] for key in ("value", "low", "high", "n")] == [0.75, 0.7, 0.8, 2]


def test_what_was_not_measured_is_left_out() -> None:
    assert set(cells()) == {(0, "original", "Acc"), (0, "original", "P"), (0, "DreamBooth", "Acc")}
    assert cells(measured={"classic": "nobody"}) == {}


def test_columns_in_percent_get_percent_and_shares_stay_shares() -> None:
    rows = {"original": [71.67, 0.62], "classic": [1.0, 0.6], "DreamBooth": [74.0, 0.7]}
    found = cells(percent=True, rows=rows)
    assert found[0, "original", "Acc"]["value"] == pytest.approx(72.0)
    assert found[0, "original", "P"]["value"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("name", "expected"), [("vae", 21.5), ("vae+add@0.25", 21.5), ("gan", 9.0), ("real_only", None), ("", None)]
)
def test_numbers_of_pools_are_found_by_generator_or_arm(name: str, expected: float | None) -> None:
    found = cells(measured={"original": name}, metrics={"P": "frechet"})
    assert found.get((0, "original", "P"), {"value": None})["value"] == expected
