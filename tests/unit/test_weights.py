"""The registry of weights: names, files that are what they were, downloads that are checked, and the commands."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.numpy import save_file
from torchvision.models import AlexNet_Weights
from typer.testing import CliRunner, Result

from medsynth_ray import weights, yamlfile
from medsynth_ray.errors import ConfigError, WeightsMissing
from medsynth_ray.spaces.inception_v3 import OFFICIAL_SHA256
from medsynth_ray.testing import LocalRuntime
from medsynth_ray.weights_catalogue import CATALOGUE, UNKNOWN_LICENCE
from medsynth_ray.weights_check import check
from medsynth_ray.weights_verbs import app

TENSORS = {"a": np.zeros(2, np.float32), "b": np.ones((1, 3), np.float32)}
NO_SHA = "0" * 64


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own: no registry, no cache, offline."""
    monkeypatch.delenv("MEDSYNTH_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def file(home: Path) -> Path:
    """A safetensors file of two tensors."""
    save_file(TENSORS, home / "net.safetensors")
    return home / "net.safetensors"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def said(result: Result) -> dict[str, Any]:
    """The one JSON object that stdout must be."""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# --- the catalogue


@pytest.mark.parametrize("name", [name for name, one in CATALOGUE.items() if "hub" in one])
def test_hub_names_of_the_catalogue_are_those_of_timm(name: str) -> None:
    repo, _, filename = CATALOGUE[name]["hub"].partition(":")
    known = timm.get_pretrained_cfg(repo.removeprefix("timm/"))
    assert (known.hf_hub_id, known.hf_hub_filename) == (repo, None)
    assert filename == "model.safetensors"
    assert CATALOGUE[name]["licence"].split()[0] == known.license


def test_addresses_of_the_catalogue_are_those_of_their_authors() -> None:
    assert CATALOGUE["legacy_xception"]["uri"] == timm.get_pretrained_cfg("legacy_xception.tf_in1k").url
    assert CATALOGUE["alexnet_imagenet"]["uri"] == AlexNet_Weights.IMAGENET1K_V1.url
    assert CATALOGUE["inception_v3_fid"]["sha256"] == OFFICIAL_SHA256


def test_every_entry_of_the_catalogue_is_valid_and_has_a_licence_line() -> None:
    known = weights.entries()
    assert set(known) == set(CATALOGUE)
    assert {one.licence for one in known.values()} == {"apache-2.0 (as timm states it)", UNKNOWN_LICENCE}


# --- names


@pytest.mark.parametrize("variable", [None, "MEDSYNTH_WEIGHTS"])
def test_an_added_file_is_what_its_name_stands_for(
    file: Path, home: Path, variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv(variable, str(home / "lab" / "weights.yaml"))
    made = weights.add("mine", str(file), licence="cc-by-4.0", note='says "é" # : \\ 12e3')
    assert (made.path, made.sha256) == (str(file), sha256(file))
    assert weights.resolve("mine") == file
    assert LocalRuntime().weights("mine") == file
    path = home / "lab" / "weights.yaml" if variable else home / "config" / "medsynth" / "weights.yaml"
    assert weights.registry_file() == path
    assert weights.entry("mine") == made
    assert sorted(p.name for p in path.parent.iterdir()) == [".weights.yaml.lock", "weights.yaml"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_path_that_exists_needs_no_name(file: Path) -> None:
    assert weights.resolve(str(file)) == file


def test_a_file_shadows_a_name_and_a_folder_does_not(file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.add("mine", str(file))
    monkeypatch.chdir(home)
    (home / "mine").mkdir()
    assert weights.resolve("mine") == file
    (home / "mine").rmdir()
    (home / "mine").write_text("here")
    assert weights.resolve("mine") == Path("mine")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dinov2_vits1", r"'dinov2_vits1' does not exist.*did you mean 'dinov2_vits14'.*medsynth weights list"),
        ("/nowhere/resnet50.pth", r"'/nowhere/resnet50\.pth' does not exist.*did you mean 'resnet50'"),
        ("zzz", r"'zzz' does not exist, and no weights of that name are registered; .*weights add NAME FILE"),
        ("dinov2_vits14", r"'dinov2_vits14' are not on this machine: `medsynth weights pull dinov2_vits14`.*hub:timm/"),
        (".", r"'\.' is a folder, but weights are one file"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(name: str, message: str) -> None:
    with pytest.raises(WeightsMissing, match=message):
        weights.resolve(name)


def test_a_file_that_changed_is_refused_until_it_is_added_again(file: Path) -> None:
    before = weights.add("mine", str(file)).sha256
    save_file({"other": np.zeros(3, np.float32)}, file)
    with pytest.raises(WeightsMissing, match=f"has sha256 {sha256(file)}, registered is {before}"):
        weights.resolve("mine")
    with pytest.raises(ConfigError, match=f"have sha256 {before}, but .* has {sha256(file)}; .* --replace"):
        weights.add("mine", str(file))
    weights.add("mine", str(file), replace=True)
    assert weights.resolve("mine") == file


def test_a_sha256_that_is_pinned_stays_with_the_name(file: Path) -> None:
    pinned = CATALOGUE["inception_v3_fid"]["sha256"]
    with pytest.raises(ConfigError, match=f"have sha256 {pinned}"):
        weights.add("inception_v3_fid", str(file))
    moved = weights.add("inception_v3_fid", "https://mirror/inception.pt")
    assert (moved.sha256, moved.note) == (pinned, CATALOGUE["inception_v3_fid"]["note"])
    other = weights.add("inception_v3_fid", str(file), sha256=sha256(file))
    assert (other.sha256, other.licence, other.note) == (sha256(file), UNKNOWN_LICENCE, "")
    assert weights.add("inception_v3_fid", "https://mirror/inception.pt", replace=True).sha256 is None


def test_adds_at_the_same_time_lose_no_entry(file: Path) -> None:
    with ThreadPoolExecutor(8) as several:
        list(several.map(lambda n: weights.add(f"w{n}", str(file)), range(16)))
    assert set(weights.entries()) == {*CATALOGUE, *(f"w{n}" for n in range(16))}


def test_a_registry_that_a_lab_shares_keeps_its_mode(file: Path) -> None:
    weights.add("mine", str(file))
    weights.registry_file().chmod(0o664)
    weights.add("other", str(file))
    assert stat.S_IMODE(weights.registry_file().stat().st_mode) == 0o664


SECRET = "https://me:s3cret@host/a/net.pth?token=s3cret#s3cret"


def test_secrets_of_a_url_are_not_shown(home: Path) -> None:
    texts = [call("add", "mine", SECRET).stderr, call("add", "mine", SECRET, "--json").stdout]
    texts += [call("list", "--json").stdout, call("pull", "mine").stderr, call("check", "mine").stderr]
    assert [text for text in texts if "s3cret" in text] == []
    assert weights.entry("mine").where == "https://***@host/a/net.pth?***"
    assert yamlfile.load_dict(weights.registry_file())["mine"]["uri"] == SECRET


def test_an_error_that_quotes_the_url_does_not_tell_its_secrets(home: Path) -> None:
    weights.add("mine", f"file://{home}/gone.pth?token=s3cret")
    with pytest.raises(WeightsMissing, match=r"gone\.pth") as raised:
        weights.pull("mine")
    assert "s3cret" not in str(raised.value)


def test_a_registered_file_that_is_gone_is_told(file: Path) -> None:
    weights.add("mine", str(file))
    file.unlink()
    with pytest.raises(WeightsMissing, match=r"net\.safetensors is gone; .*`medsynth weights add mine FILE`"):
        weights.resolve("mine")


def test_an_added_file_takes_the_place_of_a_built_in_name_but_not_its_licence(file: Path) -> None:
    assert weights.add("resnet18", str(file)).licence == UNKNOWN_LICENCE
    assert weights.resolve("resnet18") == file
    assert weights.add("resnet18", str(file), licence="mine").licence == "mine"
    assert weights.add("resnet18", str(file)).licence == "mine"


def test_a_relative_path_in_the_file_is_relative_to_it(file: Path, home: Path) -> None:
    weights.registry_file().parent.mkdir(parents=True)
    weights.registry_file().write_text("mine: {path: ../../net.safetensors}\n")
    assert weights.resolve("mine").samefile(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine: {path: a, uri: https://b/c}", "give one of path, uri and hub, got path and uri"),
        ("mine: {note: x}", "give one of path, uri and hub, got none"),
        ("mine: {path: a, licens: x}", r"mine\.licens: unknown key; did you mean 'licence'"),
        ("mine: {path: a, sha256: abc}", r"mine\.sha256: .*pattern.*got 'abc'"),
        ("mine: {hub: nobody}", r"mine\.hub: .*pattern"),
        ("mine: {uri: https://b/..}", "names no file"),
        ("mine: {uri: http://b/c.pth}", "http:// can be altered on its way"),
        ("Mine!: {path: a}", "weights name 'Mine!': allowed are"),
        ("a: {path: b}\na: {path: c}", "duplicate key"),
        ("- mine", "a registry of weights is a mapping"),
        ("", "the file is empty$"),
        ("mine: {uri: 'simplecache::https://b/c'}", "chains"),
        ("mine: {uri: ftp://b/c.pth}", "ftp:// is not taken"),
        ("mine: {uri: HTTP://b/c.pth}", "http:// can be altered on its way"),
        ("mine: {uri: sftp://b/c.pth}", "sftp:// can be altered on its way"),
    ],
)
def test_a_wrong_registry_file_is_refused_with_its_place(text: str, message: str) -> None:
    weights.registry_file().parent.mkdir(parents=True)
    weights.registry_file().write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        weights.resolve("mine")
    assert str(weights.registry_file()) in str(raised.value)


@pytest.mark.parametrize(
    ("name", "place", "options", "message"),
    [
        ("Bad Name", "x", {}, "allowed are up to 60"),
        ("extends", "x", {}, "allowed are up to 60"),
        ("mine", "/nowhere.pt", {}, r"'/nowhere\.pt' does not exist"),
        ("mine", "hub:nobody", {}, r"mine\.hub"),
        ("mine", "https://a/b.pth", {"sha256": "12"}, r"mine\.sha256"),
        ("mine", "FILE", {"sha256": NO_SHA}, f"expected {NO_SHA}"),
    ],
)
def test_what_cannot_be_added_is_refused_and_nothing_is_written(
    file: Path, name: str, place: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        weights.add(name, place.replace("FILE", str(file)), **options)
    assert not weights.registry_file().exists()


@pytest.mark.parametrize(
    ("place", "kind", "filename"),
    [
        ("https://host/a/net.pth?download=1", "uri", "net.pth"),
        ("s3://bucket/net.safetensors", "uri", "net.safetensors"),
        ("hub:owner/repo:model.safetensors", "hub", "model.safetensors"),
        ("hub:owner/repo@0123abc:deep/model.bin", "hub", "model.bin"),
    ],
)
def test_remote_places_are_kept_as_given(place: str, kind: str, filename: str) -> None:
    made = weights.add("mine", place)
    assert f"{'hub:' if kind == 'hub' else ''}{getattr(made, kind)}" == place
    assert (made.filename, made.sha256) == (filename, None)
    assert yamlfile.load_dict(weights.registry_file())["mine"] == {kind: place.removeprefix("hub:")}


# --- pull


def test_the_first_pull_trusts_and_records_what_came_and_the_second_finds_it(file: Path, home: Path) -> None:
    weights.add("mine", f"file://{file}")
    first = weights.pull("mine")
    path = home / "cache" / "medsynth" / "weights" / sha256(file) / "net.safetensors"
    assert first == {
        "name": "mine", "path": str(path), "sha256": sha256(file), "num_bytes": file.stat().st_size, "pulled": True,
        "first_use": True,
    }  # fmt: skip
    assert path.read_bytes() == file.read_bytes()
    assert weights.entry("mine").sha256 == sha256(file)
    file.unlink()
    again = weights.pull("mine")
    assert (again["pulled"], again["first_use"]) == (False, False)
    assert weights.resolve("mine") == path


def test_a_download_with_another_sha256_is_thrown_away(file: Path, home: Path) -> None:
    weights.add("mine", f"file://{file}", sha256=NO_SHA)
    with pytest.raises(ConfigError, match=f"has sha256 {sha256(file)}, expected {NO_SHA}; it was thrown away"):
        weights.pull("mine")
    assert list((home / "cache" / "medsynth" / "weights").iterdir()) == []


def test_a_damaged_file_of_the_cache_is_pulled_again(file: Path) -> None:
    weights.add("mine", f"file://{file}")
    path = Path(weights.pull("mine")["path"])
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsMissing, match="has sha256"):
        weights.resolve("mine")
    assert weights.pull("mine")["pulled"]
    assert weights.resolve("mine").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", ["inception_v3_fid", "dinov2_vits14"])
def test_offline_it_is_said_what_to_do(name: str) -> None:
    with pytest.raises(WeightsMissing, match=f"cannot be downloaded.*by hand, then `medsynth weights add {name} FILE`"):
        weights.pull(name)


def test_a_remote_file_that_is_not_there_is_told(home: Path) -> None:
    weights.add("mine", f"file://{home}/gone.pth")
    with pytest.raises(WeightsMissing, match=r"FileNotFoundError.*Copy the file gone\.pth"):
        weights.pull("mine")


def test_a_hub_file_comes_by_repository_name_and_revision(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def download(repo: str, filename: str, *, revision: str | None, local_files_only: bool) -> str:
        asked.append((repo, filename, revision, local_files_only))
        return str(file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    weights.add("mine", "hub:owner/repo@abc123:deep/net.safetensors")
    assert weights.pull("mine")["sha256"] == sha256(file)
    assert asked == [("owner/repo", "deep/net.safetensors", "abc123", True)]
    assert weights.resolve("mine").name == "net.safetensors"


@pytest.fixture
def server(file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Address of a web server on this machine that has the folder of `file`."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(file.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_a_file_comes_over_http(file: Path, server: str) -> None:
    weights.add("mine", f"{server}/net.safetensors", sha256=sha256(file))
    assert weights.pull("mine")["pulled"]
    assert weights.resolve("mine").read_bytes() == file.read_bytes()


def test_an_address_that_has_no_file_is_told(server: str) -> None:
    weights.add("mine", f"{server}/gone.safetensors", sha256=NO_SHA)
    with pytest.raises(WeightsMissing, match=r"FileNotFoundError.*weights add mine FILE"):
        weights.pull("mine")


def test_a_local_entry_needs_no_pull(file: Path) -> None:
    weights.add("mine", str(file))
    assert weights.pull("mine") == {
        "name": "mine", "path": str(file), "sha256": sha256(file), "num_bytes": file.stat().st_size, "pulled": False,
        "first_use": False,
    }  # fmt: skip


# --- check


def test_a_sound_file_is_ok_with_its_tensors(file: Path) -> None:
    weights.add("mine", str(file))
    row = check("mine")
    assert (row["state"], row["num_tensors"], row["said"]) == ("ok", 2, "safetensors")


@pytest.mark.parametrize(("suffix", "zipped"), [("pth", True), ("pt", True), ("bin", False)])
def test_torch_files_are_read_without_running_them(home: Path, suffix: str, zipped: bool) -> None:
    path = home / f"net.{suffix}"
    state = {"state_dict": {"a": torch.zeros(2), "b": torch.ones(3)}, "epoch": 3}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    weights.add("mine", str(path))
    assert (check("mine")["state"], check("mine")["num_tensors"]) == ("ok", 2)


def test_torchscript_is_never_loaded(home: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), home / "net.pt")  # type: ignore[no-untyped-call]
    weights.add("mine", str(home / "net.pt"))
    row = check("mine")
    assert (row["state"], row["num_tensors"]) == ("ok", None)
    assert "TorchScript is code" in row["said"]


class Payload:
    """A pickle that would make a file when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.path,))


def test_a_pickle_with_code_is_unreadable_and_does_not_run(home: Path) -> None:
    torch.save({"a": Payload(str(home / "ran"))}, home / "bad.pt")
    weights.add("mine", str(home / "bad.pt"))
    assert check("mine")["state"] == "unreadable"
    assert not (home / "ran").exists()


def test_an_empty_file_is_unreadable_and_torchs_advice_is_not_passed_on(home: Path) -> None:
    (home / "empty.pth").write_bytes(b"")
    torch.save({"a": Payload(str(home / "ran"))}, home / "bad.pt")
    for name in ("empty.pth", "bad.pt"):
        weights.add("mine", str(home / name), replace=True)
        row = check("mine")
        assert (row["state"], "False" in row["said"]) == ("unreadable", False)


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth"])
def test_a_cut_off_file_is_unreadable(file: Path, home: Path, name: str) -> None:
    path = home / name
    path.write_bytes(file.read_bytes()[:20])
    weights.add("mine", str(path))
    assert check("mine")["state"] == "unreadable"


# --- the commands


@pytest.mark.parametrize("verb", ["list", "add", "check", "pull"])
def test_every_verb_has_help_with_an_example_and_json(verb: str) -> None:
    text = " ".join(call(verb, "--help").stdout.split())
    assert "Example: medsynth weights" in text
    assert "--json" in text


def test_add_list_and_check_tell_of_a_file(file: Path) -> None:
    added = said(call("add", "mine", file, "--licence", "mit", "--json"))
    assert (added["name"], added["sha256"], added["licence"]) == ("mine", sha256(file), "mit")
    rows = {row["name"]: row for row in said(call("list", "--json"))["weights"]}
    assert set(rows) == {*CATALOGUE, "mine"}
    assert (rows["mine"]["there"], rows["mine"]["num_bytes"], rows["mine"]["own"]) == (True, file.stat().st_size, True)
    assert (rows["resnet50"]["there"], rows["resnet50"]["own"]) == (False, False)
    checked = call("check", "--json")
    assert (checked.exit_code, said(checked)["ok"], len(said(checked)["weights"])) == (0, True, 1)


def test_people_read_tables_on_stderr(file: Path) -> None:
    call("add", "mine", file)
    for words, expected in ((("list",), "inception_v3_fid"), (("check",), "safetensors")):
        result = call(*words)
        assert (result.exit_code, result.stdout) == (0, "")
        assert expected in result.stderr


@pytest.mark.parametrize("names", [(), ("mine",)])
def test_check_exits_with_2_where_a_file_is_another(file: Path, names: tuple[str, ...]) -> None:
    call("add", "mine", file)
    save_file({"other": np.zeros(3, np.float32)}, file)
    result = call("check", *names, "--json")
    assert result.exit_code == 2
    assert [row["state"] for row in said(result)["weights"]] == ["changed"]


@pytest.mark.parametrize(("name", "state"), [("resnet50", "missing"), ("resnet51", None)])
def test_check_of_a_named_one_that_is_not_here_exits_with_2(name: str, state: str | None) -> None:
    result = call("check", name, "--json")
    assert result.exit_code == 2
    if state is None:
        assert "did you mean 'resnet50'" in said(result)["message"]
    else:
        assert said(result)["weights"][0]["state"] == state


def test_pull_says_that_it_trusts_on_first_use(file: Path) -> None:
    call("add", "mine", f"file://{file}")
    result = call("pull", "mine", "--json")
    assert result.exit_code == 0
    assert said(result)["weights"][0]["sha256"] == sha256(file)
    assert "Nobody had said which sha256 mine must have" in result.stderr


def test_pull_offline_exits_with_2(home: Path) -> None:
    result = call("pull", "inception_v3_fid", "--json")
    assert (result.exit_code, said(result)["error"]) == (2, "WeightsMissing")
