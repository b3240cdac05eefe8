"""Gaussian filter: closed forms for constants, offsets, waves, and the disc."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.data.preprocess.gaussian_filter import GaussianFilter


def filtered(pixels: np.ndarray, **settings: float) -> np.ndarray:
    return GaussianFilter(GaussianFilter.Config.model_validate(settings)).apply(pixels)


@pytest.mark.parametrize("level", [0, 77, 255])
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)])
def test_what_is_even_becomes_mid_gray(level: int, shape: tuple[int, ...]) -> None:
    assert np.unique(filtered(np.full(shape, level, dtype=np.uint8))).tolist() == [128]


@pytest.mark.parametrize("period_px", [8.0, 20.0, 40.0])
def test_a_wave_is_amplified_by_what_the_blur_takes_away(period_px: float) -> None:
    x = np.arange(240)
    picture = np.tile(100.0 + 15.0 * np.sin(2 * np.pi * x / period_px), (32, 1))
    sigma_px = 0.02 * 240
    gain = 4.0 * (1.0 - np.exp(-2.0 * (np.pi * sigma_px / period_px) ** 2))
    middle = filtered(np.rint(picture).astype(np.uint8), sigma_share=0.02)[16, 40:200].astype(float) - 128.0
    wave = np.sin(2 * np.pi * x[40:200] / period_px)
    assert 2.0 * (middle * wave).mean() == pytest.approx(15.0 * gain, rel=0.02)


@pytest.mark.parametrize("gain", [1.0, 2.0, 4.0])
def test_gain_scales_what_is_left(gain: float) -> None:
    picture = np.full((60, 60), 100, dtype=np.uint8)
    picture[30, 30] = 120
    assert filtered(picture, gain=gain)[30, 30] == pytest.approx(128 + gain * 20 * (1 - 1 / (2 * np.pi)), abs=1.0)


def test_light_of_the_camera_is_removed() -> None:
    texture = np.random.default_rng(0).normal(0.0, 3.0, (80, 80, 3))
    dark, bright = (np.rint(level + texture).astype(np.uint8) for level in (60, 160))
    assert np.array_equal(filtered(dark), filtered(bright))


def test_gray_outside_the_disc() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (101, 141), dtype=np.uint8)
    whole, cut = filtered(picture), filtered(picture, radius_share=0.8)
    y, x = np.mgrid[:101, :141]
    outside = np.hypot(y - 50.0, x - 70.0) > 0.8 * 50.5
    assert np.unique(cut[outside]).tolist() == [128]
    assert np.array_equal(cut[~outside], whole[~outside])
