"""A runtime without an engine, and small image sets: for tests, notebooks and authors of plug-ins."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medsynth_ray import registry, weights
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import CircuitRunner, Classifier, Generator, Spec


class LocalRuntime:
    """Everything a component may ask for, in this process. Reports, progress and checkpoints are kept to look at."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        fit_share: float = 1.0,
        stop_after: int | None = None,
        baseline: Classifier | None = None,
        fitted: tuple[Generator, ...] = (),
    ) -> None:
        self.device = "cpu"
        self.num_threads = 1
        self.fit_share = fit_share
        self.scratch = Path(tempfile.mkdtemp(dir=folder))
        weakref.finalize(self, shutil.rmtree, self.scratch, ignore_errors=True)
        self.reports: list[tuple[int, dict[str, float]]] = []
        self.progress_seen: list[tuple[int, int, str]] = []
        self.checkpoints: list[Path] = []
        self._stop_after, self._asked = stop_after, 0
        self._baseline, self._fitted = baseline, fitted

    @property
    def accelerator(self) -> Any:
        """Made on first use."""
        from accelerate import Accelerator

        return Accelerator(cpu=True)

    def report(self, metrics: Mapping[str, float], *, step: int, images: ImageSet | None = None) -> None:
        """Keep the numbers."""
        self.reports.append((step, dict(metrics)))

    def progress(self, done: int, total: int, what: str) -> None:
        """Keep the call."""
        self.progress_seen.append((done, total, what))

    def checkpoint(self, save: Callable[[Path], None], *, step: int) -> None:
        """Write to a folder of its own."""
        folder = self.scratch / f"checkpoint-{len(self.checkpoints)}"
        folder.mkdir()
        save(folder)
        self.checkpoints.append(folder)

    def latest(self) -> Path | None:
        """The last checkpoint."""
        return self.checkpoints[-1] if self.checkpoints else None

    def stopped(self) -> bool:
        """True once it was asked more than `stop_after` times."""
        self._asked += 1
        return self._stop_after is not None and self._asked > self._stop_after

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        """Computed anew."""
        embedded: np.ndarray = registry.configure("spaces", space).build().embed(images, runtime=self)
        return embedded

    def baseline(self) -> Classifier:
        """What the constructor was given."""
        assert self._baseline is not None, "this test gave no baseline"
        return self._baseline

    def fitted(self, generator: Spec | None = None) -> tuple[Generator, ...]:
        """What the constructor was given."""
        return self._fitted

    def weights(self, name: str) -> Path:
        """A path, or a name of `medsynth weights list`. Raises WeightsMissing when there is no such file."""
        return weights.resolve(name)

    def circuits(self) -> CircuitRunner:
        """No runner here."""
        raise ValueError("LocalRuntime has no circuit runner")

    def close(self) -> None:
        """Remove the scratch folder now rather than when this object goes."""
        shutil.rmtree(self.scratch, ignore_errors=True)


def toy_images(
    counts: tuple[int, ...] = (12, 8), *, size_px: int = 16, channels: int = 3, seed: int = 0, prefix: str = "toy"
) -> ImageSet:
    """Smooth random blobs whose brightness tells the class: uint8 (sum(counts), size_px, size_px, channels)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    coarse = rng.uniform(20, 150, (len(labels), 4, 4, channels)) + 25.0 * labels[:, None, None, None]
    pixels = np.kron(coarse, np.ones((1, size_px // 4, size_px // 4, 1))) + rng.normal(
        0, 4, (len(labels), size_px, size_px, channels)
    )
    ids = np.array([f"{prefix}/{i:04d}" for i in range(len(labels))])
    names = tuple(f"class_{c}" for c in range(len(counts)))
    return ImageSet(np.clip(pixels, 0, 255).astype(np.uint8), labels, ids, ids, names)
