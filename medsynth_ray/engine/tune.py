"""Runs a Schedule under Ray Tune: dispatch, resources, reused actors. All decisions are the plan's."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import tune

from medsynth_ray import errors
from medsynth_ray.config import SweepConfig
from medsynth_ray.engine.bench import Bench
from medsynth_ray.engine.ledger import Ledger
from medsynth_ray.engine.plan import Job, Schedule
from medsynth_ray.engine.searcher import PlanSearcher
from medsynth_ray.engine.shelf import RayShelf, ShelfActor
from medsynth_ray.engine.store import Store
from medsynth_ray.engine.work import run_job, stop_asked
from medsynth_ray.errors import ConfigError, DeviceUnavailable, MedsynthError
from medsynth_ray.images import ImageSet
from medsynth_ray.sections import RuntimeConfig, num_workers

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_DISABLE_SIGINT_HANDLER": "1", "TUNE_RESULT_DELIM": "/", "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0", "RAY_DEDUP_LOGS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}  # fmt: skip

_DIED = json.dumps({"outcome": "failed", "error": "WorkerDied", "message": "its worker process died"})


@dataclass
class Ended:
    """How a run of a schedule ended."""

    refused: bool = False
    interrupted: bool = False
    user_error: MedsynthError | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)
    error: BaseException | None = None
    """What broke in the driver itself while a trial's end was taken in; Tune would swallow it."""


@contextlib.contextmanager
def cluster(runtime: RuntimeConfig) -> Iterator[int]:
    """Connect to Ray, or start a local one that ends with the block; yields how many trials fit at a time.

    Raises:
        DeviceUnavailable: the cluster has no CPU for one trial.
    """
    os.environ.update({k: v for k, v in _QUIET.items() if k not in os.environ})
    if ray.is_initialized():
        yield _slots(runtime)
        return
    address = runtime.address or os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # our own, on the loopback interface only
        ray.init(
            num_cpus=num_workers(runtime) * runtime.threads_per_trial, include_dashboard=False, log_to_driver=False,
            object_store_memory=int(runtime.object_store_gib * 2**30), logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )  # fmt: skip
    try:
        yield _slots(runtime)
    finally:
        ray.shutdown()


def _resources() -> dict[str, float]:
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


def _slots(runtime: RuntimeConfig) -> int:
    cores = _resources().get("CPU", 0.0)
    slots = int(cores // runtime.threads_per_trial)
    if slots < 1:
        raise DeviceUnavailable(
            f"runtime.threads_per_trial = {runtime.threads_per_trial}, but the Ray cluster has {cores:g} CPU cores"
        )
    return slots


def run(
    schedule: Schedule,
    config: SweepConfig,
    store: Store,
    splits: dict[str, ImageSet],
    ledger: Ledger,
    *,
    weights: Mapping[str, str] | None = None,
    on_start: Callable[[Job], None] = lambda job: None,
    on_end: Callable[[Job], None] = lambda job: None,
) -> Ended:
    """Run everything that the schedule still misses.

    weights: name -> sha256 of those that trials need; a node that lacks the file takes it from the store.

    Raises:
        DeviceUnavailable: the cluster cannot run one trial.
        Fenced: a newer driver leads the sweep.
    """
    ended = Ended()
    with cluster(config.runtime) as slots, tempfile.TemporaryDirectory(prefix="medsynth-tune-") as scratch:
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots)
        shelf = ShelfActor.remote(store.url)  # type: ignore[attr-defined]
        setting = {
            "config": config.model_dump_json(), "store": store.url, "sweep_id": config.sweep_id, "epoch": ledger.epoch,
            "splits": [ray.put(splits)], "shelf": shelf, "pid": os.getpid(), "weights": dict(weights or {}),
        }  # fmt: skip
        searcher = _searcher(schedule, store, ledger, ended, on_start, on_end)
        trainable = tune.with_resources(
            tune.with_parameters(_trainable, setting=setting), {"CPU": config.runtime.threads_per_trial, **_gpu(slots)}
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=slots,
                reuse_actors=True,
                trial_dirname_creator=_dirname,
            ),
            run_config=tune.RunConfig(name=config.sweep_id, storage_path=scratch, verbose=0),
        )
        try:
            with _watch(ledger, searcher, ended):
                tuner.fit()
        finally:
            ray.kill(shelf)  # on a cluster that lives on, Tune's own references would keep it
    if ended.error is not None:
        raise ended.error
    ended.refused = ended.refused or (searcher.refused and not ended.interrupted and ended.user_error is None)
    return ended


def _gpu(slots: int) -> dict[str, float]:
    gpus = _resources().get("GPU", 0.0)
    return {"GPU": min(1.0, gpus / slots)} if gpus else {}


def _dirname(trial: Any) -> str:
    return str(trial.trial_id)


def _searcher(
    schedule: Schedule,
    store: Store,
    ledger: Ledger,
    ended: Ended,
    on_start: Callable[[Job], None],
    on_end: Callable[[Job], None],
) -> PlanSearcher:
    def admit(job: Job) -> bool:
        try:
            if ended.user_error is not None or not ledger.start(job.unit.key):
                return False
            on_start(job)
        except BaseException as error:  # as in `finish`
            ended.error = ended.error or error
            return False
        return True

    retried: set[str] = set()

    def take_in(job: Job, reported: dict[str, Any] | None) -> None:
        said = json.loads((reported or {}).get("said", _DIED))
        if said.get("error") == "WorkerDied" and (record := store.record(job.unit)) is not None:
            said = {"outcome": "done", "record": record}
        ledger.end(job.unit.key, ok=said["outcome"] == "done")
        on_end(job)
        if said["outcome"] == "stopped":
            searcher.refused = True
            schedule.forget(job)
        elif said["outcome"] == "user":
            kind: type[MedsynthError] = getattr(errors, said["error"], ConfigError)
            ended.user_error = kind(f"{job.name}: {said['message']}")
            searcher.refused = True
            ledger.ask_stop()
            schedule.forget(job)
        elif said.get("error") == "WorkerDied" and job.unit.key not in retried:
            retried.add(job.unit.key)
            schedule.retry(job)
        else:
            if said["outcome"] == "failed":
                told = {k: v for k, v in said.items() if k != "outcome"}
                ended.failures.append({"job": job.name, "key": job.unit.key, **told})
            schedule.finish(job, said.get("record"))

    def finish(job: Job, reported: dict[str, Any] | None) -> None:
        try:
            take_in(job, reported)
        except BaseException as error:  # kept for `run` to raise: Tune swallows what its searcher raises
            ended.error = ended.error or error
            searcher.refused = True

    searcher = PlanSearcher(schedule, admit, finish)
    return searcher


@contextlib.contextmanager
def _watch(ledger: Ledger, searcher: PlanSearcher, ended: Ended) -> Iterator[None]:
    """Stop at the hours cap, and on the first Ctrl-C; a second Ctrl-C kills."""

    def stop() -> None:
        searcher.refused = True
        ledger.ask_stop()

    def interrupted(signum: int, frame: Any) -> None:
        if ended.interrupted:
            raise KeyboardInterrupt
        ended.interrupted = True
        stop()

    def over() -> None:
        ended.refused = True
        stop()

    left = ledger.seconds_left()
    timer = None if left is None else threading.Timer(max(0.0, left), over)
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {s: signal.signal(s, interrupted) for s in (signal.SIGINT, signal.SIGTERM)}
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


_BENCHES: dict[tuple[str, int, int], Bench] = {}


def _trainable(trial_config: dict[str, Any], setting: dict[str, Any]) -> None:
    bench = _bench(setting)
    job = Job(trial_config["kind"], trial_config["name"], trial_config["args"], trial_config["inputs"])
    tune.report({"said": json.dumps(run_job(bench, job))})  # text: Tune hands searchers a flattened dict


def _bench(setting: dict[str, Any]) -> Bench:
    """This process' bench: made once, kept for the actor's next trials."""
    place = (setting["sweep_id"], setting["epoch"], setting["pid"])
    if place not in _BENCHES:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        store = Store(setting["store"])
        config = SweepConfig.model_validate_json(setting["config"])
        stop = stop_asked(store, setting["sweep_id"], setting["epoch"])
        _BENCHES.clear()
        _BENCHES[place] = Bench(
            config, store, ray.get(setting["splits"][0]), shelf=RayShelf(setting["shelf"], store),
            weights=setting["weights"], stop=stop,
        )  # fmt: skip
    return _BENCHES[place]
