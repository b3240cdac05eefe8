"""What readers said becomes a decision about the pool that they saw, and about no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from medsynth_ray.contracts._runs import toy_pool
from medsynth_ray.engine.identity import component_identity
from medsynth_ray.gates.reader_fidelity import ReaderFidelity
from medsynth_ray.protocols import Files, GateResult, Pool, Spec
from medsynth_ray.readers import scored
from medsynth_ray.stats.intervals import wilson
from medsynth_ray.testing import LocalRuntime, toy_images
from tests import reading

REAL = toy_images((2, 2))
POOL = toy_pool((40, 40))


def results(
    right: tuple[int, int], *, shown: int = 20, auc: dict[str, float] | None = None, **change: Any
) -> dict[str, Any]:
    """Readings of the first `shown` images of each class by one reader, `right[c]` of them as their class."""
    rows = []
    for label, name in enumerate(POOL.images.class_names):
        own = np.flatnonzero(POOL.images.labels == label)[:shown]
        rows += [
            {
                "id": str(POOL.images.ids[row]), "digest": bytes(POOL.images.digests[row]).hex(), "class": name,
                "read": 1, "right": int(place < right[label]),
            }
            for place, row in enumerate(own)
        ]  # fmt: skip
    said = {"format": "medsynth-readers/1", "sweep": "toy", "arm": "gaussian", "auc": auc, "pool_images": rows}
    return {**said, **change}


def judged(tmp_path: Path, content: Any, pool: Pool = POOL, **settings: Any) -> GateResult:
    path = tmp_path / "readers.json"
    path.write_text(json.dumps(content))
    config = ReaderFidelity.Config.model_validate({"results": str(path), **settings})
    gate = ReaderFidelity(config)
    return gate.judge(pool, shown=REAL, unseen=REAL, seed=0, runtime=LocalRuntime())


def test_unread_images_pass_and_the_numbers_say_so() -> None:
    gate = ReaderFidelity(ReaderFidelity.Config())
    result = gate.judge(POOL, shown=REAL, unseen=REAL, seed=0, runtime=LocalRuntime())
    assert (result.passed, result.reason, result.numbers) == (True, "", {"read": 0.0})
    assert result.keep.all()
    assert ReaderFidelity.Config().needs() == ()


@pytest.mark.parametrize(("right", "settings", "reason"), [
    ((20, 20), {}, ""),
    ((6, 20), {}, ""),
    ((5, 20), {}, "class_0: readers recognise 25.0% of 20 images, at most 46.9%, min_fidelity is 50.0%"),
    ((5, 20), {"min_fidelity": 0.4}, ""),
    ((5, 20), {"min_fidelity": {"class_1": 0.9}}, ""),
    ((20, 14), {"min_fidelity": {"class_1": 0.9}}, "class_1: readers recognise 70.0% of 20 images, at most 85.5%, "
     "min_fidelity is 90.0%"),
])  # fmt: skip
def test_a_class_that_readers_do_not_recognise_rejects_the_pool(
    tmp_path: Path, right: tuple[int, int], settings: dict[str, Any], reason: str
) -> None:
    result = judged(tmp_path, results(right), **settings)
    assert (result.passed, result.reason) == (not reason, reason)
    assert result.keep.all()
    assert result.numbers["read"] == 40.0
    assert result.numbers["fidelity/class_0"] == right[0] / 20
    assert result.numbers["fidelity_high/class_0"] == pytest.approx(wilson(right[0] / 20, 20)[1])


def test_the_study_of_the_paper_is_rejected(tmp_path: Path) -> None:
    result = judged(tmp_path, results((4, 31), shown=31))
    assert not result.passed
    assert "class_0: readers recognise 12.9% of 31 images, at most 28.9%" in result.reason


@pytest.mark.parametrize(("low", "passed"), [(0.75, True), (0.85, False)])
def test_readers_who_tell_too_well_reject_the_pool(tmp_path: Path, low: float, passed: bool) -> None:
    content = results((20, 20), auc={"value": 0.9, "low": low, "high": 0.99})
    result = judged(tmp_path, content, max_auc=0.8)
    assert result.passed is passed
    assert ("mean AUC 0.900, at least 0.850, max_auc is 0.8" in result.reason) is not passed
    assert judged(tmp_path, content).passed


def test_a_smaller_pool_is_judged_by_the_images_that_it_holds(tmp_path: Path) -> None:
    half = POOL.first_per_class(np.array([10, 10]))
    result = judged(tmp_path, results((0, 20)), half)
    assert not result.passed
    assert (result.numbers["num_found"], result.numbers["fidelity/class_0"]) == (20.0, 0.0)


@pytest.mark.parametrize("pool", [
    toy_pool((40, 40), seed=9), Pool(POOL.images, POOL.seeds, POOL.source_ids, POOL.fitted_on).take(np.array([39, 79])),
], ids=["other pixels", "none of the images"])  # fmt: skip
@pytest.mark.parametrize("other_pool", ["reject", "pass"])
def test_another_pool_is_rejected_or_not_judged(tmp_path: Path, pool: Pool, other_pool: str) -> None:
    result = judged(tmp_path, results((0, 0)), pool, other_pool=other_pool)
    assert result.passed is (other_pool == "pass")
    assert result.numbers == {"read": 0.0, "num_found": 0.0}
    assert ("readers saw another pool (toy, gaussian)" in result.reason) is (other_pool == "reject")


def test_one_image_with_other_pixels_makes_another_pool(tmp_path: Path) -> None:
    content = results((20, 20))
    content["pool_images"][3]["digest"] = "0" * 32
    assert not judged(tmp_path, content).passed


@pytest.mark.parametrize(("content", "settings", "says"), [
    ({"format": "other"}, {}, "is not what `medsynth readers score` writes: format"),
    (results((1, 1), pool_images=[{"id": "x"}]), {}, r"pool_images\.0\.digest: Field required"),
    (results((1, 1)), {"min_fidelity": {"ill": 0.5}}, r"no class 'ill' \(classes: class_0, class_1\)"),
])  # fmt: skip
def test_results_of_another_kind_are_refused(tmp_path: Path, content: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        judged(tmp_path, content, **settings)


def test_results_that_are_not_there_are_refused(tmp_path: Path) -> None:
    gate = ReaderFidelity(ReaderFidelity.Config(results=str(tmp_path / "none.json")))
    with pytest.raises(ValueError, match="none.json' cannot be read"):
        gate.judge(POOL, shown=REAL, unseen=REAL, seed=0, runtime=LocalRuntime())


@pytest.mark.parametrize("share", [-0.1, 1.5, {"class_0": 2}])
def test_shares_outside_0_1_are_refused(share: Any) -> None:
    with pytest.raises(ValidationError, match=r"shares must lie in \[0, 1\]"):
        ReaderFidelity.Config(min_fidelity=share)


def test_the_content_of_the_results_is_part_of_the_key_and_their_place_is_not(tmp_path: Path) -> None:
    identities = []
    for name, right in (("a", 4), ("b", 4), ("c", 5)):
        path = tmp_path / name
        path.write_text(json.dumps(results((right, 20))))
        spec = Spec(use="reader_fidelity", config={"results": str(path)})
        identities.append(component_identity("gates", spec, baseline=Spec(use="majority")))
        assert ReaderFidelity.Config(results=str(path)).needs() == (Files(str(path)),)
    assert identities[0] == identities[1] != identities[2]


def test_what_score_writes_is_what_the_gate_reads(tmp_path: Path) -> None:
    key = reading.study()
    said = scored(key, {r: reading.answers(key, r)["answers"] for r in (1, 2)})
    result = judged(tmp_path, said, toy_pool((12, 8)), max_auc=0.9)
    assert result.numbers["num_found"] == 20.0
    assert result.numbers["read"] == 40.0
    assert not result.passed
    assert result.reason.startswith("readers tell synthetic from real: mean AUC 1.000")
