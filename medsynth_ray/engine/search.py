"""Proposes a generator's settings in waves: a pure function of the seed and of what earlier waves measured."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medsynth_ray.sections import SearchConfig
from medsynth_ray.seeds import derive, rng
from medsynth_ray.space import Choice, IntRange, LogUniform, Space, Uniform

Values = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """One finished proposal: its quality at each rung that it reached (None: no number there), in rung order."""

    values: Values
    quality: tuple[float | None, ...]
    finished: bool
    """Whether it was promoted to the last rung."""


def num_waves(search: SearchConfig) -> int:
    """Waves of `search.batch` proposals that make `search.trials`."""
    return math.ceil(search.trials / search.batch)


def ask(search: SearchConfig, space: Mapping[str, Space], wave: int, told: Sequence[Told], seed: int) -> list[Values]:
    """The proposals of one wave; fewer or none when a grid is used up."""
    first = wave * search.batch
    count = min(search.batch, search.trials - first)
    if search.method == "grid":
        return _grid(space, search.trials)[first : first + count]
    if search.method == "random":
        return [_random(space, derive(seed, "random", first + i)) for i in range(count)]
    return _optuna(space, count, told, derive(seed, "optuna", wave))


def _random(space: Mapping[str, Space], seed: int) -> Values:
    draw = rng(seed)
    return {name: space[name].sample(draw) for name in sorted(space)}


def _grid(space: Mapping[str, Space], trials: int) -> list[Values]:
    """Every combination of evenly spaced values, as many to a field as `trials` allows, at least two."""
    numeric = [name for name in space if not isinstance(space[name], Choice)]
    fixed = math.prod(len(space[name].grid(0)) for name in space if name not in numeric)
    each = max(2, int((trials / fixed) ** (1 / len(numeric)) + 1e-9)) if numeric else 0
    names = sorted(space)
    return [dict(zip(names, v, strict=True)) for v in itertools.product(*(space[n].grid(each) for n in names))][:trials]


def _optuna(space: Mapping[str, Space], count: int, told: Sequence[Told], seed: int) -> list[Values]:
    """Tree-structured Parzen estimator (Bergstra et al. 2011, in Optuna), rebuilt from what was measured."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: _distribution(space[name]) for name in sorted(space)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed % 2**32, n_startup_trials=4, constant_liar=True, multivariate=len(distributions) > 1
        )
        study = optuna.create_study(sampler=sampler, direction="minimize")
        for item in told:
            study.add_trial(_as_trial(item, distributions))
        return [study.ask(distributions).params for _ in range(count)]


def _as_trial(item: Told, distributions: dict[str, Any]) -> Any:
    from optuna.trial import TrialState, create_trial

    known = {step: value for step, value in enumerate(item.quality) if value is not None}
    if not known or item.quality[-1] is None:  # failed or rejected by a gate: no reason to go there again
        return create_trial(state=TrialState.FAIL, params=item.values, distributions=distributions)
    if item.finished and item.quality[-1] is not None:
        return create_trial(value=known[max(known)], params=item.values, distributions=distributions)
    return create_trial(
        state=TrialState.PRUNED, params=item.values, distributions=distributions, intermediate_values=known,
        value=known[max(known)],
    )  # fmt: skip


def _distribution(space: Space) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match space:
        case Uniform():
            return FloatDistribution(space.low, space.high)
        case LogUniform():
            return FloatDistribution(space.low, space.high, log=True)
        case IntRange():
            return IntDistribution(space.low, space.high, log=space.log)
        case Choice():
            return CategoricalDistribution(space.values)
