"""The store: content-keyed units on any fsspec URL, made of one primitive, `create_exclusive(path, bytes) -> bool`.

A unit's files lie in `<kind>/<key>/<attempt>/`; the unit exists once `<kind>/<key>/record.json`, which names the
attempt and the sha256 of every file, has been created. Nothing is renamed or overwritten: a process that was killed,
or that lost a race, leaves an attempt folder that no record names.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from medsynth_ray.errors import StoreError

Record = dict[str, Any]


def canonical(value: Any) -> bytes:
    """JSON bytes that are equal for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def content_key(kind: str, inputs: Any) -> str:
    """The key of a unit: 32 hex digits of sha256 over its kind and inputs."""
    return hashlib.sha256(canonical([kind, inputs])).hexdigest()[:32]


@dataclass(frozen=True)
class Unit:
    """One piece of work: what it is made from decides its key."""

    kind: str
    inputs: dict[str, Any]

    @property
    def key(self) -> str:
        """32 hex digits."""
        return content_key(self.kind, self.inputs)

    @property
    def path(self) -> str:
        """Its folder in the store."""
        return f"{self.kind}/{self.key}"


class Store:
    """Files below one fsspec URL.

    Raises:
        StoreError: the URL cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self.fs, self.root = fsspec.core.url_to_fs(os.path.expanduser(url))
        except (ValueError, ImportError) as error:
            raise StoreError(f"store {url!r} cannot be opened: {error}") from error
        self.local = self.fs.protocol == "file" or "file" in self.fs.protocol
        if self.local:
            self.root = self.url = os.path.abspath(self.root)  # workers have other working directories

    def at(self, path: str) -> str:
        """The full path of a store path."""
        return f"{self.root.rstrip('/')}/{path}"

    # --- the primitive

    def create_exclusive(self, path: str, data: bytes) -> bool:
        """Create `path` with `data` unless it exists; True if this call made it. Durable once it returns.

        `data` must be unlike any other writer's (hold a nonce): after a refusal it is read back, and equal bytes mean
        that our own retried write had won.

        Raises:
            StoreError: the store cannot be written.
        """
        full = self.at(path)
        try:
            made = _create_local(full, data) if self.local else self._create_remote(full, data)
        except OSError as error:
            raise StoreError(f"cannot write {full}: {error}") from error
        return made or self.read(path) == data

    def _create_remote(self, full: str, data: bytes) -> bool:
        with contextlib.suppress(NotImplementedError, FileExistsError):
            self.fs.makedirs(os.path.dirname(full), exist_ok=True)
        try:
            self.fs.pipe_file(full, data, mode="create")  # S3 If-None-Match, GCS generation match
        except FileExistsError:
            return False
        return True

    # --- plain reads and writes

    def read(self, path: str) -> bytes | None:
        """The bytes at `path`; None if there are none."""
        try:
            data: bytes = self.fs.cat_file(self.at(path))
        except FileNotFoundError:
            return None
        return data

    def read_json(self, path: str) -> Any:
        """The JSON at `path`; None if there is none.

        Raises:
            StoreError: the file is damaged.
        """
        data = self.read(path)
        if data is None:
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            raise StoreError(f"{self.at(path)} is damaged: {error}") from error

    def overwrite(self, path: str, data: bytes) -> None:
        """Write `path`, replacing what was there; for heartbeats, reports and other things that are no record.

        Raises:
            StoreError: the store cannot be written.
        """
        full = self.at(path)
        try:
            if self.local:
                _replace_local(full, data)
            else:
                self.fs.pipe_file(full, data)
        except OSError as error:
            raise StoreError(f"cannot write {full}: {error}") from error

    def delete(self, path: str) -> None:
        """Remove the file `path`, or the folder with all that is in it; one that is not there is fine.

        Raises:
            StoreError: the store cannot be written.
        """
        full = self.at(path)
        try:
            self.fs.rm(full, recursive=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot remove {full}: {error}") from error
        finally:
            self.fs.invalidate_cache()

    def list(self, path: str) -> list[str]:
        """Names in the folder `path`, sorted; empty if there is none."""
        try:
            self.fs.invalidate_cache()
            found = self.fs.ls(self.at(path), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(os.path.basename(name.rstrip("/")) for name in found if ".tmp-" not in name)

    # --- units

    def record(self, unit: Unit) -> Record | None:
        """The record of a finished unit, or None."""
        found: Record | None = self.read_json(f"{unit.path}/record.json")
        return found

    def commit(self, unit: Unit, folder: Path, result: dict[str, Any], meta: dict[str, Any]) -> Record:
        """Store the files below `folder` and create the record; returns the record that won.

        result: JSON-able, a pure function of the unit. meta: what may differ between runs (time, host, versions).

        Raises:
            StoreError: the store cannot be written; nothing exists then but an attempt folder.
        """
        attempt = uuid.uuid4().hex
        files = {}
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = file.relative_to(folder).as_posix()
            data = file.read_bytes()
            files[name] = hashlib.sha256(data).hexdigest()
            self.overwrite(f"{unit.path}/{attempt}/{name}", data)
        record = {
            "kind": unit.kind, "key": unit.key, "inputs": unit.inputs, "attempt": attempt, "files": files,
            "result": result, "meta": meta,
        }  # fmt: skip
        self.create_exclusive(f"{unit.path}/record.json", canonical(record))
        won = self.record(unit)
        assert won is not None
        return won

    def remove(self, unit: Unit) -> None:
        """Make a unit as if it had never been: its record first, so that no kill leaves a record without its files.

        Raises:
            StoreError: the store cannot be written.
        """
        self.delete(f"{unit.path}/record.json")
        self.delete(unit.path)

    def ensure(self, unit: Unit, compute: Callable[[Path], tuple[dict[str, Any], dict[str, Any]]]) -> Record:
        """The unit's record; if there is none, `compute(folder) -> (result, meta)` first, with an empty folder.

        Raises:
            StoreError: the store cannot be written.
        """
        found = self.record(unit)
        if found is not None:
            return found
        with tempfile.TemporaryDirectory(prefix="medsynth-unit-") as name:
            folder = Path(name) / "files"  # beside it, a unit may keep scratch that goes with it
            folder.mkdir()
            result, meta = compute(folder)
            return self.commit(unit, folder, result, meta)

    def file(self, record: Record, name: str) -> bytes:
        """One file of a unit, checked against its sha256.

        Raises:
            StoreError: the file is missing or is not what the record says.
        """
        path = f"{record['kind']}/{record['key']}/{record['attempt']}/{name}"
        data = self.read(path)
        if data is None or hashlib.sha256(data).hexdigest() != record["files"].get(name):
            state = "is missing" if data is None else "does not match its record"
            raise StoreError(
                f"{self.at(path)} {state}; delete {self.at(record['kind'] + '/' + record['key'])} to redo it"
            )
        return data

    @contextlib.contextmanager
    def folder(self, record: Record, prefix: str = "") -> Iterator[Path]:
        """A temporary local folder with a unit's files below `prefix`, checked.

        Raises:
            StoreError: a file is missing or damaged.
        """
        target = Path(tempfile.mkdtemp(prefix="medsynth-files-"))
        try:
            self.fetch(record, target, prefix)
            yield target
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def fetch(self, record: Record, target: Path, prefix: str = "") -> None:
        """Copy a unit's files below `prefix` to the local folder `target`, checked.

        Raises:
            StoreError: a file is missing or damaged.
        """
        for name in record["files"]:
            if name.startswith(prefix):
                path = target / name[len(prefix) :].lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.file(record, name))


def _create_local(full: str, data: bytes) -> bool:
    temporary = _write_temporary(full, data)
    try:
        os.link(temporary, full)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    _sync_folder(os.path.dirname(full))
    return True


def _replace_local(full: str, data: bytes) -> None:
    os.replace(_write_temporary(full, data), full)


def _write_temporary(full: str, data: bytes) -> str:
    os.makedirs(os.path.dirname(full), exist_ok=True)
    temporary = f"{full}.tmp-{uuid.uuid4().hex}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return temporary


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
