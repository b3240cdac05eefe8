"""The three phases of a sweep as straight-line code: fit, mix, confirm. What a trial does is in `trial.py`.

Every `yield` is a barrier: it hands out jobs and goes on with their results, in order. Every choice is a recorded
decision. Nothing here depends on time, on the number of workers, or on which worker was first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medsynth_ray import registry
from medsynth_ray.config import SweepConfig
from medsynth_ray.engine import search
from medsynth_ray.engine.jobs import CONTROLS, Arm, Jobs
from medsynth_ray.engine.plan import Decisions, Job, Steps, promote
from medsynth_ray.seeds import derive

Row = dict[str, Any]
REFERENCE = "real_showable"
"""Real only, on all images that the generators were shown, where `data.real_share` gives classifiers fewer: what more
real images would do. It is shown beside the verdict and does not enter it."""


@dataclass
class Plan:
    """A sweep's plan and what has come out so far.

    counts: images of each class in train, int64 (K,). metric: how the primary metric is called in scores. check: looks
    at the pilot's row (without a result if it failed) and raises where the design is hopeless. fits, pools, mix,
    confirm: one row for each finished job. winners: arms that are confirmed, the best on val first.
    """

    config: SweepConfig
    jobs: Jobs
    decisions: Decisions
    counts: np.ndarray
    metric: str
    check: Callable[[Row], None] = lambda pilot: None
    pilot: Row | None = None
    fits: list[Row] = field(default_factory=list)
    pools: list[Row] = field(default_factory=list)
    mix: list[Row] = field(default_factory=list)
    confirm: list[Row] = field(default_factory=list)
    winners: list[Row] = field(default_factory=list)
    complete: bool = False

    # --- the whole

    @property
    def winner(self) -> Row | None:
        """The best arm of val; None while it is not known, or if there is none."""
        return self.winners[0] if self.winners else None

    def steps(self) -> Steps:
        """Pilot -> fit -> mix -> confirm."""
        early = self.config.verdict.pilot_repeats > 1 or self.config.mode == "as_published"
        phases = ("fit", "mix", "confirm") if early else ("fit", "mix")
        yield [
            self.jobs.embed(split, spaces)
            for split in self._distinct("train", "showable", "val")
            if (spaces := self.jobs.spaces(*phases))
        ]
        if self.config.mode == "as_published":
            yield from self._as_published()
            return
        yield from self._pilot()
        yield [
            self._real_only(),
            *(self._generator(label) for label in self.config.generators),
            *(self._pool(control, self.jobs.control_arm(control), "control") for control in CONTROLS),
        ]
        yield [self._arm(pool, mixer, ratio) for pool in self._usable() for mixer, ratio in self.mixes()]
        self.winners = self._choose()
        if self.winners:
            yield from self._confirm(self.winners)
        self.complete = True

    def _pilot(self) -> Steps:
        """Real only on val with the classifier of confirm, some repeats: is the design hopeless?"""
        repeats = list(range(self.config.verdict.pilot_repeats))
        if len(repeats) < 2:
            return
        (result,) = yield [self.jobs.score("pilot", phase="pilot", repeats=repeats)]
        self.pilot = _arm_row("pilot", "control", None, None, None, result)
        self.check(self.pilot)

    def _as_published(self) -> Steps:
        """Every arm once on the test images; the best of them is what such a study reports."""
        yield [self._generator(label) for label in self.config.generators]
        self.decisions.look(self.jobs.fingerprints["test"], self.config.sweep_id, "as published")
        self.confirm = yield [self._once(None, None, None)] + [
            self._once(pool, mixer, ratio) for pool in self._usable() for mixer, ratio in self.mixes()
        ]
        scored = [r for r in self.confirm if r["role"] == "candidate" and r["result"]]
        self.winners = sorted(scored, key=lambda r: (-mean_score(r["result"], self.metric), r["arm"]))[:1]
        self.complete = True

    def _once(self, pool: Row | None, mixer: str | None, ratio: float | None) -> Steps:
        name = "real_only" if pool is None or mixer is None else arm_name(pool["name"], mixer, ratio)
        role, lacking = ("control", "") if pool is None else ("candidate", self._unmixable(pool, mixer, ratio))
        result = None
        if not lacking:
            (result,) = yield [
                self.jobs.score(
                    name, pool=pool["result"]["unit"] if pool else None, mixer=mixer, ratio=ratio, phase="confirm",
                    repeats=[0], label=pool["name"] if pool else "", arm=pool and pool["arm"],
                )
            ]  # fmt: skip
        return {**_arm_row(name, role, pool, mixer, ratio, result, skipped=lacking), "of": None}

    def _distinct(self, *splits: str) -> list[str]:
        """The first name of each of these image sets."""
        first = {self.jobs.fingerprints[split]: split for split in reversed(splits)}
        return [split for split in splits if first[self.jobs.fingerprints[split]] == split]

    # --- phase 1: fit

    def _generator(self, label: str) -> Steps:
        """Search one generator's settings in waves, each by successive halving; draw the pools of the best."""
        config = self.config.generators[label]
        told: list[search.Told] = []
        finished: dict[str, tuple[float | None, Arm]] = {}
        for wave in range(1 if config.search is None else search.num_waves(config.search)):
            proposals = self._proposals(label, wave, told)
            reached = yield [self._halving(label, wave, proposals)]
            for values, qualities in zip(proposals, reached[0], strict=True):
                arm = self.jobs.arm(label, values)
                last = len(qualities) == len(self.jobs.generator_config(arm).rungs())
                told.append(search.Told(values, tuple(qualities), last))
                if last:
                    finished[arm["id"]] = (qualities[-1], arm)
        ranked = [(key, value) for key, (value, _) in finished.items()]
        keep = self.config.fit.keep
        best = self.decisions.decide(f"survivors-{label}", ranked, lambda: promote(ranked, keep))
        yield [self._pool(label, finished[key][1], "candidate") for key in best]

    def _proposals(self, label: str, wave: int, told: list[search.Told]) -> list[dict[str, Any]]:
        config = self.config.generators[label]
        if config.search is None:
            return [{}]
        space = config.search.space
        if space is None:
            space = self.jobs.generator_config(self.jobs.arm(label, {})).search_space()
        seed = derive(self.config.seed, "search", label)
        told_json = [[t.values, t.quality, t.finished] for t in told]
        asked = config.search
        proposals: list[dict[str, Any]] = self.decisions.decide(
            f"ask-{label}-{wave}", told_json, lambda: search.ask(asked, space, wave, told, seed)
        )
        return proposals

    def _halving(self, label: str, wave: int, proposals: list[dict[str, Any]]) -> Steps:
        """Take proposals up the rungs; a rung promotes its best 1/eta. Returns the qualities that each one reached."""
        arms = [self.jobs.arm(label, values) for values in proposals]
        reached: list[list[float | None]] = [[] for _ in arms]
        rungs = self.jobs.generator_config(arms[0]).rungs() if arms else ()
        alive = list(range(len(arms)))
        for number, share in enumerate(rungs):
            results = yield [self.jobs.fit(label, arms[i], share) for i in alive]
            for i, result in zip(alive, results, strict=True):
                reached[i].append(result["quality"] if result else None)
                self.fits.append(_fit_row(label, wave, share, arms[i], result))
            if number + 1 < len(rungs):
                alive = self._promoted(label, wave, number, arms, alive, reached)
        return reached

    def _promoted(
        self, label: str, wave: int, rung: int, arms: list[Arm], alive: list[int], reached: list[list[float | None]]
    ) -> list[int]:
        ranked = [(f"{arms[i]['id']}-{i}", reached[i][-1]) for i in alive]
        num = math.ceil(len(alive) / self.config.fit.eta)
        best = self.decisions.decide(f"promote-{label}-{wave}-{rung}", ranked, lambda: promote(ranked, num))
        return [i for i, (key, _) in zip(alive, ranked, strict=True) if key in best]

    def _pool(self, label: str, arm: Arm, role: str) -> Steps:
        demand = self._demand()
        if not any(demand):
            return  # no arm takes a synthetic image
        (result,) = yield [self.jobs.pool(label, arm, demand)]
        name = label if self.config.fit.keep == 1 or role == "control" else f"{label}.{arm['id']}"
        self.pools.append({"label": label, "name": name, "role": role, "arm": arm, "result": result})

    def _demand(self) -> list[int]:
        """The most synthetic images of each class that any arm takes."""
        each = [self.takes(mixer, ratio) for mixer, ratio in self.mixes()]
        return [int(n) for n in np.max([*each, np.zeros_like(self.counts)], axis=0)]

    # --- phase 2: mix

    def mixes(self) -> list[tuple[str, float | None]]:
        """Every (mixer's label, ratio) of the grid; ratio None for a mixer that sets its own counts."""
        mixes: list[tuple[str, float | None]] = []
        for label, spec in self.config.mix.mixers.items():
            takes_ratio = registry.load("mixers", spec.use).takes_ratio  # type: ignore[attr-defined]
            mixes += [(label, r) for r in self.config.mix.ratios if r > 0] if takes_ratio else [(label, None)]
        return mixes

    def takes(self, mixer: str, ratio: float | None) -> np.ndarray:
        """How many synthetic images of each class a mixer takes at a ratio: int64 (K,)."""
        spec = self.config.mix.mixers[mixer]
        takes: np.ndarray = registry.configure("mixers", spec).build().demand(self.counts, ratio=ratio)
        return takes

    def _usable(self) -> list[Row]:
        """Pools that passed their gates, candidates first, in the order of the sweep file."""
        order = [*self.config.generators, *CONTROLS]
        passed = [p for p in self.pools if p["result"] is not None and p["result"]["passed"]]
        return sorted(passed, key=lambda p: (p["role"], order.index(p["label"]), p["name"]))

    def _real_only(self) -> Steps:
        repeats = list(range(self.config.mix.repeats))
        job = self.jobs.score("real_only", phase="mix", repeats=repeats)
        (result,) = yield [job]
        self.mix.append(_arm_row("real_only", "control", None, None, None, result))

    def _arm(self, pool: Row, mixer: str, ratio: float | None) -> Steps:
        name = arm_name(pool["name"], mixer, ratio)
        if lacking := self._unmixable(pool, mixer, ratio):
            self.mix.append(_arm_row(name, pool["role"], pool, mixer, ratio, None, skipped=lacking))
            return
        repeats = list(range(self.config.mix.repeats))
        key = pool["result"]["unit"]
        job = self.jobs.score(
            name, pool=key, mixer=mixer, ratio=ratio, phase="mix", repeats=repeats, label=pool["name"], arm=pool["arm"]
        )
        (result,) = yield [job]
        self.mix.append(_arm_row(name, pool["role"], pool, mixer, ratio, result))

    def _unmixable(self, pool: Row, mixer: str | None, ratio: float | None) -> str:
        """Why an arm cannot be made; empty if it can."""
        assert mixer is not None, "an arm with a pool has a mixer"
        if not self.takes(mixer, ratio).any():
            return "takes no synthetic image of any class"
        return self._lacking(pool, mixer, ratio)

    def _lacking(self, pool: Row, mixer: str, ratio: float | None) -> str:
        """Why a pool is too small for an arm; empty if it is not."""
        takes, has = self.takes(mixer, ratio), np.array(pool["result"]["kept"])
        short_of = [f"{int(takes[c])} of class {c} needed, {int(has[c])} kept" for c in np.flatnonzero(has < takes)]
        return "; ".join(short_of)

    def _choose(self) -> list[Row]:
        """The `confirm.winners` candidates with the best mean on val, the best first; ties go to the first name."""
        rows = {r["arm"]: r for r in self.mix if r["role"] == "candidate" and r["result"]}
        means = sorted((-mean_score(r["result"], self.metric), name) for name, r in rows.items())
        most = self.config.confirm.winners
        names = self.decisions.decide("winners", [most, means], lambda: [name for _, name in means[:most]])
        return [rows[name] for name in names]

    # --- phase 3: confirm

    def _confirm(self, winners: Sequence[Row]) -> Steps:
        """The winners and every control on the locked test, repeat by repeat."""
        for winner in winners:
            self.decisions.look(
                self.jobs.fingerprints["test"], self.config.sweep_id, f"{winner['arm']} {winner['pool']}"
            )
        if spaces := self.jobs.spaces("confirm"):
            yield [self.jobs.embed(split, spaces) for split in self._distinct("train", "showable", "val", "test")]
        repeats, sources = range(self.config.confirm.repeats), self._sources(winners)
        results = yield [self._confirm_one(source, r) for source in sources for r in repeats]
        for place, source in enumerate(sources):
            own = results[place * len(repeats) : (place + 1) * len(repeats)]
            self.confirm.append(_confirm_row(source, own))

    def _sources(self, winners: Sequence[Row]) -> list[_Source]:
        """What is fitted on the locked test: each winner with its controls, and what stands beside the verdict."""
        found = [_Source("winner", winner["arm"], winner) for winner in winners] + [_Source("control", "real_only")]
        for winner in winners:
            for control in CONTROLS:
                if self.applies(control, winner):
                    name = control if winner is winners[0] else f"{control} for {winner['arm']}"
                    found.append(_Source("control", name, self._control_row(control, winner), of=winner["arm"]))
        if self.jobs.fingerprints["showable"] != self.jobs.fingerprints["train"]:
            found.append(_Source("reference", REFERENCE, real="showable"))
        shares = sorted(self.config.confirm.learning_curve)
        return found + [_Source("curve", f"real_only@{share:g}", real=f"train@{share:g}") for share in shares]

    def applies(self, control: str, winner: Row) -> bool:
        """Whether a control says something about the winner: not where the winner is that control's generator."""
        return self.config.generators[winner["label"]].use != CONTROLS[control]

    def _control_row(self, control: str, winner: Row) -> Row:
        """The control's pool, mixed like the winner; without a pool (its trial failed) it stays without a result."""
        pool = next(p for p in self.pools if p["label"] == control and p["role"] == "control")
        return {
            **winner,
            "arm": control,
            "role": "control",
            "label": control,
            "pool": pool["result"] and pool["result"]["unit"],
            "settings": pool["arm"],
        }

    def _confirm_one(self, source: _Source, repeat: int) -> Steps:
        """One arm in one repeat; where the verdict is about the method, its pool is fitted and drawn anew for it."""
        row = source.row
        pool = None if row is None else row["pool"]
        if row is not None and pool is None:
            return None
        if row is not None and self.config.confirm.about == "method":
            demand = [int(n) for n in self.takes(row["mixer"], row["ratio"])]
            (drawn,) = yield [self.jobs.pool(row["label"], row["settings"], demand, fit_seed=repeat + 1)]
            if drawn is None:
                return None
            lacking = drawn["reason"] or self._lacking({"result": drawn}, row["mixer"], row["ratio"])
            if lacking:
                return {"rejected": f"repeat {repeat}: {lacking}"}
            pool = drawn["unit"]
        (result,) = yield [self._confirm_job(source, pool, repeat)]
        return result

    def _confirm_job(self, source: _Source, pool: str | None, repeat: int) -> Job:
        row = source.row
        return self.jobs.score(
            source.name, pool=pool, mixer=row["mixer"] if row else None, ratio=row["ratio"] if row else None,
            phase="confirm", repeats=[repeat], label=row["label"] if row else "", arm=row and row["settings"],
            real=source.real,
        )  # fmt: skip


@dataclass(frozen=True)
class _Source:
    """An arm of confirm. role: winner | control | reference | curve; the last two are no part of the verdict.

    row: the arm of mix that it is, or is mixed like. of: the winner that a control belongs to; None: to all. real: the
    real images.
    """

    role: str
    name: str
    row: Row | None = None
    of: str | None = None
    real: str = "train"


def arm_name(pool: str, mixer: str, ratio: float | None) -> str:
    """`gaussian+add@0.5`."""
    return f"{pool}+{mixer}" if ratio is None else f"{pool}+{mixer}@{ratio:g}"


def mean_score(result: Row, metric: str) -> float:
    """Mean of a metric over the repeats of an arm."""
    return float(np.mean([scores[metric] for scores in result["repeats"].values()]))


def _fit_row(label: str, wave: int, share: float, arm: Arm, result: Row | None) -> Row:
    return {
        "label": label,
        "wave": wave,
        "share": share,
        "candidate": arm["id"],
        "arm": arm,
        "result": result,
    }


def _arm_row(
    name: str,
    role: str,
    pool: Row | None,
    mixer: str | None,
    ratio: float | None,
    result: Row | None,
    skipped: str = "",
) -> Row:
    return {
        "arm": name, "role": role, "label": pool and pool["label"], "settings": pool and pool["arm"],
        "pool": pool and pool["result"]["unit"], "mixer": mixer, "ratio": ratio, "result": result, "skipped": skipped,
    }  # fmt: skip


def _confirm_row(source: _Source, results: list[Row | None]) -> Row:
    whole, row = None, source.row
    rejected = [r["rejected"] for r in results if r is not None and "rejected" in r]
    if not rejected and all(r is not None for r in results):
        done = [r for r in results if r is not None]
        whole = {
            **done[0],
            **{k: {n: v for r in done for n, v in r[k].items()} for k in ("repeats", "scores")},
            "units": [u for r in done for u in r["units"]],
        }
    return {
        "arm": source.name, "role": source.role, "of": source.of, "label": row and row["label"],
        "settings": row and row["settings"], "pool": row and row["pool"], "mixer": row and row["mixer"],
        "ratio": row and row["ratio"], "result": whole, "skipped": "; ".join(rejected),
    }  # fmt: skip
