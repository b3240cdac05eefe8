"""Finds and removes what nothing in a store can use: `medsynth sweep gc`. Imports no ray.

- **attempt**: files of a unit that its record does not name: their writer was killed, or lost a race.
- **checkpoint**: checkpoints of a fit that is recorded; who starts from that fit reads its own files.
- **temporary**: half-written files of a local store.

What was written after the cut-off is left: its writer may be at work. A kill at any moment leaves a store that works.
"""

from __future__ import annotations

import math
import re
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from medsynth_ray.engine.ledger import live_leaders
from medsynth_ray.engine.store import Record, Store, Unit
from medsynth_ray.errors import SweepLocked

_ATTEMPT = re.compile(r"([a-z_]+)/([0-9a-f]{32})/([0-9a-f]{32})/.+")
_RECORD = re.compile(r"([a-z_]+)/([0-9a-f]{32})/record\.json")
_TEMPORARY = re.compile(r"([^/]+)/.+\.tmp-[0-9a-f]{32}")

Files = dict[str, dict[str, Any]]
"""Store path of a file -> what the file system says of it."""


@dataclass(frozen=True)
class Garbage:
    """One thing to remove. what: attempt | checkpoint | temporary. kind: of the unit, or the store's folder."""

    what: str
    kind: str
    path: str
    num_bytes: int
    unit: Unit | None = None


def collect(store: Store, older_than_hours: float, *, dry_run: bool = False, force: bool = False) -> dict[str, Any]:
    """Remove the garbage of a store; dry_run: only count it.

    older_than_hours: what has a younger file is left. force: although a driver leads a sweep of this store.

    Returns:
        `removed`, rows with `what`, `kind`, `num`, `num_bytes`; `num` and `num_bytes` in all.

    Raises:
        SweepLocked: a driver leads a sweep of this store.
    """
    before = time.time() - older_than_hours * 3600
    if not (dry_run or force):
        for sweep_id, leader in live_leaders(store, store.list("sweep")).items():
            raise SweepLocked(f"sweep {sweep_id} of {store.url} is led by {leader}; stop it first, or --force")
    found = find(store, before)
    if not dry_run:
        for item in found:
            remove(store, item)
    return {
        "store": store.url, "dry_run": dry_run, "removed": _summary(found), "num": len(found),
        "num_bytes": sum(item.num_bytes for item in found),
    }  # fmt: skip


def find(store: Store, before: float) -> list[Garbage]:
    """Everything that was last written before `before` (seconds since 1970) and is of no use."""
    files = _files(store)
    units = _checkpoints(store, files, before)
    gone = {item.path for item in units}
    attempts = [item for item in _attempts(store, files, before) if item.path.rpartition("/")[0] not in gone]
    gone |= {item.path for item in attempts}
    rest = {path: info for path, info in files.items() if not gone & set(_parents(path))}
    return [*attempts, *units, *_temporaries(rest, before)]


def remove(store: Store, item: Garbage) -> None:
    """Remove one thing; an attempt that a record names by now is left."""
    if item.unit is not None:
        store.remove(item.unit)
    elif item.what == "temporary" or not _named(store, item.path):
        store.delete(item.path)


def _files(store: Store) -> Files:
    store.fs.invalidate_cache()
    start = len(store.root.rstrip("/")) + 1
    return {path[start:]: info for path, info in store.fs.find(store.root, detail=True).items()}


def _attempts(store: Store, files: Files, before: float) -> list[Garbage]:
    folders: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path, info in files.items():
        if _ATTEMPT.fullmatch(path):
            folders["/".join(path.split("/")[:3])].append(info)
    old = [path for path, infos in folders.items() if max(map(_written_s, infos)) < before]
    return [
        Garbage("attempt", path.split("/")[0], path, _num_bytes(folders[path]))
        for path in old
        if not _named(store, path)
    ]


def _named(store: Store, attempt: str) -> bool:
    """Whether the record of its unit names this attempt."""
    unit, _, name = attempt.rpartition("/")
    record: Record | None = store.read_json(f"{unit}/record.json")
    return record is not None and record["attempt"] == name


def _checkpoints(store: Store, files: Files, before: float) -> list[Garbage]:
    """Units of the kind checkpoint whose fit is recorded, the last one of each fit first: a fit counts from zero."""
    folders: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path, info in files.items():
        if path.startswith("checkpoint/"):
            folders["/".join(path.split("/")[:2])].append(info)
    recorded = [path for path in folders if f"{path}/record.json" in files]
    if not recorded:
        return []
    fits = {key for path in files if path.startswith("fit/") and _RECORD.fullmatch(path) for key in _keys(store, path)}
    found = []
    for path in recorded:
        inputs = store.read_json(f"{path}/record.json")["inputs"]
        if inputs["fit"] in fits and max(map(_written_s, folders[path])) < before:
            unit = Unit("checkpoint", inputs)
            found.append((inputs["number"], Garbage("checkpoint", unit.kind, path, _num_bytes(folders[path]), unit)))
    return [item for _, item in sorted(found, key=lambda pair: -pair[0])]


def _keys(store: Store, path: str) -> tuple[str, str]:
    """The key of a recorded fit, and the key by which its checkpoints name it: without the engine's version."""
    record: Record = store.read_json(path)
    inputs = {name: value for name, value in record["inputs"].items() if name != "engine"}
    return record["key"], Unit("fit", inputs).key


def _temporaries(files: Files, before: float) -> list[Garbage]:
    return [
        Garbage("temporary", match[1], path, _num_bytes([info]))
        for path, info in files.items()
        if (match := _TEMPORARY.fullmatch(path)) and _written_s(info) < before
    ]


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _num_bytes(infos: Iterable[dict[str, Any]]) -> int:
    return sum(int(info.get("size") or 0) for info in infos)


def _written_s(info: dict[str, Any]) -> float:
    """When a file was last written, in seconds since 1970; one of which that is not known is never old."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return math.inf


def _summary(found: list[Garbage]) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for item in found:
        rows[item.what, item.kind].append(item.num_bytes)
    return [
        {"what": what, "kind": kind, "num": len(sizes), "num_bytes": sum(sizes)}
        for (what, kind), sizes in sorted(rows.items())
    ]
