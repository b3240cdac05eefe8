"""The charts, as inline SVG that follows the page's colours in light and dark. Same view, same bytes."""

from __future__ import annotations

import html
import io
import re
from collections import defaultdict
from collections.abc import Callable, Sequence

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medsynth_ray.report.tables import (
    REAL_ONLY,
    candidates,
    display_name,
    fmt,
    interval,
    mark_id,
    measured_names,
    settings,
    words,
)
from medsynth_ray.report.view import ReportView, Row

PALETTE = ("#3b82c4", "#d9822b", "#2f9e6e", "#a06cc8", "#d1495b", "#17a2a2", "#b08d00", "#c2629a")
"""Colours that are legible on white and on near-black."""

_INK, _LINE, _FAINT = "#010203", "#040506", "#070809"
_CSS_COLORS = {_INK: "currentColor", _LINE: "var(--line)", _FAINT: "var(--faint)"}
_WIDTH = 8.2

_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.labelsize": 10.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "text.color": _INK,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
}

Titles = dict[str, str]
"""Id of a mark -> what a pointer over it shows."""


def forest(view: ReportView) -> str:
    """The winner minus each control on the locked test: mean, interval and repeats; "" before a verdict."""
    comparisons = (view.verdict or {}).get("comparisons", [])
    if not comparisons:
        return ""
    assert view.verdict is not None
    effect, metric = view.verdict["effect"], words(view.verdict["metric"])

    def draw(figure: Figure) -> Titles:
        axes = figure.subplots()
        axes.axvline(0.0, color=_INK, linewidth=1.2)
        axes.axvline(effect, color=_FAINT, linewidth=1.2, linestyle=(0, (4, 3)))
        above = axes.get_xaxis_transform()
        axes.text(effect, 1.02, "smallest effect worth having", transform=above, color=_FAINT, ha="center", fontsize=9)
        titles: Titles = {}
        for y, item in enumerate(comparisons):
            titles |= _forest_row(axes, y, item)
        _rows(axes, [item["against"] for item in comparisons])
        axes.set_xlabel(f"difference in {metric}, winner minus control (locked test)")
        return titles

    return _svg(draw, "forest", 0.9 + 0.62 * len(comparisons), "Differences between the winner and each control")


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
            color = PALETTE[0] if row["role"] == "candidate" else _FAINT
            _score_row(axes, y, row, color, floor=min(shown, default=0.0))
        _rows(axes, [row["arm"] for row in rows])
        axes.set_xlabel(f"{words(rows[0]['metric'])} (locked test)")
        return _titles(rows)

    return _svg(draw, "scores", 0.8 + 0.5 * len(rows), "Scores of the arms on the locked test")


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
        axes.set_ylabel(f"{words(rows[0]['metric'])} (val)")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        return _titles(rows)

    return _svg(draw, "gain", 3.9, "Score on val against the share of synthetic images")


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
            axes.axhline(row["mean"], color=_FAINT, linewidth=1.4)
            if row["low"] is not None and row["high"] is not None:
                axes.axhspan(row["low"], row["high"], color=_FAINT, alpha=0.16, linewidth=0)
            edge = axes.get_yaxis_transform()
            axes.text(1.01, row["mean"], "real only", transform=edge, color=_FAINT, va="center", fontsize=9)
        axes.plot(_share(row), row["mean"], marker="s", color=_FAINT, markersize=6, gid=mark_id(row))


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


def quality(view: ReportView) -> str:
    """Each measured number of the pools with its interval, one panel for each of the first four."""
    names = measured_names(view)[:4]
    shown = [row for row in candidates(view) if any(item["value"] is not None for item in row["measured"])]
    if not names or not shown:
        return ""

    def draw(figure: Figure) -> Titles:
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False, gridspec_kw={"wspace": 0.14})[0]
        for axes, name in zip(panels, names, strict=True):
            for y, row in enumerate(shown):
                for item in row["measured"]:
                    if item["name"] == name and item["value"] is not None:
                        _measured_row(axes, y, item)
            hint = "\nsmaller is nearer to real" if name.startswith(("kid", "frechet", "fid")) else ""
            axes.set_xlabel(name + hint, fontsize=9)
            axes.locator_params(axis="x", nbins=4)
            _rows(axes, [display_name(row) for row in shown])
        return {}

    return _svg(draw, "quality", 0.85 + 0.36 * len(shown), "Quality of each generator's images against val")


def _measured_row(axes: Axes, y: int, item: Row) -> None:
    color = PALETTE[0]
    if item["low"] is not None and item["high"] is not None:
        axes.plot([item["low"], item["high"]], [y, y], color=color, linewidth=2.2, solid_capstyle="round")
    axes.plot(item["value"], y, marker="o", color=color, markersize=6)


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
            for rows in found.values():
                _candidate(axes, sorted(rows, key=lambda row: row["share"]))
            shares = sorted({row["share"] for rows in found.values() for row in rows})
            axes.set_xscale("log")
            axes.set_xticks(shares, [f"{share:.0%}" for share in shares])
            axes.set_xticks([], minor=True)
            axes.set_title(name)
            axes.set_ylabel("quality")
            axes.locator_params(axis="y", nbins=5)
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        return {}

    return _svg(draw, "halving", 2.2 * num_rows, "Successive halving: quality against share of training")


def _candidate(axes: Axes, rows: Sequence[Row]) -> None:
    rows = [row for row in rows if row["quality"] is not None]
    axes.plot([r["share"] for r in rows], [r["quality"] for r in rows], color=PALETTE[0], linewidth=1.2, alpha=0.6)
    for row in rows:
        face = PALETTE[0] if row["promoted"] else "none"
        axes.plot(row["share"], row["quality"], marker="o", color=PALETTE[0], mfc=face, markersize=5)


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    """One labelled row for each entry, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)


def _titles(rows: Sequence[Row]) -> Titles:
    return {mark_id(row): f"{row['arm']}: {fmt(row['mean'])} {interval(row['low'], row['high'])}" for row in rows}


def _svg(draw: Callable[[Figure], Titles], name: str, height: float, label: str) -> str:
    """Draw with fixed settings, whatever the process has set; no pyplot, no date, no random ids."""
    with style.context(["default", {**_STYLE, "svg.hashsalt": name}]):
        figure = Figure(figsize=(_WIDTH, height))
        titles = draw(figure)
        buffer = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata=nothing)
    return _inline(buffer.getvalue(), name, label, titles)


def _inline(svg: str, name: str, label: str, titles: Titles) -> str:
    """Cut an SVG file down to an element for a page: ids of its own, no name spaces, the page's colours."""
    box = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', svg)
    assert box is not None
    width_px = float(box.group(1)) * 4 / 3
    body = svg[svg.index(">", box.end()) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="(?!mark-|compare-)', f'id="{name}-', body)
    body = re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{name}-", body)
    for color, css in _CSS_COLORS.items():
        body = body.replace(color, css)
    for gid, title in titles.items():
        body = body.replace(f'<g id="{gid}">', f'<g id="{gid}" class="mark"><title>{html.escape(title)}</title>')
    head = f'id="{name}" class="chart" style="width: {width_px:.0f}px" role="img" aria-label="{html.escape(label)}"'
    return f"<svg {head} {box.group()}>{body}"
