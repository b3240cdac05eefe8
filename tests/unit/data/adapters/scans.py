"""What the tests of all adapters of published sets do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsynth_ray.data.adapters._files import ImageFiles
from medsynth_ray.protocols import ImageRecord, Spec
from medsynth_ray.registry import configure

Found = dict[tuple[str, str], tuple[str, ...]]


def scan(adapter: str, root: Path, **settings: Any) -> tuple[ImageFiles, dict[str, ImageRecord]]:
    """The adapter after its scan, and its records by file name."""
    built = configure("data", Spec(use=adapter, config={"root": str(root), **settings})).build()
    records = built.scan()
    assert [r.id for r in records] == sorted(r.id for r in records)
    return built, {record.id.rpartition("/")[2]: record for record in records}


def found(adapter: ImageFiles) -> Found:
    """(severity, kind) -> ids of the findings."""
    return {(f.severity, f.kind): f.ids for f in adapter.findings}
