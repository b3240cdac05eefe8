"""Makes the jobs of a sweep: the arguments of a trial, and the identities that decide its key."""

from __future__ import annotations

from typing import Any

from medsynth_ray import registry
from medsynth_ray.config import SweepConfig
from medsynth_ray.engine.bench import ENGINE_VERSION
from medsynth_ray.engine.identity import component_identity
from medsynth_ray.engine.plan import Job
from medsynth_ray.engine.store import content_key
from medsynth_ray.protocols import Features, Fitted, GeneratorConfig, Spec

Arm = dict[str, Any]

CONTROLS = {"real_classic": "classic_augment", "real_oversampled": "copy_real"}
"""Controls that are mixed like the winner, with images made from real ones: control -> generator, never gated."""


class Jobs:
    """The jobs of one sweep on one frozen data set.

    fingerprints: of the splits, by name: train, showable, val, test.
    """

    def __init__(self, config: SweepConfig, fingerprints: dict[str, str]) -> None:
        self.config, self.fingerprints = config, fingerprints
        self._identities: dict[str, Any] = {}

    def arm(self, label: str, values: dict[str, Any]) -> Arm:
        """What draws the images of one generator arm, with `values` over its settings."""
        entry = self.config.generators[label]
        gates = {k: v.model_dump(mode="json") for k, v in self.config.gates_of(label).items()}
        sampler = entry.sampler.model_dump(mode="json")
        return self._named(entry.use, {**entry.config, **values}, sampler, gates, "showable")

    def control_arm(self, control: str) -> Arm:
        """What draws the images of a control: all of train, no gates."""
        return self._named(
            CONTROLS[control], getattr(self.config.controls, control), {"use": "all_real", "config": {}}, {}, "train"
        )

    def _named(
        self, use: str, config: dict[str, Any], sampler: dict[str, Any], gates: dict[str, Any], real: str
    ) -> Arm:
        """`parameters` are the settings that the sweep made, but for locations; `id` is six hex digits of them all."""
        arm = {"use": use, "config": config, "sampler": sampler, "gates": gates, "real": real}
        identity = self.generator_config(arm).identity()
        parameters = {k: v for k, v in config.items() if k in identity}
        return {**arm, "parameters": parameters, "id": content_key("arm", [use, identity])[:6]}

    def generator_config(self, arm: Arm) -> GeneratorConfig:
        """The validated settings of an arm's generator."""
        config = registry.configure("generators", Spec(use=arm["use"], config=arm["config"]))
        assert isinstance(config, GeneratorConfig)
        return config

    def embed(self, split: str, spaces: list[Spec]) -> Job:
        """Features of one split."""
        inputs = {"spaces": [self._identity("spaces", s) for s in spaces], "images": self.fingerprints[split]}
        return Job("embed", f"embed {split}", {"split": split, "spaces": _dumped(spaces)}, inputs)

    def fit(self, label: str, arm: Arm, share: float, *, fit_seed: int = 0) -> Job:
        """One rung of one generator's settings."""
        quality = self.config.fit.quality
        inputs = {
            **self._source(arm), "fit_seed": fit_seed, "share": share, "num_images": quality.num_images,
            "checkpoint_images": quality.checkpoint_images,
            "metric": self._identity("metrics", quality.metric),
            "space": self._identity("spaces", quality.space),
        }  # fmt: skip
        name = f"fit {label} {arm['id']} to {share:.0%}"
        tags = {"phase": "fit", "generator": label, "share": share, **self._parameters(arm)}
        return Job("fit", name, {"arm": arm, "fit_seed": fit_seed, "share": share}, inputs, tags)

    def pool(self, label: str, arm: Arm, demand: list[int], *, fit_seed: int = 0) -> Job:
        """The pool of one fitted generator."""
        fit = self.config.fit
        inputs = {
            **self._source(arm), "checkpoint_images": fit.quality.checkpoint_images,
            "metric": self._identity("metrics", fit.quality.metric),
            "metrics": [self._identity("metrics", m) for m in fit.metrics.values()],
            "space": self._identity("spaces", fit.quality.space), "shard_images": fit.shard_images,
            "spaces": [self._identity("spaces", s) for s in fit.spaces.values()],
            "max_oversample": fit.max_oversample, "fit_seed": fit_seed, "demand": demand,
        }  # fmt: skip
        tags = {"phase": "pool", "generator": label, **self._parameters(arm)}
        args = {"arm": arm, "fit_seed": fit_seed, "demand": demand}
        return Job("pool", f"pool {label} {arm['id']}", args, inputs, tags)

    def score(
        self,
        name: str,
        *,
        phase: str,
        repeats: list[int],
        pool: str | None = None,
        mixer: str | None = None,
        ratio: float | None = None,
        label: str = "",
        arm: Arm | None = None,
        real: str = "train",
    ) -> Job:
        """One arm for some repeats: on val in mix and pilot, on test in confirm.

        pool: key of its `kept` unit; None: no pool. real: the real images that are learnt from, see `Bench.real`.
        """
        on, whose = {"mix": ("val", "mix"), "pilot": ("val", "confirm"), "confirm": ("test", "confirm")}[phase]
        classifier = getattr(self.config, whose).classifier
        spec = None if mixer is None else self.config.mix.mixers[mixer]
        args = {
            "pool": pool, "mixer": None if spec is None else spec.model_dump(mode="json"), "ratio": ratio,
            "classifier": classifier.model_dump(mode="json"), "on": on, "repeats": repeats, "real": real,
        }  # fmt: skip
        inputs = {
            **self._base(), "real": [self.fingerprints[real.partition("@")[0]], real.partition("@")[2]],
            "mixer": None if spec is None else self._identity("mixers", spec),
            "classifier": self._identity("classifiers", classifier), "on": self.fingerprints[on],
            "pool": pool, "ratio": ratio, "repeats": repeats,
            **({"pilot": True} if phase == "pilot" else {}),  # a trial, and an MLflow run, of its own
        }  # fmt: skip
        tags = {
            "phase": phase, "arm": name, "generator": label, "mixer": mixer or "", "ratio": ratio or 0.0,
            **({} if arm is None else self._parameters(arm)),
        }  # fmt: skip
        shown = name if phase != "confirm" else f"confirm {name} {repeats}"
        return Job("score", shown, args, inputs, tags)

    def _parameters(self, arm: Arm) -> dict[str, Any]:
        """What the sweep set: MLflow writes every parameter above each picture, so defaults would hide them."""
        return {f"{arm['use']}.{k}": v for k, v in arm["parameters"].items()}

    def spaces(self, *roles: str) -> list[Spec]:
        """Every feature space that the components of this sweep declare, each once, in a fixed order.

        roles: "fit" (gates and quality), "mix", "confirm".
        """
        found: list[Spec] = []
        if "fit" in roles:
            found += [self.config.fit.quality.space, *self.config.fit.spaces.values()]
            for label in self.config.generators:
                for spec in self.config.gates_of(label).values():
                    found += self._declared("gates", spec)
                found += self._declared("samplers", self.config.generators[label].sampler)
        for phase in ("mix", "confirm"):
            if phase in roles:
                found += self._declared("classifiers", getattr(self.config, phase).classifier)
        unique = {space.model_dump_json(): space for space in found}
        return [unique[name] for name in sorted(unique)]

    def _declared(self, role: str, spec: Spec) -> list[Spec]:
        return [need.space for need in registry.configure(role, spec).needs() if isinstance(need, Features)]

    def _base(self) -> dict[str, Any]:
        return {
            "train": self.fingerprints["train"], "val": self.fingerprints["val"], "seed": self.config.seed,
            "threads": self.config.runtime.threads_per_trial, "engine": ENGINE_VERSION,
        }  # fmt: skip

    def _source(self, arm: Arm) -> dict[str, Any]:
        bases = [
            self._identity("generators", need.generator)
            for need in self.generator_config(arm).needs()
            if isinstance(need, Fitted) and need.generator is not None
        ]
        return {
            **self._base(),
            "test": self.fingerprints["test"],
            "showable": self.fingerprints[arm["real"]],
            "generator": self._identity("generators", Spec(use=arm["use"], config=arm["config"])),
            "sampler": self._identity("samplers", Spec.model_validate(arm["sampler"])),
            "gates": {
                label: self._identity("gates", Spec.model_validate(spec)) for label, spec in arm["gates"].items()
            },
            "bases": bases,
            "canaries": self.config.fit.canaries.model_dump() if arm["real"] == "showable" else None,
        }

    def _identity(self, role: str, spec: Spec) -> Any:
        name = f"{role} {spec.model_dump_json()}"
        if name not in self._identities:
            self._identities[name] = component_identity(role, spec, baseline=self.config.mix.classifier)
        return self._identities[name]


def _dumped(specs: list[Spec]) -> list[dict[str, Any]]:
    return [spec.model_dump(mode="json") for spec in specs]
