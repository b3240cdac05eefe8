"""Gaussian: its moments, its basis and its covariances against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy import stats

from medsynth_ray.errors import Stopped
from medsynth_ray.generators.gaussian import Gaussian, shrunk_covariances
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Draw
from medsynth_ray.testing import LocalRuntime, toy_images


def low_rank_images(counts: tuple[int, ...], *, rank: int = 6, seed: int = 0) -> ImageSet:
    """Gray 8 px images around a class mean, with `rank` independent patterns; far from 0 and 255."""
    rng = np.random.default_rng(seed)
    patterns = rng.normal(size=(rank, 64)) * np.linspace(6.0, 2.0, rank)[:, None]
    labels = np.repeat(np.arange(len(counts)), counts)
    scale = np.where(labels == 0, 1.0, 0.5)[:, None]
    values = 110.0 + 25.0 * labels[:, None] + scale * rng.normal(size=(len(labels), rank)) @ patterns
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8).reshape(-1, 8, 8, 1)
    ids = np.array([f"real/{i}" for i in range(len(labels))])
    return ImageSet(pixels, labels, ids, ids, tuple(f"class_{c}" for c in range(len(counts))))


def fitted(shown: ImageSet, *, fit_share: float = 1.0, **settings: float) -> tuple[Gaussian, LocalRuntime]:
    generator = Gaussian(Gaussian.Config.model_validate(settings))
    runtime = LocalRuntime(fit_share=fit_share)
    generator.fit(shown, seed=5, runtime=runtime)
    return generator, runtime


def drawn(generator: Gaussian, labels: np.ndarray, *, first_seed: int = 0) -> np.ndarray:
    seeds = np.arange(first_seed, first_seed + len(labels), dtype=np.uint64)
    draw = Draw(labels, np.arange(len(labels)), seeds)
    return np.concatenate([s.images for s in generator.sample(draw, sources=None, runtime=LocalRuntime())])


@pytest.mark.parametrize("label", [0, 1])
def test_samples_have_the_moments_of_their_class(label: int) -> None:
    shown = low_rank_images((400, 300))
    generator, _ = fitted(shown, num_components=64, shrinkage=0.0)
    samples = drawn(generator, np.full(8000, label)).reshape(8000, -1).astype(float)
    own = shown.of_class(label).pixels.reshape(-1, 64).astype(float)
    # Monte-Carlo error of a pixel's mean is sd / sqrt(8000), about 0.1 levels here; rounding adds 1/12 to variances.
    assert np.abs(samples.mean(axis=0) - own.mean(axis=0)).max() < 0.6
    error = np.cov(samples.T) - np.cov(own.T) - np.eye(64) / 12
    assert np.linalg.norm(error) / np.linalg.norm(np.cov(own.T)) < 0.06


def test_basis_spans_the_principal_components() -> None:
    shown = low_rank_images((200, 200))
    generator, runtime = fitted(shown, num_components=4, max_train_steps=30)
    flat = shown.pixels.reshape(len(shown), -1).astype(float)
    deviations = np.concatenate([flat[shown.labels == c] - flat[shown.labels == c].mean(axis=0) for c in (0, 1)])
    _, singular, rows = np.linalg.svd(deviations, full_matrices=False)
    overlap = np.linalg.svd(rows[:4] @ generator._tensors["basis"], compute_uv=False)
    assert overlap.min() > 0.9999
    explained = runtime.reports[-1][1]["explained_variance_share"]
    assert explained == pytest.approx((singular[:4] ** 2).sum() / (singular**2).sum(), rel=1e-6)


def test_explained_variance_grows_with_each_step() -> None:
    _, runtime = fitted(low_rank_images((60, 40)), num_components=3)
    shares = [metrics["explained_variance_share"] for _, metrics in runtime.reports]
    assert [step for step, _ in runtime.reports] == list(range(1, 10))
    assert 0.0 < shares[0] < shares[-1] < 1.0
    assert np.diff(shares).min() > -1e-12


@pytest.mark.parametrize(("fit_share", "num_steps"), [(1 / 9, 1), (1 / 3, 3), (0.5, 5), (1.0, 9)])
def test_rung_is_a_share_of_the_steps(fit_share: float, num_steps: int) -> None:
    _, runtime = fitted(toy_images(), fit_share=fit_share)
    assert [step for step, _ in runtime.reports] == list(range(1, num_steps + 1))


def test_resumed_fit_has_the_same_tensors() -> None:
    shown = low_rank_images((60, 40))
    straight, _ = fitted(shown, num_components=5)
    third, runtime = fitted(shown, fit_share=1 / 3, num_components=5)
    runtime.fit_share = 1.0
    third.fit(shown, seed=5, runtime=runtime)
    assert int(load_file(runtime.checkpoints[-1] / "state.safetensors")["step"]) == 9
    assert all(np.array_equal(straight._tensors[name], third._tensors[name]) for name in straight._tensors)


def test_checkpoint_of_another_fit_is_not_resumed() -> None:
    shown = low_rank_images((60, 40))
    _, runtime = fitted(shown, num_components=5)
    with pytest.raises(AssertionError, match="checkpoint is of another fit"):
        Gaussian(Gaussian.Config(num_components=9)).fit(shown, seed=5, runtime=runtime)


@pytest.mark.parametrize(
    ("shrinkage", "counts", "own_share"),
    [(0.0, (11, 31), 1.0), (1.0, (11, 31), 0.0), (0.5, (11, 31), 10 / 50), (0.2, (1, 41), 0.0), (0.0, (1, 41), 0.0)],
)
def test_shrinkage_follows_friedman(shrinkage: float, counts: tuple[int, int], own_share: float) -> None:
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=(n, 3)) for n in counts]
    scatters = np.stack([(s - s.mean(axis=0)).T @ (s - s.mean(axis=0)) for s in scores])
    pooled = scatters.sum(axis=0) / (sum(counts) - 2)
    own = scatters[0] / max(counts[0] - 1, 1)
    found = shrunk_covariances(scatters, np.array(counts), shrinkage)
    assert np.allclose(found[0], own_share * own + (1 - own_share) * pooled)


def test_loss_is_the_density_of_a_normal_over_all_pixels() -> None:
    shown, strange = low_rank_images((60, 40)), low_rank_images((7, 5), seed=3)
    generator, _ = fitted(shown, num_components=4, temperature=0.0)
    tensors = {name: tensor.astype(float) for name, tensor in generator._tensors.items()}
    flat = shown.pixels.reshape(100, -1).astype(float)
    deviations = np.concatenate([flat[shown.labels == c] - flat[shown.labels == c].mean(axis=0) for c in (0, 1)])
    basis = tensors["basis"]
    left_over = (deviations - deviations @ basis @ basis.T).ravel() @ (
        deviations - deviations @ basis @ basis.T
    ).ravel()
    outside = left_over / (98 * 60) + 1 / 12
    expected = []
    for x, label in zip(strange.pixels.reshape(12, -1).astype(float), strange.labels, strict=True):
        inside = tensors["roots"][label] @ tensors["roots"][label] + np.eye(4) / 12
        covariance = basis @ inside @ basis.T + outside * (np.eye(64) - basis @ basis.T)
        expected.append(-stats.multivariate_normal(tensors["means"][label], covariance).logpdf(x))
    losses = generator.loss(strange, seed=0, runtime=LocalRuntime())
    assert losses.dtype == np.float32
    assert losses == pytest.approx(expected, rel=1e-4)


def test_loss_is_finite_where_nothing_varies() -> None:
    alone = low_rank_images((1, 1))
    generator, _ = fitted(alone)
    losses = generator.loss(low_rank_images((3, 4), seed=1), seed=0, runtime=LocalRuntime())
    floor = generator.loss(alone, seed=0, runtime=LocalRuntime())
    assert np.isfinite(losses).all()
    # At the mean every direction has the variance of rounding, 1/12.
    assert floor == pytest.approx(0.5 * 64 * np.log(2 * np.pi / 12), rel=1e-3)
    assert losses.min() > floor.max() + 100


def test_loss_stops_when_asked() -> None:
    generator, _ = fitted(low_rank_images((9, 5)))
    with pytest.raises(Stopped, match="loss of 0 of 14 images"):
        generator.loss(low_rank_images((9, 5)), seed=0, runtime=LocalRuntime(stop_after=0))


def test_class_with_one_image_varies_like_the_others() -> None:
    shown = low_rank_images((200, 1))
    generator, _ = fitted(shown, num_components=6)
    samples = drawn(generator, np.full(3000, 1)).reshape(3000, -1).astype(float)
    others = shown.of_class(0).pixels.reshape(200, -1).astype(float)
    assert np.abs(samples.mean(axis=0) - shown.pixels[-1].ravel()).max() < 1.0
    assert samples.var(axis=0).sum() / others.var(axis=0, ddof=1).sum() == pytest.approx(1.0, abs=0.05)


def test_class_that_was_not_shown_is_refused() -> None:
    generator, _ = fitted(low_rank_images((20, 0)))
    with pytest.raises(ValueError, match="no image of class 1 was shown"):
        drawn(generator, np.array([0, 1]))


@pytest.mark.parametrize(("counts", "asked", "kept"), [((9, 5), 64, 12), ((90, 60), 4096, 64), ((1, 1), 8, 1)])
def test_components_are_clamped_to_the_data(counts: tuple[int, int], asked: int, kept: int) -> None:
    generator, _ = fitted(low_rank_images(counts), num_components=asked)
    assert generator._tensors["basis"].shape == (64, kept)
    assert drawn(generator, np.array([0, 1])).shape == (2, 8, 8, 1)


def test_temperature_zero_draws_the_class_means() -> None:
    shown = low_rank_images((30, 20))
    generator, _ = fitted(shown, temperature=0.0)
    means = [shown.of_class(c).pixels.mean(axis=0, dtype=np.float64).astype(np.float32) for c in (0, 1)]
    assert np.array_equal(drawn(generator, np.array([0, 1])), np.rint(np.stack(means)).astype(np.uint8))


def test_images_do_not_depend_on_how_many_are_drawn() -> None:
    generator, _ = fitted(toy_images((40, 30), size_px=32), num_components=24)
    labels = np.arange(300) % 2
    whole = drawn(generator, labels)
    assert np.array_equal(drawn(generator, labels[129:], first_seed=129), whole[129:])
    assert len(np.unique(whole.reshape(300, -1), axis=0)) == 300


def test_nothing_shown_is_refused() -> None:
    with pytest.raises(ValueError, match="no image was shown"):
        fitted(low_rank_images((0, 0)))
