"""What mixers share: the check of the ratio, and real images followed by the pool's first ones."""

from __future__ import annotations

import numpy as np

from medsynth_ray.images import ImageSet, concat
from medsynth_ray.protocols import Pool


def checked_ratio(mixer: str, ratio: float | None) -> float:
    """The ratio, if it is a share in [0, 1).

    Raises:
        ValueError: it is None, not finite or out of range.
    """
    if ratio is None or not 0.0 <= ratio < 1.0:
        raise ValueError(f"{mixer}: ratio must be in [0, 1), got {ratio}")
    return ratio


def refuse_ratio(mixer: str, ratio: float | None) -> None:
    """Let no ratio through to a mixer that sets its own counts.

    Raises:
        ValueError: a ratio is given.
    """
    if ratio is not None:
        raise ValueError(f"{mixer}: takes no ratio (it sets its own counts), got {ratio}")


def joined(real: ImageSet, pool: Pool, demand: np.ndarray) -> ImageSet:
    """`real`, then the first `demand[c]` images of each class of the pool.

    Raises:
        ValueError: the pool holds too few, or its image shape or class names differ.
    """
    return concat([real, pool.first_per_class(demand).images])
