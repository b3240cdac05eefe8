"""The mirror against a real MLflow on a database file."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient
from PIL import Image

from medsynth_ray.tracking import mirror
from medsynth_ray.tracking.links import links
from medsynth_ray.tracking.process import Mirror, ui_command

ROOT = Path(__file__).parents[3]
START_MS = 1_700_000_000_000


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), level, dtype=np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def entry(unit: str, **changes) -> dict:
    made = {
        "unit": unit, "name": f"arm-{unit}", "status": "FINISHED", "start_ms": START_MS, "end_ms": START_MS + 5000,
        "params": {"generator": "gaussian", "ratio": 0.5}, "tags": {"stage": "mix"},
        "metrics": [["val/balanced_accuracy", 0.5 + r / 10, r, START_MS + r] for r in range(3)],
        "images": [{"key": "samples/AMD/wet", "step": 11, "timestamp_ms": START_MS, "file": f"kept/{unit}/0.png"}],
        "tables": {"per_class.json": {"class": ["a", "b"], "recall": [0.5, 0.75]}},
        "artifacts": [{"file": f"kept/{unit}/0.png", "name": "pictures/first.png"}],
    }  # fmt: skip
    return {**made, **changes}


class Journal:
    def __init__(self, folder, sweep_id: str) -> None:
        self.store, self.sweep_id = folder, sweep_id
        self.runs = folder / "sweep" / sweep_id / "runs"
        self.runs.mkdir(parents=True)

    def add(self, unit: str, **changes) -> None:
        picture = self.store / "kept" / unit / "0.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(png(100))
        (self.runs / f"{unit}.json").write_text(json.dumps(entry(unit, **changes)))


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One database for all tests of this file: its first use makes a hundred tables."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    MlflowClient(tracking_uri=uri).search_experiments()
    return uri


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "store", tmp_path.name)


@pytest.fixture
def client(uri):
    return MlflowClient(tracking_uri=uri)


def sync(journal, uri):
    return mirror.sync(str(journal.store), journal.sweep_id, uri)


def runs(client, state, view=ViewType.ALL):
    return client.search_runs([state.experiment_id], run_view_type=view)


def artifacts(client, run_id: str, folder: str | None = None) -> list[str]:
    found = client.list_artifacts(run_id, folder)
    below = [name for item in found if item.is_dir for name in artifacts(client, run_id, item.path)]
    return sorted(below + [item.path for item in found if not item.is_dir])


def everything(client, state) -> list:
    """What MLflow holds of a sweep, to compare before and after."""
    return [whole(client, run) for run in runs(client, state)]


def whole(client, run) -> tuple:
    info, data = run.info, run.data
    points = [point for key in data.metrics for point in client.get_metric_history(info.run_id, key)]
    history = [(point.key, point.value, point.step, point.timestamp) for point in points]
    files = artifacts(client, info.run_id)
    return info.run_id, info.status, info.lifecycle_stage, data.params, data.metrics, data.tags, history, files


def test_a_run_holds_what_its_entry_says(journal, uri, client):
    journal.add("u1")
    state = sync(journal, uri)
    assert (state.mirrored, state.behind, state.problem) == (1, 0, "")
    (run,) = runs(client, state)
    assert (run.info.run_name, run.info.status) == ("arm-u1", "FINISHED")
    assert (run.info.start_time, run.info.end_time) == (START_MS, START_MS + 5000)
    assert run.data.params == {"generator": "gaussian", "ratio": "0.5"}
    assert {run.data.tags[key] for key in ("stage", "medsynth.unit")} == {"mix", "u1"}
    history = client.get_metric_history(run.info.run_id, "val/balanced_accuracy")
    assert [(m.value, m.step, m.timestamp) for m in history] == [(0.5 + r / 10, r, START_MS + r) for r in range(3)]


def test_files_lie_where_the_pages_look_for_them(journal, uri, client, tmp_path):
    journal.add("u1")
    state = sync(journal, uri)
    (run,) = runs(client, state)
    found = artifacts(client, run.info.run_id)
    assert "pictures/first.png" in found
    pictures = [name for name in found if name.startswith("images/")]
    stem = f"images/samples~AMD~wet+step+11+timestamp+{START_MS}+"
    assert [name.startswith(stem) for name in pictures] == [True, True]
    assert [name.endswith("+compressed.webp") for name in pictures] == [True, False]
    assert run.data.tags["mlflow.loggedImages"] == "True"
    (table,) = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert table == {"path": "per_class.json", "type": "table"}
    text = client.download_artifacts(run.info.run_id, "per_class.json", str(tmp_path))
    assert pd.read_json(text, orient="split").to_dict("list") == {"class": ["a", "b"], "recall": [0.5, 0.75]}


def test_a_second_sync_changes_nothing(journal, uri, client):
    for unit in ("u1", "u2", "u3"):
        journal.add(unit)
    before = everything(client, sync(journal, uri))
    state = sync(journal, uri)
    assert (state.mirrored, state.behind) == (3, 0)
    assert everything(client, state) == before


def test_a_copy_that_was_cut_off_is_completed_without_doubles(journal, uri, client):
    journal.add("u1")
    state = sync(journal, uri)
    before = everything(client, state)
    client.delete_tag(runs(client, state)[0].info.run_id, "medsynth.synced")
    assert everything(client, sync(journal, uri)) == before


def test_an_entry_that_grows_is_copied_again(journal, uri, client):
    journal.add("u1", status="RUNNING", metrics=[["val/a", 0.25, 0, START_MS]])
    sync(journal, uri)
    journal.add("u1", metrics=[["val/a", 0.25, 0, START_MS], ["val/a", 0.5, 1, START_MS + 1]])
    state = sync(journal, uri)
    (run,) = runs(client, state)
    assert [m.value for m in client.get_metric_history(run.info.run_id, "val/a")] == [0.25, 0.5]
    assert run.info.status == "FINISHED"


def test_nan_and_inf_are_named_but_not_logged(journal, uri, client):
    rows = [["val/a", 0.5, 0, START_MS], ["val/a", float("nan"), 1, START_MS], ["cost/x", float("inf"), 0, START_MS]]
    journal.add("u1", metrics=rows)
    (run,) = runs(client, sync(journal, uri))
    assert run.data.metrics == {"val/a": 0.5}
    assert run.data.tags["medsynth.not_finite"] == "cost/x, val/a"


def test_more_metrics_and_params_than_one_batch_takes(journal, uri, client):
    metrics = [["train/loss", 1.0 / (step + 1), step, START_MS + step] for step in range(1500)]
    params = {f"p{i}": "x" * 7000 if i == 0 else i for i in range(130)}
    journal.add("u1", metrics=metrics, params=params)
    (run,) = runs(client, sync(journal, uri))
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 1500
    assert (len(run.data.params), len(run.data.params["p0"]), run.data.params["p129"]) == (130, 6000, "129")


def test_a_run_that_was_deleted_stays_deleted(journal, uri, client):
    journal.add("u1")
    journal.add("u2")
    state = sync(journal, uri)
    gone = next(run for run in runs(client, state) if run.data.tags["medsynth.unit"] == "u1")
    client.delete_run(gone.info.run_id)
    state = sync(journal, uri)
    assert (state.mirrored, state.behind) == (2, 0)
    assert [run.data.tags["medsynth.unit"] for run in runs(client, state, ViewType.ACTIVE_ONLY)] == ["u2"]
    assert len(runs(client, state)) == 2


def test_an_experiment_that_was_deleted_stays_deleted(journal, uri, client):
    journal.add("u1")
    state = sync(journal, uri)
    client.delete_experiment(state.experiment_id)
    journal.add("u2")
    state = sync(journal, uri)
    assert (state.mirrored, state.behind, len(runs(client, state))) == (2, 0, 1)


def test_of_two_runs_of_one_unit_the_older_is_kept(journal, uri, client):
    journal.add("u1")
    state = sync(journal, uri)
    (first,) = runs(client, state)
    client.create_run(state.experiment_id, start_time=START_MS + 9, tags={"medsynth.unit": "u1"})
    state = sync(journal, uri)
    assert [run.info.run_id for run in runs(client, state, ViewType.ACTIVE_ONLY)] == [first.info.run_id]


def test_two_mirrors_at_once_make_one_run_each(journal, uri, client):
    for i in range(6):
        journal.add(f"u{i}")
    threads = [threading.Thread(target=sync, args=(journal, uri)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs(client, sync(journal, uri))) == 6


NO_FILES = {"images": [], "artifacts": [], "tables": {}}
MISSING_IMAGE = {"key": "k", "step": 0, "timestamp_ms": 1, "file": "none.png"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "bad.json: JSONDecodeError"),
        (json.dumps({"unit": "x"}), "bad.json: KeyError"),
        (json.dumps(entry("x", **{**NO_FILES, "images": [MISSING_IMAGE]})), "bad.json: FileNotFoundError"),
        (json.dumps(entry("x", images=[], artifacts=[{"file": "kept/u1/0.png", "name": "../x"}])), "out of the run"),
        (json.dumps(entry("x", **{**NO_FILES, "tables": {"t.json": {"a": [1], "b": []}}})), "differ in length"),
    ],
)
def test_a_bad_entry_is_told_and_does_not_stop_the_others(journal, uri, content, expected):
    journal.add("u1")
    (journal.runs / "bad.json").write_text(content)
    state = sync(journal, uri)
    assert (state.mirrored, state.behind) == (1, 1)
    assert expected in state.problem


def test_nothing_is_written_to_the_current_directory(journal, uri, client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal.add("u1")
    state = sync(journal, uri)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]
    folder = client.get_experiment(state.experiment_id).artifact_location
    assert folder == f"file://{uri.removeprefix('sqlite:///').removesuffix('mlflow.db')}mlartifacts"


def test_a_sweep_without_journal_is_not_behind(journal, uri):
    state = mirror.sync(str(journal.store), "another", uri)
    assert (state.mirrored, state.behind, state.problem) == (0, 0, "")


def test_a_dead_server_means_behind_within_seconds(journal):
    journal.add("u1")
    journal.add("u2")
    start = time.monotonic()
    state = sync(journal, "http://127.0.0.1:9")
    assert (state.mirrored, state.behind) == (0, 2)
    assert "MlflowException" in state.problem
    assert time.monotonic() - start < 20


def test_links_name_the_three_pages(journal, uri):
    journal.add("u1")
    state = mirror.sync(str(journal.store), journal.sweep_id, uri, base_url="http://127.0.0.1:5001/")
    page = f"http://127.0.0.1:5001/#/experiments/{state.experiment_id}/runs"
    assert (state.links["runs"], state.links["charts"]) == (
        page,
        f"{page}?compareRunsMode=CHART&viewStateShareKey=medsynth",
    )
    assert json.loads((journal.runs.parent / "mlflow.json").read_text()) == state.links


def test_the_compare_page_takes_at_most_eight_runs():
    found = links("https://mlflow.example.org", "7", [f"r{i}" for i in range(300)])["compare"]
    assert found.startswith("https://mlflow.example.org/#/compare-runs?runs=%5B%22r0%22%2C%22r1%22")
    assert found.endswith("%22r7%22%5D&experiments=%5B%227%22%5D")


def wait_until(condition, timeout_s: float = 60.0):
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"nothing after {timeout_s} s"
        time.sleep(0.1)
    return found


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_mirror_process_that_is_killed_comes_back(journal, uri, client):
    warnings: list[str] = []
    process = Mirror(str(journal.store), journal.sweep_id, uri, warn=warnings.append)
    process.start()
    journal.add("u1")
    wait_until(lambda: process.state().get("mirrored") == 1)
    first = process.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: process.pid is None)
    journal.add("u2")
    wait_until(lambda: process.poll() or process.pid)
    assert process.pid != first
    wait_until(lambda: process.poll() or process.state().get("mirrored") == 2)
    journal.add("u3")
    assert process.finish() == 0
    assert len(warnings) == 1
    assert "ended with exit status -9" in warnings[0]
    assert {run.data.tags["medsynth.unit"] for run in runs(client, sync(journal, uri))} == {"u1", "u2", "u3"}
    assert process.pid is None
    process.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_mirror_does_not_outlive_a_driver_that_is_killed(journal, uri):
    code = "import sys, time; from medsynth_ray.tracking.process import Mirror; m = Mirror(*sys.argv[1:]); m.start()"
    code += "; print(m.pid, flush=True); time.sleep(600)"
    command = [sys.executable, "-c", code, str(journal.store), journal.sweep_id, uri]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    mirror_process = psutil.Process(int(driver.stdout.readline()))
    assert mirror_process.is_running()
    driver.kill()
    driver.wait()
    wait_until(lambda: not mirror_process.is_running() or mirror_process.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_finish_counts_what_a_dead_server_did_not_take(journal):
    warnings: list[str] = []
    process = Mirror(str(journal.store), journal.sweep_id, "http://127.0.0.1:9", warn=warnings.append)
    journal.add("u1")
    process.start()
    wait_until(lambda: process.poll() or warnings)
    assert process.finish(timeout_s=2) == 1
    assert len(warnings) == 1
    assert warnings[0].startswith("MLflow is behind (the sweep is not affected): MlflowException")
    process.close()


def test_the_ui_is_served_to_this_machine_only():
    command = ui_command("sqlite:////data/store/mlflow.db", 5005)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--artifacts-destination") + 1] == "/data/store/mlartifacts"
    assert command[2] == mlflow.__name__
