"""Curves whose inverse is known; scipy's least squares as oracle; what cannot be read off is said to be so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from medsynth_ray.stats.learning_curve import CurvePoint, Equivalent, equivalent_real_images

SIZES = (90, 225, 450, 900)


def curve(score, *, sizes=SIZES, repeats=5, sd=0.0, seed=0) -> list[CurvePoint]:
    rng = np.random.default_rng(seed)
    return [CurvePoint(n, tuple(float(x) for x in score(n) + rng.normal(0, sd, repeats))) for n in sizes]


def root(n):
    """Levels off at 0.9, which is 0.05 above its score at 900 images."""
    return 0.9 - 1.5 * n**-0.5


def read(points, gain, low=None, high=None, **change) -> Equivalent:
    low, high = (gain if end is None else end for end in (low, high))
    return equivalent_real_images(points, gain, low, high, **{"num_train": 900, "seed": 0, **change})


@pytest.mark.parametrize("gain", [-0.1, -0.02, 0.0, 0.01, 0.02])
def test_a_power_law_is_inverted(gain):
    # 0.05 - gain = 1.5 n^-0.5.
    exact = (1.5 / (0.05 - gain)) ** 2 - 900
    found = read(curve(root), gain)
    assert (found.images, found.low, found.high) == (pytest.approx(exact, abs=1),) * 3


@pytest.mark.parametrize("gain", [-0.02, 0.01, 0.03])
def test_a_logarithm_is_inverted(gain):
    found = read(curve(lambda n: 0.7 + 0.02 * np.log(n)), gain)
    assert found.images == pytest.approx(900 * np.expm1(gain / 0.02), abs=1)


def test_the_fit_is_the_least_squares_fit_of_scipy():
    points = curve(root, sizes=(60, 120, 225, 450, 900), sd=0.01, seed=4)
    means = [np.mean(p.scores) for p in points]
    a, b, c = curve_fit(lambda n, a, b, c: a - b * n**-c, [p.num_images for p in points], means, p0=(0.9, 1.5, 0.5))[0]
    exact = (900.0**-c - 0.01 / b) ** (-1 / c) - 900
    assert a > means[-1]
    assert read(points, 0.01).images == pytest.approx(exact, rel=0.01)


def test_a_gain_and_its_interval_in_words():
    found = read(curve(root), 0.01, 0.002, 0.018)
    assert found.extrapolated
    assert found.sentence == (
        "A gain of +0.010 [+0.002, +0.018] is what 506 more real images than the 900 would bring (95 %: +77 to +1,297)"
        "; an extrapolation, measured were 90 to 900 images."
    )


def test_a_loss_is_told_in_images_lost():
    found = read(curve(root), -0.02, -0.04, 0.0)
    assert (found.images, found.low, found.high, found.extrapolated) == (-441, -622, 0, False)
    assert found.sentence == (
        "A loss of -0.020 [-0.040, +0.000] is what 441 of the 900 real images fewer would cost (95 %: -622 to +0)."
    )


@pytest.mark.parametrize(("gain", "extrapolated"), [(-0.11, True), (-0.10, False), (0.0, False), (0.01, True)])
def test_extrapolation_is_outside_the_sizes_measured(gain, extrapolated):
    found = read(curve(root), gain)
    assert found.extrapolated == extrapolated
    assert ("an extrapolation, measured were 90 to 900 images" in found.sentence) == extrapolated


def test_a_curve_beyond_the_training_set_is_no_extrapolation():
    found = read(curve(root), 0.01, num_train=450)
    exact = (1.5 / (0.05 * 2**0.5 - 0.01)) ** 2 - 450
    assert (found.extrapolated, found.images) == (False, pytest.approx(exact, abs=1))


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (0.03, "is what more than 4 times the 900 real images would bring on top of them (95 %: more than 4 times as"),
        (0.06, "is more than any number of real images would bring: the curve levels off +0.050 higher; an extrapolat"),
    ],
)
def test_what_lies_too_far_is_no_number(gain, said):
    found = read(curve(root), gain)
    assert (found.images, found.low, found.high, found.extrapolated) == (None, None, None, True)
    assert said in found.sentence


@pytest.mark.parametrize("score", [lambda n: 0.8, lambda n: 0.9 - 1e-5 * n], ids=["flat", "falling"])
@pytest.mark.parametrize("gain", [-0.01, 0.01])
def test_a_flat_curve_tells_nothing(score, gain):
    found = read(curve(score), gain)
    assert (found.images, found.extrapolated) == (None, False)
    assert found.sentence.endswith("cannot be told in real images: the real-only learning curve is flat.")


@pytest.mark.parametrize(("sizes", "num"), [((90, 900), 2), ((900, 900, 900), 1), ((), 0)])
def test_two_sizes_are_no_curve(sizes, num):
    found = read(curve(root, sizes=sizes), 0.01, 0.0, 0.02)
    assert found.to_json() == {
        "images": None,
        "low": None,
        "high": None,
        "extrapolated": False,
        "sentence": "A gain of +0.010 [+0.000, +0.020] cannot be told in real images: the learning curve has "
        f"{num} of the 3 sizes it takes.",
    }


def test_noise_of_the_curve_widens_the_interval():
    quiet, noisy = (read(curve(root, sd=sd, seed=1), 0.005) for sd in (0.001, 0.005))
    assert quiet.low <= quiet.images <= quiet.high
    assert noisy.high - noisy.low > 2 * (quiet.high - quiet.low) > 0


def test_the_interval_covers_the_truth():
    exact = (1.5 / (0.05 + 0.01)) ** 2 - 900
    found = [read(curve(root, sd=0.01, repeats=8, seed=s), -0.01, num_resamples=100) for s in range(60)]
    assert np.mean([f.low <= exact <= f.high for f in found]) >= 0.8


def test_a_function_of_its_seed():
    points = curve(root, sd=0.01)
    assert read(points, 0.005) == read(points, 0.005)
    assert read(points, 0.005) != read(points, 0.005, seed=1)


@pytest.mark.parametrize(
    ("points", "change", "message"),
    [
        ([*curve(root), CurvePoint(0, (0.5,))], {}, r"at least 1 image, got \[90, 225, 450, 900, 0\] and 900 of"),
        (curve(root), {"num_train": 0}, "and 0 of the training set"),
        ([*curve(root), CurvePoint(30, ())], {}, "finite scores"),
        ([*curve(root), CurvePoint(30, (float("nan"),))], {}, "finite scores"),
        (curve(root), {"low": 0.02}, r"got 0.01 and \[0.02, 0.01\]"),
        (curve(root), {"high": float("inf")}, "need a finite gain"),
    ],
)
def test_refuses(points, change, message):
    with pytest.raises(ValueError, match=message):
        read(points, 0.01, **change)
