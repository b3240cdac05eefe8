"""Two folders of images, compared: every metric in every space, over all images and for each class.

Each image is decoded once and enters a space at its own size, which the space stretches to what its network reads; with
`resolution` it is first stretched to that, as in a sweep. Images are read in chunks, of which features alone are kept.
A chunk's features are cached by content: sha256 of its decoded bytes, of what the space is (weights by their sha256),
and of what computes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medsynth_ray import registry
from medsynth_ray.data._decode import Refused, decode, shrink
from medsynth_ray.data._depth import Window, check_window
from medsynth_ray.engine.identity import component_identity
from medsynth_ray.errors import AuditError, ConfigError
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Baseline, ImageRecord, Spec
from medsynth_ray.testing import LocalRuntime

CODE_VERSION = 1
"""Moves when the same decoded images get other features for a reason that no component's version tells."""
CHUNK_IMAGES = 128
"""Images that are decoded at a time, and whose features lie in one file of the cache."""
DEFAULT_SPACES = ("efficientnet_lite0",)
_EXTREMES = {"floor_high": "highest", "floor_max": "highest", "floor_low": "lowest"}
"""What metrics call the worst of real against real."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Row:
    """One metric in one space. label: the class, None for all images. value: None where the metric refused: `reason`.

    low, high: 95 % interval, if the metric has one. floor: mean of real against real, floor_extreme its worst value.
    """

    space: str
    metric: str
    label: str | None
    name: str
    num_real: int
    num_synthetic: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    floor: float | None = None
    floor_extreme: float | None = None
    details: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    said: str = ""


@dataclass(frozen=True)
class Side:
    """A folder's usable images. left_out: id -> why. counts: images of each class, of "" those without one."""

    root: str
    num_images: int
    counts: dict[str, int]
    left_out: dict[str, str]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. num_cached: chunks of features that were read, of num_chunks. notes: what to know."""

    real: Side
    synthetic: Side
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    num_cached: int
    num_chunks: int

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON values."""
        return asdict(self)


def default_cache() -> Path:
    """$XDG_CACHE_HOME/medsynth/features, or ~/.cache/medsynth/features."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medsynth" / "features"


def evaluate(
    real: str,
    synthetic: str,
    *,
    spaces: Sequence[Spec] = (),
    metrics: Sequence[Spec] = (),
    resolution: int | None = None,
    window: Window = None,
    per_class: bool = True,
    cache: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare the images below two folders or URLs.

    Args:
        real: flat, or with a subfolder for each class.
        synthetic: the same.
        spaces: default: efficientnet_lite0.
        metrics: default: all that are known.
        resolution: side in pixels to which every image is stretched first; None: each keeps its size.
        window: for more than 8 bits a channel, as `data.window`.
        per_class: also compare class by class, where both folders have the same classes.
        cache: folder of features; default: `default_cache()`.
        seed: of subsets, permutations and halvings.
        progress: called with (done, total, what).

    Raises:
        AuditError: a folder cannot be read, an image has more than 8 bits and there is no window, or too few are left.
        ConfigError: an unknown space, metric or setting; a cache that cannot be written.
    """
    check_window(window)
    if resolution is not None and not 8 <= resolution <= 2048:
        raise ConfigError(f"resolution must be in [8, 2048] px, got {resolution}")
    measuring = [(spec.use, registry.configure("metrics", spec).build()) for spec in metrics or _all_metrics()]
    banks = [_Bank(spec, cache or default_cache()) for spec in spaces or [Spec(use=name) for name in DEFAULT_SPACES]]
    if len({bank.label for bank in banks}) < len(banks):
        raise ConfigError(f"spaces must differ in name, got {', '.join(bank.label for bank in banks)}")
    reader = _Reader(banks, resolution, window, progress)
    first, second = reader.read(real, "real"), reader.read(synthetic, "synthetic")
    classes, notes = _classes(first, second) if per_class else ([], [])
    rows = [
        _row(bank, use, metric, first, second, label, seed)
        for bank in banks
        for label in (None, *classes)
        for use, metric in measuring
    ]
    _require_a_number(rows)
    notes += _notes(first, second)
    num_cached, num_chunks = (sum(getattr(bank, name) for bank in banks) for name in ("num_cached", "num_chunks"))
    return Evaluation(first.side, second.side, tuple(rows), tuple(notes), num_cached, num_chunks)


# --- reading and features --------------------------------------------------------------------------------------------


class _Bank:
    """One space and its cache."""

    def __init__(self, spec: Spec, cache: Path) -> None:
        config = registry.configure("spaces", spec)
        if Baseline() in config.needs():
            raise ConfigError(f"space {spec.use!r} needs a sweep's classifier, so two folders cannot be compared in it")
        self.label = str(getattr(config, "label", spec.use))
        self.num_cached = self.num_chunks = 0
        self._space, self._cache, self._runtime = config.build(), cache, _Runtime()
        self._identity = {
            "code": CODE_VERSION, "space": component_identity("spaces", spec, baseline=Spec(use="majority")),
            "torch": torch.__version__, "device": self._runtime.device, "threads": self._runtime.num_threads,
        }  # fmt: skip

    def features(self, pixels: Sequence[np.ndarray], content: str) -> np.ndarray:
        """float32 (N, D) of uint8 (H, W, 1 or 3) images whose bytes have the sha256 `content`.

        Raises:
            ConfigError: the cache cannot be written, or the space cannot take images of several sizes.
        """
        key = hashlib.sha256(json.dumps([self._identity, content], sort_keys=True).encode()).hexdigest()
        path = self._cache / key[:2] / f"{key}.npy"
        self.num_chunks += 1
        known = _read_features(path, len(pixels))
        if known is not None:
            self.num_cached += 1
            return known
        found = self._embed(pixels)
        _write_features(path, found)
        return found

    def _embed(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        if hasattr(self._space, "embed_each"):
            each: np.ndarray = self._space.embed_each(pixels, runtime=self._runtime)
            return each
        sizes = {image.shape[:2] for image in pixels}
        if len(sizes) > 1:
            raise ConfigError(f"space {self.label!r} takes images of one size, found {len(sizes)}; give --resolution")
        channels = max(image.shape[2] for image in pixels)
        stacked = np.stack([np.broadcast_to(image, (*image.shape[:2], channels)) for image in pixels])
        names = np.array([str(i) for i in range(len(pixels))])
        images = ImageSet(stacked, np.zeros(len(pixels), dtype=np.int64), names, names, ("all",))
        found: np.ndarray = self._space.embed(images, runtime=self._runtime)
        return found


class _Runtime(LocalRuntime):
    """This process, with all its threads and its GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.num_threads = torch.get_num_threads()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"


def _read_features(path: Path, num: int) -> np.ndarray | None:
    """Features of `num` images; None where there are none, or the file is damaged."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    is_whole = isinstance(found, np.ndarray) and found.ndim == 2 and len(found) == num and found.dtype == np.float32
    return found if is_whole else None


def _write_features(path: Path, features: np.ndarray) -> None:
    """Complete or not at all: several calls may share a cache."""
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}.npy")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(temporary, features, allow_pickle=False)
        os.replace(temporary, path)
    except OSError as error:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
        where = path.parent.parent
        raise ConfigError(f"cache {str(where)!r} cannot be written ({error}); give --cache another folder") from error


@dataclass(frozen=True)
class _Read:
    """A folder after reading. labels, digests: of usable images. features: one array for each space, by its label."""

    side: Side
    labels: np.ndarray
    digests: list[bytes]
    features: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Image:
    pixels: np.ndarray
    digest: bytes


@dataclass(frozen=True)
class _Reader:
    """Reads folders in the same way."""

    banks: Sequence[_Bank]
    resolution: int | None
    window: Window
    progress: Progress | None

    def read(self, root: str, what: str) -> _Read:
        """Decode everything once, and embed it in every space.

        Raises:
            AuditError: the folder cannot be listed, an image is deep, or fewer than 2 can be used.
        """
        adapter = registry.configure("data", Spec(use="folder", config=_folder_settings(root))).build()
        records = adapter.scan()
        unusable = [f for f in adapter.findings if f.severity in ("stop", "quarantine")]
        left_out = {name: finding.message for finding in unusable for name in finding.ids}
        usable: list[ImageRecord] = []
        digests: list[bytes] = []
        parts: dict[str, list[np.ndarray]] = {bank.label: [] for bank in self.banks}
        for done, chunk, images in self._chunks(adapter, records, left_out):
            content = _content_of([image.pixels for image in images])
            for bank in self.banks if images else ():
                parts[bank.label].append(bank.features([image.pixels for image in images], content))
            usable += chunk
            digests += [image.digest for image in images]
            if self.progress is not None:
                self.progress(done, len(records), f"{what}: read and embed")
        if len(usable) < 2:
            reason = next(iter(left_out.values()), "there is no more")
            raise AuditError(f"{what} {root!r}: {len(usable)} usable image(s), {len(left_out)} left out ({reason})")
        labels = np.array([record.label or "" for record in usable])
        names, counts = np.unique(labels, return_counts=True)
        side = Side(root, len(usable), dict(zip(map(str, names), map(int, counts), strict=True)), left_out)
        features = {label: np.concatenate(part) for label, part in parts.items()}
        return _Read(side, labels, digests, features)

    def _chunks(
        self, adapter: Any, records: Sequence[ImageRecord], left_out: dict[str, str]
    ) -> Iterator[tuple[int, list[ImageRecord], list[_Image]]]:
        """(records done, usable records, their images), chunk by chunk; what cannot be read goes to `left_out`."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for start in range(0, len(records), CHUNK_IMAGES):
                part = records[start : start + CHUNK_IMAGES]
                read = list(zip(part, pool.map(lambda record: self._decoded(adapter, record), part), strict=True))
                left_out.update({record.id: found for record, found in read if isinstance(found, str)})
                good = [(record, found) for record, found in read if isinstance(found, _Image)]
                yield start + len(part), [record for record, _ in good], [image for _, image in good]

    def _decoded(self, adapter: Any, record: ImageRecord) -> _Image | str:
        """The image, or why it cannot be read.

        Raises:
            AuditError: it has more than 8 bits a channel, and nothing says which values to show.
        """
        try:
            decoded = decode(adapter.read(record), record.id, self.window)
        except Refused as error:
            if error.kind == "high_depth":
                raise AuditError(f"{record.id}: {error.detail} (--window LOW,HIGH or --window full)") from error
            return f"{error.kind}: {error.detail}"
        except OSError as error:
            return f"unreadable: {error.strerror or error}"
        if self.resolution is not None:
            pixels = shrink(decoded.image, self.resolution, 1 if decoded.image.mode == "L" else 3)
        else:
            pixels = np.asarray(decoded.image)
        return _Image(pixels if pixels.ndim == 3 else pixels[..., None], decoded.digest)


def _folder_settings(root: str) -> dict[str, Any]:
    # Any folder: a metadata file of something else must not decide which images count.
    return {"root": root, "metadata": None, "allow_empty": True}


def _content_of(pixels: Sequence[np.ndarray]) -> str:
    """sha256 over shapes and bytes, in order."""
    sha = hashlib.sha256()
    for image in pixels:
        sha.update(repr(image.shape).encode())
        sha.update(np.ascontiguousarray(image).data)
    return sha.hexdigest()


# --- numbers ---------------------------------------------------------------------------------------------------------


def _all_metrics() -> list[Spec]:
    """KID first: it is unbiased at small n."""
    return [Spec(use=name) for name in sorted(registry.names("metrics"), key=lambda name: (name != "kid", name))]


def _row(bank: _Bank, use: str, metric: Any, real: _Read, synthetic: _Read, label: str | None, seed: int) -> Row:
    """One metric of one class (None: all images)."""
    a, b = (
        side.features[bank.label] if label is None else side.features[bank.label][side.labels == label]
        for side in (real, synthetic)
    )
    try:
        found = metric.measure(a, b, space=bank.label, seed=seed)
    except ValueError as error:
        return Row(bank.label, use, label, f"{use}_{bank.label}", len(a), len(b), reason=str(error))
    extreme = next((name for name in _EXTREMES if name in found.details), None)
    row = Row(
        bank.label, use, label, found.name, len(a), len(b), found.value, found.low, found.high, found.details.get("p"),
        found.details.get("floor"), found.details[extreme] if extreme else None, found.details,
    )  # fmt: skip
    said = _said(row, extreme, lower_is_better=metric.lower_is_better)
    return replace(row, said=said)


def _said(row: Row, extreme: str | None, *, lower_is_better: bool) -> str:
    """How to read a number beside what real images give against real images."""
    p = "" if row.p is None else f"; permutation p = {row.p:.3g}"
    if row.floor_extreme is None or extreme is None or row.value is None:
        return f"too few real images to say what real against real gives{p}"
    worst = f"the {_EXTREMES[extreme]} value of real against real ({row.floor_extreme:.4g})"
    inside = row.value <= row.floor_extreme if lower_is_better else row.value >= row.floor_extreme
    if inside:
        return f"not worse than {worst}{p}"
    if row.floor_extreme <= 0:
        return f"worse than {worst}{p}"
    return f"{row.value / row.floor_extreme:.3g} times {worst}{p}"


def _require_a_number(rows: Sequence[Row]) -> None:
    """See that something could be measured.

    Raises:
        AuditError: nothing over all images; names the reasons.
    """
    overall = [row for row in rows if row.label is None]
    if all(row.value is None for row in overall):
        reasons = sorted({f"{row.metric}: {row.reason}" for row in overall})
        raise AuditError("nothing can be measured:\n" + "\n".join(f"- {reason}" for reason in reasons))


def _classes(real: _Read, synthetic: _Read) -> tuple[list[str], list[str]]:
    """The classes to compare one by one, and why there are none."""
    a, b = set(real.side.counts), set(synthetic.side.counts)
    if a == b == {""}:
        return [], ["no subfolders, so no classes: all images are compared as one"]
    if a != b or "" in a:
        shown = [", ".join(sorted(name or "(none)" for name in names)) for names in (a, b)]
        return [], [f"the folders' classes differ ({shown[0]} against {shown[1]}): compared over all images only"]
    return (sorted(a), []) if len(a) > 1 else ([], ["one class only: all images are compared as one"])


def _notes(real: _Read, synthetic: _Read) -> list[str]:
    notes = []
    for what, side in (("real", real.side), ("synthetic", synthetic.side)):
        if side.left_out:
            named = "; ".join(f"{name} ({why})" for name, why in sorted(side.left_out.items())[:5])
            notes.append(f"{len(side.left_out)} {what} file(s) left out: {named}")
    known = set(real.digests)
    copies = sum(digest in known for digest in synthetic.digests)
    if copies:
        notes.append(f"{copies} synthetic image(s) are exact copies of a real one")
    return notes
