"""Sets two sweeps side by side: `medsynth sweep compare`. Numbers to look at, never evidence."""

from __future__ import annotations

from typing import Any

from medsynth_ray.config import SweepConfig
from medsynth_ray.driver import Sweep
from medsynth_ray.engine.identity import component_identity
from medsynth_ray.errors import ConfigError
from medsynth_ray.results import SweepResult

Row = dict[str, Any]


def compare(first: Sweep, second: Sweep) -> Row:
    """Two sweeps that have run, each in its store, as JSON.

    Returns:
        `a`, `b`: sweep, store, status, word, sentence, privacy, looks, hours and trials of all its runs,
        generator_seconds (its fits and pools). `settings`: rows `key`, `a`, `b` of dotted keys that differ (None: not
        set). `same`: whether images, splits, classifiers and metric are the same. `comparable`: val and test -> whether
        their numbers may be set side by side; `said`, that in words. `arms` and `generators`: rows with `a` and `b`,
        None where a sweep has none of that name.

    Raises:
        ConfigError: one of them was never run in its store.
    """
    results = [_result(sweep) for sweep in (first, second)]
    same = _same(*results)
    comparable = {
        split: same[split] and same[f"{phase} classifier"] and same["metric"]
        for split, phase in (("val", "mix"), ("test", "confirm"))
    }
    return {
        "a": _about(first, results[0]), "b": _about(second, results[1]),
        "settings": differing(first.config, second.config), "same": same, "comparable": comparable,
        "said": _said(same, comparable),
        "arms": _beside(*({(r["phase"], r["arm"]): _arm(r) for r in result.arm_rows()} for result in results)),
        "generators": _beside(*({r["name"]: _generator(r) for r in result.generators()} for result in results)),
    }  # fmt: skip


def differing(first: SweepConfig, second: SweepConfig) -> list[Row]:
    """Settings that differ: rows `key` (dotted), `a`, `b`."""
    a, b = (_flat(config.model_dump(mode="json")) for config in (first, second))
    keys = sorted({*a, *b} - {"name", "description", "store"})
    return [{"key": k, "a": a.get(k), "b": b.get(k)} for k in keys if a.get(k) != b.get(k)]


def _flat(value: Any, place: str = "") -> Row:
    """Leaves by dotted key; an empty mapping is a leaf."""
    if not isinstance(value, dict) or not value:
        return {place: value}
    return {k: v for key, item in value.items() for k, v in _flat(item, f"{place}.{key}".lstrip(".")).items()}


def _result(sweep: Sweep) -> SweepResult:
    if not sweep.store.list(sweep.folder):
        raise ConfigError(f"sweep {sweep.sweep_id} was not run in {sweep.store.url}: medsynth run {sweep.arguments}")
    return sweep.result()


def _about(sweep: Sweep, result: SweepResult) -> Row:
    run = sweep.store.read_json(f"{sweep.folder}/run.json") or {}
    verdict = result.verdict or {}
    return {
        "sweep": sweep.sweep_id, "store": sweep.store.url, "status": result.status(run), "looks": len(sweep.looks()),
        **{key: verdict.get(key) for key in ("word", "sentence", "privacy")},
        **{key: run.get(key) for key in ("hours", "trials")},
        "generator_seconds": round(sum(row["cost_s"] for row in result.generators()), 1),
    }  # fmt: skip


def _same(first: SweepResult, second: SweepResult) -> dict[str, bool]:
    found = {"images": first.data.fingerprint == second.data.fingerprint}
    for split in ("train", "showable", "val", "test"):
        found[split] = first.splits[split].fingerprint == second.splits[split].fingerprint
    for phase in ("mix", "confirm"):
        a, b = (_classifier(result.config, phase) for result in (first, second))
        found[f"{phase} classifier"] = a == b
    found["metric"] = first.primary == second.primary
    return found


def _classifier(config: SweepConfig, phase: str) -> Row:
    spec = getattr(config, phase).classifier
    return component_identity("classifiers", spec, baseline=config.mix.classifier)


def _said(same: dict[str, bool], comparable: dict[str, bool]) -> str:
    rule = (
        "Numbers of two sweeps can be set side by side only where the images, the classifier and the metric are equal"
    )
    needed = {"val": ("val", "mix classifier", "metric"), "test": ("test", "confirm classifier", "metric")}
    here = [
        f"on {split} they can"
        if comparable[split]
        else f"on {split} they cannot ({', '.join(what for what in needed[split] if not same[what])} differ)"
        for split in ("val", "test")
    ]
    return f"{rule}: {'; '.join(here)}. They are never evidence: no test was made across sweeps."


def _beside(first: dict[Any, Row], second: dict[Any, Row]) -> list[Row]:
    """Rows of both by name, in the order of the first; `name` is a text or [phase, arm]."""
    names = [*first, *(name for name in second if name not in first)]
    return [
        {"name": list(name) if isinstance(name, tuple) else name, "a": first.get(name), "b": second.get(name)}
        for name in names
    ]


def _arm(row: Row) -> Row:
    return {key: row[key] for key in ("mean", "low", "high", "num_train", "num_synthetic", "status", "cost_s")}


def _generator(row: Row) -> Row:
    return {
        "status": row["status"], "reason": row["reason"], "kept": sum(row["kept"]), "cost_s": row["cost_s"],
        "measured": {item["name"]: item["value"] for item in row["measured"]},
        "gates": {label: gate["passed"] for label, gate in row["gates"].items()},
    }  # fmt: skip
