"""Nearest neighbours among images up to a small shift, zoom and turn, a mirror, and any brightness and contrast.

A coarse search over all pairs comes first: 8 x 8 gray values of the image and its mirror image against those of the
other image, whole and in a few windows. The best few pairs are then registered at 24 x 24: the inverse compositional
Gauss-Newton method (Baker and Matthews 2004, "Lucas-Kanade 20 years on") finds the similarity transform under which
the other image resembles this one most. Letters: N and M images, K candidates, S the side of a fine
image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from medsynth_ray.gates._lowres import area_weights, lowres

SIDE_PX = 24
_COARSE_PX = 8
_WINDOW = 0.9
_OFFSETS = (-0.03, 0.03)
_WINDOWS = ((1.0, 0.0, 0.0), (_WINDOW, 0.0, 0.0), *((_WINDOW, x, y) for x in _OFFSETS for y in _OFFSETS))
"""Side of a window, and how far its centre lies right of and below the image's: shares of the image's side."""
_TAPER = 0.35
"""Pixels nearer to the border than this share of the side count less: a crop or a turn changes them."""
_NUM_CANDIDATES = 2
_NUM_STEPS = 3
_MAX_STEP = 0.15
_RIDGE = 1e-4
_MIN_LEVELS = 1.0
_BLOCK_IMAGES = 128


@dataclass(frozen=True)
class Registrable:
    """Images made ready. fine: float32 (N, S, S). coarse: float32 (V, N, 64), V windows, the whole image first."""

    fine: np.ndarray
    coarse: np.ndarray


def registrable(pixels: np.ndarray) -> Registrable:
    """Make uint8 (N, H, W, C) ready to be searched."""
    fine = lowres(pixels, SIDE_PX)
    weights = _taper(_COARSE_PX).ravel()
    coarse = np.empty((len(_WINDOWS), len(fine), _COARSE_PX**2), dtype=np.float32)
    for place, (side, right, down) in enumerate(_WINDOWS):
        rows, columns = (
            area_weights(SIDE_PX, _COARSE_PX, window=(0.5 + centre - side / 2, 0.5 + centre + side / 2))
            for centre in (down, right)
        )
        small = (rows @ fine @ columns.T).reshape(len(fine), -1)
        small -= (small @ weights)[:, None]
        small /= np.maximum(np.sqrt(np.square(small) @ weights), _MIN_LEVELS)[:, None]
        coarse[place] = small * np.sqrt(weights)
    return Registrable(fine.astype(np.float32), coarse)


def nearest_registered(
    x: Registrable, y: Registrable, left_out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each image of x to its nearest of y, float64 (N,), and that one's row, int64 (N,).

    The distance is the root mean square difference after registration, of gray values whose mean is 0 and deviation 1:
    0 for a copy, about 1.4 for unrelated images. left_out: bool (N, M), pairs not to be looked at.
    """
    mirrored = _mirrored(x.coarse[0], _COARSE_PX)
    distances, nearest = np.empty(len(x.fine)), np.empty(len(x.fine), dtype=np.int64)
    for start in range(0, len(x.fine), _BLOCK_IMAGES):
        block = slice(start, start + _BLOCK_IMAGES)
        views = np.stack([x.coarse[0, block], mirrored[block]])
        rows, view = _candidates(views, y.coarse, None if left_out is None else left_out[block])
        flip, window = np.divmod(view, len(_WINDOWS))
        found = _registered(x.fine[block], _mirrored_where(y.fine[rows], flip > 0), _poses(window, flip > 0))
        if left_out is not None:
            found[np.take_along_axis(left_out[block], rows, axis=1)] = np.inf
        best = found.argmin(axis=1)[:, None]
        distances[block] = np.take_along_axis(found, best, axis=1)[:, 0]
        nearest[block] = np.take_along_axis(rows, best, axis=1)[:, 0]
    return distances, nearest


def _candidates(views: np.ndarray, windows: np.ndarray, left_out: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The rows of y that look most like each image, and by which pair of view and window: (N, K) each.

    views: (2, N, 64), the image and its mirror image. windows: (V, M, 64). A pair's number is view * V + window.
    """
    best = views[0] @ windows[0].T
    for place in range(1, 2 * len(windows)):
        view, window = divmod(place, len(windows))
        np.maximum(best, views[view] @ windows[window].T, out=best)
    if left_out is not None:
        best[left_out] = -np.inf
    num, every = min(_NUM_CANDIDATES, windows.shape[1]), np.arange(len(best))
    rows = np.empty((len(best), num), dtype=np.int64)
    for place in range(num):
        rows[:, place] = best.argmax(axis=1)
        best[every, rows[:, place]] = -np.inf
    likeness = np.einsum("wnd,vnkd->nkwv", views, windows[:, rows])
    return rows, likeness.reshape(*rows.shape, -1).argmax(axis=2)


def _mirrored(coarse: np.ndarray, side: int) -> np.ndarray:
    return np.ascontiguousarray(coarse.reshape(-1, side, side)[:, :, ::-1]).reshape(coarse.shape)


def _mirrored_where(fine: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Mirror those of the images (N, K, S, S) for which flip (N, K) is True, in place."""
    fine[flip] = fine[flip][:, :, ::-1]
    return fine


def _poses(window: np.ndarray, flip: np.ndarray) -> torch.Tensor:
    """Zoom and centre (right, down) at which the registration begins, in [-1, 1]: float32 (N, K, 3)."""
    poses = np.array(_WINDOWS, dtype=np.float32)[window] * np.array([1, 2, 2], dtype=np.float32)
    poses[flip, 1] *= -1
    return torch.from_numpy(poses)


def _registered(x_NSS: np.ndarray, y_NKSS: np.ndarray, poses: torch.Tensor) -> np.ndarray:
    """Smallest distance that is met on the way from `poses` to the best transform, float64 (N, K)."""
    weights = torch.from_numpy(_taper(SIDE_PX)).float().ravel()
    x, y = _standardised(torch.from_numpy(x_NSS).flatten(1), weights)[:, None], torch.from_numpy(y_NKSS)
    solve = _pseudo_inverse(x, weights).mT
    # The transform is v = turn u + shift with u, v in the complex plane; the image covers [-1, 1] in both directions.
    turn, shift = torch.complex(poses[..., 0], torch.zeros(y.shape[:2])), torch.complex(poses[..., 1], poses[..., 2])
    best = torch.full(y.shape[:2], torch.inf)
    for step in range(_NUM_STEPS + 1):
        difference = _standardised(_warped(y, turn, shift), weights) - x
        best = torch.minimum(best, difference.square() @ weights)
        if step < _NUM_STEPS:
            move = (difference @ solve).clamp(-_MAX_STEP, _MAX_STEP)
            turn = turn / torch.complex(1 + move[..., 2], move[..., 3])
            shift = shift - turn * torch.complex(move[..., 0], move[..., 1])
    return best.sqrt().double().numpy()


def _pseudo_inverse(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(N, 4, S * S): turns a difference from x (N, 1, S * S) into a shift (right, down), a zoom and a turn.

    Changes of brightness and contrast are fitted with them and left out.
    """
    right, down = _places()
    image = x.view(-1, SIDE_PX, SIDE_PX)
    by_row, by_column = (g.flatten(1) * (SIDE_PX / 2) for g in torch.gradient(image, dim=(1, 2)))
    zoom, turned = right * by_column + down * by_row, right * by_row - down * by_column
    tangents = torch.stack([by_column, by_row, zoom, turned, torch.ones_like(zoom), x[:, 0]], dim=1)
    weighted = tangents * weights
    solved: torch.Tensor = torch.linalg.inv(weighted @ tangents.mT + _RIDGE * torch.eye(tangents.shape[1])) @ weighted
    return solved[:, :4]


def _warped(y: torch.Tensor, turn: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """See y (N, K, S, S) through the transform: (N, K, S * S); beyond the border its last pixels go on."""
    right, down = _places()
    across = turn.real[..., None] * right - turn.imag[..., None] * down + shift.real[..., None]
    along = turn.imag[..., None] * right + turn.real[..., None] * down + shift.imag[..., None]
    grid = torch.empty(*across.shape, 2)
    grid[..., 0], grid[..., 1] = across, along
    grid = grid.view(-1, SIDE_PX, SIDE_PX, 2)
    seen = F.grid_sample(y.flatten(0, 1)[:, None], grid, padding_mode="border", align_corners=False)
    return seen.view(*y.shape[:2], -1)


def _standardised(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    values = values - (values @ weights)[..., None]
    return values / (values.square() @ weights).sqrt().clamp(min=_MIN_LEVELS)[..., None]


def _places() -> tuple[torch.Tensor, torch.Tensor]:
    centres = (torch.arange(SIDE_PX) + 0.5) * (2 / SIDE_PX) - 1
    return centres.repeat(SIDE_PX), centres.repeat_interleave(SIDE_PX)


def _taper(side: int) -> np.ndarray:
    """Weights (side, side) that sum to 1: 1 inside, falling to 0 at the border."""
    place = (np.arange(side) + 0.5) / side
    edge = np.minimum(1.0, np.minimum(place, 1.0 - place) / _TAPER)
    weights: np.ndarray = np.outer(edge, edge) / edge.sum() ** 2
    return weights
