"""The numbers of a reader study: closed forms, coverage, and what cannot be known."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from medsynth_ray.stats import readers as stats
from medsynth_ray.stats.intervals import wilson

KINDS = np.repeat([False, True], 40)


def coins(num_readers: int, seed: int = 0, num: int = 80) -> np.ndarray:
    """Confidences of readers who toss coins."""
    rng = np.random.default_rng(seed)
    return rng.choice([-5, -4, -3, -2, -1, 1, 2, 3, 4, 5], (num_readers, num)).astype(float)


def test_auc_is_mann_whitney() -> None:
    scores = coins(1)[0] + KINDS
    expected = mannwhitneyu(scores[KINDS], scores[~KINDS]).statistic / 1600
    found = stats.auc(scores, KINDS)
    assert found is not None
    assert found["value"] == pytest.approx(expected)
    assert found["low"] < found["value"] < found["high"]


@pytest.mark.parametrize("value", [0.0, 0.2, 0.5, 1.0])
def test_interval_of_an_area_mirrors(value: float) -> None:
    low, high = stats.auc_interval(value, 12, 20)
    mirrored = stats.auc_interval(1 - value, 20, 12)
    assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]), abs=1e-6)
    assert low <= value <= high


def test_interval_of_one_pair_of_images_is_wilson_of_one() -> None:
    """With one image of each kind the area is a share of one: the spread is that of a coin."""
    assert stats.auc_interval(1.0, 1, 1)[0] == pytest.approx(wilson(1.0, 1)[0], abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 1.2])
def test_interval_of_an_area_covers(shift: float) -> None:
    rng = np.random.default_rng(1)
    truth = 0.5 * (1 + math.erf(shift / 2))
    hits = 0
    for _ in range(400):
        scores = np.where(KINDS[20:60], shift, 0.0) + rng.normal(0, 1, 40)
        found = stats.auc(scores, KINDS[20:60])
        assert found is not None
        hits += found["low"] <= truth <= found["high"]
    assert 0.92 <= hits / 400 <= 0.99


@pytest.mark.parametrize(("scores", "conclusion", "says"), [
    (coins(6), "cannot_tell_apart", r"within 0.1\): mean AUC 0\.\d{3} of 6 readers"),
    (coins(2) + 3.0 * KINDS, "can_tell_apart", r"above 0.5\.$"),
    (coins(2) - 3.0 * KINDS, "can_tell_apart", "call synthetic images real"),
    (coins(1), "cannot_say", r"of 1 reader, 90 % interval .* reaches beyond \[0.4, 0.6\]"),
    (np.full((1, 80), -3.0), "cannot_say", r"mean AUC 0.500"),
    (np.full((1, 80), np.nan), "cannot_say", "nobody read both"),
], ids=["coins", "right", "inverted", "one reader", "always the same", "nothing read"])  # fmt: skip
def test_conclusions(scores: np.ndarray, conclusion: str, says: str) -> None:
    found, sentence = stats.conclude(stats.mean_auc(scores, KINDS, seed=0), 0.1)
    assert found == conclusion
    assert re.search(says, sentence), sentence


def test_mean_auc_is_the_mean_and_repeats() -> None:
    scores = coins(3) + KINDS
    scores[1, ::7] = np.nan
    found = stats.mean_auc(scores, KINDS, seed=5)
    each = [stats.auc(row, KINDS) for row in scores]
    assert found is not None
    assert found["value"] == pytest.approx(np.mean([row["value"] for row in each if row]))
    assert found == stats.mean_auc(scores, KINDS, seed=5)
    assert found["low"] < found["low_90"] < found["value"] < found["high_90"] < found["high"]


@pytest.mark.parametrize("num", [1, 3, 9])
def test_interval_of_a_mean_area_of_pairs_is_wilson(num: int) -> None:
    assert stats.mean_auc_interval(1.0, [(1, 1)] * num)[0] == pytest.approx(wilson(1.0, num)[0], abs=1e-6)


def test_interval_of_a_mean_area_is_the_root_of_the_number_of_readers_narrower() -> None:
    one, four = (np.diff(stats.mean_auc_interval(0.5, [(400, 300)] * num))[0] for num in (1, 4))
    assert one / four == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("num_readers", [1, 2, 3])
def test_a_pair_of_images_proves_nothing(num_readers: int) -> None:
    found = stats.mean_auc(np.tile([-5.0, 5.0], (num_readers, 1)), np.array([False, True]), seed=0)
    assert found is not None
    assert (found["value"], found["high"]) == (1.0, 1.0)
    assert found["low"] == pytest.approx(wilson(1.0, num_readers)[0], abs=1e-6)
    assert stats.conclude(found, 0.1)[0] == "cannot_say"


def test_only_images_that_were_read_count() -> None:
    scores = np.full((3, 300), np.nan)
    for reader, first in enumerate((0, 6, 12)):
        scores[reader, first : first + 6] = 3.0
    synthetic = np.arange(300) % 2 == 0
    found = stats.mean_auc(scores, synthetic, seed=0)
    assert found is not None
    assert found["num_images"] == 18
    half = 1.6448536 * math.sqrt(3 * 7 / (12 * 9)) / 3
    assert (found["low_90"], found["high_90"]) == pytest.approx((0.5 - half, 0.5 + half))
    assert stats.conclude(found, 0.1)[0] == "cannot_say"


def test_a_reader_who_saw_one_kind_is_left_out() -> None:
    scores = coins(2) + KINDS
    scores[1, KINDS] = np.nan
    found, alone = (stats.mean_auc(rows, KINDS, seed=5) for rows in (scores, scores[:1]))
    assert found == alone
    assert found is not None
    assert found["num_readers"] == 1


def test_bootstrap_of_coins_is_as_wide_as_theory_says() -> None:
    widths = []
    for seed in range(10):
        found = stats.mean_auc(coins(8, seed), KINDS, seed=seed)
        assert found is not None
        widths.append((found["high"] - found["low"]) / (2 * 1.96))
    expected = math.sqrt(81 / (12 * 40 * 40) / 8)
    assert expected * 0.8 < np.mean(widths) < expected * 1.6


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_without_spread_has_the_interval_of_wilson(value: float) -> None:
    found = stats.shared_share(np.full((3, 10), value), seed=0)
    assert found is not None
    assert (found["low"], found["high"]) == wilson(value, 30)
    assert (found["num"], found["count"]) == (30, 30 * value)


def test_a_share_that_hangs_on_the_reader_is_wide() -> None:
    hits = np.stack([np.ones(40), np.zeros(40), np.ones(40)])
    hits[2, 3:] = np.nan
    found = stats.shared_share(hits, seed=0)
    assert found is not None
    assert found["value"] == pytest.approx(43 / 83)
    assert (found["low"], found["high"]) == (0.0, 1.0)


def summarised(diagnoses: np.ndarray, again: np.ndarray) -> dict[str, object]:
    labels = np.arange(80) % 2
    readings = stats.Readings(KINDS, labels, coins(len(diagnoses)), diagnoses, tuple(again))
    return stats.summarise(readings, ("ill", "well"), margin=0.1, seed=0)


def test_summary_of_two_readers() -> None:
    labels = np.arange(80) % 2
    diagnoses = np.stack([labels, np.where(labels == 0, stats.OTHER, 1)])
    diagnoses[1, 0] = stats.UNREAD
    again = np.array([[[1, 1, 0, 0], [0, 1, 1, 1]], [[0, 0, stats.UNREAD, 1], [1, 1, 1, 1]]])
    found = summarised(diagnoses, again)
    fidelity, readers = found["fidelity"], found["readers"]
    assert isinstance(fidelity, dict)
    assert isinstance(readers, list)
    assert [fidelity["ill"][arm]["count"] for arm in ("synthetic", "real")] == [20, 20]
    assert [fidelity["ill"][arm]["num"] for arm in ("synthetic", "real")] == [40, 39]
    assert fidelity["well"]["synthetic"]["value"] == 1.0
    assert readers[1]["fidelity"]["ill"]["real"]["count"] == 0
    assert readers[0]["again"]["origin"]["same"]["value"] == 0.5
    assert readers[1]["again"]["diagnosis"]["same"]["num"] == 1
    agreement = found["agreement"]
    assert isinstance(agreement, dict)
    assert agreement["diagnosis"]["kind"] == "cohen"
    assert agreement["diagnosis"]["num"] == 79


def test_margin_outside_the_scale_is_refused() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 0.5, got 0.7"):
        stats.summarise(
            stats.Readings(KINDS, KINDS.astype(int), coins(1), coins(1).astype(int), ()), ("a",), margin=0.7, seed=0
        )
