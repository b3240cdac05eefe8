"""The pilot, several winners, the learning curve, evidence.json and the metric that decides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape

from medsynth_ray.driver import Sweep
from medsynth_ray.engine import tune
from medsynth_ray.errors import ConfigError, Underpowered
from medsynth_ray.report.page import render
from medsynth_ray.result_view import Gatherer
from medsynth_ray.results import SweepResult
from medsynth_ray.stats.paired import holm
from medsynth_ray.sweep import mean_score
from tests.engine.coin import plug, sections
from tests.engine.inline import config, run
from tests.engine.without_ray import WithoutRay

CONFIRM = {"classifier": "coin", "repeats": 6, "learning_curve": []}
TWO_RATIOS = {"ratios": [0.25, 0.5], "classifier": "coin", "repeats": 2}


@pytest.fixture
def coin(monkeypatch: pytest.MonkeyPatch) -> WithoutRay:
    """The coin is known, and trials run in this process."""
    plug(monkeypatch)
    here = WithoutRay()
    monkeypatch.setattr(tune, "run", here.run)
    return here


@pytest.fixture(scope="module")
def tossed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SweepResult]:
    """Two winners with controls of their own and a learning curve, classifiers shown 60 % of train."""
    data = {"adapter": "phantom", "resolution": 16, "size_px": 16, "num_images": 300, "real_share": {"classifier": 0.6}}
    confirm = {**CONFIRM, "winners": 2, "learning_curve": [0.7, 0.3]}
    with pytest.MonkeyPatch.context() as patched:
        plug(patched)
        folder = tmp_path_factory.mktemp("tossed")
        report = {"subgroups": ["side"]}
        yield run(config(folder, **sections(data=data, mix=TWO_RATIOS, confirm=confirm, report=report)))


def records(result: SweepResult, kind: str) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in Path(result.store.url).glob(f"{kind}/*/record.json")]


# --- the pilot


def hopeless_by_its_pilot(store: Path, **verdict: Any) -> Sweep:
    """Repeats that do not vary, as is assumed, could see the effect; those of a coin cannot."""
    assumed = {"repeat_sd": 0.0, "pilot_repeats": 3}
    detectable = Sweep(config(store, **sections(verdict=assumed))).power().detectable
    return Sweep(config(store, **sections(verdict={**assumed, "effect": detectable * 1.0001, **verdict})))


def test_a_design_that_is_hopeless_by_its_pilot_ends_before_any_fit(coin: WithoutRay, tmp_path: Path) -> None:
    sweep = hopeless_by_its_pilot(tmp_path)
    assert sweep.power().sufficient
    with pytest.raises(Underpowered, match=r"in a pilot of 3.*--accept-underpowered"):
        sweep.run()
    assert coin.started == ["embed train", "embed val", "pilot"]
    assert not list(tmp_path.glob("fit/*"))
    assert len(list(tmp_path.glob("score/*/record.json"))) == 3
    with pytest.raises(Underpowered, match="in a pilot of 3"):  # a recorded pilot is not asked again
        hopeless_by_its_pilot(tmp_path).run()
    assert coin.started.count("pilot") == 1


def test_what_the_pilot_measured_is_in_plan_and_verdict(coin: WithoutRay, tmp_path: Path) -> None:
    sweep = hopeless_by_its_pilot(tmp_path, accept_underpowered=True)
    before = sweep.estimate()
    assert before.power.pilot is None
    assert before.trials["pilot"] == 1
    result = sweep.run()
    assert result.plan.pilot is not None
    values = [s["balanced_accuracy"] for s in result.plan.pilot["result"]["repeats"].values()]
    deviation = pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert sweep.estimate().power.repeat_sd == deviation
    assert result.verdict is not None
    power = result.verdict["power"]
    assert (power["repeat_sd"], power["pilot"]["num_repeats"], power["sufficient"]) == (deviation, 3, False)
    assert coin.started.index("pilot") < coin.started.index(next(n for n in coin.started if n.startswith("fit")))


def test_a_pilot_that_failed_leaves_what_was_assumed(coin: WithoutRay, tmp_path: Path) -> None:
    coin.failing["pilot"] = ("ValueError", "no")
    verdict = {"effect": 0.001, "pilot_repeats": 3}
    with pytest.raises(Underpowered, match="assuming that.* and repeats vary by 0.010"):
        Sweep(config(tmp_path, **sections(verdict=verdict))).run()
    assert not list(tmp_path.glob("fit/*"))


def test_too_few_repeats_are_refused_before_the_pilot(coin: WithoutRay, tmp_path: Path) -> None:
    confirm = {**CONFIRM, "repeats": 5}
    with pytest.raises(Underpowered, match="5 repeats cannot reach p <= 0.05"):
        Sweep(config(tmp_path, **sections(confirm=confirm, verdict={"effect": 0.9}))).run()
    assert coin.started == []


def test_pilot_and_mix_share_scores_and_have_runs_of_their_own(coin: WithoutRay, tmp_path: Path) -> None:
    mix = {"ratios": [0.25], "classifier": "coin", "repeats": 3}
    verdict = {"accept_underpowered": True, "pilot_repeats": 3}
    result = Sweep(config(tmp_path, **sections(mix=mix, verdict=verdict))).run()
    real_only = next(row for row in result.plan.mix if row["arm"] == "real_only")
    assert result.plan.pilot is not None
    assert real_only["result"]["scores"] == result.plan.pilot["result"]["scores"]
    entries = [json.loads(p.read_text()) for p in (tmp_path / result.folder / "runs").iterdir()]
    named = {(e["name"], e["tags"]["stage"]) for e in entries}
    assert {("pilot", "pilot"), ("real_only", "mix")} <= named
    (pilot,) = [e for e in entries if e["name"] == "pilot"]
    assert {key for key, *_ in pilot["metrics"]} >= {"val/balanced_accuracy", "val_mean/macro_auc"}


# --- several winners


def test_two_winners_are_confirmed_each_with_controls_of_its_own_size(tossed: SweepResult) -> None:
    rows = {row["arm"]: row for row in tossed.plan.confirm}
    first, second = (row["arm"] for row in tossed.plan.winners)
    assert {first, second} == {"gaussian+add@0.25", "gaussian+add@0.5"}
    sizes = {name: row["result"]["num_train"] for name, row in rows.items()}
    assert sizes["real_classic"] == sizes["real_oversampled"] == sizes[first]
    assert sizes[f"real_classic for {second}"] == sizes[f"real_oversampled for {second}"] == sizes[second]
    assert sizes[first] != sizes[second]
    assert [rows[name]["of"] for name in ("real_only", "real_classic", f"real_classic for {second}")] == [
        None, first, second,
    ]  # fmt: skip


def test_p_values_are_adjusted_over_the_winners(tossed: SweepResult) -> None:
    assert tossed.verdict is not None
    (other,) = tossed.verdict["others"]
    both = {said["arm"]: said for said in (tossed.verdict, other)}
    assert set(both) == {row["arm"] for row in tossed.plan.winners}
    largest = {arm: max(c["p"] for c in said["comparisons"]) for arm, said in both.items()}
    assert {arm: said["p_adjusted"] for arm, said in both.items()} == holm(largest)
    assert {c["level"] for said in both.values() for c in said["comparisons"]} == {0.975}
    controls = {"real_only", "real_classic", "real_oversampled"}
    assert [{c["control"] for c in said["comparisons"]} for said in both.values()] == [controls, controls]
    assert tossed.verdict["power"]["alpha"] == 0.025
    assert "Holm over 2 arms" in other["sentence"]
    assert str(escape(other["sentence"])) in render(Gatherer(tossed).view([], {}))


def test_both_looks_are_recorded_and_count_as_one_sweep(tossed: SweepResult) -> None:
    test = tossed.data.part("test").fingerprint[:32]
    assert len(list((Path(tossed.store.url) / "look" / test).iterdir())) == 2
    assert Gatherer(tossed).looks() == 1
    assert Sweep(tossed.config).looks() == [tossed.config.sweep_id]


def test_controls_of_equal_mixes_are_computed_once(coin: WithoutRay, tmp_path: Path) -> None:
    arms = {"gaussian": None, "other": {"use": "gaussian", "config": {"num_components": 4}}}
    result = run(config(tmp_path, **sections(generators=arms, confirm={**CONFIRM, "winners": 2})))
    assert len(result.plan.confirm) == 7
    test = result.data.part("test").fingerprint
    on_test = [r for r in records(result, "score") if r["inputs"]["on"] == test]
    assert len(on_test) == 6 * 5  # two winners, real only, and one control of each kind
    rows = {row["arm"]: row["result"]["scores"] for row in result.plan.confirm}
    (again,) = [name for name in rows if name.startswith("real_classic for ")]
    assert rows[again] == rows["real_classic"]


@pytest.mark.parametrize("winners", [1, 2])
def test_a_pool_that_cannot_be_made_anew_costs_its_arm_only(coin: WithoutRay, tmp_path: Path, winners: int) -> None:
    whole = config(tmp_path, **sections(mix=TWO_RATIOS, confirm={**CONFIRM, "winners": winners}))
    result = run(whole)
    lost = result.plan.winners[0]["arm"]
    row = next(row for row in result.plan.confirm if row["arm"] == lost)
    row |= {"result": None, "skipped": "repeat 2: near_copy"}
    said = result.verdict
    assert said is not None
    verdicts = {said["arm"]: said, **{other["arm"]: other for other in said["others"]}}
    assert verdicts[lost]["sentence"] == (
        f"No candidate: some pools that were made anew for a repeat cannot be used ({lost}: repeat 2: near_copy)."
    )
    assert [v["word"] for v in verdicts.values()].count("no_candidate") == 1
    assert (said["arm"] == lost) == (winners == 1)
    assert said["num_arms"] == winners
    assert (result.evidence is None) == (winners == 1)


# --- the learning curve


def test_the_learning_curve_stands_beside_the_verdict(tossed: SweepResult) -> None:
    curve = [row for row in tossed.plan.confirm if row["role"] == "curve"]
    assert [row["arm"] for row in curve] == ["real_only@0.3", "real_only@0.7"]
    assert "curve" not in {row["role"] for row in tossed.arm_rows()}
    assert tossed.verdict is not None
    assert tossed.evidence is not None
    found = tossed.evidence["learning_curve"]
    num_train = len(tossed.splits["train"])
    sizes = [point["num_images"] for point in found["points"]]
    assert sizes == [row["result"]["num_train"] for row in curve] + [num_train]
    assert sizes[:2] == pytest.approx([0.3 * num_train, 0.7 * num_train], abs=6)
    assert found["winner"]["num_train"] > num_train
    gain = next(c["difference"] for c in tossed.verdict["comparisons"] if c["control"] == "real_only")
    assert f"{gain:+.3f}" in found["sentence"]
    assert found["equivalent"]["sentence"] == found["sentence"]
    assert all(point["low"] <= point["mean"] <= point["high"] for point in found["points"])


def test_shares_of_the_curve_are_nested_in_what_classifiers_learn_from(tossed: SweepResult) -> None:
    bench = tossed._bench
    few, many, train, showable = (set(bench.real(n).ids) for n in ("train@0.3", "train@0.7", "train", "showable"))
    assert few < many < train < showable
    groups = [set(bench.real("train").groups[np.isin(bench.real("train").ids, list(ids))]) for ids in (few, train)]
    left_out = set(bench.real("train").groups) - groups[0]
    assert set(bench.real("train@0.3").groups).isdisjoint(left_out)


def test_real_showable_is_no_point_of_the_curve(tossed: SweepResult) -> None:
    assert tossed.evidence is not None
    assert len(tossed.splits["showable"]) not in {
        point["num_images"] for point in tossed.evidence["learning_curve"]["points"]
    }
    assert {row["role"] for row in tossed.arm_rows() if row["arm"] == "real_showable"} == {"reference"}


def test_without_a_curve_nothing_is_told(coin: WithoutRay, tmp_path: Path) -> None:
    result = run(config(tmp_path, **sections()))
    assert result.evidence is not None
    assert result.evidence["learning_curve"] is None


# --- evidence.json


def test_evidence_tells_of_the_winner_and_its_own_controls(tossed: SweepResult) -> None:
    assert tossed.verdict is not None
    assert tossed.evidence is not None
    assert list(tossed.evidence["arms"])[:2] == [tossed.verdict["arm"], "real_only"]
    assert set(tossed.evidence["arms"]) == {tossed.verdict["arm"], "real_only", "real_classic", "real_oversampled"}
    winner = tossed.evidence["arms"][tossed.verdict["arm"]]
    assert len(winner["calibration"]["temperatures"]) == 6
    (column,) = tossed.evidence["subgroups"]["columns"]
    assert column["column"] == "side"
    assert {row["value"] for row in column["values"]} == {"left", "right"}


def test_evidence_lies_beside_the_verdict_and_goes_with_it(
    coin: WithoutRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(config(tmp_path, **sections()))
    result = sweep.run()
    folder = tmp_path / result.folder
    assert json.loads((folder / "evidence.json").read_text())["winner"] == result.plan.winners[0]["arm"]
    (lost,) = [p for p in tmp_path.glob("trial/*/record.json") if '"embed"' not in p.read_text()][:1]
    lost.unlink()

    def killed(*given: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tune, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        Sweep(sweep.config).run()
    assert not (folder / "verdict.json").exists()
    assert not (folder / "evidence.json").exists()


def test_without_a_candidate_there_is_no_evidence(coin: WithoutRay, tmp_path: Path) -> None:
    result = Sweep(config(tmp_path, **sections(mix={"ratios": [0], "classifier": "coin", "repeats": 2}))).run()
    assert (tmp_path / result.folder / "verdict.json").exists()
    assert not (tmp_path / result.folder / "evidence.json").exists()


@pytest.mark.parametrize("real_images", [True, False])
def test_flipped_images_are_withheld_where_real_ones_are(coin: WithoutRay, tmp_path: Path, real_images: bool) -> None:
    result = run(config(tmp_path, **sections(report={"real_images": real_images})))
    gathered = Gatherer(result).evidence()
    assert gathered["evidence"]["flips"]["rows"]
    assert bool(gathered["flip_images"]) == real_images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"report": {"subgroups": ["side", "sex"]}}, "report.subgroups: the metadata have no column 'sex'; there are"),
        ({"report": {"readers": {"results": "/nowhere/scored.json"}}}, "/nowhere/scored.json"),
        (
            {"verdict": {"metric": "sensitivity", "positive": "melanoma", "accept_underpowered": True}},
            "verdict.positive: no class 'melanoma'; there are drusen, haemorrhages, healthy",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["run", "estimate"])
def test_names_that_the_data_do_not_have_are_refused_before_anything_runs(
    coin: WithoutRay, tmp_path: Path, change: dict[str, Any], message: str, verb: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        getattr(Sweep(config(tmp_path, **sections(**change))), verb)()
    assert coin.started == []
    assert not (tmp_path / "sweep").exists()


# --- the metric that decides


@pytest.mark.parametrize(
    ("verdict", "key", "words"),
    [
        ({"metric": "macro_auc"}, "macro_auc", "macro AUC"),
        (
            {"metric": "sensitivity", "positive": "haemorrhages", "specificity": 0.8},
            "sensitivity_at_0.80/1",
            "sensitivity at specificity 0.80 (haemorrhages)",
        ),
    ],
)
def test_winner_and_verdict_are_by_the_metric_of_the_sweep_file(
    coin: WithoutRay, tmp_path: Path, verdict: dict[str, Any], key: str, words: str
) -> None:
    mix = {"ratios": [0.2, 0.35, 0.5], "classifier": "coin", "repeats": 2}
    verdict = {**verdict, "accept_underpowered": True, "pilot_repeats": 2}
    result = run(config(tmp_path, **sections(mix=mix, verdict=verdict)))
    assert result.verdict is not None
    assert result.verdict["metric"] == key
    assert words in result.verdict["sentence"]
    means = {r["arm"]: mean_score(r["result"], key) for r in result.plan.mix if r["role"] == "candidate"}
    assert result.plan.winners[0]["arm"] == max(means, key=lambda name: means[name])
    rows = {row["arm"]: row["result"]["repeats"] for row in result.plan.confirm}
    gains = [rows[result.plan.winners[0]["arm"]][r][key] - rows["real_only"][r][key] for r in map(str, range(6))]
    (against,) = [c for c in result.verdict["comparisons"] if c["control"] == "real_only"]
    assert against["repeats"] == pytest.approx(gains, abs=1e-9)
    assert words in render(Gatherer(result).view([], {}))


def test_the_classifier_of_mix_cannot_stand_on_itself(tmp_path: Path) -> None:
    probe = {"use": "probe", "config": {"space": "baseline"}}
    with pytest.raises(ConfigError, match="mix.classifier: probe needs the sweep's real-only classifier"):
        Sweep(config(tmp_path, mix={"ratios": [0.25], "classifier": probe, "repeats": 1}))
