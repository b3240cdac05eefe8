"""Runs one job on a bench and says what came out. Imports no ray."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from medsynth_ray import trial
from medsynth_ray.engine.bench import Bench, versions
from medsynth_ray.engine.plan import Job
from medsynth_ray.engine.store import Store
from medsynth_ray.errors import AuditError, ConfigError, DataLeak, Stopped


def run_job(bench: Bench, job: Job) -> dict[str, Any]:
    """Compute and record a job. `outcome` is "done", "stopped", "user" (the sweep must stop) or "failed"."""
    try:
        started = time.time()
        record = bench.store.record(job.unit)
        if record is None:
            record = bench.store.ensure(job.unit, lambda folder: (_compute(bench, job), _meta(started)))
    except Stopped:
        return {"outcome": "stopped"}
    except (ConfigError, AuditError, DataLeak) as error:
        return {"outcome": "user", "error": type(error).__name__, "message": str(error)}
    except Exception as error:  # the border of a trial: its failure is recorded with its message, the sweep goes on
        text = "".join(traceback.format_exception(error))[-4000:]
        return {"outcome": "failed", "error": type(error).__name__, "message": str(error)[:500], "traceback": text}
    return {"outcome": "done", "record": record}


def _compute(bench: Bench, job: Job) -> dict[str, Any]:
    result: dict[str, Any] = trial.KINDS[job.kind](bench, **job.args)  # type: ignore[operator]
    return result


def _meta(started: float) -> dict[str, Any]:
    return {"started": round(started, 3), "seconds": round(time.time() - started, 3), "versions": versions()}


def stop_asked(store: Store, sweep_id: str, epoch: int) -> Callable[[], bool]:
    """A question for workers: does the driver ask to stop, or does a newer one lead?"""

    def ask() -> bool:
        state = store.read_json(f"sweep/{sweep_id}/heartbeat.json") or {}
        leads = state.get("epoch", epoch)
        return bool(leads > epoch or (leads == epoch and state.get("stop")))

    return ask
