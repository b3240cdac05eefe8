"""Centre lesion: blobs of known place and size, and skin without one."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.data.preprocess._vision import otsu
from medsynth_ray.data.preprocess.centre_lesion import CentreLesion

from .conftest import disc, rgb


def cropped(pixels: np.ndarray, **settings: float) -> np.ndarray:
    return CentreLesion(CentreLesion.Config.model_validate(settings)).apply(pixels)


def skin_with_blob(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    return rgb(disc(shape, centre, radius, inside=90.0, outside=190.0), noise_levels=6.0)


def middle_of_dark(pixels: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(pixels.mean(axis=2) < 140)
    return float(rows.mean()), float(columns.mean())


@pytest.mark.parametrize(
    ("shape", "centre", "radius"),
    [
        ((300, 400), (120.0, 280.0), 40.0),
        ((300, 400), (170.0, 130.0), 70.0),
        ((900, 1200), (400.0, 700.0), 200.0),  # searched on a smaller copy
    ],
)
@pytest.mark.parametrize("margin", [0.1, 0.25])
def test_the_lesion_is_in_the_middle(
    shape: tuple[int, int], centre: tuple[float, float], radius: float, margin: float
) -> None:
    crop = cropped(skin_with_blob(shape, centre, radius), margin_share=margin)
    assert crop.shape == (len(crop), len(crop), 3)
    assert len(crop) == pytest.approx(2 * radius * (1 + 2 * margin), rel=0.05)
    assert middle_of_dark(crop) == pytest.approx((len(crop) / 2,) * 2, abs=0.03 * len(crop))


def test_near_the_edge_the_crop_stays_inside() -> None:
    crop = cropped(skin_with_blob((300, 400), (60.0, 60.0), 50.0), margin_share=0.5)
    assert len(crop) == pytest.approx(200, rel=0.05)
    assert middle_of_dark(crop) == pytest.approx((60.0, 60.0), abs=2.0)
    assert crop.min() > 60  # no black padding


def test_a_margin_beyond_the_image_gives_its_largest_square() -> None:
    assert cropped(skin_with_blob((300, 400), (150.0, 200.0), 90.0), margin_share=2.0).shape == (300, 300, 3)


def test_a_saturated_lesion_as_bright_as_the_skin_is_found() -> None:
    picture = np.full((200, 300, 3), 170, dtype=np.uint8)
    share = disc((200, 300), (100.0, 180.0), 40.0, inside=1.0, outside=0.0)[..., None]
    picture = np.rint(picture + share * (np.array([250, 165, 60]) - 170)).astype(np.uint8)
    assert picture.mean(axis=2).std() < 10
    assert len(cropped(picture, margin_share=0.25)) == pytest.approx(120, rel=0.06)


def test_dark_corners_are_not_the_lesion() -> None:
    picture = skin_with_blob((300, 300), (130.0, 170.0), 35.0)
    y, x = np.mgrid[:300, :300]
    picture[np.hypot(y - 150, x - 150) > 165] = 5
    crop = cropped(picture)
    assert len(crop) == pytest.approx(105, rel=0.06)
    assert middle_of_dark(crop) == pytest.approx((len(crop) / 2,) * 2, abs=3.0)


def test_a_hair_does_not_stretch_the_lesion() -> None:
    picture = skin_with_blob((300, 400), (150.0, 200.0), 50.0)
    picture[149:151] = 40
    assert len(cropped(picture)) == pytest.approx(150, rel=0.06)


@pytest.mark.parametrize(
    "picture",
    [
        rgb(np.full((200, 200), 180.0), noise_levels=8.0),
        skin_with_blob((300, 400), (150.0, 200.0), 8.0),
        rgb(disc((300, 300), (150.0, 150.0), 60.0, inside=172.0, outside=180.0)),
        rgb(disc((300, 300), (150.0, 150.0), 140.0, inside=90.0, outside=190.0)),
    ],
    ids=["skin", "too small", "too faint", "too large"],
)
def test_without_a_lesion_nothing_changes(picture: np.ndarray) -> None:
    assert cropped(picture) is picture


def test_otsu_parts_two_levels() -> None:
    values = np.repeat(np.array([30, 200], dtype=np.uint8), [70, 30])
    level, contrast = otsu(values)
    assert 30 <= level < 200
    assert contrast == 170.0


def test_otsu_agrees_with_a_search_over_all_thresholds() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(80, 15, 300), rng.normal(160, 25, 500)]).clip(0, 255).astype(np.uint8)

    def between(level: int) -> float:
        low, high = values[values <= level], values[values > level]
        return len(low) * len(high) * (high.mean() - low.mean()) ** 2 if len(low) and len(high) else 0.0

    assert otsu(values)[0] == max(range(256), key=between)


@pytest.mark.parametrize("values", [np.full(9, 7, np.uint8), np.empty(0, np.uint8)])
def test_otsu_of_one_level_parts_nothing(values: np.ndarray) -> None:
    assert otsu(values) == (0, 0.0)
