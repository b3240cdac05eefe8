"""The journal of a sweep: one neutral JSON for each flat MLflow run, written as trials finish. The mirror reads it.

An entry is a function of a trial's record, so it can be written again; timestamps and steps come from the record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from medsynth_ray.engine.plan import Job
from medsynth_ray.engine.pools import may_show
from medsynth_ray.engine.store import Record, Store, canonical, content_key
from medsynth_ray.sweep import mean_score


class Journal:
    """Writes the entries of one sweep; those that exist are left alone."""

    def __init__(
        self, store: Store, sweep_id: str, class_names: tuple[str, ...], *, metric: str, real_images: bool
    ) -> None:
        self._store, self._folder, self._class_names = store, f"sweep/{sweep_id}/runs", class_names
        self._sweep_id, self._metric, self._real_images = sweep_id, metric, real_images
        self._written = set(store.list(self._folder))
        self._confirm: dict[str, list[tuple[Job, Record]]] = {}

    def add(self, job: Job, record: Record) -> None:
        """Write the entry of a finished trial. Embedding a split is no run; repeats of confirm are joined in one.

        Raises:
            StoreError: the store cannot be written.
        """
        if job.kind == "embed":
            return
        if job.tags["phase"] == "confirm":
            self._confirm.setdefault(job.tags["arm"], []).append((job, record))
        else:
            self._write(record["key"], lambda: self._entry(job, record))

    def close(self) -> None:
        """Write one entry for each arm of confirm, its repeats as steps; each carries the report.

        Raises:
            StoreError: the store cannot be written.
        """
        for parts in self._confirm.values():
            job, whole = joined(parts)
            report = [{"file": f"sweep/{self._sweep_id}/report.html", "name": "report.html"}]
            entry = {**self._entry(job, whole), "artifacts": report}
            self._write(whole["key"], lambda entry=entry: entry)  # type: ignore[misc]

    def _write(self, key: str, entry: Callable[[], dict[str, Any]]) -> None:
        name = f"{key}.json"
        if name not in self._written:
            self._store.create_exclusive(f"{self._folder}/{name}", canonical(entry()))
            self._written.add(name)

    def _entry(self, job: Job, record: Record) -> dict[str, Any]:
        start = int(record["meta"]["started"] * 1000)
        end = start + int(record["meta"]["seconds"] * 1000)
        result = record["result"]
        tags = {"sweep_id": self._sweep_id, "stage": str(job.tags["phase"]), "trial_id": record["key"]}
        entry: dict[str, Any] = {
            "unit": record["key"], "name": job.name, "status": "FINISHED", "start_ms": start, "end_ms": end,
            "params": {k: v for k, v in job.tags.items() if isinstance(v, str | int | float | bool)},
            "tags": tags, "metrics": [], "images": [], "tables": {}, "artifacts": [],
        }  # fmt: skip
        numbers = self._score_numbers(job, result) if job.kind == "score" else self._image_numbers(result)
        numbers += [
            (f"checkpoint/{row['measured']['name']}", float(row["measured"]["value"]), seen(row))
            for row in result.get("checkpoints", [])
            if row["measured"]["value"] is not None
        ]
        seconds = [("cost/seconds", float(record["meta"]["seconds"]), 0)]
        entry["metrics"] = [[k, v, step, end] for k, v, step in numbers + seconds if math.isfinite(v)]
        if job.kind == "score":
            entry["score"] = mean_score(result, self._metric)
            entry["tables"] = {"per_class.json": self._per_class(result)}
        elif result["unit"] is not None:
            entry["images"] = self._pictures(job.kind, result, end)
        return entry

    def _score_numbers(self, job: Job, result: dict[str, Any]) -> list[tuple[str, float, int]]:
        where = "test" if job.tags["phase"] == "confirm" else "val"
        repeats = result["repeats"]
        names = sorted(next(iter(repeats.values())))
        steps = [(f"{where}/{n}", float(s[n]), int(r)) for n in names for r, s in repeats.items() if n in s]
        means = [(f"{where}_mean/{n}", sum(s[n] for s in repeats.values()) / len(repeats), 0) for n in names]
        return (
            steps
            + means
            + [("data/num_train", result["num_train"], 0), ("data/num_synthetic", result["num_synthetic"], 0)]
        )

    def _image_numbers(self, result: dict[str, Any]) -> list[tuple[str, float, int]]:
        numbers = [(f"quality/{m['name']}", float(m["value"]), 0) for m in result["measured"] if m["value"] is not None]
        for label, gate in result["gates"].items():
            section = "privacy" if label.startswith(("near_copy", "membership", "canaries")) else "gates"
            numbers += [(f"{section}/{label}_{k}", float(v), 0) for k, v in gate["numbers"].items()]
            numbers.append((f"{section}/{label}_passed", float(gate["passed"]), 0))
        return numbers

    def _per_class(self, result: dict[str, Any]) -> dict[str, list[Any]]:
        repeats = list(result["repeats"].values())
        recall = [sum(r.get(f"recall/{c}", 0.0) for r in repeats) / len(repeats) for c in range(len(self._class_names))]
        return {"class": list(self._class_names), "recall": recall}

    def _pictures(self, kind: str, result: dict[str, Any], end: int) -> list[dict[str, Any]]:
        """What a pool's generator drew at each checkpoint and then for the pool; of fits, only what gates rejected.

        MLflow's grid has room for ten runs: one for each generator is enough. Where real images are withheld, only what
        the gates kept of a pool that they passed.
        """
        if not self._real_images:
            shown = kind == "pool" and may_show(result)
            return self._images("kept", result["unit"], 0, end, "preview-kept/") if shown else []
        if kind == "fit":
            return [] if result["passed"] else self._images("quality", result["unit"], 0, end, "preview/")
        rows = (
            self._store.read_json(f"curve/{result['curve']}/record.json")["result"]["rows"] if result["curve"] else []
        )
        earlier = [
            i for row in rows for i in self._images("curve", result["curve"], seen(row), end, f"{row['step']}/preview/")
        ]
        return earlier or self._images("kept", result["unit"], 0, end, "preview/")

    def _images(self, kind: str, key: str, step: int, end: int, prefix: str) -> list[dict[str, Any]]:
        """The strips of a unit below `prefix`."""
        unit: Record = self._store.read_json(f"{kind}/{key}/record.json")
        base = f"{kind}/{key}/{unit['attempt']}"
        files = [name for name in sorted(unit["files"]) if name.startswith(prefix)]
        return [
            {
                "key": f"samples/{self._class_names[int(name[len(prefix) : -4])]}",
                "step": step,
                "timestamp_ms": end,
                "file": f"{base}/{name}",
            }
            for name in files
        ]


def seen(row: dict[str, Any]) -> int:
    """The step of a checkpoint in MLflow: training images seen, or steps where the generator does not tell."""
    return int(row["step"] if row["images_seen"] is None else row["images_seen"])


def joined(parts: Sequence[tuple[Job, Record]]) -> tuple[Job, Record]:
    """The trials of one arm, a repeat each, as if they were one."""
    ordered = sorted(parts, key=lambda part: min(map(int, part[1]["result"]["repeats"])))
    records = [record for _, record in ordered]
    job, first = ordered[0][0], records[0]
    repeats = {r: s for record in records for r, s in record["result"]["repeats"].items()}
    meta = {
        **first["meta"], "started": min(r["meta"]["started"] for r in records),
        "seconds": sum(r["meta"]["seconds"] for r in records),
    }  # fmt: skip
    whole = {
        **first,
        "key": content_key("arm", [r["key"] for r in records]),
        "result": {**first["result"], "repeats": repeats},
    }
    return Job(job.kind, f"confirm {job.tags['arm']}", job.args, job.inputs, job.tags), {**whole, "meta": meta}
