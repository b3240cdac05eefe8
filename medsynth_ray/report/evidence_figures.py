"""The charts of the section on the locked test in detail: reliability, subgroups, learning curve."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medsynth_ray.report._svg import FAINT, INK, PALETTE, Titles, name_rows, svg
from medsynth_ray.report.tables import metric_words
from medsynth_ray.report.view import ReportView, Row

BEFORE, AFTER = PALETTE[0], PALETTE[1]
_DASHED = (0, (4, 3))


def reliability(view: ReportView) -> str:
    """Accuracy against confidence in bins, a panel each for winner and control; "" without evidence."""
    if view.evidence is None:
        return ""
    arms = {name: view.evidence["arms"][name]["calibration"] for name in _names(view.evidence)}

    def draw(figure: Figure) -> Titles:
        panels = figure.subplots(1, len(arms), sharey=True, squeeze=False, gridspec_kw={"wspace": 0.1})[0]
        for axes, (name, found) in zip(panels, arms.items(), strict=True):
            axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle=_DASHED)
            _reliability_line(axes, found["before"], BEFORE, "-")
            _reliability_line(axes, found["after"], AFTER, "--")
            axes.set_title(name)
            axes.set_xlabel("confidence")
            axes.set_aspect("equal")
        panels[0].set_ylabel("accuracy")
        return {}

    label = f"Accuracy against confidence of {' and '.join(arms)}; the numbers stand in the table below"
    return svg(draw, "reliability", 4.1, label)


def _reliability_line(axes: Axes, part: Row | None, color: str, dash: str) -> None:
    if part is None:
        return
    xs, ys = [row["confidence"] for row in part["bins"]], [row["accuracy"] for row in part["bins"]]
    largest = max(row["count"] for row in part["bins"])
    sizes = [12.0 + 60.0 * row["count"] / largest for row in part["bins"]]
    axes.plot(xs, ys, color=color, linewidth=1.6, linestyle=dash)
    axes.scatter(xs, ys, s=sizes, color=color, linewidths=0, zorder=3)


def subgroup_forest(view: ReportView) -> str:
    """Winner minus control in each subgroup, all images on top; "" where no subgroup has a number."""
    rows = _subgroup_rows(view)
    if len(rows) < 2:
        return ""
    assert view.evidence is not None
    winner, control = _names(view.evidence)

    def draw(figure: Figure) -> Titles:
        axes = figure.subplots()
        axes.axvline(0.0, color=INK, linewidth=1.2)
        for y, (_, found) in enumerate(rows):
            _subgroup_mark(axes, y, found, whole=y == 0)
        name_rows(axes, [name for name, _ in rows])
        axes.set_xlabel(f"difference in balanced accuracy, {winner} minus {control}")
        return {}

    label = f"Difference between {winner} and {control} by subgroup; the numbers stand in the table below"
    return svg(draw, "subgroup-forest", 0.9 + 0.34 * len(rows), label)


def _subgroup_rows(view: ReportView) -> list[tuple[str, Row]]:
    """(name, difference) of all images and of each subgroup that has one."""
    if view.evidence is None:
        return []
    found = view.evidence["subgroups"]
    rows = [("all images", found["overall"]["difference"])]
    rows += [(row["name"], row["difference"]) for c in found["columns"] for row in c["values"]]
    return [(name, difference) for name, difference in rows if difference is not None]


def _subgroup_mark(axes: Axes, y: int, found: Row, *, whole: bool) -> None:
    low, high = found["low"], found["high"]
    color = PALETTE[0]
    if low is not None and high is not None:
        color = PALETTE[2] if low > 0 else PALETTE[4] if high < 0 else color
        axes.plot([low, high], [y, y], color=color, linewidth=2.4, solid_capstyle="round")
    axes.plot(found["value"], y, marker="D" if whole else "o", color=color, markersize=7)


def learning_curve(view: ReportView) -> str:
    """Score of real only against the number of real images, and where the winner stands; "" without points."""
    found = view.learning_curve
    if found is None or not found["points"]:
        return ""
    points = sorted(found["points"], key=lambda point: float(point["num_images"]))
    winner = found["winner"]

    def draw(figure: Figure) -> Titles:
        axes = figure.subplots()
        _real_line(axes, points)
        if winner is not None:
            axes.axhline(winner["mean"], color=PALETTE[0], linewidth=1.2, linestyle=_DASHED)
            if winner["low"] is not None and winner["high"] is not None:
                axes.axhspan(winner["low"], winner["high"], color=PALETTE[0], alpha=0.14, linewidth=0)
            edge = axes.get_yaxis_transform()
            axes.text(1.01, winner["mean"], "winner", transform=edge, color=PALETTE[0], va="center", fontsize=9)
        axes.set_xlim(left=0.0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("real training images")
        axes.set_ylabel(f"{metric_words(view, metric_of(view))} ({split_of(view)})")
        return {}

    label = f"Score of real only against the number of real images. {found['sentence']}"
    return svg(draw, "learning-curve-chart", 3.4, label)


def _real_line(axes: Axes, points: Sequence[Row]) -> None:
    xs = [point["num_images"] for point in points]
    axes.plot(xs, [point["mean"] for point in points], color=INK, linewidth=1.6, marker="o", markersize=6)
    for point in points:
        if point["low"] is not None and point["high"] is not None:
            axes.plot([point["num_images"]] * 2, [point["low"], point["high"]], color=INK, linewidth=1.4)


def metric_of(view: ReportView) -> str:
    """What the learning curve measures."""
    return str((view.learning_curve or {}).get("metric") or (view.verdict or {}).get("metric") or "score")


def split_of(view: ReportView) -> str:
    """Where the learning curve was measured: val or test."""
    return str((view.learning_curve or {}).get("split", "test"))


def _names(evidence: Row) -> tuple[str, str]:
    return evidence["winner"], evidence["control"]
