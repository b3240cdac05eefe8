"""Subgroups: what is cut where, numbers by hand, coverage of the interval, and the warning."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.stats.subgroups import subgroups


def compare(columns, *, num=120, winner=None, control=None, labels=None, groups=None):
    labels = np.arange(num) % 2 if labels is None else labels
    right = np.tile(labels, (2, 1))
    groups = np.arange(num).astype(str) if groups is None else groups
    return subgroups(
        right if winner is None else winner, right if control is None else control, labels, groups, columns, seed=0
    )


def values_of(found, column=0):
    return [(row["value"], row["num_images"]) for row in found["columns"][column]["values"]]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["F", "M", ""] * 40, [("F", 40), ("M", 40)]),
        (["10", "9", "2.5"] * 40, [("2.5", 40), ("9", 40), ("10", 40)]),
        (["b", "9", "10"] * 40, [("10", 40), ("9", 40), ("b", 40)]),
        ([str(i) for i in range(1, 121)], [("<= 40", 40), ("40-80", 40), ("> 80", 40)]),
        ([str(min(max(i, 50), 90)) for i in range(120)], [("<= 50", 51), ("50-79", 29), ("> 79", 40)]),
        ([str(max(i, 100)) for i in range(120)], [("<= 100", 101), ("> 100", 19)]),
        ([str(i / 4) if i % 2 else "" for i in range(120)], [("<= 9.75", 20), ("9.75-19.75", 20), ("> 19.75", 20)]),
    ],
    ids=["texts", "numbers", "mixed", "tertiles", "ties", "two parts", "not stated"],
)
def test_columns_are_cut(texts, expected) -> None:
    found = compare({"x": texts})
    assert values_of(found) == expected
    assert found["columns"][0]["not_stated"] == texts.count("")


def test_names_of_values() -> None:
    found = compare({"sex": ["F", "M"] * 60, "age": [str(i) for i in range(1, 121)]})["columns"]
    names = [row["name"] for column in found for row in column["values"]]
    assert names == ["sex = F", "sex = M", "age <= 40", "age = 40-80", "age > 80"]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([""] * 120, "nothing is stated"),
        (["", "CT"] * 60, "only one value, 'CT'"),
        ([f"site {i % 13}" for i in range(120)], "13 values that are no numbers, at most 12 are shown"),
        ([f"{min(i, 20)}" for i in range(120)], "two thirds of the images share the largest number, 20"),
        (["nan", *(str(i) for i in range(119))], "120 values that are no numbers, at most 12 are shown"),
    ],
)
def test_columns_are_left_out_with_the_reason(texts, reason) -> None:
    found = compare({"x": texts, "y": ["a", "b"] * 60})
    assert found["left_out"] == [{"column": "x", "reason": reason}]
    assert [column["column"] for column in found["columns"]] == ["y"]


def test_numbers_by_hand() -> None:
    """40 images, 20 of each class. Repeat 1: the winner is wrong on 4 of class 0; repeat 2 on none; control: 5 of 1."""
    labels = np.arange(40) % 2
    winner, control = np.tile(labels, (2, 1)), np.tile(labels, (2, 1))
    winner[0, [0, 2, 4, 6]] = 1
    control[:, [1, 3, 5, 7, 9]] = 0
    overall = compare({}, winner=winner, control=control, labels=labels, groups=np.arange(40).astype(str))["overall"]
    assert (overall["winner"], overall["control"]) == pytest.approx((0.95, 0.875))
    difference = overall["difference"]
    assert difference["value"] == pytest.approx(0.075)
    assert difference["low"] < 0.075 < difference["high"]
    assert (overall["num_images"], overall["num_groups"], overall["reason"]) == (40, 40, "")


def test_classes_of_fewer_than_5_images_do_not_count() -> None:
    labels = np.array([0] * 20 + [1] * 20 + [2] * 4)
    winner = np.tile(np.where(labels == 2, 0, labels), (2, 1))
    overall = compare({}, winner=winner, labels=labels, groups=np.arange(44).astype(str))["overall"]
    assert (overall["winner"], overall["control"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.arange(19) % 2, "fewer than 20 images"),
        (np.array([0] * 40 + [1] * 4), "only one class of at least 5 images"),
        (np.arange(40) % 10, "no class of at least 5 images"),
    ],
)
def test_small_values_have_no_numbers(labels, reason) -> None:
    overall = compare({}, labels=labels, groups=np.arange(len(labels)).astype(str))["overall"]
    assert (overall["winner"], overall["control"], overall["difference"]) == (None, None, None)
    assert (overall["reason"], overall["num_images"]) == (reason, len(labels))


def test_arms_of_unequal_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 120\) and \(2, 120\) for 120 labels"):
        compare({}, winner=np.zeros((1, 120), dtype=int))


def test_a_single_group_has_no_interval() -> None:
    difference = compare({}, groups=np.full(120, "one"))["overall"]["difference"]
    assert difference == {"value": 0.0, "low": None, "high": None}


def test_images_of_one_group_are_drawn_together() -> None:
    """Every image four times in its group: the interval of the images alone."""
    rng, labels = np.random.default_rng(1), np.arange(50) % 2
    winner, control = (np.where(rng.random((2, 50)) < 0.8, labels, 1 - labels) for _ in range(2))
    groups = np.arange(50).astype(str)
    alone = compare({}, winner=winner, control=control, labels=labels, groups=groups)["overall"]["difference"]
    again = compare(
        {}, winner=winner.repeat(4, 1), control=control.repeat(4, 1), labels=labels.repeat(4), groups=groups.repeat(4)
    )["overall"]["difference"]
    assert again == {key: pytest.approx(value, abs=1e-12) for key, value in alone.items()}


def test_the_interval_covers_no_difference() -> None:
    rng, labels, hits = np.random.default_rng(2), np.arange(80) % 2, 0
    for _ in range(200):
        winner, control = (np.where(rng.random((1, 80)) < 0.8, labels, 1 - labels) for _ in range(2))
        found = compare({}, winner=winner, control=control, labels=labels, groups=np.arange(80).astype(str))["overall"]
        hits += found["difference"]["low"] <= 0 <= found["difference"]["high"]
    assert 0.9 <= hits / 200 <= 0.99


def arms_by_sex(num: int = 200):
    """The winner mends 50 images of men and spoils 20 of women."""
    labels = np.arange(num) // 2 % 2
    women = np.arange(num) % 2 == 0
    winner, control = np.tile(labels, (3, 1)), np.tile(labels, (3, 1))
    spoilt, mended = np.flatnonzero(women)[:20], np.flatnonzero(~women)[:50]
    winner[:, spoilt] = 1 - labels[spoilt]
    control[:, mended] = 1 - labels[mended]
    return {"winner": winner, "control": control, "labels": labels, "groups": np.arange(num).astype(str)}, women


def test_a_loss_within_a_gain_is_a_sentence() -> None:
    given, women = arms_by_sex()
    found = compare({"sex": np.where(women, "F", "M").tolist()}, **given)
    row = found["columns"][0]["values"][0]["difference"]
    assert found["warnings"] == [
        f"Gains overall (+0.150), loses in sex = F (-0.200 [{row['low']:+.3f}, {row['high']:+.3f}])."
    ]
    assert found["corrected"] is False


def test_a_loss_within_a_loss_is_none() -> None:
    given, women = arms_by_sex()
    turned = {**given, "winner": given["control"], "control": given["winner"]}
    assert compare({"sex": np.where(women, "F", "M").tolist()}, **turned)["warnings"] == []
