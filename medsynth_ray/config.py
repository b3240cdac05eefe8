"""SweepConfig: a sweep file as a whole; its sections are in `sections.py`. Reading the file is in `yamlfile.py`."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from medsynth_ray import registry
from medsynth_ray.protocols import Baseline, Features, GeneratorConfig, Spec
from medsynth_ray.sections import (
    BudgetConfig,
    ConfirmConfig,
    ControlsConfig,
    DataConfig,
    FitConfig,
    GeneratorArm,
    Label,
    MixConfig,
    PublishedConfig,
    ReportConfig,
    RuntimeConfig,
    Section,
    Specs,
    SplitConfig,
    TrackingConfig,
    VerdictConfig,
    labelled,
)


class SweepConfig(Section):
    """A sweep file."""

    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", max_length=80)
    description: str = ""
    mode: Literal["rigorous", "as_published"] = "rigorous"
    """rigorous: settings are chosen on val, one winner is confirmed. as_published: what most papers do, to show what it
    is worth: no gates, every arm once on the test images, the best one reported; it never ends in "helps"."""
    seed: int = Field(default=0, ge=0)
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    generators: Annotated[dict[Label, GeneratorArm], BeforeValidator(labelled)] = Field(min_length=1)
    gates: Specs = Field(default={"dedupe": Spec(use="dedupe"), "near_copy": Spec(use="near_copy")})
    fit: FitConfig = FitConfig()
    mix: MixConfig = MixConfig()
    controls: ControlsConfig = ControlsConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    verdict: VerdictConfig = VerdictConfig()
    budget: BudgetConfig = BudgetConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    tracking: TrackingConfig = TrackingConfig()
    report: ReportConfig = ReportConfig()
    published: PublishedConfig | None = None
    store: str = "medsynth-store"
    """Folder or fsspec URL (s3://...) that keeps everything that is computed."""

    def science(self) -> dict[str, Any]:
        """What decides the results: no budget, store, tracking, report or width; no location of data."""
        whole = self.model_dump(
            mode="json", exclude={"budget", "tracking", "report", "published", "store", "runtime", "data"}
        )
        whole["data"] = self.data.model_dump(mode="json", include=set(DataConfig.model_fields))
        whole["data"]["source"] = self.data.adapter_config().identity()
        for label, arm in self.generators.items():
            kept = registry.configure("generators", Spec(use=arm.use, config=arm.config)).identity()
            whole["generators"][label]["config"] = {k: v for k, v in arm.config.items() if k in kept}
        del whole["description"], whole["verdict"]["accept_underpowered"]
        whole["threads_per_trial"] = self.runtime.threads_per_trial
        return whole

    @property
    def sweep_id(self) -> str:
        """`<name>-<8 hex digits of the science>`: the sweep's folder in the store."""
        text = json.dumps(self.science(), sort_keys=True)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def gates_of(self, label: str) -> dict[str, Spec]:
        """The gates of one generator arm: none in a study as published."""
        if self.mode == "as_published":
            return {}
        own = self.generators[label].gates
        return self.gates if own is None else own

    @model_validator(mode="after")
    def _labels_are_free(self) -> SweepConfig:
        taken = {"real_only", "real_showable", "pilot", *ControlsConfig.model_fields} & set(self.generators)
        if taken:
            raise ValueError(f"generators: {sorted(taken)[0]!r} is the name of a control; label it otherwise")
        return self

    @model_validator(mode="after")
    def _positive_is_named(self) -> SweepConfig:
        if (self.verdict.metric == "sensitivity") != (self.verdict.positive is not None):
            raise ValueError(
                "verdict.positive must name a class if verdict.metric is sensitivity, and only then; got "
                f"metric={self.verdict.metric!r}, positive={self.verdict.positive!r}"
            )
        return self

    def check_components(self) -> None:
        """Build every component's settings once, so that a wrong one is found before anything starts.

        Raises:
            ConfigError: all wrong places of one component, with the nearest allowed name.
        """
        self.data.adapter_config()
        for number, step in enumerate(self.data.preprocess):
            registry.configure("preprocess", step, where=f"data.preprocess.{number}.config")
        for label, arm in self.generators.items():
            config = registry.configure(
                "generators", Spec(use=arm.use, config=arm.config), where=f"generators.{label}.config"
            )
            assert isinstance(config, GeneratorConfig)
            registry.configure("samplers", arm.sampler, where=f"generators.{label}.sampler.config")
            _check_search(label, arm, config)
            for gate, spec in (arm.gates or {}).items():
                registry.configure("gates", spec, where=f"generators.{label}.gates.{gate}.config")
        for control, use in (("real_classic", "classic_augment"), ("real_oversampled", "copy_real")):
            spec = Spec(use=use, config=getattr(self.controls, control))
            registry.configure("generators", spec, where=f"controls.{control}")
        for role, specs in (("gates", self.gates), ("metrics", self.fit.metrics), ("mixers", self.mix.mixers)):
            for label, spec in specs.items():
                registry.configure(role, spec, where=f"{role}.{label}.config")
        for label, spec in self.fit.spaces.items():
            registry.configure("spaces", spec, where=f"fit.spaces.{label}.config")
        _check_baseline(self.mix.classifier)
        registry.configure("metrics", self.fit.quality.metric, where="fit.quality.metric.config")
        registry.configure("spaces", self.fit.quality.space, where="fit.quality.space.config")
        for phase in ("mix", "confirm"):
            spec = getattr(self, phase).classifier
            config = registry.configure("classifiers", spec, where=f"{phase}.classifier.config")
            for need in config.needs():
                if isinstance(need, Features):
                    registry.configure("spaces", need.space, where=f"{phase}.classifier space")


def _check_baseline(classifier: Spec) -> None:
    """The classifier of mix is the baseline, so nothing that it is made of can need the baseline."""
    from medsynth_ray.errors import ConfigError

    needs = list(registry.configure("classifiers", classifier, where="mix.classifier.config").needs())
    for need in needs:
        if need == Baseline():
            raise ConfigError(
                f"mix.classifier: {classifier.use} needs the sweep's real-only classifier, which is mix.classifier "
                "itself; give it another space"
            )
        if isinstance(need, Features):
            needs += registry.configure("spaces", need.space, where="mix.classifier space").needs()


def _check_search(label: str, arm: GeneratorArm, config: GeneratorConfig) -> None:
    from medsynth_ray.errors import ConfigError

    if arm.search is None:
        return
    space = arm.search.space if arm.search.space is not None else config.search_space()
    unknown = sorted(set(space) - set(type(config).model_fields))
    if unknown:
        allowed = ", ".join(sorted(type(config).model_fields))
        raise ConfigError(f"generators.{label}.search.space: no field {unknown[0]!r} in {arm.use} (fields: {allowed})")
    if not space:
        raise ConfigError(f"generators.{label}.search: {arm.use} has no search space; give one in search.space")
    for name, values in space.items():
        for value in values.grid(2):
            spec = Spec(use=arm.use, config={**arm.config, name: value})
            registry.configure("generators", spec, where=f"generators.{label}.search.space")
