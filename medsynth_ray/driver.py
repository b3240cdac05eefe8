"""Sweep: opens data and store, runs what is missing, concludes. The phases themselves are in `sweep.py`."""

from __future__ import annotations

import contextlib
import functools
import platform
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from medsynth_ray import yamlfile
from medsynth_ray.config import SweepConfig
from medsynth_ray.engine import weights
from medsynth_ray.engine.bench import versions
from medsynth_ray.engine.jobs import Jobs
from medsynth_ray.engine.journal import Journal
from medsynth_ray.engine.ledger import Ledger, heartbeat, read_spent
from medsynth_ray.engine.plan import Decisions, Job, Schedule
from medsynth_ray.engine.store import Record, Store, Unit
from medsynth_ray.errors import AuditError, BudgetExceeded, ConfigError, TrialsFailed, Underpowered
from medsynth_ray.images import ImageSet
from medsynth_ray.sections import num_workers
from medsynth_ray.seeds import derive
from medsynth_ray.sweep import Plan

if TYPE_CHECKING:
    from medsynth_ray.data.dataset import Dataset
    from medsynth_ray.engine.tune import Ended
    from medsynth_ray.estimate import Estimate
    from medsynth_ray.results import SweepResult
    from medsynth_ray.stats.power import Power
    from medsynth_ray.stats.primary import Primary

Progress = Callable[[int, int, str], None]


class Sweep:
    """One sweep file with its store.

    Raises:
        ConfigError: a component or one of its settings is wrong.
    """

    def __init__(self, config: SweepConfig, *, command: Sequence[str] = ()) -> None:
        config.check_components()
        self.config, self.store = config, Store(config.store)
        self.sweep_id, self.folder = config.sweep_id, f"sweep/{config.sweep_id}"
        self.command = list(command)
        self._data: Dataset | None = None

    @property
    def arguments(self) -> str:
        """Sweep file and overrides as typed, for the next command."""
        return quoted([word for word in self.command[2:] if word != "--yes"])

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a sweep file; overrides are `key.sub=value`.

        Raises:
            ConfigError: the file, a key or a value is wrong.
        """
        command = ["medsynth", "run", str(path), *(word for o in overrides for word in ("-s", o)), "--yes"]
        return cls(yamlfile.load(path, overrides), command=command)

    # --- data

    def data(self, progress: Progress | None = None) -> Dataset:
        """The frozen data set: decoded, audited and split once, then read from the store.

        Raises:
            AuditError: the images cannot be used, or they changed since this sweep began.
        """
        from medsynth_ray.data import dataset

        if self._data is None:
            unit = Unit("data", dataset.source_key(self.config.data, self.config.split))
            record = self.store.ensure(unit, lambda folder: self._decode(folder, progress))
            with self.store.folder(record) as folder:
                self._data = dataset.Dataset.load(folder)
        return self._data

    def _decode(self, folder: Path, progress: Progress | None) -> tuple[dict[str, Any], dict[str, Any]]:
        from medsynth_ray.data import dataset

        started = time.time()
        found = dataset.prepare(
            self.config.data, self.config.split, num_threads=num_workers(self.config.runtime), progress=progress
        )
        found.save(folder)
        result = {"fingerprint": found.fingerprint, "counts": found.counts(), "class_names": list(found.class_names)}
        return result, {"started": started, "seconds": round(time.time() - started, 3), "versions": versions()}

    def _freeze(self, data: Dataset) -> None:
        """Tie the sweep to this data: what is decided on one set of images is not continued on another."""
        frozen = Decisions(self.store, self.sweep_id).decide("data", [], lambda: data.fingerprint)
        if frozen != data.fingerprint:
            raise AuditError(
                f"the images changed since sweep {self.sweep_id} began (fingerprint {frozen[:12]} then, "
                f"{data.fingerprint[:12]} now{self._what_changed(frozen)}); bring them back, or start anew with "
                "`-s name=...`"
            )

    def _what_changed(self, fingerprint: str) -> str:
        """`: 2 changed: a, b; 1 added: c` since the data of that fingerprint were decoded, if they are still known."""
        from medsynth_ray.data import audit, dataset

        for key in self.store.list("data"):
            record = self.store.read_json(f"data/{key}/record.json")
            if record is not None and record["result"]["fingerprint"] == fingerprint:
                with self.store.folder(record) as folder:
                    since = dataset.changed(self.config.data, dataset.Dataset.load(folder))
                texts = [f"{len(ids)} {what}: {audit.listed(ids)}" for what, ids in since.items() if ids]
                return "".join(f": {text}" if i == 0 else f"; {text}" for i, text in enumerate(texts))
        return ""

    # --- plan

    def power(self, measured: dict[str, Any] | None = None) -> Power:
        """What difference the locked test and the repeats can show.

        measured: the row of the pilot; None: by what the sweep file assumes.
        """
        from medsynth_ray.engine.bench import load_npy
        from medsynth_ray.stats.power import pilot, plan_power

        data = self.data()
        test, verdict, primary = data.part("test"), self.config.verdict, primary_of(self.config, data.class_names)
        groups = [len(np.unique(test.groups[test.labels == c])) for c in range(test.num_classes)]
        found = None
        if measured is not None and measured["result"] is not None:
            records = [
                self.store.read_json(f"score/{key}/record.json") for key in measured["result"]["scores"].values()
            ]
            probs = np.stack([load_npy(self.store.file(record, "probs.npy")) for record in records])
            found = pilot(probs, data.part("val").labels, primary)
        return plan_power(
            test.counts(), group_counts=groups, repeats=self.config.confirm.repeats, effect=verdict.effect,
            discordance=verdict.discordance, repeat_sd=verdict.repeat_sd, primary=primary, pilot=found,
            alpha=0.05 / self.config.confirm.winners,
        )  # fmt: skip

    def estimate(self, progress: Progress | None = None) -> Estimate:
        """What a run would do from here."""
        from medsynth_ray.estimate import estimate

        data = self.data(progress)
        self._check_names(data)
        return estimate(self, self._plan(data, writable=False), data)

    def _plan(self, data: Dataset, *, writable: bool) -> Plan:
        splits = splits_of(self.config, data)
        fingerprints = {name: images.fingerprint for name, images in splits.items()}
        decisions = Decisions(self.store, self.sweep_id, writable=writable)
        return Plan(
            self.config, Jobs(self.config, fingerprints), decisions, splits["train"].counts(),
            metric=primary_of(self.config, data.class_names).key,
            check=self._check_pilot if writable else lambda pilot: None,
        )  # fmt: skip

    # --- run

    def run(
        self,
        *,
        progress: Progress | None = None,
        on_schedule: Callable[[Schedule], None] = lambda schedule: None,
        on_start: Callable[[Job], None] = lambda job: None,
        on_end: Callable[[Job], None] = lambda job: None,
        redo: Sequence[Unit] = (),
        left: Sequence[dict[str, Any]] = (),
    ) -> SweepResult:
        """Do what is missing, write verdict, report and run.json, and return the result.

        A run that was killed goes on where it was; a finished one only reads.

        redo: trials whose records are removed first; a fit that diverged is recorded and would not be tried again.
        left: rows of `failures` that count as failed and are left alone; all others are tried again.

        Raises:
            WeightsMissing: weights of some component are not on this machine.
            AuditError: the images cannot be used.
            Underpowered: the design cannot see `verdict.effect` and does not accept that.
            SweepLocked: another driver leads this sweep.
            ConfigError: a name in the sweep file is not in the data, or a trial found a setting that cannot work.
            KeyboardInterrupt: interrupted; the same command goes on.
        """
        weights.needed(self.config)
        data = self.data(progress)
        self._check_names(data)
        self._freeze(data)
        self._check_power()
        budget = self.config.budget
        ledger = Ledger(self.store, self.sweep_id, hours=budget.hours, trials=budget.trials)
        ledger.lead()
        try:
            self._forget(redo)
            with self._mirror() as poll:

                def ended(job: Job) -> None:
                    poll()
                    on_end(job)

                return self._run_led(data, ledger, left, on_schedule, on_start, ended)
        finally:
            ledger.release()

    def _run_led(
        self,
        data: Dataset,
        ledger: Ledger,
        left: Sequence[dict[str, Any]],
        on_schedule: Callable[[Schedule], None],
        on_start: Callable[[Job], None],
        on_end: Callable[[Job], None],
    ) -> SweepResult:
        self.store.overwrite(f"{self.folder}/config.yaml", yamlfile.dump(self.config).encode())
        plan = self._plan(data, writable=True)
        journal = Journal(
            self.store, self.sweep_id, data.class_names, metric=plan.metric,
            real_images=self.config.report.real_images,
        )  # fmt: skip
        schedule = Schedule(plan.steps(), self._lookup, journal.add, failed={row["key"] for row in left})
        on_schedule(schedule)
        ended = None
        if not schedule.done:
            for name in ("verdict", "evidence"):  # they would not be of what is recorded now
                self.store.delete(f"{self.folder}/{name}.json")
            from medsynth_ray.engine import tune

            splits = splits_of(self.config, data)
            ended = tune.run(
                schedule, self.config, self.store, splits, ledger,
                weights=weights.handed_out(self.config, self.store), on_start=on_start, on_end=on_end,
            )  # fmt: skip
            ended.failures[:0] = left
        result = self._result(data, plan, schedule)
        result.write(self.command, ended)
        if schedule.done:
            journal.close()
        self._raise_for(schedule, ended, result)
        return result

    def _lookup(self, job: Job) -> Record | None:
        return self.store.record(job.unit)

    def _forget(self, trials: Sequence[Unit]) -> None:
        for unit in trials:
            self.store.delete(f"{self.folder}/runs/{unit.key}.json")  # written anew, or MLflow would keep the old one
            self.store.remove(unit)

    def failures(self) -> list[dict[str, Any]]:
        """Trials that failed and have no record, as the last run wrote them: rows with job, key, error, message."""
        run = self.store.read_json(f"{self.folder}/run.json") or {}
        return [row for row in run.get("failures", []) if self.store.read(f"trial/{row['key']}/record.json") is None]

    def looks(self) -> list[str]:
        """The sweeps of this store that have opened this locked test, whatever the number of arms they confirmed.

        Raises:
            AuditError: the images cannot be used.
        """
        found = self.store.list(f"look/{self.data().part('test').fingerprint[:32]}")
        return sorted({name.rpartition("-")[0] for name in found})  # <sweep>-<hash of the winner>

    def recorded(self) -> list[tuple[Job, Record]]:
        """Every trial that has a record, as far as the plan is known.

        Raises:
            AuditError: the images cannot be used.
        """
        found: list[tuple[Job, Record]] = []
        self._replay(lambda job, record: found.append((job, record)))
        return found

    def _replay(self, on_record: Callable[[Job, Record], None] | None = None) -> tuple[Plan, Schedule]:
        """The plan as far as records and known failures take it; starts nothing."""
        plan = self._plan(self.data(), writable=False)
        failed = {row["key"] for row in self.failures()}
        return plan, Schedule(plan.steps(), self._lookup, on_record, failed=failed)

    def _check_names(self, data: Dataset) -> None:
        """What only the end of a sweep reads is looked at before anything is spent."""
        from medsynth_ray.details import columns
        from medsynth_ray.readers import read_results

        primary_of(self.config, data.class_names)
        columns(data, self.config.report.subgroups)
        if self.config.report.readers.results is not None:
            read_results(Path(self.config.report.readers.results), self.sweep_id)

    def _check_power(self) -> None:
        """Before anything runs: with a pilot, only what it cannot change."""
        power = self.power()
        if self.config.mode == "rigorous" and (self.config.verdict.pilot_repeats < 2 or power.smallest_p > power.alpha):
            self._refuse(power)

    def _check_pilot(self, pilot: dict[str, Any]) -> None:
        """Before any generator is fitted; a pilot that failed leaves what the sweep file assumes."""
        self._refuse(self.power(pilot))

    def _refuse(self, power: Power) -> None:
        if not power.sufficient and not self.config.verdict.accept_underpowered:
            raise Underpowered(
                f"{power.to_json()['line']} Run it all the same with "
                "-s verdict.accept_underpowered=true (or --accept-underpowered): val and the real-only numbers can "
                "still teach something."
            )

    @contextlib.contextmanager
    def _mirror(self) -> Iterator[Callable[[], None]]:
        """The MLflow mirror beside the block; yields what keeps it alive. It is never in the way of a result."""
        uri = self.mlflow_uri()
        if uri is None:
            yield lambda: None
            return
        from medsynth_ray.tracking.process import Mirror

        mirror = Mirror(self.store.url, self.sweep_id, uri)
        mirror.start()
        try:
            yield mirror.poll
        finally:
            behind = mirror.finish(timeout_s=30)
            mirror.close()
            if behind != 0:
                many = "some runs" if behind is None else f"{behind} runs"
                print(f"{many} are not mirrored to {uri} yet: `medsynth sweep sync` mirrors them", file=sys.stderr)

    def mlflow_uri(self) -> str | None:
        """Where MLflow keeps this sweep; None if tracking is off, or the store is remote and no server is named."""
        tracking = self.config.tracking
        if not tracking.enabled:
            return None
        if tracking.mlflow_uri:
            return tracking.mlflow_uri
        return f"sqlite:///{Path(self.store.root).absolute() / 'mlflow.db'}" if self.store.local else None

    def links(self) -> dict[str, str]:
        """Where this sweep can be seen in MLflow, once `medsynth ui` serves it (or on the server that was named)."""
        links: dict[str, str] = self.store.read_json(f"{self.folder}/mlflow.json") or {}
        return links

    def sync(self, port: int = 5000) -> dict[str, Any]:
        """Mirror what MLflow has not yet; `{mirrored, behind, problem, links, uri}`.

        port: where `medsynth ui` serves a database file; the links begin with it, or with the server that was named.

        Raises:
            ConfigError: tracking is off.
        """
        from medsynth_ray.tracking import mirror

        uri = self.mlflow_uri()
        if uri is None:
            raise ConfigError("tracking.enabled is false, or the store is remote and tracking.mlflow_uri is not set")
        named = uri.startswith(("http://", "https://"))
        state = mirror.sync(self.store.url, self.sweep_id, uri, base_url=None if named else f"http://127.0.0.1:{port}")
        return {
            "mirrored": state.mirrored, "behind": state.behind, "problem": state.problem, "links": state.links,
            "uri": uri,
        }  # fmt: skip

    def serve(self, port: int, *, browser: bool = False) -> None:
        """Serve MLflow on localhost until interrupted; on a named server there is nothing to serve.

        browser: open the sweep's charts once the server answers.
        """
        from medsynth_ray.tracking.process import open_page, serve

        uri = self.mlflow_uri()
        page = self.links().get("charts") if browser else None
        if uri is not None and uri.startswith("sqlite:"):
            serve(uri, port, page=page)
        elif page is not None:
            open_page(page)

    def _raise_for(self, schedule: Schedule, ended: Ended | None, result: SweepResult) -> None:
        if ended is None:
            return
        if ended.user_error is not None:
            raise ended.user_error
        if schedule.done and not ended.failures:
            return
        if ended.interrupted:
            raise KeyboardInterrupt
        if ended.refused:
            raise BudgetExceeded(f"{self._cap()}; what is finished is valid: {result.report_path}")
        if ended.failures:
            first = ended.failures[0]
            raise TrialsFailed(
                f"{len(ended.failures)} trials failed, the first: {first['job']}: {first['error']}: {first['message']} "
                f"(all in {self.store.at(self.folder)}/run.json)"
            )
        assert schedule.done, "the schedule stopped without a reason"

    def _cap(self) -> str:
        budget, spent = self.config.budget, read_spent(self.store, self.sweep_id)
        if budget.trials is not None and spent.trials_started >= budget.trials:
            return f"budget.trials = {budget.trials} reached"
        return f"budget.hours = {budget.hours:g} reached" if budget.hours else "stopped"

    # --- results

    def status(self) -> dict[str, Any]:
        """How far the sweep is, what it has used, who leads it; starts nothing and reads no image."""
        from medsynth_ray.estimate import measured_seconds

        spent, beat = read_spent(self.store, self.sweep_id), heartbeat(self.store, self.sweep_id)
        done, seconds = len(self.store.list(f"{self.folder}/runs")), measured_seconds(self, self.sweep_id)
        verdict = self.store.read_json(f"{self.folder}/verdict.json")
        led = "nobody" if beat is None or beat.get("released") else f"process {beat['pid']} on {beat['host']}"
        return {
            "sweep": self.sweep_id, "store": self.store.url, "state": "finished" if verdict else "unfinished",
            "runs_done": done, "trials_started": spent.trials_started, "hours": round(spent.hours, 4), "led_by": led,
            "seconds_per_trial": seconds, "decisions": self.store.list(f"{self.folder}/decision"), "verdict": verdict,
        }  # fmt: skip

    def result(self) -> SweepResult:
        """What is recorded so far; starts nothing.

        Raises:
            AuditError: the images cannot be used.
        """
        plan, schedule = self._replay()
        return self._result(self.data(), plan, schedule)

    def _result(self, data: Dataset, plan: Plan, schedule: Schedule) -> SweepResult:
        from medsynth_ray.results import SweepResult

        return SweepResult(self.config, self.store, data, plan, schedule, self.power(plan.pilot))


def splits_of(config: SweepConfig, data: Dataset) -> dict[str, ImageSet]:
    """The image sets of a sweep by name: train (for classifiers), showable (for generators), val, test."""
    from medsynth_ray.data.split import share_of_groups

    whole, seed = data.part("train"), derive(config.seed, "real_share")

    @functools.lru_cache
    def part(share: float) -> ImageSet:
        return whole if share == 1.0 else whole.take(share_of_groups(whole.labels, whole.groups, share, seed))

    shares = config.data.real_share
    return {
        "train": part(shares.classifier), "showable": part(shares.generator),
        "val": data.part("val"), "test": data.part("test"),
    }  # fmt: skip


def primary_of(config: SweepConfig, class_names: Sequence[str]) -> Primary:
    """The metric that decides.

    Raises:
        ConfigError: `verdict.positive` is no class of the data.
    """
    from medsynth_ray.stats.primary import Primary

    verdict = config.verdict
    if verdict.positive is not None and verdict.positive not in class_names:
        raise ConfigError(f"verdict.positive: no class {verdict.positive!r}; there are {', '.join(class_names)}")
    positive = None if verdict.positive is None else list(class_names).index(verdict.positive)
    return Primary(verdict.metric, verdict.specificity, positive, verdict.positive or "")


def environment() -> dict[str, Any]:
    """Where a run happened: for run.json, never for a verdict."""
    return {"host": socket.gethostname(), "platform": platform.platform(), "versions": versions()}


def quoted(command: Sequence[str]) -> str:
    """A command line to paste into a shell."""
    return shlex.join(command)
