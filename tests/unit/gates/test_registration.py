"""Registration: distances that are 0 by construction, and the search against altered images of known sources."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, rotate

from medsynth_ray.gates import _registration
from medsynth_ray.gates._alterations import ALTERATIONS, Alteration, alter
from medsynth_ray.gates._registration import nearest_registered, registrable
from medsynth_ray.images import ImageSet


def smooth(num: int, *, seed: int, size_px: int = 64) -> ImageSet:
    """Gray images of smooth noise, details of about an eighth of the side, full contrast."""
    noise = np.random.default_rng(seed).normal(size=(num, size_px, size_px))
    soft = gaussian_filter(noise, (0, size_px / 12, size_px / 12), mode="reflect")
    pixels = np.clip(128 + 50 * soft / soft.std(), 0, 255).astype(np.uint8)[..., None]
    ids = np.array([f"i/{i}" for i in range(num)])
    return ImageSet(pixels, np.zeros(num, dtype=np.int64), ids, ids, ("c",))


IMAGES = smooth(150, seed=0)
READY = registrable(IMAGES.pixels)


def found(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return nearest_registered(registrable(pixels), READY)


@pytest.mark.parametrize(
    "pixels",
    [IMAGES.pixels, IMAGES.pixels[:, :, ::-1], np.rint(IMAGES.pixels * 0.6 + 40).astype(np.uint8)],
    ids=["same", "mirrored", "paler"],
)
def test_copies_are_at_no_distance(pixels: np.ndarray) -> None:
    distances, rows = found(pixels)
    assert rows.tolist() == list(range(150))
    assert distances.max() < 0.01


@pytest.mark.parametrize("name", ALTERATIONS)
def test_sources_of_altered_images_are_found(name: Alteration) -> None:
    distances, rows = found(alter(IMAGES, name, seed=1).pixels)
    innocent, _ = found(smooth(150, seed=5).pixels)
    assert (rows == np.arange(150)).mean() >= 0.97
    assert (distances < innocent.min()).mean() >= 0.97


@pytest.mark.parametrize(("num_steps", "least", "most"), [(0, 0.15, 1.0), (3, 0.0, 0.08)])
def test_registration_removes_a_small_turn(
    monkeypatch: pytest.MonkeyPatch, num_steps: int, least: float, most: float
) -> None:
    """The middle of larger images that were turned by 6 degrees: nothing black comes in at the border."""
    monkeypatch.setattr(_registration, "_NUM_STEPS", num_steps)
    large = smooth(60, seed=3, size_px=96).pixels
    turned = rotate(large, 6.0, axes=(2, 1), reshape=False, order=3)
    middle = (slice(None), slice(16, 80), slice(16, 80))
    distances, rows = nearest_registered(registrable(turned[middle]), registrable(large[middle]))
    assert (rows == np.arange(60)).mean() >= 0.95
    assert least < float(np.median(distances)) < most


def test_a_row_depends_on_its_image_alone() -> None:
    some = np.array([140, 3, 77])
    pixels = smooth(150, seed=5).pixels
    distances, rows = found(pixels)
    few, few_rows = found(pixels[some])
    assert few_rows.tolist() == rows[some].tolist()
    assert few == pytest.approx(distances[some], rel=1e-4)


def test_pairs_that_are_left_out_are_not_compared() -> None:
    left_out = np.eye(150, dtype=bool)
    distances, rows = nearest_registered(READY, READY, left_out)
    assert (rows != np.arange(150)).all()
    assert distances.min() > 0.05


@pytest.mark.parametrize("num", [1, 2])
def test_fewer_images_than_candidates(num: int) -> None:
    distances, rows = nearest_registered(READY, registrable(IMAGES.pixels[:num]))
    assert rows.max() < num
    assert distances[:num].max() < 0.01


def test_only_one_image_is_allowed() -> None:
    left_out = np.ones((150, 150), dtype=bool)
    left_out[:, 9] = False
    distances, rows = nearest_registered(READY, READY, left_out)
    assert np.unique(rows).tolist() == [9]
    assert np.isfinite(distances).all()


@pytest.mark.parametrize("shape", [(16, 16, 3), (8, 8, 1), (40, 70, 1)])
def test_plain_images_of_any_shape_have_finite_distances(shape: tuple[int, int, int]) -> None:
    """A plain image looks like nothing: the deviation of what is left of it is 0, not 1."""
    rng = np.random.default_rng(0)
    pixels = np.concatenate([np.full((3, *shape), 77, np.uint8), rng.integers(0, 256, (3, *shape), dtype=np.uint8)])
    ready = registrable(pixels)
    distances, rows = nearest_registered(ready, ready)
    assert distances[3:].max() < 0.01
    assert rows[3:].tolist() == [3, 4, 5]
    assert distances[:3].max() <= 1.0
