"""`medsynth sweep ...` on tiny sweeps, whose trials run in this process instead of under Ray."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from medsynth_ray import yamlfile
from medsynth_ray.cli import app
from medsynth_ray.driver import Sweep
from medsynth_ray.engine import tune
from medsynth_ray.errors import ConfigError, Diverged, TrialsFailed
from medsynth_ray.extend import extend
from medsynth_ray.generators.gaussian import Gaussian
from medsynth_ray.results import SweepResult
from medsynth_ray.retry import fault_class
from tests.engine.inline import config
from tests.engine.without_ray import WithoutRay

VERBS = ("retry", "extend", "compare", "sync", "gc")


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["sweep", *map(str, words)])


def said(result: Result) -> dict[str, Any]:
    """The one JSON object that stdout must be."""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def blank_page(result: SweepResult, *words: Any) -> str:
    """The report takes seconds and is not what is tested here."""
    result.store.overwrite(f"{result.folder}/report.html", b"<!doctype html>")
    return result.report_path


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> WithoutRay:
    found = WithoutRay()
    monkeypatch.setattr(tune, "run", found.run)
    monkeypatch.setattr(SweepResult, "render", blank_page)
    return found


def written(folder: Path, name: str = "tiny", **sections: Any) -> Path:
    """A tiny sweep file with a store beside it."""
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(config(folder / "store", **sections).model_dump(mode="json")))
    return path


@pytest.fixture
def sweep_file(tmp_path: Path) -> Callable[..., Path]:
    return lambda *words, **sections: written(tmp_path, *words, **sections)


def searched(**search: Any) -> dict[str, Any]:
    return {"gaussian": {"search": {"trials": 3, "batch": 2, **search}}}


def only(path: Path, pattern: str) -> Any:
    (found,) = path.parent.glob(f"store/{pattern}")
    return json.loads(found.read_text())


def trials(path: Path, kind: str) -> dict[str, Any]:
    """Bytes of the records of trials of a kind, by path."""
    records = {p: json.loads(p.read_text()) for p in path.parent.glob("store/trial/*/record.json")}
    return {p.parent.name: p.read_bytes() for p, r in records.items() if r["inputs"]["job"] == kind}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_json_and_overrides(verb: str) -> None:
    text = " ".join(call(verb, "--help").stdout.split())
    assert f"Example: medsynth sweep {verb}" in text
    assert "--json" in text
    assert "-s" in text


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_sweep_file_ends_with_2(verb: str, tmp_path: Path) -> None:
    more = {"extend": ["--trials", "2"], "compare": [tmp_path / "b.yaml"]}.get(verb, [])
    result = call(verb, tmp_path / "a.yaml", *more, "--json")
    assert result.exit_code == 2
    assert "a.yaml" in said(result)["message"]


# --- retry


@pytest.mark.parametrize(
    ("error", "message", "fault"),
    [
        ("Diverged", "loss is nan at step 3", "diverged"),
        ("MedsynthError", "diverged: the probe's loss is nan by step 3", "diverged"),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB", "oom"),
        ("RuntimeError", "CUDA error: out of memory", "oom"),
        ("MemoryError", "", "oom"),
        ("WorkerDied", "its worker process died", "worker"),
        ("ValueError", "no such column", "error"),
    ],
)
def test_failures_have_a_class(error: str, message: str, fault: str) -> None:
    assert fault_class(error, message) == fault


BROKEN = {
    "gaussian+add@0.25": ("WorkerDied", "its worker process died"),
    "gaussian+add@0.5": ("ValueError", "no such column"),
}


THREE_ARMS = {"ratios": [0.25, 0.5, 0.6], "classifier": "majority", "repeats": 1}


@pytest.fixture(scope="module")
def broken_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of three arms, one of which lost its worker and one of which had an error."""
    folder = tmp_path_factory.mktemp("broken")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tune, "run", WithoutRay(failing=BROKEN).run)
        with pytest.raises(TrialsFailed, match="2 trials failed"):
            Sweep.from_yaml(written(folder, mix=THREE_ARMS)).run()
    return folder


@pytest.fixture
def broken(broken_once: Path, tmp_path: Path) -> Path:
    """That sweep, with a store of its own."""
    shutil.copytree(broken_once / "store", tmp_path / "store")
    return written(tmp_path, mix=THREE_ARMS)


@pytest.mark.parametrize(
    ("spelt", "tried"),
    [
        ([], list(BROKEN)),
        (["--failed"], list(BROKEN)),
        (["--failed=all"], list(BROKEN)),
        (["--failed", "all"], list(BROKEN)),
        (["--failed=worker"], ["gaussian+add@0.25"]),
        (["--failed", "worker"], ["gaussian+add@0.25"]),
        (["--failed=error"], ["gaussian+add@0.5"]),
    ],
    ids=" ".join,
)
def test_retry_tries_one_class_again_and_leaves_the_others(
    here: WithoutRay, broken: Path, spelt: list[str], tried: list[str]
) -> None:
    result = call("retry", broken, *spelt, "--json")
    left = set(BROKEN) - set(tried)
    assert set(here.started) & set(BROKEN) == set(tried)
    assert {(row["job"], row["after"]) for row in said(result)["tried"]} == {(job, "done") for job in tried}
    assert {row["job"] for row in said(result)["left"]} == left
    assert {row["job"] for row in only(broken, "sweep/*/run.json")["failures"]} == left
    assert result.exit_code == (5 if left else 0)
    assert said(result)["verdict"]["word"] == "cannot_tell"


def test_retry_says_before_and_now_of_what_fails_again(here: WithoutRay, broken: Path) -> None:
    here.failing = {"gaussian+add@0.5": ("RuntimeError", "another problem")}
    result = call("retry", broken, "--failed=error", "--json")
    (row,) = said(result)["tried"]
    assert (row["before"], row["after"]) == ("ValueError: no such column", "RuntimeError: another problem")
    assert result.exit_code == 5
    assert "another problem" in " ".join(result.stderr.split())


def test_retry_of_a_class_that_nothing_failed_with_runs_nothing(here: WithoutRay, broken: Path) -> None:
    result = call("retry", broken, "--failed=oom", "--json")
    assert here.started == said(result)["tried"] == []
    assert result.exit_code == 5, "the other failures are still there"
    assert "nothing was run" in result.stderr


def test_retry_refuses_an_unknown_class(broken: Path) -> None:
    result = call("retry", broken, "--failed=bad")
    assert result.exit_code == 2
    assert "none of all, diverged, oom, worker, error" in " ".join(result.stderr.replace("│", " ").split())


def test_retry_of_diverged_fits_takes_their_records_away(
    here: WithoutRay, sweep_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sweep_file(generators=searched(batch=3))
    fit, seen = Gaussian.fit, []

    def first_one_diverges(self: Gaussian, shown: Any, *, seed: int, runtime: Any) -> None:
        seen.append(self.config)
        if self.config == seen[0]:
            raise Diverged("loss is nan at step 3")
        fit(self, shown, seed=seed, runtime=runtime)

    with monkeypatch.context() as patched:
        patched.setattr(Gaussian, "fit", first_one_diverges)
        Sweep.from_yaml(path).run()
        here.started.clear()
        again = said(call("retry", path, "--failed=diverged", "--json"))
    assert [(r["before"], r["after"]) for r in again["tried"]] == [("Diverged: loss is nan at step 3",) * 2]
    assert here.started == [again["tried"][0]["job"]]
    here.started.clear()

    Sweep.from_yaml(path).run()
    assert here.started == [], "a plain run must not repeat a fit that diverged"
    (before,) = entries(path, again["tried"][0]["job"])
    result = call("retry", path, "--failed=diverged", "--json")
    (after,) = entries(path, again["tried"][0]["job"])
    assert said(result)["tried"][0]["after"] == "done"
    assert result.exit_code == 0
    named = [[key for key, *_ in entry["metrics"] if key.startswith("quality/")] for entry in (before, after)]
    assert named == [[], ["quality/kid_efficientnet_lite0"]], "what MLflow shows must be the new trial"


def entries(path: Path, name: str) -> list[dict[str, Any]]:
    """The journal's entries of a trial."""
    found = [json.loads(p.read_text()) for p in path.parent.glob("store/sweep/*/runs/*.json")]
    return [entry for entry in found if entry["name"] == name]


# --- extend


@pytest.mark.parametrize(
    "search",
    [
        {"method": "optuna", "trials": 3, "batch": 2},
        {"method": "optuna", "trials": 2, "batch": 2},
        {"method": "random", "trials": 3, "batch": 2},
        {"method": "grid", "space": {"num_components": {"kind": "choice", "values": [4, 8, 12, 16, 20]}}},
    ],
    ids=lambda search: f"{search['method']}-{search.get('trials')}",
)
def test_extend_uses_every_finished_unit_again(
    here: WithoutRay, sweep_file: Callable[..., Path], search: dict[str, Any]
) -> None:
    path = sweep_file(generators=searched(**search))
    Sweep.from_yaml(path).run()
    before, first = trials(path, "fit"), [name for name in here.started if name.endswith("to 11%")]
    here.started.clear()
    result = call("extend", path, "--trials", 2, "--yes", "--json")
    assert result.exit_code == 0, result.stderr
    fresh = [name for name in here.started if name.endswith("to 11%")]
    assert (len(fresh), set(fresh) & set(first)) == (2, set()), "two settings were added, none was fitted again"
    assert {key: trials(path, "fit")[key] for key in before} == before
    made = said(result)["extended"]
    assert made["reused"] > 0
    assert made["generators"]["gaussian"]["after"] == made["generators"]["gaussian"]["before"] + 2


def test_extend_writes_a_sweep_file_and_records_the_second_look(
    here: WithoutRay, sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = sweep_file(generators=searched(trials=1, batch=1))
    first = Sweep.from_yaml(path)
    first.run()
    result = call("extend", path, "--trials", 1, "--yes", "--json")
    made = said(result)["extended"]
    assert made["path"] == str(tmp_path / "tiny-2.yaml")
    assert yamlfile.load_dict(made["path"])["generators"]["gaussian"]["search"] == {
        **yamlfile.load_dict(path)["generators"]["gaussian"]["search"],
        "trials": 2,
    }
    assert (tmp_path / "tiny-2.yaml").read_text().count("\n") == 4
    (look,) = made["looks_before"]
    assert look == first.sweep_id
    assert "another look" in " ".join(result.stderr.split())
    assert len(first.looks()) == 2


def test_extend_asks_and_keeps_the_file(here: WithoutRay, sweep_file: Callable[..., Path], tmp_path: Path) -> None:
    words = ["sweep", "extend", str(sweep_file(generators=searched())), "--trials", "2", "-o", str(tmp_path / "x.yaml")]
    answers = [CliRunner().invoke(app, words, input="n\n") for _ in range(2)]
    assert [answer.exit_code for answer in answers] == [0, 0], "the file of the same text is taken, not refused"
    assert here.started == []
    assert (tmp_path / "x.yaml").exists()


def test_extend_elsewhere_finds_the_first_file(sweep_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    path = sweep_file(generators=searched())
    made = extend(path, [], 4, output=tmp_path / "more" / "it's.yaml")
    found = yamlfile.load(made["path"]).generators["gaussian"].search
    assert found is not None
    assert found.trials == 7


@pytest.mark.parametrize(
    ("generators", "words", "message"),
    [
        ({"gaussian": None}, {}, "no generator of this sweep is searched"),
        (searched(), {"generator": "vae"}, "is not searched by this sweep (searched: gaussian)"),
        (searched(), {"overrides": ["generators.gaussian.search.trials=3"]}, "an override sets it to 3"),
        (
            searched(method="grid", space={"num_components": {"kind": "choice", "values": [4, 8]}}),
            {},
            "the grid has 2 points up to 5, all tried before",
        ),
    ],
    ids=["none", "unknown", "override", "grid"],
)
def test_extend_refuses(
    sweep_file: Callable[..., Path], generators: dict[str, Any], words: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        extend(sweep_file(generators=generators), words.get("overrides", []), 2, generator=words.get("generator"))
    assert message in str(caught.value)


def test_extend_does_not_overwrite(sweep_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "tiny-5.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"tiny-5\.yaml exists and says something else"):
        extend(sweep_file(generators=searched()), [], 2)
    assert (tmp_path / "tiny-5.yaml").read_text() == "mine"


def test_extend_only_the_generator_that_is_named(sweep_file: Callable[..., Path]) -> None:
    both = {**searched(), "other": {"use": "gaussian", "search": {"trials": 4, "batch": 2}}}
    made = extend(sweep_file(generators=both), [], 2, generator="other")
    assert made["path"].endswith("tiny-9.yaml")
    arms = yamlfile.load(made["path"]).generators
    assert {label: arm.search and arm.search.trials for label, arm in arms.items()} == {"gaussian": 3, "other": 6}


def test_extend_says_how_much_of_a_finer_grid_is_known(sweep_file: Callable[..., Path]) -> None:
    space = {"shrinkage": {"kind": "uniform", "low": 0.0, "high": 1.0}}
    made = extend(sweep_file(generators=searched(method="grid", trials=3, space=space)), [], 2)
    assert made["generators"]["gaussian"] == {"method": "grid", "before": 3, "after": 5, "known": 3}


# --- compare


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished sweep."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tune, "run", WithoutRay().run)
        Sweep.from_yaml(written(folder, "a")).run()
    return folder


@pytest.fixture
def a(finished_once: Path, tmp_path: Path) -> Path:
    """That sweep, with a store of its own."""
    shutil.copytree(finished_once / "store", tmp_path / "store")
    return written(tmp_path, "a")


def test_compare_sets_verdicts_settings_arms_and_generators_side_by_side(
    here: WithoutRay, a: Path, sweep_file: Callable[..., Path]
) -> None:
    b = sweep_file("b", mix={"ratios": [0.25], "classifier": "majority", "repeats": 2})
    Sweep.from_yaml(b).run()
    result = call("compare", a, b, "--json")
    found = said(result)
    assert found["settings"] == [{"key": "mix.ratios", "a": [0.25, 0.5], "b": [0.25]}]
    assert all(found["same"].values())
    assert found["comparable"] == {"val": True, "test": True}
    arms = {tuple(row["name"]): row for row in found["arms"]}
    assert arms["mix", "gaussian+add@0.5"]["b"] is None
    assert arms["mix", "gaussian+add@0.25"]["a"]["mean"] == arms["mix", "gaussian+add@0.25"]["b"]["mean"]
    assert arms["confirm", "real_only"]["a"]["mean"] == pytest.approx(1 / 3)
    (generator,) = [row for row in found["generators"] if row["name"] == "gaussian"]
    assert generator["a"]["measured"].keys() >= {"kid_efficientnet_lite0"}
    assert (found["a"]["looks"], found["a"]["word"]) == (2, "cannot_tell")
    assert "never evidence" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("sections", "differ"),
    [
        ({"split": {"val_share": 0.25, "test_share": 0.25, "split_seed": 1}}, ["train", "showable", "val", "test"]),
        ({"verdict": {"accept_underpowered": True, "metric": "macro_f1"}}, ["metric"]),
    ],
    ids=["split", "metric"],
)
def test_compare_says_when_numbers_are_not_comparable(
    here: WithoutRay, a: Path, sweep_file: Callable[..., Path], sections: dict[str, Any], differ: list[str]
) -> None:
    b = sweep_file("b", **sections)
    Sweep.from_yaml(b).run()
    found = said(call("compare", a, b, "--json"))
    assert [what for what, same in found["same"].items() if not same and what != "images"] == differ
    assert found["comparable"]["test"] is False
    assert f"on test they cannot ({differ[-1]} differ)" in found["said"]


def test_compare_wants_sweeps_that_have_run(here: WithoutRay, sweep_file: Callable[..., Path]) -> None:
    result = call("compare", sweep_file("a"), sweep_file("b"), "--json")
    assert result.exit_code == 2
    assert "was not run in" in said(result)["message"]


# --- sync


def test_sync_mirrors_and_ends(a: Path) -> None:
    state = said(call("sync", a, "--port", "5055", "-s", "tracking.enabled=true", "--json"))
    assert state["behind"] == 0
    assert state["mirrored"] == len(list(a.parent.glob("store/sweep/*/runs/*.json"))) > 0
    assert {name: link.split("#")[0] for name, link in state["links"].items()} == dict.fromkeys(
        ("runs", "charts", "compare"), "http://127.0.0.1:5055/"
    )


def test_sync_says_what_is_missing_where_tracking_is_off(sweep_file: Callable[..., Path]) -> None:
    result = call("sync", sweep_file(), "--json")
    assert result.exit_code == 2
    assert "tracking.enabled is false" in said(result)["message"]


def test_ui_has_no_second_way_to_sync(sweep_file: Callable[..., Path]) -> None:
    result = CliRunner().invoke(app, ["ui", str(sweep_file()), "--sync-only"])
    assert result.exit_code == 2
    assert "No such option" in result.stderr
