"""What a run would do and take, before it starts: for `medsynth plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medsynth_ray import registry
from medsynth_ray.config import SweepConfig
from medsynth_ray.engine.jobs import CONTROLS
from medsynth_ray.sections import num_workers
from medsynth_ray.sweep import Plan

if TYPE_CHECKING:
    from medsynth_ray.data.dataset import Dataset
    from medsynth_ray.driver import Sweep
    from medsynth_ray.stats.power import Power


@dataclass(frozen=True)
class Estimate:
    """What `plan` says before a run: trials still missing, and what difference the design can detect.

    trials: by kind, what is known now (later phases depend on earlier results, so the fits and mixes are upper bounds).
    seconds_per_trial: by phase, and what they are based on. workers: trials at a time.
    """

    trials: dict[str, int]
    done: int
    seconds_per_trial: dict[str, float]
    basis: str
    workers: int
    power: Power
    counts: dict[str, list[int]]
    class_names: tuple[str, ...]


def estimate(sweep: Sweep, plan: Plan, data: Dataset) -> Estimate:
    """What a run would do from here; `plan` has not started."""
    trials = _upper_bounds(plan)
    own, others = measured_seconds(sweep, sweep.sweep_id), {}
    if set(own) < set(trials):
        sweeps = [name for name in sweep.store.list("sweep") if name != sweep.sweep_id]
        others = {phase: s for name in sweeps for phase, s in measured_seconds(sweep, name).items()}
    guess = guess_seconds(sweep.config, data.counts()["train"])
    known = {**others, **own}
    basis = "measured in this store" if set(known) >= set(trials) else "partly a guess: nothing was measured here yet"
    return Estimate(
        trials, len(sweep.store.list(f"{sweep.folder}/runs")), {**guess, **known}, basis,
        num_workers(sweep.config.runtime), sweep.power(sweep.result().plan.pilot), data.counts(), data.class_names,
    )  # fmt: skip


def _upper_bounds(plan: Plan) -> dict[str, int]:
    config = plan.config
    fits = sum(_max_fits(plan, label) for label in config.generators)
    pools = len(config.generators) * config.fit.keep + len(CONTROLS)
    if config.mode == "as_published":
        own = pools - len(CONTROLS)
        return {"fit": fits, "pool": own, "confirm": 1 + len(plan.mixes()) * own}
    mixes = 1 + len(plan.mixes()) * pools
    reference = plan.jobs.fingerprints["showable"] != plan.jobs.fingerprints["train"]
    matched = config.confirm.winners * (1 + len(CONTROLS))
    confirm = (1 + matched + reference + len(config.confirm.learning_curve)) * config.confirm.repeats
    refits = matched * config.confirm.repeats if config.confirm.about == "method" else 0
    pilot = {"pilot": 1} if config.verdict.pilot_repeats > 1 else {}
    return {**pilot, "fit": fits, "pool": pools + refits, "mix": mixes, "confirm": confirm}


def measured_seconds(sweep: Sweep, sweep_id: str) -> dict[str, float]:
    """Mean seconds of a finished trial of a sweep, by phase; a joined entry of confirm counts its repeats."""
    phases: dict[str, list[float]] = {}
    for name in sweep.store.list(f"sweep/{sweep_id}/runs"):
        entry = sweep.store.read_json(f"sweep/{sweep_id}/runs/{name}")
        repeats = {step for key, _, step, _ in entry["metrics"] if key.startswith("test/")}
        seconds = (entry["end_ms"] - entry["start_ms"]) / 1000 / max(1, len(repeats))
        phases.setdefault(entry["tags"]["stage"], []).append(seconds)
    return {phase: float(np.mean(values)) for phase, values in sorted(phases.items())}


def _max_fits(plan: Plan, label: str) -> int:
    """The most rung units that one generator's search can take."""
    search = plan.config.generators[label].search
    rungs = len(plan.jobs.generator_config(plan.jobs.arm(label, {})).rungs())
    if search is None:
        return rungs
    total, left = 0, search.trials
    while left > 0:
        alive = min(search.batch, left)
        left -= alive
        for _ in range(rungs):
            total += alive
            alive = -(-alive // plan.config.fit.eta)
    return total


def guess_seconds(config: SweepConfig, train_counts: Sequence[int]) -> dict[str, float]:
    """Rough seconds of a trial by phase on one CPU core, for a store in which nothing was measured."""
    scale = (config.data.resolution / 64) ** 2
    images = sum(train_counts)

    def fitting(phase: str) -> float:
        settings = registry.configure("classifiers", getattr(config, phase).classifier)
        epochs = getattr(settings, "num_train_epochs", None)
        return 1.0 if epochs is None else 1.0 + 1.5 * images * epochs * scale / 70  # a ResNet-18 at 64 px

    return {
        "pilot": fitting("confirm") * config.verdict.pilot_repeats, "fit": 5.0 * scale, "pool": 8.0 * scale,
        "mix": fitting("mix") * config.mix.repeats, "confirm": fitting("confirm"),
    }  # fmt: skip
