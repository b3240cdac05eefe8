"""Turns the rows of a ReportView into the text that stands in the page's tables. Every number goes through `fmt`."""

from __future__ import annotations

import re
from typing import Any, Literal

from medsynth_ray.report.view import ReportView, Row

NONE = "–"
"""Shown where there is no value."""

PRIVACY_GATES = ("near_copy", "membership", "canaries")
"""Gates whose label begins so judge privacy, where a generator's row does not say (`near_copy_judged`)."""

REAL_ONLY = "real_only"
"""The arm that everything is measured against."""

Style = Literal["score", "signed", "free"]


def fmt(value: float | int | str | bool | None, style: Style = "score") -> str:
    """Format one value for the page.

    Args:
        value: a number; text and None pass (None as a dash).
        style: score: three decimals. signed: the same with a sign. free: three significant digits, for numbers of
            any size. Whole numbers get thousands separators in every style.
    """
    if value is None:
        return NONE
    if isinstance(value, str | bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:+,}" if style == "signed" else f"{value:,}"
    if style == "signed":
        return f"{value:+.3f}"
    if style == "score":
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def interval(low: float | None, high: float | None, style: Style = "score") -> str:
    """`[low, high]`, or nothing where there is none."""
    return "" if low is None or high is None else f"[{fmt(low, style)}, {fmt(high, style)}]"


def duration(seconds: float | None) -> str:
    """Seconds as s, min or h."""
    if seconds is None:
        return NONE
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def settings(parameters: Row | None) -> str:
    """`learning_rate=0.0001, rank=8`."""
    return ", ".join(f"{key}={_setting(value)}" for key, value in (parameters or {}).items())


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def words(name: str) -> str:
    """`balanced_accuracy` -> "balanced accuracy"."""
    return name.replace("_", " ").replace(" f1", " F1").replace(" auc", " AUC")


def metric_words(view: ReportView, name: str) -> str:
    """`words` of a metric; `sensitivity_at_0.90/1` -> "sensitivity at specificity 0.90 (melanoma)"."""
    found = re.fullmatch(r"sensitivity_at_([\d.]+)/(\d+)", name)
    if not found:
        return words(name)
    label = int(found[2])
    of = view.class_names[label] if label < len(view.class_names) else f"class {label}"
    return f"sensitivity at specificity {found[1]} ({of})"


def level_text(view: ReportView) -> str:
    """Level of the intervals that decide: `95 %`, more where the sweep confirms several arms."""
    levels = [item.get("level", 0.95) for item in (view.verdict or {}).get("comparisons", [])]
    return f"{100 * max(levels, default=0.95):.4g} %"


def family_line(view: ReportView) -> str:
    """What changes where the sweep confirms several arms; "" for one."""
    verdict = view.verdict or {}
    num = verdict.get("num_arms", 1)
    if num < 2 or not verdict["comparisons"]:
        return ""
    return (
        f"The sweep confirms {num} arms, which have {num} chances: intervals are at level {level_text(view)}, and the "
        f"largest p of this arm, adjusted by Holm over the arms, is {fmt(verdict['p_adjusted'])}."
    )


def mark_id(row: Row) -> str:
    """Id of an arm's mark in the charts: `mark-<arm>`, of its mark for the locked test `mark-<arm>-test`."""
    name = re.sub(r"[\s\"'<>&]", "_", str(row["arm"]))
    return f"mark-{name}-test" if row["phase"] == "confirm" else f"mark-{name}"


def arm_rows(view: ReportView, phase: str) -> list[Row]:
    """Formatted rows of one phase: field -> text, and `gain`, the mean minus that of real-only of this phase."""
    rows = [row for row in view.arms if row["phase"] == phase]
    base = next((r["mean"] for r in rows if r["arm"] == REAL_ONLY and r["mean"] is not None), None)
    return [_arm_row(row, base) for row in rows]


def _arm_row(row: Row, base: float | None) -> Row:
    mean, is_base = row["mean"], row["arm"] == REAL_ONLY
    gain = None if mean is None or base is None or is_base else mean - base
    return {
        "arm": row["arm"],
        "role": row["role"],
        "generator": row["generator"] or NONE,
        "mixer": row["mixer"] or NONE,
        "ratio": NONE if row["ratio"] is None else f"{row['ratio']:.2f}",
        "mean": fmt(mean),
        "interval": interval(row["low"], row["high"]),
        "gain": fmt(gain, "signed"),
        "repeats": str(len(row["repeats"])),
        "num_train": fmt(row["num_train"]),
        "num_synthetic": fmt(row["num_synthetic"]),
        "synthetic_share": NONE if row["synthetic_share"] is None else f"{row['synthetic_share']:.0%}",
        "parameters": settings(row["parameters"]),
        "cost": duration(row["cost_s"]),
        "status": row["status"],
        "reason": row["reason"] or "",
    }


def measured_names(view: ReportView) -> list[str]:
    """Names of all measured numbers, in order of first appearance."""
    return list(dict.fromkeys(m["name"] for g in candidates(view) for m in g["measured"]))


def measured_by_class(view: ReportView) -> list[Row]:
    """Numbers of each class: rows with generator, class_name and cells (name of the number of all classes -> found)."""
    rows = []
    for generator in candidates(view):
        found = {m["name"]: {one["label"]: one for one in m.get("per_class", [])} for m in generator["measured"]}
        for label in sorted({label for by_label in found.values() for label in by_label}):
            cells = {name: by_label[label] for name, by_label in found.items() if label in by_label}
            rows.append({
                "generator": display_name(generator), "class_name": view.class_names[label], "cells": cells,
            })  # fmt: skip
    return rows


def main_name(view: ReportView) -> str:
    """Name of the number that generators are compared by: the first KID, else "" (none is)."""
    return next((name for name in measured_names(view) if name.startswith("kid")), "")


def ranked(view: ReportView) -> list[tuple[Row, Row]]:
    """Generators with their main number, the smallest first."""
    found = [(row, m) for row in candidates(view) for m in row["measured"] if m["name"] == main_name(view)]
    return sorted([pair for pair in found if pair[1]["value"] is not None], key=lambda pair: float(pair[1]["value"]))


def separations(view: ReportView) -> list[str]:
    """For each generator whose main number's interval lies below others': a sentence that names those."""
    rows = [(row, m) for row, m in ranked(view) if m["low"] is not None and m["high"] is not None]
    sentences = []
    for row, own in rows:
        above = [display_name(other) for other, m in rows if own["high"] < m["low"]]
        if above:
            status = "" if row["status"] == "ok" else f" ({row['status']})"
            sentences.append(f"The interval of {display_name(row)}{status} lies below {_listed(above)}.")
    return sentences


def _listed(names: list[str]) -> str:
    return f"that of {names[0]}" if len(names) == 1 else f"those of {', '.join(names[:-1])} and {names[-1]}"


_WORST = ("floor_high", "floor_max", "floor_low")


def floor_of(found: Row) -> tuple[float | None, float | None]:
    """Real against real, mean and worst of several splits, of a measured number; None where it has none."""
    details = found["details"]
    return details.get("floor"), next((details[key] for key in _WORST if key in details), None)


def floor_text(found: Row) -> str:
    """`real against real 0.0021 (up to 0.003)`, or nothing."""
    floor, worst = floor_of(found)
    if floor is None:
        return ""
    reach = "" if worst is None else f" ({'up' if worst >= floor else 'down'} to {fmt(worst, 'free')})"
    return f"real against real {fmt(floor, 'free')}{reach}"


def detail_text(found: Row) -> str:
    """`precision 0.91 · recall 0.88`: details that stand nowhere else."""
    told = {"floor", *_WORST} | ({"standard_error"} if found["low"] is not None else set())
    return " · ".join(f"{words(k)} {fmt(v, 'free')}" for k, v in found["details"].items() if k not in told)


def candidates(view: ReportView) -> list[Row]:
    """Generators that are judged, not those whose images only make a control."""
    return [row for row in view.generators if row.get("role") != "control"]


def display_name(generator: Row) -> str:
    """Name of a pool where one generator has several, else its label."""
    return str(generator.get("name") or generator["label"])


def privacy_rows(view: ReportView) -> list[Row]:
    """Gates that judge privacy, one row for each generator and gate."""
    return [
        {"generator": display_name(generator), "gate": label, **gate}
        for generator in candidates(view)
        for label, gate in _privacy_gates(generator).items()
    ]


def _privacy_gates(generator: Row) -> Row:
    """The gates that judge privacy: by label, or all where one of them does so under another label."""
    judged, gates = generator.get("near_copy_judged"), generator["gates"]
    named = {label: gate for label, gate in gates.items() if label.startswith(PRIVACY_GATES)}
    if judged is None:
        return named
    return (named or gates) if judged else {}


def unjudged(view: ReportView) -> list[str]:
    """Generators whose privacy no gate judged."""
    ok = [row for row in candidates(view) if row["status"] == "ok"]
    return [display_name(row) for row in ok if not row.get("near_copy_judged", bool(_privacy_gates(row)))]


def class_rows(view: ReportView) -> list[Row]:
    """Differences in recall by class: rows with name and one cell for each control (text, and up, down or none)."""
    comparisons = (view.verdict or {}).get("comparisons", [])
    rows = []
    for label, name in enumerate(view.class_names):
        found = [next((c for c in item["per_class"] if c["label"] == label), None) for item in comparisons]
        if any(found):
            rows.append({"name": name, "cells": [_class_cell(cell) for cell in found]})
    return rows


def _class_cell(cell: Row | None) -> Row:
    if cell is None:
        return {"text": NONE, "interval": "", "direction": "none"}
    direction = "up" if cell["low"] > 0 else "down" if cell["high"] < 0 else "none"
    text, span = fmt(cell["difference"], "signed"), interval(cell["low"], cell["high"], "signed")
    return {"text": text, "interval": span, "direction": direction}


def harmed_classes(view: ReportView) -> list[str]:
    """Sentences about classes whose recall lies below real-only, whatever the mean does."""
    comparisons = (view.verdict or {}).get("comparisons", [])
    return [
        f"Recall of {view.class_names[cell['label']]} is lower than with real only: "
        f"{fmt(cell['difference'], 'signed')} {interval(cell['low'], cell['high'], 'signed')} "
        "(not corrected for the number of classes)."
        for item in comparisons
        if item["control"] == REAL_ONLY
        for cell in item["per_class"]
        if cell["high"] < 0
    ]


def run_rows(view: ReportView) -> list[tuple[str, str]]:
    """Facts about the run as (name, text)."""
    return [(words(key), _fact(value)) for key, value in view.run.items()]


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_fact(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_fact(item) for item in value) or "none"
    return fmt(value, "free")
