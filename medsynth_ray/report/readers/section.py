"""The section of the report about a reader study, and the same as a page of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_HERE = Path(__file__).parent
_TONES = {"cannot_tell_apart": "helps", "can_tell_apart": "harms", "cannot_say": "cannot_tell"}
"""Classes of `page.css`."""


def readers_section(result: dict[str, Any]) -> Markup:
    """The `<section id="readers">` for what `medsynth readers score` writes."""
    template = _environment().get_template("section.html.j2")
    return Markup(template.render(result=result, tone=_TONES[result["conclusion"]], reader_auc=_aucs(result)))


def readers_page(result: dict[str, Any]) -> str:
    """The section as a self-contained page."""
    css = Markup((_HERE.parent / "page.css").read_text(encoding="utf-8"))
    template = _environment().get_template("section_page.html.j2")
    return template.render(result=result, css=css, section=readers_section(result))


def share(found: dict[str, Any] | None) -> str:
    """`4 of 31: 13 % [5, 29]`, or a dash."""
    if found is None:
        return "–"
    numbers = [100 * found[name] for name in ("value", "low", "high")]
    return f"{found['count']} of {found['num']}: {numbers[0]:.0f} % [{numbers[1]:.0f}, {numbers[2]:.0f}]"


def area(found: dict[str, Any] | None) -> str:
    """`0.52 [0.45, 0.59]`, or a dash."""
    return "–" if found is None else f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def kappa(value: float | None) -> str:
    """Two decimals, or a dash."""
    return "–" if value is None else f"{value:.2f}"


def _aucs(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    rows = [(f"reader {row['reader']}", row["auc"]) for row in result["readers"]]
    return [(name, found) for name, found in [*rows, ("all readers", result["auc"])] if found is not None]


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"share": share, "area": area, "kappa": kappa}
    return environment
