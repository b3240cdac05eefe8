"""Exact cases of the batch augmentation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medsynth_ray.classifiers._augment import Augment, augmented

X_NCHW = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def changed(x_NCHW: torch.Tensor = X_NCHW, *, seed: int = 0, **settings: Any) -> torch.Tensor:
    augment = Augment.model_validate(Augment.none().model_dump() | settings)
    return augmented(x_NCHW, augment, torch.Generator().manual_seed(seed))


def test_none_changes_nothing() -> None:
    assert changed() is X_NCHW


@pytest.mark.parametrize(("field", "axis"), [("horizontal_flip", 3), ("vertical_flip", 2)])
def test_a_flip_mirrors_about_half_of_the_images_exactly(field: str, axis: int) -> None:
    out = changed(**{field: True})
    same = (out - X_NCHW).abs().amax(dim=(1, 2, 3)) < 1e-5
    mirrored = (out - X_NCHW.flip(axis)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert torch.equal(same, ~mirrored)
    assert 20 <= int(mirrored.sum()) <= 44


def test_a_shift_moves_by_at_most_its_share() -> None:
    ramp_N = torch.linspace(-1, 1, 65)[:-1].expand(64, 1, 64, 64)
    moved = (changed(ramp_N, shift_share=0.25) - ramp_N)[:, 0, 32, 32] / (ramp_N[0, 0, 0, 1] - ramp_N[0, 0, 0, 0])
    assert 0.2 < moved.abs().max() / 64 <= 0.25
    assert moved.std() > 4


def test_a_turn_and_a_zoom_keep_the_centre() -> None:
    disc = torch.zeros(8, 1, 33, 33)
    disc[:, :, 16, 16] = 1.0
    out = changed(disc, rotate_degrees=45.0, zoom_share=0.3)
    assert out[:, 0, 16, 16].min() > 0.99


def test_brightness_is_a_share_of_the_range_and_clipped() -> None:
    gray = torch.zeros(64, 1, 4, 4)
    moved = changed(gray, brightness_share=0.2)[:, 0, 0, 0]
    assert 0.3 < moved.abs().max() <= 0.4
    assert changed(torch.ones(64, 1, 4, 4), brightness_share=0.9).max() == 1.0


def test_contrast_keeps_the_mean() -> None:
    half = X_NCHW / 2
    out = changed(half, contrast_share=0.3)
    assert torch.allclose(out.mean(dim=(1, 2, 3)), half.mean(dim=(1, 2, 3)), atol=1e-6)
    ratio = out.std(dim=(1, 2, 3)) / half.std(dim=(1, 2, 3))
    assert 0.7 <= ratio.min() < 0.75
    assert 1.25 < ratio.max() <= 1.3001


def test_the_generator_decides() -> None:
    default = Augment().model_dump()
    assert torch.equal(changed(**default), changed(**default))
    assert not torch.equal(changed(**default), changed(seed=1, **default))
    assert changed(**default).abs().max() <= 1.0
