"""ImageNet's answers on two photographs, folding, and bits that do not depend on the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from medsynth_ray.errors import Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.spaces.efficientnet_lite0 import EfficientnetLite0, fold_batch_norms, imagenet_network
from medsynth_ray.testing import LocalRuntime, toy_images

PALACE, BELL_COTE, DAISY = 698, 442, 985


@pytest.fixture(scope="module")
def space() -> EfficientnetLite0:
    return EfficientnetLite0(EfficientnetLite0.Config(resolution=64, batch_size=4))


def square(name: str) -> np.ndarray:
    photo = load_sample_image(name)
    left = (photo.shape[1] - photo.shape[0]) // 2
    return np.ascontiguousarray(photo[None, :, left : left + photo.shape[0]])


@pytest.mark.parametrize(("name", "expected"), [("china.jpg", {PALACE, BELL_COTE}), ("flower.jpg", {DAISY})])
def test_the_mapped_weights_know_imagenet(name: str, expected: set[int]) -> None:
    inputs = EfficientnetLite0(EfficientnetLite0.Config(resolution=224)).prepare(square(name))
    with torch.inference_mode():
        top = imagenet_network()(inputs)[0].topk(len(expected)).indices.tolist()
    assert set(top) == expected


def test_folding_batch_norms_changes_only_rounding() -> None:
    network = imagenet_network()
    x_NCHW = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        plain = network(x_NCHW)
        folded = fold_batch_norms(network)(x_NCHW)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    assert (plain - folded).abs().max() < 1e-4 * plain.abs().max()


def test_a_row_has_the_same_bits_alone_and_in_a_batch(space: EfficientnetLite0) -> None:
    images, runtime = toy_images((4, 3), size_px=32), LocalRuntime()
    together = space.embed(images, runtime=runtime)
    singles = [space.embed(images.take([i]), runtime=runtime) for i in range(len(images))]
    assert together.shape == (7, 1280)
    np.testing.assert_array_equal(together, np.concatenate(singles))


def test_gray_is_three_equal_channels(space: EfficientnetLite0) -> None:
    gray = toy_images((3,), size_px=32, channels=1)
    rgb = ImageSet(np.repeat(gray.pixels, 3, axis=3), gray.labels, gray.groups, gray.ids, gray.class_names)
    np.testing.assert_array_equal(space.embed(gray, runtime=LocalRuntime()), space.embed(rgb, runtime=LocalRuntime()))


def test_threads_and_random_state_are_given_back(space: EfficientnetLite0) -> None:
    torch.set_num_threads(1)
    runtime = LocalRuntime()
    runtime.num_threads = 2
    before = torch.get_rng_state()
    EfficientnetLite0(EfficientnetLite0.Config.tiny()).embed(toy_images((1,)), runtime=runtime)
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.get_rng_state(), before)


def test_it_stops_and_tells_how_far_it_is(space: EfficientnetLite0) -> None:
    runtime = LocalRuntime(stop_after=1)
    with pytest.raises(Stopped, match="after 4 of 7 images"):
        space.embed(toy_images((4, 3)), runtime=runtime)
    assert runtime.progress_seen == [(4, 7, "images embedded")]
