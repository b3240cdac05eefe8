"""The authors' package as oracle, closed forms under equal laws, and the floor."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.metrics.prdc import Prdc, prdc_of
from medsynth_ray.protocols import Measured


def two_samples(n: int, m: int, dim: int, *, seed: int = 0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, dim)), rng.normal(shift, 1.0, size=(m, dim))


def measured(n: int, m: int, *, shift: float = 0.0, seed: int = 0, **settings: int) -> Measured:
    return Prdc(Prdc.Config(**settings)).measure(*two_samples(n, m, 6, shift=shift), space="toy", seed=seed)


@pytest.mark.parametrize("shift", [0.0, 0.3, 2.0])
@pytest.mark.parametrize(
    ("n", "m", "dim", "k"), [(50, 50, 8, 5), (300, 700, 64, 3), (60, 40, 2, 1), (1100, 1030, 16, 7), (40, 30, 1280, 28)]
)
def test_it_agrees_with_the_authors_package(n: int, m: int, dim: int, k: int, shift: float) -> None:
    compute_prdc = pytest.importorskip("prdc").compute_prdc
    real, drawn = two_samples(n, m, dim, shift=shift)
    expected = {name: float(value) for name, value in compute_prdc(real, drawn, nearest_k=k).items()}
    found = prdc_of(real, drawn, nearest_k=k)
    assert found == expected, f"largest difference {max(abs(found[key] - expected[key]) for key in expected)}"


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_worked_example_on_a_line(offset: float) -> None:
    # Balls that reach to the nearest neighbour: (-18, 0), (-1, 1), (0, 2), (1, 5) around the real images,
    # (-1.6, 2.6), (0.5, 4.7), (2.6, 17.4) around the synthetic ones.
    real = np.array([[-9.0], [0.0], [1.0], [3.0]]) + offset
    drawn = np.array([[0.5], [2.6], [10.0]]) + offset
    # 0.5 lies in two real balls, 2.6 in one, 10 in none; -9 lies in no synthetic ball, and nothing in its own.
    expected = {"precision": 2 / 3, "recall": 3 / 4, "density": 1.0, "coverage": 3 / 4}
    assert prdc_of(real, drawn, nearest_k=1) == pytest.approx(expected)


def test_an_image_as_far_as_the_ball_reaches_is_outside() -> None:
    real = np.random.default_rng(0).normal(size=(40, 300))
    found = prdc_of(real, real[:1] + np.zeros((6, 1)), nearest_k=1)
    # Copies of one row: in its own ball, and at the very edge of the balls of those that have it as their neighbour.
    assert found["coverage"] == 1 / 40


@pytest.mark.parametrize(("n", "m", "k"), [(30, 30, 5), (30, 60, 3), (60, 30, 1)])
def test_equal_laws_have_the_coverage_and_density_of_theory(n: int, m: int, k: int) -> None:
    found = [prdc_of(*two_samples(n, m, 3, seed=seed), nearest_k=k) for seed in range(300)]
    i = np.arange(1, k + 1)
    coverage = np.array([f["coverage"] for f in found])
    theory = 1.0 - np.prod((n - i) / (n + m - i))
    assert coverage.mean() == pytest.approx(theory, abs=4 * coverage.std() / np.sqrt(300))
    assert np.mean([f["density"] for f in found]) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scale_does_not_matter(factor: float) -> None:
    real, drawn = two_samples(50, 50, 8)
    assert prdc_of(factor * real, factor * drawn, nearest_k=3) == prdc_of(real, drawn, nearest_k=3)


def test_a_missing_mode_costs_coverage_not_density() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(400, 4)) + 20.0 * (np.arange(400)[:, None] % 2)
    drawn = rng.normal(size=(200, 4))
    found = Prdc(Prdc.Config()).measure(real, drawn, space="toy", seed=0)
    assert found.value == pytest.approx(0.5, abs=0.06)
    assert found.details["density"] > 0.9
    assert found.details["floor_low"] > 0.9


def test_the_number_is_named_by_its_protocol() -> None:
    found = measured(100, 30, nearest_k=4)
    assert found.name == "prdc_coverage_toy_k4_n30"
    assert found.value == found.details["coverage"]
    assert sorted(found.details) == ["coverage", "density", "floor", "floor_low", "precision", "recall"]


def test_both_sides_hold_as_many() -> None:
    assert measured(60, 500).name.endswith("_n30")
    assert measured(60, 500, num_images=50).name.endswith("_n50")


def test_the_floor_is_that_of_equal_laws() -> None:
    found = measured(400, 200, shift=1.0, num_floor_splits=5)
    assert found.details["floor"] == pytest.approx(1 - 2**-5, abs=0.02)
    assert found.details["floor_low"] <= found.details["floor"]
    assert found.value < found.details["floor_low"] - 0.1


@pytest.mark.parametrize(
    ("n", "m", "settings", "has_floor"),
    [
        (40, 40, {}, True),
        (39, 40, {}, False),
        (90, 90, {"num_images": 50}, False),
        (90, 90, {"num_floor_splits": 0}, False),
    ],
)
def test_without_two_halves_there_is_no_floor(n: int, m: int, settings: dict[str, int], has_floor: bool) -> None:
    assert ("floor" in measured(n, m, **settings).details) == has_floor


def test_seed_decides_the_subsets() -> None:
    values = [measured(300, 300, num_images=60, shift=0.4, seed=seed).details["density"] for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize(
    ("n", "m", "settings", "message"),
    [
        (90, 19, {}, "synthetic holds 19 images, this metric needs at least 20"),
        (19, 90, {}, "reference holds 19 images, this metric needs at least 20"),
        (30, 90, {"nearest_k": 30}, "reference holds 30 images, this metric needs at least 31"),
        (90, 30, {"num_images": 50}, "synthetic holds 30 images, this metric needs at least 50"),
    ],
)
def test_too_few_images_are_refused(n: int, m: int, settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured(n, m, **settings)


def test_a_neighbour_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="nearest_k is 5: each side needs more rows, got 9 and 5"):
        prdc_of(np.ones((9, 2)), np.ones((5, 2)), nearest_k=5)
