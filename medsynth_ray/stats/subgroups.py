"""Whether the gain is there for everybody: winner against control within values of the images' metadata.

The score is balanced accuracy, whatever the sweep's metric. No interval is corrected for the number of subgroups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medsynth_ray.stats.group_bootstrap import measure, resampled_sums, sums_by_group

MAX_VALUES = 12
MIN_IMAGES = 20
MIN_CLASS_IMAGES = 5
_NUM_RESAMPLES = 1000


def subgroups(
    winner: np.ndarray,
    control: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    columns: Mapping[str, Sequence[str]],
    *,
    seed: int,
) -> dict[str, Any]:
    """Compare two arms within each value of each column.

    Args:
        winner: predicted classes int (S, N).
        control: the same of the other arm.
        labels: int (N,).
        groups: str (N,).
        columns: name -> a text for each image; "" is not stated.
        seed: of the resamples.

    Returns:
        overall: num_images, num_groups, winner and control (balanced accuracy over classes of at least 5 images, mean
        over repeats), difference (value, low, high: 95 % bootstrap interval over groups, training runs not drawn; no
        low and high for a single group) and reason; winner, control and difference are None, and reason says why,
        for fewer than 20 images or fewer than two such classes.
        columns: rows with column, not_stated (images) and values: rows with value, name (of both, "sex = F" or
        "age <= 46") and the fields of `overall`.
        Numbers of more than 12 values are cut at the tertiles of these images.
        left_out: rows with column and reason. corrected: False.
        warnings: a sentence for each value whose interval lies below 0 while the difference over all is above.

    Raises:
        ValueError: the arms have other shapes, or a column has not a text for each image.
    """
    if winner.shape != control.shape or winner.shape[1:] != labels.shape:
        raise ValueError(f"both arms must be (S, N), got {winner.shape} and {control.shape} for {len(labels)} labels")
    hits = np.stack([(arm == labels).sum(axis=0) for arm in (winner, control)])
    overall = _compare(hits, labels, groups, len(winner), seed)
    shown, left_out = [], []
    for name, texts in columns.items():
        values = np.asarray(list(texts), dtype=str)
        if values.shape != labels.shape:
            raise ValueError(f"metadata column {name!r} must have {len(labels)} texts, got {len(values)}")
        parts, reason = _parts(values)
        if reason:
            left_out.append({"column": name, "reason": reason})
            continue
        rows = [
            {
                "value": value,
                "name": _name(name, value),
                **_compare(hits[:, mask], labels[mask], groups[mask], len(winner), seed),
            }
            for value, mask in parts
        ]
        shown.append({"column": name, "not_stated": int((values == "").sum()), "values": rows})
    return {
        "overall": overall, "columns": shown, "left_out": left_out, "corrected": False,
        "warnings": _warnings(overall, shown),
    }  # fmt: skip


def _parts(values: np.ndarray) -> tuple[list[tuple[str, np.ndarray]], str]:
    """(value, its images) of a column in order, or why it is left out."""
    stated = sorted(set(values.tolist()) - {""})
    if len(stated) < 2:
        return [], "nothing is stated" if not stated else f"only one value, {stated[0]!r}"
    numbers = _numbers(stated)
    if len(stated) <= MAX_VALUES:
        ordered = stated if numbers is None else [stated[i] for i in np.argsort(numbers, kind="stable")]
        return [(value, values == value) for value in ordered], ""
    if numbers is None:
        return [], f"{len(stated)} values that are no numbers, at most {MAX_VALUES} are shown"
    return _tertiles(values)


def _numbers(texts: Sequence[str]) -> np.ndarray | None:
    """The texts as numbers; None where one is not a finite number."""
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _tertiles(values: np.ndarray) -> tuple[list[tuple[str, np.ndarray]], str]:
    stated = values != ""
    numbers = np.full(len(values), np.nan)
    numbers[stated] = values[stated].astype(np.float64)
    cuts = np.quantile(numbers[stated], [1 / 3, 2 / 3], method="inverted_cdf")
    edges = np.unique(cuts[cuts < numbers[stated].max()])
    if not len(edges):
        return [], f"two thirds of the images share the largest number, {cuts[0]:.10g}"
    parts = [(f"<= {edges[0]:.10g}", numbers <= edges[0])]
    if len(edges) == 2:
        parts.append((f"{edges[0]:.10g}-{edges[1]:.10g}", (numbers > edges[0]) & (numbers <= edges[1])))
    return [*parts, (f"> {edges[-1]:.10g}", numbers > edges[-1])], ""


def _compare(hits: np.ndarray, labels: np.ndarray, groups: np.ndarray, num_repeats: int, seed: int) -> dict[str, Any]:
    """One row; hits: in how many repeats an image was right, int (2, N)."""
    present, counts = np.unique(labels, return_counts=True)
    classes = present[counts >= MIN_CLASS_IMAGES]
    row = {"num_images": len(labels), "num_groups": len(np.unique(groups))}
    if len(labels) < MIN_IMAGES or len(classes) < 2:
        few = len(labels) < MIN_IMAGES
        why = f"fewer than {MIN_IMAGES} images" if few else f"only one class of at least {MIN_CLASS_IMAGES} images"
        why = why if few or len(classes) else f"no class of at least {MIN_CLASS_IMAGES} images"
        return {**row, "winner": None, "control": None, "difference": None, "reason": why}
    used = np.isin(labels, classes)
    sums = _sums(hits[:, used], np.searchsorted(classes, labels[used]), groups[used], len(classes))
    first, second = _balanced_accuracy(sums.sum(axis=0, keepdims=True), num_repeats)
    draws = None
    if len(sums) > 1:
        drawn = _balanced_accuracy(resampled_sums(sums, seed=seed, num_resamples=_NUM_RESAMPLES), num_repeats)
        draws = drawn[0] - drawn[1]
    difference = measure(float(first[0] - second[0]), draws)
    return {**row, "winner": float(first[0]), "control": float(second[0]), "difference": difference, "reason": ""}


def _sums(hits: np.ndarray, labels: np.ndarray, groups: np.ndarray, num_classes: int) -> np.ndarray:
    """By group (G, 3 K): hits of the first arm by class, of the second, and images."""
    codes = np.unique(groups, return_inverse=True)[1]
    weights = [*hits, np.ones(len(labels))]
    return np.concatenate([sums_by_group(codes, labels, w, num_cells=num_classes) for w in weights], axis=1)


def _balanced_accuracy(sums: np.ndarray, num_repeats: int) -> np.ndarray:
    """Of both arms (2, B): the mean recall of the classes that were drawn."""
    parts = sums.reshape(len(sums), 3, -1)
    actual = parts[:, 2:] * num_repeats
    recalls = np.divide(parts[:, :2], actual, out=np.zeros_like(parts[:, :2]), where=actual > 0)
    scores: np.ndarray = recalls.sum(axis=2).T / (actual[:, 0] > 0).sum(axis=1)
    return scores


def _name(column: str, value: str) -> str:
    return f"{column} {value}" if value.startswith(("<= ", "> ")) else f"{column} = {value}"


def _warnings(overall: dict[str, Any], columns: Sequence[dict[str, Any]]) -> list[str]:
    whole = overall["difference"]
    if whole is None or whole["value"] <= 0:
        return []
    found = [(row["name"], row["difference"]) for column in columns for row in column["values"]]
    return [
        f"Gains overall ({whole['value']:+.3f}), loses in {name} "
        f"({own['value']:+.3f} [{own['low']:+.3f}, {own['high']:+.3f}])."
        for name, own in found
        if own is not None and own["high"] is not None and own["high"] < 0
    ]
