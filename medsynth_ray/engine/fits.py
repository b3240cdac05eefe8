"""What a generator is shown, and its fits rung by rung. Imports no ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsynth_ray.engine.bench import Bench, save_npy
from medsynth_ray.engine.canaries import Marks, make
from medsynth_ray.engine.runtime import Checkpoints, UnitRuntime
from medsynth_ray.engine.store import Record, Unit
from medsynth_ray.errors import DataLeak
from medsynth_ray.images import ImageSet, concat
from medsynth_ray.protocols import UNKNOWN, Draw, Fitted, Generator, GeneratorConfig, Spec
from medsynth_ray.seeds import image_seeds


@dataclass(frozen=True)
class Source:
    """Where synthetic images come from: a generator with settings, what it is shown, who judges its images.

    real: the split whose images the sampler may show, "showable" or (for controls) "train".
    """

    generator: Spec
    sampler: Spec
    gates: dict[str, Spec]
    fit_seed: int
    real: str

    @staticmethod
    def of(arm: dict[str, Any], fit_seed: int) -> Source:
        """From the JSON of a job: `{use, config, sampler, gates, real}`."""
        gates = {label: Spec.model_validate(spec) for label, spec in arm["gates"].items()}
        generator = Spec(use=arm["use"], config=arm["config"])
        return Source(generator, Spec.model_validate(arm["sampler"]), gates, fit_seed, arm["real"])

    def with_base(self, base: Spec) -> Source:
        """The source of the generator that this one starts from."""
        return Source(base, self.sampler, {}, self.fit_seed, self.real)


def shown_parts(bench: Bench, sampler: Spec, real: str) -> tuple[ImageSet, ...]:
    """What the generator is shown: the parts that the sampler makes of the split `real`, and canaries among them.

    Raises:
        DataLeak: the sampler returned an image that is not in that split.
    """
    return tuple(part for part, _ in _planted(bench, sampler, real))


def marks(bench: Bench, source: Source) -> list[tuple[ImageSet, Marks]]:
    """The real images of each part that the generator is shown, and the marks of the canaries planted among them."""
    parts = _selected(bench, source.sampler, source.real)
    planted = _planted(bench, source.sampler, source.real)
    return [(part, found) for part, (_, found) in zip(parts, planted, strict=True) if found is not None]


def _planted(bench: Bench, sampler: Spec, real: str) -> tuple[tuple[ImageSet, Marks | None], ...]:
    parts, wanted = _selected(bench, sampler, real), bench.config.fit.canaries
    if not wanted.count or real != "showable":
        return tuple((part, None) for part in parts)

    def plant() -> tuple[tuple[ImageSet, Marks], ...]:
        return tuple(_plant(bench, number, part) for number, part in enumerate(parts))

    planted: tuple[tuple[ImageSet, Marks], ...] = bench.remember(f"planted {real} {_name(sampler)}", plant)
    return planted


def _plant(bench: Bench, number: int, part: ImageSet) -> tuple[ImageSet, Marks]:
    wanted = bench.config.fit.canaries
    images, found = make(part, wanted.count, wanted.copies, bench.seed("canary", number))
    groups, ids = (np.char.add(f"part-{number}/", names) for names in (images.groups, images.ids))
    return concat([part, ImageSet(images.pixels, images.labels, groups, ids, images.class_names)]), found


def _selected(bench: Bench, sampler: Spec, real: str) -> tuple[ImageSet, ...]:
    train = bench.splits[real]
    row = {name: i for i, name in enumerate(map(str, train.ids))}

    def work(folder: Path) -> dict[str, Any]:
        config = bench.configure("samplers", sampler)
        runtime = bench.runtime(config, folder)
        parts = config.build().select(train, seed=bench.seed("sampler"), runtime=runtime)
        for number, part in enumerate(parts):
            strangers = [name for name in map(str, part.ids) if name not in row]
            if strangers:
                raise DataLeak(f"sampler {sampler.use} shows {strangers[0]!r}, which is not in {real}")
            save_npy(
                folder / f"part-{number}.npy", np.array([row[name] for name in map(str, part.ids)], dtype=np.int64)
            )
        counts = [part.counts().tolist() for part in parts]
        return {"num_parts": len(parts), "counts": counts, "curve": runtime.curve}

    inputs = {"sampler": bench.identity("samplers", sampler), "train": train.fingerprint, "seed": bench.seed("sampler")}
    key = Unit("shown", inputs).key

    def load() -> tuple[ImageSet, ...]:
        record = bench.unit("shown", inputs, work)
        index = [bench.shelf.array(record, f"part-{n}.npy") for n in range(record["result"]["num_parts"])]
        whole = np.arange(len(train))
        return tuple(train if np.array_equal(i, whole) else train.take(i) for i in index)

    parts: tuple[ImageSet, ...] = bench.remember(f"shown {key}", load)
    return parts


def fit_parts(bench: Bench, source: Source, share: float) -> list[Record]:
    """One fit unit for each shown part, taken up to the rung `share`; earlier rungs are computed where missing."""
    return [
        _fit_part(bench, source, number, part, share)
        for number, part in enumerate(shown_parts(bench, source.sampler, source.real))
    ]


def _fit_part(bench: Bench, source: Source, number: int, shown: ImageSet, share: float) -> Record:
    config = bench.configure("generators", source.generator)
    assert isinstance(config, GeneratorConfig)
    rungs = config.rungs()
    earlier = [rung for rung in rungs if rung < share - 1e-9]
    before = _fit_part(bench, source, number, shown, earlier[-1]) if earlier else None
    bases = {_name(spec): fit_parts(bench, source.with_base(spec), 1.0) for spec in _bases(config)}
    seed = bench.seed("fit", source.fit_seed, number)
    inputs = {
        "generator": bench.identity("generators", source.generator), "shown": shown.fingerprint, "seed": seed,
        "share": share, "before": before and before["key"], "bases": [r["key"] for rs in bases.values() for r in rs],
        "look": _look_counts(bench, source, number).tolist(),
    }  # fmt: skip
    fit_key = bench.unit_of("fit", inputs).key

    def earlier_checkpoint(folder: Path) -> bool:
        if before is None or not any(name.startswith("checkpoint/") for name in before["files"]):
            return False
        bench.store.fetch(before, folder, "checkpoint/")
        return True

    def fitted(spec: Spec | None) -> tuple[Generator, ...]:
        return generators(bench, source.with_base(spec), bases[_name(spec)]) if spec else ()

    def work(folder: Path) -> dict[str, Any]:
        generator: Generator = config.build()
        nothing = {"step": -1, "images_seen": None}
        last = [nothing, *(before["result"]["seen"] if before else ())][-1]

        def look(target: Path, step: int) -> dict[str, Any]:
            quiet = bench.runtime(config, folder, fitted=fitted, stoppable=False)
            counts = _look(bench, source, number, generator, shown, quiet, target / f"{step}.npy")
            seen = [n["images_seen"] for s, n in runtime.curve if s <= step and "images_seen" in n]
            return {"images_seen": (seen or [last["images_seen"]])[-1], "counts": counts}

        checkpoints = Checkpoints(
            bench.store, fit_key, folder.parent / "checkpoints", earlier_checkpoint, look,
            before_step=last["step"], every_s=bench.config.runtime.checkpoint_s,
        )  # fmt: skip
        runtime = bench.runtime(config, folder, fit_share=share, checkpoints=checkpoints, fitted=fitted)
        generator.fit(shown, seed=seed, runtime=runtime)
        generator.save(folder / "model")
        checkpoints.seen_folder.rename(folder / "seen")
        if checkpoints.state is not None and share < rungs[-1]:
            checkpoints.state.rename(folder / "checkpoint")
        fitted_on = [shown.fingerprint, *(f for rs in bases.values() for r in rs for f in r["result"]["fitted_on"])]
        fitted_on += [UNKNOWN] if generator.fitted_on_unknown else []
        return {
            "fitted_on": sorted(set(fitted_on)), "curve": runtime.curve, "counts": shown.counts().tolist(),
            "seen": checkpoints.seen,
        }  # fmt: skip

    return bench.unit("fit", inputs, work)


def _look_counts(bench: Bench, source: Source, number: int) -> np.ndarray:
    """How many images of each class part `number` draws at a checkpoint, int64 (K,): all parts in shown's proportions.

    None of a class that was not shown, at least one of every other.
    """
    wanted = bench.config.fit.quality.checkpoint_images
    parts = [part.counts() for part in shown_parts(bench, source.sampler, source.real)]
    own, total = parts[number], sum(int(counts.sum()) for counts in parts)
    return np.maximum(np.round(wanted * own / total).astype(np.int64), own > 0) if wanted else np.zeros_like(own)


def _look(
    bench: Bench, source: Source, number: int, generator: Generator, shown: ImageSet, runtime: UnitRuntime, path: Path
) -> list[int]:
    """Draw with the seeds that every checkpoint uses, and write the images, class by class: uint8 (N, H, W, C).

    Returns how many of each class.
    """
    seed = bench.seed("look", source.fit_seed, number)
    limits = [generator.capacity(label) for label in range(shown.num_classes)]
    counts = [
        int(n) if m is None else min(int(n), m)
        for n, m in zip(_look_counts(bench, source, number), limits, strict=True)
    ]
    pieces = [np.empty((0, *shown.image_shape), dtype=np.uint8)]
    for label, count in enumerate(counts):
        index = np.arange(count)
        draw = Draw(np.full(count, label, dtype=np.int64), index, image_seeds(seed, label, index))
        sources = shown if generator.needs_sources else None
        pieces += [shard.images for shard in generator.sample(draw, sources=sources, runtime=runtime)] if count else []
    save_npy(path, np.concatenate(pieces))
    return counts


@dataclass(frozen=True)
class Seen:
    """What a fit could draw at one checkpoint, all parts together.

    steps: of each part; step: their sum. images_seen: training images used up to then, None where a part does not tell.
    """

    steps: tuple[int, ...]
    images_seen: float | None
    images: ImageSet

    @property
    def step(self) -> int:
        """A number that grows from one checkpoint to the next."""
        return sum(self.steps)


def rung_before(bench: Bench, fits: Sequence[Record]) -> list[Record]:
    """The fits of the rung before; none at the first."""
    return [bench.store.read_json(f"fit/{key}/record.json") for f in fits if (key := f["inputs"]["before"])]


def seen(bench: Bench, fits: Sequence[Record]) -> list[Seen]:
    """Every checkpoint of these fits and of the rungs before them, in order; without images where none were drawn.

    Parts may have different numbers of steps: a checkpoint of the one that has most is met by the newest of each other.
    """
    looks = [_looks(bench, record) for record in fits]
    marks = max(looks, key=len)
    found = []
    for share, *_ in marks:
        met = [([look for look in part if look[0] <= share + 1e-9] or part[:1])[-1:] for part in looks]
        if all(met):
            found.append(_seen(bench, [(record, row) for ((_, record, row),) in met]))
    return found


def _looks(bench: Bench, record: Record) -> list[tuple[float, Record, dict[str, Any]]]:
    """(share of the training, fit, row) of every look at one part, the rungs before included."""
    earlier = [look for before in rung_before(bench, [record]) for look in _looks(bench, before)]
    rows = record["result"]["seen"]
    return earlier + [(record["inputs"]["share"] * row["step"] / rows[-1]["step"], record, row) for row in rows]


def _seen(bench: Bench, parts: Sequence[tuple[Record, dict[str, Any]]]) -> Seen:
    pieces = [_seen_part(bench, record, row) for record, row in parts]
    pixels, labels = (np.concatenate(column) for column in zip(*pieces, strict=True))
    steps, each = tuple(row["step"] for _, row in parts), [row["images_seen"] for _, row in parts]
    ids = np.array([f"synthetic/seen/{sum(steps)}/{i}" for i in range(len(labels))], dtype=str)
    images = ImageSet(pixels, labels, ids, ids, bench.splits["train"].class_names)
    return Seen(steps, None if None in each else float(sum(each)), images)


def _seen_part(bench: Bench, record: Record, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    images = bench.shelf.array(record, f"seen/{row['step']}.npy")
    return images, np.repeat(np.arange(len(row["counts"])), row["counts"])


def _name(spec: Spec) -> str:
    return spec.model_dump_json()


def _bases(config: GeneratorConfig) -> list[Spec]:
    return [need.generator for need in config.needs() if isinstance(need, Fitted) and need.generator is not None]


def generators(bench: Bench, source: Source, fits: Sequence[Record]) -> tuple[Generator, ...]:
    """The fitted generators, one for each part; kept in this process."""

    def load(record: Record) -> Generator:
        with bench.store.folder(record, "model/") as folder:
            component = type(bench.configure("generators", source.generator)).component
            generator = component.load(folder)  # type: ignore[attr-defined]
            generator.config = bench.configure("generators", source.generator)  # locations are those of today
            found: Generator = generator
            return found

    return tuple(bench.remember(f"generator {record['key']}", lambda r=record: load(r)) for record in fits)  # type: ignore[misc]
