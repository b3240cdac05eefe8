"""What the tables of a paper can show: the interval that each number's n allows, and this sweep's numbers beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medsynth_ray.sections import PublishedConfig, PublishedTable
from medsynth_ray.stats.intervals import callable_images, callable_pairs, mean_interval, share_difference, wilson

Row = dict[str, Any]

SCORES = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1")
"""What `PublishedTable.metrics` may name of a classifier; everything else is a number of a pool."""

_SAME = {"macro_recall": "balanced_accuracy"}


def published_tables(published: PublishedConfig) -> Row:
    """What the report prints of a paper: source, notes and tables, all plain values.

    A table has title, columns, num_test, `note` (what its intervals are, or why there are none), `sentence` (what its
    numbers can show) and rows with name, measured (arm or generator of this sweep, or None) and cells; a cell has
    value, low and high in the paper's own units. low and high: the Wilson interval of a share of `num_test` images.
    """
    tables = [_table(table) for table in published.tables]
    return {"source": published.source, "notes": list(published.notes), "tables": tables}


def _table(table: PublishedTable) -> Row:
    rows = [
        {
            "name": name,
            "measured": table.measured.get(name),
            "cells": [_cell(table, name, column, value) for column, value in zip(table.columns, values, strict=True)],
        }
        for name, values in table.rows.items()
    ]
    plain = {key: getattr(table, key) for key in ("title", "num_test", "percent")}
    return {**plain, "columns": list(table.columns), "rows": rows, "note": _note(table), "sentence": _sentence(table)}


def _cell(table: PublishedTable, row: str, column: str, value: float | None) -> Row:
    if value is None or column not in table.proportions:
        return {"value": value, "low": None, "high": None}
    whole = _whole(table)
    low, high = wilson(value / whole, table.num_test) if table.num_test else (None, None)
    return {"value": value, "low": low and low * whole, "high": high and high * whole}


def _whole(table: PublishedTable) -> float:
    return 100.0 if table.percent else 1.0


def _note(table: PublishedTable) -> str:
    named = ", ".join(table.proportions)
    if not table.proportions:
        return "" if _counts(table) else "No column is given as a share of test images: no interval."
    if table.num_test is None:
        return f"{named}: n not stated: no interval."
    others = "; the other columns have none" if len(table.proportions) < len(table.columns) else ""
    return f"{named}: 95 % Wilson interval of {table.num_test:,} images{others}."


def _counts(table: PublishedTable) -> bool:
    """Whether the table only counts: images, parameters, epochs. Whole numbers have no chance in them."""
    return all(value is None or float(value).is_integer() for cells in table.rows.values() for value in cells)


def _sentence(table: PublishedTable) -> str:
    if not table.proportions and _counts(table):
        return ""
    if not table.proportions or table.num_test is None:
        return "Its numbers come without their spread: whether two of them differ by more than chance cannot be told."
    return " ".join(text for column in table.proportions if (text := _comparison(table, column, table.num_test)))


def _comparison(table: PublishedTable, column: str, num: int) -> str:
    """The first row with a number against the highest of the others, in images, and what it takes to tell them."""
    place, whole = table.columns.index(column), _whole(table)
    shares = {name: value / whole for name, cells in table.rows.items() if (value := cells[place]) is not None}
    if len(shares) < 2:
        return ""
    first, *others = shares
    best = max(others, key=lambda name: shares[name])
    difference = shares[best] - shares[first]
    apart = round(abs(difference) * num)
    low, high = share_difference(shares[best], shares[first], num)
    pairs, needed = callable_pairs(), callable_images(shares[first], num)
    unpaired = "no number of them would do" if needed is None else f"{needed} ({100 * needed / num:.1f} points)"
    return (
        f"{column}: the first row, {first} {_with_interval(table, shares[first], num)}, and the best of the others, "
        f"{best} {_with_interval(table, shares[best], num)}, are {apart:,} of {num:,} images apart (difference "
        f"{_points(difference)} points [{_points(low)}, {_points(high)}]). The smallest difference that a two-sided "
        f"5 % test can call: {pairs} images ({100 * pairs / num:.1f} points) if both saw the same images and all that "
        f"change change one way (exact McNemar), {unpaired} if they saw different ones. "
        f"{_reading(apart, low > 0 or high < 0, pairs)}{_choice(len(others), difference)}"
    )


def _reading(apart: int, clear: bool, pairs: int) -> str:
    if apart < pairs:
        return "No test can call this difference."
    if not clear:
        return "Only a paired test might call it, and the paper gives no pairs."
    return "That is more than other test images would explain; other training runs are not in it."


def _choice(num_others: int, difference: float) -> str:
    if num_others < 2 or difference <= 0:
        return ""
    return f" The best of {num_others} was picked on the images that score it, which flatters it."


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _with_interval(table: PublishedTable, share: float, num: int) -> str:
    (low, high), whole = wilson(share, num), _whole(table)
    digits = 1 if table.percent else 2
    return f"{share * whole:.{digits}f} [{low * whole:.{digits}f}, {high * whole:.{digits}f}]"


def measured_cells(
    published: PublishedConfig,
    *,
    arms: Sequence[Row],
    generators: Sequence[Row],
    repeat_scores: Mapping[tuple[str, str], Sequence[Mapping[str, float]]],
) -> dict[tuple[int, str, str], Row]:
    """This sweep's numbers beside the published ones: (table index, row, column) -> value, low, high, n and what.

    A row that names an arm gets that arm; one that names a generator gets its numbers, and for scores its best arm.
    The locked test goes before val. Cells that this sweep has no number for are left out. The verdict's metric comes
    with its two-way interval, other scores with a t interval over the repeats. Shares are in the paper's units.

    Args:
        published: what the sweep file quotes.
        arms: as in `ReportView.arms`.
        generators: as in `ReportView.generators`.
        repeat_scores: (phase, arm) -> `scores` of each repeat, in order.
    """
    return {
        (index, row, column): cell
        for index, row, column in _wanted(published)
        if (cell := _measured(published.tables[index], row, column, arms, generators, repeat_scores)) is not None
    }


def _wanted(published: PublishedConfig) -> Iterator[tuple[int, str, str]]:
    for index, table in enumerate(published.tables):
        yield from ((index, row, column) for row in table.measured for column in table.metrics)


def _measured(
    table: PublishedTable,
    row: str,
    column: str,
    arms: Sequence[Row],
    generators: Sequence[Row],
    repeat_scores: Mapping[tuple[str, str], Sequence[Mapping[str, float]]],
) -> Row | None:
    metric, name = table.metrics[column], table.measured[row]
    if metric not in SCORES:
        return _of_pool(metric, name, arms, generators)
    arm = _arm(name, arms)
    if arm is None:
        return None
    cell = _of_arm(metric, arm, repeat_scores.get((arm["phase"], arm["arm"]), ()))
    if cell is not None and _in_percent(table, column):
        cell |= {key: cell[key] and 100.0 * cell[key] for key in ("value", "low", "high")}
    return cell


def _in_percent(table: PublishedTable, column: str) -> bool:
    """Papers give accuracy in percent and recall as a share, in one table: the column's own numbers tell."""
    place = table.columns.index(column)
    return table.percent and (
        column in table.proportions or any((cells[place] or 0) > 1 for cells in table.rows.values())
    )


def _arm(name: str, arms: Sequence[Row]) -> Row | None:
    """The arm `name`, or the best arm of the generator `name`; that of the locked test if it came there."""
    scored = [arm for arm in arms if arm["mean"] is not None]
    named = [arm for arm in scored if arm["arm"] == name]
    found = named or [arm for arm in scored if arm["generator"] == name and arm["role"] == "candidate"]
    return max(found, key=lambda arm: (arm["phase"] == "confirm", arm["mean"]), default=None)


def _of_arm(metric: str, arm: Row, repeats: Sequence[Mapping[str, float]]) -> Row | None:
    key = _SAME.get(metric, metric)
    split = "locked test" if arm["phase"] == "confirm" else "val: selection, no evidence"
    what = f"{metric.replace('_', ' ')} of {arm['arm']} ({split})"
    if key == arm["metric"]:
        num = len(arm["repeats"])
        return {"value": arm["mean"], "low": arm["low"], "high": arm["high"], "n": num, "what": what}
    values = [scores[key] for scores in repeats if key in scores]
    if not values:
        return None
    mean, low, high = mean_interval(values)
    over = "; interval over training runs only" if low is not None else ""
    return {"value": mean, "low": low, "high": high, "n": len(values), "what": what + over}


def _of_pool(metric: str, name: str, arms: Sequence[Row], generators: Sequence[Row]) -> Row | None:
    """The number called `metric` or `metric_<space>...` of the pool `name`, of the generator or of the arm's one."""
    maker = next((arm["generator"] or "" for arm in arms if arm["arm"] == name), name)
    for row in generators:
        for found in row["measured"] if maker in (row["label"], row.get("name", "")) and maker else ():
            if found["value"] is not None and (found["name"] == metric or found["name"].startswith(f"{metric}_")):
                return {
                    **{key: found[key] for key in ("value", "low", "high")},
                    "n": 1,
                    "what": f"{found['name']} (val)",
                }
    return None
