"""Clusters that are known beforehand: what is found, kept, dropped, and that no class is lost."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest
from pydantic import ValidationError

from medsynth_ray.errors import ConfigError
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Features, Spec
from medsynth_ray.samplers.cluster import Cluster, kmeans
from medsynth_ray.testing import LocalRuntime, toy_images


class Table(LocalRuntime):
    """Features by image id, so that the clusters are known."""

    def __init__(self, train: ImageSet, features: np.ndarray) -> None:
        super().__init__()
        self._rows = dict(zip(train.ids.tolist(), features.astype(np.float32), strict=True))

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        return np.stack([self._rows[name] for name in images.ids.tolist()])

    @property
    def numbers(self) -> dict[str, float]:
        return {name: value for _, reported in self.reports for name, value in reported.items()}


def blobs(sizes: tuple[int, ...], *, noise: float = 0.02, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """float (N, 8) around as many far-apart unit vectors as there are sizes, shuffled; and which one each is of."""
    rng = np.random.default_rng(seed)
    which = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return np.eye(8)[which] + rng.normal(0, noise, (len(which), 8)), which


def sampler(**settings: Any) -> Cluster:
    return Cluster(Cluster.Config(**{"num_clusters": 3, "min_images": 1, **settings}))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_far_apart_blobs_are_the_parts(seed: int) -> None:
    features, which = blobs((9, 7, 5))
    train = toy_images((21, 0))
    parts = sampler().select(train, seed=seed, runtime=Table(train, features))
    expected = {frozenset(train.ids[which == i].tolist()) for i in range(3)}
    assert {frozenset(part.ids.tolist()) for part in parts} == expected
    firsts = [train.ids.tolist().index(part.ids[0]) for part in parts]
    assert firsts == sorted(firsts), "parts come in the order of their first image"


def test_similarity_and_spread_are_those_of_the_definition() -> None:
    features, which = blobs((9, 7, 5), noise=0.3)
    train = toy_images((21, 0))
    runtime = Table(train, features)
    (part,) = sampler(num_clusters=1).select(train, seed=0, runtime=runtime)
    assert len(part) == 21
    x = features.astype(np.float32).astype(np.float64)
    centre = x.mean(axis=0)
    cosines = x @ centre / np.linalg.norm(x, axis=1) / np.linalg.norm(centre)
    said = runtime.numbers
    assert said["cluster/class_0/0/similarity"] == pytest.approx(cosines.mean(), abs=1e-6)
    assert said["cluster/class_0/0/spread"] == pytest.approx(cosines.std(), abs=1e-6)
    assert (said["cluster/class_0/0/size"], said["cluster/class_0/0/kept"], said["cluster/class_0/whole"]) == (21, 1, 0)


def test_only_the_images_nearest_to_the_centroid_are_shown() -> None:
    offsets = np.array([0.0, 0.1, -0.1, 0.5, -0.5])
    features = np.zeros((5, 8))
    features[:, 0], features[:, 1] = 1.0, offsets
    train = toy_images((5, 0))
    (part,) = sampler(num_clusters=1, nearest=3).select(train, seed=0, runtime=Table(train, features))
    assert part.ids.tolist() == train.ids[:3].tolist()


def spread_out() -> tuple[ImageSet, Table, np.ndarray]:
    """20 images of class 0 in three blobs: 9 all alike, 7 less so, and 4 that are much less alike."""
    which = np.repeat([0, 1, 2], (9, 7, 4))
    features = 10 * np.eye(8)[which]
    features[:, 5] = np.array([0.01, 1.0, 3.0])[which] * np.where(np.arange(20) % 2, 1.0, -1.0)
    train = toy_images((20, 0))
    return train, Table(train, features), which


@pytest.mark.parametrize(
    ("rule", "sizes", "why"),
    [
        ({"min_images": 5}, [9, 7], "below_min_images"),
        ({"min_similarity": 0.97}, [9, 7], "below_min_similarity"),
        ({"keep": 1}, [9], "beyond_keep"),
        ({"keep": 2}, [9, 7], "beyond_keep"),
    ],
)
def test_clusters_that_are_not_alike_are_dropped_and_it_is_said_why(
    rule: dict[str, Any], sizes: list[int], why: str
) -> None:
    train, runtime, _ = spread_out()
    parts = sampler(**rule).select(train, seed=0, runtime=runtime)
    assert [len(part) for part in parts] == sizes
    said = runtime.numbers
    dropped = [said[f"cluster/class_0/{i}/{why}"] for i in range(3)]
    assert dropped == [0.0] * len(sizes) + [1.0] * (3 - len(sizes))
    assert [said[f"cluster/class_0/{i}/kept"] for i in range(3)] == [1.0 - d for d in dropped]


def test_a_cluster_whose_similarity_varies_is_dropped() -> None:
    features = np.zeros((20, 8))
    features[:10, 0], features[10:, 1] = 10.0, 10.0
    features[10:, 5] = np.linspace(-8, 8, 10)
    train = toy_images((20, 0))
    runtime = Table(train, features)
    parts = sampler(num_clusters=2, max_spread=0.01).select(train, seed=0, runtime=runtime)
    assert [part.ids.tolist() for part in parts] == [train.ids[:10].tolist()]
    assert runtime.numbers["cluster/class_0/1/above_max_spread"] == 1.0


def test_a_class_that_no_cluster_stands_for_is_shown_whole() -> None:
    train, runtime, _ = spread_out()
    (part,) = sampler(min_similarity=1.0, max_spread=0.0, min_images=9).select(train, seed=0, runtime=runtime)
    assert part.ids.tolist() == train.ids.tolist()
    assert runtime.numbers["cluster/class_0/whole"] == 1.0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_class_with_too_few_images_is_one_part(count: int) -> None:
    features, _ = blobs((9, 7, 5 + count))
    train = toy_images((21, count))
    runtime = Table(train, features)
    parts = sampler(num_clusters=4).select(train, seed=0, runtime=runtime)
    assert parts[-1].ids.tolist() == train.ids[train.labels == 1].tolist()
    assert runtime.numbers["cluster/class_1/whole"] == 1.0


@pytest.mark.parametrize(
    ("classes", "clustered"), [("minority", [1]), ((0, 1), [0, 1]), ("all", [0, 1, 2]), ((2,), [2])]
)
def test_classes_that_are_not_clustered_are_one_part_together(classes: Any, clustered: list[int]) -> None:
    train = toy_images((12, 8, 10))
    features, _ = blobs((10, 10, 10))
    runtime = Table(train, features)
    parts = sampler(classes=classes, num_clusters=1).select(train, seed=0, runtime=runtime)
    seen = [np.unique(part.labels).tolist() for part in parts]
    rest = [label for label in range(3) if label not in clustered]
    assert seen == [[label] for label in clustered] + ([rest] if rest else [])
    assert sum(len(part) for part in parts) == 30


def test_classes_clustered_together_may_share_a_part_and_none_is_lost() -> None:
    train = toy_images((8, 6, 4))
    features = np.eye(8)[[0] * 14 + [1] * 4]  # classes 0 and 1 look alike, class 2 is far from both
    runtime = Table(train, features)
    parts = sampler(per_class=False, num_clusters=2, keep=1, min_images=5).select(train, seed=0, runtime=runtime)
    assert [np.unique(part.labels).tolist() for part in parts] == [[0, 1], [2]]
    assert runtime.numbers["cluster/together/1/below_min_images"] == 1.0


def test_images_that_are_all_equal_are_one_part() -> None:
    train = toy_images((10, 0))
    parts = sampler(num_clusters=4).select(train, seed=0, runtime=Table(train, np.ones((10, 8))))
    assert [part.ids.tolist() for part in parts] == [train.ids.tolist()]


def test_a_repeat_gives_the_same_parts_and_threads_are_left_as_they_were() -> None:
    features, _ = blobs((40, 30, 30), noise=0.4)
    train = toy_images((100, 0))
    before = faiss.omp_get_max_threads()
    runs = [
        [part.fingerprint for part in sampler(num_clusters=6).select(train, seed=3, runtime=Table(train, features))]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert faiss.omp_get_max_threads() == before


def test_kmeans_minimises_what_it_says_on_more_images_than_faiss_would_sample() -> None:
    features = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    labels, centroids = kmeans(features, 2, niter=50, nredo=1, seed=1)
    means = np.stack([features[labels == i].mean(axis=0) for i in range(2)])
    assert np.abs(means - centroids).max() < 1e-3


def test_groups_go_with_their_images() -> None:
    train = toy_images((6, 4))
    grouped = ImageSet(train.pixels, train.labels, np.repeat(["a", "b"], 5), train.ids, train.class_names)
    parts = sampler(num_clusters=2).select(grouped, seed=0, runtime=Table(train, blobs((5, 5))[0]))
    known = dict(zip(grouped.ids.tolist(), grouped.groups.tolist(), strict=True))
    assert all(known[i] == g for part in parts for i, g in zip(part.ids.tolist(), part.groups.tolist(), strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": (1, 1)}, "may stand there once"),
        ({"classes": ()}, "at least 1 item"),
        ({"num_clusters": 0}, "greater than or equal to 1"),
        ({"min_similarity": 1.5}, "less than or equal to 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sampler(**settings)


def test_a_label_that_the_data_do_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="labels below 2, got 4"):
        sampler(classes=(4,)).select(toy_images(), seed=0, runtime=LocalRuntime())


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="cluster: the training set holds no image"):
        sampler().select(toy_images((0, 0)), seed=0, runtime=LocalRuntime())


def test_a_missing_faiss_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ConfigError, match="pip install faiss-cpu"):
        kmeans(np.zeros((2, 2), dtype=np.float32), 1, niter=1, nredo=1, seed=0)


def test_its_need_is_its_space() -> None:
    space = Spec(use="efficientnet_lite0", config={"resolution": 64})
    assert Cluster.Config(space=space).needs() == (Features(space),)
