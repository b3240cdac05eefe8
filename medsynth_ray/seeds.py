"""Every random draw of a sweep comes from here: a seed is a hash of what it is for, never of the order of work."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

_MASK = (1 << 63) - 1


def derive(*parts: Any) -> int:
    """Hash JSON-able `parts` to a seed in [0, 2**63).

    Equal parts give equal seeds in every process; `derive(seed, "train", 3)` is the way to get a child seed.

    Raises:
        TypeError: a part is not JSON-able.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") & _MASK


def rng(*parts: Any) -> np.random.Generator:
    """A NumPy generator seeded by `derive(*parts)`.

    Raises:
        TypeError: a part is not JSON-able.
    """
    return np.random.default_rng(derive(*parts))


def image_seeds(pool_seed: int, label: int, indices: np.ndarray) -> np.ndarray:
    """Seeds of the images `indices` (their place within class `label`) of one pool: uint64 (N,).

    The seed of image i does not depend on how many images are drawn, so a pool can grow.

    Raises:
        TypeError: `indices` does not hold integers.
    """
    return np.array([derive(pool_seed, int(label), int(i)) for i in indices], dtype=np.uint64)
