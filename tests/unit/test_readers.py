"""From a sweep to packets, from answers to numbers: the paper's own study, and the verbs."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from medsynth_ray.errors import ConfigError
from medsynth_ray.images import concat
from medsynth_ray.readers import export, read_key, read_results, score, scored, write
from medsynth_ray.readers_verbs import app
from medsynth_ray.report.readers.section import readers_section
from medsynth_ray.report.readers.study import Case, Key, Packet, Questions, Showing
from medsynth_ray.result_view import Gatherer
from medsynth_ray.results import SweepResult
from medsynth_ray.sections import ReadersConfig
from tests import reading
from tests.engine.inline import config, run


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepResult, Path]:
    """A finished sweep and its file."""
    folder = tmp_path_factory.mktemp("swept")
    settings = config(folder / "store")
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(settings.model_dump(mode="json")))
    result = run(settings)
    result.write(["medsynth"], None)
    return result, path


def published() -> tuple[Key, dict[int, dict[str, dict[str, str]]]]:
    """31 synthetic images that one radiologist read; of their disease: yes 4, no 24, uncertain 3."""
    cases = tuple(
        Case(image_id=f"synthetic/pneumoconiosis/{i}", synthetic=True, label=1, digest=f"{i:032x}") for i in range(31)
    )
    showings = tuple(Showing(id=f"{i:016x}", case=i) for i in range(31))
    packet = Packet(reader=1, id="f" * 16, showings=showings)
    key = Key(
        sweep="chongqing", arm="stylegan2", secret="0" * 32, class_names=("normal", "pneumoconiosis"), cases=cases,
        packets=(packet,), questions=Questions(),
    )  # fmt: skip
    disease = ["yes"] * 4 + ["no"] * 24 + ["uncertain"] * 3
    said = {
        showing.id: {
            "looks_real": "yes", "plausible": "yes", "malformed": "no", "disease": seen,
            "diagnosis": "class-1" if seen == "yes" else "other",
        }
        for showing, seen in zip(showings, disease, strict=True)
    }  # fmt: skip
    return key, {1: said}


def test_the_study_of_the_paper() -> None:
    result = scored(*published())
    found = result["fidelity"]["pneumoconiosis"]["synthetic"]
    assert (found["count"], found["num"]) == (4, 31)
    assert [round(100 * found[name]) for name in ("value", "low", "high")] == [13, 5, 29]
    reader = result["readers"][0]["fidelity"]["pneumoconiosis"]["synthetic"]
    assert [round(100 * reader[name]) for name in ("value", "low", "high")] == [13, 5, 29]
    counts = {row["name"]: tuple(row["synthetic"].values()) for row in result["questions"]}
    assert counts == {
        "looks_real": (31, 0, 0), "plausible": (31, 0, 0), "malformed": (0, 31, 0), "disease": (4, 24, 3),
    }  # fmt: skip
    assert (result["conclusion"], result["auc"]) == ("cannot_say", None)
    assert result["fidelity"]["pneumoconiosis"]["real"] is None
    assert sum(row["right"] for row in result["pool_images"]) == 4


def test_perfect_readers() -> None:
    key = reading.study()
    result = scored(key, {r: reading.answers(key, r)["answers"] for r in (1, 2, 3)})
    assert result["conclusion"] == "can_tell_apart"
    assert result["auc"]["value"] == 1.0
    assert [row["accuracy"]["value"] for row in result["readers"]] == [1.0] * 3
    assert [row["again"]["origin"]["same"]["num"] for row in result["readers"]] == [4] * 3
    assert result["agreement"]["origin"] == {"kappa": 1.0, "kind": "fleiss", "num": 40}
    assert {(row["read"], row["right"]) for row in result["pool_images"]} == {(3, 3)}


def test_repeats_count_for_agreement_only() -> None:
    def fickle(reader: int, case: Case, repeat: bool) -> dict[str, str]:
        said = reading.perfect(reader, case, repeat)
        return {**said, "origin": "real" if case.synthetic else "synthetic"} if repeat else said

    key = reading.study()
    result = scored(key, {1: reading.answers(key, 1, fickle)["answers"]})
    assert result["readers"][0]["auc"]["value"] == 1.0
    assert result["readers"][0]["again"]["origin"]["same"]["value"] == 0.0
    assert result["readers"][0]["again"]["diagnosis"]["same"]["value"] == 1.0
    assert result["agreement"]["origin"] is None


def test_an_unfinished_packet_is_counted() -> None:
    key = reading.study(readers=1)
    said = dict(list(reading.answers(key, 1)["answers"].items())[:30])
    said[next(iter(said))] = {"origin": "real"}
    row = scored(key, {1: said})["readers"][0]
    assert (row["answered"], row["shown"]) == (29, 44)


# --- from a sweep


def test_packets_of_a_sweep_hold_val_and_the_arm(swept: tuple[SweepResult, Path], tmp_path: Path) -> None:
    result, _ = swept
    made = export(result, "gaussian", tmp_path / "study", per_class=6, num_readers=2)
    key = read_key(tmp_path / "study.key.json")
    names = {case.image_id for case in key.cases if not case.synthetic}
    assert names <= set(result.data.part("val").ids.tolist())
    pool = result.pool("gaussian").images
    digests = {bytes(digest).hex() for digest in pool.digests}
    assert {case.digest for case in key.cases if case.synthetic} <= digests
    assert made["of_each_kind"] == dict.fromkeys(pool.class_names, 6)
    assert stat.S_IMODE((tmp_path / "study.key.json").stat().st_mode) == 0o600
    assert sorted(path.relative_to(tmp_path / "study").as_posix() for path in (tmp_path / "study").rglob("*.*")) == [
        "label-studio/config.xml", "label-studio/reader-1.json", "label-studio/reader-2.json", "reader-1.html",
        "reader-2.html",
    ]  # fmt: skip
    assert len(key.secret) == 64


def test_two_exports_have_different_ids(swept: tuple[SweepResult, Path], tmp_path: Path) -> None:
    keys = []
    for name in ("a", "b"):
        export(swept[0], "gaussian", tmp_path / name, per_class=6, num_readers=1)
        keys.append(read_key(tmp_path / f"{name}.key.json"))
    assert keys[0].cases == keys[1].cases
    assert {s.id for s in keys[0].packets[0].showings}.isdisjoint(s.id for s in keys[1].packets[0].showings)


def test_what_export_refuses(swept: tuple[SweepResult, Path], tmp_path: Path) -> None:
    result, _ = swept
    with pytest.raises(ConfigError, match="no images of 'gausian'"):
        export(result, "gausian", tmp_path / "a")
    with pytest.raises(ConfigError, match="would lie among the packets"):
        export(result, "gaussian", tmp_path / "a", key_path=tmp_path / "a" / "key.json")
    (tmp_path / "taken.json").write_text("kept")
    with pytest.raises(ConfigError, match="is there already; name a new file by --key"):
        export(result, "gaussian", tmp_path / "a", key_path=tmp_path / "taken.json")
    with pytest.raises(ConfigError, match="not an empty folder"):
        export(result, "gaussian", tmp_path)
    assert (tmp_path / "taken.json").read_text() == "kept"
    assert not (tmp_path / "a").exists()


def test_real_images_that_must_not_be_shown_are_not(swept: tuple[SweepResult, Path], tmp_path: Path) -> None:
    private = swept[0].config.model_copy(
        update={"report": swept[0].config.report.model_copy(update={"real_images": False})}
    )
    hidden = SweepResult(private, *(getattr(swept[0], name) for name in ("store", "data", "plan", "schedule", "power")))
    with pytest.raises(ConfigError, match="report.real_images is false"):
        export(hidden, "gaussian", tmp_path / "a")


# --- the verbs


def test_verbs_from_a_sweep_to_numbers(swept: tuple[SweepResult, Path], tmp_path: Path) -> None:
    words = tmp_path / "words.yaml"
    words.write_text("title: Phantoms\nyes_no: {sharp: Is it sharp?}\n")
    made = call(
        "export", swept[1], "--arm", "gaussian+add@0.5", "--per-class", "6", "--readers", "2", "-o",
        tmp_path / "study", "--questions", words, "--json",
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    said = json.loads(made.stdout)
    assert "never send it" in made.stderr
    assert "Phantoms" in (tmp_path / "study" / "reader-1.html").read_text()
    key = read_key(Path(said["key"]))
    paths = []
    for reader in (1, 2):
        content = reading.answers(key, reader, lambda r, case, repeat: {"sharp": "yes", "origin": "real"})
        paths.append(tmp_path / f"answers-{reader}.json")
        paths[-1].write_text(json.dumps(content))
    out, html = tmp_path / "readers.json", tmp_path / "readers.html"
    done = call("score", said["key"], *paths, "-o", out, "--html", html, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(out.read_text()) == json.loads(done.stdout)
    assert json.loads(out.read_text())["questions"][0]["real"]["yes"] == 2 * len(key.cases) // 2
    assert "What readers saw" in html.read_text()
    again = call("score", said["key"], *paths, "-o", out)
    assert again.exit_code == 2
    assert "is there already" in again.stderr


@pytest.mark.parametrize(("name", "content", "says"), [
    ("answers", "{", "cannot be read as JSON"),
    ("answers", "[]", "no answer in it"),
    ("answers", '{"format": "x"}', "neither answers of a packet"),
    ("key", '{"format": "x"}', "key: sweep: is missing|key.sweep: is missing"),
])  # fmt: skip
def test_files_of_another_kind(tmp_path: Path, name: str, content: str, says: str) -> None:
    key = reading.study(readers=1)
    (tmp_path / "key").write_text(key.model_dump_json())
    (tmp_path / "answers").write_text(json.dumps(reading.answers(key, 1)))
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=says):
        score(tmp_path / "key", [tmp_path / "answers"])
    done = call("score", tmp_path / "key", tmp_path / "answers")
    assert (done.exit_code, done.stdout) == (2, "")


def test_a_margin_outside_the_scale_is_refused(tmp_path: Path) -> None:
    key = reading.study(readers=1)
    (tmp_path / "key").write_text(key.model_dump_json())
    (tmp_path / "answers").write_text(json.dumps(reading.answers(key, 1)))
    done = call("score", tmp_path / "key", tmp_path / "answers", "--margin", "0.5", "--json")
    assert (done.exit_code, json.loads(done.stdout)["error"]) == (2, "ConfigError")


@pytest.mark.parametrize("verb", ["export", "score"])
def test_every_verb_has_help_with_an_example_and_json(verb: str) -> None:
    text = " ".join(call(verb, "--help").stdout.split())
    assert "Example: medsynth readers" in text
    assert "--json" in text


@pytest.mark.parametrize("option", ["-o", "--html"])
def test_where_numbers_go_is_looked_at_before_the_work(tmp_path: Path, option: str) -> None:
    done = call("score", tmp_path / "no.key.json", tmp_path / "no.json", option, tmp_path / "no" / "file")
    assert done.exit_code == 2
    assert f"there is no folder {tmp_path / 'no'}" in done.stderr


def results(path: Path, **change: Any) -> Path:
    key = reading.study(readers=1)
    path.write_text(json.dumps({**scored(key, {1: reading.answers(key, 1)["answers"]}), **change}))
    return path


def test_results_are_read_and_checked(tmp_path: Path) -> None:
    assert read_results(results(tmp_path / "r.json"), "toy-00000000")["num_real"] == 20
    with pytest.raises(ConfigError, match="is a study of sweep toy-00000000, not of toy-11111111"):
        read_results(tmp_path / "r.json", "toy-11111111")


@pytest.mark.parametrize(("change", "says"), [
    ({"readers": [{"reader": 1}]}, r"r\.json\.readers\.0\.answered: is missing"),
    ({"conclusion": "yes"}, "conclusion"),
    ({"fidelity": {"a": None}}, "fidelity"),
    ({"auc": {"value": 2, "low": 0, "high": 1}}, r"auc\.value"),
])  # fmt: skip
def test_incomplete_results_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_results(results(tmp_path / "r.json", **change))


def test_the_report_says_where_a_study_is_of_another_sweep(swept: tuple[SweepResult, Path], tmp_path: Path) -> None:
    path = results(tmp_path / "r.json")
    report = swept[0].config.report.model_copy(update={"readers": ReadersConfig(results=str(path))})
    shown = SweepResult(
        swept[0].config.model_copy(update={"report": report}),
        *(getattr(swept[0], name) for name in ("store", "data", "plan", "schedule", "power")),
    )
    found = Gatherer(shown).readers()
    assert found is not None
    assert found["caveat"].startswith("This study is of another sweep, toy-00000000, not of this one, tiny-")
    assert found["caveat"] in readers_section(found)


def test_an_export_that_fails_leaves_nothing_and_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, pixels = reading.study(readers=1), concat(reading.images()).pixels

    def full(image: object) -> bytes:
        raise OSError("no space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("medsynth_ray.report.readers.packet.png", full)
        with pytest.raises(OSError, match="no space left"):
            write(study, pixels, tmp_path / "study", tmp_path / "key.json")
    assert list(tmp_path.iterdir()) == []
    write(study, pixels, tmp_path / "study", tmp_path / "key.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key.json", "study"]


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("kept")
    with pytest.raises(ConfigError, match="is there already"):
        write(reading.study(readers=1), concat(reading.images()).pixels, tmp_path / "out", tmp_path / "k")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "k").read_text() == "kept"
