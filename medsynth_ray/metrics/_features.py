"""What every metric asks of its two sets of features."""

from __future__ import annotations

import numpy as np


def checked(reference: np.ndarray, synthetic: np.ndarray, *, min_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as float64.

    Raises:
        ValueError: not (N, D) and (M, D), fewer than `min_images` rows, or a value that is not finite.
    """
    if reference.ndim != 2 or synthetic.ndim != 2 or reference.shape[1] != synthetic.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {reference.shape} and {synthetic.shape}")
    for name, features in (("reference", reference), ("synthetic", synthetic)):
        if len(features) < min_images:
            raise ValueError(f"{name} holds {len(features)} images, this metric needs at least {min_images}")
        if not np.isfinite(features).all():
            raise ValueError(f"{name} features hold {int((~np.isfinite(features)).sum())} values that are not finite")
    return reference.astype(np.float64), synthetic.astype(np.float64)


def subset(features: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """`num` rows without replacement; all of them, in order, where there are no more."""
    return features if num >= len(features) else features[np.sort(rng.permutation(len(features))[:num])]
