"""The command line: one JSON object on stdout, everything else on stderr, and the exit codes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder
from typer.testing import CliRunner, Result

from medsynth_ray import __version__
from medsynth_ray.cli import app
from medsynth_ray.driver import Sweep
from medsynth_ray.tracking import process
from tests.engine.inline import config, run

VERBS = ("init", "audit", "plan", "run", "status", "report", "export", "ui", "doctor", "components", "evaluate")


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def said(result: Result) -> dict[str, Any]:
    """The one JSON object that stdout must be."""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of two classes with 40 images each."""
    rng = np.random.default_rng(0)
    for name in ("ill", "well"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(40):
            pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    return tmp_path / "images"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A sweep file and the store of its finished run."""
    folder = tmp_path_factory.mktemp("finished")
    settings = config(folder / "store")
    run(settings).write(["medsynth"], None)
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(settings.model_dump(mode="json")))
    return path, folder


def test_version() -> None:
    assert call("--version").stdout.strip() == __version__


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_and_json(verb: str) -> None:
    text = " ".join(call(verb, "--help").stdout.split())
    assert "Example: medsynth" in text
    assert "--json" in text


def test_init_writes_a_sweep_file_that_audit_and_plan_accept(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "made.yaml"
    made = said(call("init", images, "-o", path, "--json"))
    assert (made["images"], made["classes"], made["grouped"]) == (80, {"ill": 40, "well": 40}, False)
    store = f"store={tmp_path / 'store'}"
    audited = call("audit", path, "-s", store, "--json")
    assert audited.exit_code == 0
    assert said(audited)["usable"] is True
    planned = said(call("plan", path, "-s", store, "--json"))
    assert planned["trials"]["confirm"] == 56
    assert planned["sufficient"] is True
    assert sum(map(sum, planned["counts"].values())) == 80


def test_init_does_not_overwrite(images: Path, tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text("mine")
    result = call("init", images, "-o", tmp_path / "there.yaml")
    assert result.exit_code == 2
    assert "there.yaml exists" in result.stderr
    assert (tmp_path / "there.yaml").read_text() == "mine"


def test_init_wants_two_classes(tmp_path: Path) -> None:
    result = call("init", tmp_path, "--json")
    assert result.exit_code == 2
    assert said(result)["error"] == "ConfigError"


def test_audit_of_unusable_images_ends_with_3(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "made.yaml"
    call("init", images, "-o", path)
    for file in list((images / "ill").iterdir())[4:]:
        file.unlink()
    result = call("audit", path, "--json")
    assert result.exit_code == 3
    assert said(result)["usable"] is False
    assert "ill" in " ".join(f["message"] for f in said(result)["findings"] if f["severity"] == "stop")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mix.ratois=[0.5]", "did you mean 'ratios'"),
        ("mix.ratios=[1.5]", "less than 1"),
        ("generators.gaussian.use=gausian", "did you mean 'gaussian'"),
        ("confirm.repeats=eight", "repeats"),
        ("data.adapter=nosuch", "nosuch"),
    ],
)
def test_a_wrong_setting_ends_with_2_and_names_itself(finished: tuple[Path, Path], setting: str, message: str) -> None:
    result = call("plan", finished[0], "-s", setting, "--json")
    assert result.exit_code == 2
    assert message in said(result)["message"]
    assert message in " ".join(result.stderr.split())


def test_run_refuses_a_hopeless_design(finished: tuple[Path, Path]) -> None:
    result = call("run", finished[0], "-s", "verdict.accept_underpowered=false", "--yes", "--json")
    assert result.exit_code == 2
    assert said(result)["error"] == "Underpowered"


def test_run_asks_and_no_is_no(finished: tuple[Path, Path]) -> None:
    result = CliRunner().invoke(app, ["run", str(finished[0]), "-s", f"store={finished[1] / 'other'}"], input="n\n")
    assert result.exit_code == 0
    assert not list((finished[1] / "other").glob("trial/*"))


def test_run_of_a_finished_sweep_reads_and_says_the_verdict(finished: tuple[Path, Path]) -> None:
    result = call("run", finished[0], "--yes", "--json")
    assert result.exit_code == 0
    assert said(result)["verdict"]["word"] == "cannot_tell"


def test_status_of_a_finished_sweep(finished: tuple[Path, Path]) -> None:
    state = said(call("status", finished[0], "--json"))
    assert state["state"] == "finished"
    assert state["led_by"] == "nobody"


def test_report_can_be_written_elsewhere(finished: tuple[Path, Path], tmp_path: Path) -> None:
    made = said(call("report", finished[0], "-o", tmp_path / "page.html", "--json"))
    assert made["report"] == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_export_writes_an_image_folder_with_metadata_and_the_generator(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    from medsynth_ray.generators.gaussian import Gaussian

    made = said(call("export", finished[0], "gaussian+add@0.5", tmp_path / "out", "--json"))
    images = tmp_path / "out" / "images"
    with (images / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    folder = ImageFolder(str(images))
    assert folder.classes == ["drusen", "haemorrhages", "healthy"]
    assert len(rows) == made["images"] == len(folder)
    assert {row["generator"] for row in rows} == {"gaussian"}
    assert set(rows[0]) >= {"file_name", "label", "synthetic", "generator", "seed", "source", "nearest_real_distance"}
    assert all(row["synthetic"] == "1" and float(row["nearest_real_distance"]) > 0 for row in rows)
    assert (images / rows[0]["file_name"]).exists()
    assert Gaussian.load(tmp_path / "out" / "generator" / "part-0").config.num_components == 32


@pytest.mark.parametrize("arm", ["nosuch", "real_oversampled", "real_oversampled+add@0.5", "real_only"])
def test_export_gives_out_no_control_and_names_what_there_is(
    finished: tuple[Path, Path], tmp_path: Path, arm: str
) -> None:
    result = call("export", finished[0], arm, tmp_path / "out", "--json")
    assert result.exit_code == 2
    assert "gaussian+add@0.25" in said(result)["message"]


@pytest.mark.parametrize(("words", "browser"), [([], True), (["--no-browser"], False)], ids=["", "no-browser"])
def test_ui_opens_a_browser_unless_told_not_to(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, words: list[str], browser: bool
) -> None:
    served: list[tuple[int, bool]] = []
    state = {"mirrored": 3, "behind": 0, "problem": "", "links": {"charts": "http://127.0.0.1:5055/#/x"}, "uri": "x"}
    monkeypatch.setattr(Sweep, "sync", lambda sweep, port: state)
    monkeypatch.setattr(Sweep, "serve", lambda sweep, port, *, browser: served.append((port, browser)))
    result = call("ui", finished[0], "--port", 5055, *words, "--json")
    assert said(result) == state
    assert served == [(5055, browser)]
    assert "http://127.0.0.1:5055/#/x" in result.stderr


@pytest.mark.parametrize(
    ("uri", "served", "opened"),
    [("sqlite:///x.db", ["http://charts"], []), ("http://mlflow:5000", [], ["http://charts"])],
    ids=["file", "server"],
)
def test_a_named_server_is_only_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, served: list[str], opened: list[str]
) -> None:
    sweep = Sweep(config(tmp_path / "store", tracking={"mlflow_uri": uri}))
    sweep.store.overwrite(f"{sweep.folder}/mlflow.json", b'{"charts": "http://charts"}')
    pages: dict[str, list[str]] = {"serve": [], "open": []}
    monkeypatch.setattr(process, "serve", lambda uri, port, *, page: pages["serve"].append(page))
    monkeypatch.setattr(process, "open_page", lambda page: pages["open"].append(page))
    sweep.serve(5000, browser=True)
    assert pages == {"serve": served, "open": opened}


def test_components_show_their_settings() -> None:
    (found,) = said(call("components", "gaussian", "--json"))["components"]
    assert found["role"] == "generators"
    assert {"num_components", "shrinkage"} <= {field["name"] for field in found["fields"]}
    assert all(field["description"] for field in found["fields"])


def test_components_schema_is_a_json_schema() -> None:
    schema = said(call("components", "--schema"))
    assert schema["type"] == "object"
    assert "generators.gaussian" in schema["$defs"]


def test_doctor_races_the_store(tmp_path: Path) -> None:
    result = call("doctor", "--store", tmp_path / "store", "--json")
    checks = {check["name"].split()[0]: check for check in said(result)["checks"]}
    assert checks["store"]["ok"], checks["store"]["said"]
    assert checks["packages"]["ok"], checks["packages"]["said"]


def test_doctor_fails_on_a_store_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = call("doctor", "--store", tmp_path / "file", "--json")
    assert result.exit_code == 1
    assert said(result)["ok"] is False
