"""Stands in for Ray in `Sweep.run`: trials run one by one in this process, and some of them fail as told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from medsynth_ray.engine.bench import Bench
from medsynth_ray.engine.plan import Job, Schedule
from medsynth_ray.engine.store import Record, Store
from medsynth_ray.engine.tune import Ended
from medsynth_ray.engine.work import run_job


@dataclass
class WithoutRay:
    """`run` takes the place of `tune.run`. failing: start of a trial's name -> (error, message)."""

    failing: dict[str, tuple[str, str]] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)

    def run(self, schedule: Schedule, config: Any, store: Store, splits: Any, ledger: Any, **callbacks: Any) -> Ended:
        bench, ended = Bench(config, store, splits), Ended()
        while (job := schedule.next()) is not None:
            self.started.append(job.name)
            schedule.finish(job, self._record(bench, job, ended))
        return ended

    def _record(self, bench: Bench, job: Job, ended: Ended) -> Record | None:
        for name, (error, message) in self.failing.items():
            if job.name.startswith(name):
                ended.failures.append({"job": job.name, "key": job.unit.key, "error": error, "message": message})
                return None
        done = run_job(bench, job)
        assert done["outcome"] == "done", done
        record: Record = done["record"]
        return record
