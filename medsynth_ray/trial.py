"""READ FIRST. What a trial of each kind does, one step for each folder of the package.

A trial is a job of the plan (`sweep.py`) that a worker runs on its bench: data, store, caches. Everything it computes
is a unit with a content key: what is in the store already is read, never computed again. A trial's own record lists
the units it stands on.

    embed   spaces/                                              features of a split, once for all trials
    fit     samplers/ -> generators/ -> gates/ -> metrics/        one rung of one generator's settings, measured on val
    pool    generators/ (shards) -> gates/ -> metrics/            the synthetic images that may be used
    score   mixers/ -> classifiers/ -> stats/                     one arm: fitted on the mix, scored on val or test
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medsynth_ray.engine import fits as fitting
from medsynth_ray.engine import pools
from medsynth_ray.engine.bench import Bench, save_npy
from medsynth_ray.engine.store import Record
from medsynth_ray.errors import Diverged
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Spec
from medsynth_ray.stats.scores import confusion, scores

Result = dict[str, Any]


def embed(bench: Bench, *, split: str, spaces: list[dict[str, Any]]) -> Result:
    """Features of one split in every space that some component will ask for."""
    for space in spaces:
        bench.feature_bank(bench.splits[split], Spec.model_validate(space))
    return {"num_images": len(bench.splits[split])}


def fit(bench: Bench, *, arm: dict[str, Any], fit_seed: int, share: float) -> Result:
    """Take one generator's settings up to the rung `share`, draw a few images, let the gates judge, measure on val."""
    source = fitting.Source.of(arm, fit_seed)
    quality = bench.config.fit.quality
    try:
        fits = fitting.fit_parts(bench, source, share)
    except Diverged as error:
        return _diverged(error, bench)
    draw = pools.draw_like_val(bench, source, fits, quality.num_images)

    def work(folder: Path) -> Result:
        pool = pools.draw(bench, source, fits, draw, folder)
        judged = pools.judge(bench, source, fits, pool, folder)
        pools.save_previews(pool.images, folder, judged.keep)
        flagged = pools.save_flagged(pool, judged, folder)
        measured = pools.measure(bench, quality.metric, quality.space, pool.images)
        quality_number = _smaller_is_better(bench, measured["value"]) if judged.passed else None
        return {**judged.summary, "measured": [measured], "quality": quality_number, "flagged_ids": flagged}

    inputs = {
        "fits": [f["key"] for f in fits], "gates": pools.gate_identities(bench, source), "draw": draw.tolist(),
        "metric": bench.identity("metrics", quality.metric), "space": bench.identity("spaces", quality.space),
        "val": bench.splits["val"].fingerprint, "test": bench.splits["test"].fingerprint, "seed": bench.config.seed,
        "train": bench.splits["train"].fingerprint,
    }  # fmt: skip
    record = bench.unit("quality", inputs, work)
    checkpoints = _checkpoints(bench, fits)
    return {
        **record["result"], "unit": record["key"], "checkpoints": checkpoints["result"]["rows"],
        "curve": checkpoints["key"], "units": _names([*fits, record, checkpoints]),
    }  # fmt: skip


def _checkpoints(bench: Bench, fits: list[Record]) -> Record:
    """Quality against training images seen: what the fit drew at every checkpoint up to this rung, measured on val."""
    quality = bench.config.fit.quality
    earlier = fitting.rung_before(bench, fits)
    known = {tuple(row["steps"]): row for row in _checkpoints(bench, earlier)["result"]["rows"]} if earlier else {}

    def work(folder: Path) -> Result:
        rows = []
        for seen in fitting.seen(bench, fits):
            if not len(seen.images):
                continue
            pools.save_previews(seen.images, folder / str(seen.step), np.zeros(len(seen.images), dtype=bool))
            if seen.steps not in known:
                measured = pools.measure(bench, quality.metric, quality.space, seen.images)
                known[seen.steps] = {
                    "step": seen.step, "steps": list(seen.steps), "images_seen": seen.images_seen, "measured": measured,
                }  # fmt: skip
            rows.append(known[seen.steps])
        return {"rows": rows}

    inputs = {
        "fits": [f["key"] for f in fits], "metric": bench.identity("metrics", quality.metric),
        "space": bench.identity("spaces", quality.space), "val": bench.splits["val"].fingerprint,
        "seed": bench.config.seed,
    }  # fmt: skip
    return bench.unit("curve", inputs, work)


def _diverged(error: Diverged, bench: Bench) -> Result:
    """A fit that came to nothing: recorded, so that this seed is not tried again unless somebody asks for it."""
    none = [0] * bench.splits["train"].num_classes
    return {
        "passed": False, "reason": f"diverged: {error}", "diverged": str(error), "quality": None, "measured": [],
        "gates": {}, "flagged": [], "flagged_ids": [], "kept": none, "judged": none, "fitted_on_unknown": False,
        "has_sources": False, "unit": None, "curve": None, "checkpoints": [], "units": [],
    }  # fmt: skip


def pool(bench: Bench, *, arm: dict[str, Any], fit_seed: int, demand: list[int]) -> Result:
    """Grow a pool shard by shard until the gates keep `demand[c]` images of each class, or `max_oversample` is hit."""
    source = fitting.Source.of(arm, fit_seed)
    try:
        fits = fitting.fit_parts(bench, source, 1.0)
    except Diverged as error:
        return _diverged(error, bench)
    need, most = np.array(demand), np.ceil(np.array(demand) * bench.config.fit.max_oversample).astype(int)
    size = need.copy()
    while True:
        shards = pools.shards(bench, source, fits, size)
        kept = pools.kept(bench, source, fits, shards)
        short = need - np.array(kept["result"]["kept"])
        drawn = np.array(kept["result"]["judged"])
        grown = np.where(short > 0, np.minimum(most, drawn + np.maximum(short * 2, short)), size)
        if not kept["result"]["passed"] or (short <= 0).all() or (grown <= drawn).all() or (grown <= size).all():
            break
        size = np.maximum(size, grown)
    curve = _checkpoints(bench, fits) if fit_seed == 0 else None
    return {
        **kept["result"], "unit": kept["key"], "curve": curve and curve["key"], "units": _names([*shards, kept]),
    }  # fmt: skip


def score(
    bench: Bench,
    *,
    pool: str | None,
    mixer: dict[str, Any] | None,
    ratio: float | None,
    classifier: dict[str, Any],
    on: str,
    repeats: list[int],
    real: str,
) -> Result:
    """Fit the classifier on real images mixed with a pool (None: real only) and score it, once for each repeat."""
    train = pools.mixed(bench, real, pool, None if mixer is None else Spec.model_validate(mixer), ratio)
    spec = Spec.model_validate(classifier)
    records = [_score_once(bench, train, spec, on, repeat) for repeat in repeats]
    return {
        "repeats": {str(r): record["result"]["scores"] for r, record in zip(repeats, records, strict=True)},
        "scores": {str(r): record["key"] for r, record in zip(repeats, records, strict=True)},
        "num_train": len(train), "num_synthetic": pools.count_synthetic(bench, real, train), "units": _names(records),
    }  # fmt: skip


def _score_once(bench: Bench, train: ImageSet, spec: Spec, on: str, repeat: int) -> Record:
    """One repeat. Arms are paired by its seed; val has seeds of its own, so luck that won there is not confirmed."""
    held_out = bench.splits[on]
    seed = bench.seed("train", repeat) if on == "test" else bench.seed("train", on, repeat)

    def work(folder: Path) -> Result:
        config = bench.configure("classifiers", spec)
        runtime, classifier = bench.runtime(config, folder), config.build()
        history = classifier.fit(train, val=bench.splits["val"], seed=seed, runtime=runtime)
        probs = classifier.predict(held_out, runtime=runtime)
        save_npy(folder / "probs.npy", probs)
        if on == "test":  # what calibrates its probabilities
            save_npy(folder / "probs-val.npy", classifier.predict(bench.splits["val"], runtime=runtime))
        matrix = confusion(probs, held_out.labels)
        return {"scores": scores(probs, held_out.labels), "confusion": matrix.tolist(), "history": history}

    inputs = {
        "classifier": bench.identity("classifiers", spec), "train": train.fingerprint, "on": held_out.fingerprint,
        "val": bench.splits["val"].fingerprint, "train_seed": seed,
    }  # fmt: skip
    return bench.unit("score", inputs, work)


def _smaller_is_better(bench: Bench, value: float | None) -> float | None:
    """The number by which fits are ranked."""
    metric = type(bench.configure("metrics", bench.config.fit.quality.metric)).component
    return value if value is None or metric.lower_is_better else -value  # type: ignore[attr-defined]


def _names(records: list[Record]) -> list[str]:
    """Store paths of units, so that costs can be added up later."""
    return [f"{r['kind']}/{r['key']}" for r in records]


KINDS = {"embed": embed, "fit": fit, "pool": pool, "score": score}
