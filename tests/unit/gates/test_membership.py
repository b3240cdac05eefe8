"""Membership: generators that keep what they were shown are found, innocent ones are not, and the null holds."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from medsynth_ray.errors import ConfigError
from medsynth_ray.gates._lowres import lowres
from medsynth_ray.gates._order_statistics import tail_p_value
from medsynth_ray.gates.membership import Membership, nearness, smallest_loss
from medsynth_ray.generators.copy_real import CopyReal
from medsynth_ray.generators.gaussian import Gaussian
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Baseline, Features, Fitted, GateResult, Pool, Spec
from medsynth_ray.testing import LocalRuntime

NAMES = ("class_0", "class_1")
PATTERNS = np.random.default_rng(11).normal(size=(24, 16, 16))
PROJECTION = np.random.default_rng(12).normal(size=(64, 32))


class ProjectedRuntime(LocalRuntime):
    """Features are a fixed random projection of 8 x 8 gray values."""

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        small = lowres(images.pixels, 8).reshape(len(images), -1)
        return ((small - 128.0) @ PROJECTION / 400.0).astype(np.float32)


class Remembers:
    """Its loss is 0 for the images that it keeps, elsewhere drawn by the image's first pixels."""

    def __init__(self, kept: ImageSet) -> None:
        self.kept = set(kept.digests.tolist())

    def loss(self, images: ImageSet, *, seed: int, runtime: LocalRuntime) -> np.ndarray:
        other = 1.0 + images.pixels.reshape(len(images), -1)[:, :3].astype(np.float32) @ np.float32([1, 0.1, 0.01])
        return np.where([digest in self.kept for digest in images.digests.tolist()], np.float32(0), other)


def fields(num: int, *, seed: int, prefix: str, num_groups: int | None = None) -> ImageSet:
    """Gray 16 px images from one law: smooth random mixtures of 24 patterns, with some noise."""
    rng = np.random.default_rng(seed)
    values = 128.0 + 9.0 * np.einsum("nk,khw->nhw", rng.normal(size=(num, 24)) * np.geomspace(1.5, 0.4, 24), PATTERNS)
    pixels = np.clip(np.rint(values + rng.normal(0, 2, values.shape)), 0, 255).astype(np.uint8)[..., None]
    ids = np.array([f"{prefix}/{i}" for i in range(num)])
    groups = ids if num_groups is None else np.array([f"{prefix}-{i % num_groups}" for i in range(num)])
    return ImageSet(pixels, rng.integers(0, 2, num), groups, ids, NAMES)


def pool_of(images: ImageSet) -> Pool:
    num = len(images)
    return Pool(images, np.arange(num, dtype=np.uint64), np.full(num, ""), ("a",))


def judged(
    pool: ImageSet, shown: ImageSet, unseen: ImageSet, *fitted: object, seed: int = 0, **settings: object
) -> GateResult:
    gate = Membership(Membership.Config.model_validate({"space": "projected", **settings}))
    runtime = ProjectedRuntime(fitted=fitted)  # type: ignore[arg-type]
    return gate.judge(pool_of(pool), shown=shown, unseen=unseen, seed=seed, runtime=runtime)


SHOWN = fields(300, seed=1, prefix="shown")
UNSEEN = fields(199, seed=2, prefix="unseen")
FRESH = fields(400, seed=3, prefix="synthetic")


def gaussian(shown: ImageSet, **settings: float) -> Gaussian:
    generator = Gaussian(Gaussian.Config.model_validate(settings))
    generator.fit(shown, seed=1, runtime=LocalRuntime())
    return generator


def test_a_generator_that_keeps_everything_is_found_by_its_loss() -> None:
    result = judged(FRESH, SHOWN, UNSEEN, Remembers(SHOWN))
    assert not result.passed
    assert result.keep.all()
    assert result.numbers["tpr_at_1_fpr"] == 1.0
    assert result.numbers["tpr_at_1_fpr_low"] == pytest.approx(0.025 ** (1 / 300))
    assert result.numbers["auc"] == 1.0
    assert result.numbers["p"] == pytest.approx(tail_p_value(300, 300, 2, 199))
    assert result.numbers["uses_loss"] == 1.0
    assert "membership by loss: 300 of 300 shown images are found (100.0%" in result.reason
    assert "where 1.0% of unseen ones are" in result.reason


@pytest.mark.parametrize(("num_kept", "passed"), [(0, True), (3, True), (40, False)])
def test_a_few_exposed_images_count_though_the_auc_does_not_see_them(num_kept: int, passed: bool) -> None:
    result = judged(FRESH, SHOWN, UNSEEN, Remembers(SHOWN.take(np.arange(num_kept))))
    assert result.passed is passed
    assert result.numbers["auc"] < 0.6
    assert num_kept / 300 <= result.numbers["tpr_at_1_fpr"] < (num_kept + 12) / 300


def test_an_overfitted_gaussian_is_found_and_a_floor_of_it_is_not() -> None:
    small, rest = SHOWN.take(np.arange(40)), UNSEEN
    memorised = judged(FRESH, small, rest, gaussian(small, num_components=64, shrinkage=0.0))
    harmless = judged(FRESH, SHOWN, rest, gaussian(SHOWN, num_components=4))
    assert (memorised.passed, harmless.passed) == (False, True)
    assert memorised.numbers["tpr_at_1_fpr"] > 0.9
    assert harmless.numbers["tpr_at_1_fpr"] < 0.05
    assert abs(harmless.numbers["auc"] - 0.5) < 0.1


def test_several_parts_are_asked_and_the_smallest_loss_counts() -> None:
    halves = [SHOWN.take(SHOWN.labels == label) for label in (0, 1)]
    assert judged(FRESH, SHOWN, UNSEEN, *(Remembers(half) for half in halves)).numbers["tpr_at_1_fpr"] == 1.0
    parts = tuple(gaussian(half) for half in halves)
    losses = [part.loss(UNSEEN, seed=0, runtime=LocalRuntime()) for part in parts]
    assert np.array_equal(
        smallest_loss(parts, UNSEEN, seed=0, runtime=LocalRuntime()), np.minimum(losses[0], losses[1])
    )


def test_copies_in_the_pool_are_found_by_distance() -> None:
    result = judged(SHOWN, SHOWN, UNSEEN, CopyReal(CopyReal.Config()))
    assert not result.passed
    assert result.numbers["tpr_at_1_fpr"] == 1.0
    assert result.numbers["uses_loss"] == 0.0
    assert "membership by distance: 300 of 300" in result.reason


@pytest.mark.parametrize("score", ["auto", "distance"])
def test_fresh_images_give_nobody_away(score: str) -> None:
    result = judged(FRESH, SHOWN, UNSEEN, score=score)
    assert result.passed
    assert result.reason == ""
    assert result.numbers["num_members"] == 300
    assert result.numbers["num_nonmembers"] == 199
    assert result.numbers["fpr"] == pytest.approx(0.01)
    assert result.numbers["auc_low"] < 0.5 < result.numbers["auc_high"]


def test_nearness_is_the_log_ratio_of_nearest_distances() -> None:
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(5.0, 1.0, (600, 7)), rng.normal(5.0, 1.0, (40, 7))
    groups, rows = rng.integers(0, 90, 600), np.arange(0, 600, 1)
    to_pool = np.linalg.norm(real[:, None] - synthetic, axis=2).min(axis=1)
    to_real = np.linalg.norm(real[:, None] - real, axis=2)
    to_real[groups[:, None] == groups] = np.inf
    expected = np.log(to_pool / to_real.min(axis=1))
    assert nearness(real, synthetic, groups, rows) == pytest.approx(expected, abs=1e-9)
    assert nearness(real, synthetic, groups, rows[::7]) == pytest.approx(expected[::7], abs=1e-9)


def test_an_innocent_pool_is_rejected_as_seldom_as_promised() -> None:
    p_values = []
    for seed in range(40):
        sets = [fields(n, seed=1000 * i + seed, prefix=str(i)) for i, n in ((5, 100), (6, 120), (7, 120))]
        p_values.append(judged(*sets, seed=seed, fpr=0.1, max_tpr=0.1).numbers["p"])
    for alpha in (0.05, 0.2):
        assert np.sum(np.array(p_values) <= alpha) <= stats.binom.ppf(0.999, 40, alpha)
    assert np.mean(np.array(p_values) <= 0.6) > 0.3


def test_only_one_image_of_a_group_is_attacked() -> None:
    shown, unseen = (fields(90, seed=seed, prefix=str(seed), num_groups=30) for seed in (4, 5))
    numbers = judged(FRESH, shown, unseen).numbers
    assert (numbers["num_members"], numbers["num_nonmembers"]) == (30, 30)
    assert numbers["fpr"] == pytest.approx(1 / 31)


def test_classes_that_were_not_shown_play_no_part() -> None:
    shown = SHOWN.take(SHOWN.labels == 0)
    numbers = judged(FRESH, shown, UNSEEN, Remembers(shown)).numbers
    assert numbers["num_members"] == len(shown)
    assert numbers["num_nonmembers"] == (UNSEEN.labels == 0).sum()


def test_number_is_named_by_the_rate() -> None:
    assert "tpr_at_0.5_fpr_low" in judged(FRESH, SHOWN, UNSEEN, fpr=0.005).numbers


@pytest.mark.parametrize(
    ("score", "needs"),
    [
        ("auto", (Fitted(), Features(Spec(use="efficientnet_lite0")))),
        ("loss", (Fitted(),)),
        ("distance", (Features(Spec(use="efficientnet_lite0")),)),
    ],
)
def test_needs_follow_the_score(score: str, needs: tuple[object, ...]) -> None:
    assert Membership.Config.model_validate({"score": score}).needs() == needs
    assert Baseline() not in needs


def test_loss_that_is_not_offered_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"score is loss, but the generator \(CopyReal\) offers none"):
        judged(FRESH, SHOWN, UNSEEN, CopyReal(CopyReal.Config()), score="loss")


def test_a_limit_below_chance_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"max_tpr must be at least fpr, got 0.02 < 0.1"):
        Membership.Config(fpr=0.1)


@pytest.mark.parametrize(
    ("num_pool", "num_shown", "num_unseen", "message"),
    [(0, 9, 9, "pool is empty"), (9, 0, 9, "got 0 and 0 groups"), (9, 300, 1, "got .* and 1 groups")],
)
def test_too_little_is_refused(num_pool: int, num_shown: int, num_unseen: int, message: str) -> None:
    sets = (images.take(np.arange(n)) for images, n in ((FRESH, num_pool), (SHOWN, num_shown), (UNSEEN, num_unseen)))
    with pytest.raises(ValueError, match=message):
        judged(*sets)
