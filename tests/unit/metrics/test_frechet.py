"""Closed forms of known Gaussians; clean-fid as oracle; the floor."""

from __future__ import annotations

import numpy as np
import pytest
from cleanfid import fid

from medsynth_ray.metrics.frechet import Frechet, frechet_distance


def whitened(n: int, d: int, seed: int) -> np.ndarray:
    """Rows whose sample mean is 0 and whose sample covariance is the identity, but for rounding."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    q, _ = np.linalg.qr(x - x.mean(axis=0))
    return q * np.sqrt(n - 1)


def correlated(n: int, d: int, seed: int) -> np.ndarray:
    mixing = np.random.default_rng(0).normal(size=(d, d)) / np.sqrt(d)
    return np.random.default_rng(seed).normal(size=(n, d)) @ mixing


@pytest.mark.parametrize("n", [9, 200])
def test_diagonal_gaussians_have_a_closed_form(n: int) -> None:
    sd_a, sd_b, shift = np.linspace(1, 3, 8), np.linspace(2, 0.5, 8), np.arange(8.0)
    a, b = whitened(n, 8, 1) * sd_a, whitened(n, 8, 2) * sd_b + shift
    assert frechet_distance(a, b) == pytest.approx(np.sum(shift**2) + np.sum((sd_a - sd_b) ** 2), rel=1e-10)


def test_correlated_gaussians_with_one_covariance_differ_by_their_means() -> None:
    a = correlated(500, 16, 1)
    assert frechet_distance(a, a + 0.5) == pytest.approx(16 * 0.25, rel=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("n", "m"), [(40, 40), (300, 200), (40, 200)])
def test_it_agrees_with_clean_fid(n: int, m: int) -> None:
    a, b = correlated(n, 64, 1), 1.3 * correlated(m, 64, 2) + 0.2
    expected = fid.frechet_distance(a.mean(axis=0), np.cov(a, rowvar=False), b.mean(axis=0), np.cov(b, rowvar=False))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n", [30, 150])
def test_it_is_zero_for_equal_sets_and_symmetric(n: int) -> None:
    a, b = correlated(n, 64, 1), correlated(n, 64, 2)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)


def by_singular_values(a: np.ndarray, b: np.ndarray) -> float:
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    root_a, root_b = (a - mean_a) / np.sqrt(len(a) - 1), (b - mean_b) / np.sqrt(len(b) - 1)
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return float(np.sum((mean_a - mean_b) ** 2) + np.sum(root_a**2) + np.sum(root_b**2) - 2.0 * cross)


@pytest.mark.parametrize(("n", "m"), [(64, 64), (65, 65), (66, 900), (70, 80), (300, 200), (900, 64)])
def test_the_fast_path_is_as_exact_as_singular_values(n: int, m: int) -> None:
    a, b = correlated(n, 64, 1), 1.1 * correlated(m, 64, 2) + 0.1
    assert frechet_distance(a, b) == pytest.approx(by_singular_values(a, b), rel=1e-9)


@pytest.mark.parametrize(("n", "fast"), [(300, True), (65, True), (64, False), (40, False)])
def test_the_fast_path_is_taken_where_both_sides_outnumber_the_dimensions(
    n: int, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []
    svd = np.linalg.svd
    monkeypatch.setattr(np.linalg, "svd", lambda x, **options: asked.append(x.shape) or svd(x, **options))
    frechet_distance(correlated(n, 64, 1), correlated(300, 64, 2))
    assert asked == ([] if fast else [(n, 64)])


@pytest.mark.parametrize("fault", ["constant feature", "equal features", "tiny feature"])
def test_covariances_that_are_nearly_singular_lose_no_digit(fault: str) -> None:
    a, b = correlated(300, 64, 1), 1.1 * correlated(250, 64, 2) + 0.1
    if fault == "constant feature":
        a[:, 3] = b[:, 3] = 0.0
    elif fault == "equal features":
        a[:, 3], b[:, 3] = a[:, 4], b[:, 4]
    else:
        a[:, 3:40] *= 1e-9
        b[:, 3:40] *= 1e-9
    assert frechet_distance(a, b) == pytest.approx(by_singular_values(a, b), rel=1e-9)


def test_both_sides_have_the_same_n_and_the_name_says_so() -> None:
    real, drawn = correlated(100, 8, 1), correlated(40, 8, 2)
    found = Frechet(Frechet.Config()).measure(real, drawn, space="toy", seed=0)
    assert found.name == "frechet_toy_n40"
    fewer = Frechet(Frechet.Config(num_images=25)).measure(real, drawn, space="toy", seed=0)
    assert fewer.name == "frechet_toy_n25"


def test_the_floor_is_what_real_against_real_gives() -> None:
    config = Frechet.Config(num_floor_splits=20)
    same = Frechet(config).measure(correlated(200, 32, 1), correlated(100, 32, 2), space="toy", seed=0)
    shifted = Frechet(config).measure(correlated(200, 32, 1), correlated(100, 32, 2) + 1.0, space="toy", seed=0)
    assert same.details["floor"] == shifted.details["floor"] > 0.5
    assert same.value == pytest.approx(same.details["floor"], rel=0.25)
    assert shifted.value > shifted.details["floor_max"] + 30


@pytest.mark.parametrize(("num_real", "num_drawn", "n"), [(60, 40, 30), (60, 60, 30), (61, 25, 25), (21, 100, 10)])
def test_by_default_n_leaves_room_for_a_floor(num_real: int, num_drawn: int, n: int) -> None:
    real, drawn = correlated(num_real, 8, 1), correlated(num_drawn, 8, 2)
    found = Frechet(Frechet.Config()).measure(real, drawn, space="toy", seed=0)
    assert found.name == f"frechet_toy_n{n}"
    assert 0.0 < found.details["floor"] <= found.details["floor_max"]


def test_no_floor_where_a_stated_n_is_more_than_half_of_the_reference() -> None:
    real, drawn = correlated(60, 8, 1), correlated(40, 8, 2)
    found = Frechet(Frechet.Config(num_images=31)).measure(real, drawn, space="toy", seed=0)
    assert (found.name, found.details) == ("frechet_toy_n31", {})


def test_the_seed_picks_the_subset() -> None:
    real, drawn = correlated(100, 8, 1), correlated(40, 8, 2)
    values = [Frechet(Frechet.Config()).measure(real, drawn, space="toy", seed=s).value for s in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize(
    ("real", "drawn", "message"),
    [
        (np.ones((10, 4)), np.ones((50, 4)), "reference holds 10 images, this metric needs at least 20"),
        (np.ones((50, 4)), np.ones((10, 4)), "synthetic holds 10 images"),
        (np.ones((50, 4)), np.ones((50, 5)), r"\(50, 4\) and \(50, 5\)"),
        (np.ones((50, 4)), np.full((50, 4), np.nan), "synthetic features hold 200 values that are not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(real: np.ndarray, drawn: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Frechet(Frechet.Config()).measure(real, drawn, space="toy", seed=0)
