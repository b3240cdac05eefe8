"""Canaries in a sweep: who is shown them, who gives them back, and what becomes of images that look like one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsynth_ray.engine import canaries, fits, pools
from medsynth_ray.engine.bench import Bench
from medsynth_ray.engine.fits import Source
from medsynth_ray.protocols import Spec
from medsynth_ray.results import SweepResult
from tests.engine.coin import plug, sections
from tests.engine.inline import TINY_SPACE, config, run

QUALITY = {"num_images": 40, "space": TINY_SPACE, "checkpoint_images": 0}
ARMS = {"gaussian": None, "copy_real": {"sampler": "per_class"}}


def planted(store: Path, count: int, copies: int = 2) -> SweepResult:
    fit = {"quality": QUALITY, "metrics": ["kid"], "shard_images": 64, "canaries": {"count": count, "copies": copies}}
    mix = {"ratios": [0.5], "classifier": "coin", "repeats": 1}
    return run(config(store, **sections(generators=ARMS, fit=fit, mix=mix)))


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SweepResult]:
    """Six canaries, twice each, for a Gaussian and for a copier that is shown one class at a time."""
    with pytest.MonkeyPatch.context() as patched:
        plug(patched)
        yield planted(tmp_path_factory.mktemp("six"), 6)


def source(result: SweepResult, label: str) -> Source:
    arm = next(f["arm"] for f in result.plan.fits if f["label"] == label)
    return Source.of(arm, 0)


def parts(result: SweepResult, sampler: str, real: str) -> tuple[Any, ...]:
    return fits.shown_parts(result._bench, Spec(use=sampler), real)


@pytest.mark.parametrize(("sampler", "num_parts"), [("all_real", 1), ("per_class", 3)])
def test_every_part_holds_the_canaries_and_controls_do_not(six: SweepResult, sampler: str, num_parts: int) -> None:
    shown = parts(six, sampler, "showable")
    of_controls = parts(six, sampler, "train")
    counts = [sum("canary/" in str(i) for i in part.ids) for part in shown]
    assert counts == [6 * 2] * num_parts
    assert [len(part) - 12 for part in shown] == [len(part) for part in of_controls]
    assert not any("canary/" in str(i) for part in of_controls for i in part.ids)


def test_what_controls_are_made_of_holds_no_canary(six: SweepResult) -> None:
    (pool,) = [p["result"] for p in six.plan.pools if p["label"] == "real_oversampled"]
    record = six.record(f"kept/{pool['unit']}")
    sources = [s for key in record["inputs"]["shards"] for s in six.record(f"shard/{key}")["result"]["source_ids"]]
    assert set(sources) <= set(map(str, six.splits["train"].ids))
    assert pool["gates"] == {}


def test_a_copier_gives_them_back_and_is_rejected(six: SweepResult) -> None:
    row = next(g for g in six.generators() if g["label"] == "copy_real")
    assert row["status"] == "rejected"
    assert set(row["gates"]) == {"canaries_0", "canaries_1", "canaries_2"}
    assert all(gate["numbers"]["planted"] == 6 for gate in row["gates"].values())
    told = {label: gate["numbers"]["returned"] for label, gate in row["gates"].items()}
    for label, gate in row["gates"].items():
        assert f"{label}: {told[label]:.0f} of 6 planted canaries came back" in row["reason"]
        assert gate["numbers"]["best_score"] > 0.99
    assert "copy_real+add@0.5" not in {r["arm"] for r in six.plan.mix}


def test_a_gaussian_of_few_components_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six of them, twice each, among a hundred images are what every class consists of: here they are rare."""
    plug(monkeypatch)
    fit = {"quality": QUALITY, "metrics": ["kid"], "shard_images": 64, "canaries": {"count": 2}}
    data = {"adapter": "phantom", "resolution": 16, "size_px": 16, "num_images": 600}
    arms = {"gaussian": {"config": {"num_components": 2}}}
    result = run(config(tmp_path, **sections(data=data, generators=arms, fit=fit)))
    row = next(g for g in result.generators() if g["label"] == "gaussian")
    assert (row["status"], row["reason"]) == ("ok", "")
    gate = row["gates"]["canaries_0"]
    assert (gate["passed"], gate["numbers"]["planted"], gate["numbers"]["returned"]) == (True, 2.0, 0.0)
    assert result.verdict is not None
    assert any("canaries were planted" in caveat for caveat in result.verdict["caveats"])


def test_images_that_look_like_a_canary_are_dropped(six: SweepResult, tmp_path: Path) -> None:
    bench, copier = six._bench, source(six, "copy_real")
    records = fits.fit_parts(bench, copier, 1.0)
    pool = pools.draw(bench, copier, records, np.array([60, 60, 60]), tmp_path)
    judged = pools.judge(bench, copier, records, pool, tmp_path)
    marked = np.char.find(pool.source_ids.astype(str), "canary/") >= 0
    assert marked.any()
    assert not judged.keep[marked].any()
    assert judged.keep[~marked].mean() > 0.95
    assert judged.summary["kept"] == np.bincount(pool.images.labels[judged.keep], minlength=3).tolist()


@pytest.mark.parametrize(("count", "copies"), [(5, 2), (6, 1), (0, 1)])
def test_other_canaries_are_other_fits(
    six: SweepResult, monkeypatch: pytest.MonkeyPatch, count: int, copies: int
) -> None:
    plug(monkeypatch)
    before = {p.parent.name for p in Path(six.store.url).glob("fit/*/record.json")}
    fit = {"quality": QUALITY, "metrics": ["kid"], "canaries": {"count": count, "copies": copies}}
    changed = config(Path(six.store.url), **sections(fit=fit))
    assert changed.sweep_id != six.config.sweep_id
    records = fits.fit_parts(Bench(changed, six.store, six.splits), source(six, "gaussian"), 1.0)
    assert {r["key"] for r in records}.isdisjoint(before)
    assert sum(records[0]["result"]["counts"]) == len(six.splits["showable"]) + count * copies


def test_canaries_are_the_same_in_another_process_of_the_sweep(six: SweepResult) -> None:
    again = Bench(six.config, six.store, six.splits)
    (one,), (other,) = (fits.shown_parts(b, Spec(use="all_real"), "showable") for b in (again, six._bench))
    assert one.fingerprint == other.fingerprint
    ((_, marks),) = fits.marks(again, source(six, "gaussian"))
    assert canaries.matching(other, marks, 0.9).sum() == 12
    shown = [json.loads(p.read_text()) for p in Path(six.store.url).glob("shown/*/record.json")]
    assert {sum(map(sum, r["result"]["counts"])) for r in shown} == {len(six.splits["showable"])}
