"""PlanSearcher: hands the jobs of a Schedule to Ray Tune in plan order. Tune dispatches, it decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from medsynth_ray.engine.plan import Job, Schedule

Finish = Callable[[Job, dict[str, Any] | None], None]


class PlanSearcher(Searcher):
    """Suggests the next job, None at a barrier, FINISHED at the end or when `admit` refuses.

    admit(job): whether the ledger lets the job start. finish(job, result): called when its trial ended; `result` is
    what the trial reported, None if it died.
    """

    def __init__(self, schedule: Schedule, admit: Callable[[Job], bool], finish: Finish) -> None:
        super().__init__()
        self._schedule, self._admit, self._finish = schedule, admit, finish
        self._jobs: dict[str, Job] = {}
        self._held: Job | None = None
        self.refused = False

    def suggest(self, trial_id: str) -> Any:
        """The config of the next trial."""
        if self._schedule.done or self.refused:
            return Searcher.FINISHED
        job = self._schedule.next()
        if job is None:
            return None if self._schedule.num_out() else Searcher.FINISHED
        if not self._admit(job):
            self.refused = True
            return Searcher.FINISHED
        self._jobs[trial_id] = job
        return {"kind": job.kind, "name": job.name, "args": job.args, "inputs": job.inputs}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Give the schedule what came out."""
        job = self._jobs.pop(trial_id, None)
        if job is not None:
            self._finish(job, None if error else result)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher, but a resume never reads it; the state is in the store."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> PlanSearcher:
        return self

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the state is in the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a resume builds the plan again and skips what is recorded."""
