"""Alterations: what each does to an image, and that nothing but the image, the name and the seed decides it."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.gates._alterations import ALTERATIONS, Alteration, alter
from medsynth_ray.images import ImageSet
from medsynth_ray.testing import toy_images

IMAGES = toy_images((6, 4), size_px=64)


def plain(value: int, size_px: int = 64) -> ImageSet:
    ids = np.array(["a"])
    return ImageSet(np.full((1, size_px, size_px, 1), value, dtype=np.uint8), np.zeros(1, int), ids, ids, ("c",))


@pytest.mark.parametrize("name", ALTERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_altered_images_keep_their_shape_and_change(name: Alteration, channels: int) -> None:
    images = toy_images((6, 4), size_px=32, channels=channels)
    altered = alter(images, name, seed=0)
    assert altered.pixels.shape == images.pixels.shape
    assert (altered.digests != images.digests).all()
    assert altered.ids.tolist() == images.ids.tolist()


@pytest.mark.parametrize("name", ALTERATIONS)
def test_what_happens_to_an_image_does_not_depend_on_the_others(name: Alteration) -> None:
    some = np.array([7, 2])
    whole = alter(IMAGES, name, seed=3).pixels
    assert np.array_equal(alter(IMAGES.take(some), name, seed=3).pixels, whole[some])


@pytest.mark.parametrize(("name", "differs"), [("crop", True), ("rotation", True), ("blur", False), ("jpeg", False)])
def test_another_seed_is_another_window_or_direction(name: Alteration, differs: bool) -> None:
    one, other = (alter(IMAGES, name, seed=seed).pixels for seed in (0, 1))
    assert bool((one != other).any()) is differs


def test_flip_is_its_own_inverse() -> None:
    flipped = alter(IMAGES, "horizontal_flip", seed=0)
    assert np.array_equal(flipped.pixels, IMAGES.pixels[:, :, ::-1])
    assert np.array_equal(alter(flipped, "horizontal_flip", seed=0).pixels, IMAGES.pixels)


@pytest.mark.parametrize("name", ["crop", "blur", "jpeg"])
def test_a_plain_image_stays_plain(name: Alteration) -> None:
    assert np.unique(alter(plain(120), name, seed=0).pixels).tolist() == [120]


def test_rotation_by_five_degrees_blackens_the_corners_only() -> None:
    turned = alter(plain(200), "rotation", seed=0).pixels[0, :, :, 0]
    assert turned[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 0, 0, 0]
    # A strip of tan(5 degrees) x half a side, 2.8 px, at one end of each border.
    assert np.unique(turned[4:-4, 4:-4]).tolist() == [200]


def test_crop_magnifies_by_ten_ninths() -> None:
    """A horizontal ramp of slope 3 per pixel has slope 2.7 afterwards."""
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8) * 3, (1, 64, 64))[..., None]
    ids = np.array(["a"])
    cropped = alter(ImageSet(ramp.copy(), np.zeros(1, int), ids, ids, ("c",)), "crop", seed=0).pixels[0, 32, :, 0]
    assert (int(cropped[60]) - int(cropped[4])) / 56 == pytest.approx(2.7, abs=0.05)
