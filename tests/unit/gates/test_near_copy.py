"""NearCopy: its null against closed forms, its error rate by simulation, and the copies that it must find."""

from __future__ import annotations

import csv
import functools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from scipy.ndimage import gaussian_filter

import medsynth_ray
from medsynth_ray.contracts._runs import draw_images
from medsynth_ray.gates._lowres import lowres
from medsynth_ray.gates.near_copy import Look, NearCopy, nearest_features, suspicion, tail_p_values, upper_bound
from medsynth_ray.generators.copy_real import CopyReal
from medsynth_ray.generators.gaussian import Gaussian
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Draw, GateResult, Pool, Spec
from medsynth_ray.testing import LocalRuntime

NAMES = ("class_0", "class_1")
DATA = Path(os.environ.get("MEDSYNTH_REAL_DATA", Path(medsynth_ray.__file__).parents[2] / "shared" / "data"))
PATTERNS = np.random.default_rng(11).normal(size=(24, 16, 16))
PROJECTION = np.random.default_rng(12).normal(size=(64, 32))


class ProjectedRuntime(LocalRuntime):
    """Features are a fixed random projection of 8 x 8 gray values: cheap, and another space than the pixels."""

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        small = lowres(images.pixels, 8).reshape(len(images), -1)
        return np.tanh((small - 128.0) @ PROJECTION / 400.0).astype(np.float32)


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


def with_pixels(images: ImageSet, pixels: np.ndarray) -> ImageSet:
    return ImageSet(pixels, images.labels, images.groups, images.ids, images.class_names)


def judged(pool: ImageSet, shown: ImageSet, unseen: ImageSet, *, seed: int = 0, **settings: object) -> GateResult:
    gate = NearCopy(NearCopy.Config.model_validate({"space": "projected", **settings}))
    return gate.judge(pool_of(pool), shown=shown, unseen=unseen, seed=seed, runtime=ProjectedRuntime())


SHOWN = fields(600, seed=1, prefix="shown")
UNSEEN = fields(300, seed=2, prefix="unseen")
FRESH = fields(400, seed=3, prefix="synthetic")


def planted(num_copies: int, noise_levels: float) -> ImageSet:
    """400 fresh images, the last of them replaced by noisy copies of shown ones."""
    pixels = FRESH.pixels.copy()
    noise = np.random.default_rng(4).normal(0, noise_levels, pixels[:num_copies].shape)
    pixels[400 - num_copies :] = np.clip(np.rint(SHOWN.pixels[:num_copies] + noise), 0, 255).astype(np.uint8)
    return with_pixels(FRESH, pixels)


@pytest.mark.parametrize(("num", "rank", "num_null"), [(1, 3, 99), (400, 1, 30), (400, 3, 300), (50, 20, 40)])
def test_tail_p_values_agree_with_scipy(num: int, rank: int, num_null: int) -> None:
    expected = stats.betabinom.sf(np.arange(num + 1) - 1, num, rank, num_null + 1 - rank)
    assert tail_p_values(num, rank, num_null) == pytest.approx(expected, abs=1e-10)
    assert tail_p_values(1, rank, num_null)[1] == pytest.approx(rank / (num_null + 1))


def test_null_count_is_beta_binomial_for_any_law() -> None:
    rng = np.random.default_rng(0)
    null, new = rng.lognormal(size=(4000, 50)), rng.lognormal(size=(4000, 80))
    counts = (new < np.sort(null, axis=1)[:, 1:2]).sum(axis=1)
    observed = np.array([(counts >= k).mean() for k in range(81)])
    assert np.abs(observed - tail_p_values(80, 2, 50)).max() < 0.025  # about three standard errors


@pytest.mark.parametrize(("count", "num"), [(0, 300), (3, 100), (99, 100), (100, 100)])
def test_upper_bound_is_clopper_pearson(count: int, num: int) -> None:
    expected = stats.binomtest(count, num, alternative="less").proportion_ci(0.95, method="exact").high
    assert upper_bound(count, num) == pytest.approx(expected)


def test_upper_bound_of_nothing_seen_has_a_closed_form() -> None:
    assert upper_bound(0, 300) == pytest.approx(1 - 0.05 ** (1 / 300))


def test_suspicion_is_the_log_ratio_of_nearest_distances() -> None:
    rng = np.random.default_rng(0)
    x, shown, unseen = (rng.normal(5.0, 1.0, (n, 7)).astype(np.float32) for n in (600, 40, 30))
    groups = rng.integers(0, 5, 30)
    own = rng.integers(0, 5, 600)
    to_shown = np.linalg.norm(x[:, None].astype(float) - shown[None], axis=2)
    to_unseen = np.linalg.norm(x[:, None].astype(float) - unseen[None], axis=2)
    left_out = own[:, None] == groups[None]
    to_unseen[left_out] = np.inf
    scores, nearest = suspicion(x, shown, unseen, nearest=nearest_features, left_out=left_out)
    assert scores == pytest.approx(np.log(to_shown.min(axis=1) / to_unseen.min(axis=1)), abs=1e-5)
    assert nearest.tolist() == to_shown.argmin(axis=1).tolist()


def test_copies_of_shown_images_are_rejected_and_paired_with_their_source() -> None:
    generator = CopyReal(CopyReal.Config())
    draw = Draw(SHOWN.labels[:200], np.arange(200), np.arange(200, dtype=np.uint64))
    shard = draw_images(generator, draw, SHOWN, LocalRuntime())
    pool = with_pixels(FRESH.take(np.arange(200)), shard.images)
    result = judged(pool, SHOWN, UNSEEN)
    assert not result.passed
    assert not result.keep.any()
    assert result.numbers["p_pixels_24"] < 1e-12
    assert len(result.flagged) == 200
    assert all(pair.real_id == shard.source_ids[pair.row] for pair in result.flagged)


@pytest.mark.parametrize("noise_levels", [0.0, 2.0])
def test_five_percent_of_copies_are_found(noise_levels: float) -> None:
    result = judged(planted(20, noise_levels), SHOWN, UNSEEN)
    assert not result.passed
    assert not result.keep[380:].any()
    assert result.keep[:380].mean() > 0.95
    sources = {pair.row: pair.real_id for pair in result.flagged if pair.space == "pixels_24"}
    assert [sources[380 + i] for i in range(20)] == SHOWN.ids[:20].tolist()
    assert [p.score for p in result.flagged] == sorted(p.score for p in result.flagged)
    assert "of 400 images lie as near to a shown image as unseen images hardly ever do" in result.reason


def test_fresh_images_pass_with_all_their_numbers() -> None:
    result = judged(FRESH, SHOWN, UNSEEN, tail_share=0.01)
    assert result.passed
    assert result.reason == ""
    assert result.numbers["num_unseen_groups"] == 300
    for space in ("pixels_24", "projected"):
        count = result.numbers[f"num_flagged_{space}"]
        assert result.numbers[f"flagged_share_{space}"] == count / 400
        assert result.numbers[f"expected_flagged_{space}"] == pytest.approx(400 * 3 / 301)
        assert result.numbers[f"p_{space}"] == pytest.approx(tail_p_values(400, 3, 300)[int(count)])
        assert result.numbers[f"flagged_share_upper95_{space}"] == pytest.approx(upper_bound(int(count), 400))
        detectable = round(400 * result.numbers[f"detectable_share_{space}"])
        p_values = tail_p_values(400, 3, 300)
        assert p_values[detectable] <= 0.005 < p_values[detectable - 1]


def test_number_of_false_alarms_follows_the_null() -> None:
    """Unseen images are compared with each other, so that the beta-binomial is not exact by construction."""
    rng = np.random.default_rng(0)
    p_values, counts = tail_p_values(100, 2, 199), []
    for _ in range(400):
        shown, unseen, fresh = (rng.normal(size=(num, 6)).astype(np.float32) for num in (300, 199, 100))
        null, _ = suspicion(unseen, shown, unseen, nearest=nearest_features, left_out=np.eye(199, dtype=bool))
        scores, _ = suspicion(fresh, shown, unseen, nearest=nearest_features)
        counts.append(int((scores < np.sort(null)[1]).sum()))
    assert np.mean(counts) == pytest.approx(1.0, abs=0.25)  # four standard errors
    for alpha in (0.05, 0.01):
        assert (p_values[counts] <= alpha).sum() <= stats.binom.ppf(0.999, 400, alpha)


def test_an_innocent_pool_is_rejected_as_seldom_as_promised() -> None:
    rejected = 0
    for seed in range(20):
        sets = [fields(n, seed=1000 * i + seed, prefix=str(i)) for i, n in ((5, 100), (6, 200), (7, 100))]
        rejected += not judged(*sets, seed=seed).passed
    assert rejected <= stats.binom.ppf(0.999, 20, 0.01)


def test_blurred_unseen_images_are_not_copies() -> None:
    blurred = gaussian_filter(FRESH.pixels.astype(float), (0, 1.5, 1.5, 0))
    result = judged(with_pixels(FRESH, np.rint(blurred).astype(np.uint8)), SHOWN, UNSEEN)
    assert result.passed
    assert result.keep.mean() > 0.98


def test_gaussian_passes() -> None:
    generator, runtime = Gaussian(Gaussian.Config(num_components=24)), LocalRuntime()
    generator.fit(SHOWN, seed=0, runtime=runtime)
    draw = Draw(SHOWN.labels[:400], np.arange(400), np.arange(400, dtype=np.uint64))
    result = judged(with_pixels(FRESH, draw_images(generator, draw, SHOWN, runtime).images), SHOWN, UNSEEN)
    assert result.passed, result.reason


def test_siblings_of_an_unseen_image_do_not_make_it_look_near() -> None:
    """Each patient has 4 equal images; were they compared with each other, every copy would look innocent."""
    rows = np.repeat(np.arange(75), 4)
    unseen = with_pixels(fields(300, seed=2, prefix="unseen", num_groups=75), UNSEEN.pixels[rows])
    unseen = ImageSet(unseen.pixels, unseen.labels, np.array([f"p{r}" for r in rows]), unseen.ids, NAMES)
    assert judged(FRESH, SHOWN, unseen).numbers["num_unseen_groups"] == 75
    assert judged(FRESH, SHOWN, unseen).passed
    assert not judged(planted(100, 1.0), SHOWN, unseen).passed


@pytest.mark.parametrize(("num_copies", "passed"), [(0, True), (120, False)])
def test_thirty_unseen_images_still_see_gross_copying(num_copies: int, passed: bool) -> None:
    result = judged(planted(num_copies, 0.0), SHOWN, UNSEEN.take(np.arange(30)))
    assert result.passed is passed
    # 1 - 0.005 ** (1 / 30): the chance that a share s lies below the smallest of 30 is (1 - s) ** 30.
    assert result.numbers["detectable_share_pixels_24"] == pytest.approx(0.162, abs=0.01)


def test_plain_and_equal_images_give_finite_numbers() -> None:
    plain = with_pixels(FRESH, np.full_like(FRESH.pixels, 128))
    result = judged(plain, with_pixels(SHOWN, np.full_like(SHOWN.pixels, 128)), UNSEEN)
    assert np.isfinite(list(result.numbers.values())).all()
    assert all(np.isfinite(pair.score) for pair in result.flagged)


BOUND = "copy_rate_upper95_declared_alterations"


def test_bound_is_the_flagged_share_over_the_weakest_sensitivity() -> None:
    """Closed form: 0 of n flagged and all of m altered images found give (1 - 0.025 ** (1/n)) / 0.025 ** (1/m)."""
    scores, null = np.full(400, 1.0), np.linspace(0, 1, 300)
    look = Look("a", null, np.full(100, -1.0), scores, np.zeros(400, dtype=np.int64))
    gate = NearCopy(NearCopy.Config(alterations=("blur", "jpeg"), num_altered=50))
    numbers = gate.decide((look, replace(look, space="b")), SHOWN.ids).numbers
    assert numbers[BOUND] == pytest.approx((1 - 0.025 ** (1 / 400)) / 0.025 ** (1 / 50))
    assert (numbers["sensitivity_blur"], numbers["num_flagged"]) == (1.0, 0.0)


def test_an_altered_image_that_one_space_flags_is_found() -> None:
    """Each space sees another half of the blurred ones; of the compressed ones only the first sees half."""
    seen = np.repeat([-1.0, 1.0], 25)
    look = Look("a", np.linspace(0, 1, 300), np.concatenate([seen, seen]), np.full(400, 1.0), np.zeros(400, int))
    other = replace(look, space="b", copies=np.concatenate([-seen, np.full(50, 1.0)]))
    gate = NearCopy(NearCopy.Config(alterations=("blur", "jpeg"), num_altered=50))
    numbers = gate.decide((look, other), SHOWN.ids).numbers
    assert [numbers[f"sensitivity_{end}"] for end in ("blur", "blur_a", "blur_b", "jpeg")] == [1.0, 0.5, 0.5, 0.5]
    least = stats.binomtest(25, 50, alternative="greater").proportion_ci(0.975, method="exact").low
    assert numbers[BOUND] == pytest.approx((1 - 0.025 ** (1 / 400)) / least)


def test_nothing_can_be_said_of_copies_that_are_not_seen() -> None:
    look = Look("a", np.linspace(0, 1, 300), np.full(5, 1.0), np.full(400, 1.0), np.zeros(400, dtype=np.int64))
    numbers = NearCopy(NearCopy.Config(num_altered=1)).decide((look, replace(look, space="b")), SHOWN.ids).numbers
    assert numbers[BOUND] == 1.0


@pytest.mark.parametrize("num_copies", [0, 4, 20, 80])
def test_bound_covers_the_planted_share(num_copies: int) -> None:
    numbers = judged(planted(num_copies, 1.0), SHOWN, UNSEEN, alterations=("blur", "jpeg")).numbers
    assert num_copies / 400 <= numbers[BOUND] < 1.3 * num_copies / 400 + 0.08


def test_mirrored_copies_are_found() -> None:
    pixels = FRESH.pixels.copy()
    pixels[380:] = SHOWN.pixels[:20, :, ::-1]
    result = judged(with_pixels(FRESH, pixels), SHOWN, UNSEEN)
    assert not result.passed
    assert not result.keep[380:].any()


def test_labels_and_the_order_of_the_images_play_no_part() -> None:
    order = np.random.default_rng(0).permutation(600)
    relabelled = ImageSet(FRESH.pixels, 1 - FRESH.labels, FRESH.groups, FRESH.ids, NAMES)
    first, second = judged(FRESH, SHOWN, UNSEEN), judged(relabelled, SHOWN.take(order), UNSEEN)
    assert np.array_equal(first.keep, second.keep)
    assert second.numbers == pytest.approx(first.numbers)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alterations": ("blur", "blur")}, r"named once each, got \['blur', 'blur'\]"),
        ({"alterations": ()}, "at least 1 item"),
        ({"alterations": ("shear",)}, "'horizontal_flip', 'crop', 'blur', 'jpeg' or 'rotation'"),
        ({"num_altered": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NearCopy.Config.model_validate(settings)


def test_list_of_pairs_is_capped() -> None:
    result = judged(planted(50, 0.0), SHOWN, UNSEEN, max_pairs=7)
    assert len(result.flagged) == 7
    assert result.numbers["num_flagged_pixels_24"] >= 50


@pytest.mark.parametrize(
    ("pool", "shown", "unseen", "message"),
    [
        (FRESH.take(np.arange(0)), SHOWN, UNSEEN, "got 0 and 600"),
        (FRESH, SHOWN.take(np.arange(0)), UNSEEN, "got 400 and 0"),
        (FRESH, SHOWN, UNSEEN.take([0]), "at least 2 groups to calibrate on, got 1"),
        (FRESH, SHOWN, fields(9, seed=0, prefix="u", num_groups=1), "at least 2 groups to calibrate on, got 1"),
    ],
)
def test_too_little_to_judge_by_is_refused(pool: ImageSet, shown: ImageSet, unseen: ImageSet, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judged(pool, shown, unseen)


@functools.cache
def real_images(num_patients: int, *, size_px: int = 32) -> ImageSet:
    """One chest X-ray of each of so many patients."""
    with (DATA / "kermany_cxr" / "metadata.csv").open() as file:
        first = {row["group"]: row for row in csv.DictReader(file)}
    groups = sorted(first)
    np.random.default_rng(0).shuffle(groups)
    rows = [first[group] for group in groups[:num_patients]]
    files = [Image.open(DATA / "kermany_cxr" / row["path"]).convert("L").resize((size_px, size_px)) for row in rows]
    names = tuple(sorted({row["label"] for row in rows}))
    ids = np.array([row["path"] for row in rows])
    labels = np.array([names.index(row["label"]) for row in rows])
    pixels = np.stack([np.asarray(file)[..., None] for file in files])
    return ImageSet(pixels, labels, np.array(groups[:num_patients]), ids, names)


class CachedRuntime(LocalRuntime):
    """Embeds each distinct image once, as the engine does."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[bytes, np.ndarray] = {}

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        keys = [digest.tobytes() for digest in images.digests]
        new = np.array([row for row, key in enumerate(keys) if key not in self._rows], dtype=np.int64)
        if len(new):
            features = super().features(images.take(new), space)
            self._rows |= {keys[row]: values for row, values in zip(new, features, strict=True)}
        return np.stack([self._rows[key] for key in keys])


@pytest.mark.real
@pytest.mark.skipif(not (DATA / "kermany_cxr").is_dir(), reason=f"no real images in {DATA}: set MEDSYNTH_REAL_DATA")
def test_chest_x_rays_over_many_splits() -> None:
    """One split alone is a draw from the null: unseen patients pass in 99 % of them, copies are found in nearly all."""
    images, runtime = real_images(700), CachedRuntime()
    gate = NearCopy(NearCopy.Config(space=Spec(use="efficientnet_lite0", config={"resolution": 32})))
    innocent_rejected, copies_rejected, copies_kept = 0, 0, 0
    for seed in range(12):
        order = np.random.default_rng(seed).permutation(700)
        shown, unseen, fresh = (images.take(part) for part in np.split(order, [300, 500]))
        pixels = fresh.pixels.copy()
        pixels[:12] = shown.pixels[:12]
        for pool in (fresh, with_pixels(fresh, pixels)):
            result = gate.judge(pool_of(pool), shown=shown, unseen=unseen, seed=seed, runtime=runtime)
            if pool is fresh:
                innocent_rejected += not result.passed
            else:
                copies_rejected += not result.passed
                copies_kept += int(result.keep[:12].sum())
    assert innocent_rejected <= stats.binom.ppf(0.999, 12, 0.01)
    assert copies_rejected >= 10
    assert copies_kept == 0
