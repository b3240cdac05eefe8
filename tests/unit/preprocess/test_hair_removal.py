"""Hair removal: drawn hairs vanish, what is no hair stays to the bit."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from medsynth_ray.data.preprocess.hair_removal import HairRemoval
from medsynth_ray.errors import ConfigError

from .conftest import disc, rgb


def skin(size_px: int = 300) -> np.ndarray:
    """Skin with a lesion, shaded from left to right."""
    shade = np.linspace(-15.0, 15.0, size_px)
    middle = size_px / 2
    return rgb(disc((size_px, size_px), (middle, middle), 0.2 * size_px, inside=110.0, outside=190.0) + shade)


def with_lines(pixels: np.ndarray, lines: list[tuple[int, ...]], width: int) -> np.ndarray:
    image = Image.fromarray(pixels)
    for line in lines:
        ImageDraw.Draw(image).line(line, fill=(35, 30, 30), width=width)
    return np.asarray(image)


def cleaned(pixels: np.ndarray, **settings: float) -> np.ndarray:
    return HairRemoval(HairRemoval.Config.model_validate(settings)).apply(pixels)


@pytest.mark.parametrize(
    "line",
    [(10, 40, 280, 40), (50, 5, 50, 295), (10, 10, 290, 290), (280, 15, 20, 250), (5, 200, 295, 240)],
    ids=["across", "down", "diagonal", "steep", "flat"],
)
@pytest.mark.parametrize("width", [1, 3])
def test_a_drawn_hair_vanishes(line: tuple[int, ...], width: int) -> None:
    plain = skin()
    hairy = with_lines(plain, [line], width)
    was = np.abs(hairy.astype(int) - plain).max(axis=2) > 0
    left = np.abs(cleaned(hairy).astype(int) - plain).max(axis=2)[was]
    assert np.abs(hairy.astype(int) - plain).max() > 100
    assert left.mean() < 4.0
    assert np.quantile(left, 0.95) < 20.0


def test_many_crossing_hairs_vanish_in_a_large_image() -> None:
    plain = skin(1500)
    lines = [(50, 100, 1400, 700), (300, 20, 1200, 1450), (1400, 200, 100, 1300)]
    hairy = with_lines(plain, lines, 8)
    was = np.abs(hairy.astype(int) - plain).max(axis=2) > 0
    changed = cleaned(hairy)
    assert np.abs(changed.astype(int) - plain).max(axis=2)[was].mean() < 5.0
    away = np.abs(changed.astype(int) - hairy).max(axis=2) > 0
    assert away.mean() < 2.5 * was.mean()


def test_what_is_no_hair_stays_to_the_bit() -> None:
    hairy = with_lines(skin(), [(10, 40, 280, 40)], 2)
    changed = (cleaned(hairy) != hairy).any(axis=2)
    assert changed[30:50].any()
    assert not changed[:30].any()
    assert not changed[50:].any()


@pytest.mark.parametrize(
    "picture",
    [
        skin(),
        rgb(np.full((200, 200), 180.0), noise_levels=3.0),
        rgb(disc((300, 300), (100.0, 90.0), 2.5, inside=60.0, outside=190.0)),
        with_lines(skin(), [(150, 40, 162, 40)], 2),
        with_lines(skin(), [(20, 40, 280, 40)], 25),
    ],
    ids=["lesion", "noise", "dot", "short line", "broad band"],
)
def test_without_a_hair_nothing_changes(picture: np.ndarray) -> None:
    assert cleaned(picture) is picture


def test_gray_images_are_cleaned_too() -> None:
    hairy = with_lines(skin(), [(10, 40, 280, 60)], 2)[..., 0]
    changed = cleaned(np.ascontiguousarray(hairy))
    assert changed.ndim == 2
    assert changed[35:65].min() > 120


@pytest.mark.parametrize(("contrast", "found"), [(12, True), (60, False)])
def test_contrast_decides_what_is_a_hair(contrast: int, found: bool) -> None:
    picture = np.full((200, 200), 190, dtype=np.uint8)
    picture[100:102, 10:190] = 160
    assert (cleaned(picture, min_contrast_levels=contrast) is not picture) == found


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"pip install 'medsynth-ray\[medical\]'"):
        cleaned(np.zeros((20, 20), dtype=np.uint8))
