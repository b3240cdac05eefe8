"""Classic augmentation: each operation alone, on images where its amount can be read off."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pydantic import ValidationError

from medsynth_ray.generators.classic_augment import ClassicAugment
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Draw
from medsynth_ray.seeds import image_seeds
from medsynth_ray.space import Uniform
from medsynth_ray.testing import LocalRuntime, toy_images

OFF = {
    "horizontal_flip_share": 0.0,
    "rotation_degrees": 0.0,
    "zoom_share": 0.0,
    "translation_share": 0.0,
    "brightness_share": 0.0,
    "contrast_share": 0.0,
    "noise_levels": 0.0,
}
SIDE_PX = 32
SLOPE = 3.0
PRESETS = ("fundus", "xray", "skin", "mri", "ct", "oct", "microscopy")


def ramp(num: int = 1) -> ImageSet:
    """Gray images that grow by SLOPE levels per pixel from left to right; 127.5 in the middle."""
    row = 127.5 + SLOPE * (np.arange(SIDE_PX) - (SIDE_PX - 1) / 2)
    pixels = np.broadcast_to(np.rint(row).astype(np.uint8)[None, None, :, None], (num, SIDE_PX, SIDE_PX, 1)).copy()
    ids = np.array([f"ramp/{i}" for i in range(num)])
    return ImageSet(pixels, np.zeros(num, dtype=np.int64), ids, ids, ("ramp",))


def altered(sources: ImageSet, num: int, **settings: float | str) -> tuple[np.ndarray, np.ndarray]:
    generator = ClassicAugment(ClassicAugment.Config.model_validate({**OFF, **settings}))
    draw = Draw(np.zeros(num, dtype=np.int64), np.arange(num), image_seeds(0, 0, np.arange(num)))
    shards = list(generator.sample(draw, sources=sources, runtime=LocalRuntime()))
    return np.concatenate([s.images for s in shards]), np.concatenate([s.source_ids for s in shards])


def altered_with_preset(preset: str) -> tuple[np.ndarray, np.ndarray]:
    """Images of one level, 128, under a preset that leaves no black at the edges."""
    even = ramp()
    even = ImageSet(np.full_like(even.pixels, 128), even.labels, even.groups, even.ids, even.class_names)
    generator = ClassicAugment(ClassicAugment.Config.model_validate({"preset": preset, "fill": "edge"}))
    draw = Draw(np.zeros(50, dtype=np.int64), np.arange(50), image_seeds(0, 0, np.arange(50)))
    shards = list(generator.sample(draw, sources=even, runtime=LocalRuntime()))
    return np.concatenate([s.images for s in shards]), np.concatenate([s.source_ids for s in shards])


def middle_gradients(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels per pixel towards right and down, in the middle of each image."""
    middle = images[:, 10:22, 10:22, 0].astype(float)
    return np.gradient(middle, axis=2).mean(axis=(1, 2)), np.gradient(middle, axis=1).mean(axis=(1, 2))


def test_everything_off_is_a_copy() -> None:
    shown = toy_images((10,))
    images, source_ids = altered(shown, 10)
    assert np.array_equal(images, shown.pixels[np.searchsorted(shown.ids, source_ids)])


@pytest.mark.parametrize(
    ("settings", "view"),
    [
        ({"horizontal_flip_share": 1.0}, np.s_[:, :, ::-1]),
        ({"vertical_flip_share": 1.0}, np.s_[:, ::-1]),
        ({"horizontal_flip_share": 1.0, "vertical_flip_share": 1.0}, np.s_[:, ::-1, ::-1]),
    ],
)
def test_flips_mirror_exactly(settings: dict[str, float], view: tuple[slice, ...]) -> None:
    shown = toy_images((10,))
    images, source_ids = altered(shown, 10, **settings)
    assert np.array_equal(images, shown.pixels[np.searchsorted(shown.ids, source_ids)][view])


def test_share_of_flips_is_kept() -> None:
    across, _ = middle_gradients(altered(ramp(), 600, horizontal_flip_share=0.3)[0])
    assert (across < 0).mean() == pytest.approx(0.3, abs=0.06)


def test_rotation_stays_within_its_angle() -> None:
    across, down = middle_gradients(altered(ramp(), 300, rotation_degrees=20.0)[0])
    degrees = np.rad2deg(np.arctan2(down, across))
    assert 18.0 < np.abs(degrees).max() < 20.5
    assert np.abs(degrees.mean()) < 2.0
    # Two edges rounded to whole levels, 11 px apart: the slope is known to 1/11 level, 3 % of SLOPE, in each direction.
    assert np.hypot(across, down) == pytest.approx(SLOPE, rel=0.045)


def test_zoom_scales_the_gradient() -> None:
    across, _ = middle_gradients(altered(ramp(), 300, zoom_share=0.2)[0])
    assert across.min() / SLOPE == pytest.approx(0.8, abs=0.02)
    assert across.max() / SLOPE == pytest.approx(1.2, abs=0.02)


def test_translation_shifts_the_middle() -> None:
    images, _ = altered(ramp(), 300, translation_share=0.1)
    shift_px = (images[:, 15:17, 15:17, 0].mean(axis=(1, 2)) - 127.5) / SLOPE
    assert shift_px.min() == pytest.approx(-0.1 * SIDE_PX, abs=0.2)
    assert shift_px.max() == pytest.approx(0.1 * SIDE_PX, abs=0.2)


def test_brightness_moves_the_mean_alone() -> None:
    images, _ = altered(ramp(), 300, brightness_share=0.1)
    moved = images.mean(axis=(1, 2, 3)) - ramp().pixels.mean()
    assert np.abs(moved).max() == pytest.approx(25.5, abs=0.7)
    assert images.std(axis=(1, 2, 3)) == pytest.approx(ramp().pixels.std(), abs=0.3)


def test_contrast_moves_the_deviation_alone() -> None:
    images, _ = altered(ramp(), 300, contrast_share=0.3)
    ratio = images.std(axis=(1, 2, 3)) / ramp().pixels.std()
    assert (ratio.min(), ratio.max()) == pytest.approx((0.7, 1.3), abs=0.02)
    assert images.mean(axis=(1, 2, 3)) == pytest.approx(ramp().pixels.mean(), abs=0.6)


def test_noise_has_its_deviation() -> None:
    images, _ = altered(ramp(), 50, noise_levels=5.0)
    assert (images.astype(float) - ramp().pixels).std() == pytest.approx(5.0, rel=0.02)


@pytest.mark.parametrize(("fill", "first_columns"), [("black", 0.0), ("edge", 200.0), ("reflect", 200.0)])
def test_fill_covers_what_lies_outside(fill: str, first_columns: float) -> None:
    plain = ramp()
    plain = ImageSet(np.full_like(plain.pixels, 200), plain.labels, plain.groups, plain.ids, plain.class_names)
    images, _ = altered(plain, 40, fill=fill, translation_share=0.4)
    assert images.min() == first_columns


@pytest.mark.parametrize(
    ("given", "rotation_degrees", "flip"),
    [
        ({}, 10.0, 0.5),
        ({"preset": "xray"}, 7.0, 0.0),
        ({"preset": "skin"}, 180.0, 0.5),
        ({"preset": "fundus", "rotation_degrees": 3.0}, 3.0, 0.5),
        ({"preset": "mri"}, 10.0, 0.0),
        ({"preset": "ct"}, 7.0, 0.0),
        ({"preset": "oct"}, 5.0, 0.5),
        ({"preset": "microscopy"}, 180.0, 0.5),
    ],
)
def test_preset_fills_what_is_not_given(given: dict[str, str], rotation_degrees: float, flip: float) -> None:
    config = ClassicAugment.Config.model_validate(given)
    assert (config.rotation_degrees, config.horizontal_flip_share) == (rotation_degrees, flip)


@pytest.mark.parametrize("preset", PRESETS)
def test_only_what_has_no_upright_is_turned_over(preset: str) -> None:
    config = ClassicAugment.Config.model_validate({"preset": preset})
    free = preset in ("skin", "microscopy")
    assert (config.vertical_flip_share > 0, config.rotation_degrees > 15) == (free, free)


@pytest.mark.parametrize("preset", PRESETS)
def test_only_what_has_no_side_is_mirrored(preset: str) -> None:
    config = ClassicAugment.Config.model_validate({"preset": preset})
    assert (config.horizontal_flip_share == 0) == (preset in ("xray", "mri", "ct"))


SEARCHED = {
    "none": {},
    "fundus": {"rotation_degrees": 30.0},
    "xray": {"rotation_degrees": 14.0},
    "skin": {"rotation_degrees": 180.0},
    "mri": {},
    "ct": {"rotation_degrees": 14.0, "zoom_share": 0.1, "brightness_share": 0.04, "contrast_share": 0.04},
    "oct": {"rotation_degrees": 10.0, "zoom_share": 0.1},
    "microscopy": {"rotation_degrees": 180.0, "zoom_share": 0.1, "contrast_share": 0.1, "brightness_share": 0.1},
}


@pytest.mark.parametrize("preset", SEARCHED)
def test_a_search_goes_to_twice_the_preset_at_most_and_holds_it(preset: str) -> None:
    config = ClassicAugment.Config.model_validate({"preset": preset})
    space = config.search_space()
    widest = {
        "rotation_degrees": 30.0, "zoom_share": 0.3, "translation_share": 0.15, "brightness_share": 0.3,
        "contrast_share": 0.3, "noise_levels": 8.0,
    }  # fmt: skip
    assert space == {name: Uniform(low=0.0, high=high) for name, high in {**widest, **SEARCHED[preset]}.items()}
    assert [name for name in space if getattr(config, name) > space[name].high] == []


def test_ct_keeps_its_levels() -> None:
    images, _ = altered_with_preset("ct")
    assert np.abs(images.mean(axis=(1, 2, 3)) - 128.0).max() < 0.02 * 255 + 1.0


def test_microscopy_alone_changes_the_stain() -> None:
    stained = [p for p in PRESETS if ClassicAugment.Config.model_validate({"preset": p}).stain_share > 0]
    assert stained == ["microscopy"]


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_stain_scales_the_optical_density(share: float) -> None:
    pixels = np.broadcast_to(np.array([255, 180, 90], np.uint8), (1, 16, 16, 3)).copy()
    plain = ImageSet(pixels, np.zeros(1, dtype=np.int64), np.array(["s"]), np.array(["s"]), ("s",))
    images, _ = altered(plain, 400, stain_share=share)
    assert np.unique(images[..., 0]).tolist() == [255]  # where there is no stain there is none to grow
    factors = np.log(images[:, 0, 0, 1:] / 255.0) / np.log(np.array([180, 90]) / 255.0)
    assert factors.min(axis=0) == pytest.approx(1.0 - share, abs=0.02)
    assert factors.max(axis=0) == pytest.approx(1.0 + share, abs=0.02)
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.2


def test_stain_leaves_the_other_draws_alone() -> None:
    settings = {"rotation_degrees": 20.0, "brightness_share": 0.1, "noise_levels": 3.0}
    without, _ = altered(toy_images((5,)), 5, **settings)
    barely, _ = altered(toy_images((5,)), 5, stain_share=1e-7, **settings)
    assert np.abs(without.astype(int) - barely).max() <= 1


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(ValidationError, match="'none', 'fundus', 'xray', 'skin', 'mri', 'ct', 'oct' or 'microscopy'"):
        ClassicAugment.Config.model_validate({"preset": "ultrasound"})


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_fast(channels: int) -> None:
    shown = toy_images((50,), size_px=64, channels=channels)
    start = time.process_time()
    altered(shown, 512, rotation_degrees=10.0, zoom_share=0.1, noise_levels=2.0)
    assert 512 / (time.process_time() - start) > 300  # about 1500 with 3 channels and 4000 with 1 on one idle core


def test_sources_are_required() -> None:
    generator = ClassicAugment(ClassicAugment.Config())
    draw = Draw(np.array([0]), np.array([0]), np.array([1], dtype=np.uint64))
    with pytest.raises(ValueError, match="needs sources"):
        list(generator.sample(draw, sources=None, runtime=LocalRuntime()))
