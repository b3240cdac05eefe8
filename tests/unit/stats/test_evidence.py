"""What stands beside the verdict, against counts that were made by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medsynth_ray.stats.evidence import describe, flips, mean_confusion, per_class
from medsynth_ray.stats.intervals import wilson

CLASSES = ("a", "b", "c")


def sure_of(predictions: list[list[int]], sureness: float = 0.8) -> np.ndarray:
    """Probabilities (S, N, 3): `sureness` for the predicted class, and the rest spread over all three."""
    return (sureness * np.eye(3) + (1 - sureness) / 3)[np.array(predictions)]


LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = [[0, 0, 0, 1, 1, 1, 2, 0], [0, 0, 1, 1, 1, 2, 2, 0]]
ALONE = np.arange(8).astype(str)


def test_confusion_is_the_mean_over_repeats() -> None:
    found = mean_confusion(sure_of(PREDICTED), LABELS)
    np.testing.assert_array_equal(found, [[2.5, 1.5, 0], [0, 1.5, 0.5], [1, 0, 1]])


@pytest.mark.parametrize(
    ("groups", "num_own", "num_other"), [(ALONE, 4, 4), (np.array(list("ppqrstuu")), 3, 3)], ids=["alone", "groups"]
)
def test_sensitivity_and_specificity_with_wilson_over_groups(groups, num_own, num_other) -> None:
    row = per_class(sure_of(PREDICTED), LABELS, groups, CLASSES)[0]
    assert (row["class"], row["num_images"], row["num_groups"]) == ("a", 4, num_own)
    for name, share, num in (("sensitivity", 5 / 8, num_own), ("specificity", 6 / 8, num_other)):
        low, high = wilson(share, num)
        assert row[name] == {"value": share, "low": pytest.approx(low), "high": pytest.approx(high)}


def test_auc_of_a_class_is_the_mean_over_repeats() -> None:
    """Class c, 2 x 6 pairs: 6 are in order and 6 tied in the first run, 5 and 6 in the second, where one is lost."""
    row = per_class(sure_of(PREDICTED), LABELS, ALONE, CLASSES)[2]
    first, second = (6 + 6 / 2) / 12, (5 + 1 / 2 + 5 / 2) / 12
    assert row["auc"]["value"] == pytest.approx((first + second) / 2)
    assert row["auc"]["low"] < row["auc"]["value"] < row["auc"]["high"] < 1


def test_a_class_without_images_has_no_numbers() -> None:
    row = per_class(sure_of([[0, 1, 1]]), np.array([0, 0, 1]), np.array(list("xyz")), CLASSES)[2]
    nothing = {"value": None, "low": None, "high": None}
    assert (row["num_images"], row["sensitivity"], row["auc"]) == (0, nothing, nothing)
    assert row["specificity"]["value"] == 1.0


FLIP_LABELS = np.array([0, 0, 1, 1, 2, 0])
WINNER = [[0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 1, 0, 1, 1]]
CONTROL = [[1, 0, 1, 0, 1, 1], [1, 0, 1, 1, 1, 1], [1, 0, 1, 0, 1, 0]]
IDS = np.array([f"id{i}" for i in range(6)])


def test_flips_are_gained_lost_or_other_the_clearest_of_each_kind_in_turn() -> None:
    found = flips(sure_of(WINNER), sure_of(CONTROL), FLIP_LABELS, IDS, CLASSES)
    rows = [tuple(row[k] for k in ("id", "kind", "change", "control", "winner")) for row in found["rows"]]
    assert rows == [
        ("id0", "gained", 3, "b", "a"),
        ("id1", "lost", -2, "a", "b"),
        ("id4", "other", 0, "b", "a"),
        ("id5", "gained", 1, "b", "a"),
    ]
    first = found["rows"][0]
    assert (first["class"], first["control_votes"], first["winner_votes"]) == ("a", 3, 3)
    assert (found["gained"], found["lost"], found["other"]) == (2, 1, 1)
    assert found["mcnemar_p"] == pytest.approx(1.0)
    assert "ignores training noise" in found["note"]


@pytest.mark.parametrize(("gained", "lost", "p"), [(0, 0, 1.0), (6, 0, 2 / 64), (5, 1, 14 / 64), (3, 3, 1.0)])
def test_mcnemars_p_is_binomial(gained: int, lost: int, p: float) -> None:
    labels = np.zeros(gained + lost + 2, dtype=int)
    first = [[0] * gained + [1] * lost + [0, 1]]
    second = [[1] * gained + [0] * lost + [0, 1]]
    found = flips(sure_of(first), sure_of(second), labels, np.arange(len(labels)).astype(str), CLASSES)
    assert found["mcnemar_p"] == pytest.approx(p)


def test_equal_votes_are_decided_by_the_mean_probability() -> None:
    mild, strong = sure_of([[0]], 0.5), sure_of([[1]], 0.9)
    tied = np.concatenate([mild, strong])
    found = flips(tied, sure_of([[0], [0]]), np.array([1]), np.array(["x"]), CLASSES)
    assert [(row["winner"], row["winner_votes"], row["kind"]) for row in found["rows"]] == [("b", 1, "gained")]
    outvoted = np.concatenate([mild, mild, strong])
    assert flips(outvoted, sure_of([[0]] * 3), np.array([1]), np.array(["x"]), CLASSES)["rows"] == []


def arms(seed: int = 0, num: int = 120) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng, labels = np.random.default_rng(seed), np.arange(num) % 3
    found = {}
    for name, gain in (("best", 2.0), ("real_only", 1.0), ("real_classic", 1.2)):
        powers = np.exp(rng.normal(size=(4, num, 3)) + gain * np.eye(3)[labels])
        found[name] = (powers / powers.sum(axis=2, keepdims=True)).astype(np.float32)
    return found, labels


def whole(**change):
    probs, labels = arms()
    ids = np.arange(len(labels)).astype(str)
    given = {"val_probs": probs, "val_labels": labels, "columns": {"sex": list("FM") * 60}, "seed": 1, **change}
    return describe(given.pop("probs", probs), labels, ids, ids, CLASSES, **given)


def test_everything_is_joined_as_plain_json() -> None:
    found = whole()
    assert (found["winner"], found["control"], found["num_repeats"], found["num_groups"]) == (
        "best",
        "real_only",
        4,
        120,
    )
    assert list(found["arms"]) == ["best", "real_only", "real_classic"]
    assert [row["class"] for row in found["delong"]] == list(CLASSES)
    assert all(row["difference"] > 0 for row in found["delong"])
    assert [row["value"] for row in found["subgroups"]["columns"][0]["values"]] == ["F", "M"]
    assert len(found["arms"]["best"]["calibration"]["temperatures"]) == 4
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_same_again() -> None:
    assert json.dumps(whole()) == json.dumps(whole())


def test_without_val_nothing_is_scaled() -> None:
    found = whole(val_probs=None, val_labels=None, columns=None)
    assert (found["arms"]["best"]["calibration"]["after"], found["subgroups"]["columns"]) == (None, [])


def test_an_arm_that_val_lacks_is_not_scaled() -> None:
    found = whole(val_probs={"best": arms()[0]["best"]})
    assert [found["arms"][name]["calibration"]["after"] is None for name in ("best", "real_only")] == [False, True]


def broken(**change: np.ndarray) -> dict[str, np.ndarray]:
    return {**arms()[0], **change}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probs": {"best": arms()[0]["best"]}}, r"winner and a control, got \['best'\]"),
        ({"probs": broken(real_only=arms()[0]["best"][:2])}, r"'real_only' have shape \(2, 120, 3\)"),
        ({"probs": broken(real_only=arms()[0]["best"] * np.nan)}, r"'real_only' hold values that are not finite"),
        ({"probs": broken(best=np.zeros((4, 9, 3)))}, r"must be \(S, 120 images, 3 classes\).* got \(4, 9, 3\)"),
        ({"val_labels": None}, r"val_probs\['best'\] must be .* S = 4"),
        ({"val_probs": {"best": arms()[0]["best"][:3]}}, r"got \(3, 120, 3\)"),
        ({"columns": {"sex": ["F"]}}, r"'sex' must have 120 texts, got 1"),
    ],
)
def test_what_does_not_fit_is_refused(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        whole(**change)


def test_labels_outside_are_refused() -> None:
    probs, labels = arms()
    ids = np.arange(len(labels)).astype(str)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\), got 0 to 3"):
        describe(probs, np.where(labels == 2, 3, labels), ids, ids, CLASSES, seed=0)
