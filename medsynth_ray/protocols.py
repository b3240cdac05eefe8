"""One small Protocol per role, and what crosses between them. A contract is written here once.

Every array of images is uint8 (N, H, W, C) in [0, 255]; K is the number of classes, D a feature dimension.
A component is one class in one file: `<role>/<name>.py` holds class `<Name>` with a nested `Config`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from medsynth_ray.images import ImageSet
from medsynth_ray.space import Space

UNKNOWN = "unknown"
"""In `fitted_on`: the generator may have seen images we know nothing of."""


# --- what a component declares ---------------------------------------------------------------------------------------


class Spec(BaseModel):
    """A component by name with its settings: `{use: kid, config: {...}}`, or just its name."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    use: str
    """Registry name, which is the file's name."""
    config: dict[str, Any] = {}
    """The component's own settings; see `medsynth components NAME`."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value


@dataclass(frozen=True)
class Features:
    """The component will call `runtime.features(images, space)`."""

    space: Spec


@dataclass(frozen=True)
class Baseline:
    """The component will call `runtime.baseline()`: the sweep's real-only classifier."""


@dataclass(frozen=True)
class Fitted:
    """The component will call `runtime.fitted(generator)`; None is the generator whose pool is judged."""

    generator: Spec | None = None


@dataclass(frozen=True)
class Weights:
    """The component will call `runtime.weights(name)`; the file's sha256 enters the content key."""

    name: str


@dataclass(frozen=True)
class Files:
    """The component reads this folder; the sha256 of its files enters the content key."""

    root: str


@dataclass(frozen=True)
class Circuits:
    """The component will call `runtime.circuits()`."""

    runner: Spec


Need = Features | Baseline | Fitted | Weights | Files | Circuits


@dataclass(frozen=True)
class Resources:
    """What one fit asks for. gpus: of one worker, may be a fraction. strategy: how several workers share the model."""

    gpus: float = 0.0
    gpu_memory_gib: float | None = None
    workers: int = 1
    strategy: Literal["single", "ddp", "zero1", "zero2", "zero3"] = "single"


class ComponentConfig(BaseModel):
    """Base of every component's settings: frozen, documented under each field, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, validate_default=True
    )
    component: ClassVar[type[Component]]

    def build(self) -> Any:
        """The component with these settings."""
        return self.component(self)

    @classmethod
    def tiny(cls) -> Self:
        """Settings under which the real code path runs in under 5 s on one CPU core."""
        return cls()

    def needs(self) -> tuple[Need, ...]:
        """What the component will ask its runtime for. A request that is not declared is an error at run time."""
        return ()

    def identity(self) -> dict[str, Any]:
        """What of these settings decides the output.

        Left out are locations (fields marked `json_schema_extra={"key": False}`) and other components (Spec fields):
        what is there enters the key by content, through `needs()`.
        """
        fields = type(self).model_fields
        located = {
            n
            for n, f in fields.items()
            if isinstance(f.json_schema_extra, dict) and not f.json_schema_extra.get("key", True)
        }
        skip = located | {n for n in fields if isinstance(getattr(self, n), Spec)}
        return self.model_dump(mode="json", exclude=skip)


class GeneratorConfig(ComponentConfig):
    """Base of a generator's settings."""

    def search_space(self) -> dict[str, Space]:
        """Which fields a sweep varies, and over what, when it says no more than `search`."""
        return {}

    def resources(self) -> Resources:
        """What one fit asks for."""
        return Resources()

    def rungs(self) -> tuple[float, ...]:
        """Shares of its own training at which a fit may end: increasing, the last one 1. One value: no halving."""
        return (1.0,)


class Component:
    """Base of every component: `version` moves when the output moves; `Config` is nested and knows its component."""

    version: ClassVar[int] = 1
    Config: ClassVar[type[Any]] = ComponentConfig

    def __init__(self, config: Any) -> None:
        self.config = config

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "Config" in cls.__dict__:
            cls.Config.component = cls

    def save_config(self, folder: Path) -> None:
        """Write `config.json` into `folder`: the first half of every `save`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config.model_dump(mode="json"), sort_keys=True, indent=1))

    @classmethod
    def from_config_of(cls, folder: Path) -> Self:
        """The component with the settings that `save_config` wrote: the first half of every `load`."""
        return cls(cls.Config.model_validate_json((folder / "config.json").read_text()))


# --- what crosses between roles --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageRecord:
    """One image that an adapter found, before a pixel is read.

    id: unique, "/"-separated path below the root. label, group, split: None where the data do not say.
    stamp: changes when the content may have changed (size and mtime, an etag, or a seed). meta: every other column.
    """

    id: str
    label: str | None
    group: str | None = None
    split: str | None = None
    stamp: str = ""
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Draw:
    """What to draw: labels int64 (N,); indices int64 (N,), each image's place within its class; seeds uint64 (N,)."""

    labels: np.ndarray
    indices: np.ndarray
    seeds: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def slice(self, start: int, stop: int) -> Draw:
        """The images start..stop of this draw."""
        return Draw(self.labels[start:stop], self.indices[start:stop], self.seeds[start:stop])


@dataclass(frozen=True)
class PoolShard:
    """The next images of a draw, in order: uint8 (n, H, W, C); source_ids: str (n,), "" where there is no source."""

    images: np.ndarray
    source_ids: np.ndarray


@dataclass(frozen=True)
class Pool:
    """The synthetic images of one fitted generator, in a stable order, with a manifest row for each.

    images.ids are "synthetic/<class>/<index>"; images.groups are the source's group, or the id where there is none.
    seeds: uint64 (N,). source_ids: str (N,). fitted_on: fingerprints of all images the generator was fitted on, its
    bases included, or UNKNOWN among them.
    """

    images: ImageSet
    seeds: np.ndarray
    source_ids: np.ndarray
    fitted_on: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: np.ndarray) -> Pool:
        """The rows at `index` (integers or a mask)."""
        return Pool(self.images.take(index), self.seeds[index], self.source_ids[index], self.fitted_on)

    def first_per_class(self, counts: np.ndarray) -> Pool:
        """The first `counts[c]` rows of each class c: nested prefixes.

        Raises:
            ValueError: a class holds fewer.
        """
        have = self.images.counts()
        if (have < counts).any():
            short = {self.images.class_names[c]: (int(have[c]), int(counts[c])) for c in np.flatnonzero(have < counts)}
            raise ValueError(f"the pool holds too few images: class -> (has, needed) {short}")
        rows = [np.flatnonzero(self.images.labels == c)[: int(n)] for c, n in enumerate(counts)]
        return self.take(np.sort(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class FlaggedPair:
    """A synthetic image (row of the judged pool) too near to a real one. score: smaller is more suspicious."""

    row: int
    real_id: str
    space: str
    score: float


@dataclass(frozen=True)
class GateResult:
    """keep: bool (N,), images that may be used. passed: the pool may be used at all; `reason` says why not."""

    keep: np.ndarray
    passed: bool
    reason: str
    numbers: dict[str, float]
    flagged: tuple[FlaggedPair, ...] = ()


@dataclass(frozen=True)
class Measured:
    """One number of a metric. name holds the protocol (`kid_efficientnet_lite0`); low, high: its 95 % interval."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    details: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CircuitBatch:
    """Circuits of one family that differ in their inputs: weights float64 (P,), inputs float64 (B, I)."""

    family: str
    num_qubits: int
    weights: np.ndarray
    inputs: np.ndarray


History = list[dict[str, float]]
"""One dict of numbers for each epoch, in order."""


# --- the roles -------------------------------------------------------------------------------------------------------


class Runtime(Protocol):
    """What the outside world is to a component.

    device: "cpu" or "cuda". num_threads: threads this trial may use. fit_share: the rung, in (0, 1]: a fit goes on to
    this share of its own steps and ends. scratch: an empty folder that is gone afterwards.
    """

    device: str
    num_threads: int
    fit_share: float
    scratch: Path

    @property
    def accelerator(self) -> Any:
        """An accelerate Accelerator for the strategy that `resources()` asked for."""

    def report(self, metrics: Mapping[str, float], *, step: int, images: ImageSet | None = None) -> None:
        """Numbers of a training step, and perhaps samples."""

    def progress(self, done: int, total: int, what: str) -> None:
        """How far the work is."""

    def checkpoint(self, save: Callable[[Path], None], *, step: int) -> None:
        """Let `save(folder)` write everything that an exact continuation needs; the state after `step` steps."""

    def latest(self) -> Path | None:
        """Folder of the newest checkpoint of this fit (or of the rung before it); None at the beginning."""

    def stopped(self) -> bool:
        """Whether to checkpoint and raise `Stopped`; ask at every step."""

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        """float32 (N, D) features of `images`, cached by content."""

    def baseline(self) -> Classifier:
        """The sweep's real-only classifier; it never saw a synthetic image."""

    def fitted(self, generator: Spec | None = None) -> tuple[Generator, ...]:
        """The fitted generators, one for each part that the sampler made."""

    def weights(self, name: str) -> Path:
        """Local path of declared weights."""

    def circuits(self) -> CircuitRunner:
        """The declared circuit runner."""


class Adapter(Protocol):
    """A layout of data on disk or in a bucket."""

    def scan(self) -> list[ImageRecord]:
        """What is there, sorted by id; reads no pixel."""

    def read(self, record: ImageRecord) -> bytes | np.ndarray:
        """The encoded file, or decoded uint8 (H, W) or (H, W, C). Raises OSError where it cannot be read."""


class Preprocessor(Protocol):
    """Changes a real image at its full size, before it is resized (an entry of `data.preprocess`)."""

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (H, W) gray or (H, W, 3) RGB -> the same kind, of any size; depends on this image alone."""


class FeatureSpace(Protocol):
    """A fixed map from images to features."""

    def embed(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        """float32 (N, D); row i depends on image i alone."""


class Sampler(Protocol):
    """Which real images a generator is shown, in how many parts: one fit for each part, pools are joined."""

    def select(self, train: ImageSet, *, seed: int, runtime: Runtime) -> tuple[ImageSet, ...]:
        """Subsets of `train`; never empty."""


class Generator(Protocol):
    """Learns from shown images and draws synthetic ones.

    needs_sources: it draws from real images (img2img). fitted_on_unknown: it may have seen images we know nothing of.
    """

    needs_sources: ClassVar[bool]
    fitted_on_unknown: ClassVar[bool]

    def fit(self, shown: ImageSet, *, seed: int, runtime: Runtime) -> None:
        """Go on from `runtime.latest()` to `runtime.fit_share` of all steps; same seed, same bytes.

        While `runtime.checkpoint` runs, the engine may call `sample` on this very object to see how good it is by now;
        that must not change what follows. Numbers reported at a step should hold `images_seen`, the training images
        used up to then, each as often as it was used. Raises Diverged when the loss is NaN or infinite.
        """

    def capacity(self, label: int) -> int | None:
        """How many images of class `label` it can draw; None: any number."""

    def sample(self, draw: Draw, *, sources: ImageSet | None, runtime: Runtime) -> Iterator[PoolShard]:
        """Draw the images in order. Image i depends on its label, index and seed alone, not on the rest of the draw.

        sources: the shown images, only if `needs_sources`; the generator picks by the image's seed and names its pick.
        """

    def save(self, folder: Path) -> None:
        """Write config.json and safetensors; a loaded generator draws the same images."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The generator that was saved."""


class Metric(Protocol):
    """Numbers that compare two sets of features; decides nothing."""

    lower_is_better: ClassVar[bool]

    def measure(self, reference: np.ndarray, synthetic: np.ndarray, *, space: str, seed: int) -> Measured:
        """Compare float32 (N, D) with (M, D); `space` is for the name. Raises ValueError when N or M is too small."""


class Gate(Protocol):
    """Drops images of a pool or rejects it."""

    def judge(self, pool: Pool, *, shown: ImageSet, unseen: ImageSet, seed: int, runtime: Runtime) -> GateResult:
        """shown: what the generator was fitted on. unseen: real images it never saw (val)."""


class Mixer(Protocol):
    """Joins real and synthetic images. takes_ratio: False for mixers that set their own counts (ratio is None)."""

    takes_ratio: ClassVar[bool]

    def demand(self, counts: np.ndarray, *, ratio: float | None) -> np.ndarray:
        """How many synthetic images of each class `mix` takes, int64 (K,), given the real counts (K,)."""

    def mix(self, real: ImageSet, pool: Pool, *, ratio: float | None, seed: int) -> ImageSet:
        """The training set: nested prefixes of the pool. Raises ValueError if the pool is too small."""


class Classifier(Protocol):
    """What the synthetic images are for."""

    def fit(self, train: ImageSet, *, val: ImageSet, seed: int, runtime: Runtime) -> History:
        """Fit on `train`; `val` is only watched."""

    def predict(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        """Class probabilities float32 (N, K), rows sum to 1."""

    def save(self, folder: Path) -> None:
        """Write config.json and safetensors."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The classifier that was saved."""


class CircuitRunner(Protocol):
    """Runs quantum circuits: a simulator or a pool of QPU sessions behind one call."""

    def run(self, circuits: CircuitBatch, *, shots: int | None) -> np.ndarray:
        """Expectation values float64 (B, num_qubits); shots None: exact."""


@runtime_checkable
class HasNetwork(Protocol):
    """A generator that another one may start from (SmallGAN, fine-tuning)."""

    def network(self) -> Any:
        """The torch module."""


@runtime_checkable
class HasLoss(Protocol):
    """A generator that can score images (membership)."""

    def loss(self, images: ImageSet, *, seed: int, runtime: Runtime) -> np.ndarray:
        """float32 (N,), smaller where the generator finds the image more likely."""


@runtime_checkable
class HasFeatures(Protocol):
    """A classifier whose inner features can be compared (the space `baseline`)."""

    def embed(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        """float32 (N, D), what its last layer reads; row i depends on image i alone."""
