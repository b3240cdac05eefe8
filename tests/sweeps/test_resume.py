"""Kill anything, run the same command again; any number of workers gives the same records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runner import Runner, kill_when

pytestmark = pytest.mark.timeout(900)


def content(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What of records must not depend on where and when they were made."""
    return {unit: (r["inputs"], r["files"], r["result"]) for unit, r in records.items()}


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return sorted(unit for unit in {*ours, *theirs} if ours.get(unit) != theirs.get(unit))


def test_the_mini_sweep_searches_halves_and_concludes(reference: Runner) -> None:
    decisions = {p.stem.rsplit("-", 1)[0] for p in reference.store.glob("sweep/*/decision/*.json")}
    assert {"ask-gaussian-0", "ask-gaussian-1", "promote-gaussian-1-0", "promote-gaussian-1-1", "winners"} <= decisions
    kinds = {unit.split("/")[0] for unit in reference.records()}
    assert kinds == {"data", "shown", "features", "fit", "quality", "curve", "shard", "kept", "score", "trial"}
    assert b'"word":"' in reference.verdict()


def test_one_worker_gives_the_same_records_as_two(reference: Runner, tmp_path: Path) -> None:
    alone = Runner(tmp_path)
    alone.run("runtime.workers=1")
    assert differences(content(alone.records()), content(reference.records())) == []
    assert alone.verdict() == reference.verdict()


def test_killed_three_times_it_ends_with_the_same_verdict(reference: Runner, tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    moments = {
        "fit": lambda: sum(1 for _ in runner.store.glob("fit/*/record.json")) >= 3,
        "mix": lambda: sum(1 for _ in runner.store.glob("score/*/record.json")) >= 5,
        "confirm": lambda: sum(1 for _ in runner.store.glob("score/*/record.json")) >= 40,
    }
    finished: dict[str, dict[str, Any]] = {}
    for moment in moments.values():
        kill_when(runner.start("runtime.workers=2"), moment)
        now = runner.records()
        assert {unit: now[unit] for unit in finished} == finished, "a finished unit's record changed"
        finished = now
    runner.run("runtime.workers=2")
    end = runner.records()
    assert runner.verdict() == reference.verdict()
    assert differences(content(end), content(reference.records())) == []
    assert {unit: end[unit] for unit in finished} == finished, "a finished unit's record changed"
    again = [unit for unit in finished if end[unit]["files"] and runner.attempts(unit) != [end[unit]["attempt"]]]
    assert again == [], "finished units were computed again"


def test_a_finished_sweep_only_reads(reference: Runner) -> None:
    before = reference.records()
    printed = reference.run("runtime.workers=2")
    assert reference.records() == before
    assert printed["verdict"]["word"] in {"helps", "harms", "no_evidence", "cannot_tell"}
