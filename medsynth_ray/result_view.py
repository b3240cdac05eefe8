"""Everything that the report of a sweep shows, gathered from its result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsynth_ray import yamlfile
from medsynth_ray.details import flip_images
from medsynth_ray.driver import quoted
from medsynth_ray.engine import pools
from medsynth_ray.engine.bench import load_npy
from medsynth_ray.engine.journal import seen
from medsynth_ray.images import ImageSet
from medsynth_ray.readers import read_results
from medsynth_ray.report.view import REAL, CheckpointPreview, NearCopy, Preview, ReportView
from medsynth_ray.stats.published import measured_cells, published_tables

if TYPE_CHECKING:
    from medsynth_ray.results import SweepResult


class Gatherer:
    """Reads the records of one result for its report."""

    def __init__(self, result: SweepResult) -> None:
        self.result = result
        self.config, self.store, self.data, self.plan = result.config, result.store, result.data, result.plan

    def rung_rows(self) -> list[dict[str, Any]]:
        """Successive halving: every rung of every setting."""
        reached = {(f["label"], f["wave"], f["candidate"], f["share"]) for f in self.plan.fits}
        rows = []
        for label in self.config.generators:
            for f in self.result.fits_of(label):
                later = {s for (g, w, c, s) in reached if (g, w, c) == (label, f["wave"], f["candidate"])}
                rows.append({
                    "generator": label, "candidate": f["candidate"], "share": f["share"],
                    "quality": f["result"] and f["result"]["quality"], "promoted": max(later) > f["share"],
                    "parameters": f["arm"]["parameters"],
                })  # fmt: skip
        return rows

    def view(self, command: Sequence[str], run: dict[str, Any]) -> ReportView:
        """Everything that the report shows."""
        return ReportView(
            name=self.config.name, sweep_id=self.config.sweep_id, status=self.result.status(run),
            description=self.config.description, verdict=self.result.verdict, arms=self.result.arm_rows(),
            generators=self.result.generators(), rungs=self.rung_rows(), previews=self.previews(),
            near_copies=self.near_copies(), audit=[f.to_json() for f in self.data.findings], counts=self.data.counts(),
            class_names=self.data.class_names, power=self.result.power.to_json(), looks=self.looks(),
            config_yaml=yamlfile.dump(self.config), command=quoted(command), run=run, curves=self.curves(),
            checkpoint_previews=self.checkpoint_previews(), thumbnails=self.thumbnails(), real_share=self.real_share(),
            **self.published(), **self.evidence(),
        )  # fmt: skip

    def evidence(self) -> dict[str, Any]:
        """The locked test in detail; images of it only where real ones may be shown."""
        found = self.result.evidence
        curve = found and found["learning_curve"]
        return {
            "evidence": found, "learning_curve": curve, "flip_images": flip_images(self.result, found),
            "readers": self.readers(),
        }  # fmt: skip

    def readers(self) -> dict[str, Any] | None:
        """The reader study that the sweep file names; `caveat` says where it is of another sweep.

        Raises:
            ConfigError: its file cannot be read, or is none of `medsynth readers score`.
        """
        path = self.config.report.readers.results
        if path is None:
            return None
        found = read_results(Path(path))
        own = self.config.sweep_id
        caveat = f"This study is of another sweep, {found['sweep']}, not of this one, {own}: of other images."
        return {**found, "caveat": "" if found["sweep"] == own else caveat}

    def looks(self) -> int:
        """How many sweeps of this store have opened this locked test."""
        found = self.store.list(f"look/{self.data.part('test').fingerprint[:32]}")
        return len({name.rpartition("-")[0] for name in found})  # <sweep>-<hash of the winner>

    def published(self) -> dict[str, Any]:
        """The tables of the paper, and what this sweep measured in their place."""
        paper = self.config.published
        if paper is None:
            return {}
        rows = [("mix", row) for row in self.plan.mix] + [("confirm", row) for row in self.plan.confirm]
        scores = {
            (phase, row["arm"]): [row["result"]["repeats"][r] for r in sorted(row["result"]["repeats"], key=int)]
            for phase, row in rows
            if row["result"]
        }
        cells = measured_cells(
            paper, arms=self.result.arm_rows(), generators=self.result.generators(), repeat_scores=scores
        )
        return {"published": published_tables(paper), "measured_cells": cells}

    def real_share(self) -> dict[str, Any] | None:
        """Shares and counts of real images, where classifiers and generators do not use the same."""
        shares, splits = self.config.data.real_share, self.result.splits
        if splits["train"] is splits["showable"]:
            return None
        counts = {"classifier_images": len(splits["train"]), "generator_images": len(splits["showable"])}
        return {**shares.model_dump(), **counts}

    def thumbnails(self) -> dict[str, np.ndarray]:
        """Small images of what the audit found; none where real images are withheld."""
        return self.data.thumbnails if self.config.report.real_images else {}

    def curves(self) -> list[dict[str, Any]]:
        """Quality against training images seen, of every setting that was measured at a checkpoint."""
        return [
            {
                "generator": label, "candidate": f"{fit['candidate']}-{fit['wave']}", "share": fit["share"],
                "floor": rows[-1]["measured"]["details"].get("floor"), "best": best,
                "metric": rows[0]["measured"]["name"],
                "points": [(seen(r), *(r["measured"][k] for k in ("value", "low", "high"))) for r in rows],
            }
            for label in self.config.generators
            for fit, best in self._longest_fits(label)
            if (rows := [r for r in fit["result"]["checkpoints"] if r["measured"]["value"] is not None])
        ]  # fmt: skip

    def _longest_fits(self, label: str) -> list[tuple[dict[str, Any], bool]]:
        """The last rung that each setting of a generator reached, and whether it is the generator's best."""
        last = {(f["wave"], f["candidate"]): f for f in self.result.fits_of(label) if f["result"]}
        pools = [p["arm"]["id"] for p in self.plan.pools if p["label"] == label and p["role"] == "candidate"]
        finished = [(f["result"]["quality"], f["candidate"]) for f in last.values() if f["candidate"] in pools]
        best = min(finished, default=(None, None))[1]
        return [(fit, fit["candidate"] == best) for fit in last.values()]

    def checkpoint_previews(self) -> list[CheckpointPreview]:
        """What the best setting of each generator drew at its checkpoints; nothing where real images are withheld."""
        if not self.config.report.real_images:
            return []  # no gate has looked at them
        found = []
        for label in self.config.generators:
            for fit in [fit for fit, best in self._longest_fits(label) if best]:
                for row in fit["result"]["checkpoints"]:
                    path, where = f"curve/{fit['result']['curve']}", str(row["step"])
                    images = self.result.array(path, f"{where}/previews.npy")
                    labels = self.result.array(path, f"{where}/previews-labels.npy")
                    found += [
                        CheckpointPreview(label, seen(row), self.data.class_names[c], images[labels == c])
                        for c in np.unique(labels)
                    ]
        return found

    def previews(self) -> list[Preview]:
        """Real images, and the first synthetic ones of every generator."""
        found = []
        if self.config.report.real_images:
            train = self.data.part("train")
            for c, name in enumerate(train.class_names):
                found.append(Preview(REAL, name, train.of_class(c).pixels[: pools.PREVIEWS_PER_CLASS]))
        for name, path in self._preview_units():
            images, labels = self.result.array(path, "previews.npy"), self.result.array(path, "previews-labels.npy")
            if not self.config.report.real_images:
                kept = self.result.array(path, "previews-keep.npy")
                images, labels = images[kept], labels[kept]
            found += [Preview(name, self.data.class_names[c], images[labels == c]) for c in np.unique(labels)]
        return found

    def _preview_units(self) -> list[tuple[str, str]]:
        units = [
            (p["name"], f"kept/{p['result']['unit']}")
            for p in self.plan.pools
            if p["result"] and p["role"] != "control"
        ]
        named = {name for name, _ in units}
        for label in self.config.generators:
            last = next((f for f in reversed(self.result.fits_of(label)) if f["result"]), None)
            if (
                last is not None
                and last["result"]["unit"]
                and not any(n == label or n.startswith(f"{label}.") for n in named)
            ):
                units.append((label, f"quality/{last['result']['unit']}"))
        shown = [(name, path) for name, path in units if self._may_show(path)]
        return sorted(shown, key=lambda u: list(self.config.generators).index(u[0].split(".")[0]))

    def _may_show(self, path: str) -> bool:
        """Whether the images of a unit may be shown: of copies, or of what gates rejected, only where real ones may."""
        result = self.result.record(path)["result"]
        return self.config.report.real_images or pools.may_show(result)

    def near_copies(self, most: int = 12) -> list[NearCopy]:
        """The most suspicious pairs of each judged generator; none where no real image may be shown."""
        if not self.config.report.real_images:
            return []
        train = self.data.part("train")
        row_of = {str(name): i for i, name in enumerate(train.ids)}
        found = []
        for name, judged, images in self._judged():
            ranked = sorted(judged["flagged"], key=lambda f: (f["score"], f["id"]))
            for flag in ranked[:most]:
                if flag["id"] in images:
                    found.append(self._near_copy(name, flag, images[flag["id"]], train, row_of))
        return found

    def _near_copy(
        self, name: str, flag: dict[str, Any], synthetic: np.ndarray, train: ImageSet, row_of: dict[str, int]
    ) -> NearCopy:
        real = train.pixels[row_of[flag["real_id"]]] if flag["real_id"] in row_of else None
        return NearCopy(name, flag["space"], flag["score"], synthetic, real, flag["id"], flag["real_id"])

    def _judged(self) -> list[tuple[str, dict[str, Any], dict[str, np.ndarray]]]:
        """(name, judgement, images by id) of every candidate pool or, without one, of its last fit's flagged images."""
        found = []
        for pool in self.plan.pools:
            if pool["role"] == "candidate" and pool["result"]:
                shards = self.result.record(f"kept/{pool['result']['unit']}")["inputs"]["shards"]
                found.append((pool["name"], pool["result"], self._shard_images(shards, pool["result"]["flagged"])))
        for label in self.config.generators:
            if not any(p["label"] == label for p in self.plan.pools):
                last = next((f for f in reversed(self.result.fits_of(label)) if f["result"]), None)
                if last is not None and last["result"]["unit"]:
                    path = f"quality/{last['result']['unit']}"
                    images, ids = self.result.array(path, "flagged.npy"), last["result"]["flagged_ids"]
                    found.append((label, last["result"], dict(zip(ids, images, strict=True))))
        return found

    def _shard_images(self, shards: Sequence[str], flagged: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
        wanted = {flag["id"] for flag in sorted(flagged, key=lambda f: f["score"])[:50]}
        images: dict[str, np.ndarray] = {}
        for key in shards if wanted else []:
            record = self.result.record(f"shard/{key}")
            label, start = record["result"]["label"], record["result"]["start"]
            pixels = load_npy(self.store.file(record, "images.npy"))
            names = [f"synthetic/{self.data.class_names[label]}/{start + i}" for i in range(len(pixels))]
            images |= {n: p for n, p in zip(names, pixels, strict=True) if n in wanted}
        return images
