from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medsynth_ray.data.adapters.phantom import Phantom, draw, paint
from medsynth_ray.data.dataset import prepare
from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import Spec
from medsynth_ray.registry import configure
from medsynth_ray.sections import DataConfig, SplitConfig

SMALL = Phantom.Config(size_px=32)


def test_records_are_pairs_of_eyes_with_their_seed_as_stamp() -> None:
    adapter = Phantom.Config(num_images=12).build()
    records = adapter.scan()
    assert len({r.stamp for r in records}) == 12
    assert [r.group for r in records[:4]] == ["drusen-000000", "drusen-000000", "drusen-000001", "drusen-000001"]
    assert records[0].meta == {"side": "left"}
    assert adapter.read(records[0]).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({"num_images": 600}, (200, 200, 200)),
        ({"num_images": 100, "num_classes": 4}, (25, 25, 25, 25)),
        ({"num_images": 420, "imbalance": 4.0}, (60, 120, 240)),
        ({"num_classes": 2, "counts": (7, 0)}, (7, 0)),
    ],
)
def test_counts_follow_the_imbalance(settings: dict, counts: tuple[int, ...]) -> None:
    config = Phantom.Config(**settings)
    assert config.class_counts() == counts
    records = config.build().scan()
    assert tuple(sum(r.label == name for r in records) for name in config.class_names) == counts


def test_an_image_depends_on_its_own_row_alone() -> None:
    whole = draw([5, 4, 3], config=SMALL, seed=1)
    fewer = draw([2, 2, 2], config=SMALL, seed=1)
    assert (fewer.of_class(2).pixels == whole.of_class(2).pixels[:2]).all()
    records = SMALL.build().scan()[:40]
    stamps = np.array([[int(x) for x in r.stamp.split("-")] for r in records])
    together = paint(np.zeros(40, int), stamps[:, 0], stamps[:, 1], config=SMALL)
    assert (together[33] == SMALL.build().read(records[33])).all()


def test_another_seed_is_another_cohort_and_draws_are_not_the_data() -> None:
    images = [draw([4, 4, 4], config=SMALL, seed=seed) for seed in (0, 1)]
    data = np.stack([SMALL.build().read(r) for r in SMALL.build().scan()])
    seen = [set(map(bytes, s.pixels)) for s in images] + [set(map(bytes, data))]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 12 + 12 + 600


def test_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from medsynth_ray.data.adapters.phantom import Phantom, draw;"
        "print(hashlib.sha256(draw([3, 3, 3], config=Phantom.Config(size_px=32), seed=5).pixels.tobytes()).hexdigest())"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout.strip() == hashlib.sha256(draw([3, 3, 3], config=SMALL, seed=5).pixels.tobytes()).hexdigest()


def test_eyes_of_a_person_are_more_alike_than_strangers() -> None:
    images = draw([0, 0, 80], config=SMALL, seed=2)
    colour = images.pixels.reshape(80, -1, 3).mean(axis=1)
    pairs = np.abs(colour[0::2] - colour[1::2]).mean()
    strangers = np.abs(colour[0::2] - np.roll(colour[1::2], 1, axis=0)).mean()
    assert pairs < 0.6 * strangers


def test_two_sizes_show_the_same_scene() -> None:
    small, large = (draw([2, 2, 2], config=Phantom.Config(size_px=s), seed=3).pixels.astype(float) for s in (32, 64))
    halved = large.reshape(6, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert np.abs(small - halved).mean() < 8


def lesion_signal(difficulty: float) -> float:
    """Mean absolute change that the lesions make: drusen and healthy eyes of the same seeds differ in nothing else."""
    config = Phantom.Config(size_px=32, difficulty=difficulty)
    persons, sides = np.arange(40), np.zeros(40, int)
    healthy, drusen = (paint(np.full(40, c), persons, sides, config=config).astype(float) for c in (2, 0))
    return float(np.abs(drusen - healthy).mean())


def test_difficulty_takes_the_lesions_away() -> None:
    signals = [lesion_signal(d) for d in (0.0, 0.5, 1.0)]
    assert signals[0] > 2 * signals[1] > 8 * signals[2] > 0


def spot_features(pixels: np.ndarray) -> np.ndarray:
    """Percentiles of two spot filters (differences of Gaussians) in each colour: float32 (N, 48)."""
    x = pixels.astype(np.float32)
    spots = [gaussian_filter(x, (0, a, a, 0)) - gaussian_filter(x, (0, 2 * a, 2 * a, 0)) for a in (1.0, 1.5)]
    levels = [0.5, 1, 2, 5, 95, 98, 99, 99.5]
    tails = [np.percentile(s[:, 10:-10, 10:-10], levels, axis=(1, 2)) for s in spots]
    return np.concatenate([t.transpose(1, 0, 2).reshape(len(x), -1) for t in tails], axis=1)


@pytest.mark.parametrize(("difficulty", "low", "high"), [(0.0, 0.95, 1.0), (0.5, 0.70, 0.90), (1.0, 0.23, 0.43)])
def test_a_linear_probe_solves_easy_fails_hard_and_is_in_between_by_default(
    difficulty: float, low: float, high: float
) -> None:
    config = Phantom.Config(difficulty=difficulty)
    train, test = (draw([100] * 3, config=config, seed=seed) for seed in (1, 2))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    model.fit(spot_features(train.pixels), train.labels)
    accuracy = balanced_accuracy_score(test.labels, model.predict(spot_features(test.pixels)))
    assert low <= accuracy <= high


def test_the_phantom_goes_through_prepare() -> None:
    data = prepare(DataConfig(adapter="phantom", resolution=32, num_images=120, size_px=64), SplitConfig())
    assert data.images.image_shape == (32, 32, 3)
    assert data.counts() == {"train": [20, 20, 20], "val": [8, 8, 8], "test": [12, 12, 12]}
    assert data.findings == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"counts": [1, 2]}, "counts must hold num_classes = 3 numbers, got [1, 2]"),
        ({"num_classes": 5}, "less than or equal to 4"),
        ({"dificulty": 1}, "did you mean 'difficulty'?"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure("data", Spec(use="phantom", config=settings))
    assert message in str(caught.value)


def test_draw_refuses_counts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"one number >= 0 for each of drusen, haemorrhages, healthy, got \[1, 2\]"):
        draw([1, 2], config=SMALL, seed=0)
