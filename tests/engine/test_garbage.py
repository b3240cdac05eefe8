"""gc removes what nothing can use, and nothing else, whenever it is killed."""

from __future__ import annotations

import itertools
import json
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner

from medsynth_ray.cli import app
from medsynth_ray.driver import Sweep
from medsynth_ray.engine import garbage, ledger, tune
from medsynth_ray.engine.garbage import collect
from medsynth_ray.engine.ledger import Ledger, live_leaders
from medsynth_ray.engine.store import Store, Unit, canonical
from medsynth_ray.errors import StoreError, SweepLocked
from tests.engine.inline import config, run

FIT = Unit("fit", {"shown": "abc", "share": 1 / 3, "threads": 1, "engine": 2})
CHECKPOINTS_OF_FIT = Unit("fit", {k: v for k, v in FIT.inputs.items() if k != "engine"}).key
OTHER = Unit("fit", {"shown": "other", "threads": 1, "engine": 2})


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "store"))
    fsspec.filesystem("memory").store.clear()
    return Store(f"memory://{tmp_path.name}")


def commit(store: Store, unit: Unit, tmp_path: Path, size: int = 10) -> None:
    folder = tmp_path / uuid.uuid4().hex
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file.bin").write_bytes(b"x" * size)
    store.commit(unit, folder, {}, {})


@pytest.fixture
def littered(store: Store, tmp_path: Path) -> Store:
    """A recorded fit with two checkpoints and a lost race, an unfinished one with a checkpoint, a killed shard."""
    commit(store, FIT, tmp_path)
    for number in range(2):
        commit(store, Unit("checkpoint", {"fit": CHECKPOINTS_OF_FIT, "number": number}), tmp_path, size=100)
    commit(store, Unit("checkpoint", {"fit": OTHER.key, "number": 0}), tmp_path)
    for unit in (FIT, Unit("shard", {"a": 1})):
        store.overwrite(f"{unit.path}/{uuid.uuid4().hex}/images.npy", b"y" * 7)
    store.overwrite("sweep/tiny-1/ledger/00000000.json", b"{}")
    store.overwrite("mlartifacts/1/" + uuid.uuid4().hex + "/artifacts/a.png", b"png")
    return store


def files(store: Store) -> dict[str, bytes]:
    start = len(store.root.rstrip("/")) + 1
    return {path[start:]: store.fs.cat_file(path) for path in store.fs.find(store.root)}


def rows(done: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {(row["what"], row["kind"]): row["num"] for row in done["removed"]}


EXPECTED = {("attempt", "fit"): 1, ("attempt", "shard"): 1, ("checkpoint", "checkpoint"): 2}


def test_gc_removes_garbage_and_nothing_else(littered: Store) -> None:
    before = files(littered)
    done = collect(littered, 0)
    assert rows(done) == EXPECTED
    gone = {path: data for path, data in before.items() if path not in files(littered)}
    assert done["num_bytes"] == sum(map(len, gone.values()))
    assert sorted({path.split("/")[0] for path in gone}) == ["checkpoint", "fit", "shard"]
    assert len(gone) == 1 + 1 + 2 * 2
    record = littered.record(FIT)
    assert record is not None
    assert littered.file(record, "deep/file.bin") == b"x" * 10
    assert littered.record(Unit("checkpoint", {"fit": OTHER.key, "number": 0})) is not None
    assert collect(littered, 0)["num"] == 0


def test_dry_run_counts_the_same_and_removes_nothing(littered: Store) -> None:
    before = files(littered)
    done = collect(littered, 0, dry_run=True)
    assert rows(done) == EXPECTED
    assert files(littered) == before


def test_what_is_younger_is_left(littered: Store) -> None:
    assert collect(littered, 1)["num"] == 0


def test_age_is_that_of_the_youngest_file(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    attempt = f"fit/{FIT.key}/{uuid.uuid4().hex}"
    for name in ("old", "young"):
        store.overwrite(f"{attempt}/{name}", b"z")
    os.utime(store.at(f"{attempt}/old"), (0, 0))
    assert collect(store, 1)["num"] == 0
    os.utime(store.at(f"{attempt}/young"), (0, 0))
    assert rows(collect(store, 1)) == {("attempt", "fit"): 1}


def test_half_written_files_go(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    name = f"ledger/00000000.json.tmp-{uuid.uuid4().hex}"
    for path in (f"sweep/tiny-1/{name}", f"fit/{FIT.key}/{uuid.uuid4().hex}/a.npy.tmp-{uuid.uuid4().hex}"):
        Path(store.at(path)).parent.mkdir(parents=True)
        Path(store.at(path)).write_bytes(b"{")
    assert rows(collect(store, 0)) == {("temporary", "sweep"): 1, ("attempt", "fit"): 1}
    assert files(store) == {}


def test_an_empty_store_has_no_garbage(store: Store) -> None:
    assert collect(store, 0)["num"] == 0


class Killed(BaseException):
    """Not an Exception, as a kill is none."""


@pytest.mark.parametrize("k", range(6))
def test_killed_anywhere_the_store_works_and_the_rest_goes_next_time(
    littered: Store, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, delete = itertools.count(), Store.delete

    def dies(self: Store, path: str) -> None:
        if next(count) == k:
            raise Killed
        delete(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete", dies)
        with pytest.raises(Killed):
            collect(littered, 0)
    for record in [json.loads(data) for path, data in files(littered).items() if path.endswith("record.json")]:
        assert littered.file(record, "deep/file.bin"), "a record without its files"
    collect(littered, 0)
    assert collect(littered, 0)["num"] == 0
    assert littered.record(FIT) is not None


def test_the_moments_above_are_all_there_are(littered: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, delete = [], Store.delete
    monkeypatch.setattr(Store, "delete", lambda self, path: (calls.append(path), delete(self, path)))
    collect(littered, 0)
    assert len(calls) == 2 * 1 + 2 * 2, "two attempts by one delete each, two units by two"


def test_an_attempt_that_became_the_unit_is_left(littered: Store) -> None:
    found = garbage.find(littered, time.time())
    (item,) = [item for item in found if item.kind == "shard"]
    record = {"kind": "shard", "attempt": item.path.split("/")[2], "files": {}}
    littered.create_exclusive(f"{item.path.rpartition('/')[0]}/record.json", canonical(record))
    garbage.remove(littered, item)
    assert littered.read(f"{item.path}/images.npy") == b"y" * 7


# --- a driver at work


@pytest.fixture
def led(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store, one of whose sweeps is led by this process."""
    monkeypatch.setattr(ledger, "HEARTBEAT_S", 0.05)
    store = Store(str(tmp_path / "store"))
    leading = Ledger(store, "tiny-1")
    leading.lead()
    yield store
    leading.release()


def test_gc_refuses_while_a_driver_leads(led: Store) -> None:
    led.overwrite(f"fit/{FIT.key}/{uuid.uuid4().hex}/a", b"a")
    with pytest.raises(SweepLocked, match=rf"sweep tiny-1 of .* is led by process {os.getpid()} on .*--force"):
        collect(led, 0)
    assert collect(led, 0, dry_run=True)["num"] == 1
    assert collect(led, 0, force=True)["num"] == 1


@pytest.mark.parametrize(
    "beat",
    [
        {"released": True},
        {"epoch": 1, "count": 3, "host": socket.gethostname(), "boot": 0.0, "pid": 1, "born": 0.0},
        {"epoch": 1, "count": 3, "host": "elsewhere", "boot": 0.0, "pid": 1, "born": 0.0},
    ],
    ids=["released", "rebooted", "stands still"],
)
def test_a_heartbeat_that_does_not_move_leads_nothing(
    tmp_path: Path, beat: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "HEARTBEAT_S", 0.05)
    store = Store(str(tmp_path / "store"))
    store.overwrite("sweep/tiny-1/heartbeat.json", canonical(beat))
    assert live_leaders(store, ["tiny-1", "never-led"]) == {}


# --- a finished sweep


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that ran to its verdict, with checkpoints, its sweep file and its verdict.json."""
    folder = tmp_path_factory.mktemp("finished")
    settings = config(folder / "store", runtime={"checkpoint_s": 0.0})
    run(settings).write(["medsynth"], None)
    (folder / "tiny.yaml").write_text(json.dumps(settings.model_dump(mode="json")))
    return folder


def test_after_gc_a_finished_sweep_computes_nothing_and_says_the_same(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (verdict,) = finished.glob("store/sweep/*/verdict.json")
    before = verdict.read_bytes()
    words = ["sweep", "gc", str(finished / "tiny.yaml"), "--older-than-hours", "0", "--json"]
    tried = CliRunner().invoke(app, [*words, "--dry-run"])
    assert rows(json.loads(tried.stdout))["checkpoint", "checkpoint"] >= 3
    assert "would be removed" in tried.stderr
    done = CliRunner().invoke(app, words)
    assert rows(json.loads(done.stdout)) == rows(json.loads(tried.stdout))
    assert not list(finished.glob("store/checkpoint/*/record.json"))

    def computes(*words: Any, **named: Any) -> None:
        raise StoreError("a finished sweep must not compute")

    monkeypatch.setattr(Store, "commit", computes)
    monkeypatch.setattr(tune, "run", computes)
    verdict.unlink()
    Sweep.from_yaml(finished / "tiny.yaml").run()
    assert verdict.read_bytes() == before


@pytest.mark.parametrize("hours", ["-1", "soon"])
def test_a_wrong_age_ends_with_2(finished: Path, hours: str) -> None:
    result = CliRunner().invoke(app, ["sweep", "gc", str(finished / "tiny.yaml"), "--older-than-hours", hours])
    assert result.exit_code == 2
    assert "--older-than-hours" in result.stderr
