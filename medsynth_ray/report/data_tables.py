"""What the page says of the real images: how many, who saw them, and what the audit found."""

from __future__ import annotations

from medsynth_ray.report._svg import PALETTE
from medsynth_ray.report.view import ReportView, Row

_SEVERITIES = {
    "stop": "stops the sweep",
    "quarantine": "set aside",
    "warn": "to be looked at",
    "info": "for the record",
}


def real_share_line(real_share: Row | None, reference: str | None = None) -> str:
    """What it means that classifiers and generators learn from different real images; "" where they do not.

    reference: an arm that is real only on all the images that generators were shown.
    """
    if real_share is None or real_share["classifier_images"] == real_share["generator_images"]:
        return ""
    shown, own = real_share["generator_images"], real_share["classifier_images"]
    line = f"Generators were shown {shown:,} real images, the classifier {own:,}: "
    if shown < own:
        return line + "synthetic images cannot carry what only the classifier's further real images show."
    line += (
        "a gain may come from the generator's extra real images, not from synthesis (as in Jiao et al. 2025, HybridQ)."
    )
    return line + (f" Compare with {reference}, real only on all of them." if reference else "")


def caveats(view: ReportView) -> list[str]:
    """Those of the verdict, and the one about unequal shares of real images, once."""
    own = share_line(view)
    return list(dict.fromkeys([*(view.verdict or {}).get("caveats", ()), *([own] if own else [])]))


def share_line(view: ReportView) -> str:
    """`real_share_line` of this view, with its reference arm."""
    reference = next((str(row["arm"]) for row in view.arms if row["role"] == "reference"), None)
    return real_share_line(view.real_share, reference)


def class_colors(view: ReportView) -> list[str]:
    """One colour for each class; they come again from the ninth on."""
    return [PALETTE[i % len(PALETTE)] for i in range(len(view.class_names))]


def count_rows(view: ReportView) -> list[Row]:
    """Images of each split: split, counts, total and bar (class name, colour, count and percent of the split)."""
    rows = []
    for split, counts in view.counts.items():
        parts = zip(view.class_names, class_colors(view), counts, strict=True)
        bar = [
            {"name": name, "color": color, "count": count, "percent": f"{100 * count / sum(counts):.1f}"}
            for name, color, count in parts
            if count
        ]
        rows.append({"split": split, "counts": counts, "total": sum(counts), "bar": bar})
    return rows


def finding_groups(view: ReportView) -> list[Row]:
    """Findings by severity, the gravest first: severity, meaning, findings. Only the last kind is folded."""
    order = list(dict.fromkeys([*_SEVERITIES, *(item["severity"] for item in view.audit)]))
    groups = [
        {
            "severity": severity,
            "meaning": _SEVERITIES.get(severity, ""),
            "findings": [item for item in view.audit if item["severity"] == severity],
        }
        for severity in order
    ]
    return [{**group, "open": group["severity"] != "info"} for group in groups if group["findings"]]
