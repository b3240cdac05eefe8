"""DCT augmentation: energies in closed form, the band, the mean, and each image on its own."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.fft import dctn

from medsynth_ray.generators.dct_augment import DctAugment
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Draw
from medsynth_ray.seeds import image_seeds
from medsynth_ray.testing import LocalRuntime, toy_images

SIDE_PX = 32


def textured(num: int = 4, *, channels: int = 3, deviation: float = 12.0) -> ImageSet:
    """White noise around 128: far from both ends, so that nothing is clipped; all frequencies are alike."""
    rng = np.random.default_rng(0)
    means = np.array([120.0, 128.0, 136.0])[:channels]
    pixels = np.rint(means + rng.normal(0.0, deviation, (num, SIDE_PX, SIDE_PX, channels))).astype(np.uint8)
    ids = np.array([f"texture/{i:02d}" for i in range(num)])
    return ImageSet(pixels, np.zeros(num, dtype=np.int64), ids, ids, ("texture",))


def drawn(sources: ImageSet, num: int, **settings: float | str) -> tuple[np.ndarray, np.ndarray]:
    """Disturbed images and their sources, both float."""
    generator = DctAugment(DctAugment.Config.model_validate(settings))
    draw = Draw(np.zeros(num, dtype=np.int64), np.arange(num), image_seeds(0, 0, np.arange(num)))
    shards = list(generator.sample(draw, sources=sources, runtime=LocalRuntime()))
    of = np.searchsorted(sources.ids, np.concatenate([s.source_ids for s in shards]))
    return np.concatenate([s.images for s in shards]).astype(float), sources.pixels[of].astype(float)


def spectra(images: np.ndarray) -> np.ndarray:
    return dctn(images, axes=(1, 2), norm="ortho")


@pytest.mark.parametrize("settings", [{"method": "zero", "zero_share": 0.0}, {"method": "noise", "noise_scale": 0.0}])
def test_amount_0_is_a_copy(settings: dict[str, float | str]) -> None:
    images, sources = drawn(toy_images((6,)), 6, **settings)
    assert np.array_equal(images, sources)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_method_1_takes_its_share_of_the_energy(share: float) -> None:
    images, sources = drawn(textured(), 40, method="zero", zero_share=share)
    # Parseval: the variance over pixels is the mean energy of the coefficients; rounding to whole levels adds 1/12.
    kept = (images.var(axis=(1, 2)) - 1 / 12).mean() / sources.var(axis=(1, 2)).mean()
    assert kept == pytest.approx(1.0 - share, abs=0.02)


def test_method_1_sets_that_share_of_coefficients_to_0() -> None:
    images, sources = drawn(textured(), 10, method="zero", zero_share=0.3)
    gone = np.abs(spectra(images)) < 0.25 * np.abs(spectra(sources))
    clear = np.abs(spectra(sources)) > 8.0
    assert gone[clear].mean() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0])
def test_method_2_adds_noise_in_proportion_to_each_channel(scale: float) -> None:
    sources = textured()
    pixels = sources.pixels.astype(float)
    pixels[..., 1] = 128.0 + (pixels[..., 1] - 128.0) * 0.5
    sources = ImageSet(np.rint(pixels).astype(np.uint8), sources.labels, sources.groups, sources.ids, ("texture",))
    images, of = drawn(sources, 40, method="noise", noise_scale=scale)
    added = np.sqrt(((images - of) ** 2).mean(axis=(0, 1, 2)) - 1 / 12)
    assert added == pytest.approx(scale * of.std(axis=(1, 2)).mean(axis=0), rel=0.05)


@pytest.mark.parametrize("method", ["zero", "noise"])
def test_the_mean_stays_when_all_else_goes(method: str) -> None:
    images, sources = drawn(textured(), 20, method=method, zero_share=1.0, noise_scale=1.0)
    assert images.mean(axis=(1, 2)) == pytest.approx(sources.mean(axis=(1, 2)), abs=0.51)


@pytest.mark.parametrize("method", ["zero", "noise"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.3), (0.3, 0.6), (0.5, 1.0)])
def test_outside_its_band_nothing_is_disturbed(method: str, start: float, end: float) -> None:
    settings = {"zero_share": 1.0, "noise_scale": 1.0, "band_start_share": start, "band_end_share": end}
    images, sources = drawn(textured(20), 20, method=method, **settings)
    moved = (spectra(images) - spectra(sources)).std(axis=(0, 3))
    down, across = np.mgrid[:SIDE_PX, :SIDE_PX] / (SIDE_PX - 1)
    frequency = np.hypot(down, across) / np.sqrt(2.0)
    inside = (frequency >= start) & ((frequency < end) | (end == 1.0))
    inside[0, 0] = False
    assert moved[~inside].max() < 1.0  # rounding to whole levels moves each by about 0.3
    assert moved[inside].min() > 4.0


def test_channels_are_disturbed_apart() -> None:
    gray = textured(channels=1)
    same = ImageSet(np.repeat(gray.pixels, 3, axis=3), gray.labels, gray.groups, gray.ids, gray.class_names)
    images, sources = drawn(same, 10, method="zero")
    error = (images - sources)[..., :2]
    assert np.ptp(sources, axis=3).max() == 0
    assert abs(np.corrcoef(error[..., 0].ravel(), error[..., 1].ravel())[0, 1]) < 0.6  # one half of both are gone alike
    assert not np.array_equal(images[..., 0], images[..., 1])


def test_what_leaves_the_range_is_clipped() -> None:
    checks = np.indices((SIDE_PX, SIDE_PX)).sum(axis=0) % 2 * np.uint8(255)
    ids = np.array(["checks"])
    sources = ImageSet(checks[None, ..., None].astype(np.uint8), np.zeros(1, np.int64), ids, ids, ("checks",))
    images, _ = drawn(sources, 5, method="noise", noise_scale=1.0)
    assert (images.min(), images.max()) == (0, 255)


@pytest.mark.parametrize("method", ["zero", "noise"])
def test_an_even_image_stays_even(method: str) -> None:
    ids = np.array(["even"])
    sources = ImageSet(np.full((1, 8, 8, 1), 77, np.uint8), np.zeros(1, np.int64), ids, ids, ("even",))
    images, _ = drawn(sources, 3, method=method)
    assert np.unique(images).tolist() == [77]


@pytest.mark.parametrize("method", ["zero", "noise"])
def test_an_image_is_the_same_to_the_bit_in_other_company(method: str) -> None:
    sources = toy_images((7,), size_px=20)
    many, _ = drawn(sources, 20, method=method)
    few, _ = drawn(sources, 3, method=method)
    assert np.array_equal(many[:3], few)


def test_the_space_follows_the_method() -> None:
    spaces = {m: sorted(DctAugment.Config(method=m).search_space()) for m in ("zero", "noise")}
    assert spaces == {"zero": ["band_start_share", "zero_share"], "noise": ["band_start_share", "noise_scale"]}


def test_an_empty_band_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"band_start_share must be below band_end_share, got 0.5 and 0.5"):
        DctAugment.Config(band_start_share=0.5, band_end_share=0.5)


def test_sources_are_required() -> None:
    draw = Draw(np.array([0]), np.array([0]), np.array([1], dtype=np.uint64))
    with pytest.raises(ValueError, match="dct_augment needs sources"):
        list(DctAugment(DctAugment.Config()).sample(draw, sources=None, runtime=LocalRuntime()))


def test_it_is_fast() -> None:
    shown = toy_images((50,), size_px=64)
    start = time.process_time()
    drawn(shown, 512)
    assert 512 / (time.process_time() - start) > 300  # about 2000 on one idle core
