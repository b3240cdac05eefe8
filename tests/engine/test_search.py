"""Proposals are a pure function of the seed and of what was told."""

from __future__ import annotations

import pytest

from medsynth_ray.engine.search import Told, ask, num_waves
from medsynth_ray.sections import SearchConfig
from medsynth_ray.space import Choice, IntRange, Space, Uniform

SPACE: dict[str, Space] = {
    "k": IntRange(low=2, high=64, log=True),
    "s": Uniform(low=0, high=1),
    "kind": Choice(values=("a", "b")),
}


@pytest.mark.parametrize("method", ["optuna", "random", "grid"])
def test_the_same_question_has_the_same_answer(method: str) -> None:
    search = SearchConfig(method=method, trials=8, batch=4)  # type: ignore[arg-type]
    told = [
        Told({"k": 4, "s": 0.5, "kind": "a"}, (0.3, 0.2), True),
        Told({"k": 9, "s": 0.1, "kind": "b"}, (0.9,), False),
    ]
    first, again = ask(search, SPACE, 1, told, 7), ask(search, SPACE, 1, told, 7)
    assert first == again
    assert len(first) == 4
    assert all(set(values) == set(SPACE) for values in first)


@pytest.mark.parametrize("method", ["optuna", "random"])
def test_another_wave_and_another_seed_ask_for_something_else(method: str) -> None:
    search = SearchConfig(method=method, trials=8, batch=4)  # type: ignore[arg-type]
    assert ask(search, SPACE, 0, [], 7) != ask(search, SPACE, 1, [], 7)
    assert ask(search, SPACE, 0, [], 7) != ask(search, SPACE, 0, [], 8)


def test_the_last_wave_is_as_long_as_trials_allow() -> None:
    search = SearchConfig(trials=6, batch=4)
    assert num_waves(search) == 2
    assert [len(ask(search, SPACE, wave, [], 1)) for wave in range(2)] == [4, 2]


def test_a_grid_holds_each_combination_once_and_ends() -> None:
    search = SearchConfig(method="grid", trials=8, batch=3)
    waves = [ask(search, SPACE, wave, [], 1) for wave in range(4)]
    every = [tuple(sorted(v.items())) for wave in waves for v in wave]
    assert len(every) == len(set(every)) == 8
    assert waves[3] == []


def test_optuna_goes_where_it_was_good_and_not_where_a_gate_rejected() -> None:
    search = SearchConfig(trials=400, batch=40)
    space: dict[str, Space] = {"s": Uniform(low=0, high=1)}
    good = [Told({"s": 0.8 + i / 200}, (0.1 + i / 1000,), True) for i in range(10)]
    poor = [Told({"s": 0.5 + i / 100}, (0.9,), True) for i in range(20)]
    rejected = [Told({"s": 0.1 + i / 200}, (0.01, None), True) for i in range(10)]
    asked = [values["s"] for values in ask(search, space, 1, [*good, *poor, *rejected], 3)]
    assert sum(0.7 < s < 0.95 for s in asked) > sum(s < 0.3 for s in asked)
