"""The mode as_published, spaces beside the quality space, samplers' reports, and the names that MLflow gets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape
from mlflow.utils.validation import _validate_metric_name, validate_param_and_metric_name

from medsynth_ray.driver import Sweep
from medsynth_ray.engine import tune
from medsynth_ray.report.page import render
from medsynth_ray.result_view import Gatherer
from medsynth_ray.results import SweepResult
from medsynth_ray.stats.primary import Primary
from medsynth_ray.stats.scores import scores
from tests.engine.coin import plug, sections
from tests.engine.inline import TINY_SPACE, config, run
from tests.engine.without_ray import WithoutRay

QUALITY = {"num_images": 40, "space": TINY_SPACE}
PROBE = {"use": "probe", "config": {"space": TINY_SPACE, "max_train_steps": 10, "train_batch_size": 32}}
GATES = {
    "dedupe": None,
    "near_copy": {"config": {"space": TINY_SPACE, "num_altered": 4}},
    "min_quality": {"config": {"space": TINY_SPACE}},
    "label_fidelity": None,
    "membership": None,
}


@pytest.fixture
def coin(monkeypatch: pytest.MonkeyPatch) -> WithoutRay:
    plug(monkeypatch)
    here = WithoutRay()
    monkeypatch.setattr(tune, "run", here.run)
    return here


# --- as published


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SweepResult, WithoutRay]]:
    """A copier and a Gaussian at two ratios, with gates and a pilot that must not matter."""
    arms = {"gaussian": None, "copy_real": {"gates": {"near_copy": GATES["near_copy"]}}}
    with pytest.MonkeyPatch.context() as patched:
        plug(patched)
        here = WithoutRay()
        patched.setattr(tune, "run", here.run)
        own = sections(
            mode="as_published", generators=arms, gates=GATES, verdict={"effect": 0.001, "pilot_repeats": 3},
            mix={"ratios": [0.25, 0.5], "classifier": "majority", "repeats": 2},
        )  # fmt: skip
        sweep = Sweep(config(tmp_path_factory.mktemp("published"), **own))
        planned = sweep.estimate()
        result = sweep.run()
        assert sum(planned.trials.values()) == len([n for n in here.started if not n.startswith("embed")])
        yield result, here


def test_every_arm_is_run_once_on_the_test_images(published: tuple[SweepResult, WithoutRay]) -> None:
    result, here = published
    arms = {f"{g}+add@{r}" for g in ("gaussian", "copy_real") for r in (0.25, 0.5)}
    assert {row["arm"] for row in result.plan.confirm} == arms | {"real_only"}
    assert {tuple(row["result"]["repeats"]) for row in result.plan.confirm} == {("0",)}
    assert result.plan.mix == []
    assert "pilot" not in here.started
    assert not any("real_classic" in name or "real_oversampled" in name for name in here.started)


def test_no_gate_looks_at_a_pool(published: tuple[SweepResult, WithoutRay]) -> None:
    rows = published[0].generators()
    assert [(row["label"], row["status"], row["gates"]) for row in rows] == [
        ("gaussian", "ok", {}), ("copy_real", "ok", {}),
    ]  # fmt: skip
    assert published[0].verdict is not None
    assert any("privacy was not judged" in caveat for caveat in published[0].verdict["caveats"])


def test_the_best_of_the_test_images_is_named_and_called_no_evidence(
    published: tuple[SweepResult, WithoutRay],
) -> None:
    result, _ = published
    said = result.verdict
    assert said is not None
    assert said["word"] == "as_published"
    scored = {row["arm"]: row["result"]["repeats"]["0"]["balanced_accuracy"] for row in result.plan.confirm}
    gain = max(v for k, v in scored.items() if k != "real_only") - scored["real_only"]
    found = said["as_published"]
    assert scored[said["arm"]] == max(v for k, v in scored.items() if k != "real_only")
    assert found["gain"] == pytest.approx(gain)
    assert found["num_arms"] == 4
    assert f"{gain:+.3f} or more in {found['p']:.0%} of them" in said["sentence"]
    assert "Not evidence" in said["sentence"]
    assert "helps" not in said["sentence"]


def test_the_report_of_a_study_as_published_says_why_it_is_no_evidence(
    published: tuple[SweepResult, WithoutRay],
) -> None:
    result, _ = published
    assert result.verdict is not None
    page = render(Gatherer(result).view([], {}))
    words = re.sub(r"<[^>]+>", "", page)
    assert str(escape(result.verdict["sentence"])) in words
    assert "why that is no evidence" in words
    assert Gatherer(result).looks() == 1
    assert result.evidence is None


def test_perfect_arms_are_not_said_to_help(
    published: tuple[SweepResult, WithoutRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _ = published
    labels = result.data.part("test").labels
    perfect = np.eye(3, dtype=np.float32)[labels][None]
    again = SweepResult(result.config, result.store, result.data, result.plan, result.schedule, result.power)
    old = result.probs
    monkeypatch.setattr(again, "probs", lambda row, name="": old(row) if row["arm"] == "real_only" else perfect)
    assert again.verdict is not None
    assert again.verdict["word"] == "as_published"
    assert again.verdict["as_published"]["p"] == 1 / 200
    assert again.verdict["arm"] == "copy_real+add@0.25"  # the first name of equals, whatever the plan ranks first


def test_as_published_without_an_arm_says_what_was_done(coin: WithoutRay, tmp_path: Path) -> None:
    own = sections(mode="as_published", mix={"ratios": [0], "classifier": "coin", "repeats": 1})
    said = Sweep(config(tmp_path, **own)).run().verdict
    assert said is not None
    assert said["word"] == "no_candidate"
    assert said["sentence"] == "No candidate: gaussian: no arm takes a synthetic image; only real only was scored." or (
        said["sentence"] == "No candidate: no arm takes a synthetic image; only real only was scored."
    )


# --- spaces and classes


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SweepResult]:
    """Measured in two spaces, of which one is the classifier's."""
    kid = {"use": "kid", "config": {"min_images": 4, "num_permutations": 19}}
    fit = {"quality": QUALITY, "spaces": ["baseline"], "metrics": {"kid": kid, "frechet": None}, "shard_images": 16}
    with pytest.MonkeyPatch.context() as patched:
        plug(patched)
        own = sections(mix={"ratios": [0.4], "classifier": PROBE, "repeats": 1}, fit=fit)
        yield run(config(tmp_path_factory.mktemp("spaces"), **own))


def test_every_metric_is_measured_in_every_space_for_every_class(spaces: SweepResult) -> None:
    (row,) = [g for g in spaces.generators() if g["label"] == "gaussian"]
    names = [m["name"] for m in row["measured"]]
    assert [name.partition("_n")[0] for name in names] == [
        "kid_efficientnet_lite0", "frechet_efficientnet_lite0", "kid_baseline", "frechet_baseline",
    ]  # fmt: skip
    assert [[c["label"] for c in m["per_class"]] for m in row["measured"]] == [[0, 1, 2]] * 4
    cells = [c for m in row["measured"] for c in m["per_class"]]
    assert all((c["value"] is None) == ("images, this metric needs at least" in c["reason"]) for c in cells)
    assert any(c["value"] is not None for c in cells)


def test_the_report_shows_them_class_by_class(spaces: SweepResult) -> None:
    page = render(Gatherer(spaces).view([], {}))
    table = page.partition('<table id="generator-classes">')[2].partition("</table>")[0]
    rows = re.findall(r'<tr data-generator="(\w+)"><th scope="row">\w+</th><td>(\w+)</td>', table)
    assert rows == [("gaussian", name) for name in ("drusen", "haemorrhages", "healthy")]
    assert "kid_baseline" in table


@pytest.mark.parametrize(("kind", "quality"), [("features", QUALITY), ("curve", {**QUALITY, "space": "baseline"})])
def test_the_baseline_space_is_another_one_with_other_training_images(
    coin: WithoutRay, tmp_path: Path, kind: str, quality: dict[str, Any]
) -> None:
    def keys(classifier_share: float) -> set[str]:
        share = {"classifier": classifier_share, "generator": 1.0}
        data = {"adapter": "phantom", "resolution": 16, "size_px": 16, "num_images": 200, "real_share": share}
        fit = {"quality": quality, "spaces": ["baseline"], "metrics": ["kid"], "shard_images": 16}
        mix = {"ratios": [0.25], "classifier": "coin", "repeats": 1}
        run(config(tmp_path, **sections(data=data, fit=fit, mix=mix)))
        found = [json.loads(p.read_text()) for p in tmp_path.glob(f"{kind}/*/record.json")]
        val = Sweep(config(tmp_path, **sections(data=data))).data().part("val").fingerprint
        return {
            r["key"]
            for r in found
            if r["inputs"]["space"]["use"] == "baseline" and val in (r["inputs"].get("images"), r["inputs"].get("val"))
        }

    first = keys(1.0)
    assert first
    assert len(keys(0.6)) == 2 * len(first)


# --- samplers


def test_what_a_sampler_reports_is_in_the_record_of_what_is_shown(coin: WithoutRay, tmp_path: Path) -> None:
    cluster = {"use": "cluster", "config": {"space": TINY_SPACE, "num_clusters": 2, "min_images": 2, "nredo": 1}}
    result = run(config(tmp_path, **sections(generators={"gaussian": {"sampler": cluster}})))
    found = [json.loads(p.read_text()) for p in tmp_path.glob("shown/*/record.json")]
    (shown,) = [r for r in found if r["inputs"]["sampler"]["use"] == "cluster"]
    ((step, numbers),) = [shown["result"]["curve"][0]]
    assert step == 0
    sizes = [numbers[f"cluster/drusen/{i}/size"] for i in range(2)]
    assert sum(sizes) == result.splits["showable"].counts()[0]
    assert len(shown["result"]["curve"]) == 3  # one report for each class
    (plain,) = [r for r in found if r["inputs"]["sampler"]["use"] == "all_real"]
    assert plain["result"]["curve"] == []


# --- MLflow


@pytest.mark.parametrize("num_classes", [2, 12])
def test_mlflow_takes_the_name_of_every_score(num_classes: int) -> None:
    labels = np.arange(5 * num_classes) % num_classes
    names = list(scores(np.random.default_rng(0).dirichlet(np.ones(num_classes), len(labels)), labels))
    primary = [Primary("sensitivity", s, 1, "x").key for s in (0.8, 0.9, 0.95, 0.99)]
    assert set(primary) <= set(names)
    for where in ("val", "val_mean", "test", "test_mean"):
        assert all(validate_param_and_metric_name(f"{where}/{name}") for name in names)
        _validate_metric_name(f"{where}/{primary[0]}")


def test_mlflow_takes_the_name_of_every_number_of_a_sweep(coin: WithoutRay, tmp_path: Path) -> None:
    fit = {"quality": QUALITY, "spaces": ["baseline"], "shard_images": 16, "canaries": {"count": 4}}
    fit["metrics"] = ["kid", "frechet", "prdc"]
    own = sections(fit=fit, gates=GATES, mix={"ratios": [0.25], "classifier": PROBE, "repeats": 1})
    result = Sweep(config(tmp_path, **own)).run()
    entries = [json.loads(p.read_text()) for p in (tmp_path / result.folder / "runs").iterdir()]
    names = {key for entry in entries for key, *_ in entry["metrics"]}
    for name in names:
        _validate_metric_name(name)
    gates = {g for row in result.plan.fits for g in row["result"]["gates"]}
    assert gates == {*GATES, "canaries_0"}
    shown = {f"{'privacy' if g.startswith(('near', 'memb', 'can')) else 'gates'}/{g}_passed" for g in gates}
    assert shown <= names
    assert "quality/kid_efficientnet_lite0" in names
