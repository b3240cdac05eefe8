"""What NearCopy says of shown and unseen images is computed once in a process, and is the same as if it were not."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.gates import near_copy
from medsynth_ray.gates._alterations import alter
from medsynth_ray.gates.near_copy import NearCopy
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import GateResult, Pool, Spec
from medsynth_ray.testing import LocalRuntime

PROJECTION = np.random.default_rng(12).normal(size=(256, 8))


class Projected(LocalRuntime):
    """Features by a fixed projection; `scale` makes it another space of the same name."""

    scale = 1.0

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        flat = images.pixels.reshape(len(images), -1).astype(np.float64) - 128.0
        return np.tanh(self.scale * flat @ PROJECTION / 400.0).astype(np.float32)


def noise(num: int, seed: int, prefix: str) -> ImageSet:
    pixels = np.random.default_rng(seed).integers(0, 255, (num, 16, 16, 1), dtype=np.uint8)
    ids = np.array([f"{prefix}/{i}" for i in range(num)])
    return ImageSet(pixels, np.zeros(num, dtype=np.int64), ids, ids, ("only",))


SHOWN, UNSEEN, DRAWN = noise(40, 1, "shown"), noise(30, 2, "unseen"), noise(25, 3, "drawn")


def judged(drawn: ImageSet = DRAWN, seed: int = 0, scale: float = 1.0, **settings: object) -> GateResult:
    gate = NearCopy(NearCopy.Config.model_validate({"space": "projected", "num_altered": 3, **settings}))
    pool = Pool(drawn, np.arange(len(drawn), dtype=np.uint64), np.full(len(drawn), ""), ("a",))
    runtime = Projected()
    runtime.scale = scale
    return gate.judge(pool, shown=SHOWN, unseen=UNSEEN, seed=seed, runtime=runtime)


@pytest.fixture
def altered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every alteration that is made from now on; nothing is remembered at the beginning."""
    made: list[str] = []

    def counted(images: ImageSet, name: near_copy.Alteration, *, seed: int) -> ImageSet:
        made.append(name)
        return alter(images, name, seed=seed)

    monkeypatch.setattr(near_copy, "alter", counted)
    monkeypatch.setattr(near_copy, "_YARDSTICKS", type(near_copy._YARDSTICKS)())
    return made


def same(first: GateResult, second: GateResult) -> bool:
    return (
        np.array_equal(first.keep, second.keep)
        and first.numbers == second.numbers
        and first.flagged == second.flagged
        and (first.passed, first.reason) == (second.passed, second.reason)
    )


def test_a_second_judgement_alters_nothing_and_says_the_same(altered: list[str]) -> None:
    cold = judged()
    num = len(altered)
    assert num > 0
    warm, other = judged(), judged(noise(12, 9, "other"))
    assert len(altered) == num
    assert same(cold, warm)
    near_copy._YARDSTICKS.clear()
    assert same(other, judged(noise(12, 9, "other")))


@pytest.mark.parametrize("change", [{"seed": 1}, {"num_altered": 4}, {"tail_share": 0.05}])
def test_another_seed_or_setting_is_another_yardstick(altered: list[str], change: dict[str, object]) -> None:
    judged()
    warm = judged(**change)  # type: ignore[arg-type]
    near_copy._YARDSTICKS.clear()
    assert same(warm, judged(**change))  # type: ignore[arg-type]


def test_a_space_of_the_same_name_with_other_features_is_another(altered: list[str]) -> None:
    """The features of the sweep's own classifier depend on its training images."""
    judged()
    warm = judged(scale=20.0)
    near_copy._YARDSTICKS.clear()
    assert same(warm, judged(scale=20.0))


def test_only_the_last_yardsticks_are_kept(altered: list[str]) -> None:
    for seed in range(12):
        judged(seed=seed)
    assert len(near_copy._YARDSTICKS) == near_copy._NUM_YARDSTICKS
    num = len(altered)
    judged(seed=11)
    assert len(altered) == num
    judged(seed=0)
    assert len(altered) > num
