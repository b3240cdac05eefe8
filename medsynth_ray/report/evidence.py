"""Turns `stats.evidence.describe` into the rows of the section on the locked test in detail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medsynth_ray.report.tables import NONE, fmt, interval
from medsynth_ray.report.view import ReportView, Row

MAX_FLIPS = 24

_DARKEST = 0.6
"""Opacity of a confusion cell that holds its whole row: text stays legible on it in light and dark."""


def detail(view: ReportView) -> Row | None:
    """Everything of the section but its charts and images, formatted; None where there is nothing to show.

    Keys: arms (winner and control), classes, calibration, bins, matrices, flips, subgroups, each empty without
    `view.evidence`.
    """
    found = view.evidence
    if found is None:
        return {"arms": []} if view.learning_curve and view.learning_curve["points"] else None
    names = [found["winner"], found["control"]]
    return {
        "arms": names,
        "num_repeats": found["num_repeats"],
        "clustered": found["num_groups"] < found["num_images"],
        "classes": _class_rows(found, names),
        "calibration": [_calibration_row(name, arm["calibration"]) for name, arm in found["arms"].items()],
        "bins": [row for name in names for row in _bin_rows(name, found["arms"][name]["calibration"])],
        "matrices": [{"arm": name, "rows": _matrix(found, name)} for name in names],
        "flips": _flips(found),
        "subgroups": _subgroups(found["subgroups"]),
    }


def shown_flips(view: ReportView) -> list[str]:
    """Ids of the flipped images that stand in the table and may be shown."""
    rows = view.evidence["flips"]["rows"] if view.evidence else []
    return [row["id"] for row in rows[:MAX_FLIPS] if row["id"] in view.flip_images]


def p_text(p: float | None) -> str:
    """A p value: `< 0.001` where three decimals would say 0."""
    return "< 0.001" if p is not None and p < 0.0005 else fmt(p)


def _cell(measure: Row | None, *, value: str = "value", style: Any = "score") -> Row:
    if measure is None:
        return {"text": NONE, "interval": ""}
    return {"text": fmt(measure[value], style), "interval": interval(measure["low"], measure["high"], style)}


def _class_rows(found: Row, names: Sequence[str]) -> list[Row]:
    by_arm = [found["arms"][name]["per_class"] for name in names]
    tests = {row["class"]: row for row in found["delong"]}
    rows = []
    for of_class in zip(*by_arm, strict=True):
        first, test = of_class[0], tests.get(of_class[0]["class"])
        measures = [_cell(row[key]) for key in ("sensitivity", "specificity", "auc") for row in of_class]
        rows.append(
            {
                "name": first["class"],
                "num_images": fmt(first["num_images"]),
                "num_groups": fmt(first["num_groups"]),
                "cells": [*measures, _cell(test, value="difference", style="signed")],
                "p": p_text(test and test["p"]),
            }
        )
    return rows


def _calibration_row(name: str, found: Row) -> Row:
    parts = [found["before"], found["after"]]
    values = found["temperatures"]
    return {
        "arm": name,
        "cells": [_cell(part and part[key]) for key in ("ece", "brier") for part in parts],
        "temperature": NONE if values is None else fmt(sum(values) / len(values), "free"),
        "range": "" if values is None or len(values) < 2 else interval(min(values), max(values), "free"),
    }


def _bin_rows(name: str, found: Row) -> list[list[str]]:
    """Arm, when, confidence, accuracy and images of each bin."""
    return [
        [name, when, fmt(row["confidence"]), fmt(row["accuracy"]), fmt(row["count"], "free")]
        for when, part in (("as predicted", found["before"]), ("after scaling", found["after"]))
        if part
        for row in part["bins"]
    ]


def _matrix(found: Row, name: str) -> list[Row]:
    rows = []
    for class_name, counts in zip(found["class_names"], found["arms"][name]["confusion"], strict=True):
        total = sum(counts)
        shares = [count / total if total else 0.0 for count in counts]
        cells = [
            {"count": fmt(c, "free"), "share": fmt(s) if total else NONE, "opacity": f"{_DARKEST * s:.3f}"}
            for c, s in zip(counts, shares, strict=True)
        ]
        rows.append({"name": class_name, "cells": cells})
    return rows


def _flips(found: Row) -> Row:
    flips, repeats = found["flips"], found["num_repeats"]
    rows = [
        {
            **row,
            "control_votes": f"{fmt(row['control_votes'])} of {fmt(repeats)}",
            "winner_votes": f"{fmt(row['winner_votes'])} of {fmt(repeats)}",
            "direction": {"gained": "up", "lost": "down"}.get(row["kind"], "none"),
        }
        for row in flips["rows"][:MAX_FLIPS]
    ]
    counts = {kind: fmt(flips[kind]) for kind in ("gained", "lost", "other")}
    return {"rows": rows, "total": len(flips["rows"]), **counts, "p": p_text(flips["mcnemar_p"]), "note": flips["note"]}


def _subgroups(found: Row) -> Row:
    rows = [_subgroup_row("all images", "", found["overall"])]
    rows += [_subgroup_row(c["column"], row["value"], row) for c in found["columns"] for row in c["values"]]
    not_stated = [f"{c['column']} ({fmt(c['not_stated'])} images)" for c in found["columns"] if c["not_stated"]]
    left_out = [f"{row['column']} ({row['reason']})" for row in found["left_out"]]
    return {
        "rows": rows if found["columns"] else [],
        "warnings": found["warnings"],
        "left_out": left_out,
        "not_stated": not_stated,
        "corrected": found["corrected"],
    }


def _subgroup_row(column: str, value: str, row: Row) -> Row:
    change = row["difference"]
    harmed = change is not None and change["high"] is not None and change["high"] < 0
    gained = change is not None and change["low"] is not None and change["low"] > 0
    return {
        "column": column,
        "value": value,
        "num_images": fmt(row["num_images"]),
        "num_groups": fmt(row["num_groups"]),
        "winner": fmt(row["winner"]),
        "control": fmt(row["control"]),
        "difference": _cell(change, style="signed"),
        "direction": "down" if harmed else "up" if gained else "none",
        "reason": row["reason"],
    }
