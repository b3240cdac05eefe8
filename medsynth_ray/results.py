"""SweepResult: what a sweep found, read from its records. Writes verdict.json, report.html and run.json."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medsynth_ray.config import SweepConfig
from medsynth_ray.data.dataset import Dataset
from medsynth_ray.driver import environment, primary_of, splits_of
from medsynth_ray.engine import pools
from medsynth_ray.engine.bench import Bench, load_npy
from medsynth_ray.engine.ledger import read_spent
from medsynth_ray.engine.plan import Schedule
from medsynth_ray.engine.store import Record, Store, canonical
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Pool
from medsynth_ray.seeds import derive
from medsynth_ray.stats.paired import interval
from medsynth_ray.stats.power import Power
from medsynth_ray.sweep import Plan, Row

if TYPE_CHECKING:
    import pandas as pd

    from medsynth_ray.engine.tune import Ended


class SweepResult:
    """A sweep's results so far; `verdict` is None until every phase is done."""

    def __init__(
        self, config: SweepConfig, store: Store, data: Dataset, plan: Plan, schedule: Schedule, power: Power
    ) -> None:
        self.config, self.store, self.data, self.plan, self.schedule, self.power = (
            config,
            store,
            data,
            plan,
            schedule,
            power,
        )
        self.folder = f"sweep/{config.sweep_id}"

        self.splits = splits_of(config, data)
        self.primary = primary_of(config, data.class_names)

    # --- what came out

    @functools.cached_property
    def verdict(self) -> dict[str, Any] | None:
        """The JSON of verdict.json: a pure function of config, records and decisions. None while unfinished."""
        judged = [row for row in self.plan.confirm if row["role"] not in ("reference", "curve")]
        if not self.plan.complete or any(row["result"] is None and not row["skipped"] for row in judged):
            return None
        from medsynth_ray.conclusion import Conclusion

        return {
            "sweep": self.config.sweep_id, "mode": self.config.mode, **Conclusion(self).to_json(),
            "confirm": [
                self._numbers(row, "test") for row in self.plan.confirm if row["result"] and row["role"] != "curve"
            ],
            "mix": [self._numbers(row, "val") for row in self._mix_rows() if row["result"]],
            "generators": [_slim(row) for row in self.generators()], "data": self.data.fingerprint,
            "class_names": list(self.data.class_names), "counts": self.data.counts(), "power": self.power.to_json(),
        }  # fmt: skip

    @functools.cached_property
    def evidence(self) -> dict[str, Any] | None:
        """What stands in evidence.json beside the verdict: `details.evidence`, with its `learning_curve`."""
        from medsynth_ray.details import evidence, learning_curve

        found = evidence(self)
        return found and {**found, "learning_curve": learning_curve(self)}

    @property
    def arms(self) -> pd.DataFrame:
        """One row for each arm of mix (on val) and confirm (on the locked test)."""
        import pandas as pd

        return pd.DataFrame(self.arm_rows())

    def pool(self, arm: str) -> Pool:
        """The synthetic images that an arm was mixed with, or all that the gates kept of a generator.

        Raises:
            KeyError: no such arm or generator, its gates rejected it, or it is a control (real images made anew).
        """
        row = self.arm_pool(arm)
        whole = pools.load_pool(self._bench, row["key"])
        if row["mixer"] is None:
            return whole
        return whole.first_per_class(self.plan.takes(row["mixer"], row["ratio"]))

    def arm_pool(self, arm: str) -> Row:
        """Pool of an arm or generator: `label`, `key` of its `kept` unit, `mixer` and `ratio` (None: all of it).

        Raises:
            KeyError: see `pool`.
        """
        passed = [p for p in self.plan.pools if p["result"] and p["result"]["passed"] and p["role"] == "candidate"]
        found = {
            p["name"]: {"label": p["label"], "key": p["result"]["unit"], "mixer": None, "ratio": None} for p in passed
        }
        for row in self.plan.mix:
            if row["role"] == "candidate" and row["result"]:
                found[row["arm"]] = {"key": row["pool"], **{k: row[k] for k in ("label", "mixer", "ratio")}}
        if arm not in found:
            names = ", ".join(sorted(found)) or "none"
            raise KeyError(f"no images of {arm!r} (controls and rejected pools are not given out); there are {names}")
        return found[arm]

    def fit_records(self, arm: str) -> list[Record]:
        """The fit units, one for each part, that drew an arm's pool."""
        key = self.arm_pool(arm)["key"]
        shard = self.record(f"shard/{self.record(f'kept/{key}')['inputs']['shards'][0]}")
        return [self.record(f"fit/{fit}") for fit in shard["inputs"]["fits"]]

    def nearest_real(self, images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
        """Row of the nearest image that generators may be shown, int64 (N,), and its distance, float (N,).

        The distance is Euclidean, in the quality space.
        """
        space = self.config.fit.quality.space
        real, synthetic = self._bench.features(self.splits["showable"], space), self._bench.features(images, space)
        squared = (synthetic**2).sum(1)[:, None] + (real**2).sum(1)[None] - 2.0 * synthetic @ real.T
        nearest = squared.argmin(axis=1)
        return nearest, np.sqrt(np.maximum(squared[np.arange(len(nearest)), nearest], 0.0))

    @property
    def report_path(self) -> str:
        """Where report.html lies."""
        return self.store.at(f"{self.folder}/report.html")

    @functools.cached_property
    def _bench(self) -> Bench:
        return Bench(self.config, self.store, self.splits)

    def record(self, path: str) -> Record:
        """The record of the unit at `<kind>/<key>`."""
        record: Record = self.store.read_json(f"{path}/record.json")
        return record

    def probs(self, row: Row, name: str = "probs.npy") -> np.ndarray:
        """Class probabilities (S, N, K) of one arm, in the order of the repeats.

        name: "probs-val.npy" is what a confirmed arm says of val.
        """
        keys = row["result"]["scores"]
        return np.stack([self.array(f"score/{keys[r]}", name) for r in sorted(keys, key=int)])

    def array(self, path: str, name: str) -> np.ndarray:
        """A `.npy` file of the unit at `<kind>/<key>`."""
        return load_npy(self.store.file(self.record(path), name))

    # --- rows

    def _mix_rows(self) -> list[Row]:
        order = {name: i for i, name in enumerate(["", *self.config.generators])}
        return sorted(self.plan.mix, key=lambda r: (order.get(r["label"] or "", 99), r["arm"]))

    def _numbers(self, row: Row, split: str) -> dict[str, Any]:
        held_out = self.data.part(split)
        mean, low, high = interval(
            held_out.labels, held_out.groups, self.probs(row), primary=self.primary,
            seed=derive(self.config.seed, "interval", split, row["arm"]),
        )  # fmt: skip
        repeats = row["result"]["repeats"]
        return {
            "arm": row["arm"], "role": row["role"], "mean": mean, "low": low, "high": high,
            "repeats": [repeats[r][self.primary.key] for r in sorted(repeats, key=int)],
            "num_train": row["result"]["num_train"], "num_synthetic": row["result"]["num_synthetic"],
        }  # fmt: skip

    def arm_rows(self) -> list[dict[str, Any]]:
        """The rows of the report's arms table; see `report.view`."""
        rows = [self._arm_row(row, "mix", "val") for row in self._mix_rows()]
        return rows + [self._arm_row(row, "confirm", "test") for row in self.plan.confirm if row["role"] != "curve"]

    def _arm_row(self, row: Row, phase: str, split: str) -> dict[str, Any]:
        result = row["result"]
        status = "ok" if result else ("skipped" if row["skipped"] else "failed")
        empty: dict[str, Any] = {
            "mean": None,
            "low": None,
            "high": None,
            "repeats": [],
            "num_train": None,
            "num_synthetic": None,
        }
        numbers = self._known_numbers(row, phase, split) if result else empty
        share = numbers["num_synthetic"] / numbers["num_train"] if result else None
        return {
            **numbers, "arm": row["arm"], "role": "candidate" if row["role"] == "winner" else row["role"],
            "generator": row["label"] or "", "mixer": row["mixer"], "ratio": row["ratio"], "phase": phase,
            "split": split, "metric": self.primary.key, "synthetic_share": share,
            "parameters": row["settings"]["parameters"] if row["settings"] else {},
            "cost_s": self._cost(result["units"]) if result else 0.0, "status": status, "reason": row["skipped"],
        }  # fmt: skip

    def _known_numbers(self, row: Row, phase: str, split: str) -> dict[str, Any]:
        known = (self.verdict or {}).get(phase, [])
        return next((dict(n) for n in known if n["arm"] == row["arm"]), None) or self._numbers(row, split)

    def _cost(self, units: Sequence[str]) -> float:
        """Seconds that these units took when they were computed."""
        return round(float(sum(self.record(path)["meta"]["seconds"] for path in units)), 3)

    def generators(self) -> list[dict[str, Any]]:
        """One row for each pool, and for each generator that never came to one."""
        rows = [self._pool_row(pool) for pool in self.plan.pools]
        with_pool = {pool["label"] for pool in self.plan.pools}
        rows += [
            self._rejected_row(label)
            for label in self.config.generators
            if label not in with_pool and self.fits_of(label)
        ]
        order = [*self.config.generators]
        return sorted(
            rows, key=lambda r: (r["role"], order.index(r["label"]) if r["label"] in order else 99, r["name"])
        )

    def fits_of(self, label: str) -> list[Row]:
        """Every rung of every setting of a generator, in the order of the search."""
        key = {"wave": 0, "share": 0.0, "candidate": ""}
        return sorted((f for f in self.plan.fits if f["label"] == label), key=lambda f: [f[k] for k in key])

    def _pool_row(self, pool: Row) -> dict[str, Any]:
        result = pool["result"]
        if result is None:
            return _generator_row(pool, {}, "failed", "its trial failed", 0.0)
        status = "ok" if result["passed"] else "rejected"
        return _generator_row(pool, result, status, result["reason"], self._cost(result["units"]))

    def _rejected_row(self, label: str) -> dict[str, Any]:
        """A generator none of whose settings passed: told by its last fit."""
        fits = self.fits_of(label)
        last = next((f for f in reversed(fits) if f["result"]), None)
        row = {"label": label, "name": label, "role": "candidate", "arm": (last or fits[-1])["arm"]}
        if last is None:
            return _generator_row(row, {}, "failed", "its trials failed", 0.0)
        result = last["result"]
        if result["passed"] and result["quality"] is not None:
            return _generator_row(row, result, "ok", "no arm takes a synthetic image", self._cost(result["units"]))
        status = "rejected" if not result["passed"] else "failed"
        reason = result["reason"] or "no quality number: " + "; ".join(m.get("reason", "") for m in result["measured"])
        return _generator_row(row, result, status, reason, self._cost(result["units"]))

    # --- what is written

    def write(self, command: Sequence[str], ended: Ended | None) -> None:
        """Write verdict.json and evidence.json (once every phase is done), run.json and report.html.

        Raises:
            StoreError: the store cannot be written.
        """
        for name, said in (("verdict", self.verdict), ("evidence", self.evidence)):
            if said is None:
                self.store.delete(f"{self.folder}/{name}.json")
            else:
                self.store.overwrite(f"{self.folder}/{name}.json", canonical(said) + b"\n")
        run = self._run(ended)
        self.store.overwrite(f"{self.folder}/run.json", canonical(run) + b"\n")
        self.render(command, run)

    def render(self, command: Sequence[str], run: dict[str, Any] | None = None) -> str:
        """Write report.html; returns its path."""
        from medsynth_ray.report.page import render
        from medsynth_ray.result_view import Gatherer

        kept = run or self.store.read_json(f"{self.folder}/run.json") or {}
        self.store.overwrite(f"{self.folder}/report.html", render(Gatherer(self).view(command, kept)).encode())
        return self.report_path

    def _run(self, ended: Ended | None) -> dict[str, Any]:
        spent = read_spent(self.store, self.config.sweep_id)
        before = self.store.read_json(f"{self.folder}/run.json") or {}
        failures = ended.failures if ended is not None else before.get("failures", [])
        refused = ended.refused if ended is not None else before.get("budget_reached", False)
        return {
            "hours": round(spent.hours, 4), "trials": spent.trials_started, "drivers": spent.epoch,
            "budget_reached": refused and not self.plan.complete, "failures": failures, "failed": len(failures),
            "workers": self.config.runtime.workers, "store": self.store.url, **environment(),
        }  # fmt: skip

    def status(self, run: dict[str, Any]) -> str:
        """Finished | budget reached | some trials failed | unfinished."""
        if self.verdict is not None:
            return "finished"
        if run.get("budget_reached"):
            return "budget reached"
        return "some trials failed" if run.get("failures") else "unfinished"


def _generator_row(pool: Row, result: Row, status: str, reason: str, cost_s: float) -> dict[str, Any]:
    return {
        "label": pool["label"], "name": pool["name"], "role": pool["role"], "use": pool["arm"]["use"], "status": status,
        "reason": reason, "parameters": pool["arm"]["parameters"], "measured": result.get("measured", []),
        "gates": result.get("gates", {}), "kept": result.get("kept", []), "judged": result.get("judged", []),
        "fitted_on_unknown": result.get("fitted_on_unknown", False), "cost_s": cost_s,
        "near_copy_judged": "near_copy" in {spec["use"] for spec in pool["arm"]["gates"].values()},
    }  # fmt: skip


def _slim(row: dict[str, Any]) -> dict[str, Any]:
    """A generator's row without what may differ between runs."""
    return {k: v for k, v in row.items() if k != "cost_s"}
