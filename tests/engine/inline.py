"""Runs a sweep's plan in this process, without Ray: for tests of what trials and phases do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsynth_ray.config import SweepConfig
from medsynth_ray.driver import Sweep, splits_of
from medsynth_ray.engine.bench import Bench
from medsynth_ray.engine.plan import Schedule
from medsynth_ray.engine.work import run_job
from medsynth_ray.results import SweepResult

TINY_SPACE = {"use": "efficientnet_lite0", "config": {"resolution": 32}}


def config(store: Path, **sections: Any) -> SweepConfig:
    """A sweep of a second or two; `sections` replace whole sections."""
    base = {
        "name": "tiny",
        "store": str(store),
        "tracking": {"enabled": False},
        "data": {"adapter": "phantom", "resolution": 16, "size_px": 16, "num_images": 200},
        "split": {"val_share": 0.25, "test_share": 0.25},
        "generators": {"gaussian": None},
        "gates": {},
        "fit": {"quality": {"num_images": 40, "space": TINY_SPACE}, "shard_images": 16},
        "mix": {"ratios": [0.25, 0.5], "classifier": "majority", "repeats": 2},
        "confirm": {"classifier": "majority", "repeats": 6, "learning_curve": []},
        "verdict": {"accept_underpowered": True, "pilot_repeats": 0},
    }
    return SweepConfig.model_validate({**base, **sections})


def run(sweep_config: SweepConfig, *, fail: str = "") -> SweepResult:
    """Run to the end; trials whose name begins with `fail` fail."""
    sweep = Sweep(sweep_config)
    data = sweep.data()
    plan = sweep._plan(data, writable=True)
    bench = Bench(sweep_config, sweep.store, splits_of(sweep_config, data))
    schedule = Schedule(plan.steps(), sweep._lookup)
    while (job := schedule.next()) is not None:
        said = {"outcome": "failed"} if fail and job.name.startswith(fail) else run_job(bench, job)
        assert said["outcome"] in ("done", "failed"), said
        assert fail or said["outcome"] == "done", said.get("traceback")
        schedule.finish(job, said.get("record"))
    assert schedule.done
    return sweep._result(data, plan, schedule)
