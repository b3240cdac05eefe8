"""One generator for each cluster of images that look alike, as in seed study 001, section 5.1.

Embed, k-means, the images nearest to each centroid, the clusters whose images are alike, one part for each of these.
The study used faiss (k = 5, 20 iterations, L2) on EfficientNet-B0 at 256 px or CLIP ViT-B/32: `space: {use: timm_model,
config: {model: efficientnet_b0, resolution: 256, weights: ...}}`; it clustered the class that it doubled.
Where it differs: a very small cluster is dropped, since a single image is perfectly like its own centroid.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from medsynth_ray.errors import ConfigError
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, ComponentConfig, Features, Need, Runtime, Spec
from medsynth_ray.seeds import derive

Label = Annotated[int, Field(ge=0)]


class Cluster(Component):
    """Shows each generator one cluster; no class is left without a generator that was shown it.

    The classes that are not clustered are one part together, the last. A class with too few images for its clusters, or
    none of whose clusters may stay, is one part, whole. What becomes of each cluster is reported at step 0:
    `cluster/<class>/<i>/...` with size, shown, similarity, spread, kept, and why not: below_min_images,
    below_min_similarity, above_max_spread, beyond_keep (each 0 or 1); `cluster/<class>/whole` is 1 for a whole class.
    """

    class Config(ComponentConfig):
        """How images are clustered, and which clusters stay."""

        space: Spec = Spec(use="efficientnet_lite0")
        """Feature space in which images are alike or not."""
        classes: Literal["minority", "all"] | Annotated[tuple[Label, ...], Field(min_length=1)] = "all"
        """Which classes are clustered. minority: the one with the fewest images (several if equal). Or a list of
        labels: places in the data set's sorted class names, from 0. The other classes are shown whole, in one part."""
        per_class: bool = True
        """True: each class is clustered by itself, so that a part holds one class. False: all of `classes` together."""
        num_clusters: int = Field(default=5, ge=1, le=1000)
        """Clusters of each class, k."""
        niter: int = Field(default=20, ge=1)
        """Iterations of k-means."""
        nredo: int = Field(default=5, ge=1)
        """Starts of k-means, of which the best counts. The study had one, which can miss a cluster."""
        nearest: int | None = Field(default=None, ge=1)
        """Only so many images of each cluster, those nearest to its centroid; None: all."""
        min_images: int = Field(default=10, ge=1)
        """A cluster with fewer images is dropped."""
        min_similarity: float | None = Field(default=None, ge=-1.0, le=1.0)
        """A cluster stays if the cosine similarity of its images to the centroid is at least this on average."""
        max_spread: float | None = Field(default=None, ge=0.0)
        """A cluster stays if the standard deviation of that similarity is at most this."""
        keep: int | None = Field(default=None, ge=1)
        """At most so many clusters of each class: the most similar, of equally similar ones the least spread."""

        @field_validator("classes")
        @classmethod
        def _named_once(cls, value: str | tuple[int, ...]) -> str | tuple[int, ...]:
            if not isinstance(value, str) and len(set(value)) < len(value):
                raise ValueError("each label may stand there once")
            return value

        def needs(self) -> tuple[Need, ...]:
            """Features of the shown images."""
            return (Features(self.space),)

        @classmethod
        def tiny(cls) -> Cluster.Config:
            """Two clusters of at least two images, features at 32 px."""
            return cls(
                space=Spec(use="efficientnet_lite0", config={"resolution": 32}), num_clusters=2, min_images=2, nredo=1
            )

    config: Config

    def select(self, train: ImageSet, *, seed: int, runtime: Runtime) -> tuple[ImageSet, ...]:
        """Return the kept clusters, class by class, then all classes that are in none of them as one part.

        Raises:
            ValueError: `train` is empty, or `classes` names a label that the data do not have.
            ConfigError: faiss is not installed.
        """
        if not len(train):
            raise ValueError("cluster: the training set holds no image, at least 1 is needed")
        chosen = self._chosen(train.counts())
        parts: list[np.ndarray] = []
        for name, rows in self._groups(train, chosen):
            parts += self._parts(name, train, rows, seed, runtime)
        covered = np.unique(train.labels[np.concatenate(parts)]) if parts else np.empty(0, dtype=np.int64)
        rest = np.flatnonzero(~np.isin(train.labels, covered))
        return tuple(train.take(rows) for rows in [*parts, *([rest] if len(rest) else [])])

    def _chosen(self, counts: np.ndarray) -> np.ndarray:
        """Labels of the classes that are clustered; those without an image never are."""
        classes, present = self.config.classes, np.flatnonzero(counts)
        if classes == "all":
            return present
        if classes == "minority":
            return np.flatnonzero(counts == counts[present].min())
        if max(classes) >= len(counts):
            raise ValueError(f"cluster: classes must be labels below {len(counts)}, got {max(classes)}")
        return np.intersect1d(present, classes)

    def _groups(self, train: ImageSet, chosen: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """(name, rows) of what is clustered by itself."""
        if self.config.per_class:
            for label in chosen:
                yield train.class_names[label], np.flatnonzero(train.labels == label)
        elif len(chosen):
            yield "together", np.flatnonzero(np.isin(train.labels, chosen))

    def _parts(self, name: str, train: ImageSet, rows: np.ndarray, seed: int, runtime: Runtime) -> list[np.ndarray]:
        """Rows of the kept clusters of one group, or all of its rows as one part."""
        if len(rows) < max(self.config.num_clusters, self.config.min_images):
            runtime.report({f"cluster/{name}/whole": 1.0}, step=0)
            return [rows]
        features = runtime.features(train.take(rows), self.config.space)
        found = self._judged(features, derive(seed, name))
        numbers = {f"cluster/{name}/{i}/{key}": v for i, one in enumerate(found) for key, v in one.numbers().items()}
        kept = [rows[one.rows] for one in found if one.kept]
        runtime.report({**numbers, f"cluster/{name}/whole": float(not kept)}, step=0)
        return kept or [rows]

    def _judged(self, features: np.ndarray, seed: int) -> list[_Found]:
        """Every cluster with what it is like, in the order of its first image, and whether it stays."""
        config = self.config
        labels, centroids = kmeans(
            features, config.num_clusters, niter=config.niter, nredo=config.nredo, seed=seed % 2**31
        )
        found = [_found(features, np.flatnonzero(labels == i), centroids[i], config.nearest) for i in np.unique(labels)]
        found.sort(key=lambda one: int(one.rows[0]))
        for one in found:
            one.why_not = {
                "below_min_images": one.size < config.min_images,
                "below_min_similarity": config.min_similarity is not None and one.similarity < config.min_similarity,
                "above_max_spread": config.max_spread is not None and one.spread > config.max_spread,
                "beyond_keep": False,
            }
        ranked = sorted((one for one in found if one.kept), key=lambda one: (-one.similarity, one.spread))
        for one in ranked[config.keep :] if config.keep else []:
            one.why_not["beyond_keep"] = True
        return found


@dataclass
class _Found:
    """A cluster. rows: int64, the images that may be shown, in order; size: of the whole cluster."""

    rows: np.ndarray
    size: int
    similarity: float
    spread: float
    why_not: dict[str, bool]

    @property
    def kept(self) -> bool:
        return not any(self.why_not.values())

    def numbers(self) -> dict[str, float]:
        facts = {
            "size": self.size, "shown": len(self.rows), "similarity": self.similarity, "spread": self.spread,
            "kept": self.kept, **self.why_not,
        }  # fmt: skip
        return {name: float(value) for name, value in facts.items()}


def _found(features: np.ndarray, members: np.ndarray, centroid: np.ndarray, nearest: int | None) -> _Found:
    """A cluster's images nearest to its centroid (L2), and how alike they are (cosine to the centroid)."""
    vectors, centre = features[members].astype(np.float64), centroid.astype(np.float64)
    order = np.argsort(((vectors - centre) ** 2).sum(axis=1), kind="stable")[:nearest]
    taken = np.sort(order)
    norms = np.linalg.norm(vectors[taken], axis=1) * np.linalg.norm(centre)
    cosines = vectors[taken] @ centre / np.maximum(norms, np.finfo(np.float64).tiny)
    return _Found(members[taken], len(members), float(cosines.mean()), float(cosines.std()), {})


def kmeans(features: np.ndarray, k: int, *, niter: int, nredo: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster float32 (N, D), N >= k, by faiss on one thread; on a GPU where faiss has one.

    Every image counts: faiss' sampling of large sets is switched off. Clusters may come out empty.

    Returns:
        int64 (N,), each row's cluster; float32 (k, D), the centroids.

    Raises:
        ConfigError: faiss is not installed.
    """
    faiss = _faiss()
    with _one_thread(faiss):
        clustering = faiss.Kmeans(
            features.shape[1], k, niter=niter, nredo=nredo, seed=seed, gpu=_has_gpu(faiss),
            min_points_per_centroid=1, max_points_per_centroid=len(features),
        )  # fmt: skip
        clustering.train(features)
        labels = clustering.assign(features)[1]
    return labels.astype(np.int64), clustering.centroids


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(f"sampler cluster needs faiss ({error}): pip install faiss-cpu") from error
    return faiss


def _has_gpu(faiss: Any) -> bool:
    return bool(getattr(faiss, "get_num_gpus", lambda: 0)() > 0)


@contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    """The number of threads changes bits; what was set before comes back."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
