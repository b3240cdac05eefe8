"""Circle crop: discs of known centre and radius, pictures without one, and real images."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsynth_ray.data.preprocess.circle_crop import CircleCrop, _find_disc, _fit_circle

from .conftest import disc, rgb

REAL = Path(os.environ.get("MEDSYNTH_REAL_DATA", Path(__file__).parents[4] / "shared" / "data"))


def cropped(pixels: np.ndarray, **settings: float | bool) -> np.ndarray:
    return CircleCrop(CircleCrop.Config.model_validate(settings)).apply(pixels)


def test_the_fit_is_exact_on_a_circle() -> None:
    turn = np.linspace(0.0, 4.0, 50)
    points = np.column_stack([300.0 + 70.0 * np.sin(turn), -20.0 + 70.0 * np.cos(turn)])
    assert _fit_circle(points) == pytest.approx((300.0, -20.0, 70.0), rel=1e-9)


@pytest.mark.parametrize(
    ("shape", "centre", "radius"),
    [
        ((300, 400), (150.0, 200.0), 120.0),
        ((300, 400), (140.0, 180.0), 100.0),
        ((300, 460), (150.0, 230.0), 190.0),  # cut off at the top and at the bottom
        ((400, 300), (200.0, 150.0), 170.0),  # cut off at the left and at the right
        ((1500, 2000), (750.0, 1000.0), 700.0),  # searched on a smaller copy
    ],
)
def test_the_disc_fills_the_crop(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> None:
    picture = rgb(disc(shape, centre, radius, inside=120.0, outside=3.0), noise_levels=2.0)
    crop = cropped(picture)
    assert crop.shape == (crop.shape[0], crop.shape[0], 3)
    assert crop.shape[0] == pytest.approx(2 * radius, rel=0.01, abs=2)
    top, left = round(centre[0] - crop.shape[0] / 2), round(centre[1] - crop.shape[0] / 2)
    y, x = np.mgrid[: crop.shape[0], : crop.shape[0]]
    seen = (np.hypot(y - crop.shape[0] / 2, x - crop.shape[0] / 2) < 0.95 * radius) & np.isin(
        y + top, range(5, shape[0] - 5)
    )
    seen &= np.isin(x + left, range(5, shape[1] - 5))
    assert crop[seen].mean() == pytest.approx(120.0, abs=0.5)
    assert crop[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("share", "side"), [(1.0, 200), (0.9, 180), (0.5, 100)])
def test_radius_share_cuts_the_rim(share: float, side: int) -> None:
    picture = disc((300, 300), (150.0, 150.0), 100.0, inside=90.0, outside=0.0).astype(np.uint8)
    assert cropped(picture, radius_share=share).shape == pytest.approx((side, side), abs=2)


@pytest.mark.parametrize(("black", "level"), [(True, 0), (False, 9)])
def test_outside_is_black_or_as_it_was(black: bool, level: int) -> None:
    picture = disc((300, 300), (150.0, 150.0), 100.0, inside=150.0, outside=9.0).astype(np.uint8)
    assert cropped(picture, black_outside=black)[:5, :5].tolist() == [[level] * 5] * 5


def test_writing_beside_the_disc_is_not_part_of_it() -> None:
    picture = rgb(disc((300, 400), (150.0, 200.0), 120.0, inside=120.0, outside=0.0))
    picture[10:20, 10:60] = 255
    found = _find_disc(picture, 0.1)
    assert found == pytest.approx((150.0, 200.0, 120.0), abs=0.5)
    assert cropped(picture)[:10, :10].max() == 0


def test_a_notch_in_the_rim_does_not_move_it() -> None:
    levels = disc((300, 400), (150.0, 200.0), 120.0, inside=120.0, outside=0.0)
    levels[20:60, 185:215] = 120.0
    assert _find_disc(rgb(levels), 0.1) == pytest.approx((150.0, 200.0, 120.0), abs=1.0)


def _square_on_black() -> np.ndarray:
    levels = np.zeros((200, 200))
    levels[40:160, 40:160] = 130.0
    return levels


@pytest.mark.parametrize(
    "levels",
    [
        _square_on_black(),
        np.full((200, 200), 90.0),
        np.random.default_rng(0).uniform(0.0, 255.0, (200, 200)),
        disc((200, 200), (100.0, 100.0), 80.0, inside=30.0, outside=200.0),
        disc((400, 200), (200.0, 100.0), 80.0, inside=130.0, outside=0.0)[::2],  # squeezed to half its height
        disc((300, 300), (150.0, 150.0), 20.0, inside=200.0, outside=0.0),
    ],
    ids=["square", "plain", "noise", "dark disc", "ellipse", "small disc"],
)
def test_without_a_bright_disc_nothing_changes(levels: np.ndarray) -> None:
    picture = rgb(levels)
    assert cropped(picture) is picture


def _photographs(data: str, num: int) -> list[np.ndarray]:
    table = REAL / data / "metadata.csv"
    if not table.is_file():
        pytest.skip(f"no real images: {table} does not exist")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [np.asarray(Image.open(REAL / data / row["path"]).convert("RGB")) for row in rows[:: len(rows) // num][:num]]


@pytest.mark.real
@pytest.mark.parametrize(("data", "low", "high"), [("odir_fundus", 0.75, 1.0), ("kermany_cxr", 0.0, 0.0)])
def test_fundus_photographs_are_cropped_and_chest_x_rays_are_not(data: str, low: float, high: float) -> None:
    photographs = _photographs(data, 100)
    changed = np.mean([cropped(photograph) is not photograph for photograph in photographs])
    assert low <= changed <= high  # the ODIR copy is squeezed to a square: some of its discs are ellipses
