"""ReportView: everything that the page shows, and nothing else. The engine fills it; the page only formats it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

REAL = "real"
"""The column of real images among the previews."""

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Preview:
    """Images of one class of one generator: uint8 (n, H, W, C). Image i has the same seed for every generator."""

    generator: str
    class_name: str
    images: np.ndarray


@dataclass(frozen=True, eq=False)
class CheckpointPreview:
    """What a fit drew when it had seen `images_seen` training images, of one class: uint8 (n, H, W, C).

    Image i has the same seed at every checkpoint of the generator.
    """

    generator: str
    images_seen: int
    class_name: str
    images: np.ndarray


@dataclass(frozen=True, eq=False)
class NearCopy:
    """A synthetic image too near to a real one, both uint8 (H, W, C); real: None if withheld.

    score: smaller is more suspicious.
    """

    generator: str
    space: str
    score: float
    synthetic: np.ndarray
    real: np.ndarray | None
    synthetic_id: str
    real_id: str


@dataclass(frozen=True, eq=False)
class ReportView:
    """What the page shows.

    verdict: `Verdict.to_json()`, None while unfinished; it may also have `privacy`, a sentence.
    status: finished | budget reached | unfinished | some trials failed.
    arms: rows with arm, role (candidate | control | reference: shown, but no part of the verdict), generator, mixer,
    ratio (None: the mixer sets its own counts), phase (mix | confirm), split (val | test), metric, mean, low, high,
    repeats, num_train, num_synthetic, synthetic_share, parameters, cost_s, status (ok | rejected | skipped | failed),
    reason. Numbers of an arm that is not ok may be None.
    generators: rows with label, name (of the pool; may be left out), role (control: not shown), use, status (ok |
    rejected | failed), reason, parameters, measured (rows with name, value, low, high, details, reason where value
    is None, and per_class where each class was measured too: the same with label), gates (label -> passed, reason,
    kept, judged, numbers), near_copy_judged (a gate that is near_copy judged it, under whatever label; may be left
    out: then labels tell), fitted_on_unknown, cost_s.
    In `details`, floor and floor_high (or floor_max; floor_low where larger is better) are the same number of real
    images against real ones, mean and worst of several splits: shown beside the value and as a band in the charts.
    curves: quality against training images seen, one row for each candidate with generator, candidate (unique within
    its generator), share (of its training, reached), metric (the measured name), points ((images_seen, value, low,
    high), low and high may be None), floor (real against real, or None) and best (of its generator). Measured on val.
    checkpoint_previews: of the best candidate of each generator.
    rungs: rows with generator, candidate, share, quality, promoted, parameters.
    audit: findings with kind, severity (stop | quarantine | warn | info), message, ids.
    thumbnails: id -> uint8 (S, S, C) of images that findings name; empty where real images are withheld.
    real_share: None if classifiers and generators use the same images; else classifier and generator (shares of train),
    classifier_images and generator_images (counts).
    published: `stats.published.published_tables`, None where the sweep quotes no paper.
    measured_cells: `stats.published.measured_cells`: (table index, row, column) -> value, low, high, n, what.
    counts: split -> images of each class (K,). power: `Power.to_json()`.
    looks: how many sweeps opened the locked test of these images: 1 after one confirm, whatever its arms and repeats.
    run: started, hours, trials, failed, workers, host, versions and whatever else is worth telling.
    evidence: `stats.evidence.describe` of the confirmed arms, None before the locked test was opened.
    flip_images: id -> uint8 (H, W, C) of test images named in `evidence.flips`; empty where real images are withheld.
    learning_curve: of real only: points (rows with num_images, mean, low, high; low and high may be None), winner (the
    same with num_train, real and synthetic, in place of num_images; or None), sentence; metric and split (val | test)
    may be left out (those of the verdict, test).
    readers: what readers made of real and synthetic images: `readers.scored`, None without a reader study.
    """

    name: str
    sweep_id: str
    status: str
    description: str = ""
    verdict: Row | None = None
    arms: list[Row] = field(default_factory=list)
    generators: list[Row] = field(default_factory=list)
    rungs: list[Row] = field(default_factory=list)
    previews: list[Preview] = field(default_factory=list)
    curves: list[Row] = field(default_factory=list)
    checkpoint_previews: list[CheckpointPreview] = field(default_factory=list)
    near_copies: list[NearCopy] = field(default_factory=list)
    audit: list[Row] = field(default_factory=list)
    thumbnails: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    power: Row = field(default_factory=dict)
    real_share: Row | None = None
    published: Row | None = None
    measured_cells: dict[tuple[int, str, str], Row] = field(default_factory=dict)
    looks: int = 0
    config_yaml: str = ""
    command: str = ""
    run: Row = field(default_factory=dict)
    evidence: Row | None = None
    flip_images: dict[str, np.ndarray] = field(default_factory=dict)
    learning_curve: Row | None = None
    readers: Row | None = None
