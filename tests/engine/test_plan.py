"""The schedule: barriers, plan order, failures, recorded jobs, and the same outcome in any order of completion."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from medsynth_ray.engine.plan import Decisions, Job, Schedule, Steps, promote
from medsynth_ray.engine.store import Store


def job(name: str) -> Job:
    return Job("fit", name, {}, {"name": name})


def record(value: Any) -> dict[str, Any]:
    return {"result": value}


def run(schedule: Schedule, *, slots: int, seed: int = 0, fail: frozenset[str] = frozenset()) -> list[str]:
    """Run jobs on `slots` workers that finish in random order; returns the order of starts."""
    rng, running, started = random.Random(seed), [], []
    while not schedule.done:
        while len(running) < slots and (next_job := schedule.next()) is not None:
            running.append(next_job)
            started.append(next_job.name)
        done = running.pop(rng.randrange(len(running)))
        schedule.finish(done, None if done.name in fail else record(done.name.upper()))
    return started


def halving(prefix: str) -> Steps:
    first = yield [job(f"{prefix}{i}") for i in range(4)]
    second = yield [job(f"{prefix}-up-{v}") for v in sorted(v for v in first if v)[:2]]
    return first, second


def whole() -> Steps:
    a, lone, b = yield [halving("a"), job("lone"), halving("b")]
    last = yield [job("last")]
    return a, lone, b, last


@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_outcome_does_not_depend_on_workers_or_order(slots: int, seed: int) -> None:
    schedule = Schedule(whole(), lambda _: None)
    run(schedule, slots=slots, seed=seed)
    a = (["A0", "A1", "A2", "A3"], ["A-UP-A0", "A-UP-A1"])
    b = (["B0", "B1", "B2", "B3"], ["B-UP-B0", "B-UP-B1"])
    assert schedule.outcome == (a, "LONE", b, ["LAST"])


def test_one_worker_runs_in_plan_order() -> None:
    started = run(Schedule(whole(), lambda _: None), slots=1)
    assert started == [
        "a0",
        "a1",
        "a2",
        "a3",
        "a-up-A0",
        "a-up-A1",
        "lone",
        "b0",
        "b1",
        "b2",
        "b3",
        "b-up-B0",
        "b-up-B1",
        "last",
    ]


def test_a_failed_job_gives_none_and_the_plan_goes_on() -> None:
    schedule = Schedule(whole(), lambda _: None)
    run(schedule, slots=2, fail=frozenset({"a0", "lone"}))
    assert schedule.outcome[0] == ([None, "A1", "A2", "A3"], ["A-UP-A1", "A-UP-A2"])
    assert schedule.outcome[1] is None
    assert {j.name for j in schedule.failed.values()} == {"a0", "lone"}


def test_jobs_that_are_left_alone_fail_without_being_handed_out() -> None:
    left, failing = Schedule(whole(), lambda _: None, failed={job("a0").unit.key}), Schedule(whole(), lambda _: None)
    started, all_started = run(left, slots=1), run(failing, slots=1, fail=frozenset({"a0"}))
    assert started == [name for name in all_started if name != "a0"]
    assert left.outcome == failing.outcome
    assert [j.name for j in left.failed.values()] == ["a0"]


def test_a_record_counts_more_than_an_old_failure() -> None:
    schedule = Schedule(whole(), lambda j: record(j.name.upper()), failed={job("a0").unit.key})
    assert schedule.outcome[0][0][0] == "A0"
    assert schedule.failed == {}


def test_recorded_jobs_are_not_handed_out() -> None:
    seen = []
    schedule = Schedule(whole(), lambda j: record(j.name.upper()), lambda j, r: seen.append(j.name))
    assert schedule.done
    assert schedule.next() is None
    assert schedule.outcome[3] == ["LAST"]
    assert len(seen) == schedule.num_done == schedule.num_seen == 14


def test_a_job_asked_for_twice_runs_once() -> None:
    def plan() -> Steps:
        return (yield [job("x"), job("x"), job("y")])

    schedule = Schedule(plan(), lambda _: None)
    assert run(schedule, slots=3) == ["x", "y"]
    assert schedule.outcome == ["X", "X", "Y"]


def test_a_stopped_job_is_forgotten_and_the_plan_waits() -> None:
    schedule = Schedule(whole(), lambda _: None)
    first = schedule.next()
    assert first is not None
    schedule.forget(first)
    assert schedule.num_out() == 0
    assert not schedule.done


def test_empty_barriers_pass() -> None:
    def plan() -> Steps:
        nothing = yield []
        return nothing

    schedule = Schedule(plan(), lambda _: None)
    assert schedule.done
    assert schedule.outcome == []


def test_many_recorded_brackets_do_not_recurse() -> None:
    def plan() -> Steps:
        for i in range(3000):
            yield [job(str(i))]

    assert Schedule(plan(), lambda j: record(1)).done


@pytest.mark.parametrize(
    ("quality", "keep", "expected"),
    [
        ([("a", 0.3), ("b", 0.1), ("c", 0.2)], 2, ["b", "c"]),
        ([("b", 0.1), ("a", 0.1)], 1, ["a"]),
        ([("a", None), ("b", float("nan")), ("c", 9.0)], 3, ["c"]),
        ([], 1, []),
    ],
)
def test_promote_is_a_pure_ranking(quality: list[tuple[str, float | None]], keep: int, expected: list[str]) -> None:
    assert promote(quality, keep) == expected


def test_decisions_are_read_before_they_are_computed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert Decisions(store, "s").decide("d", [1], lambda: "first") == "first"
    assert Decisions(store, "s").decide("d", [1], lambda: "second") == "first"


def test_other_inputs_are_another_decision(tmp_path: Path) -> None:
    """What was decided while a trial had failed is not taken once the trial was retried."""
    store = Store(str(tmp_path))
    assert Decisions(store, "s").decide("d", [["a", None], ["b", 2.0]], lambda: ["b"]) == ["b"]
    assert Decisions(store, "s").decide("d", [["a", 1.0], ["b", 2.0]], lambda: ["a"]) == ["a"]


def test_a_job_whose_worker_died_is_handed_out_once_more() -> None:
    schedule = Schedule(whole(), lambda _: None)
    first = schedule.next()
    assert first is not None
    schedule.retry(first)
    assert schedule.num_out() == 0
    again = schedule.next()
    assert again is not None
    assert again.name == first.name


def test_read_only_decisions_leave_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert Decisions(store, "s", writable=False).decide("d", [], lambda: 1) == 1
    assert store.list("sweep/s/decision") == []
