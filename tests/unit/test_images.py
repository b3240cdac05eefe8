"""ImageSet, batches, seeds and search spaces: closed forms."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from medsynth_ray.images import ImageSet, batches, concat, from_unit_range, to_unit_range
from medsynth_ray.seeds import derive, image_seeds, rng
from medsynth_ray.space import Choice, IntRange, LogUniform, Uniform
from medsynth_ray.testing import toy_images


def test_arrays_are_read_only() -> None:
    images = toy_images()
    with pytest.raises(ValueError, match="read-only"):
        images.pixels[0, 0, 0, 0] = 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("pixels", np.zeros((3, 4, 4, 3), np.float32), "must be uint8"),
        ("pixels", np.zeros((3, 4, 4, 2), np.uint8), "must be uint8"),
        ("labels", np.zeros(2, np.int64), "3 images but"),
        ("labels", np.array([0, 1, 5]), "up to 5"),
    ],
)
def test_wrong_arrays_are_refused(field: str, value: np.ndarray, message: str) -> None:
    fields = {
        "pixels": np.zeros((3, 4, 4, 3), np.uint8), "labels": np.zeros(3, np.int64), "groups": np.array(["a"] * 3),
        "ids": np.array(["x", "y", "z"]), "class_names": ("one", "two"),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        ImageSet(**{**fields, field: value})  # type: ignore[arg-type]


def test_fingerprint_sees_every_part() -> None:
    images = toy_images()
    pixels = images.pixels.copy()
    pixels[0, 0, 0, 0] ^= 1
    changed = [
        ImageSet(pixels, images.labels, images.groups, images.ids, images.class_names),
        ImageSet(images.pixels, 1 - images.labels, images.groups, images.ids, images.class_names),
        ImageSet(images.pixels, images.labels, images.groups[::-1], images.ids, images.class_names),
        images.take(np.arange(len(images) - 1)),
    ]
    assert len({s.fingerprint for s in [images, *changed]}) == 5


def test_digests_travel_with_take_and_concat() -> None:
    images = toy_images()
    whole = images.digests
    part = images.take(np.array([3, 1]))
    assert part._digests is not None
    assert (part.digests == whole[[3, 1]]).all()
    fresh = ImageSet(part.pixels, part.labels, part.groups, part.ids, part.class_names)
    assert (fresh.digests == part.digests).all()
    assert (concat([part, part]).digests == np.concatenate([part.digests, part.digests])).all()


def test_concat_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="must agree"):
        concat([toy_images(), toy_images(size_px=8)])


def test_batches_shuffle_by_seed_and_epoch_and_cover_everything() -> None:
    images = toy_images((10, 7))
    seen = [np.concatenate([i for *_, i in batches(images, batch_size=4, seed=1, epoch=e)]) for e in (0, 0, 1)]
    assert (seen[0] == seen[1]).all()
    assert (seen[0] != seen[2]).any()
    assert sorted(seen[2]) == list(range(17))


def test_batches_deliver_normalised_nchw() -> None:
    images = toy_images((5, 5))
    x, labels, index = next(iter(batches(images, batch_size=3, seed=None)))
    assert x.shape == (3, 3, 16, 16)
    assert x.dtype == np.float32
    assert (labels == images.labels[:3]).all()
    assert np.allclose(x, images.pixels[index].transpose(0, 3, 1, 2) / 127.5 - 1, atol=1e-6)


def test_unit_range_round_trip_is_exact() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert (from_unit_range(to_unit_range(pixels)) == pixels).all()


def test_seeds_do_not_depend_on_the_process() -> None:
    here = derive(7, "train", 3)
    code = "from medsynth_ray.seeds import derive; print(derive(7, 'train', 3))"
    there = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "99", "PYTHONPATH": ":".join(sys.path)},
    )
    assert int(there.stdout) == here


def test_image_seeds_do_not_depend_on_how_many_are_drawn() -> None:
    few, many = image_seeds(1, 2, np.arange(3)), image_seeds(1, 2, np.arange(100))
    assert (few == many[:3]).all()
    assert len(set(many.tolist())) == 100


@pytest.mark.parametrize(
    ("space", "low", "high"),
    [
        (Uniform(low=-1, high=2), -1, 2), (LogUniform(low=1e-4, high=1e-1), 1e-4, 1e-1),
        (IntRange(low=3, high=9), 3, 9),
        (IntRange(low=1, high=64, log=True), 1, 64),
    ],
)  # fmt: skip
def test_spaces_stay_in_range_and_grids_reach_the_ends(space: Uniform, low: float, high: float) -> None:
    values = [space.sample(rng(i)) for i in range(300)]
    assert low <= min(values)
    assert max(values) <= high
    grid = space.grid(4)
    assert grid[0] == pytest.approx(low)
    assert grid[-1] == pytest.approx(high)


def test_choice_covers_its_values() -> None:
    assert {Choice(values=("a", "b", 3)).sample(rng(i)) for i in range(50)} == {"a", "b", 3}


@pytest.mark.parametrize(("low", "high", "message"), [(2, 1, "below high"), (0, 1, "needs low > 0")])
def test_wrong_intervals_are_refused(low: float, high: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogUniform(low=low, high=high)
