"""Canaries: what a copier gives back is found, what nobody learnt is not, and the null is uniform."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from medsynth_ray.engine.canaries import came_back, ghosts, make, matching
from medsynth_ray.generators.gaussian import Gaussian
from medsynth_ray.images import ImageSet, concat
from medsynth_ray.protocols import Draw
from medsynth_ray.testing import LocalRuntime, toy_images

TRAIN = toy_images((60, 40), size_px=32)
FRESH = toy_images((90, 60), size_px=32, seed=5, prefix="synthetic")
CANARIES, MARKS = make(TRAIN, 10, 1, 0)
GHOSTS = ghosts(TRAIN, 399, 0)


def with_pixels(images: ImageSet, pixels: np.ndarray) -> ImageSet:
    rounded = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return ImageSet(rounded, images.labels, images.groups, images.ids, images.class_names)


def test_canaries_are_marked_images_of_their_hosts_class() -> None:
    images, marks = make(TRAIN, 6, 3, 1)
    assert images.ids[:4].tolist() == ["canary/0/0", "canary/0/1", "canary/0/2", "canary/1/0"]
    assert images.groups[:4].tolist() == ["canary/0"] * 3 + ["canary/1"]
    assert (len(images), len(marks), marks.copies) == (18, 6, 3)
    assert np.array_equal(images.pixels[0], images.pixels[2])
    assert set(np.unique(marks.grids)) == {-1.0, 1.0}
    narrowed = TRAIN.pixels * (1 - 80 / 255) + 40.0
    # The mark is 40 levels up or down everywhere: exactly one training image explains each canary.
    gaps = [np.abs(np.abs(image - narrowed) - 40.0).max(axis=(1, 2, 3)) for image in images.pixels[::3].astype(float)]
    hosts = np.argmin(gaps, axis=1)
    assert np.min(gaps, axis=1).max() <= 0.5
    assert TRAIN.labels[hosts].tolist() == images.labels[::3].tolist()


def test_canaries_depend_on_the_seed_alone() -> None:
    again, _ = make(TRAIN, 10, 1, 0)
    other, _ = make(TRAIN, 10, 1, 1)
    assert again.fingerprint == CANARIES.fingerprint
    assert not np.isin(other.digests, CANARIES.digests).any()
    assert not np.array_equal(ghosts(TRAIN, 10, 0).grids, MARKS.grids)


@pytest.mark.parametrize("level", [0, 255])
def test_mark_shows_on_black_and_on_white(level: int) -> None:
    plain = with_pixels(TRAIN, np.full(TRAIN.pixels.shape, level))
    images, marks = make(plain, 3, 1, 0)
    assert np.ptp(images.pixels.reshape(3, -1), axis=1).tolist() == [80, 80, 80]
    assert came_back(images, marks, ghosts(plain, 99, 0)).returned == list(marks.names)


@pytest.mark.parametrize(
    "mirror",
    [(), (2,), (1,), (1, 2)],
    ids=["as they are", "left to right", "top to bottom", "both"],
)
def test_a_copier_returns_all(mirror: tuple[int, ...]) -> None:
    copies = with_pixels(CANARIES, np.flip(CANARIES.pixels, mirror))
    pool = concat([FRESH, copies])
    report = came_back(pool, MARKS, GHOSTS)
    assert report.returned == [f"canary/{i}" for i in range(10)]
    assert [row["id"] for row in report.best] == [f"canary/{i}/0" for i in range(10)]
    assert min(row["score"] for row in report.best) > 0.99
    assert report.expected == pytest.approx(10 * 4 / 400)
    assert report.p == pytest.approx(stats.betabinom.sf(9, 10, 4, 396))
    assert matching(pool, MARKS, report.threshold).tolist() == [False] * 150 + [True] * 10
    assert json.loads(json.dumps(asdict(report)))["planted"] == 10


@pytest.mark.parametrize("fault", ["noise", "blur", "contrast"])
def test_one_altered_canary_is_found(fault: str) -> None:
    one = CANARIES.pixels[3].astype(float)
    altered = {
        "noise": one + np.random.default_rng(0).normal(0, 25, one.shape),
        "blur": gaussian_filter(one, (1.5, 1.5, 0)),
        "contrast": 0.6 * one + 60.0,
    }[fault]
    pool = with_pixels(FRESH, np.concatenate([FRESH.pixels[:-1], altered[None]]))
    report = came_back(pool, MARKS, GHOSTS)
    assert "canary/3" in report.returned
    assert report.best[3]["id"] == FRESH.ids[-1]
    assert report.best[3]["score"] > 0.9
    assert matching(pool, MARKS, report.threshold)[-1]


@pytest.mark.parametrize("shown", ["train", "hosts"])
def test_real_images_are_no_canaries(shown: str) -> None:
    """A generator that copies the hosts, but never saw a mark, returns no canary."""
    pool = TRAIN if shown == "train" else concat([TRAIN, FRESH])
    report = came_back(pool, MARKS, GHOSTS)
    assert report.returned == report.above_chance == []
    assert report.p == 1.0


def test_a_gaussian_draws_traces_of_canaries_but_returns_none() -> None:
    """A tenth of what it was shown is canaries: they turn its components."""
    generator = Gaussian(Gaussian.Config(num_components=8))
    generator.fit(concat([TRAIN, CANARIES]), seed=1, runtime=LocalRuntime())
    labels = np.arange(300) % 2
    draw = Draw(labels, np.arange(300), np.arange(300, dtype=np.uint64))
    pixels = np.concatenate([s.images for s in generator.sample(draw, sources=None, runtime=LocalRuntime())])
    ids = np.array([f"synthetic/{i}" for i in range(300)])
    pool = ImageSet(pixels, labels, ids, ids, TRAIN.class_names)
    report = came_back(pool, MARKS, GHOSTS)
    assert report.returned == []
    assert report.threshold == 0.7 > report.chance
    assert report.p < 1e-3
    assert max(row["score"] for row in report.best) < 0.65
    assert not matching(pool, MARKS, report.threshold).any()


def test_the_null_is_uniform_over_seeds() -> None:
    """Ghosts and canaries that were never planted are alike: as many exceed the threshold as is said."""
    train, pool = toy_images((6, 4)), toy_images((20, 10), seed=5, prefix="synthetic")
    reports = [came_back(pool, make(train, 10, 1, s)[1], ghosts(train, 49, s), alpha=0.2) for s in range(120)]
    counts = np.array([len(report.above_chance) for report in reports])
    assert reports[0].expected == pytest.approx(2.0)
    assert counts.mean() == pytest.approx(2.0, abs=0.5)  # 4 standard errors of a beta-binomial(10, 10, 40)
    for report in reports[:20]:
        assert report.p == pytest.approx(stats.betabinom.sf(len(report.above_chance) - 1, 10, 10, 40))
    p_values = np.array([report.p for report in reports])
    for level in (0.05, 0.3):
        assert (p_values <= level).sum() <= stats.binom.ppf(0.999, 120, level)


@pytest.mark.parametrize(
    ("images", "count", "copies", "message"),
    [
        (TRAIN.take([]), 3, 1, "got 0 images"),
        (toy_images(size_px=4), 3, 1, r"at least 8 px .* of \(4, 4, 3\)"),
        (TRAIN, 0, 1, "count=0"),
        (TRAIN, 3, 0, "copies must be at least 1, got 0"),
    ],
)
def test_impossible_canaries_are_refused(images: ImageSet, count: int, copies: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(images, count, copies, 0)


def test_an_empty_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0, 10 and 399"):
        came_back(FRESH.take([]), MARKS, GHOSTS)
    assert matching(FRESH.take([]), MARKS, 0.5).shape == (0,)


def test_sizes_need_not_be_multiples_of_eight() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 37, 51, 1)).astype(np.uint8)
    ids = np.array([f"real/{i}" for i in range(20)])
    odd = ImageSet(pixels, np.zeros(20, dtype=np.int64), ids, ids, ("class_0",))
    images, marks = make(odd, 4, 1, 0)
    report = came_back(images, marks, ghosts(odd, 199, 0))
    assert report.returned == list(marks.names)
    assert report.best[0]["score"] > 0.97
