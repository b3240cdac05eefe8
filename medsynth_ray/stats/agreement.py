"""How far readers agree beyond chance: Cohen's kappa of two (1960), Fleiss' kappa of more (1971)."""

from __future__ import annotations

import numpy as np


def cohen_kappa(first: np.ndarray, second: np.ndarray) -> float | None:
    """Agreement of two readings (N,) of the same images, unweighted; 1: always the same, 0: as by chance.

    None: nothing was read twice, or all answers are the same one, so that chance alone agrees.

    Raises:
        ValueError: the shapes are not the same (N,).
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"need two readings (N,) of the same images, got {first.shape} and {second.shape}")
    if not len(first):
        return None
    values = np.unique(np.concatenate([first, second]))
    by_chance = sum(float((first == v).mean()) * float((second == v).mean()) for v in values)
    return _kappa(float((first == second).mean()), by_chance)


def fleiss_kappa(ratings: np.ndarray) -> float | None:
    """Agreement of R readers on N images, (N, R); 1: always the same, 0: as by chance.

    None: no image, or all answers are the same one.

    Raises:
        ValueError: `ratings` is not (N, R) with R >= 2.
    """
    ratings = np.asarray(ratings)
    if ratings.ndim != 2 or ratings.shape[1] < 2:
        raise ValueError(f"need ratings (N, R) of at least 2 readers, got {ratings.shape}")
    num_images, num_readers = ratings.shape
    if not num_images:
        return None
    counts = np.stack([(ratings == value).sum(axis=1) for value in np.unique(ratings)], axis=1).astype(np.float64)
    same = (np.square(counts).sum(axis=1) - num_readers) / (num_readers * (num_readers - 1))
    return _kappa(float(same.mean()), float(np.square(counts.sum(axis=0) / ratings.size).sum()))


def _kappa(observed: float, by_chance: float) -> float | None:
    return None if by_chance > 1.0 - 1e-12 else (observed - by_chance) / (1.0 - by_chance)
