"""CPU of the whole machine that a trivial mix trial costs, its record, ledger events and journal entry included.

Each trial mixes 60 real with some synthetic images and fits `majority`, which costs nothing. The machine's CPU time is
read from /proc/stat after the first trials (imports, actors) and after the last, so run it on an idle machine. The peer
is a plain Ray Tune function trainable, with new actors as is its default, measured in the same process afterwards.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from medsynth_ray.config import SweepConfig
from medsynth_ray.driver import Sweep
from medsynth_ray.engine import tune
from medsynth_ray.engine.journal import Journal
from medsynth_ray.engine.ledger import Ledger
from medsynth_ray.engine.plan import Schedule, Steps
from medsynth_ray.sweep import Plan

TARGET_S = 0.1
WARM = 8


def machine_cpu_s() -> float:
    """User, nice and system seconds of all cores since boot."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return sum(int(fields[i]) for i in (1, 2, 3)) / os.sysconf("SC_CLK_TCK")


def config(store: str, num: int) -> SweepConfig:
    """A sweep of one pool."""
    return SweepConfig.model_validate({
        "name": f"overhead-{num}", "store": store, "tracking": {"enabled": False},
        "data": {"adapter": "phantom", "resolution": 16, "size_px": 16, "num_images": 120},
        "split": {"val_share": 0.25, "test_share": 0.25}, "generators": {"gaussian": None}, "gates": {},
        "mix": {"ratios": [0.25], "classifier": "majority"}, "confirm": {"classifier": "majority"},
        "fit": {"quality": {"num_images": 20}},
    })  # fmt: skip


class MixOnly(Plan):
    """One pool, then `num` trials of one repeat each: every one has a unit of its own to compute and record."""

    num = 0

    def steps(self) -> Steps:
        """Pool, then mix."""
        yield [self._pool("gaussian", self.jobs.arm("gaussian", {}), "candidate")]
        key = self.pools[0]["result"]["unit"]
        yield [
            self.jobs.score(f"repeat {i}", pool=key, mixer="add", ratio=0.25, phase="mix", repeats=[i])
            for i in range(self.num)
        ]


def ours(num: int) -> tuple[float, float]:
    """CPU and wall seconds of a trial among `num`."""
    with tempfile.TemporaryDirectory() as store:
        sweep = Sweep(config(store, num))
        data = sweep.data()
        base = sweep._plan(data, writable=True)
        plan = MixOnly(base.config, base.jobs, base.decisions, base.counts)
        plan.num = num
        journal = Journal(sweep.store, sweep.sweep_id, data.class_names, real_images=True)
        schedule = Schedule(plan.steps(), sweep._lookup, journal.add)
        marks: list[tuple[int, float, float]] = []

        def on_end(job: Any) -> None:
            marks.append((len(marks), machine_cpu_s(), time.monotonic()))

        ledger = Ledger(sweep.store, sweep.sweep_id)
        ledger.lead()
        splits = {name: data.part(name) for name in ("train", "val", "test")}
        ended = tune.run(schedule, sweep.config, sweep.store, splits, ledger, on_end=on_end)
        ledger.release()
    assert not ended.failures, ended.failures[0]
    assert len(marks) == num + 1, f"{len(marks)} trials ended, not {num + 1}"
    (first, cpu_0, wall_0), (last, cpu_1, wall_1) = marks[WARM], marks[-1]
    return (cpu_1 - cpu_0) / (last - first), (wall_1 - wall_0) / (last - first)


def peer(num: int = 12) -> float:
    """CPU seconds of a trial of a plain function trainable."""
    import ray
    from ray import tune as ray_tune

    def trivial(settings: dict[str, Any]) -> None:
        ray_tune.report({"score": settings["x"]})

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    try:
        with tempfile.TemporaryDirectory() as folder:
            settings = {"param_space": {"x": ray_tune.grid_search(list(range(num)))}}
            options = {"run_config": ray_tune.RunConfig(storage_path=folder, verbose=0), **settings}
            ray_tune.Tuner(trivial, **options).fit()
            before = machine_cpu_s()
            ray_tune.Tuner(trivial, **options).fit()
            return (machine_cpu_s() - before) / num
    finally:
        ray.shutdown()


def main() -> int:
    """Print the figures; with --check, 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--most", type=int, default=1000, help="trials of the long run")
    arguments = parser.parse_args()
    os.environ["RAY_AUTH_MODE"] = "disabled"
    short_cpu, short_wall = ours(100)
    print(f"100 trials: {short_cpu:.4f} CPU s, {short_wall:.4f} s wall each")
    long_cpu, long_wall = ours(arguments.most)
    print(f"{arguments.most} trials: {long_cpu:.4f} CPU s, {long_wall:.4f} s wall each")
    plain = peer()
    holds = short_cpu <= TARGET_S and long_cpu <= short_cpu * 1.05
    print(
        f"mix_trial_overhead: {short_cpu:.3f} CPU s per trial at 100, {long_cpu:.3f} at {arguments.most} "
        f"(target <= {TARGET_S:g}, not more at {arguments.most}; peer plain Tune function trainable {plain:.2f})"
    )
    return 0 if holds or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
