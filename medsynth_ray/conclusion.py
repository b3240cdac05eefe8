"""From the records of a sweep to its verdict: who is compared with whom, and what a reader must know beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medsynth_ray import registry
from medsynth_ray.engine.jobs import CONTROLS
from medsynth_ray.protocols import ComponentConfig, Features, Spec
from medsynth_ray.seeds import derive
from medsynth_ray.stats.as_published import as_published
from medsynth_ray.stats.paired import holm
from medsynth_ray.stats.verdict import Comparison, Verdict, compare, decide, floored, largest_p, no_candidate
from medsynth_ray.sweep import Row, mean_score

if TYPE_CHECKING:
    from medsynth_ray.config import SweepConfig
    from medsynth_ray.results import SweepResult


class Conclusion:
    """Decides one result, whose phases are all done."""

    def __init__(self, result: SweepResult) -> None:
        self.result = result
        self.config, self.plan, self.primary = result.config, result.plan, result.primary

    def to_json(self) -> dict[str, Any]:
        """`Verdict.to_json()` of the best winner, and `others`: that of every other arm that was confirmed."""
        if self.config.mode == "as_published":
            return self._as_published()
        verdicts = self._verdicts()
        helping = [name for name, verdict in verdicts.items() if verdict.word == "helps"]
        compared = [name for name, verdict in verdicts.items() if verdict.comparisons]
        first = (helping or compared or list(verdicts))[0]
        others = [{"arm": name, **verdict.to_json()} for name, verdict in verdicts.items() if name != first]
        return {**verdicts[first].to_json(), "arm": first or None, "privacy": self._privacy(first), "others": others}

    def _verdicts(self) -> dict[str, Verdict]:
        """Winner -> verdict, in the order of val; one under "" where there is no winner."""
        if not self.plan.winners:
            return {"": self._none(self._why_none(), "")}
        arms = [winner["arm"] for winner in self.plan.winners]
        compared = {arm: {} if self._refused(arm) else self._comparisons(arm) for arm in arms}
        adjusted = holm({arm: largest_p(found) if found else 1.0 for arm, found in compared.items()})
        return {
            arm: self._decided(arm, found, adjusted[arm]) if found else self._not_remade(arm)
            for arm, found in compared.items()
        }

    def _refused(self, arm: str) -> list[str]:
        """Of a winner and its controls: pools that were made anew for a repeat and cannot be used, and why."""
        own = [row for row in self.plan.confirm if row["arm"] == arm or row["of"] == arm]
        return [f"{row['arm']}: {row['skipped']}" for row in own if row["skipped"]]

    def _not_remade(self, arm: str) -> Verdict:
        said = "; ".join(self._refused(arm))
        what = f"No candidate: some pools that were made anew for a repeat cannot be used ({said})."
        return replace(self._none(said, arm), sentence=what)

    def _none(self, why: str, arm: str) -> Verdict:
        return no_candidate(
            why, effect=self.config.verdict.effect, about=self.config.confirm.about, primary=self.primary,
            caveats=self.caveats(arm),
        )  # fmt: skip

    def _comparisons(self, arm: str) -> dict[str, Comparison]:
        """Control -> comparison of one winner with it."""
        test = self.result.data.part("test")
        rows = {row["arm"]: row for row in self.plan.confirm}
        own = self.result.probs(rows[arm])
        controls = [row for row in self.plan.confirm if row["role"] == "control" and row["of"] in (None, arm)]
        return {
            (name := row["label"] or row["arm"]): compare(
                own, self.result.probs(row), test.labels, test.groups, control=name, primary=self.primary,
                seed=derive(self.config.seed, "bootstrap", row["arm"]), num_arms=len(self.plan.winners),
            )
            for row in controls
        }  # fmt: skip

    def _decided(self, arm: str, comparisons: dict[str, Comparison], p_adjusted: float) -> Verdict:
        winner = self._winner(arm)
        mix = winner["mixer"] if winner["ratio"] is None else f"{winner['mixer']}, ratio {winner['ratio']:g}"
        decided = decide(
            comparisons, effect=self.config.verdict.effect, winner=f"{winner['label']} ({mix})",
            about=self.config.confirm.about, primary=self.primary, caveats=self.caveats(arm),
            p_adjusted=p_adjusted, num_arms=len(self.plan.winners),
        )  # fmt: skip
        real_only = next(row for row in self.plan.confirm if row["arm"] == "real_only")
        score = mean_score(real_only["result"], self.primary.key)
        return floored(decided, real_only=score, floor=self.config.verdict.floor)

    def _winner(self, arm: str) -> Row:
        return next(row for row in [*self.plan.winners, *self.plan.confirm] if row["arm"] == arm)

    def _why_none(self) -> str:
        rows = [row for row in self.result.generators() if row["role"] == "candidate"]
        said = "; ".join(f"{row['label']}: {row['reason']}" for row in rows if row["status"] != "ok")
        if said:
            return f"no pool came to the mix ({said})"
        split, rows = ("test", self.plan.confirm) if self.config.mode == "as_published" else ("val", self.plan.mix)
        skipped = sorted({row["skipped"] for row in rows if row["skipped"]})
        if skipped:
            return f"no arm could be scored on {split} ({'; '.join(skipped)})"
        return "no arm takes a synthetic image"

    # --- as published

    def _as_published(self) -> dict[str, Any]:
        test = self.result.data.part("test")
        scored = {row["arm"]: self.result.probs(row)[0] for row in self.plan.confirm if row["result"]}
        real_only = scored.pop("real_only")
        if not scored:
            why = self._why_none()
            none = replace(self._none(why, ""), sentence=f"No candidate: {why}; only real only was scored.")
            return {**none.to_json(), "arm": None, "privacy": "", "others": []}
        found = as_published(
            scored, real_only, test.labels, test.groups, primary=self.primary,
            seed=derive(self.config.seed, "as published"),
        )  # fmt: skip
        verdict = Verdict(
            word="as_published", sentence=found.sentence(self.primary.words()), winner=found.best, about="pool",
            primary=self.primary, effect=self.config.verdict.effect, comparisons=(),
            caveats=("mode: as_published. Run it with -s mode=rigorous for a verdict.", *self.caveats(found.best)),
            hardest=None, detectable=None,
        )  # fmt: skip
        json = verdict.to_json()
        return {**json, "arm": found.best, "privacy": "", "others": [], "as_published": found.to_json()}

    # --- beside the verdict

    def caveats(self, arm: str) -> list[str]:
        """What a reader must know beside the answer about an arm ("": there is none)."""
        return [*self._about_data(arm), *(self._about_pool(self._winner(arm)) if arm else ()), *self._untrained()]

    def _about_data(self, arm: str) -> Iterator[str]:
        train, showable = len(self.result.splits["train"]), len(self.result.splits["showable"])
        if showable > train and arm:
            yield (
                f"the generator was shown {showable:,} real images, the classifier learns from {train:,} of them: a "
                f"gain may come from the other {showable - train:,} real images and not from synthesis."
            )
        if self.config.data.groups == "none":
            yield "groups: none. Images of one patient may stand in train and test, which flatters every arm."

    def _about_pool(self, winner: Row) -> Iterator[str]:
        result = self.pool_of(winner)
        if result["fitted_on_unknown"]:
            yield "fitted on unknown data: the generator may have seen the locked test."
        if self.config.fit.canaries.count:
            yield "canaries were planted among the shown images: no other sweep has these generators."
        if "near_copy" not in {spec["use"] for spec in winner["settings"]["gates"].values()}:
            yield "privacy was not judged: no near_copy gate looked at this pool."
        if self.config.mode == "as_published":
            return
        if self.config.confirm.about == "pool":
            yield "conditional on one fitted generator and one draw of each control: others may do better or worse."
        for control in CONTROLS:
            if not self.plan.applies(control, winner):
                yield f"{control} was not compared: the winner is made by the same generator."
        if winner["mixer"] and self.config.mix.mixers[winner["mixer"]].use == "replace":
            yield "replace takes real images away: real_oversampled holds fewer different ones than real_only."

    def _untrained(self) -> Iterator[str]:
        """Networks that begin at random because the sweep file says so."""
        for where, config in _configured(self.config):
            if getattr(config, "random_init", False):
                yield f"random initialisation: {where} has no pretrained weights (random_init: true)."

    def pool_of(self, winner: Row) -> Row:
        """The result of the pool that a winner was mixed with."""
        found: Row = next(p["result"] for p in self.plan.pools if p["result"] and p["result"]["unit"] == winner["pool"])
        return found

    def _privacy(self, arm: str) -> str:
        """What the privacy gate said of an arm's pool, in a sentence; empty without an arm."""
        if not arm:
            return ""
        winner = self._winner(arm)
        gates = winner["settings"]["gates"]
        named = [label for label, spec in gates.items() if spec["use"] == "near_copy"]
        if not named:
            return "Privacy was not judged."
        judged = self.pool_of(winner)["gates"][named[0]]
        bound = max((v for k, v in judged["numbers"].items() if k.startswith("copy_rate_upper")), default=None)
        dropped = judged["judged"] - judged["kept"]
        upper = "" if bound is None else f"; at most {bound:.1%} of the pool are copies of the kinds it declares (95 %)"
        return (
            f"Privacy gate: passed, {dropped} of {judged['judged']} images dropped as too near to a shown one{upper}."
        )


def _configured(config: SweepConfig) -> Iterator[tuple[str, ComponentConfig]]:
    """Components that measure or classify, with the place where the sweep file names them."""
    named = [("fit.quality.space", "spaces", config.fit.quality.space)]
    named += [(f"fit.spaces.{label}", "spaces", spec) for label, spec in config.fit.spaces.items()]
    named += [(f"{phase}.classifier", "classifiers", getattr(config, phase).classifier) for phase in ("mix", "confirm")]
    for where, role, spec in named:
        yield from _with_needs(where, role, spec)


def _with_needs(where: str, role: str, spec: Spec) -> Iterator[tuple[str, ComponentConfig]]:
    found = registry.configure(role, spec)
    yield f"{where} ({spec.use})", found
    for need in found.needs():
        if isinstance(need, Features):
            yield from _with_needs(f"{where}'s space", "spaces", need.space)
