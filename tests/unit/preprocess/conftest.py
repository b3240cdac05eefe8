"""Pictures whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest


def disc(
    shape: tuple[int, int], centre: tuple[float, float], radius: float, *, inside: float, outside: float
) -> np.ndarray:
    """Levels `inside` a disc with centre (y, x), `outside` elsewhere, its edge smoothed over a pixel: float (H, W)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    share = np.clip(radius - np.hypot(y - centre[0], x - centre[1]) + 0.5, 0.0, 1.0)
    return outside + (inside - outside) * share


def rgb(levels: np.ndarray, *, noise_levels: float = 0.0) -> np.ndarray:
    """uint8 (H, W, 3) of three equal channels plus noise."""
    noisy = levels[..., None] + np.random.default_rng(0).normal(0.0, noise_levels, (*levels.shape, 3))
    return np.rint(np.clip(noisy, 0.0, 255.0)).astype(np.uint8)


@pytest.fixture
def ramp() -> np.ndarray:
    """Gray, brighter to the right."""
    return np.tile(np.linspace(40, 200, 120), (90, 1)).astype(np.uint8)
