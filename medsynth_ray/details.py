"""What a result tells beside its verdict: the locked test in detail, and the learning curve. Written to evidence.json.

None of it decides anything. Like the verdict, it is a pure function of config, records and decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medsynth_ray.errors import ConfigError
from medsynth_ray.seeds import derive
from medsynth_ray.stats.evidence import describe
from medsynth_ray.stats.learning_curve import CurvePoint, equivalent_real_images
from medsynth_ray.stats.paired import interval
from medsynth_ray.sweep import Row

if TYPE_CHECKING:
    from medsynth_ray.data.dataset import Dataset
    from medsynth_ray.results import SweepResult


def evidence(result: SweepResult) -> dict[str, Any] | None:
    """`stats.evidence.describe` of the best winner and every control; None where nothing was compared."""
    verdict = result.verdict
    if verdict is None or not verdict["arm"] or verdict["mode"] != "rigorous" or not verdict["comparisons"]:
        return None
    rows = _compared(result, verdict["arm"])
    test = result.data.part("test")
    return describe(
        {name: result.probs(row) for name, row in rows.items()}, test.labels, test.groups, test.ids,
        result.data.class_names, seed=derive(result.config.seed, "evidence"),
        val_probs={name: result.probs(row, "probs-val.npy") for name, row in rows.items()},
        val_labels=result.data.part("val").labels, columns=columns(result.data, result.config.report.subgroups),
    )  # fmt: skip


def _compared(result: SweepResult, arm: str) -> dict[str, Row]:
    """The winner, real only, and the other controls of that winner."""
    rows = {row["arm"]: row for row in result.plan.confirm if row["result"]}
    controls = [row for row in rows.values() if row["role"] == "control" and row["of"] in (None, arm)]
    ordered = sorted(controls, key=lambda row: row["arm"] != "real_only")
    return {arm: rows[arm], **{row["label"] or row["arm"]: row for row in ordered}}


def columns(data: Dataset, names: Sequence[str]) -> dict[str, list[str]]:
    """Metadata of the locked test's images by column, in their order; "" where it is not stated.

    Raises:
        ConfigError: no image has such a column.
    """
    rows = {row["id"]: row for row in data.table}
    known = sorted({name for row in data.table for name in row} - {"id", "label", "group", "split"})
    for name in names:
        if name not in known:
            raise ConfigError(
                f"report.subgroups: the metadata have no column {name!r}; there are {', '.join(known) or 'none'}"
            )
    return {name: [rows[str(i)].get(name, "") for i in data.part("test").ids] for name in names}


def learning_curve(result: SweepResult) -> dict[str, Any] | None:
    """Real only at several shares of train, and what the winner's gain is worth in more real images.

    `points`: num_images, mean, low and high of each share, the whole included; `winner`: the same with num_train;
    `equivalent`: `stats.learning_curve.Equivalent` as JSON; `sentence`. None without a curve or a verdict.
    """
    verdict = result.verdict
    rows = [row for row in result.plan.confirm if row["role"] == "curve" and row["result"]]
    if verdict is None or not rows or not verdict["comparisons"]:
        return None
    confirmed = {row["arm"]: row for row in result.plan.confirm if row["result"]}
    rows.append(confirmed["real_only"])
    points = [_point(result, row) for row in rows]
    gain = next(c for c in verdict["comparisons"] if c["control"] == "real_only")
    found = equivalent_real_images(
        [CurvePoint(p["num_images"], tuple(p["repeats"])) for p in points], gain["difference"], gain["low"],
        gain["high"], num_train=len(result.splits["train"]), seed=derive(result.config.seed, "learning curve"),
    )  # fmt: skip
    winner = _point(result, confirmed[verdict["arm"]])
    return {
        "points": points, "winner": {**winner, "num_train": winner["num_images"]}, "equivalent": found.to_json(),
        "sentence": found.sentence,
    }  # fmt: skip


def _point(result: SweepResult, row: Row) -> dict[str, Any]:
    test, key = result.data.part("test"), result.primary.key
    seed = derive(result.config.seed, "interval", "test", row["arm"])
    mean, low, high = interval(test.labels, test.groups, result.probs(row), primary=result.primary, seed=seed)
    repeats = row["result"]["repeats"]
    return {
        "num_images": row["result"]["num_train"], "mean": mean, "low": low, "high": high,
        "repeats": [repeats[r][key] for r in sorted(repeats, key=int)],
    }  # fmt: skip


def flip_images(result: SweepResult, found: dict[str, Any] | None, most: int = 24) -> dict[str, np.ndarray]:
    """The first flipped images by id, uint8 (H, W, C); none where real images are withheld."""
    if found is None or not result.config.report.real_images:
        return {}
    test = result.data.part("test")
    row_of = {str(name): i for i, name in enumerate(test.ids)}
    return {row["id"]: test.pixels[row_of[row["id"]]] for row in found["flips"]["rows"][:most]}
