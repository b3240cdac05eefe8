"""Principal components with one Gaussian per class: the honest floor for every generator that costs more.

An image of class c is mean_c + B A_c z with z ~ N(0, I): B (P, k) is the basis of the images' deviations from their
class mean, found by block power iteration (Halko, Martinsson, Tropp, arXiv:0909.4061, algorithm 4.4), A_c the square
root of the class covariance in that basis, shrunk towards the pooled one (Friedman 1989, "Regularized discriminant
analysis", eq. 16). What lies outside the basis is not drawn: images are smooth.

As a density (`loss`) it is probabilistic PCA (Tipping and Bishop 1999) with the class covariance inside the basis.

P pixels of all channels, n images, K classes, k components. Arithmetic is float64, so that images rounded to bytes do
not depend on how many are drawn at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from pydantic import Field
from safetensors.numpy import load_file, save_file

from medsynth_ray.errors import Stopped
from medsynth_ray.generators._drawing import in_shards
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, Draw, GeneratorConfig, PoolShard, Runtime
from medsynth_ray.seeds import rng
from medsynth_ray.space import IntRange, Space, Uniform

_CHUNK_VALUES = 4_000_000
_ROUNDING_VARIANCE = 1 / 12


class Gaussian(Component):
    """Draws from a Gaussian per class in the space of principal components."""

    needs_sources: ClassVar[bool] = False
    fitted_on_unknown: ClassVar[bool] = False

    class Config(GeneratorConfig):
        """Settings of the Gaussian."""

        num_components: int = Field(default=32, ge=1, le=4096)
        """Principal components kept. Clamped to the shown images less the classes, and to the pixels (at least 1)."""
        shrinkage: float = Field(default=0.1, ge=0.0, le=1.0)
        """How far a class covariance is drawn to the pooled one: 0 not at all, 1 one covariance for all classes.
        Between, a class with few images is drawn further; a class with one image takes the pooled covariance."""
        temperature: float = Field(default=1.0, ge=0.0, le=4.0)
        """Factor on the standard deviations: 0 draws the class means."""
        max_train_steps: int = Field(default=9, ge=1, le=10_000)
        """Power iterations."""

        def search_space(self) -> dict[str, Space]:
            """Components and shrinkage."""
            return {"num_components": IntRange(low=4, high=128, log=True), "shrinkage": Uniform(low=0.0, high=1.0)}

        def rungs(self) -> tuple[float, ...]:
            """A ninth, a third, all of the iterations."""
            return (1 / 9, 1 / 3, 1.0)

    config: Config

    def fit(self, shown: ImageSet, *, seed: int, runtime: Runtime) -> None:
        """Iterate the basis up to the rung, then estimate the covariances in it.

        `explained_variance_share` of a step is a lower bound on what the new basis explains.

        Raises:
            ValueError: `shown` is empty.
            Stopped: the runtime asked for it.
        """
        if not len(shown):
            raise ValueError("gaussian: no image was shown, at least 1 is needed")
        deviations = _Deviations(shown)
        basis, step = self._start(deviations, seed, runtime.latest())
        target = math.ceil(runtime.fit_share * self.config.max_train_steps - 1e-9)

        def save_state(folder: Path) -> None:
            save_file({"basis": basis, "step": np.array(step)}, folder / "state.safetensors")

        while step < target:
            if runtime.stopped():
                runtime.checkpoint(save_state, step=step)
                raise Stopped(f"gaussian stopped after {step} of {target} iterations")
            basis, explained_share = deviations.iterate(basis)
            step += 1
            numbers = {"explained_variance_share": explained_share, "images_seen": float(step * len(shown))}
            runtime.report(numbers, step=step)
            runtime.progress(step, target, "power iterations")
        self._tensors = deviations.model(basis, self.config.shrinkage)
        runtime.checkpoint(save_state, step=step)

    def capacity(self, label: int) -> int | None:
        """Return None: any number."""
        return None

    def sample(self, draw: Draw, *, sources: ImageSet | None, runtime: Runtime) -> Iterator[PoolShard]:
        """Yield images of the fitted Gaussians.

        Raises:
            ValueError: no image of a class was shown.
        """
        yield from in_shards(draw, self._paint, runtime=runtime)

    def loss(self, images: ImageSet, *, seed: int, runtime: Runtime) -> np.ndarray:
        """Negative log density of each image in nats, given its label: float32 (N,). The seed plays no part.

        Outside the basis every direction has one variance, the mean of what the basis left over in the shown images.
        1/12 is added to all variances, that of rounding to whole levels. `temperature` is of drawing: it plays no part.
        A class that was not shown has the pooled covariance about black.

        Raises:
            Stopped: the runtime asked for it.
        """
        density = _Density(self._tensors)
        losses, size = np.empty(len(images), dtype=np.float32), max(1, _CHUNK_VALUES // density.num_pixels)
        for start in range(0, len(images), size):
            if runtime.stopped():
                raise Stopped(f"gaussian stopped after the loss of {start} of {len(images)} images")
            part = slice(start, start + size)
            losses[part] = density.losses(images.pixels[part].reshape(-1, density.num_pixels), images.labels[part])
        return losses

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        self.save_config(folder)
        save_file(self._tensors, folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        generator = cls.from_config_of(folder)
        generator._tensors = load_file(folder / "model.safetensors")
        return generator

    def _start(self, deviations: _Deviations, seed: int, checkpoint: Path | None) -> tuple[np.ndarray, int]:
        num = max(1, min(self.config.num_components, deviations.max_rank))
        if checkpoint is not None:
            state = load_file(checkpoint / "state.safetensors")
            assert state["basis"].shape == (deviations.num_pixels, num), "the checkpoint is of another fit"
            return state["basis"], int(state["step"])
        noise = rng("gaussian", seed).standard_normal((deviations.num_pixels, num))
        return np.ascontiguousarray(np.linalg.qr(noise)[0]), 0

    def _paint(self, draw: Draw) -> PoolShard:
        means, basis, roots = (self._tensors[name] for name in ("means", "basis", "roots"))
        missing = set(draw.labels.tolist()) - set(np.flatnonzero(self._tensors["counts"]).tolist())
        if missing:
            raise ValueError(f"gaussian: no image of class {min(missing)} was shown, so none can be drawn")
        z = np.stack([np.random.default_rng(int(s)).standard_normal(basis.shape[1]) for s in draw.seeds])
        weights = np.matmul(roots[draw.labels].astype(np.float64), z[:, :, None])[:, :, 0] * self.config.temperature
        values = means[draw.labels] + weights @ basis.astype(np.float64).T
        pixels = np.rint(np.clip(values, 0.0, 255.0)).astype(np.uint8)
        no_sources = np.full(len(draw), "", dtype=np.str_)
        return PoolShard(pixels.reshape(len(draw), *self._tensors["image_shape"]), no_sources)


class _Deviations:
    """The shown images less their class means, (n, P), made float64 a chunk at a time."""

    def __init__(self, shown: ImageSet) -> None:
        self.shown = shown
        self.flat = shown.pixels.reshape(len(shown), -1)
        self.counts = shown.counts()
        self.num_pixels = self.flat.shape[1]
        self.max_rank = min(len(shown) - int((self.counts > 0).sum()), self.num_pixels)
        self.means = np.stack([self._mean(label) for label in range(shown.num_classes)])
        self.total = sum(float(np.square(chunk).sum()) for chunk in self._chunks())

    def _mean(self, label: int) -> np.ndarray:
        rows = self.flat[self.shown.labels == label]
        return rows.mean(axis=0, dtype=np.float64) if len(rows) else np.zeros(self.num_pixels)

    def _chunks(self) -> Iterator[np.ndarray]:
        size = max(1, _CHUNK_VALUES // self.num_pixels)
        for start in range(0, len(self.flat), size):
            yield self.flat[start : start + size] - self.means[self.shown.labels[start : start + size]]

    def iterate(self, basis: np.ndarray) -> tuple[np.ndarray, float]:
        """One power step: the new basis (P, k), and a lower bound on the share of variance that it explains."""
        product = np.zeros_like(basis)
        for chunk in self._chunks():
            product += chunk.T @ (chunk @ basis)
        basis, triangle = np.linalg.qr(product)
        basis = np.ascontiguousarray(basis)
        # For C = D'D, |R|_* = |Q'C Q_old|_* lies between tr(Q_old'C Q_old) and tr(Q'C Q): no second pass is needed.
        nuclear = float(np.linalg.svd(triangle, compute_uv=False).sum())
        return basis, nuclear / self.total if self.total else 1.0

    def model(self, basis: np.ndarray, shrinkage: float) -> dict[str, np.ndarray]:
        """What is saved: means (K, P), basis (P, k), roots (K, k, k) of the class covariances, what is left over."""
        scores = np.concatenate([chunk @ basis for chunk in self._chunks()])
        num_left = max(len(self.flat) - int((self.counts > 0).sum()), 1) * max(self.num_pixels - basis.shape[1], 1)
        residual_variance = max(self.total - float(np.square(scores).sum()), 0.0) / num_left
        scatters = np.stack([s.T @ s for s in (scores[self.shown.labels == c] for c in range(self.shown.num_classes))])
        roots = np.stack([_root(c) for c in shrunk_covariances(scatters, self.counts, shrinkage)])
        return {
            "means": self.means.astype(np.float32),
            "basis": basis.astype(np.float32),
            "roots": roots.astype(np.float32),
            "counts": self.counts,
            "image_shape": np.array(self.shown.image_shape),
            "residual_variance": np.array([residual_variance]),
        }


class _Density:
    """The Gaussian of each class over all pixels: its covariance in the basis, one variance outside."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.means, self.basis, roots = (tensors[name].astype(np.float64) for name in ("means", "basis", "roots"))
        self.num_pixels, num_components = self.basis.shape
        covariances = roots @ roots + _ROUNDING_VARIANCE * np.eye(num_components)
        self.inverses = np.linalg.inv(covariances)
        self.variance = float(tensors["residual_variance"][0]) + _ROUNDING_VARIANCE
        outside = (self.num_pixels - num_components) * math.log(self.variance)
        self.log_scales = np.linalg.slogdet(covariances)[1] + outside + self.num_pixels * math.log(2.0 * math.pi)

    def losses(self, flat: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Negative log density (N,) of images (N, P)."""
        deviations = flat - self.means[labels]
        scores = deviations @ self.basis
        outside = np.maximum(np.square(deviations).sum(axis=1) - np.square(scores).sum(axis=1), 0.0)
        inside = np.empty(len(flat))
        for label in np.unique(labels):
            own = labels == label
            inside[own] = (scores[own] @ self.inverses[label] * scores[own]).sum(axis=1)
        losses: np.ndarray = 0.5 * (inside + outside / self.variance + self.log_scales[labels])
        return losses


def shrunk_covariances(scatters: np.ndarray, counts: np.ndarray, shrinkage: float) -> np.ndarray:
    """Class covariances (K, k, k) from scatter matrices (K, k, k) about the class means; Friedman 1989, eq. 16."""
    own = (1.0 - shrinkage) * np.maximum(counts - 1, 0)
    pooled_weight = shrinkage * max(int(counts.sum() - (counts > 0).sum()), 0)
    pooled = scatters.sum(axis=0)
    alone = own + pooled_weight == 0
    mixed = (1.0 - shrinkage) * scatters + shrinkage * pooled
    mixed[alone] = pooled
    weight = np.where(alone, max(int(counts.sum() - (counts > 0).sum()), 1), own + pooled_weight)
    covariances: np.ndarray = mixed / weight[:, None, None]
    return covariances


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root: unlike a factor with free signs, it is the same on every machine."""
    values, vectors = np.linalg.eigh(covariance)
    root: np.ndarray = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root
