"""Dedupe against a plain double loop, and its promise about prefixes."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.contracts._runs import toy_pool
from medsynth_ray.gates._lowres import lowres
from medsynth_ray.gates.dedupe import Dedupe
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import GateResult, Pool
from medsynth_ray.testing import LocalRuntime, toy_images

REAL = toy_images((2, 2))


def pool_of(pixels: np.ndarray) -> Pool:
    num = len(pixels)
    ids = np.array([f"synthetic/class_0/{i}" for i in range(num)])
    images = ImageSet(pixels, np.zeros(num, dtype=np.int64), ids, ids, REAL.class_names)
    return Pool(images, np.arange(num, dtype=np.uint64), np.full(num, ""), ("a",))


def judged(pool: Pool, **settings: float | None) -> GateResult:
    gate = Dedupe(Dedupe.Config.model_validate(settings))
    return gate.judge(pool, shown=REAL, unseen=REAL, seed=0, runtime=LocalRuntime())


def noisy(pixels: np.ndarray, levels: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, levels, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


BASE = toy_pool((30, 0), size_px=32).images.pixels


@pytest.mark.parametrize(
    ("second", "settings", "num_kept"),
    [
        (BASE, {}, 30),
        (BASE, {"max_rms_levels": None}, 30),
        (noisy(BASE, 1.0), {}, 30),
        (noisy(BASE, 1.0), {"max_rms_levels": None}, 60),
        (noisy(BASE, 12.0), {}, 60),
        (noisy(BASE, 12.0), {"max_rms_levels": 8.0}, 30),
        (BASE[:, :, ::-1], {}, 60),
    ],
    ids=["copies", "copies exactly", "noise", "noise exactly", "much noise", "much noise and tolerance", "mirrored"],
)
def test_second_half_that_repeats_the_first(second: np.ndarray, settings: dict[str, float], num_kept: int) -> None:
    result = judged(pool_of(np.concatenate([BASE, second])), **settings)
    assert result.keep[:30].all()
    assert result.keep.sum() == num_kept
    assert result.numbers == {"num_duplicates": 60.0 - num_kept, "kept_share": num_kept / 60}


def chain(num: int = 700) -> np.ndarray:
    """Plain images of random brightness, many within a level or two of each other."""
    values = np.random.default_rng(0).integers(0, 256, num).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (num, 16, 16, 1)).copy()


@pytest.mark.parametrize("max_rms_levels", [0.0, 1.0, 2.5])
def test_same_as_a_plain_loop(max_rms_levels: float) -> None:
    pixels = chain()
    kept: list[int] = []
    for i, value in enumerate(pixels[:, 0, 0, 0].astype(int)):
        if all(abs(value - int(pixels[k, 0, 0, 0])) > max_rms_levels for k in kept):
            kept.append(i)
    result = judged(pool_of(pixels), max_rms_levels=max_rms_levels)
    assert np.flatnonzero(result.keep).tolist() == kept


@pytest.mark.parametrize("stop", [1, 100, 511, 512, 513])
def test_decision_does_not_depend_on_later_images(stop: int) -> None:
    pool = pool_of(chain())
    assert np.array_equal(judged(pool.take(np.arange(stop))).keep, judged(pool).keep[:stop])


@pytest.mark.parametrize(("num_same", "passed"), [(5, True), (6, False)])
def test_collapse_rejects_the_pool(num_same: int, passed: bool) -> None:
    same = np.repeat(BASE[:1], num_same, axis=0)
    result = judged(pool_of(np.concatenate([same, BASE[1:4]])))
    assert result.passed is passed
    rejection = "mode collapse: 4 of 9 images are distinct (44.4%), min_kept_share is 50.0%"
    assert result.reason == ("" if passed else rejection)


def test_empty_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="pool is empty"):
        judged(pool_of(BASE[:0]))


@pytest.mark.parametrize("shape", [(16, 16, 1), (48, 32, 3), (21, 50, 3), (8, 8, 1)])
def test_lowres_keeps_the_mean_of_any_shape(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    small = lowres(pixels, 16)
    assert small.shape == (3, 16, 16)
    assert np.allclose(small.mean(axis=(1, 2)), pixels.mean(axis=(1, 2, 3)))


def test_lowres_averages_blocks() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 32, 3), dtype=np.uint8)
    blocks = pixels.reshape(2, 16, 4, 16, 2, 3).mean(axis=(2, 4, 5))
    assert np.allclose(lowres(pixels, 16), blocks)
