"""What a paper reported, cell by cell, with this sweep's numbers in a row below."""

from __future__ import annotations

from typing import Any

from medsynth_ray.report.tables import NONE, fmt
from medsynth_ray.report.view import ReportView, Row


def published_tables(view: ReportView) -> list[Row]:
    """The tables of `view.published`, formatted: rows have name, cells (text, interval) and measured.

    measured: None, or label and cells (text, interval, what) of this sweep.
    """
    tables = view.published["tables"] if view.published else []
    return [
        {**table, "rows": [_row(view, index, table, row) for row in table["rows"]]}
        for index, table in enumerate(tables)
    ]


def _row(view: ReportView, index: int, table: Row, row: Row) -> Row:
    digits = [_digits([other["cells"][c]["value"] for other in table["rows"]]) for c in range(len(table["columns"]))]
    cells = [_cell(cell, places, table["percent"]) for cell, places in zip(row["cells"], digits, strict=True)]
    measured = None
    if row["measured"]:
        found = [view.measured_cells.get((index, row["name"], column)) for column in table["columns"]]
        measured = {"label": row["measured"], "cells": [_measured(cell) for cell in found], "any": any(found)}
    return {"name": row["name"], "cells": cells, "measured": measured}


def _digits(values: list[float | None]) -> int:
    """Decimals that a column was printed with: YAML reads 0.90 as 0.9, its neighbours still tell."""
    texts = [f"{value:.10g}" for value in values if value is not None]
    return max((len(text.partition(".")[2]) for text in texts if "e" not in text), default=0)


def _cell(cell: Row, digits: int, percent: bool) -> Row:
    value, low, high = cell["value"], cell["low"], cell["high"]
    text = NONE if value is None else f"{value:,.10g}" if 0 < abs(value) < 1e-4 else f"{value:,.{digits}f}"
    span = "" if low is None or high is None else f"[{low:.{1 if percent else 2}f}, {high:.{1 if percent else 2}f}]"
    return {"text": text, "interval": span}


def _measured(cell: Row | None) -> dict[str, Any]:
    if cell is None:
        return {"text": NONE, "interval": "", "what": ""}
    repeats = "" if cell["n"] is None or cell["n"] < 2 else f", {cell['n']} repeats"
    low, high = cell["low"], cell["high"]
    span = "" if low is None or high is None else f"[{_three_digits(low)}, {_three_digits(high)}]"
    return {"text": _three_digits(cell["value"]), "interval": span, "what": cell["what"] + repeats}


def _three_digits(value: float) -> str:
    """Three significant digits, zeros at the end kept: 0.810 stands beside 0.812."""
    return fmt(value, "free") if abs(value) >= 100 or value == 0 else f"{value:#.3g}"
