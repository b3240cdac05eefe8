"""The charts of generators: how near their images are to real ones, at the end and while they were fitted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medsynth_ray.report._svg import FAINT, INK, PALETTE, Titles, name_rows, svg
from medsynth_ray.report.tables import candidates, display_name, floor_of, main_name, measured_names, ranked
from medsynth_ray.report.view import ReportView, Row

_LOG_FROM = 20.0
"""An axis whose values span at least this factor is logarithmic."""

_MAX_PANELS = 4
_BAND_ALPHA = 0.22


def nearness(view: ReportView) -> str:
    """The main number (KID) of each pool with its interval, smallest on top, and its floor: real against real."""
    rows = ranked(view)
    if not rows:
        return ""

    def draw(figure: Figure) -> Titles:
        axes = figure.subplots()
        end = next((found["high"] for row, found in rows if row["status"] == "ok" and found["high"] is not None), None)
        if end is not None:
            axes.axvline(end, color=INK, linewidth=1.1, linestyle=(0, (4, 3)))
        for y, (row, found) in enumerate(rows):
            _measured_row(axes, y, found, hollow=row["status"] != "ok")
        name_rows(
            axes, [display_name(row) + ("" if row["status"] == "ok" else f" ({row['status']})") for row, _ in rows]
        )
        axes.set_xlabel(f"{main_name(view)} against val (smaller is nearer to real)")
        return {}

    return svg(draw, "nearness", 0.8 + 0.42 * len(rows), "Distance of each generator's images from real ones")


def quality(view: ReportView) -> str:
    """Every other number of the pools with its interval and floor, one panel for each of the first four."""
    names = [name for name in measured_names(view) if name != main_name(view)][:_MAX_PANELS]
    shown = [
        row for row in candidates(view) if any(m["name"] in names and m["value"] is not None for m in row["measured"])
    ]
    if not shown:
        return ""

    def draw(figure: Figure) -> Titles:
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False, gridspec_kw={"wspace": 0.14})[0]
        for axes, name in zip(panels, names, strict=True):
            for y, row in enumerate(shown):
                for item in row["measured"]:
                    if item["name"] == name and item["value"] is not None:
                        _measured_row(axes, y, item, hollow=row["status"] != "ok")
            axes.set_xlabel(f"{name}\n{_direction(name)}", fontsize=9)
            axes.locator_params(axis="x", nbins=4)
            name_rows(axes, [display_name(row) for row in shown])
        return {}

    return svg(draw, "quality", 0.85 + 0.36 * len(shown), "Further numbers of each generator's images against val")


def _direction(name: str) -> str:
    if name.startswith(("kid", "frechet", "fid")):
        return "smaller is nearer to real"
    return "larger is nearer to real" if name.startswith("prdc") else ""


def _measured_row(axes: Axes, y: int, item: Row, *, hollow: bool) -> None:
    color, (floor, worst) = PALETTE[0], floor_of(item)
    if floor is not None:
        axes.plot([floor, floor], [y - 0.5, y + 0.5], color=FAINT, linewidth=1.4, solid_capstyle="butt")
        if worst is not None:
            axes.fill_betweenx([y - 0.5, y + 0.5], floor, worst, color=FAINT, alpha=_BAND_ALPHA, linewidth=0)
    if item["low"] is not None and item["high"] is not None:
        axes.plot([item["low"], item["high"]], [y, y], color=color, linewidth=2.4, solid_capstyle="round")
    face = "none" if hollow else color
    axes.plot(item["value"], y, marker="o", color=color, mfc=face, markersize=6.5)


def curve(view: ReportView) -> str:
    """Quality against training images seen: a line for each candidate, thick and with its interval for the best."""
    rows = [(row, points) for row in view.curves if (points := _points(row))]
    if not rows:
        return ""
    names = _generators(view)

    def draw(figure: Figure) -> Titles:
        axes = figure.subplots()
        for row, points in sorted(rows, key=lambda found: bool(found[0]["best"])):
            _curve_line(axes, points, PALETTE[names.index(row["generator"]) % len(PALETTE)], best=row["best"])
        _curve_axes(axes, [points for _, points in rows], curve_floor(view))
        axes.set_xlabel("training images seen")
        metric = rows[0][0]["metric"]
        axes.set_ylabel(f"{metric} against val\n{_direction(metric)}")
        return {}

    return svg(draw, "curve", 3.9, "Quality against training images seen")


def curve_legend(view: ReportView) -> list[Row]:
    """Generators of the curves: name and color."""
    return [{"name": name, "color": PALETTE[i % len(PALETTE)]} for i, name in enumerate(_generators(view))]


def curve_floor(view: ReportView) -> float | None:
    """The floor of the curves; None where none of them has one."""
    return next((row["floor"] for row in view.curves if row["floor"] is not None), None)


def _generators(view: ReportView) -> list[str]:
    return list(dict.fromkeys(row["generator"] for row in view.curves if _points(row)))


def _points(row: Row) -> list[tuple[float, float, float | None, float | None]]:
    return sorted(point for point in row["points"] if point[0] is not None and point[1] is not None)


def _curve_line(
    axes: Axes, points: Sequence[tuple[float, float, float | None, float | None]], color: str, *, best: bool
) -> None:
    xs, values = [point[0] for point in points], [point[1] for point in points]
    width, alpha, size = (2.2, 1.0, 5.0) if best else (1.1, 0.5, 2.8)
    axes.plot(xs, values, color=color, linewidth=width, alpha=alpha, marker="o", markersize=size, mew=0)
    spans = [(x, low, high) for x, _, low, high in points if low is not None and high is not None]
    if best and spans:
        edges = list(zip(*spans, strict=True))
        axes.fill_between(edges[0], edges[1], edges[2], color=color, alpha=0.16, linewidth=0)


def _curve_axes(
    axes: Axes, lines: Sequence[Sequence[tuple[float, float, float | None, float | None]]], floor: float | None
) -> None:
    """Scales and floor. A floor that is not positive cannot stand on a logarithmic axis; the legend names it."""
    xs, values = [p[0] for line in lines for p in line], [p[1] for line in lines for p in line]
    if _wide(xs):
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if _wide(values):
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7 * min([*values, *([floor] if floor is not None and floor > 0 else [])]))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if floor is not None and (floor > 0 or not _wide(values)):
        axes.axhline(floor, color=FAINT, linewidth=1.4, linestyle=(0, (4, 3)))


def _wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= _LOG_FROM


def halving(view: ReportView) -> str:
    """Quality against share of training, one panel for each generator with several settings; hollow: not promoted."""
    by_generator: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in view.rungs:
        by_generator[row["generator"]][str(row["candidate"])].append(row)
    shown = {name: found for name, found in by_generator.items() if len(found) > 1}
    if not shown:
        return ""
    num_rows = -(-len(shown) // 3)

    def draw(figure: Figure) -> Titles:
        panels = figure.subplots(num_rows, 3, squeeze=False, gridspec_kw={"wspace": 0.42, "hspace": 0.55}).ravel()
        for axes, (name, found) in zip(panels, shown.items(), strict=False):
            _halving_panel(axes, name, list(found.values()))
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        return {}

    return svg(draw, "halving", 2.2 * num_rows, "Successive halving: quality against share of training")


def _halving_panel(axes: Axes, name: str, found: Sequence[Sequence[Row]]) -> None:
    for rows in found:
        _candidate(axes, sorted(rows, key=lambda row: row["share"]))
    shares = sorted({row["share"] for rows in found for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{share:.0%}" for share in shares])
    axes.set_xticks([], minor=True)
    axes.set_title(name)
    axes.set_ylabel("quality")
    axes.locator_params(axis="y", nbins=5)


def _candidate(axes: Axes, rows: Sequence[Row]) -> None:
    rows = [row for row in rows if row["quality"] is not None]
    axes.plot([r["share"] for r in rows], [r["quality"] for r in rows], color=PALETTE[0], linewidth=1.2, alpha=0.6)
    for row in rows:
        face = PALETTE[0] if row["promoted"] else "none"
        axes.plot(row["share"], row["quality"], marker="o", color=PALETTE[0], mfc=face, markersize=5)
