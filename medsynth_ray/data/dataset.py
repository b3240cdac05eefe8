"""From an adapter to the frozen data set of a sweep: scan, decode once, audit, split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsynth_ray.data._depth import check_window
from medsynth_ray.data._near import MIN_SIDE_PX, NearPair, comparable, find_pairs
from medsynth_ray.data._reading import Progress, read_all, remarks_of, sha_of, stamps_of, step_identity
from medsynth_ray.data._thumbnails import thumbnails
from medsynth_ray.data.audit import (
    SEVERITIES,
    Finding,
    class_findings,
    duplicate_findings,
    gathered,
    group_findings,
    joined_groups,
    near_findings,
    quarantined,
    reading_findings,
    record_findings,
    share_findings,
)
from medsynth_ray.data.split import SPLITS, split_groups, torn_groups
from medsynth_ray.errors import AuditError, StoreError
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import ImageRecord

if TYPE_CHECKING:
    from medsynth_ray.sections import DataConfig, SplitConfig

CODE_VERSION = 3
"""Moves when decoding, audit or split give other results for the same files."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a sweep works on; nothing in it changes any more.

    images: the usable images, sorted by id, groups joined where they share an image or a near duplicate. splits: str
    (N,) of train, val, test. table: a dict for each image: id, label, group, split, metadata columns. findings: of the
    audit, no stop. thumbnails: id -> uint8 (S, S, 1 or 3), S <= 64, of the first 8 images of each finding, those that
    were set aside included. stamps: id -> hash of what the scan said of it, for all images that were found.
    """

    images: ImageSet
    splits: np.ndarray
    table: list[dict[str, str]]
    findings: tuple[Finding, ...] = ()
    thumbnails: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    stamps: dict[str, str] = field(default_factory=dict, repr=False)
    _parts: dict[str, ImageSet] = field(default_factory=dict, repr=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Sorted; labels are indices into it."""
        return self.images.class_names

    @property
    def fingerprint(self) -> str:
        """sha256 over images and splits: 64 hex digits."""
        return sha_of([self.images.fingerprint, *map(str, self.splits)])

    def part(self, split: str) -> ImageSet:
        """The images of "train", "val" or "test", sorted by id.

        Raises:
            ValueError: another name.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if split not in self._parts:
            self._parts[split] = self.images.take(np.flatnonzero(self.splits == split))
        return self._parts[split]

    def counts(self) -> dict[str, list[int]]:
        """Images of each class in each split."""
        return {split: self.part(split).counts().tolist() for split in SPLITS}

    def save(self, folder: Path) -> None:
        """Write images.safetensors, thumbnails.safetensors and dataset.json; the same data set gives the same bytes."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"pixels": self.images.pixels, "labels": self.images.labels}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "images.safetensors")
        small = {str(place): np.ascontiguousarray(self.thumbnails[name]) for place, name in enumerate(self.thumbnails)}
        save_file(small, folder / "thumbnails.safetensors")
        text = {
            "fingerprint": self.fingerprint,
            "thumbnails": list(self.thumbnails),
            "stamps": self.stamps,
            "class_names": self.class_names,
            "table": self.table,
            "findings": [finding.to_json() for finding in self.findings],
        }
        (folder / "dataset.json").write_text(json.dumps(text, sort_keys=True, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """Read what `save` wrote.

        Raises:
            StoreError: the files do not belong together or were changed.
        """
        from safetensors.numpy import load_file

        text = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "images.safetensors")
        columns = {key: [row[key] for row in text["table"]] for key in ("id", "group", "split")}
        ids, groups, splits = (np.array(column, dtype=str) for column in columns.values())
        images = ImageSet(arrays["pixels"], arrays["labels"], groups, ids, tuple(text["class_names"]))
        findings = tuple(map(Finding.from_json, text["findings"]))
        small = load_file(folder / "thumbnails.safetensors")
        shown = {name: small[str(place)] for place, name in enumerate(text["thumbnails"])}
        found = cls(images, _read_only(splits), text["table"], findings, shown, text["stamps"])
        if found.fingerprint != text["fingerprint"]:
            raise StoreError(f"{folder}: fingerprint is {found.fingerprint}, dataset.json says {text['fingerprint']}")
        return found


def source_key(config: DataConfig, split: SplitConfig) -> dict[str, Any]:
    """What decides the data set, before a pixel is read: JSON-able, equal where `prepare` gives equal results.

    Raises:
        AuditError: the data cannot be listed.
        ConfigError: unknown adapter or setting.
    """
    adapter = config.adapter_config().build()
    stamps = stamps_of(adapter.scan())
    # real_share takes from train what is decoded and split already.
    settings = set(type(config).model_fields) - {"preprocess", "real_share"}
    return {
        "code_version": CODE_VERSION,
        "adapter": config.adapter,
        "adapter_version": adapter.version,
        "source": adapter.config.identity(),
        "reading": config.model_dump(mode="json", include=settings),
        "preprocess": [step_identity(config, number) for number in range(len(config.preprocess))],
        "split": split.model_dump(mode="json"),
        "records_sha256": sha_of([stamps, [f.to_json() for f in getattr(adapter, "findings", [])]]),
    }


def changed(config: DataConfig, data: Dataset) -> dict[str, list[str]]:
    """Ids of images "added", "removed" and "changed" (file or metadata) since `data` was prepared; reads no pixel.

    Raises:
        AuditError: the data cannot be listed.
        ConfigError: unknown adapter or setting.
    """
    now, then = stamps_of(config.adapter_config().build().scan()), data.stamps
    return {
        "added": sorted(now.keys() - then.keys()),
        "removed": sorted(then.keys() - now.keys()),
        "changed": sorted(name for name in now.keys() & then.keys() if now[name] != then[name]),
    }


def prepare(
    config: DataConfig, split: SplitConfig, *, num_threads: int = 2, progress: Progress | None = None
) -> Dataset:
    """Scan, decode in `num_threads` threads, audit and split.

    Raises:
        AuditError: the data cannot be listed, or the audit says stop; lists all reasons.
        ConfigError: unknown adapter or setting.
    """
    seen = _examine(config, split, num_threads, progress)
    stops = [finding.message for finding in seen.findings if finding.severity == "stop"]
    if stops:
        raise AuditError("the data cannot be used as they are:\n" + "\n".join(f"- {message}" for message in stops))
    assert seen.splits is not None
    rows = seen.usable
    names, labels = np.unique(seen.labels[rows], return_inverse=True)
    ids = np.array([seen.records[i].id for i in rows], dtype=str)
    images = ImageSet(seen.pixels, labels, seen.groups[rows], ids, tuple(map(str, names)))
    table = [_row(seen.records[i], str(seen.groups[i]), str(s)) for i, s in zip(rows, seen.splits, strict=True)]
    return Dataset(
        images, _read_only(seen.splits), table, tuple(seen.findings), seen.thumbnails, stamps_of(seen.records)
    )


def audit(
    config: DataConfig, split: SplitConfig, *, num_threads: int = 2, progress: Progress | None = None
) -> tuple[list[Finding], dict[str, Any]]:
    """All findings and a summary (JSON-able); the stop findings are returned like the others.

    Raises:
        AuditError: the data cannot be listed at all.
        ConfigError: unknown adapter or setting.
    """
    seen = _examine(config, split, num_threads, progress)
    labels, groups = seen.labels[seen.usable], seen.groups[seen.usable]
    split_counts = None
    if seen.splits is not None:
        split_counts = {split_name: _label_counts(labels[seen.splits == split_name]) for split_name in SPLITS}
    severities = [finding.severity for finding in seen.findings]
    return seen.findings, {
        "images": len(seen.records),
        "usable": len(seen.usable),
        "groups": len(np.unique(groups)),
        "classes": _label_counts(labels),
        "splits": split_counts,
        "image_shape": list(seen.pixels.shape[1:]),
        "findings": {level: severities.count(level) for level in SEVERITIES},
    }


def _label_counts(labels: np.ndarray) -> dict[str, int]:
    return {str(name): int(count) for name, count in zip(*np.unique(labels, return_counts=True), strict=True)}


@dataclass(frozen=True)
class _Examined:
    """labels, groups: str, one for each record. usable: rows of `records`; pixels and splits are theirs.

    thumbnails: of images that findings name.
    """

    records: list[ImageRecord]
    labels: np.ndarray
    groups: np.ndarray
    usable: np.ndarray
    pixels: np.ndarray
    splits: np.ndarray | None
    findings: list[Finding]
    thumbnails: dict[str, np.ndarray]


def _examine(config: DataConfig, split: SplitConfig, num_threads: int, progress: Progress | None) -> _Examined:
    check_window(config.window)
    adapter = config.adapter_config().build()
    records = adapter.scan()
    findings = [*getattr(adapter, "findings", []), *record_findings(records, config.groups)]
    reads, pixels, prints = read_all(adapter, records, config, num_threads, progress)
    findings += reading_findings(remarks_of(records, reads, stamps_of(config.adapter_config().build().scan())))
    given, more = _given(records, split)
    findings += more

    ids = np.array([record.id for record in records], dtype=str)
    labels = np.array([record.label or "" for record in records], dtype=str)
    groups = np.array([(config.groups == "required" and r.group) or r.id for r in records], dtype=str)
    good = _rows_without(findings, ids)
    digests = np.frombuffer(b"".join(reads[i].digest for i in good), dtype="V16")
    findings += duplicate_findings(ids[good], labels[good], digests, given[good])
    pairs, more = _near(findings, ids, labels, groups, given, prints)
    findings += more
    place = {int(row): at for at, row in enumerate(good)}
    near = [replace(pair, first=place[pair.first], second=place[pair.second]) for pair in pairs]
    joined = joined_groups(groups[good], digests, near)
    groups = groups.astype(np.result_type(groups, joined))
    groups[good] = joined
    usable = _rows_without(findings, ids)
    findings += group_findings(labels[usable], groups[usable])
    findings += class_findings(labels[usable], config.min_class_images, sorted(set(labels) - {""}))
    findings += share_findings(findings, ids, config.max_quarantine_share)
    splits, more = _split(labels[usable], groups[usable], given[usable], split)
    findings += more
    decoded = {record.id: row for row, record in enumerate(records) if reads[row].digest}
    gray = config.channels == "auto" and len(usable) > 0 and all(reads[i].gray for i in usable)
    kept = pixels if len(usable) == len(pixels) else pixels[usable]
    kept = np.ascontiguousarray(kept[..., :1] if gray else kept)
    return _Examined(records, labels, groups, usable, kept, splits, findings, thumbnails(findings, decoded, pixels))


def _near(
    findings: Sequence[Finding],
    ids: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    given: np.ndarray,
    prints: np.ndarray | None,
) -> tuple[list[NearPair], list[Finding]]:
    """Near duplicates among the images that are not set aside; prints: None where they are not to be looked for."""
    if prints is None:
        text = "data.near_duplicates is ignore: nearly equal images were not looked for, they may be in train and test"
        return [], [Finding("near_duplicate", "warn", text)]
    rows = _rows_without(findings, ids)
    found = find_pairs(prints[rows])
    pairs = [replace(pair, first=int(rows[pair.first]), second=int(rows[pair.second])) for pair in found]
    what = f"a side below {MIN_SIDE_PX} px (or no contrast), not looked at for near duplicates"
    blank = {str(ids[row]): "" for row in rows[~comparable(prints[rows])]}
    return pairs, [
        *near_findings(ids, labels, groups, given, pairs),
        *gathered("near_duplicate", "warn", what, blank),
    ]


def _rows_without(findings: Sequence[Finding], ids: np.ndarray) -> np.ndarray:
    aside = quarantined(findings)
    return np.array([i for i, name in enumerate(ids) if name not in aside], dtype=np.int64)


def _given(records: Sequence[ImageRecord], split: SplitConfig) -> tuple[np.ndarray, list[Finding]]:
    """The split that the data bring, str (N,), "" everywhere if it is not complete or not to be kept."""
    none = np.full(len(records), "", dtype="<U5")
    said = [record.split or "" for record in records]
    if split.given == "ignore" or not any(said):
        return none, []
    unknown = sorted(set(said) - {"", *SPLITS})
    if unknown:
        text = f"split {unknown[0]!r} is none of train, val (valid, validation), test"
        text += "; rename it or set split.given: ignore"
        return none, [Finding("given_split", "stop", text, tuple(r.id for r in records if r.split in unknown))]
    without = tuple(r.id for r in records if r.label and not r.split)  # without a label an image is set aside anyway
    if without:
        text = f"{len(without)} of {len(records)} images have no split in the data, so a new one is made for all"
        return none, [Finding("given_split", "warn", text, without)]
    return np.array(said, dtype="<U5"), []


def _split(
    labels: np.ndarray, groups: np.ndarray, given: np.ndarray, split: SplitConfig
) -> tuple[np.ndarray | None, list[Finding]]:
    """Split the usable images; what forbids it is a stop."""
    kept = given if len(given) and given[0] else None
    if len(np.unique(labels)) < 2:
        return None, []
    shares = {"val_share": split.val_share, "test_share": split.test_share}
    try:
        return split_groups(labels, groups, **shares, seed=split.split_seed, given=kept), []
    except AuditError as error:
        torn = () if kept is None else tuple(torn_groups(groups, kept))
        return None, [Finding("split", "stop", str(error), torn)]


def _row(record: ImageRecord, group: str, split: str) -> dict[str, str]:
    """A row of `Dataset.table`; a metadata column that is called like one of ours is kept as `meta_<name>`."""
    own = {"id": record.id, "label": record.label or "", "group": group, "split": split}
    return {**own, **{f"meta_{key}" if key in own else key: value for key, value in record.meta.items()}}


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
