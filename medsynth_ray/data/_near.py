"""Near duplicates: pairs of images that are one picture re-encoded, resized, mirrored, slightly cropped, or re-lit.

Each image leaves a print, 64 x 64 pixels of gray. Two steps on the prints:

1. Candidates. Prints of 16 x 16 pixels are projected on the directions in which images of this data set differ most,
   measured in units of how far a small crop moves an image: linear discriminants (Fisher 1936) whose classes are the
   crops of one image. The nearest two of every image, upright and mirrored, that are close enough go on. Blocked matrix
   products find them exactly, in O(N^2) time and O(N) memory.
2. Confirmation. One print is laid over the other by an affine map along the axes (Gauss-Newton; Lucas & Kanade 1981),
   at 32 and then at 64 pixels, and fine detail is compared by normalised cross-correlation. Both are divided by their
   local contrast before, and flat black and white borders (collimator, fundus disc) are left out: what all images of a
   device have in common must not make them alike.

The copies of one image may fill each other's candidates, so both steps are repeated with one image of each family that
was found, until no family grows.

The thresholds were set on 5,840 chest X-rays and 6,113 fundus photographs with known patients, and altered copies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy.linalg import eigh
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

PRINT_PX = 64
MIN_SIDE_PX = 32
"""Images with a shorter side leave no print: they hold too little to tell two patients apart."""
SAME = 0.75
"""Correlation of fine detail from which two images are near duplicates. Different patients reach 0.73 at most."""
_FAINT, SAME_FAINT = 0.03, 0.95
"""Images with less detail than this (an opaque lens, say) need more: dust of one camera alone reaches 0.83."""
_PERHAPS = 0.35
"""The same at half the resolution, from which a pair is looked at closely."""
_COARSE_PX = 16
_NUM_DIRECTIONS = 64
_NUM_SAMPLED = 400
"""Images whose crops teach what a small crop does."""
_NEAREST = 2
_MIN_COSINE, _MIN_COSINE_TURNED = 0.68, 0.8
"""Of candidates. Copies that are both mirrored and cropped by more than a few percent may be missed."""
_FEW = 16
"""Of so few images all pairs are candidates: too few to say in what they differ."""
_BLOCK_VALUES = 16_000_000
_PAIRS_AT_ONCE = 256
_FLAT_LEVELS = 2.0
"""Prints with a smaller standard deviation (in gray levels) hold nothing to compare."""
_BLACK, _WHITE = 15, 252
_MIN_SHARE_COMPARED = 0.15
_MAX_MOVE = 0.15
_CONTRAST_FLOOR = 0.05
"""Of an image's standard deviation: weaker local contrast counts as noise."""
_CROPS = np.array(
    [[0.05 * bool(k & 1), 0.05 * bool(k & 2), 0.05 * bool(k & 4), 0.05 * bool(k & 8)] for k in range(1, 16)]
)
"""Shares cut off at the left, top, right and bottom."""
TURNS = {"upright": (1, 1), "mirrored left-right": (1, -1), "mirrored top-bottom": (-1, 1), "upside down": (-1, -1)}
"""What is done to the second image of a pair: steps along its rows and columns. Each undoes itself."""


@dataclass(frozen=True)
class NearPair:
    """Rows of two near duplicates, first < second; what was done to the second, and how alike they are in [0, 1]."""

    first: int
    second: int
    turn: str
    score: float


def print_of(image: Image.Image) -> np.ndarray:
    """uint8 (64, 64) gray of an image in mode L or RGB; zeros for one that is too small to tell."""
    if min(image.size) < MIN_SIDE_PX:
        return np.zeros((PRINT_PX, PRINT_PX), dtype=np.uint8)
    size = (PRINT_PX, PRINT_PX)
    return np.asarray(image.convert("L").resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))


def comparable(prints: np.ndarray) -> np.ndarray:
    """Tell which of `prints` uint8 (N, 64, 64) have contrast, bool (N,); the others are never near duplicates."""
    return np.array([one.std() >= _FLAT_LEVELS for one in prints], dtype=bool)


def families(num: int, pairs: Iterable[NearPair]) -> np.ndarray:
    """Number the families, int (num,): rows that `pairs` connect, directly or not, are of one."""
    ends = np.array([(pair.first, pair.second) for pair in pairs], dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(num, num))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def find_pairs(prints: np.ndarray) -> list[NearPair]:
    """Near duplicates among `prints` uint8 (N, 64, 64), sorted by row; prints without contrast have none.

    Not all pairs of a family of copies are listed, but enough to connect it.
    """
    rows = np.flatnonzero(comparable(prints))
    if len(rows) < 2:
        return []
    shown = prints[rows]
    views = _views(shown)
    best: dict[tuple[int, int], NearPair] = {}
    looked_at = dict.fromkeys(TURNS, np.array([], dtype=np.int64))
    num_before = -1
    while len(best) > num_before:
        num_before, family = len(best), families(len(rows), best.values())
        for turn in TURNS:
            keys = np.setdiff1d(_candidates(views, family, turn), looked_at[turn])
            looked_at[turn] = np.union1d(looked_at[turn], keys)
            _keep_best(best, shown, np.stack(np.divmod(keys, len(rows)), axis=1), turn)
    return [replace(best[key], first=int(rows[key[0]]), second=int(rows[key[1]])) for key in sorted(best)]


def _keep_best(best: dict[tuple[int, int], NearPair], prints: np.ndarray, pairs: np.ndarray, turn: str) -> None:
    """Confirm `pairs` (M, 2) and put them into `best`, each with the turn of its highest score."""
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        for pair in _confirmed(prints, pairs[start : start + _PAIRS_AT_ONCE], turn):
            known = best.setdefault((pair.first, pair.second), pair)
            if pair.score > known.score:
                best[pair.first, pair.second] = pair


def _views(prints: np.ndarray) -> dict[str, np.ndarray]:
    """For each turn, float32 (N, D): unit vectors whose products say which prints may be alike; none for a few."""
    if len(prints) <= _FEW:
        return {}
    coarse = _unit(_smaller(prints, PRINT_PX // _COARSE_PX))
    mean = coarse.mean(axis=0)
    directions = _directions(prints, coarse)
    images = coarse.reshape(-1, _COARSE_PX, _COARSE_PX)
    return {
        turn: _unit((images[:, ::down, ::right].reshape(len(coarse), -1) - mean) @ directions)
        for turn, (down, right) in TURNS.items()
    }


def _candidates(views: dict[str, np.ndarray], family: np.ndarray, turn: str) -> np.ndarray:
    """Pairs of rows that may be near duplicates, ascending, as first * N + second; first < second."""
    num = len(family)
    if not views:
        first, second = np.triu_indices(num, 1)
        return np.asarray(first * num + second)
    return _nearest(views["upright"], views[turn], family, _MIN_COSINE if turn == "upright" else _MIN_COSINE_TURNED)


def _directions(prints: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """float32 (256, D): columns in which images differ, small crops of one image having unit variance."""
    sample = np.unique(np.linspace(0, len(prints) - 1, min(_NUM_SAMPLED, len(prints))).astype(int))
    some = prints[sample].astype(np.float32)
    within = np.zeros((coarse.shape[1], coarse.shape[1]))
    for left, top, right, bottom in _CROPS:
        moves = np.array([[-left - right, left - right, -top - bottom, top - bottom]])
        cropped = _warp(some, np.repeat(moves, len(some), axis=0))
        step = (_unit(_smaller(cropped, PRINT_PX // _COARSE_PX)) - coarse[sample]).astype(np.float64)
        within += step.T @ step / (len(some) * len(_CROPS))
    between = np.cov(coarse.T.astype(np.float64), bias=True)
    ridge = 0.002 * np.trace(between) / len(between) + 1e-9
    _, vectors = eigh(between, within + ridge * np.eye(len(within)))
    return np.asarray(vectors[:, ::-1][:, : min(_NUM_DIRECTIONS, len(prints) - 1)], dtype=np.float32)


def _nearest(upright: np.ndarray, turned: np.ndarray, family: np.ndarray, min_cosine: float) -> np.ndarray:
    """Each row with the first rows in `turned` of the nearest other families; keys as in `_candidates`."""
    num = len(upright)
    heads = np.unique(family, return_index=True)[1]
    block, keys = max(1, _BLOCK_VALUES // num), []
    for start in range(0, num, block):
        rows = np.arange(start, min(start + block, num))
        line = np.arange(len(rows))
        cosines = upright[rows] @ turned[heads].T
        cosines[line, family[rows]] = -1.0
        for _ in range(_NEAREST):
            places = cosines.argmax(axis=1)
            near = cosines[line, places] >= min_cosine
            a, b = rows[near], heads[places[near]]
            keys.append(np.minimum(a, b) * num + np.maximum(a, b))
            cosines[line, places] = -1.0
    return np.unique(np.concatenate(keys))


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1, each less its mean where it is an image."""
    flat: np.ndarray = x.reshape(len(x), -1).astype(np.float32)
    if x.ndim == 3:
        flat = flat - flat.mean(axis=1, keepdims=True)
    made: np.ndarray = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    return made


def _smaller(x: np.ndarray, factor: int) -> np.ndarray:
    """float32 (N, H, W) averaged over squares of `factor` pixels."""
    n, h, w = x.shape
    made: np.ndarray = x.reshape(n, h // factor, factor, w // factor, factor).mean(axis=(2, 4), dtype=np.float32)
    return made


def _confirmed(prints: np.ndarray, pairs: np.ndarray, turn: str) -> list[NearPair]:
    down, right = TURNS[turn]
    a, b = prints[pairs[:, 0]], prints[pairs[:, 1]][:, ::down, ::right]
    small_a, small_b = (_smaller(x, 2) for x in (a, b))
    moves = _align(small_a, small_b, np.zeros((len(a), 4)), smooth_px=1.0, steps=3)
    likely = np.flatnonzero(_alike(small_a, small_b, moves, fine_px=1.0)[0] >= _PERHAPS)
    if not len(likely):
        return []
    a, b = a[likely].astype(np.float32), b[likely].astype(np.float32)
    moves = _align(a, b, moves[likely], smooth_px=0.0, steps=2)
    scores, strengths = _alike(a, b, moves, fine_px=2.0)
    needed = np.where(strengths < _FAINT, SAME_FAINT, SAME)
    return [
        NearPair(int(pairs[k, 0]), int(pairs[k, 1]), turn, round(float(score), 4))
        for k, score, least in zip(likely, scores, needed, strict=True)
        if score >= least
    ]


def _align(a: np.ndarray, b: np.ndarray, moves: np.ndarray, *, smooth_px: float, steps: int) -> np.ndarray:
    """Moves (N, 4) of `b` that bring it to `a`: stretch and shift along x, then along y, in half image sides."""
    a, b = (_blurred(_standard(x), smooth_px) for x in (a, b))
    inner, u = _inner(a.shape[1]), _places(a.shape[1])
    for _ in range(steps):
        seen = _warp(b, moves)
        by_y, by_x = (np.gradient(seen, 2.0 / len(u), axis=axis) for axis in (1, 2))
        slopes = [seen, np.ones_like(seen), by_x * u, by_x, by_y * u[:, None], by_y]
        basis = np.stack([s[:, inner, inner].reshape(len(a), -1) for s in slopes], axis=1)
        normal = (basis @ basis.transpose(0, 2, 1)).astype(np.float64)
        normal += 1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(6)
        wanted = (basis @ a[:, inner, inner].reshape(len(a), -1, 1)).astype(np.float64)
        solved = np.linalg.solve(normal, wanted)[:, :, 0]
        moves = np.clip(moves + solved[:, 2:] / np.maximum(solved[:, :1], 0.2), -_MAX_MOVE, _MAX_MOVE)
    return moves


def _alike(a: np.ndarray, b: np.ndarray, moves: np.ndarray, *, fine_px: float) -> tuple[np.ndarray, np.ndarray]:
    """(correlation, strength) of detail finer than `fine_px` within what both images show, both float64 (N,).

    Correlation is 0 where they show too little. Strength: root mean square of the fainter one, in standard deviations.
    """
    inner = _inner(a.shape[1])
    reach = 1 + 2 * round(2 * fine_px)
    border = np.maximum(_border(a), _warp(_border(b), moves)) > 0.5
    shown = ~maximum_filter(border, size=(1, reach, reach))[:, inner, inner].reshape(len(a), -1)
    count = np.maximum(shown.sum(axis=1), 1)
    evened, strengths = [], []
    for x in (_standard(a), _warp(_standard(b), moves)):
        high = x - _blurred(x, fine_px)
        even = high / np.sqrt(_blurred(high * high, fine_px) + _CONTRAST_FLOOR**2)
        flat, flat_even = (
            part[:, inner, inner].reshape(len(a), -1).astype(np.float64) * shown for part in (high, even)
        )
        strengths.append(np.sqrt((flat * flat).sum(axis=1) / count))
        evened.append(flat_even)
    norms = np.sqrt((evened[0] ** 2).sum(axis=1) * (evened[1] ** 2).sum(axis=1))
    enough = (shown.mean(axis=1) >= _MIN_SHARE_COMPARED) & (norms > 0)
    scores = np.where(enough, (evened[0] * evened[1]).sum(axis=1) / np.maximum(norms, 1e-12), 0.0)
    return scores, np.minimum(*strengths)


def _border(x: np.ndarray) -> np.ndarray:
    return ((x <= _BLACK) | (x >= _WHITE)).astype(np.float32)


def _standard(x: np.ndarray) -> np.ndarray:
    """Each image less its mean, over its standard deviation."""
    centred = x - x.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    made: np.ndarray = centred / np.maximum(centred.std(axis=(1, 2), keepdims=True), 1e-6)
    return made


def _blurred(x: np.ndarray, sigma_px: float) -> np.ndarray:
    return np.asarray(gaussian_filter(x, (0, sigma_px, sigma_px), truncate=3.0)) if sigma_px else x


def _inner(size: int) -> slice:
    """Rows or columns that an image shares with a copy that was moved within bounds."""
    margin = round(size * _MAX_MOVE / 2)
    return slice(margin, size - margin)


def _places(size: int) -> np.ndarray:
    """Centres of the pixels of a row, the image reaching from -1 to 1."""
    return (2 * np.arange(size, dtype=np.float32) + 1) / size - 1


def _warp(x: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """float32 (N, S, S) seen through `moves` (N, 4): bilinear, edges go on."""
    along_x = _weights(x.shape[2], moves[:, 0], moves[:, 1])
    along_y = _weights(x.shape[1], moves[:, 2], moves[:, 3])
    made: np.ndarray = along_y @ x @ along_x.transpose(0, 2, 1)
    return made


def _weights(size: int, stretch: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """float32 (N, S, S) of linear interpolation at the places u (1 + stretch) + shift."""
    places = _places(size)[None] * (1 + stretch[:, None]) + shift[:, None]
    at = np.clip((places + 1) * size / 2 - 0.5, 0, size - 1)
    low = np.minimum(at.astype(np.int64), size - 2)
    part = (at - low).astype(np.float32)
    weights = np.zeros((*at.shape, size), dtype=np.float32)
    np.put_along_axis(weights, low[..., None], (1 - part)[..., None], axis=2)
    np.put_along_axis(weights, low[..., None] + 1, part[..., None], axis=2)
    return weights
