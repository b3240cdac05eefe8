"""CLAHE: global equalisation as oracle, hues, and noise under the limit."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.data.preprocess.clahe import Clahe


def equalised(pixels: np.ndarray, **settings: float) -> np.ndarray:
    return Clahe(Clahe.Config.model_validate(settings)).apply(pixels)


def test_one_tile_without_a_limit_is_histogram_equalisation() -> None:
    picture = np.random.default_rng(0).normal(100.0, 12.0, (64, 64)).clip(0, 255).astype(np.uint8)
    share = np.cumsum(np.bincount(picture.ravel(), minlength=256)) / picture.size
    assert np.abs(equalised(picture, num_tiles=1, clip_limit=0.0) - 255.0 * share[picture]).max() <= 0.51


@pytest.mark.parametrize("clip_limit", [1.5, 3.0, 6.0])
def test_the_limit_bounds_the_slope(clip_limit: float) -> None:
    picture = np.random.default_rng(0).normal(100.0, 3.0, (64, 64)).clip(0, 255).astype(np.uint8)
    levels = np.unique(picture)
    mapped = np.array([equalised(picture, num_tiles=1, clip_limit=clip_limit)[picture == v][0] for v in levels])
    # What is clipped off is spread over all levels: at most clip_limit + 1 times the average of one.
    assert np.diff(mapped.astype(int)).max() <= clip_limit + 2
    assert np.diff(mapped.astype(int)).max() >= clip_limit - 1


def test_a_dark_and_a_bright_half_get_the_same_contrast(ramp: np.ndarray) -> None:
    texture = np.random.default_rng(0).normal(0.0, 4.0, ramp.shape)
    picture = (np.where(ramp < 120, 50.0, 200.0) + texture).clip(0, 255).astype(np.uint8)
    changed = equalised(picture).astype(float)
    halves = [changed[:, :45].std() / picture[:, :45].std(), changed[:, 75:].std() / picture[:, 75:].std()]
    assert min(halves) > 1.3


def test_gray_stays_gray_and_hue_stays(ramp: np.ndarray) -> None:
    gray = np.repeat(ramp[..., None], 3, axis=2)
    assert np.ptp(equalised(gray).astype(int), axis=2).max() <= 2
    red = (ramp[..., None] * np.array([0.8, 0.3, 0.2])).astype(np.uint8)
    changed = equalised(red).astype(int)
    assert (changed[..., 0] > changed[..., 1] + 20).mean() > 0.95
    assert not np.array_equal(changed, red)


def test_rgb_lightness_follows_the_gray_result(ramp: np.ndarray) -> None:
    gray = equalised(ramp, num_tiles=1, clip_limit=0.0).astype(float)
    color = equalised(np.repeat(ramp[..., None], 3, axis=2), num_tiles=1, clip_limit=0.0).mean(axis=2)
    assert np.corrcoef(gray.ravel(), color.ravel())[0, 1] > 0.99
    assert color.max() - color.min() > 240
