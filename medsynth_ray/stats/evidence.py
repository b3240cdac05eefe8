"""What stands beside the verdict: classes, calibration, confusions, flipped images and subgroups on the locked test.

None of it decides anything. Every number is a pure function of the arms' probabilities, the test images' labels and
metadata, and one seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from scipy.stats import binomtest

from medsynth_ray.stats.calibration import calibration, fit_temperature
from medsynth_ray.stats.delong import auc, auc_difference
from medsynth_ray.stats.intervals import wilson
from medsynth_ray.stats.subgroups import subgroups

KINDS = ("gained", "lost", "other")
FLIPS_NOTE = (
    "McNemar's exact test looks at the majority votes of these training runs: it ignores training noise, and that "
    "images of one group fall together."
)


def describe(
    probs: Mapping[str, np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    ids: np.ndarray,
    class_names: Sequence[str],
    *,
    seed: int,
    val_probs: Mapping[str, np.ndarray] | None = None,
    val_labels: np.ndarray | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Describe the confirmed arms on the locked test, for evidence.json and the page.

    Args:
        probs: arm -> class probabilities (S, N, K); the winner first, then the control that it is compared with.
        labels: int (N,) in [0, K).
        groups: str (N,).
        ids: str (N,), unique.
        class_names: of the K classes.
        seed: of all resamples.
        val_probs: arm -> (S, M, K) of the same S fitted classifiers; temperatures are fitted on them, one for each
            repeat. An arm that is missing has none.
        val_labels: int (M,); needed with `val_probs`.
        columns: metadata of the test images, name -> a text for each; "" is not stated.

    Returns:
        Plain JSON, where a measure is {value, low, high} with None for what is not defined::

            winner, control: names of the first two arms
            class_names: K texts; num_repeats, num_images, num_groups: ints
            arms: name -> {
                per_class: rows of `per_class`,
                confusion: K x K mean counts over repeats, row the true class,
                calibration: {before, after: {ece, brier: measures, bins: [{confidence, accuracy, count}]},
                              temperatures: S numbers}, `after` and `temperatures` None without val_probs
            }
            delong: rows with class, difference (of the areas, winner minus control), low, high, p
            flips: `flips` of winner and control
            subgroups: `subgroups.subgroups` of winner and control

    Raises:
        ValueError: fewer than two arms, shapes that do not fit, values that are not finite, a label outside [0, K), or
            a metadata column of another length.
    """
    arms = {name: np.asarray(values) for name, values in probs.items()}
    labels, groups, ids = np.asarray(labels), np.asarray(groups), np.asarray(ids)
    _check(arms, labels, groups, ids, len(class_names))
    winner, control = list(arms)[:2]
    predicted = {name: values.argmax(axis=2) for name, values in arms.items()}
    return {
        "winner": winner,
        "control": control,
        "class_names": list(class_names),
        "num_repeats": len(arms[winner]),
        "num_images": len(labels),
        "num_groups": len(np.unique(groups)),
        "arms": {
            name: {
                "per_class": per_class(values, labels, groups, class_names),
                "confusion": mean_confusion(values, labels).tolist(),
                "calibration": calibration(
                    values, labels, groups, seed=seed, temperatures=_temperatures(name, values, val_probs, val_labels)
                ),
            }
            for name, values in arms.items()
        },
        "delong": _differences(arms[winner], arms[control], labels, groups, class_names),
        "flips": flips(arms[winner], arms[control], labels, ids, class_names),
        "subgroups": subgroups(predicted[winner], predicted[control], labels, groups, columns or {}, seed=seed),
    }


def per_class(
    probs: np.ndarray, labels: np.ndarray, groups: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """One row for each class, against all others, of one arm's probabilities (S, N, K).

    Rows have class, num_images, num_groups, sensitivity, specificity and auc, each a measure (value, low, high). Values
    are means over repeats. Intervals are of the images and not of the training runs: Wilson's of a share of n, where n
    is the number of groups among the images of the class (or not of it), the cautious reading where images share
    groups; DeLong's for auc (`delong.auc`). A measure that has no image to stand on is all None.
    """
    predicted = probs.argmax(axis=2)
    rows = []
    for label, name in enumerate(class_names):
        own, called = labels == label, predicted == label
        rows.append({
            "class": name, "num_images": int(own.sum()), "num_groups": len(np.unique(groups[own])),
            "sensitivity": _share(called[:, own], groups[own]), "specificity": _share(~called[:, ~own], groups[~own]),
            "auc": auc(probs[:, :, label], own, groups) if own.any() and not own.all() else _nothing(),
        })  # fmt: skip
    return rows


def mean_confusion(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts float64 (K, K), mean over the repeats of probabilities (S, N, K): row the label, column the prediction."""
    num_repeats, _, num_classes = probs.shape
    cells = labels * num_classes + probs.argmax(axis=2)
    counts: np.ndarray = np.bincount(cells.ravel(), minlength=num_classes**2) / num_repeats
    return counts.reshape(num_classes, num_classes)


def flips(
    winner: np.ndarray, control: np.ndarray, labels: np.ndarray, ids: np.ndarray, class_names: Sequence[str]
) -> dict[str, Any]:
    """Images that two arms, both (S, N, K), predict differently by majority over repeats.

    Equal votes are decided by the mean probability. Rows have id, class (the true one), control and winner (predicted
    classes), control_votes and winner_votes (repeats that say so), change (votes for the true class, winner minus
    control) and kind: gained (right now), lost (right before) or other (wrong both times). The clearest of each kind
    (by change) come first and in turn, so that the first rows show losses too.

    Returns:
        rows; gained, lost and other: their numbers; mcnemar_p: exact, two-sided; note: what that p leaves out.
    """
    (first, votes_first), (second, votes_second) = _majority(winner), _majority(control)
    every = np.arange(len(labels))
    change = votes_first[every, labels] - votes_second[every, labels]
    rows = []
    for i in np.flatnonzero(first != second):
        kind = "gained" if first[i] == labels[i] else "lost" if second[i] == labels[i] else "other"
        rows.append({
            "id": str(ids[i]), "class": class_names[labels[i]], "control": class_names[second[i]],
            "winner": class_names[first[i]], "control_votes": int(votes_second[i, second[i]]),
            "winner_votes": int(votes_first[i, first[i]]), "change": int(change[i]), "kind": kind,
        })  # fmt: skip
    by_kind = [[row for row in rows if row["kind"] == kind] for kind in KINDS]
    counts = {kind: len(own) for kind, own in zip(KINDS, by_kind, strict=True)}
    decided = counts["gained"] + counts["lost"]
    p = float(binomtest(counts["gained"], decided).pvalue) if decided else 1.0
    return {"rows": _in_turn(by_kind), **counts, "mcnemar_p": p, "note": FLIPS_NOTE}


def _in_turn(by_kind: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of each kind by clearness, one of each kind after the other."""
    ranked = [sorted(own, key=lambda row: (-abs(row["change"]), row["id"])) for own in by_kind]
    return [row for tier in zip_longest(*ranked) for row in tier if row is not None]


def _majority(probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted class (N,) and votes (N, K). Half a mean probability breaks ties and outweighs no vote."""
    votes = np.eye(probs.shape[2], dtype=np.int64)[probs.argmax(axis=2)].sum(axis=0)
    return (votes + 0.5 * probs.astype(np.float64).mean(axis=0)).argmax(axis=1), votes


def _differences(
    winner: np.ndarray, control: np.ndarray, labels: np.ndarray, groups: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """DeLong's test for each class that has images of it and images of others."""
    return [
        {"class": name, **auc_difference(winner[:, :, label], control[:, :, label], labels == label, groups)}
        for label, name in enumerate(class_names)
        if 0 < (labels == label).sum() < len(labels)
    ]


def _share(hits: np.ndarray, groups: np.ndarray) -> dict[str, float | None]:
    if not len(groups):
        return _nothing()
    value = float(hits.mean())
    low, high = wilson(value, len(np.unique(groups)))
    return {"value": value, "low": low, "high": high}


def _nothing() -> dict[str, float | None]:
    return {"value": None, "low": None, "high": None}


def _temperatures(
    name: str,
    probs: np.ndarray,
    val_probs: Mapping[str, np.ndarray] | None,
    val_labels: np.ndarray | None,
) -> list[float] | None:
    if val_probs is None or name not in val_probs:
        return None
    found = np.asarray(val_probs[name])
    if val_labels is None or found.ndim != 3 or len(found) != len(probs):
        raise ValueError(
            f"val_probs[{name!r}] must be (S, M, K) with S = {len(probs)} repeats and come with val_labels (M,), "
            f"got {found.shape}"
        )
    return [fit_temperature(repeat, np.asarray(val_labels)) for repeat in found]


def _check(
    arms: Mapping[str, np.ndarray], labels: np.ndarray, groups: np.ndarray, ids: np.ndarray, num_classes: int
) -> None:
    if len(arms) < 2:
        raise ValueError(f"need the winner and a control, got {list(arms)}")
    shape = next(iter(arms.values())).shape
    if len(shape) != 3 or not all(shape) or shape[1:] != (len(labels), num_classes):
        raise ValueError(f"probs must be (S, {len(labels)} images, {num_classes} classes), none of them 0, got {shape}")
    for name, values in arms.items():
        if values.shape != shape:
            raise ValueError(f"probs of {name!r} have shape {values.shape}, those of the winner {shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"probs of {name!r} hold values that are not finite")
    if groups.shape != labels.shape or ids.shape != labels.shape:
        raise ValueError(f"{len(labels)} labels but groups {groups.shape} and ids {ids.shape}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels must be in [0, {num_classes}), got {labels.min()} to {labels.max()}")
