"""MinQuality: realism against the formula, its calibration by simulation, noise and blur that it must drop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medsynth_ray.gates.min_quality import MinQuality, realism, spheres
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Features, GateResult, Pool, Spec
from medsynth_ray.testing import LocalRuntime


class PixelRuntime(LocalRuntime):
    """Features are the pixels."""

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        return images.pixels.reshape(len(images), -1).astype(np.float32)


def cloud(num: int, *, seed: int, spread: float = 20.0, shift: float = 0.0, num_groups: int | None = None) -> ImageSet:
    """Images of 2 x 2 pixels, normal about a middle gray."""
    values = np.random.default_rng(seed).normal(128.0 + shift, spread, (num, 2, 2, 1))
    ids = np.array([f"{seed}/{i}" for i in range(num)])
    groups = ids if num_groups is None else np.array([f"{seed}-{i % num_groups}" for i in range(num)])
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return ImageSet(pixels, np.zeros(num, dtype=np.int64), groups, ids, ("class_0",))


def joined(first: ImageSet, second: ImageSet) -> ImageSet:
    pixels = np.concatenate([first.pixels, second.pixels])
    ids = np.concatenate([first.ids, second.ids])
    return ImageSet(pixels, np.zeros(len(ids), dtype=np.int64), ids, ids, first.class_names)


SHOWN, UNSEEN = cloud(400, seed=1), cloud(299, seed=2)


def judged(images: ImageSet, *, shown: ImageSet = SHOWN, unseen: ImageSet = UNSEEN, **settings: float) -> GateResult:
    num = len(images)
    pool = Pool(images, np.arange(num, dtype=np.uint64), np.full(num, ""), ("a",))
    gate = MinQuality(MinQuality.Config.model_validate({"space": "pixels", **settings}))
    return gate.judge(pool, shown=shown, unseen=unseen, seed=0, runtime=PixelRuntime())


@pytest.mark.parametrize("nearest_k", [1, 3])
def test_realism_is_that_of_the_paper(nearest_k: int) -> None:
    rng = np.random.default_rng(0)
    real, x = rng.normal(4.0, 1.0, (60, 3)), rng.normal(4.0, 2.0, (20, 3))
    between = np.linalg.norm(real[:, None] - real, axis=2)
    reach = np.sort(between, axis=1)[:, nearest_k]
    small = reach <= np.median(reach)
    centers, radii = spheres(real, nearest_k)
    assert radii == pytest.approx(reach[small], abs=1e-6)
    expected = (reach[small] / np.linalg.norm(x[:, None] - real[small], axis=2)).max(axis=1)
    assert realism(x, centers, radii) == pytest.approx(expected, rel=1e-5)


def test_realism_of_a_grid_has_a_closed_form() -> None:
    centers, radii = spheres(np.arange(9.0)[:, None], 1)
    assert radii.tolist() == [1.0] * 9
    assert realism(np.array([[10.0], [3.5], [4.25]]), centers, radii) == pytest.approx([0.5, 2.0, 4.0])


def test_as_many_real_images_are_dropped_as_promised() -> None:
    dropped, expected = 0.0, 0.0
    for seed in range(30):
        shown, unseen, fresh = (cloud(n, seed=100 * seed + i) for i, n in ((10, 150), (11, 99), (12, 200)))
        numbers = judged(fresh, shown=shown, unseen=unseen, tail_share=0.05).numbers
        dropped, expected = dropped + numbers["num_dropped"], expected + numbers["expected_dropped"]
    assert expected == pytest.approx(30 * 200 * 0.05)
    assert dropped == pytest.approx(expected, rel=0.3)  # the thresholds' own noise is 8 %


@pytest.mark.parametrize(("num_far", "passed"), [(20, True), (85, True), (110, False)])
def test_images_unlike_real_ones_are_dropped(num_far: int, passed: bool) -> None:
    far = cloud(num_far, seed=4, spread=2.0, shift=100.0)
    result = judged(joined(far, cloud(100, seed=3)))
    assert not result.keep[:num_far].any()
    assert result.keep[num_far:].sum() >= 96
    assert result.passed is passed
    share = result.keep.mean()
    assert result.numbers["kept_share"] == share
    interval = stats.binomtest(int(result.keep.sum()), len(result.keep)).proportion_ci(method="exact")
    assert result.numbers["kept_share_low"] == pytest.approx(interval.low)
    assert result.numbers["kept_share_high"] == pytest.approx(interval.high)
    assert (f"{share:.1%} are kept, min_kept_share is 50.0%" in result.reason) is not passed


def test_a_copier_is_very_realistic() -> None:
    result = judged(SHOWN)
    assert result.passed
    assert result.numbers["realism_median_pixels"] > 1e6
    assert result.numbers["realism_median_unseen_pixels"] < 10


def test_one_image_of_a_group_calibrates() -> None:
    numbers = judged(cloud(50, seed=3), unseen=cloud(90, seed=2, num_groups=30)).numbers
    assert numbers["num_unseen_groups"] == 30
    assert numbers["expected_dropped"] == pytest.approx(50 / 31)


def test_it_needs_its_space() -> None:
    assert MinQuality.Config().needs() == (Features(Spec(use="efficientnet_lite0")),)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 9, 9), "got 0 and 9"),
        ((9, 9, 0), "got 9 and 0"),
        ((9, 3, 9), "nearest_k is 3, got only 3 shown images"),
    ],
)
def test_too_little_is_refused(sizes: tuple[int, int, int], message: str) -> None:
    pool, shown, unseen = (cloud(n, seed=seed) for seed, n in enumerate(sizes))
    with pytest.raises(ValueError, match=message):
        judged(pool, shown=shown, unseen=unseen)
