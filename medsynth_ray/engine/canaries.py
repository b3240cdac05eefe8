"""Canaries: marked images planted among what a generator is shown, to see whether it gives them back.

After Carlini et al. 2019, "The Secret Sharer" (arXiv:1802.08232). A canary is a real image (its host) under a mark of
its own, 8 x 8 random signs; nobody but a generator that keeps single images can draw that mark. Ghosts are made in the
same way and never planted: the best score that a ghost reaches in a pool is what chance reaches. Host and mark of each
are drawn independently, so that canaries and ghosts are exchangeable if the generator learnt nothing of the marks.

A trace of a mark is not the image: a Gaussian over principal components that is shown many canaries draws their marks
faintly, and above chance. So two things are said: how many canaries are above chance, with its p value, and which came
back, with the mark plain to see.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from medsynth_ray.images import ImageSet
from medsynth_ray.seeds import rng

_CELLS = 8
_AMPLITUDE_LEVELS = 40.0
_MIN_RMS_LEVELS = 1.0
_RETURNED_CORRELATION = 0.7
"""From here on the mark makes up half of what an image has beside the host (0.7 squared)."""
_BLOCK_IMAGES = 1024


@dataclass(frozen=True)
class Marks:
    """What is looked for. names: "canary/<i>"; hosts: gray values (n, 64) of the hosts; grids: their marks (n, 64)."""

    names: tuple[str, ...]
    hosts: np.ndarray
    grids: np.ndarray
    copies: int

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class CanaryReport:
    """What came back; plain numbers, lists and texts.

    above_chance: names of canaries with a score above `chance`; expected: how many there would be if nothing was
    learnt, and p the probability of as many. returned: those of them above `threshold`, the larger of `chance` and 0.7.
    best: for each canary `{canary, id, score}` of the synthetic image most like it, score being a partial correlation.
    """

    planted: int
    copies: int
    returned: list[str]
    above_chance: list[str]
    expected: float
    p: float
    chance: float
    threshold: float
    num_ghosts: int
    best: list[dict[str, Any]]


def make(train: ImageSet, count: int, copies: int, seed: int) -> tuple[ImageSet, Marks]:
    """Make `count` canaries, each `copies` times: images to plant, of the hosts' classes, and what to look for.

    ids are "canary/<i>/<copy>", groups "canary/<i>". The mark is added to the host after its range was narrowed, so
    that it does not vanish on black or white.

    Raises:
        ValueError: `train` is empty or its images are below 8 px, or `count` or `copies` is below 1.
    """
    if copies < 1:
        raise ValueError(f"canaries: copies must be at least 1, got {copies}")
    rows, marks = _draw(train, count, seed, "canary", copies)
    pixels = _marked(train.pixels[rows], marks.grids)
    planted = np.repeat(np.arange(count), copies)
    ids = np.array([f"{marks.names[i]}/{copy}" for i in range(count) for copy in range(copies)])
    labels, groups = train.labels[rows][planted], np.array(marks.names)[planted]
    return ImageSet(pixels[planted], labels, groups, ids, train.class_names), marks


def ghosts(train: ImageSet, count: int, seed: int) -> Marks:
    """Draw `count` marks that are not planted. With n canaries, `alpha` of `came_back` needs count >= 1 / alpha - 1.

    Raises:
        ValueError: as `make`.
    """
    return _draw(train, count, seed, "ghost", 0)[1]


def came_back(pool: ImageSet, canaries: Marks, never_planted: Marks, *, alpha: float = 0.01) -> CanaryReport:
    """Say which canaries are more like a synthetic image than all but `alpha` of the ghosts are, and which came back.

    Chance is the j-th largest best score of G ghosts, j = floor(alpha (G + 1)), at least 1: a canary of which nothing
    was learnt exceeds it with probability j / (G + 1), and their number is beta-binomial.

    Raises:
        ValueError: the pool is empty, or there is no canary or no ghost.
    """
    if not (len(pool) and len(canaries) and len(never_planted)):
        sizes = len(pool), len(canaries), len(never_planted)
        raise ValueError(f"canaries: need a pool, canaries and ghosts, got {sizes[0]}, {sizes[1]} and {sizes[2]}")
    scores, rows = _best(pool, canaries)
    null = np.sort(_best(pool, never_planted)[0])[::-1]
    rank = max(1, int(alpha * (len(null) + 1) + 1e-9))
    chance = float(null[rank - 1])
    threshold = max(chance, _RETURNED_CORRELATION)
    above, returned = (
        [name for name, score in zip(canaries.names, scores, strict=True) if score > limit]
        for limit in (chance, threshold)
    )
    best = [
        {"canary": name, "id": str(pool.ids[row]), "score": float(score)}
        for name, row, score in zip(canaries.names, rows, scores, strict=True)
    ]
    return CanaryReport(
        planted=len(canaries), copies=canaries.copies, returned=returned, above_chance=above,
        expected=len(canaries) * rank / (len(null) + 1), p=_p_value(len(above), len(canaries), rank, len(null)),
        chance=chance, threshold=threshold, num_ghosts=len(null), best=best,
    )  # fmt: skip


def matching(pool: ImageSet, canaries: Marks, threshold: float) -> np.ndarray:
    """Which images look like a returned canary (`CanaryReport.threshold`), and must not be used: bool (N,)."""
    found = [block.max(axis=1) > threshold for _, block in _similarities(pool.pixels, canaries)]
    return np.concatenate(found) if found else np.zeros(0, dtype=bool)


def _draw(train: ImageSet, count: int, seed: int, kind: str, copies: int) -> tuple[np.ndarray, Marks]:
    if not len(train) or min(train.image_shape[:2]) < _CELLS or count < 1:
        raise ValueError(
            f"canaries: need images of at least {_CELLS} px and count >= 1, got {len(train)} images of "
            f"{train.image_shape} and count={count}"
        )
    draws = rng(kind, seed)
    rows = draws.integers(len(train), size=count)
    grids = 2.0 * draws.integers(2, size=(count, _CELLS**2)) - 1.0
    names = tuple(f"{kind}/{i}" for i in range(count))
    return rows, Marks(names, _cells(train.pixels[rows]), grids, copies)


def _marked(pixels: np.ndarray, grids: np.ndarray) -> np.ndarray:
    rows, columns = (np.arange(size) * _CELLS // size for size in pixels.shape[1:3])
    marks = grids.reshape(-1, _CELLS, _CELLS)[:, rows][:, :, columns, None]
    narrowed = pixels * (1.0 - 2.0 * _AMPLITUDE_LEVELS / 255.0) + _AMPLITUDE_LEVELS
    return np.rint(narrowed + _AMPLITUDE_LEVELS * marks).astype(np.uint8)


def _cells(pixels: np.ndarray) -> np.ndarray:
    """Mean gray value of each of 8 x 8 cells: float64 (N, 64)."""
    shares = [_shares(size) for size in pixels.shape[1:3]]
    gray = pixels.mean(axis=3, dtype=np.float64)
    means: np.ndarray = shares[0] @ gray @ shares[1].T
    return means.reshape(len(pixels), -1)


def _shares(size: int) -> np.ndarray:
    """(8, size): row c averages the pixels of cell c."""
    cell = np.arange(size) * _CELLS // size == np.arange(_CELLS)[:, None]
    shares: np.ndarray = cell / cell.sum(axis=1, keepdims=True)
    return shares


def _best(pool: ImageSet, marks: Marks) -> tuple[np.ndarray, np.ndarray]:
    """Of each mark the largest similarity over the pool (n,), and its row."""
    scores, rows = np.full(len(marks), -np.inf), np.zeros(len(marks), dtype=np.int64)
    for start, block in _similarities(pool.pixels, marks):
        better = block.max(axis=0) > scores
        rows[better] = start + block.argmax(axis=0)[better]
        scores = np.maximum(scores, block.max(axis=0))
    return scores, rows


def _similarities(pixels: np.ndarray, marks: Marks) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, partial correlations (B, n) of images with marks, given the hosts; the best of 4 mirrorings).

    What an image has in common with the host is taken out of image and mark first: a copy of the host alone scores 0.
    """
    hosts, grids = (values - values.mean(axis=1, keepdims=True) for values in (marks.hosts, marks.grids))
    hosts /= np.maximum(np.linalg.norm(hosts, axis=1, keepdims=True), 1e-9)
    grids -= (grids * hosts).sum(axis=1, keepdims=True) * hosts
    grids /= np.linalg.norm(grids, axis=1, keepdims=True)
    for start in range(0, len(pixels), _BLOCK_IMAGES):
        cells = _cells(pixels[start : start + _BLOCK_IMAGES]).reshape(-1, _CELLS, _CELLS)
        mirrored = (cells, cells[:, :, ::-1], cells[:, ::-1], cells[:, ::-1, ::-1])
        yield start, np.max([_partial_correlations(view, hosts, grids) for view in mirrored], axis=0)


def _partial_correlations(cells: np.ndarray, hosts: np.ndarray, grids: np.ndarray) -> np.ndarray:
    x = cells.reshape(len(cells), -1)
    x = x - x.mean(axis=1, keepdims=True)
    left = np.square(x).sum(axis=1)[:, None] - np.square(x @ hosts.T)
    # An image that is its host up to rounding, or plain, has nothing left that could be a mark.
    correlations: np.ndarray = (x @ grids.T) / np.sqrt(np.maximum(left, x.shape[1] * _MIN_RMS_LEVELS**2))
    return correlations


def _p_value(count: int, num: int, rank: int, num_ghosts: int) -> float:
    """P(K >= count), K of `num` canaries above the `rank`-th largest ghost: beta-binomial, exact in integers."""
    ways = [math.comb(k + rank - 1, k) * math.comb(num - k + num_ghosts - rank, num - k) for k in range(count, num + 1)]
    return sum(ways) / math.comb(num + num_ghosts, num)
