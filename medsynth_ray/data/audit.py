"""What is wrong with a data set: findings, each with the images it is about and what to do.

`stop` ends the sweep before it starts, `quarantine` sets the named images aside, `warn` and `info` are for the report.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from medsynth_ray.data._near import NearPair, families
from medsynth_ray.protocols import ImageRecord

Severity = Literal["stop", "quarantine", "warn", "info"]
SEVERITIES: tuple[Severity, ...] = ("stop", "quarantine", "warn", "info")
_NAMED = 5
"""So many images are named in a message; `ids` holds all."""
_NAME_LENGTH = 100
"""Longer names are shown by their two ends."""


@dataclass(frozen=True)
class Finding:
    """kind: short and stable. message: the file or field, the value, what is allowed. ids: all images it is about."""

    kind: str
    severity: Severity
    message: str
    ids: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON values."""
        return {**asdict(self), "ids": list(self.ids)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Finding:
        """The finding that `to_json` wrote."""
        return cls(value["kind"], value["severity"], value["message"], tuple(value["ids"]))


def listed(details: Mapping[str, str] | Iterable[str]) -> str:
    """`a (detail), b (detail) and 3 more`, in sorted order."""
    texts = dict(details) if isinstance(details, Mapping) else dict.fromkeys(details, "")
    shown = [f"{_safe(key)} ({text})" if (text := texts[key]) else _safe(key) for key in sorted(texts)[:_NAMED]]
    more = len(texts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _safe(name: str) -> str:
    """A file name on one line, not too long, without control or direction-changing characters."""
    shown = name if name.isprintable() else ascii(name)[1:-1]
    half = _NAME_LENGTH // 2
    return shown if len(shown) <= _NAME_LENGTH else f"{shown[:half]}[...]{shown[-half:]}"


def gathered(kind: str, severity: Severity, what: str, details: Mapping[str, str]) -> list[Finding]:
    """One finding for all images in `details` (id -> detail), none for none: `3 images: <what>: a (...), ...`."""
    if not details:
        return []
    head = f"{len(details)} image{'s' if len(details) > 1 else ''}: {what}"
    return [Finding(kind, severity, f"{head}: {listed(details)}", tuple(sorted(details)))]


_READING: dict[str, tuple[Severity, str]] = {
    "unreadable": ("quarantine", "cannot be read"),
    "not_an_image": ("quarantine", "not an image file"),
    "too_many_pixels": ("quarantine", "too many pixels"),
    "several_frames": ("quarantine", "animated or multi-page"),
    "high_depth": ("quarantine", "more than 8 bits a channel"),
    "preprocess": ("quarantine", "a step of data.preprocess cannot use it"),
    "changed": ("quarantine", "the file changed while it was read"),
    "content_type": ("warn", "the file is of another type than its name says"),
    "palette": ("warn", "palette image"),
    "transparency": ("warn", "transparent image"),
    "colour_space": ("warn", "colours are not known exactly"),
    "colour_profile": ("info", "colour profile applied"),
    "window": ("info", "more than 8 bits a channel, data.window applied"),
    "rotated": ("info", "turned upright"),
}


def reading_findings(remarks: Mapping[str, Sequence[tuple[str, str]]]) -> list[Finding]:
    """Findings of decoding: id -> [(kind, detail)]."""
    by_kind: dict[str, dict[str, str]] = defaultdict(dict)
    for name, pairs in remarks.items():
        for kind, detail in pairs:
            by_kind[kind][name] = detail
    return [f for kind, (level, what) in _READING.items() for f in gathered(kind, level, what, by_kind[kind])]


def record_findings(records: Sequence[ImageRecord], groups: Literal["required", "none"]) -> list[Finding]:
    """Missing labels and groups, and names that differ only in case."""
    found = gathered("no_label", "quarantine", "no label", {r.id: "" for r in records if not r.label})
    cases = Counter(r.id.casefold() for r in records)
    found += gathered(
        "case_clash", "warn", "names differ only in case", {r.id: "" for r in records if cases[r.id.casefold()] > 1}
    )
    without = {r.id: "" for r in records if not r.group}
    if groups == "none":
        text = "data.groups is none: every image stands alone, images of one patient may be in train and test"
        if len(without) < len(records):
            text += f"; {len(records) - len(without)} images do have a group, which is not used"
        return [*found, Finding("no_groups", "warn", text)]
    what = "no group (patient, lesion or volume) to keep whole; give a group column or set data.groups: none"
    return found + gathered("no_groups", "stop", what, without)


def duplicate_findings(ids: np.ndarray, labels: np.ndarray, digests: np.ndarray, given: np.ndarray) -> list[Finding]:
    """Exact copies, by decoded content: the first id is kept; under two labels none is.

    ids, labels: str (N,). digests: V16 (N,). given: str (N,), the split that the data bring ("" where they bring none);
    copies in two of them stop the sweep.
    """
    extra, torn, conflict = {}, {}, {}
    for rows in _copies(digests):
        first, several = rows[0], sorted(set(labels[rows]))
        if len(several) > 1:
            conflict.update({str(ids[i]): f"{labels[i]}, same image as {ids[first]}" for i in rows})
        else:
            extra.update({str(ids[i]): f"same image as {ids[first]}" for i in rows[1:]})
        places = sorted(set(given[rows]) - {""})
        if len(places) > 1:
            torn.update({str(ids[i]): str(given[i]) for i in rows})
    cure = "remove them, or set split.given: ignore"
    return [
        *gathered("duplicate", "quarantine", "exact copies, the first of each is kept", extra),
        *gathered("conflicting_labels", "quarantine", "one image under several labels, no copy is kept", conflict),
        *gathered("duplicate_across_splits", "stop", f"copies in several given splits; {cure}", torn),
    ]


def _copies(digests: np.ndarray) -> list[np.ndarray]:
    """Rows of each content that occurs more than once, ascending."""
    _, inverse, counts = np.unique(digests, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    return [rows for rows in np.split(order, np.cumsum(counts)[:-1]) if len(rows) > 1]


def near_findings(
    ids: np.ndarray, labels: np.ndarray, groups: np.ndarray, given: np.ndarray, pairs: Sequence[NearPair]
) -> list[Finding]:
    """Near duplicates: families across given splits stop the sweep, all others are in one group from now on.

    ids, labels, groups, given: str (N,), as in `duplicate_findings`; groups before joining. pairs: rows of these. The
    stop names all images of a family, since to remove one pair of it would leave the others.
    """
    kept = [p for p in pairs if groups[p.first] == groups[p.second]]
    joined = [p for p in pairs if groups[p.first] != groups[p.second]]
    clash = [p for p in pairs if labels[p.first] != labels[p.second]]
    torn = _torn(pairs, given)
    cure = "keep one split's images of each family, or set split.given: ignore"
    return [
        *_paired("near_duplicate", "info", "near duplicates within one group", ids, kept),
        *_paired("near_duplicate", "warn", "near duplicates in different groups, which are now joined", ids, joined),
        *_paired("near_duplicate_labels", "warn", "near duplicates under two labels, all are kept", ids, clash, labels),
        *_paired(
            "near_duplicate_across_splits", "stop", f"near duplicates in two given splits; {cure}", ids, torn, given
        ),
    ]


def _torn(pairs: Sequence[NearPair], given: np.ndarray) -> list[NearPair]:
    """Pairs of the families that lie in several given splits, those across splits first."""
    family = families(len(given), pairs)
    torn = {family[p.first] for p in pairs if given[p.first] != given[p.second]}
    return sorted((p for p in pairs if family[p.first] in torn), key=lambda p: bool(given[p.first] == given[p.second]))


def _paired(
    kind: str,
    severity: Severity,
    what: str,
    ids: np.ndarray,
    pairs: Sequence[NearPair],
    names: np.ndarray | None = None,
) -> list[Finding]:
    """One finding for all pairs; in `ids` partners stand side by side. names: what to say of each image."""
    if not pairs:
        return []
    shown = []
    for pair in pairs[:_NAMED]:
        turn = "" if pair.turn == "upright" else f"{pair.turn}, "
        one, two = (f"{_safe(str(ids[i]))}{f' ({names[i]})' if names is not None else ''}" for i in _rows(pair))
        shown.append(f"{one} ~ {two} ({turn}{pair.score:.2f})")
    more = f" and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
    head = f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''}: {what}"
    about = dict.fromkeys(str(ids[i]) for pair in pairs for i in _rows(pair))
    return [Finding(kind, severity, f"{head}: {', '.join(shown)}{more}", tuple(about))]


def _rows(pair: NearPair) -> tuple[int, int]:
    return pair.first, pair.second


def joined_groups(groups: np.ndarray, digests: np.ndarray, pairs: Iterable[NearPair] = ()) -> np.ndarray:
    """Groups str (N,) after joining (union-find) those that share an image, or hold near duplicates of each other.

    A joined group has the smallest name.
    """
    parent = {str(group): str(group) for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for rows in [*_copies(digests), *(np.array(_rows(pair)) for pair in pairs)]:
        roots = sorted({root(str(group)) for group in groups[rows]})
        parent.update(dict.fromkeys(roots, roots[0]))
    return np.array([root(str(group)) for group in groups], dtype=str)


def group_findings(labels: np.ndarray, groups: np.ndarray) -> list[Finding]:
    """Groups that hold several labels: allowed, since a split keeps them whole, but worth knowing."""
    held: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        held[str(group)].add(str(label))
    mixed = {group: " and ".join(sorted(names)) for group, names in held.items() if len(names) > 1}
    if not mixed:
        return []
    text = f"{len(mixed)} of {len(held)} groups hold images of several classes; they stay whole: {listed(mixed)}"
    return [Finding("mixed_groups", "info", text, tuple(sorted(mixed)))]


def class_findings(labels: np.ndarray, min_class_images: int, known: Iterable[str] = ()) -> list[Finding]:
    """Classes that are too small, and data of one class.

    labels: str (N,) of the usable images. known: names of all classes, so that one without a usable image is seen.
    """
    counts = dict.fromkeys(map(str, known), 0) | Counter(map(str, labels))
    small = [
        Finding(
            "small_class",
            "stop",
            f"class {name!r} has {count} usable images, {min_class_images} are needed: add images, merge it with "
            "another class or leave it out, or lower data.min_class_images (3 at least)",
        )
        for name, count in sorted(counts.items())
        if count < min_class_images
    ]
    found = [name for name, count in counts.items() if count]
    if len(found) < 2:
        text = f"two classes or more are needed, found {len(found)}: {listed(found) or 'no usable image'}"
        return [*small, Finding("one_class", "stop", text)]
    return small


def share_findings(findings: Sequence[Finding], ids: np.ndarray, max_share: float) -> list[Finding]:
    """A stop if more than `max_share` of all images, those without a file included, are set aside."""
    aside = quarantined(findings)
    num_images = len(aside.union(map(str, ids)))
    share = len(aside) / max(num_images, 1)
    if share <= max_share:
        return []
    kinds = Counter(f.kind for f in findings if f.severity == "quarantine" for _ in f.ids)
    reasons = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    text = f"{len(aside)} of {num_images} images ({share:.1%}) cannot be used ({reasons})"
    return [Finding("quarantine_share", "stop", f"{text}; data.max_quarantine_share allows {max_share:.1%}")]


def quarantined(findings: Iterable[Finding]) -> set[str]:
    """Ids of all images that are set aside."""
    return {name for f in findings if f.severity == "quarantine" for name in f.ids}
