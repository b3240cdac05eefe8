"""What Ray Tune is handed, and what happens when something breaks while a trial's end is taken in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from medsynth_ray.engine.ledger import Ledger
from medsynth_ray.engine.plan import Job, Schedule, Steps
from medsynth_ray.engine.store import Store
from medsynth_ray.engine.tune import Ended, _searcher
from medsynth_ray.errors import AuditError


def job(name: str) -> Job:
    return Job("fit", name, {}, {"name": name})


def plan() -> Steps:
    yield [job("a"), job("b")]
    yield [job("c")]


def done(value: Any = 1) -> dict[str, Any]:
    return {"said": json.dumps({"outcome": "done", "record": {"result": value}})}


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Schedule, Ledger, Ended, Store]:
    store = Store(str(tmp_path))
    ledger = Ledger(store, "s", trials=10)
    ledger.epoch = 1
    assert ledger._append("lead")
    return Schedule(plan(), lambda _: None), ledger, Ended(), store


def searcher_of(parts: tuple[Schedule, Ledger, Ended, Store], **hooks: Any) -> Any:
    schedule, ledger, ended, store = parts
    nothing = {"on_start": lambda _: None, "on_end": lambda _: None}
    return _searcher(schedule, store, ledger, ended, **{**nothing, **hooks})


def test_jobs_come_in_plan_order_with_none_at_the_barrier(parts: Any) -> None:
    searcher = searcher_of(parts)
    assert [searcher.suggest(t)["name"] for t in ("1", "2")] == ["a", "b"]
    assert searcher.suggest("3") is None
    searcher.on_trial_complete("1", done())
    assert searcher.suggest("3") is None
    searcher.on_trial_complete("2", done())
    assert searcher.suggest("3")["name"] == "c"
    searcher.on_trial_complete("3", done())
    assert searcher.suggest("4") == Searcher.FINISHED
    assert parts[0].done


def test_a_worker_that_died_is_tried_once_more_and_then_failed(parts: Any) -> None:
    searcher = searcher_of(parts)
    assert searcher.suggest("1")["name"] == "a"
    searcher.on_trial_complete("1", None, error=True)
    assert searcher.suggest("2")["name"] == "a"
    searcher.on_trial_complete("2", None, error=True)
    assert [f["error"] for f in parts[2].failures] == ["WorkerDied"]


def test_a_worker_that_died_after_its_record_is_done(parts: Any) -> None:
    schedule, _, ended, store = parts
    searcher = searcher_of(parts)
    searcher.suggest("1")
    store.ensure(job("a").unit, lambda folder: ({"x": 1}, {}))
    searcher.on_trial_complete("1", None, error=True)
    assert not ended.failures
    assert schedule.num_done == 1


def test_what_breaks_in_the_driver_ends_the_run_and_is_kept(parts: Any) -> None:
    def broken(_: Job) -> None:
        raise BrokenPipeError("the terminal is gone")

    searcher = searcher_of(parts, on_end=broken)
    searcher.suggest("1")
    searcher.on_trial_complete("1", done())
    assert isinstance(parts[2].error, BrokenPipeError)
    assert searcher.suggest("2") == Searcher.FINISHED


def test_a_users_error_in_a_trial_stops_the_sweep_with_its_class(parts: Any) -> None:
    searcher = searcher_of(parts)
    searcher.suggest("1")
    said = {"outcome": "user", "error": "AuditError", "message": "an image cannot be read"}
    searcher.on_trial_complete("1", {"said": json.dumps(said)})
    assert isinstance(parts[2].user_error, AuditError)
    assert str(parts[2].user_error) == "a: an image cannot be read"
    assert searcher.suggest("2") == Searcher.FINISHED


def test_a_cap_ends_the_search(parts: Any) -> None:
    parts[1]._cap_trials = 1
    searcher = searcher_of(parts)
    assert searcher.suggest("1")["name"] == "a"
    assert searcher.suggest("2") == Searcher.FINISHED
