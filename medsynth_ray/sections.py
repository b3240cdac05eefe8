"""What each section of a sweep file may say, with defaults. The whole file is `config.SweepConfig`."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from medsynth_ray import registry
from medsynth_ray.protocols import ComponentConfig, Spec
from medsynth_ray.space import Space

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Label = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=40)]


class Section(BaseModel):
    """Base of all sections: frozen, documented under each field, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def labelled(value: Any) -> Any:
    """Read `{kid: null}`, `{kid: {}}` and `[kid]` all mean the component of that name with default settings."""
    if isinstance(value, list | tuple):
        value = {str(item): None for item in value}
    if isinstance(value, dict):
        return {k: {"use": k, **(v or {})} if v is None or isinstance(v, dict) else v for k, v in value.items()}
    return value


Specs = Annotated[dict[Label, Spec], BeforeValidator(labelled)]


class RealShare(Section):
    """Shares of train: whole groups, stratified, a smaller share is part of a larger one."""

    classifier: float = Field(default=1.0, gt=0.0, le=1.0)
    """What classifiers (and the controls, which are made from these images) are trained on."""
    generator: float = Field(default=1.0, gt=0.0, le=1.0)
    """What generators are shown. More than the classifier's share: a gain may come from those images; the report says
    so."""


class DataConfig(Section):
    """Where the images are and how they are read. The adapter's own fields stand beside these."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True, allow_inf_nan=False)

    adapter: str = "folder"
    """Layout of the data: the name of an adapter."""
    resolution: int = Field(default=64, ge=8, le=2048)
    """Side in pixels to which every image is resized (bicubic, antialiased)."""
    resize: Literal["stretch", "pad", "crop"] = "stretch"
    """How an image that is not square becomes so: stretched, padded with black, or its centre cropped."""
    preprocess: tuple[Spec, ...] = ()
    """Steps on every real image at full size, in this order, e.g. `[circle_crop, {use: clahe}]`."""
    window: tuple[float, float] | Literal["full"] | None = None
    """For images of more than 8 bits a channel: [low, high] of the raw values become 0 and 255; full: the whole range
    of the type (not for float). None: such images are refused, never clipped silently."""
    real_share: RealShare = RealShare()
    """How much of train is used, for the classifier and for the generators."""
    channels: Literal["auto", 1, 3] = "auto"
    """1 grayscale, 3 RGB; auto: 1 if every image is gray."""
    near_duplicates: Literal["join", "ignore"] = "join"
    """join: images that are nearly the same (re-encoded, resized, mirrored, slightly cropped, re-lit) become one group,
    so that no split tears them apart. ignore: they are not looked for; the report says so."""
    groups: Literal["required", "none"] = "required"
    """What a split must not tear apart (patient, lesion, volume). none: each image stands alone; the report says so."""
    min_class_images: int = Field(default=12, ge=3)
    """A class with fewer images stops the sweep."""
    max_quarantine_share: float = Field(default=0.05, ge=0.0, le=1.0)
    """Up to this share of unusable images is set aside with a warning; above it the sweep stops."""

    def adapter_config(self) -> ComponentConfig:
        """The adapter's validated settings.

        Raises:
            ConfigError: unknown adapter or key.
        """
        extra = dict(self.model_extra or {})
        return registry.configure("data", Spec(use=self.adapter, config=extra), where="data")


class SplitConfig(Section):
    """Train, val and locked test, disjoint by group, stratified by class, frozen once."""

    val_share: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Share of images for val: it selects, it is never evidence."""
    test_share: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of images for the locked test: opened once, by confirm."""
    split_seed: int = Field(default=0, ge=0)
    """Another seed is another split and another sweep."""
    given: Literal["keep", "ignore"] = "keep"
    """keep: use the split that the data bring (val is cut from train where it is missing)."""

    @model_validator(mode="after")
    def _leaves_train(self) -> SplitConfig:
        if self.val_share + self.test_share > 0.95:
            raise ValueError(f"val_share + test_share must be at most 0.95, got {self.val_share + self.test_share:g}")
        return self


class SearchConfig(Section):
    """How a generator's settings are searched, in waves: a wave is asked whole, run, and told in order."""

    method: Literal["optuna", "random", "grid"] = "optuna"
    trials: int = Field(default=8, ge=1)
    """Settings tried in all (grid: at most)."""
    batch: int = Field(default=4, ge=1)
    """Settings of one wave; never the number of workers, so that results do not depend on it."""
    space: dict[str, Space] | None = None
    """Fields to vary; default: the generator's own search space."""


class GeneratorArm(Section):
    """One generator of the sweep."""

    use: str
    """Registry name; default: the arm's label."""
    config: dict[str, Any] = {}
    sampler: Spec = Spec(use="all_real")
    gates: Specs | None = None
    """Gates of this generator; default: those of the sweep. `{}`: none, and the report says so."""
    search: SearchConfig | None = None
    """None: only the settings in `config`."""


class QualityConfig(Section):
    """The number that ranks fits, against val: unseen images, so that a copier cannot win."""

    metric: Spec = Spec(use="kid")
    space: Spec = Spec(use="efficientnet_lite0")
    num_images: int = Field(default=200, ge=20)
    """Images drawn to measure a fit, classes as in val."""
    checkpoint_images: int = Field(default=200, ge=0)
    """Images drawn at every checkpoint of a fit, for the curve of quality against training images seen; 0: none."""


class CanariesConfig(Section):
    """Marked images planted among the shown ones, to see whether a generator gives them back (arXiv 1802.08232).

    They change what generators are shown, so they are for a sweep of their own about memorisation. Images that look
    like one never reach a classifier.
    """

    count: int = Field(default=0, ge=0, le=1000)
    """Different canaries in each part that is shown; 0: none."""
    copies: int = Field(default=1, ge=1, le=1000)
    """How often each is there: duplicates are remembered sooner."""


class FitConfig(Section):
    """Phase 1: successive halving of each generator's settings."""

    quality: QualityConfig = QualityConfig()
    eta: int = Field(default=3, ge=2)
    """A rung promotes the best 1/eta."""
    keep: int = Field(default=1, ge=1)
    """Fitted settings of each generator that go on to a pool."""
    metrics: Specs = Field(default={"kid": Spec(use="kid"), "frechet": Spec(use="frechet")})
    """Reported for every pool against val, over all classes and for each."""
    spaces: Specs = {}
    """Feature spaces in which `metrics` are measured beside `quality.space`, e.g. `{dinov2: {config: {weights: ...}}}`
    or `[baseline]`, the sweep's own real-only classifier."""
    canaries: CanariesConfig = CanariesConfig()
    """Marked images among the shown ones."""
    shard_images: int = Field(default=128, ge=1)
    """Images in one shard of a pool."""
    max_oversample: float = Field(default=4.0, ge=1.0)
    """A pool grows to at most this many times what is needed when gates drop images."""


class MixConfig(Section):
    """Phase 2: pools x mixers x ratios, scored on val."""

    mixers: Specs = Field(default={"add": Spec(use="add")})
    ratios: tuple[Share, ...] = (0.25, 0.5)
    """Shares of synthetic images in the training set; 0 (real only) always runs."""
    classifier: Spec = Spec(use="probe")
    repeats: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _distinct(self) -> MixConfig:
        if len(set(self.ratios)) < len(self.ratios):
            raise ValueError(f"ratios must be distinct, got {list(self.ratios)}")
        return self


class ControlsConfig(Section):
    """Settings of the controls that are made from real images; they are never gated."""

    real_classic: dict[str, Any] = {}
    """Of classic_augment, e.g. `{preset: xray}`."""
    real_oversampled: dict[str, Any] = {}
    """Of copy_real."""


class ConfirmConfig(Section):
    """Phase 3: the winner of val against every control on the locked test, once."""

    classifier: Spec = Spec(use="probe")
    repeats: int = Field(default=8, ge=2)
    """Paired repeats. Eight can reach p = 0.008; five cannot reach 0.05."""
    about: Literal["pool", "method"] = "pool"
    """pool: do these images help? method: does this generator help (each repeat fits it anew)?"""
    winners: int = Field(default=1, ge=1, le=6)
    """Best arms of val that are confirmed, each against its own controls; several are corrected by Holm's method."""
    learning_curve: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = (0.25, 0.5, 0.75)
    """Shares of train on which real only is fitted too: what a gain is worth in more real images is read off them. They
    are no part of the verdict. `[]`: none."""


class VerdictConfig(Section):
    """What counts as help."""

    metric: Literal["balanced_accuracy", "macro_f1", "accuracy", "macro_auc", "sensitivity"] = "balanced_accuracy"
    """The primary metric: it chooses the winner on val and decides on the locked test. sensitivity: of the class
    `positive`, at the threshold that keeps at least `specificity`."""
    specificity: float = 0.9
    """For `metric: sensitivity`: 0.8, 0.9, 0.95 or 0.99."""
    positive: str | None = None
    """For `metric: sensitivity`: the name of the class that is to be found."""
    effect: float = Field(default=0.03, gt=0.0, lt=1.0)
    """The smallest difference worth having, on the metric's scale: power is stated for it."""
    floor: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Real only must score this on the locked test; below it the classifier did not learn the task, and whatever the
    comparisons say, the verdict is "cannot tell"."""
    discordance: float = Field(default=0.12, gt=0.0, lt=1.0)
    """Assumed share of test images on which two arms disagree, for the power line before the run."""
    repeat_sd: float = Field(default=0.01, ge=0.0, lt=1.0)
    """Assumed standard deviation of the metric over repeats, for the power line before the run."""
    pilot_repeats: int = Field(default=3, ge=0, le=20)
    """Real-only repeats on val with the classifier of confirm, before anything else is fitted: what they measure
    takes the place of `repeat_sd`, and stops a design that cannot see `effect`. 0 or 1: no pilot."""
    accept_underpowered: bool = False
    """Run although the design cannot see `effect`."""

    @field_validator("specificity")
    @classmethod
    def _on_the_scale(cls, value: float) -> float:
        if value not in (0.8, 0.9, 0.95, 0.99):
            raise ValueError("must be 0.8, 0.9, 0.95 or 0.99")
        return value


class BudgetConfig(Section):
    """Caps. At a cap nothing new starts, running work checkpoints and stops, the report is written."""

    hours: float | None = Field(default=None, gt=0.0)
    """Wall-clock hours of this sweep, all its runs together."""
    trials: int | None = Field(default=None, ge=1)
    """Trials started by this sweep, all its runs together."""


class RuntimeConfig(Section):
    """Where and how wide. Only `threads_per_trial` can change a number."""

    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Trials at a time on a local Ray; auto: cores / threads_per_trial."""
    threads_per_trial: int = Field(default=1, ge=1)
    address: str | None = None
    """Address of a running Ray cluster; None: a local Ray of our own (or RAY_ADDRESS)."""
    checkpoint_s: float = Field(default=60.0, ge=0.0)
    """Seconds between two checkpoints of a fit that are committed to the store: what a kill may cost."""
    object_store_gib: float = Field(default=0.5, gt=0.07)
    """Object store of a local Ray."""


def num_workers(runtime: RuntimeConfig) -> int:
    """Trials at a time on a local Ray."""
    if runtime.workers != "auto":
        return runtime.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // runtime.threads_per_trial)


class TrackingConfig(Section):
    """The MLflow mirror."""

    enabled: bool = True
    mlflow_uri: str | None = None
    """Tracking server or sqlite:/// file; None: mlflow.db in a local store."""


class ReadersConfig(Section):
    """A reader study."""

    results: str | None = None
    """What `medsynth readers score -o` wrote; None: there is none."""


class ReportConfig(Section):
    """The HTML report."""

    real_images: bool = True
    """False leaves every real image out of report and MLflow."""
    subgroups: tuple[str, ...] = ()
    """Columns of the metadata (sex, age, site, skin type ...) by which the locked test is looked at in parts."""
    readers: ReadersConfig = ReadersConfig()
    """A reader study that the report shows."""


class PublishedTable(Section):
    """One table of a paper."""

    title: str
    columns: tuple[str, ...] = Field(min_length=1)
    """Names as in the paper: Acc, P, R, F1, FID ..."""
    rows: dict[str, tuple[float | None, ...]] = Field(min_length=1)
    """Row name -> one number for each column; null: not given."""
    percent: bool = False
    """Proportions are given as 71.67, not as 0.7167."""
    num_test: int | None = Field(default=None, ge=1)
    """Test images behind each proportion; None: not stated, so no interval can be given."""
    proportions: tuple[str, ...] = ()
    """Columns that are shares of `num_test` images (accuracy): they get the Wilson interval that n allows."""
    measured: dict[str, str] = {}
    """Row -> arm or generator of this sweep that stands beside it."""
    metrics: dict[str, str] = {}
    """Column -> what this sweep measures in its place: accuracy, balanced_accuracy, macro_precision, macro_recall,
    macro_f1, or the name of a metric of the pool such as frechet."""

    @model_validator(mode="after")
    def _rows_are_whole(self) -> PublishedTable:
        for name, cells in self.rows.items():
            if len(cells) != len(self.columns):
                raise ValueError(f"row {name!r} has {len(cells)} cells for {len(self.columns)} columns")
        most = 100 if self.percent else 1
        for name, cells in self.rows.items():
            for column, value in zip(self.columns, cells, strict=True):
                if column in self.proportions and value is not None and not 0 <= value <= most:
                    raise ValueError(f"row {name!r}: {column} is {value:g}, a share must be in [0, {most}]")
        for field, known in (("proportions", self.columns), ("measured", tuple(self.rows)), ("metrics", self.columns)):
            unknown = sorted(set(getattr(self, field)) - set(known))
            if unknown:
                raise ValueError(f"{field}: {unknown[0]!r} is none of {', '.join(known)}")
        return self


class PublishedConfig(Section):
    """What a paper reported: printed beside the measured numbers, never part of the verdict."""

    source: str
    """Authors, year, title, where."""
    tables: tuple[PublishedTable, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()
    """What the published numbers can and cannot show: how the study differs from this sweep."""
