"""Draws with matplotlib, without pyplot, and cuts the file down to an inline SVG in the page's colours."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE = ("#3b82c4", "#d9822b", "#2f9e6e", "#a06cc8", "#d1495b", "#17a2a2", "#b08d00", "#c2629a")
"""Colours that are legible on white and on near-black."""

INK, _LINE, FAINT = "#010203", "#040506", "#070809"
_CSS_COLORS = {INK: "currentColor", _LINE: "var(--line)", FAINT: "var(--faint)"}
_WIDTH = 8.2

_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": INK,
    "axes.labelsize": 10.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
}

Titles = dict[str, str]
"""Id of a mark -> what a pointer over it shows."""


def svg(draw: Callable[[Figure], Titles], name: str, height: float, label: str) -> str:
    """Draw with fixed settings, whatever the process has set; no pyplot, no date, no random ids."""
    with style.context(["default", {**_STYLE, "svg.hashsalt": name}]):
        figure = Figure(figsize=(_WIDTH, height))
        titles = draw(figure)
        buffer = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata=nothing)
    return _inline(buffer.getvalue(), name, label, titles)


def _inline(text: str, name: str, label: str, titles: Titles) -> str:
    """Cut an SVG file down to an element for a page: ids of its own, no name spaces, the page's colours."""
    box = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', text)
    assert box is not None
    width_px = float(box.group(1)) * 4 / 3
    body = text[text.index(">", box.end()) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="(?!mark-|compare-)', f'id="{name}-', body)
    body = re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{name}-", body)
    for color, css in _CSS_COLORS.items():
        body = body.replace(color, css)
    for gid, title in titles.items():
        body = body.replace(f'<g id="{gid}">', f'<g id="{gid}" class="mark"><title>{html.escape(title)}</title>')
    head = f'id="{name}" class="chart" style="width: {width_px:.0f}px" role="img" aria-label="{html.escape(label)}"'
    return f"<svg {head} {box.group()}>{body}"


def name_rows(axes: Axes, labels: Sequence[str]) -> None:
    """One labelled row for each entry, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
