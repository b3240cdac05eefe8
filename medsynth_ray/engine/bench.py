"""The work bench of one process: data, store, caches, and the runtime that components get. Imports no ray."""

from __future__ import annotations

import io
import os
import platform
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

from medsynth_ray import registry
from medsynth_ray.config import SweepConfig
from medsynth_ray.engine.identity import component_identity
from medsynth_ray.engine.runtime import UnitRuntime
from medsynth_ray.engine.store import Record, Store, Unit
from medsynth_ray.errors import ConfigError, Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Baseline, Classifier, ComponentConfig, Features, HasFeatures, Runtime, Spec
from medsynth_ray.seeds import derive

_VERSIONED = ("medsynth-ray", "torch", "timm", "numpy", "scipy", "scikit-learn", "pillow", "ray", "optuna")
_POOLS_KNOWN = 3
ENGINE_VERSION = 3
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


class OwnRuntime:
    """A fitted classifier that asks a runtime of its own, whoever uses it: the asker declares `Baseline` alone."""

    def __init__(self, classifier: Classifier, runtime: UnitRuntime) -> None:
        self._classifier, self._runtime = classifier, runtime
        if isinstance(classifier, HasFeatures):
            self.embed = lambda images, *, runtime: classifier.embed(images, runtime=self._runtime)

    def predict(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        """Class probabilities float32 (N, K)."""
        return self._classifier.predict(images, runtime=self._runtime)


class Bench:
    """What every unit of a sweep works with.

    splits: the image sets by name: "train" (what classifiers learn from), "showable" (what generators may be shown;
    the same unless `data.real_share` says otherwise), "val", "test". weights: name -> sha256; the file may be in
    the store only. stop: asked at most once a second whether to stop.
    """

    def __init__(
        self,
        config: SweepConfig,
        store: Store,
        splits: Mapping[str, ImageSet],
        *,
        shelf: Shelf | None = None,
        weights: Mapping[str, str] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config, self.store, self.splits = config, store, splits
        self.shelf: Shelf = shelf or StoreShelf(store)
        self.threads, self.weights = config.runtime.threads_per_trial, dict(weights or {})
        self._stop, self._stop_asked, self._stop_said = stop, 0.0, False
        self._rows: dict[str, dict[bytes, np.ndarray]] = {}
        self._known: OrderedDict[str, ImageSet] = OrderedDict()
        self._built: dict[str, Any] = {}
        self.cache: OrderedDict[str, Any] = OrderedDict()
        self._permanent = {images.fingerprint for images in splits.values()}
        for images in splits.values():
            self.know(images)

    def real(self, name: str) -> ImageSet:
        """The real images of a split, or a share of its groups: "train", "showable", "train@0.25"."""
        split, _, share = name.partition("@")
        if not share:
            return self.splits[split]

        def cut() -> ImageSet:
            from medsynth_ray.data.split import share_of_groups

            whole = self.splits[split]
            return whole.take(share_of_groups(whole.labels, whole.groups, float(share), self.seed("real_share")))

        part: ImageSet = self.remember(f"real {name}", cut)
        return part

    def seed(self, *parts: Any) -> int:
        """A seed of this sweep."""
        return derive(self.config.seed, *parts)

    # --- units

    def unit_of(self, kind: str, inputs: dict[str, Any]) -> Unit:
        """The unit of these inputs: threads and the engine's version decide too."""
        return Unit(kind, {**inputs, "threads": self.threads, "engine": ENGINE_VERSION})

    def unit(self, kind: str, inputs: dict[str, Any], work: Work) -> Record:
        """The record of a unit; `work(folder) -> result` runs only if there is none.

        Raises:
            Stopped: the sweep asks its work to stop.
        """
        unit = self.unit_of(kind, inputs)
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
            found = component_identity(role, spec, baseline=self.config.mix.classifier, weights=self.weights)
            if self._stands_on_baseline(role, spec):  # whose identity says how it is fitted, not on what
                found["baseline_on"] = [self.splits[split].fingerprint for split in ("train", "val")]
                found["baseline_on"].append(self.seed("train", 0))
            self._built[name] = found
        identity: dict[str, Any] = self._built[name]
        return identity

    def _stands_on_baseline(self, role: str, spec: Spec) -> bool:
        needs = self.configure(role, spec).needs()
        spaces = [need.space for need in needs if isinstance(need, Features)]
        return Baseline() in needs or any(self._stands_on_baseline("spaces", space) for space in spaces)

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
        spec = self.config.mix.classifier

        def load() -> Classifier:
            with self.store.folder(self._baseline_record(), "model/") as folder:
                found: Classifier = type(self.configure("classifiers", spec)).component.load(folder)  # type: ignore[attr-defined]
                return found

        runtime = UnitRuntime(self, self.configure("classifiers", spec).needs(), Path(os.devnull))
        fitted: Classifier = self.remember("baseline", lambda: OwnRuntime(load(), runtime))
        return fitted

    def _baseline_record(self) -> Record:
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

        return self.unit("baseline", inputs, work)

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


@lru_cache(maxsize=2)
def _thread_pools(with_torch: bool) -> ThreadpoolController:
    """The thread pools of the libraries that are loaded; looked for again once torch is there."""
    return ThreadpoolController()


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
