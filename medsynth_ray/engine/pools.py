"""Draws, shards, gates and mixes: the steps that the trials of `trial.py` are made of. Imports no ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medsynth_ray.engine import canaries
from medsynth_ray.engine import fits as fitting
from medsynth_ray.engine.bench import Bench, save_npy
from medsynth_ray.engine.canaries import Marks
from medsynth_ray.engine.fits import Source, generators, shown_parts
from medsynth_ray.engine.store import Record
from medsynth_ray.images import ImageSet, concat
from medsynth_ray.protocols import UNKNOWN, Draw, Pool, Spec
from medsynth_ray.seeds import image_seeds

PREVIEWS_PER_CLASS = 6
NUM_GHOSTS = 399
"""Canaries' marks that are not planted: what chance looks like."""


# --- draw


def draw_like_val(bench: Bench, source: Source, fits: Sequence[Record], num_images: int) -> np.ndarray:
    """How many images of each class make about `num_images` in val's proportions, int64 (K,).

    At least one of each class that val holds, and no more than the generator can draw.
    """
    counts = bench.splits["val"].counts()
    like = np.maximum(np.floor(num_images * counts / counts.sum()).astype(np.int64), counts > 0)
    limits = [capacity(bench, source, fits, label) for label in range(len(like))]
    return np.array([n if limit is None else min(int(n), limit) for n, limit in zip(like, limits, strict=True)])


def draw(bench: Bench, source: Source, fits: Sequence[Record], counts: np.ndarray, folder: Path) -> Pool:
    """The first `counts[c]` images of each class, in pool order, without storing them."""
    pieces = [_draw_class(bench, source, fits, c, 0, int(n), folder) for c, n in enumerate(counts) if n]
    labels = [c for c, n in enumerate(counts) if n]
    return _as_pool(bench, source, fits, [(c, 0, images, ids) for c, (images, ids) in zip(labels, pieces, strict=True)])


def _draw_class(
    bench: Bench, source: Source, fits: Sequence[Record], label: int, start: int, stop: int, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Images start..stop of one class. Image i comes from part i mod P of the P parts that hold the class."""
    holders = [p for p, record in enumerate(fits) if record["result"]["counts"][label]] or list(range(len(fits)))
    index = np.arange(start, stop)
    seeds = image_seeds(bench.seed("pool", source.fit_seed), label, index)
    images = np.empty((len(index), *bench.splits["train"].image_shape), dtype=np.uint8)
    source_ids = np.full(len(index), "", dtype=object)
    config = bench.configure("generators", source.generator)
    shown, fitted = shown_parts(bench, source.sampler, source.real), generators(bench, source, fits)
    for turn, p in enumerate(holders):
        rows = np.flatnonzero(index % len(holders) == turn)
        wanted = Draw(np.full(len(rows), label, dtype=np.int64), index[rows] // len(holders), seeds[rows])
        sources = shown[p] if fitted[p].needs_sources else None
        filled = 0
        for shard in fitted[p].sample(wanted, sources=sources, runtime=bench.runtime(config, folder)):
            here = rows[filled : filled + len(shard.images)]
            images[here], source_ids[here] = shard.images, shard.source_ids
            filled += len(shard.images)
        assert filled == len(rows), f"{source.generator.use} drew {filled} of {len(rows)} images"
    return images, source_ids


def capacity(bench: Bench, source: Source, fits: Sequence[Record], label: int) -> int | None:
    """How many images of a class the fitted generators can draw; None: any number."""
    fitted = generators(bench, source, fits)
    holders = [p for p, record in enumerate(fits) if record["result"]["counts"][label]] or list(range(len(fits)))
    limits = [limit for p in holders if (limit := fitted[p].capacity(label)) is not None]
    return min(limits) * len(holders) if limits else None


def shards(bench: Bench, source: Source, fits: Sequence[Record], size: np.ndarray) -> list[Record]:
    """The shard units that hold at least `size[c]` images of each class (fewer where the generator has no more)."""
    step = bench.config.fit.shard_images
    records = []
    for label, wanted in enumerate(size):
        limit = capacity(bench, source, fits, label)
        end = int(wanted) if limit is None else min(int(wanted), limit)
        for start in range(0, end, step):
            stop = start + step if limit is None else min(start + step, limit)
            records.append(_shard(bench, source, fits, label, start, stop))
    return records


def _shard(bench: Bench, source: Source, fits: Sequence[Record], label: int, start: int, stop: int) -> Record:
    def work(folder: Path) -> dict[str, Any]:
        images, source_ids = _draw_class(bench, source, fits, label, start, stop, folder)
        save_npy(folder / "images.npy", images)
        fitted_on = sorted({f for record in fits for f in record["result"]["fitted_on"]})
        return {"label": label, "start": start, "source_ids": [str(s) for s in source_ids], "fitted_on": fitted_on}

    inputs = {
        "fits": [f["key"] for f in fits], "pool_seed": bench.seed("pool", source.fit_seed), "label": label,
        "start": start, "stop": stop,
    }  # fmt: skip
    return bench.unit("shard", inputs, work)


def _as_pool(
    bench: Bench, source: Source, fits: Sequence[Record], pieces: Sequence[tuple[int, int, np.ndarray, np.ndarray]]
) -> Pool:
    fitted_on = sorted({f for record in fits for f in record["result"]["fitted_on"]})
    return _assemble(bench, bench.seed("pool", source.fit_seed), fitted_on, pieces)


def _assemble(
    bench: Bench, pool_seed: int, fitted_on: Sequence[str], pieces: Sequence[tuple[int, int, np.ndarray, np.ndarray]]
) -> Pool:
    """Join (label, start, images, source_ids) pieces in pool order: by index, then class, so that growth appends."""
    train = bench.splits["train"]
    real = [bench.splits[split] for split in ("train", "showable")]
    groups = {str(name): str(group) for part in real for name, group in zip(part.ids, part.groups, strict=True)}
    labels = np.concatenate([np.full(len(i), c, dtype=np.int64) for c, _, i, _ in pieces])
    index = np.concatenate([np.arange(s, s + len(i)) for _, s, i, _ in pieces])
    source_ids = np.concatenate([ids for *_, ids in pieces]).astype(str)
    seeds = np.concatenate([image_seeds(pool_seed, c, np.arange(s, s + len(i))) for c, s, i, _ in pieces])
    ids = np.array([f"synthetic/{train.class_names[c]}/{i}" for c, i in zip(labels, index, strict=True)])
    own = np.array([groups.get(s, name) for s, name in zip(source_ids, ids, strict=True)])
    pixels = np.concatenate([images for _, _, images, _ in pieces])
    order = np.lexsort((labels, index))
    images = ImageSet(pixels[order], labels[order], own[order], ids[order], train.class_names)
    return Pool(images, seeds[order], source_ids[order], tuple(fitted_on))


# --- gates and metrics


@dataclass(frozen=True)
class Judged:
    """What all gates say of a pool: keep bool (N,), and the JSON of it."""

    keep: np.ndarray
    passed: bool
    summary: dict[str, Any]


def gate_identities(bench: Bench, source: Source) -> dict[str, Any]:
    """What of the gates decides their judgement."""
    return {label: bench.identity("gates", spec) for label, spec in source.gates.items()}


def judge(bench: Bench, source: Source, fits: Sequence[Record], pool: Pool, folder: Path) -> Judged:
    """Ask every gate; an image is kept if all keep it, the pool passes if all pass it."""
    shown = concat(shown_parts(bench, source.sampler, source.real))
    keep, reasons, gates, flagged = np.ones(len(pool), dtype=bool), [], {}, []
    for label, spec in source.gates.items():
        config = bench.configure("gates", spec)
        runtime = bench.runtime(config, folder, fitted=lambda _: generators(bench, source, fits))
        said = config.build().judge(
            pool, shown=shown, unseen=unseen(bench, pool.images), seed=bench.seed("gate", label), runtime=runtime
        )
        keep &= said.keep
        reasons += [] if said.passed else [f"{label}: {said.reason}"]
        gates[label] = {
            "passed": bool(said.passed), "reason": said.reason, "kept": int(said.keep.sum()), "judged": len(pool),
            "numbers": said.numbers,
        }  # fmt: skip
        flagged += [
            {
                "gate": label,
                "row": f.row,
                "id": str(pool.images.ids[f.row]),
                "real_id": f.real_id,
                "space": f.space,
                "score": f.score,
            }
            for f in said.flagged
        ]
    for number, (part, marks) in enumerate(fitting.marks(bench, source)):
        label = f"canaries_{number}"
        ghosts = canaries.ghosts(part, NUM_GHOSTS, bench.seed("ghost", number))
        gates[label], unmarked = _look_for_canaries(pool, marks, ghosts)
        keep &= unmarked
        reasons += [] if gates[label]["passed"] else [f"{label}: {gates[label]['reason']}"]
    leaked = held_out_copies(bench, pool)
    if leaked:
        reasons.append(f"{leaked} images are exact copies of val or test images")
    kept = np.bincount(pool.images.labels[keep], minlength=pool.images.num_classes)
    summary = {
        "passed": not reasons, "reason": "; ".join(reasons), "gates": gates, "flagged": flagged,
        "kept": kept.tolist(), "judged": pool.images.counts().tolist(), "fitted_on_unknown": UNKNOWN in pool.fitted_on,
        "has_sources": bool((pool.source_ids != "").any()),
    }  # fmt: skip
    return Judged(keep, not reasons, summary)


def _look_for_canaries(pool: Pool, marks: Marks, ghosts: Marks) -> tuple[dict[str, Any], np.ndarray]:
    """Whether the canaries came back, as the JSON of a gate, and which images hold none: bool (N,)."""
    found = canaries.came_back(pool.images, marks, ghosts)
    unmarked = ~canaries.matching(pool.images, marks, found.threshold)
    reason = f"{len(found.returned)} of {found.planted} planted canaries came back" if found.returned else ""
    numbers = {
        "planted": found.planted, "copies": found.copies, "returned": len(found.returned),
        "above_chance": len(found.above_chance), "expected_above_chance": found.expected, "p": found.p,
        "best_score": max(row["score"] for row in found.best), "chance_score": found.chance,
        "returned_score": found.threshold,
    }  # fmt: skip
    said = {
        "passed": not reason, "reason": reason, "kept": int(unmarked.sum()), "judged": len(pool),
        "numbers": {name: float(value) for name, value in numbers.items()},
    }  # fmt: skip
    return said, unmarked


def may_show(result: dict[str, Any]) -> bool:
    """Whether a judged pool may be looked at where real images are withheld.

    A near_copy gate judged it, it passed, and its images are no altered real ones.
    """
    judged = any(name.startswith("copy_rate_upper") for gate in result["gates"].values() for name in gate["numbers"])
    return bool(judged and result["passed"] and not result["has_sources"])


def held_out_copies(bench: Bench, pool: Pool) -> int:
    """How many images of a pool equal an image of val or of the locked test, pixel by pixel."""
    held_out = np.concatenate([bench.splits["val"].digests, bench.splits["test"].digests])
    return int(np.isin(pool.images.digests.view("S16"), held_out.view("S16")).sum())


def measure(bench: Bench, metric: Spec, space: Spec, images: ImageSet) -> dict[str, Any]:
    """One metric of synthetic images against val's images of the same classes, as JSON.

    The value is None, with the reason, where the metric refuses.
    """
    reference = bench.features(unseen(bench, images), space)
    synthetic = bench.features(images, space) if len(images) else reference[:0]
    label = str(getattr(bench.configure("spaces", space), "label", space.use))
    try:
        said = (
            bench.configure("metrics", metric)
            .build()
            .measure(reference, synthetic, space=label, seed=bench.seed("metric"))
        )
    except ValueError as error:
        nothing: dict[str, Any] = {"value": None, "low": None, "high": None, "details": {}}
        return {"name": f"{metric.use}_{label}", **nothing, "reason": str(error)}
    return {**asdict(said), "reason": ""}


def measure_all(bench: Bench, images: ImageSet) -> list[dict[str, Any]]:
    """Every metric in every space, over all classes, and `per_class`: one row for each class with its `label`."""
    fit = bench.config.fit
    spaces = {space.model_dump_json(): space for space in (fit.quality.space, *fit.spaces.values())}
    labels = [int(c) for c in np.unique(images.labels)]
    return [
        {
            **measure(bench, metric, space, images),
            "per_class": [{"label": c, **measure(bench, metric, space, images.of_class(c))} for c in labels],
        }
        for space in spaces.values()
        for metric in fit.metrics.values()
    ]


def unseen(bench: Bench, images: ImageSet) -> ImageSet:
    """Val's images of the classes that `images` holds; all of val if it holds none."""
    val = bench.splits["val"]
    present = np.isin(val.labels, np.unique(images.labels))
    return val if present.all() or not present.any() else val.take(np.flatnonzero(present))


def like_val(bench: Bench, pool: Pool) -> ImageSet:
    """The largest prefix of a pool that has val's proportions of the classes in it, at most as large as val."""
    have = pool.images.counts()
    val = bench.splits["val"].counts() * (have > 0)
    share = min([1.0, *(have[c] / val[c] for c in np.flatnonzero(val))])
    return pool.first_per_class(np.floor(val * share).astype(np.int64)).images


def kept(bench: Bench, source: Source, fits: Sequence[Record], parts: Sequence[Record]) -> Record:
    """The judgement of a grown pool as a unit: which images may be used, and its numbers."""
    fit = bench.config.fit

    def work(folder: Path) -> dict[str, Any]:
        pool = _from_shards(bench, parts, bench.seed("pool", source.fit_seed))
        judged = judge(bench, source, fits, pool, folder)
        save_npy(folder / "keep.npy", judged.keep)
        save_previews(pool.images, folder, judged.keep)
        usable = like_val(bench, pool.take(judged.keep))
        return {**judged.summary, "measured": measure_all(bench, usable)}

    inputs = {
        "shards": [p["key"] for p in parts], "gates": gate_identities(bench, source),
        "metrics": [bench.identity("metrics", m) for m in fit.metrics.values()],
        "spaces": [bench.identity("spaces", s) for s in (fit.quality.space, *fit.spaces.values())],
        "val": bench.splits["val"].fingerprint,
        "test": bench.splits["test"].fingerprint, "train": bench.splits["train"].fingerprint, "seed": bench.config.seed,
        "pool_seed": bench.seed("pool", source.fit_seed),
    }  # fmt: skip
    return bench.unit("kept", inputs, work)


def _from_shards(bench: Bench, parts: Sequence[Record], pool_seed: int) -> Pool:
    pieces = []
    for record in parts:
        result = record["result"]
        images = bench.shelf.array(record, "images.npy")
        pieces.append((result["label"], result["start"], images, np.array(result["source_ids"], dtype=object)))
    fitted_on = sorted({f for record in parts for f in record["result"]["fitted_on"]})
    pool = _assemble(bench, pool_seed, fitted_on, pieces)
    bench.know(pool.images)
    return pool


def load_pool(bench: Bench, key: str) -> Pool:
    """The images that the gates kept, by the key of their `kept` unit; remembered in this process.

    Raises:
        StoreError: a file is missing or damaged.
    """

    def load() -> Pool:
        record = bench.store.read_json(f"kept/{key}/record.json")
        parts = [bench.store.read_json(f"shard/{s}/record.json") for s in record["inputs"]["shards"]]
        pool = _from_shards(bench, parts, record["inputs"]["pool_seed"])
        return pool.take(bench.shelf.array(record, "keep.npy"))

    pool: Pool = bench.remember(f"pool {key}", load)
    return pool


def save_flagged(pool: Pool, judged: Judged, folder: Path) -> list[str]:
    """Write the most suspicious images as `flagged.npy` for the report; returns their ids. A fit stores no others."""
    worst = sorted(judged.summary["flagged"], key=lambda f: (f["score"], f["row"]))[:50]
    rows = sorted({f["row"] for f in worst})
    save_npy(folder / "flagged.npy", pool.images.pixels[np.array(rows, dtype=np.int64)])
    return [str(pool.images.ids[row]) for row in rows]


def save_previews(images: ImageSet, folder: Path, keep: np.ndarray) -> None:
    """Write the first images drawn of each class: `previews.npy` (K*P, H, W, C), their labels, a PNG strip by class.

    Image i has the same seed for every generator, so gates have no say here. `previews-keep.npy` and the strips in
    `preview-kept/` say which of them the gates keep (bool keep (N,)): where real images are withheld, a copy of one is.
    """
    rows = [np.flatnonzero(images.labels == c)[:PREVIEWS_PER_CLASS] for c in range(images.num_classes)]
    chosen = np.sort(np.concatenate(rows))
    first, kept = images.take(chosen), keep[chosen]
    save_npy(folder / "previews-keep.npy", kept)
    save_npy(folder / "previews.npy", first.pixels)
    save_npy(folder / "previews-labels.npy", first.labels)
    for where, chosen in (("preview", np.ones_like(kept)), ("preview-kept", kept)):
        for label in np.unique(first.labels[chosen]):
            strip = np.concatenate(list(first.pixels[chosen & (first.labels == label)]), axis=1)
            path = folder / where / f"{int(label)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(strip[..., 0] if strip.shape[2] == 1 else strip).save(path, "PNG")


# --- mix


def mixed(bench: Bench, real: str, pool_key: str | None, mixer: Spec | None, ratio: float | None) -> ImageSet:
    """The training set of an arm: the images of the split `real`, and synthetic ones."""
    train = bench.real(real)
    if pool_key is None or mixer is None:
        return train
    pool = load_pool(bench, pool_key)
    mix: ImageSet = bench.configure("mixers", mixer).build().mix(train, pool, ratio=ratio, seed=bench.seed("mix"))
    return mix


def count_synthetic(bench: Bench, real: str, images: ImageSet) -> int:
    """How many images of a mixed set are synthetic."""
    return int((~np.isin(images.ids, bench.real(real).ids)).sum())
