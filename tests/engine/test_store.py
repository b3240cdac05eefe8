"""The store: exclusive creation, units, and what is left when any single write fails."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import fsspec
import pytest

from medsynth_ray.doctor import race
from medsynth_ray.engine import store as store_module
from medsynth_ray.engine.store import Store, Unit, canonical, content_key
from medsynth_ray.errors import StoreError

UNIT = Unit("fit", {"a": 1})


def write_unit(folder: Path) -> tuple[dict[str, object], dict[str, object]]:
    (folder / "model").mkdir()
    (folder / "model" / "weights.bin").write_bytes(b"w" * 1000)
    (folder / "notes.txt").write_bytes(b"n")
    return {"steps": 3}, {"host": "here"}


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "store")
    fsspec.filesystem("memory").store.clear()
    return f"memory://{tmp_path.name}"


def test_key_depends_on_content_and_not_on_order() -> None:
    assert content_key("fit", {"a": 1, "b": [2]}) == content_key("fit", {"b": [2], "a": 1})
    assert content_key("fit", {"a": 1}) != content_key("fit", {"a": 2})
    assert content_key("fit", {"a": 1}) != content_key("pool", {"a": 1})


def test_canonical_refuses_nan() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        canonical({"x": float("nan")})


def test_ensure_computes_once_and_reads_back(url: str) -> None:
    calls = []

    def work(folder: Path) -> tuple[dict[str, object], dict[str, object]]:
        calls.append(1)
        return write_unit(folder)

    first = Store(url).ensure(UNIT, work)
    again = Store(url).ensure(UNIT, work)
    assert len(calls) == 1
    assert first == again
    assert first["files"]["notes.txt"] == hashlib.sha256(b"n").hexdigest()
    with Store(url).folder(again, "model/") as folder:
        assert (folder / "weights.bin").read_bytes() == b"w" * 1000
        assert not (folder / "notes.txt").exists()


def test_second_writer_of_a_unit_is_garbage(url: str, tmp_path: Path) -> None:
    store = Store(url)
    (tmp_path / "files").mkdir()
    first = store.commit(UNIT, tmp_path / "files", {"from": "first"}, {})
    second = store.commit(UNIT, tmp_path / "files", {"from": "second"}, {})
    assert second["result"] == {"from": "first"}
    assert second["attempt"] == first["attempt"]


def test_own_retried_write_counts_as_won(url: str) -> None:
    store = Store(url)
    assert store.create_exclusive("x", b"nonce-1")
    assert store.create_exclusive("x", b"nonce-1")
    assert not store.create_exclusive("x", b"nonce-2")


def test_races_have_one_winner(tmp_path: Path) -> None:
    assert "one winner each" in race(str(tmp_path / "store"))


def test_concurrent_commits_agree(tmp_path: Path) -> None:
    url, records = str(tmp_path / "store"), []

    def commit(number: int) -> None:
        folder = tmp_path / f"files-{number}"
        folder.mkdir()
        records.append(Store(url).commit(UNIT, folder, {"from": number}, {}))

    threads = [threading.Thread(target=commit, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({r["attempt"] for r in records}) == 1


def test_damaged_file_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    record = store.ensure(UNIT, write_unit)
    path = Path(store.at(f"{UNIT.path}/{record['attempt']}/notes.txt"))
    path.write_bytes(b"x")
    with pytest.raises(StoreError, match=r"notes\.txt does not match its record; delete"):
        store.file(record, "notes.txt")


def test_torn_record_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    store.overwrite(f"{UNIT.path}/record.json", b'{"kind": "fi')
    with pytest.raises(StoreError, match=r"record\.json is damaged"):
        store.record(UNIT)


def test_a_removed_unit_can_be_made_again(url: str) -> None:
    store = Store(url)
    first = store.ensure(UNIT, write_unit)
    store.remove(UNIT)
    assert store.record(UNIT) is None
    assert store.fs.find(store.at(UNIT.path)) == []
    again = store.ensure(UNIT, write_unit)
    assert again["attempt"] != first["attempt"]
    assert store.file(again, "notes.txt") == b"n"


def test_removing_takes_the_record_first(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(url)
    store.ensure(UNIT, write_unit)
    paths: list[str] = []
    monkeypatch.setattr(Store, "delete", lambda self, path: paths.append(path))
    store.remove(UNIT)
    assert paths == [f"{UNIT.path}/record.json", UNIT.path]


def test_deleting_what_is_not_there_is_fine(url: str) -> None:
    store = Store(url)
    store.overwrite("a/b/c.json", b"{}")
    store.delete("a/b/d.json")
    store.remove(UNIT)
    assert store.read("a/b/c.json") == b"{}"


def test_unknown_protocol_is_a_clear_error() -> None:
    with pytest.raises(StoreError, match="nosuch"):
        Store("nosuch://bucket/x")


class FailingWrites:
    """Lets every write through but the k-th, which raises after `torn` bytes reached the disk."""

    def __init__(self, k: int) -> None:
        self.k, self.count = k, 0
        self.real = store_module._write_temporary

    def __call__(self, full: str, data: bytes) -> str:
        self.count += 1
        if self.count == self.k:
            Path(full).parent.mkdir(parents=True, exist_ok=True)
            Path(f"{full}.tmp-torn").write_bytes(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return self.real(full, data)


def num_writes() -> int:
    """Writes of one `ensure`: two files and the record."""
    return 3


@pytest.mark.parametrize("k", range(1, num_writes() + 1))
def test_any_write_may_fail_and_the_unit_is_whole_or_absent(
    k: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "store")
    failing = FailingWrites(k)
    monkeypatch.setattr(store_module, "_write_temporary", failing)
    with pytest.raises(StoreError, match="No space left on device"):
        Store(url).ensure(UNIT, write_unit)
    assert Store(url).record(UNIT) is None
    record = Store(url).ensure(UNIT, write_unit)  # the same command again
    assert failing.count >= num_writes()
    with Store(url).folder(record) as folder:
        assert (folder / "model" / "weights.bin").read_bytes() == b"w" * 1000


def test_number_of_writes_is_as_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = FailingWrites(0)
    monkeypatch.setattr(store_module, "_write_temporary", counting)
    Store(str(tmp_path / "store")).ensure(UNIT, write_unit)
    assert counting.count == num_writes()


def test_listing_hides_temporaries(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    store.overwrite("ledger/00000000.json", b"{}")
    Path(store.at("ledger/00000001.json.tmp-abc")).write_bytes(b"{")
    assert store.list("ledger") == ["00000000.json"]
    assert store.list("nothing") == []
