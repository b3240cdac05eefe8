"""Tries failed trials of one class again: `medsynth sweep retry`."""

from __future__ import annotations

from typing import Any

from medsynth_ray.driver import Sweep
from medsynth_ray.engine.store import Unit
from medsynth_ray.errors import TrialsFailed

Row = dict[str, Any]


def fault_class(error: str, message: str) -> str:
    """Class of a failure, by the name of its exception and its message: diverged | oom | worker | error."""
    if error == "Diverged" or message.startswith("diverged"):
        return "diverged"
    if error == "WorkerDied":
        return "worker"
    if error in ("MemoryError", "OutOfMemoryError") or "out of memory" in message.lower():
        return "oom"
    return "error"


def retry(sweep: Sweep, fault: str = "all", **callbacks: Any) -> Row:
    """Run a sweep again, where of the failed trials only those of class `fault` ("all": every one) are tried again.

    callbacks: `progress`, `on_schedule`, `on_start`, `on_end` of `Sweep.run`.

    Returns:
        `tried`, a row for each with `job`, `key`, `fault`, and what it said `before` and says `after`; `left`, the
        failed trials of other classes; `exit_code`, 5 if some trials failed. Without a trial to try, nothing runs.

    Raises:
        MedsynthError: as `Sweep.run` does, but for TrialsFailed.
    """
    rows, units = _failed(sweep)
    chosen = [row for row in rows if fault in ("all", row["fault"])]
    left = [row for row in rows if row not in chosen]
    problem = None
    if chosen:
        try:
            sweep.run(
                redo=[units[row["key"]] for row in chosen if row["key"] in units],
                left=[row for row in sweep.failures() if row["key"] in {r["key"] for r in left}],
                **callbacks,
            )
        except TrialsFailed as error:
            problem = str(error)
    failures = {row["key"]: row for row in sweep.failures()}
    said = {row["key"]: row for row in _failed(sweep)[0]}
    tried = [{**row, "after": _outcome(sweep, row["key"], said)} for row in chosen]
    return {
        "sweep": sweep.sweep_id, "failed": fault, "tried": tried, "left": left, "problem": problem,
        "verdict": sweep.store.read_json(f"{sweep.folder}/verdict.json"), "exit_code": 5 if failures else 0,
    }  # fmt: skip


def _failed(sweep: Sweep) -> tuple[list[Row], dict[str, Unit]]:
    """Every failed trial, and the units of those that are recorded (diverged fits)."""
    rows, units = [], {}
    for job, record in sweep.recorded():
        if "diverged" in record["result"]:
            units[record["key"]] = job.unit
            rows.append(_row(job.name, record["key"], "Diverged", record["result"]["diverged"]))
    rows += [_row(r["job"], r["key"], r.get("error", ""), r.get("message", "")) for r in sweep.failures()]
    return rows, units


def _row(job: str, key: str, error: str, message: str) -> Row:
    return {"job": job, "key": key, "fault": fault_class(error, message), "before": f"{error}: {message}".strip(": ")}


def _outcome(sweep: Sweep, key: str, failed: dict[str, Row]) -> str:
    if key in failed:
        return str(failed[key]["before"])
    return "not reached" if sweep.store.read(f"trial/{key}/record.json") is None else "done"
