"""What readings of real and synthetic images say: can readers tell them apart, and do the labels hold?

Whether readers can tell is their area under the ROC curve, by a signed confidence; 0.5 is a coin. That they cannot is
a claim of its own (two one-sided tests: the 90 % interval lies within a margin of 0.5), not a large p-value. Intervals
over all readers draw readers and images with replacement, images of real and synthetic apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import rankdata

from medsynth_ray.stats.agreement import cohen_kappa, fleiss_kappa
from medsynth_ray.stats.intervals import wilson

OTHER = -1
"""A diagnosis that is none of the classes."""
UNREAD = -2
NUM_RESAMPLES = 2000

_Z95, _Z90 = NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(0.95)

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Readings:
    """What R readers said of N images.

    synthetic: bool (N,). labels: int64 (N,), the class that an image was drawn or filed as. scores: float64 (R, N),
    confidence with a sign, from -5 (surely real) to 5 (surely synthetic), NaN where unread. diagnoses: int64 (R, N),
    a class, OTHER or UNREAD. again: for each reader int64 (M, 4), images shown twice: synthetic (0 or 1) at first and
    again, diagnosis at first and again; UNREAD where there is none.
    """

    synthetic: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    diagnoses: np.ndarray
    again: tuple[np.ndarray, ...]


def summarise(readings: Readings, class_names: tuple[str, ...], *, margin: float, seed: int) -> Row:
    """All numbers of a study as JSON.

    Keys: `readers` (rows with auc, accuracy, again, fidelity), `auc` of all readers, `conclusion` (cannot_tell_apart |
    can_tell_apart | cannot_say), `sentence`, `agreement` between readers, `fidelity` by class. A number that nobody
    can know (no real image was shown, one reader) is None.

    Raises:
        ValueError: `margin` lies outside (0, 0.5).
    """
    if not 0.0 < margin < 0.5:
        raise ValueError(f"margin must lie between 0 and 0.5, got {margin}")
    area = mean_auc(readings.scores, readings.synthetic, seed=seed)
    conclusion, sentence = conclude(area, margin)
    return {
        "readers": [_reader_row(readings, r, class_names) for r in range(len(readings.scores))],
        "auc": area, "margin": margin, "conclusion": conclusion, "sentence": sentence,
        "agreement": {
            "origin": between_readers(np.where(np.isnan(readings.scores), UNREAD, readings.scores > 0).astype(int)),
            "diagnosis": between_readers(readings.diagnoses),
        },
        "fidelity": {
            name: {
                arm: _shared_fidelity(readings, label, synthetic, seed)
                for arm, synthetic in (("synthetic", True), ("real", False))
            }
            for label, name in enumerate(class_names)
        },
    }  # fmt: skip


def auc(scores: np.ndarray, synthetic: np.ndarray) -> Row | None:
    """Area under the ROC curve of one reader's scores (N,), NaN left out; None without images of both kinds."""
    read = ~np.isnan(scores)
    scores, synthetic = scores[read], synthetic[read]
    num = (int(synthetic.sum()), int((~synthetic).sum()))
    if 0 in num:
        return None
    ranks = rankdata(scores)[synthetic].sum()
    value = float((ranks - num[0] * (num[0] + 1) / 2) / (num[0] * num[1]))
    low, high = auc_interval(value, *num)
    return {"value": value, "low": low, "high": high, "num": sum(num)}


def auc_interval(value: float, num_first: int, num_second: int) -> tuple[float, float]:
    """95 % score interval of an area under the ROC curve (Newcombe 2006, method 5, doi 10.1002/sim.2324).

    It covers other images, not other readers, and is no point where the area is 0 or 1.

    Raises:
        ValueError: `value` lies outside [0, 1], or there is no image of one kind.
    """
    return mean_auc_interval(value, [(num_first, num_second)])


def mean_auc_interval(value: float, nums: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """The same of the mean area of independent readers, who read `nums` images of the one and the other kind.

    The variance under an area is the mean of theirs, divided by how many they are; one pair each is Wilson's interval.

    Raises:
        ValueError: as `auc_interval`.
    """
    if not 0.0 <= value <= 1.0 or not nums or min(map(min, nums)) < 1:
        raise ValueError(f"need an area in [0, 1] and images of both kinds, got {value}, {nums}")
    # Newcombe's variance is linear in 1 / (m n) and ((m + n) / 2 - 1) / (m n): their sums over readers are enough.
    single = sum(1 / (m * n) for m, n in nums) / len(nums) ** 2
    shared = sum(((m + n) / 2 - 1) / (m * n) for m, n in nums) / len(nums) ** 2

    def gap(theta: float) -> float:
        spread = single + shared * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return abs(value - theta) - _Z95 * math.sqrt(theta * (1 - theta) * spread)

    low = 0.0 if value == 0.0 else float(brentq(gap, 0.0, value - 1e-12))
    high = 1.0 if value == 1.0 else float(brentq(gap, value + 1e-12, 1.0))
    return low, high


def mean_auc(scores: np.ndarray, synthetic: np.ndarray, *, seed: int) -> Row | None:
    """Mean area over readers, scores (R, N), with intervals from 2,000 resamples of readers and images.

    low, high: 95 %, never narrower than `mean_auc_interval` of as many readings: answers that are all right vary not
    at all. low_90, high_90: 90 %, for the claim that readers cannot tell, and never narrower than that of as many
    readers who toss coins: answers that are all the same prove nothing. num_images: what at least one of them read.

    Not widened by t(R - 1): that would count the images' part of the spread as if it were the readers' (12.7 in place
    of 1.96 for two). Drawing both readers and images widens already (the noise of single readings counts up to three
    times), but of very different readers two or three are too few.

    None: no reader saw images of both kinds.
    """
    areas = [auc(row, synthetic) for row in scores]
    scores = scores[[found is not None for found in areas]]
    if not len(scores):
        return None
    value = float(np.mean([found["value"] for found in areas if found]))
    read = ~np.isnan(scores)
    nums = [(int((row & synthetic).sum()), int((row & ~synthetic).sum())) for row in read]
    draws = _resampled_auc(scores, synthetic, np.random.default_rng(seed))
    low, low_90, high_90, high = (float(q) for q in np.nanquantile(draws, [0.025, 0.05, 0.95, 0.975]))
    least = mean_auc_interval(value, nums)
    coins = _Z90 * math.sqrt(sum((m + n + 1) / (12 * m * n) for m, n in nums)) / len(nums)
    return {
        "value": value, "low": max(0.0, min(low, least[0])), "high": min(1.0, max(high, least[1])),
        "low_90": max(0.0, min(low_90, value - coins)), "high_90": min(1.0, max(high_90, value + coins)),
        "num_readers": len(scores), "num_images": int(read.any(axis=0).sum()),
    }  # fmt: skip


def conclude(area: Row | None, margin: float) -> tuple[str, str]:
    """The word and the sentence for what `mean_auc` found."""
    if area is None:
        return "cannot_say", "Cannot say: nobody read both real and synthetic images."
    readers = f"{area['num_readers']} reader{'s' if area['num_readers'] > 1 else ''}"
    mean = f"mean AUC {area['value']:.3f} of {readers}"
    span_90 = f"90 % interval [{area['low_90']:.3f}, {area['high_90']:.3f}]"
    span = f"95 % interval [{area['low']:.3f}, {area['high']:.3f}]"
    within = f"[{0.5 - margin:g}, {0.5 + margin:g}]"
    if 0.5 - margin <= area["low_90"] and area["high_90"] <= 0.5 + margin:
        return "cannot_tell_apart", f"Readers cannot tell apart (within {margin:g}): {mean}, {span_90} inside {within}."
    if area["low"] > 0.5:
        return "can_tell_apart", f"Readers can tell apart: {mean}, {span} above 0.5."
    if area["high"] < 0.5:
        wrong = "they see a difference and call synthetic images real"
        return "can_tell_apart", f"Readers can tell apart: {mean}, {span} below 0.5; {wrong}."
    reach = f"{span_90} reaches beyond {within}, {span} holds 0.5"
    return "cannot_say", f"Cannot say whether readers can tell apart: {mean}, {reach}."


def between_readers(ratings: np.ndarray) -> Row | None:
    """Kappa over the images that all readers read, ratings int (R, N), and how many these are; None: one reader."""
    if len(ratings) < 2:
        return None
    common = ratings[:, (ratings != UNREAD).all(axis=0)]
    kappa = cohen_kappa(common[0], common[1]) if len(common) == 2 else fleiss_kappa(common.T)
    return {"kappa": kappa, "kind": "cohen" if len(common) == 2 else "fleiss", "num": common.shape[1]}


def shared_share(hits: np.ndarray, *, seed: int) -> Row | None:
    """Share of True among readings (R, N), NaN where unread, with a 95 % interval over readers and images.

    2,000 resamples of readers and images; never narrower than Wilson's interval for as many independent readings, and
    just that of one reader. None: no reading.
    """
    read = ~np.isnan(hits)
    found = _share(hits[read] > 0)
    if found is None or len(hits) == 1:
        return found
    rng = np.random.default_rng(seed)
    readers, images = (rng.multinomial(n, np.full(n, 1 / n), NUM_RESAMPLES).astype(float) for n in hits.shape)
    top, bottom = (((readers @ table) * images).sum(axis=1) for table in (np.nan_to_num(hits), read.astype(float)))
    draws = top[bottom > 0] / bottom[bottom > 0]
    low, high = (float(q) for q in np.quantile(draws, [0.025, 0.975]))
    return {**found, "low": min(low, found["low"]), "high": max(high, found["high"])}


def _reader_row(readings: Readings, reader: int, class_names: tuple[str, ...]) -> Row:
    scores, diagnoses = readings.scores[reader], readings.diagnoses[reader]
    read = ~np.isnan(scores)
    right = (scores > 0) == readings.synthetic
    fidelity = {
        name: {
            arm: _share((diagnoses == label)[(readings.labels == label) & of_arm & (diagnoses != UNREAD)])
            for arm, of_arm in (("synthetic", readings.synthetic), ("real", ~readings.synthetic))
        }
        for label, name in enumerate(class_names)
    }
    return {
        "auc": auc(scores, readings.synthetic), "accuracy": _share(right[read]), "fidelity": fidelity,
        "again": {"origin": _again(readings.again[reader][:, :2]), "diagnosis": _again(readings.again[reader][:, 2:])},
    }  # fmt: skip


def _again(pairs: np.ndarray) -> Row:
    pairs = pairs[(pairs != UNREAD).all(axis=1)]
    return {"same": _share(pairs[:, 0] == pairs[:, 1]), "kappa": cohen_kappa(pairs[:, 0], pairs[:, 1])}


def _share(hits: np.ndarray) -> Row | None:
    if not len(hits):
        return None
    value = float(hits.mean())
    low, high = wilson(value, len(hits))
    return {"value": value, "low": low, "high": high, "num": len(hits), "count": int(hits.sum())}


def _shared_fidelity(readings: Readings, label: int, synthetic: bool, seed: int) -> Row | None:
    own = readings.diagnoses[:, (readings.labels == label) & (readings.synthetic == synthetic)]
    hits = np.where(own == UNREAD, np.nan, own == label)
    return shared_share(hits, seed=seed) if hits.size else None


def _resampled_auc(scores: np.ndarray, synthetic: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mean area over drawn readers in each resample (B,); NaN where no drawn reader read both kinds."""
    first, second = scores[:, synthetic], scores[:, ~synthetic]
    readers, own, other = (
        rng.multinomial(n, np.full(n, 1 / n), NUM_RESAMPLES).astype(float)
        for n in (len(scores), first.shape[1], second.shape[1])
    )
    areas = np.empty((NUM_RESAMPLES, len(scores)))
    for r, (a, b) in enumerate(zip(first, second, strict=True)):
        wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)
        pairs = (own @ ~np.isnan(a)) * (other @ ~np.isnan(b))
        areas[:, r] = ((own @ wins) * other).sum(axis=1) / np.where(pairs > 0, pairs, np.nan)
    weights = np.where(np.isnan(areas), 0.0, readers)
    total = weights.sum(axis=1)
    return np.asarray((np.nan_to_num(areas) * weights).sum(axis=1) / np.where(total > 0, total, np.nan))
