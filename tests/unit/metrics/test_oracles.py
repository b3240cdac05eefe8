"""Other people's packages as oracles, on the same features: clean-fid, torch-fidelity, torchmetrics, prdc.

They work in float32 in places, or take square roots of nearly singular products; the tolerances say which.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from cleanfid import fid
from torch import nn

from medsynth_ray.metrics.frechet import frechet_distance
from medsynth_ray.metrics.kid import kid_of, polynomial_kernel
from medsynth_ray.metrics.prdc import prdc_of

Pair = tuple[np.ndarray, np.ndarray]


def features(n: int, dim: int, *, seed: int, shift: float) -> np.ndarray:
    """Pooled ReLU activations in outline: correlated, not negative, float32 (n, dim)."""
    mixing = np.random.default_rng(0).normal(size=(dim, dim)) / np.sqrt(dim)
    drawn = np.random.default_rng(seed).normal(size=(n, dim)) @ mixing + shift
    return np.maximum(drawn, 0.0).astype(np.float32)


def pair(n: int, dim: int) -> Pair:
    return features(n, dim, seed=1, shift=0.2), features(n, dim, seed=2, shift=0.4)


def kid(real: np.ndarray, drawn: np.ndarray) -> float:
    return kid_of(polynomial_kernel(np.concatenate([real, drawn]).astype(np.float64)), len(real))


class Given(nn.Module):
    """A feature extractor that is handed features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def torchmetrics_value(metric: nn.Module, real: np.ndarray, drawn: np.ndarray) -> torch.Tensor:
    metric.update(torch.from_numpy(real), real=True)  # type: ignore[operator]
    metric.update(torch.from_numpy(drawn), real=False)  # type: ignore[operator]
    value = metric.compute()  # type: ignore[operator]
    return value[0] if isinstance(value, tuple) else value


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("n", "dim", "tolerance"), [(60, 128, 1e-4), (400, 128, 1e-6), (130, 128, 1e-6)])
def test_frechet_is_clean_fids(n: int, dim: int, tolerance: float) -> None:
    real, drawn = pair(n, dim)
    assert frechet_distance(real, drawn) == pytest.approx(fid.fid_from_feats(real, drawn), rel=tolerance)


@pytest.mark.parametrize(("n", "dim"), [(60, 128), (400, 128)])
def test_frechet_is_torch_fidelitys(n: int, dim: int) -> None:
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid")
    real, drawn = pair(n, dim)
    first, second = (metric_fid.fid_features_to_statistics(torch.from_numpy(x).double()) for x in (real, drawn))
    expected = metric_fid.fid_statistics_to_metric(first, second, False)["frechet_inception_distance"]
    assert frechet_distance(real, drawn) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("n", "dim"), [(60, 128), (400, 128)])
def test_frechet_is_torchmetrics(n: int, dim: int) -> None:
    image = pytest.importorskip("torchmetrics.image.fid")
    real, drawn = pair(n, dim)
    expected = float(torchmetrics_value(image.FrechetInceptionDistance(feature=Given(dim)), real, drawn))
    assert frechet_distance(real, drawn) == pytest.approx(expected, rel=1e-4)


def test_kid_is_torch_fidelitys() -> None:
    metric_kid = pytest.importorskip("torch_fidelity.metric_kid")
    real, drawn = pair(150, 128)
    found = metric_kid.kid_features_to_metric(
        torch.from_numpy(real).double(), torch.from_numpy(drawn).double(), kid_subsets=1, kid_subset_size=150,
        kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1, rng_seed=1,
        verbose=False,
    )  # fmt: skip
    assert kid(real, drawn) == pytest.approx(found["kernel_inception_distance_mean"], rel=1e-9)


def test_kid_is_torchmetrics() -> None:
    image = pytest.importorskip("torchmetrics.image.kid")
    real, drawn = pair(150, 128)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = image.KernelInceptionDistance(feature=Given(128), subsets=1, subset_size=150)
    expected = float(torchmetrics_value(metric, real, drawn))
    assert kid(real, drawn) == pytest.approx(expected, rel=1e-3)


def test_kid_is_the_mean_of_clean_fids_blocks() -> None:
    real, drawn = pair(150, 128)
    # Blocks as large as the sets are the sets: their order is all that its unseeded draws change.
    expected = fid.kernel_distance(real.astype(np.float64), drawn.astype(np.float64), num_subsets=1)
    assert kid(real, drawn) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("k", [3, 5])
def test_precision_and_recall_are_torch_fidelitys(k: int) -> None:
    metric_prc = pytest.importorskip("torch_fidelity.metric_prc")
    real, drawn = pair(200, 32)
    expected = metric_prc.prc_features_to_metric(
        torch.from_numpy(drawn).double(), torch.from_numpy(real).double(), prc_neighborhood=k, prc_batch_size=64,
        save_cpu_ram=False, verbose=False,
    )  # fmt: skip
    found = prdc_of(real.astype(np.float64), drawn.astype(np.float64), nearest_k=k)
    assert found["precision"] == pytest.approx(float(expected["precision"]), abs=1e-7)  # a float32 mean there
    assert found["recall"] == pytest.approx(float(expected["recall"]), abs=1e-7)


def test_density_and_coverage_are_prdcs() -> None:
    compute_prdc = pytest.importorskip("prdc").compute_prdc
    real, drawn = (x.astype(np.float64) for x in pair(200, 32))
    expected = {name: float(value) for name, value in compute_prdc(real, drawn, nearest_k=5).items()}
    assert prdc_of(real, drawn, nearest_k=5) == pytest.approx(expected, abs=1e-12)
