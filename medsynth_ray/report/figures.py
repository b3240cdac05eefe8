"""The charts of arms, as inline SVG that follows the page's colours in light and dark. Same view, same bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medsynth_ray.report._svg import FAINT, INK, PALETTE, Titles, name_rows, svg
from medsynth_ray.report.tables import REAL_ONLY, fmt, interval, mark_id, metric_words, settings
from medsynth_ray.report.view import ReportView, Row


def forest(view: ReportView) -> str:
    """The winner minus each control on the locked test: mean, interval and repeats; "" before a verdict."""
    comparisons = (view.verdict or {}).get("comparisons", [])
    if not comparisons:
        return ""
    assert view.verdict is not None
    effect, metric = view.verdict["effect"], metric_words(view, view.verdict["metric"])

    def draw(figure: Figure) -> Titles:
        axes = figure.subplots()
        axes.axvline(0.0, color=INK, linewidth=1.2)
        axes.axvline(effect, color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)))
        above = axes.get_xaxis_transform()
        axes.text(effect, 1.02, "smallest effect worth having", transform=above, color=FAINT, ha="center", fontsize=9)
        titles: Titles = {}
        for y, item in enumerate(comparisons):
            titles |= _forest_row(axes, y, item)
        name_rows(axes, [item["against"] for item in comparisons])
        axes.set_xlabel(f"difference in {metric}, winner minus control (locked test)")
        return titles

    return svg(draw, "forest", 0.9 + 0.62 * len(comparisons), "Differences between the winner and each control")


def _forest_row(axes: Axes, y: int, item: Row) -> Titles:
    color = PALETTE[2] if item["low"] > 0 else PALETTE[4] if item["high"] < 0 else PALETTE[0]
    axes.plot([item["low"], item["high"]], [y, y], color=color, linewidth=2.6, solid_capstyle="round")
    gid = f"compare-{item['control']}"
    axes.plot(item["difference"], y, marker="D", color=color, markersize=7.5, gid=gid)
    spread = [y + 0.27 + 0.05 * (i % 3 - 1) for i in range(len(item["repeats"]))]
    axes.plot(item["repeats"], spread, linestyle="", marker="o", markersize=3.6, color=color, alpha=0.55, mew=0)
    text = f"{fmt(item['difference'], 'signed')} {interval(item['low'], item['high'], 'signed')}, p = {fmt(item['p'])}"
    return {gid: f"against {item['against']}: {text}"}


def scores(view: ReportView) -> str:
    """The arms on the locked test: mean, interval and repeats; "" if it was not opened."""
    rows = [row for row in view.arms if row["phase"] == "confirm"]
    if not rows:
        return ""

    def draw(figure: Figure) -> Titles:
        axes = figure.subplots()
        shown = [row["mean"] for row in rows if row["mean"] is not None]
        for y, row in enumerate(rows):
            color = PALETTE[0] if row["role"] == "candidate" else FAINT
            _score_row(axes, y, row, color, floor=min(shown, default=0.0))
        name_rows(axes, [row["arm"] for row in rows])
        axes.set_xlabel(f"{metric_words(view, rows[0]['metric'])} (locked test)")
        return _titles(rows)

    return svg(draw, "scores", 0.8 + 0.5 * len(rows), "Scores of the arms on the locked test")


def _score_row(axes: Axes, y: int, row: Row, color: str, *, floor: float) -> None:
    if row["mean"] is None:
        axes.plot(floor, y, marker="x", color=PALETTE[4], markersize=6, gid=mark_id(row))
        return
    if row["low"] is not None and row["high"] is not None:
        axes.plot([row["low"], row["high"]], [y, y], color=color, linewidth=2.2, solid_capstyle="round")
    axes.plot(row["mean"], y, marker="o", color=color, markersize=7, gid=mark_id(row))
    spread = [y + 0.26 + 0.05 * (i % 3 - 1) for i in range(len(row["repeats"]))]
    axes.plot(row["repeats"], spread, linestyle="", marker="o", markersize=3.2, color=color, alpha=0.55, mew=0)


def legend(view: ReportView) -> list[Row]:
    """Series of the gain chart: name, color, dashed (from the ninth on, when the colours come again)."""
    return [
        {"name": name, "color": PALETTE[i % len(PALETTE)], "dashed": i >= len(PALETTE)}
        for i, name in enumerate(_series(view))
    ]


def gain(view: ReportView) -> str:
    """Score on val against the share of synthetic images, one line for each series, with the real-only band."""
    rows = [row for row in view.arms if row["phase"] == "mix"]
    if not rows:
        return ""

    def draw(figure: Figure) -> Titles:
        axes = figure.subplots()
        _real_band(axes, rows)
        series = _series(view)
        step = min(0.012, 0.05 / max(1, len(series)))
        for i, (members, look) in enumerate(zip(series.values(), legend(view), strict=True)):
            shift = (i - (len(series) - 1) / 2) * step
            _line(axes, members, look["color"], shift, "--" if look["dashed"] else "-")
        _unscored(axes, rows)
        axes.set_xlabel("share of synthetic images in the training set")
        axes.set_ylabel(f"{metric_words(view, rows[0]['metric'])} (val)")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        return _titles(rows)

    return svg(draw, "gain", 3.9, "Score on val against the share of synthetic images")


def _series(view: ReportView) -> dict[str, list[Row]]:
    """Scored candidates of the mix phase by generator, mixer and settings, each sorted by share."""
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in view.arms:
        if row["phase"] == "mix" and row["role"] == "candidate" and row["mean"] is not None:
            found[row["generator"], row["mixer"], settings(row["parameters"])].append(row)
    plain = [key[:2] for key in found]
    named = {}
    for generator, mixer, text in found:
        several = plain.count((generator, mixer)) > 1
        name = f"{generator} · {mixer}" + (f" · {text}" if several else "")
        named[name] = sorted(found[generator, mixer, text], key=_share)
    return named


def _share(row: Row) -> float:
    share = row["synthetic_share"] if row["ratio"] is None else row["ratio"]
    return float(share or 0.0)


def _real_band(axes: Axes, rows: Sequence[Row]) -> None:
    """Controls stand at share 0; real-only is also a line and a band across."""
    for row in rows:
        if row["role"] != "control" or row["mean"] is None:
            continue
        if row["arm"] == REAL_ONLY:
            axes.axhline(row["mean"], color=FAINT, linewidth=1.4)
            if row["low"] is not None and row["high"] is not None:
                axes.axhspan(row["low"], row["high"], color=FAINT, alpha=0.16, linewidth=0)
            edge = axes.get_yaxis_transform()
            axes.text(1.01, row["mean"], "real only", transform=edge, color=FAINT, va="center", fontsize=9)
        axes.plot(_share(row), row["mean"], marker="s", color=FAINT, markersize=6, gid=mark_id(row))


def _line(axes: Axes, rows: Sequence[Row], color: str, shift: float, dash: str) -> None:
    xs = [_share(row) + shift for row in rows]
    axes.plot(xs, [row["mean"] for row in rows], color=color, linewidth=1.6, alpha=0.75, linestyle=dash)
    for x, row in zip(xs, rows, strict=True):
        if row["low"] is not None and row["high"] is not None:
            axes.plot([x, x], [row["low"], row["high"]], color=color, linewidth=1.3, alpha=0.75)
        axes.plot(x, row["mean"], marker="o", color=color, markersize=6, gid=mark_id(row))


def _unscored(axes: Axes, rows: Sequence[Row]) -> None:
    """Arms without a score get a cross at the foot of the chart: rejected, skipped or failed is not nothing."""
    for i, row in enumerate(row for row in rows if row["mean"] is None):
        x, foot = _share(row) + 0.008 * (i % 5), axes.get_xaxis_transform()
        axes.plot(x, 0.03, marker="x", color=PALETTE[4], markersize=5.5, transform=foot, gid=mark_id(row))


def _titles(rows: Sequence[Row]) -> Titles:
    return {mark_id(row): f"{row['arm']}: {fmt(row['mean'])} {interval(row['low'], row['high'])}" for row in rows}
