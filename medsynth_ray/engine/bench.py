"""The work bench of one process: data, store, caches, and the runtime that components get. Imports no ray."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import fsspec
import numpy as np
from threadpoolctl import ThreadpoolController

from medsynth_ray import registry
from medsynth_ray.config import SweepConfig
from medsynth_ray.engine.store import Record, Store, Unit
from medsynth_ray.errors import ConfigError, Stopped, WeightsMissing
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import (
    Baseline,
    CircuitRunner,
    Circuits,
    Classifier,
    ComponentConfig,
    Features,
    Files,
    Fitted,
    Generator,
    Need,
    Spec,
    Weights,
)
from medsynth_ray.seeds import derive

_VERSIONED = ("medsynth-ray", "torch", "timm", "numpy", "scipy", "scikit-learn", "pillow", "ray", "optuna")
_POOLS_KNOWN = 3
ENGINE_VERSION = 1
"""Moves when what trial.py, pools.py or stats/scores.py compute moves: it is in the key of every unit."""
Work = Callable[[Path], dict[str, Any]]


class Shelf(Protocol):
    """Shares arrays of the store between the processes of a node."""

    def array(self, record: Record, name: str) -> np.ndarray:
        """The `.npy` file of a unit, read-only."""


class StoreShelf:
    """A shelf without sharing: reads from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def array(self, record: Record, name: str) -> np.ndarray:
        """The `.npy` file of a unit, read-only."""
        return load_npy(self._store.file(record, name))


def load_npy(data: bytes) -> np.ndarray:
    """A read-only array from the bytes of a `.npy` file (never a pickle)."""
    array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    array.flags.writeable = False
    return array


def save_npy(path: Path, array: np.ndarray) -> None:
    """Write a `.npy` file (never a pickle)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.ascontiguousarray(array), allow_pickle=False)


class Bench:
    """What every unit of a sweep works with.

    splits: the image sets by name ("train", "val", "test"). stop: asked at most once a second whether to stop.
    """

    def __init__(
        self,
        config: SweepConfig,
        store: Store,
        splits: Mapping[str, ImageSet],
        *,
        shelf: Shelf | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config, self.store, self.splits = config, store, splits
        self.shelf: Shelf = shelf or StoreShelf(store)
        self.threads = config.runtime.threads_per_trial
        self._stop, self._stop_asked, self._stop_said = stop, 0.0, False
        self._rows: dict[str, dict[bytes, np.ndarray]] = {}
        self._known: OrderedDict[str, ImageSet] = OrderedDict()
        self._built: dict[str, Any] = {}
        self.cache: OrderedDict[str, Any] = OrderedDict()
        self._permanent = {images.fingerprint for images in splits.values()}
        for images in splits.values():
            self.know(images)

    def seed(self, *parts: Any) -> int:
        """A seed of this sweep."""
        return derive(self.config.seed, *parts)

    # --- units

    def unit(self, kind: str, inputs: dict[str, Any], work: Work) -> Record:
        """The record of a unit; `work(folder) -> result` runs only if there is none.

        Raises:
            Stopped: the sweep asks its work to stop.
        """
        unit = Unit(kind, {**inputs, "threads": self.threads, "engine": ENGINE_VERSION})
        return self.store.ensure(unit, lambda folder: self._measured(work, folder))

    def _measured(self, work: Work, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.stopped():
            raise Stopped("the sweep asked its work to stop")
        started, clock, cpu = time.time(), time.monotonic(), time.process_time()
        with _thread_pools("torch" in sys.modules).limit(limits=self.threads):
            result = work(folder)
        return result, {
            "started": round(started, 3), "seconds": round(time.monotonic() - clock, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3), "host": socket.gethostname(), "versions": versions(),
        }  # fmt: skip

    def stopped(self) -> bool:
        """Whether work should checkpoint and stop."""
        now = time.monotonic()
        if not self._stop_said and now - self._stop_asked >= 1.0:
            self._stop_asked, self._stop_said = now, self._stop()
        return self._stop_said

    # --- components

    def configure(self, role: str, spec: Spec) -> ComponentConfig:
        """The validated settings of a component."""
        return registry.configure(role, spec)

    def identity(self, role: str, spec: Spec) -> dict[str, Any]:
        """What of a component decides its output: name, version, settings, and the content of what it needs."""
        name = f"identity {role} {spec.model_dump_json()}"
        if name not in self._built:
            self._built[name] = component_identity(role, spec, baseline=self.config.mix.classifier)
        found: dict[str, Any] = self._built[name]
        return found

    def build(self, role: str, spec: Spec) -> Any:
        """A component; feature spaces are built once in a process."""
        if role != "spaces":
            return self.configure(role, spec).build()
        name = f"{role} {spec.model_dump_json()}"
        if name not in self._built:
            self._built[name] = self.configure(role, spec).build()
        return self._built[name]

    def runtime(self, config: ComponentConfig, folder: Path, **options: Any) -> UnitRuntime:
        """A runtime for one component at work in one unit."""
        scratch = folder.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        return UnitRuntime(self, config.needs(), scratch, **options)

    def baseline(self) -> Classifier:
        """The real-only classifier of the mix phase, fitted once; it never saw a synthetic image."""
        spec, train = self.config.mix.classifier, self.splits["train"]

        def work(folder: Path) -> dict[str, Any]:
            config = self.configure("classifiers", spec)
            classifier: Classifier = config.build()
            runtime = self.runtime(config, folder)
            history = classifier.fit(train, val=self.splits["val"], seed=self.seed("train", 0), runtime=runtime)
            classifier.save(folder / "model")
            return {"history": history}

        inputs = {
            "classifier": self.identity("classifiers", spec), "train": train.fingerprint,
            "val": self.splits["val"].fingerprint, "train_seed": self.seed("train", 0),
        }  # fmt: skip

        def load() -> Classifier:
            with self.store.folder(self.unit("baseline", inputs, work), "model/") as folder:
                found: Classifier = type(self.configure("classifiers", spec)).component.load(folder)  # type: ignore[attr-defined]
                return found

        fitted: Classifier = self.remember("baseline", load)
        return fitted

    def remember(self, key: str, make: Callable[[], Any], *, most: int = 8) -> Any:
        """`make()`, kept in this process for the next call with `key`."""
        if key not in self.cache:
            self.cache[key] = make()
            while len(self.cache) > most:
                self.cache.popitem(last=False)
        self.cache.move_to_end(key)
        return self.cache[key]

    # --- features

    def know(self, images: ImageSet) -> None:
        """Announce a set whose features are worth keeping in the store, once and for all trials.

        Splits stay known; of pools, this process remembers the last few.
        """
        if not len(images):
            return
        self._known[images.fingerprint] = images
        self._known.move_to_end(images.fingerprint)
        pools = [name for name in self._known if name not in self._permanent]
        for name in pools[:-_POOLS_KNOWN]:
            gone = [d.tobytes() for d in self._known.pop(name).digests]
            for rows in self._rows.values():
                for digest in gone:
                    rows.pop(digest, None)

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        """float32 (N, D): from memory, from the store, or computed (and stored if the set was announced)."""
        rows = self._rows.setdefault(space.model_dump_json(), {})
        digests = [d.tobytes() for d in images.digests]
        missing = {d for d in digests if d not in rows}
        for known in list(self._known.values()):
            if not missing:
                break
            held = [d.tobytes() for d in known.digests]
            if not missing.isdisjoint(held):
                rows.update(zip(held, self.feature_bank(known, space), strict=True))
                missing.difference_update(held)
        if missing:
            index = [i for i, d in enumerate(digests) if d in missing]
            fresh = self._embed(images.take(np.array(index)), space)
            local = dict(zip([digests[i] for i in index], fresh, strict=True))
            return np.stack([local[d] if d in local else rows[d] for d in digests])
        return np.stack([rows[d] for d in digests])

    def feature_bank(self, images: ImageSet, space: Spec) -> np.ndarray:
        """The features of a whole announced set, as a unit."""

        def work(folder: Path) -> dict[str, Any]:
            features = self._embed(images, space)
            save_npy(folder / "features.npy", features)
            return {"num_images": len(images), "dimensions": int(features.shape[1])}

        inputs = {"space": self.identity("spaces", space), "images": images.fingerprint}
        return self.shelf.array(self.unit("features", inputs, work), "features.npy")

    def _embed(self, images: ImageSet, space: Spec) -> np.ndarray:
        config = self.configure("spaces", space)
        component = self.build("spaces", space)
        features: np.ndarray = component.embed(images, runtime=UnitRuntime(self, config.needs(), Path(os.devnull)))
        if not np.isfinite(features).all():
            raise ConfigError(f"space {space.use}: features of {len(images)} images hold NaN or Inf")
        return features


class UnitRuntime:
    """The Runtime of one component in one unit: what it did not declare in `needs()` is refused."""

    def __init__(
        self,
        bench: Bench,
        needs: Sequence[Need],
        scratch: Path,
        *,
        fit_share: float = 1.0,
        checkpoints: Checkpoints | None = None,
        fitted: Callable[[Spec | None], tuple[Generator, ...]] | None = None,
    ) -> None:
        self.device, self.num_threads = _device(), bench.threads
        self.fit_share, self.scratch = fit_share, scratch
        self.curve: list[tuple[int, dict[str, float]]] = []
        self._bench, self._needs, self._checkpoints = bench, tuple(needs), checkpoints
        self._fitted = fitted

    def _declared(self, need: Need) -> None:
        if need not in self._needs:
            raise ConfigError(f"a component asked for {need}, which its needs() do not declare: {list(self._needs)}")

    @property
    def accelerator(self) -> Any:
        """A plain Accelerator for one process."""
        from accelerate import Accelerator

        return Accelerator(cpu=self.device == "cpu")

    def report(self, metrics: Mapping[str, float], *, step: int, images: ImageSet | None = None) -> None:
        """Keep the numbers for the unit's record."""
        self.curve.append((step, {k: float(v) for k, v in metrics.items()}))

    def progress(self, done: int, total: int, what: str) -> None:
        """Progress inside a unit is not shown: the sweep's bar counts units."""

    def checkpoint(self, save: Callable[[Path], None], *, step: int) -> None:
        """Commit a checkpoint of this fit."""
        if self._checkpoints is not None:
            self._checkpoints.save(save, step, self.curve)

    def latest(self) -> Path | None:
        """Folder of the newest checkpoint."""
        if self._checkpoints is None:
            return None
        folder = self._checkpoints.latest()
        self.curve[:] = self._checkpoints.curve
        return folder

    def stopped(self) -> bool:
        """Whether to checkpoint and raise Stopped."""
        return self._bench.stopped()

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        """Features, cached by content."""
        self._declared(Features(space))
        return self._bench.features(images, space)

    def baseline(self) -> Classifier:
        """The real-only classifier."""
        self._declared(Baseline())
        return self._bench.baseline()

    def fitted(self, generator: Spec | None = None) -> tuple[Generator, ...]:
        """The fitted generators, one for each part."""
        self._declared(Fitted(generator))
        assert self._fitted is not None, "this role has no fitted generator"
        return self._fitted(generator)

    def weights(self, name: str) -> Path:
        """Local path of declared weights."""
        self._declared(Weights(name))
        return local_weights(name)

    def circuits(self) -> CircuitRunner:
        """The declared circuit runner.

        Raises:
            ConfigError: the component declares none, or more than one.
        """
        runners = [need.runner for need in self._needs if isinstance(need, Circuits)]
        if len(runners) != 1:
            raise ConfigError(f"needs() must declare one circuit runner, it declares {len(runners)}")
        runner: CircuitRunner = registry.configure("quantum", runners[0]).build()
        return runner


class Checkpoints:
    """The checkpoints of one fit unit: numbered units of their own, so that a killed fit goes on from the newest."""

    def __init__(self, store: Store, fit_key: str, scratch: Path, before: Callable[[Path], bool]) -> None:
        self._store, self._fit_key, self._scratch, self._before = store, fit_key, scratch, before
        self._count, self._step = 0, -1
        self.folder: Path | None = None
        self.curve: list[tuple[int, dict[str, float]]] = []

    def save(self, save: Callable[[Path], None], step: int, curve: list[tuple[int, dict[str, float]]]) -> None:
        """Commit what `save(folder)` writes, unless the newest checkpoint is of this step already."""
        if step == self._step:
            return
        folder = self._scratch / f"checkpoint-{self._count}"
        folder.mkdir(parents=True)
        save(folder)
        self.folder = folder
        self._store.commit(self._unit(self._count), folder, {"step": step, "curve": curve}, {"started": time.time()})
        self._count, self._step = self._count + 1, step

    def latest(self) -> Path | None:
        """The newest checkpoint of this fit; else that of the rung before; else None."""
        newest = None
        while (record := self._store.record(self._unit(self._count))) is not None:
            newest, self._count = record, self._count + 1
        folder = self._scratch / "latest"
        folder.mkdir(parents=True, exist_ok=True)
        if newest is not None:
            self._store.fetch(newest, folder)
            self._step, self.folder = newest["result"]["step"], folder
            self.curve = [(step, numbers) for step, numbers in newest["result"]["curve"]]
            return folder
        return folder if self._before(folder) else None

    def _unit(self, number: int) -> Unit:
        return Unit("checkpoint", {"fit": self._fit_key, "number": number})


@lru_cache(maxsize=2)
def _thread_pools(with_torch: bool) -> ThreadpoolController:
    """The thread pools of the libraries that are loaded; looked for again once torch is there."""
    return ThreadpoolController()


@lru_cache(maxsize=1)
def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Installed versions that can move a number, and the CPU's kind."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def component_identity(role: str, spec: Spec, *, baseline: Spec) -> dict[str, Any]:
    """Name, version and settings of a component, and the content of what it needs.

    baseline: the sweep's classifier, which is what a component gets that needs one.

    Raises:
        ConfigError: unknown component or setting.
        WeightsMissing: a weights file is not there.
    """
    config = registry.configure(role, spec)
    return {
        "role": role, "use": spec.use, "version": type(config).component.version, "config": config.identity(),
        "needs": [_need_identity(need, baseline) for need in config.needs()],
    }  # fmt: skip


def _need_identity(need: Need, baseline: Spec) -> Any:
    match need:
        case Features(space):
            return ["features", component_identity("spaces", space, baseline=baseline)]
        case Weights(name):
            return ["weights", file_sha256(local_weights(name))]
        case Files(root):
            return ["files", tree_sha256(root)]
        case Fitted(generator):
            return ["fitted", generator and component_identity("generators", generator, baseline=baseline)]
        case Circuits(runner):
            return ["circuits", runner.model_dump(mode="json")]
        case _:
            return ["baseline", component_identity("classifiers", baseline, baseline=baseline)]


def local_weights(name: str) -> Path:
    """The local path of weights.

    Raises:
        WeightsMissing: there is no such file.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise WeightsMissing(f"weights file {str(path)!r} does not exist")
    return path


def file_sha256(path: Path) -> str:
    """sha256 of a local file; read again only when its size or time of change moved."""
    state = path.stat()
    return _file_sha256(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _file_sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_sha256(root: str) -> str:
    """sha256 over names and contents of all files below `root` (any fsspec URL); kept while the listing stands.

    Raises:
        ConfigError: no such folder, or no file in it.
    """
    fs, base = fsspec.core.url_to_fs(os.path.expanduser(root))
    fs.invalidate_cache()
    found = fs.find(base, detail=True)
    if not found:
        raise ConfigError(f"folder {root!r} does not exist or holds no file")
    stamps = [(name, repr([found[name].get(k) for k in ("size", "mtime", "ETag", "etag")])) for name in sorted(found)]
    return _tree_sha256(root, tuple(stamps))


@lru_cache(maxsize=16)
def _tree_sha256(root: str, stamps: tuple[tuple[str, str], ...]) -> str:
    fs, base = fsspec.core.url_to_fs(os.path.expanduser(root))
    files = [name for name, _ in stamps]
    sha = hashlib.sha256()
    for name in files:
        sha.update(name[len(base) :].encode() + hashlib.sha256(fs.cat_file(name)).digest())
    return sha.hexdigest()
