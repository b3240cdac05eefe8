"""What the phases and trials do, in one process: demand, growth, skipped arms, gates, parts, controls, methods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsynth_ray import registry
from medsynth_ray.driver import Sweep
from medsynth_ray.engine import fits, pools
from medsynth_ray.engine.bench import Bench
from medsynth_ray.engine.journal import Journal
from medsynth_ray.errors import AuditError, ConfigError, DataLeak, Diverged
from medsynth_ray.generators.gaussian import Gaussian
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import (
    Baseline,
    Component,
    ComponentConfig,
    Fitted,
    GateResult,
    Need,
    Pool,
    Runtime,
    Spec,
)
from medsynth_ray.result_view import Gatherer
from medsynth_ray.results import SweepResult
from medsynth_ray.testing import toy_images
from tests.engine.inline import TINY_SPACE, config, run


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return run(config(tmp_path_factory.mktemp("plain")))


def test_the_mix_holds_every_pool_at_every_ratio_and_real_only(plain: SweepResult) -> None:
    pools_named = ("gaussian", "real_classic", "real_oversampled")
    expected = {f"{p}+add@{r:g}" for p in pools_named for r in (0.25, 0.5)} | {"real_only"}
    assert {row["arm"] for row in plain.plan.mix} == expected


def test_confirm_compares_the_winner_with_the_three_controls(plain: SweepResult) -> None:
    assert plain.verdict is not None
    assert [row["arm"] for row in plain.plan.confirm][1:] == ["real_only", "real_classic", "real_oversampled"]
    assert {c["control"] for c in plain.verdict["comparisons"]} == {"real_only", "real_classic", "real_oversampled"}
    assert plain.verdict["word"] == "cannot_tell"
    assert all(c["difference"] == 0.0 for c in plain.verdict["comparisons"])  # majority sees no image


def test_controls_take_as_many_images_as_the_winner(plain: SweepResult) -> None:
    sizes = {row["arm"]: row["result"]["num_train"] for row in plain.plan.confirm}
    winner = plain.plan.confirm[0]["arm"]
    assert sizes["real_classic"] == sizes["real_oversampled"] == sizes[winner] > sizes["real_only"]


def test_smaller_ratios_are_prefixes_of_larger_ones(plain: SweepResult) -> None:
    bench, key = plain._bench, next(p["result"]["unit"] for p in plain.plan.pools if p["label"] == "gaussian")
    few = set(pools.mixed(bench, "train", key, Spec(use="add"), 0.25).ids)
    many = set(pools.mixed(bench, "train", key, Spec(use="add"), 0.5).ids)
    assert few < many


def test_the_verdict_file_names_no_time_host_or_path(plain: SweepResult) -> None:
    text = json.dumps(plain.verdict)
    assert plain.store.url not in text
    assert "seconds" not in text
    assert "host" not in text


def test_larger_ratios_later_reuse_shards(tmp_path: Path) -> None:
    def shards() -> set[str]:
        return {p.parent.name for p in tmp_path.glob("shard/*/record.json")}

    run(config(tmp_path, mix={"ratios": [0.25], "classifier": "majority", "repeats": 1}))
    before = shards()
    run(config(tmp_path, mix={"ratios": [0.25, 0.6], "classifier": "majority", "repeats": 1}))
    assert before < shards()


def test_an_arm_that_needs_more_images_than_there_are_is_skipped_with_the_reason(tmp_path: Path) -> None:
    write_folder(tmp_path / "ready", {"drusen": 12, "haemorrhages": 12, "healthy": 12})
    ready = {"use": "from_folder", "config": {"root": str(tmp_path / "ready")}}
    result = run(config(tmp_path / "store", generators={"ready": ready}))
    rows = {row["arm"]: row for row in result.plan.mix}
    assert rows["ready+add@0.25"]["result"]["num_synthetic"] > 0
    assert "needed, 12 kept" in rows["ready+add@0.5"]["skipped"]
    assert result.verdict is not None
    assert any("unknown data" in c for c in result.verdict["caveats"])
    assert any("privacy was not judged" in c for c in result.verdict["caveats"])


def write_folder(root: Path, counts: dict[str, int]) -> None:
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(root / name / f"{i}.png")


def test_a_copier_is_rejected_and_there_is_no_candidate(tmp_path: Path) -> None:
    gates = {"near_copy": {"use": "near_copy", "config": {"space": TINY_SPACE}}}
    result = run(config(tmp_path, generators={"copy_real": None}, gates=gates))
    assert result.verdict is not None
    assert result.verdict["word"] == "no_candidate"
    assert "copy_real: near_copy" in result.verdict["sentence"]
    (row,) = [g for g in result.generators() if g["label"] == "copy_real"]
    assert row["status"] == "rejected"
    assert Gatherer(result).near_copies(), "the report must show the copies"


def test_a_pool_grows_when_gates_drop_images(tmp_path: Path) -> None:
    """copy_real draws each image once and then repeats itself: dedupe drops what it has seen."""
    gates = {"dedupe": {"use": "dedupe", "config": {"min_kept_share": 0.0}}}
    dropping = config(
        tmp_path,
        generators={"copy_real": {"gates": gates}},
        mix={"ratios": [0.25], "classifier": "majority", "repeats": 1},
        fit={"shard_images": 4, "quality": {"num_images": 40, "space": TINY_SPACE}},
    )
    result = run(dropping)
    (pool,) = [p["result"] for p in result.plan.pools if p["label"] == "copy_real"]
    takes = result.plan.takes("add", 0.25)
    assert (np.array(pool["kept"]) >= takes).all()


def test_a_failed_trial_costs_its_arm_only(tmp_path: Path) -> None:
    result = run(config(tmp_path), fail="gaussian+add@0.5")
    rows = {row["arm"]: row for row in result.plan.mix}
    assert rows["gaussian+add@0.5"]["result"] is None
    assert result.plan.winner is not None
    assert result.plan.winner["arm"] == "gaussian+add@0.25"
    assert [r["status"] for r in result.arm_rows() if r["arm"] == "gaussian+add@0.5"] == ["failed"]


def test_a_failed_confirm_repeat_leaves_no_verdict(tmp_path: Path) -> None:
    assert run(config(tmp_path), fail="confirm real_only [3]").verdict is None


def test_about_method_fits_anew_for_every_repeat(tmp_path: Path) -> None:
    result = run(config(tmp_path, confirm={"classifier": "majority", "repeats": 6, "about": "method"}))
    seeds = {json.loads(p.read_text())["inputs"]["seed"] for p in tmp_path.glob("fit/*/record.json")}
    assert len(seeds) == 6 + 1  # six repeats, and the search with which the controls share it
    assert result.verdict is not None
    assert "confirm.about: method" in result.verdict["sentence"]


@pytest.mark.parametrize("mixer", ["replace", "balance"])
def test_every_mixer_runs_in_a_sweep(tmp_path: Path, mixer: str) -> None:
    data = {"adapter": "phantom", "resolution": 16, "size_px": 16, "num_images": 240, "imbalance": 3}
    mix = {"mixers": [mixer], "ratios": [0.25], "classifier": "majority", "repeats": 1}
    result = run(config(tmp_path, data=data, mix=mix))
    assert any(row["mixer"] == mixer and row["result"] for row in result.plan.mix)


class ByClass(Component):
    """A sampler with a part for each class."""

    class Config(ComponentConfig):
        """No settings."""

    def select(self, train: ImageSet, *, seed: int, runtime: Runtime) -> tuple[ImageSet, ...]:
        return tuple(train.of_class(c) for c in range(train.num_classes))


class Darker(Gaussian):
    """A generator that starts from another fitted one, as fine-tuning does."""

    class Config(Gaussian.Config):
        """Those of the base."""

        def rungs(self) -> tuple[float, ...]:
            return (1.0,)

        def needs(self) -> tuple[Need, ...]:
            return (Fitted(Spec(use="gaussian", config={"num_components": 4})),)

    def fit(self, shown: ImageSet, *, seed: int, runtime: Runtime) -> None:
        (base,) = runtime.fitted(Spec(use="gaussian", config={"num_components": 4}))
        self._tensors = {**base._tensors, "means": base._tensors["means"] / 2}  # type: ignore[attr-defined]


class Leaky(Component):
    """A sampler that shows an image from elsewhere."""

    class Config(ComponentConfig):
        """No settings."""

    def select(self, train: ImageSet, *, seed: int, runtime: Runtime) -> tuple[ImageSet, ...]:
        return (toy_images((3, 3, 3)),)


class Agreement(Component):
    """A gate that asks the sweep's real-only classifier and the fitted generators."""

    class Config(ComponentConfig):
        """No settings."""

        declares: bool = True

        def needs(self) -> tuple[Need, ...]:
            return (Baseline(), Fitted()) if self.declares else ()

    def judge(self, pool: Pool, *, shown: ImageSet, unseen: ImageSet, seed: int, runtime: Runtime) -> GateResult:
        probs = runtime.baseline().predict(pool.images, runtime=runtime)
        numbers = {"num_generators": float(len(runtime.fitted())), "largest": float(probs.max())}
        return GateResult(np.ones(len(pool), dtype=bool), True, "", numbers)


class Learner(Gaussian):
    """A Gaussian that looks at itself four times, and one of whose settings diverges."""

    class Config(Gaussian.Config):
        diverges: bool = False
        max_train_steps: int = 4

        def rungs(self) -> tuple[float, ...]:
            return (0.5, 1.0)

    def fit(self, shown: ImageSet, *, seed: int, runtime: Runtime) -> None:
        if self.config.diverges:
            raise Diverged("loss is nan at step 3")
        super().fit(shown, seed=seed, runtime=runtime)


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        def __init__(self, component: type[Component]) -> None:
            self.component, self.dist, self.value = component, None, "tests"

        def load(self) -> type[Component]:
            return self.component

    points: dict[str, Any] = {"by_class": Point(ByClass), "leaky": Point(Leaky)}
    roles = {
        "samplers": points,
        "gates": {"agreement": Point(Agreement)},
        "generators": {"darker": Point(Darker), "learner": Point(Learner)},
    }
    monkeypatch.setattr(registry, "_plugins", lambda role: roles.get(role, {}))


@pytest.mark.usefixtures("plugged")
def test_parts_are_fitted_apart_and_joined(tmp_path: Path) -> None:
    result = run(config(tmp_path, generators={"gaussian": {"sampler": "by_class"}}))
    (row,) = [p for p in result.plan.pools if p["label"] == "gaussian"]
    pool = result.pool("gaussian")
    assert len(pool.fitted_on) == 3
    assert (pool.images.counts() >= result.plan.takes("add", 0.5)).all()
    assert row["result"]["passed"]


@pytest.mark.usefixtures("plugged")
def test_a_sampler_cannot_show_what_is_not_in_train(tmp_path: Path) -> None:
    sweep_config = config(tmp_path)
    train = toy_images((12, 12, 12), prefix="train")
    bench = Bench(
        sweep_config, run(sweep_config).store,
        {"train": train, "showable": train, "val": toy_images(seed=1), "test": toy_images(seed=2)},
    )  # fmt: skip
    with pytest.raises(DataLeak, match="toy/0000.*not in showable"):
        fits.shown_parts(bench, Spec(use="leaky"), "showable")


@pytest.mark.usefixtures("plugged")
def test_a_gate_gets_the_real_only_classifier_and_the_generators(tmp_path: Path) -> None:
    result = run(config(tmp_path, gates={"agreement": None}))
    (row,) = [p for p in result.plan.pools if p["label"] == "gaussian"]
    numbers = row["result"]["gates"]["agreement"]["numbers"]
    assert numbers == {"num_generators": 1.0, "largest": pytest.approx(1 / 3, abs=0.02)}
    assert len(list(tmp_path.glob("baseline/*/record.json"))) == 1


@pytest.mark.usefixtures("plugged")
def test_what_a_component_did_not_declare_is_refused(tmp_path: Path) -> None:
    gates = {"agreement": {"use": "agreement", "config": {"declares": False}}}
    with pytest.raises(AssertionError, match="do not declare"):
        run(config(tmp_path, gates=gates))


def test_every_sweep_that_confirms_is_a_recorded_look_at_the_test(tmp_path: Path) -> None:
    first = run(config(tmp_path))
    second = run(config(tmp_path, seed=1))
    assert (first.config.sweep_id, Gatherer(second).looks()) != (second.config.sweep_id, 1)
    assert Gatherer(second).looks() == 2
    (looked,) = (tmp_path / "look").iterdir()
    assert looked.name == first.data.part("test").fingerprint[:32]


def test_luck_on_val_is_not_confirmed_with_the_same_seeds(plain: SweepResult) -> None:
    records = [json.loads(p.read_text()) for p in Path(plain.store.url).glob("score/*/record.json")]
    val, test = plain.data.part("val").fingerprint, plain.data.part("test").fingerprint
    seeds = {on: {r["inputs"]["train_seed"] for r in records if r["inputs"]["on"] == on} for on in (val, test)}
    assert seeds[val].isdisjoint(seeds[test])
    assert len(seeds[test]) == 6  # one for each repeat, shared by all arms


def test_a_pool_with_a_copy_of_a_held_out_image_is_rejected(plain: SweepResult, tmp_path: Path) -> None:
    test = plain.data.part("test")
    for c, name in enumerate(test.class_names):
        (tmp_path / "ready" / name).mkdir(parents=True)
        for i, pixels in enumerate(test.of_class(c).pixels[:14]):
            Image.fromarray(pixels).save(tmp_path / "ready" / name / f"{i}.png")
    ready = {"use": "from_folder", "config": {"root": str(tmp_path / "ready")}}
    result = run(config(tmp_path / "store", generators={"ready": ready}))
    assert result.verdict is not None
    assert result.verdict["word"] == "no_candidate"
    assert "exact copies of val or test images" in result.verdict["sentence"]


def test_where_a_sweep_is_and_whom_it_belongs_to_do_not_change_its_name(tmp_path: Path) -> None:
    plain_one, other = config(tmp_path / "a"), config(tmp_path / "b", description="other words", budget={"hours": 1})
    assert plain_one.sweep_id == other.sweep_id
    assert plain_one.sweep_id != config(tmp_path / "a", seed=1).sweep_id


def test_without_leave_no_real_image_is_shown(tmp_path: Path) -> None:
    gates = {"near_copy": {"use": "near_copy", "config": {"space": TINY_SPACE}}}
    hidden = {"generators": {"copy_real": None, "gaussian": None}, "gates": gates, "report": {"real_images": False}}
    result = run(config(tmp_path, **hidden))
    assert {preview.generator for preview in Gatherer(result).previews()} == {"gaussian"}
    assert Gatherer(result).near_copies() == []


@pytest.mark.parametrize("ratios", [[0], [], [0.0001]])
def test_where_no_arm_takes_an_image_there_is_no_candidate(tmp_path: Path, ratios: list[float]) -> None:
    result = run(config(tmp_path, mix={"ratios": ratios, "classifier": "majority", "repeats": 1}))
    assert result.verdict is not None
    assert result.verdict["word"] == "no_candidate"
    assert "takes" in result.verdict["sentence"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"num_components": {"kind": "int_range", "low": 0, "high": 9}}, "greater than or equal to 1"),
        ({"num_componets": {"kind": "int_range", "low": 1, "high": 9}}, "no field 'num_componets'"),
    ],
)
def test_a_search_space_is_checked_before_anything_starts(tmp_path: Path, space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(config(tmp_path, generators={"gaussian": {"search": {"trials": 2, "space": space}}}))


def test_a_generator_cannot_be_called_like_a_control(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'real_classic' is the name of a control"):
        config(tmp_path, generators={"real_classic": {"use": "gaussian"}})


def test_a_failed_trial_that_is_retried_counts(tmp_path: Path) -> None:
    assert run(config(tmp_path), fail="gaussian+").verdict["word"] == "no_candidate"  # type: ignore[index]
    again = run(config(tmp_path))
    assert again.plan.winner is not None
    assert again.plan.winner["label"] == "gaussian"


def test_ready_made_images_may_move(tmp_path: Path) -> None:
    write_folder(tmp_path / "ready", {"drusen": 60, "haemorrhages": 60, "healthy": 60})

    def words(root: Path, ratio: float) -> SweepResult:
        ready = {"use": "from_folder", "config": {"root": str(root)}}
        mix = {"ratios": [ratio], "classifier": "majority", "repeats": 1}
        return run(config(tmp_path / "store", generators={"ready": ready}, mix=mix))

    first = words(tmp_path / "ready", 0.2)
    (tmp_path / "ready").rename(tmp_path / "moved")
    moved = words(tmp_path / "moved", 0.5)
    assert first.verdict is not None
    assert moved.verdict is not None
    assert str(tmp_path) not in json.dumps(moved.verdict)


@pytest.mark.usefixtures("plugged")
def test_a_generator_may_start_from_another_fitted_one(tmp_path: Path) -> None:
    result = run(config(tmp_path, generators={"darker": None, "gaussian": None}))
    mean = {name: result.pool(name).images.pixels.mean() for name in ("darker", "gaussian")}
    assert mean["darker"] < 0.7 * mean["gaussian"]
    assert result.pool("darker").fitted_on == result.pool("gaussian").fitted_on


@pytest.mark.usefixtures("plugged")
def test_quality_is_recorded_at_every_checkpoint_against_images_seen(tmp_path: Path) -> None:
    result = run(config(tmp_path, generators={"learner": None}))
    last = result.plan.fits[-1]["result"]["checkpoints"]
    num_shown = len(result.splits["showable"])
    assert [(row["step"], row["images_seen"]) for row in last] == [(2, 2 * num_shown), (4, 4 * num_shown)]
    assert {row["measured"]["name"] for row in last} == {"kid_efficientnet_lite0"}
    assert all(row["measured"]["low"] < row["measured"]["value"] < row["measured"]["high"] for row in last)
    assert result.plan.fits[0]["result"]["checkpoints"] == last[:1]


@pytest.mark.usefixtures("plugged")
def test_no_images_are_drawn_at_checkpoints_if_none_are_asked_for(tmp_path: Path) -> None:
    quality = {"num_images": 40, "space": TINY_SPACE, "checkpoint_images": 0}
    result = run(config(tmp_path, generators={"learner": None}, fit={"quality": quality}))
    assert [row["result"]["checkpoints"] for row in result.plan.fits] == [[], []]
    assert result.verdict is not None


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize("about", ["pool", "method"])
def test_a_fit_that_diverges_is_recorded_and_does_not_stop_the_sweep(tmp_path: Path, about: str) -> None:
    arms = {"gaussian": None, "learner": {"config": {"diverges": True}}}
    confirm = {"classifier": "majority", "repeats": 6, "about": about}
    result = run(config(tmp_path, generators=arms, confirm=confirm))
    (row,) = [g for g in result.generators() if g["label"] == "learner"]
    assert (row["status"], row["reason"]) == ("rejected", "diverged: loss is nan at step 3")
    assert result.plan.winner is not None
    assert result.plan.winner["label"] == "gaussian"


def test_real_shares_reach_classifier_and_generator_apart(tmp_path: Path) -> None:
    data = {"adapter": "phantom", "resolution": 16, "size_px": 16, "num_images": 400}
    data["real_share"] = {"classifier": 0.4, "generator": 0.8}
    result = run(config(tmp_path, data=data))
    train, showable = result.splits["train"], result.splits["showable"]
    assert len(train) / len(result.data.part("train")) == pytest.approx(0.4, abs=0.05)
    assert len(showable) / len(result.data.part("train")) == pytest.approx(0.8, abs=0.05)
    assert set(train.ids) < set(showable.ids)
    rows = {row["arm"]: row["result"]["num_train"] for row in result.plan.confirm}
    assert rows["real_only"] == len(train)
    assert rows["real_showable"] == len(showable)
    assert rows["real_oversampled"] == rows[result.plan.confirm[0]["arm"]]
    fitted_on = {label: result.record(f"kept/{key}") for label, key in pool_keys(result).items()}
    shown = {label: fit_counts(result, record) for label, record in fitted_on.items()}
    assert shown == {"gaussian": len(showable), "real_classic": len(train), "real_oversampled": len(train)}
    assert result.verdict is not None
    assert {c["control"] for c in result.verdict["comparisons"]} == {"real_only", "real_classic", "real_oversampled"}
    assert any("may come from the other" in c for c in result.verdict["caveats"])


def pool_keys(result: SweepResult) -> dict[str, str]:
    return {p["label"]: p["result"]["unit"] for p in result.plan.pools}


def fit_counts(result: SweepResult, kept: dict[str, Any]) -> int:
    (fit,) = result.record(f"shard/{kept['inputs']['shards'][0]}")["inputs"]["fits"]
    return sum(result.record(f"fit/{fit}")["result"]["counts"])


def test_images_that_changed_since_the_sweep_began_are_named(tmp_path: Path) -> None:
    root = tmp_path / "images"
    write_folder(root, {"a": 40, "b": 40})
    data = {"adapter": "folder", "root": str(root), "resolution": 16, "groups": "none"}
    sweep = Sweep(config(tmp_path / "store", data=data))
    sweep._freeze(sweep.data())
    Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8)).save(root / "a" / "3.png")
    (root / "b" / "7.png").unlink()
    later = Sweep(config(tmp_path / "store", data=data))
    with pytest.raises(AuditError, match=r"images changed.*1 removed: b/7.png; 1 changed: a/3.png"):
        later._freeze(later.data())


@pytest.mark.usefixtures("plugged")
def test_the_curve_of_several_parts_ends_where_all_of_them_end(tmp_path: Path) -> None:
    """Parts of different sizes have different numbers of steps; their checkpoints meet by share of the training."""
    vae = {"use": "vae", "config": {"hidden_dim": 8, "latent_dim": 2, "train_batch_size": 8, "num_train_epochs": 2}}
    data = {"adapter": "phantom", "resolution": 16, "size_px": 16, "num_images": 240, "imbalance": 8}
    result = run(config(tmp_path, data=data, generators={"vae": {**vae, "sampler": "by_class"}}))
    fit = result.plan.fits[-1]["result"]
    seen = [row["images_seen"] for row in fit["checkpoints"]]
    records = result.fit_records("vae")
    assert seen == sorted(seen)
    assert seen[-1] == sum(r["result"]["seen"][-1]["images_seen"] for r in records if r["result"]["seen"])
    assert len({tuple(row["steps"]) for row in fit["checkpoints"]}) == len(fit["checkpoints"])


def test_a_failed_reference_arm_does_not_hold_back_the_verdict(tmp_path: Path) -> None:
    data = {"adapter": "phantom", "resolution": 16, "size_px": 16, "num_images": 400}
    data["real_share"] = {"classifier": 0.4, "generator": 0.8}
    result = run(config(tmp_path, data=data), fail="confirm real_showable")
    assert result.verdict is not None
    assert "real_showable" not in {row["arm"] for row in result.verdict["confirm"]}


def test_a_verdict_that_no_longer_holds_is_taken_away(tmp_path: Path) -> None:
    result = run(config(tmp_path))
    result.write([], None)
    path = tmp_path / result.folder / "verdict.json"
    assert path.exists()
    failed = run(config(tmp_path / "other"), fail="confirm")
    (tmp_path / "other" / failed.folder / "verdict.json").write_text("{}")
    failed.write([], None)
    assert not (tmp_path / "other" / failed.folder / "verdict.json").exists()


def test_where_real_images_are_withheld_neither_copies_nor_rejected_images_are_shown(tmp_path: Path) -> None:
    root = tmp_path / "ready"
    real = Sweep(config(tmp_path / "first")).data().part("train")
    for name in real.class_names:
        (root / name).mkdir(parents=True)
    for i, (pixels, label) in enumerate(zip(real.pixels, real.labels, strict=True)):
        Image.fromarray(pixels).save(root / real.class_names[label] / f"{i}.png")
    copies = {"use": "from_folder", "config": {"root": str(root)}}
    gates = {"near_copy": {"use": "near_copy", "config": {"space": TINY_SPACE}}}
    result = run(config(tmp_path / "store", generators={"copies": copies}, gates=gates, report={"real_images": False}))
    assert result.generators()[0]["status"] == "rejected"
    assert Gatherer(result).previews() == []
    assert Gatherer(result).checkpoint_previews() == []
    journal = Journal(result.store, "x", real.class_names, metric="balanced_accuracy", real_images=False)
    row = result.plan.fits[-1]
    assert journal._pictures("fit", row["result"], 0) == []
