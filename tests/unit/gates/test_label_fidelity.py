"""LabelFidelity: a radiologist's 4 of 31 is a rejection, a class that nobody recognises is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medsynth_ray.gates.label_fidelity import LabelFidelity
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Baseline, GateResult, Pool
from medsynth_ray.testing import LocalRuntime

NAMES = ("normal", "pneumoconiosis", "other")


class Reads:
    """Sees the class that the first pixel says."""

    def predict(self, images: ImageSet, *, runtime: LocalRuntime) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[images.pixels[:, 0, 0, 0]]


def images_of(*classes: tuple[int, int, int], groups: np.ndarray | None = None) -> ImageSet:
    """For each (label, number, number that is recognised) plain images; others are seen as the next class."""
    labels = np.concatenate([np.full(num, label) for label, num, _ in classes]).astype(np.int64)
    seen = np.concatenate([np.where(np.arange(num) < hits, c, (c + 1) % 3) for c, num, hits in classes])
    pixels = np.broadcast_to(seen.astype(np.uint8)[:, None, None, None], (len(seen), 4, 4, 1)).copy()
    ids = np.array([f"image/{i}" for i in range(len(seen))])
    return ImageSet(pixels, labels, ids if groups is None else groups, ids, NAMES)


def judged(images: ImageSet, unseen: ImageSet, **settings: float) -> GateResult:
    num = len(images)
    pool = Pool(images, np.arange(num, dtype=np.uint64), np.full(num, ""), ("a",))
    gate = LabelFidelity(LabelFidelity.Config.model_validate(settings))
    runtime = LocalRuntime(baseline=Reads())  # type: ignore[arg-type]
    return gate.judge(pool, shown=unseen, unseen=unseen, seed=0, runtime=runtime)


def test_the_radiologist_of_paper_001_rejects() -> None:
    result = judged(images_of((1, 31, 4)), images_of((1, 50, 45)))
    assert not result.passed
    assert result.keep.all()
    assert result.numbers["agreement_pneumoconiosis"] == pytest.approx(4 / 31)
    assert result.numbers["agreement_low_pneumoconiosis"] == pytest.approx(0.051, abs=5e-4)
    assert result.numbers["agreement_high_pneumoconiosis"] == pytest.approx(0.289, abs=5e-4)
    assert result.numbers["unseen_recall_pneumoconiosis"] == 0.9
    assert result.reason == (
        "label of pneumoconiosis: the real-only classifier sees it in 4 of 31 synthetic images (upper bound 28.9%), in "
        "45 of 50 unseen real ones (lower bound 78.6%; limit 39.3%)"
    )


@pytest.mark.parametrize(
    ("recalled", "num_real", "agreed", "ratio", "passed"),
    [
        (3, 10, 4, 0.5, True),  # hardly known on real images: says nothing
        (0, 40, 0, 1.0, True),
        (45, 50, 16, 0.5, True),
        (45, 50, 4, 0.2, True),
        (45, 50, 9, 1.0, False),
        (50, 50, 31, 1.0, True),
        (3, 3, 0, 0.5, False),
    ],
)
def test_agreement_is_judged_against_real_recall(
    recalled: int, num_real: int, agreed: int, ratio: float, passed: bool
) -> None:
    result = judged(images_of((1, 31, agreed)), images_of((1, num_real, recalled)), min_agreement_ratio=ratio)
    assert result.passed is passed
    bounds = [stats.binomtest(k, n).proportion_ci(method="wilson") for k, n in ((agreed, 31), (recalled, num_real))]
    assert passed is bool(bounds[0].high >= ratio * bounds[1].low)


def test_every_class_is_judged_for_itself() -> None:
    result = judged(images_of((0, 900, 900), (1, 31, 4), (2, 31, 0)), images_of((0, 60, 60), (1, 60, 60), (2, 60, 60)))
    assert result.numbers["agreement"] == pytest.approx(904 / 962)
    assert [part[: part.index(":")] for part in result.reason.split("; label")] == [
        "label of pneumoconiosis",
        " of other",
    ]


def test_a_class_without_unseen_images_is_not_judged() -> None:
    result = judged(images_of((0, 30, 30), (1, 30, 0)), images_of((0, 30, 30)))
    assert result.passed
    assert "unseen_recall_pneumoconiosis" not in result.numbers
    assert result.numbers["agreement_pneumoconiosis"] == 0.0
    assert not any("other" in name for name in result.numbers)


def test_drop_keeps_what_the_classifier_sees() -> None:
    result = judged(images_of((0, 6, 4), (1, 5, 5)), images_of((0, 9, 9), (1, 9, 9)), drop=True)
    assert result.keep.tolist() == [True] * 4 + [False] * 2 + [True] * 5
    assert result.passed


def test_recall_counts_one_image_of_a_group() -> None:
    groups = np.array([f"patient-{i % 3}" for i in range(30)])
    result = judged(images_of((1, 31, 31)), images_of((1, 30, 30), groups=groups))
    expected = stats.binomtest(3, 3).proportion_ci(method="wilson").low
    assert result.numbers["unseen_recall_low_pneumoconiosis"] == pytest.approx(expected)


def test_it_needs_the_baseline_and_a_pool() -> None:
    assert LabelFidelity.Config().needs() == (Baseline(),)
    with pytest.raises(ValueError, match="label_fidelity: the pool is empty"):
        judged(images_of((0, 3, 3)).take([]), images_of((0, 3, 3)))
