"""Small data sets on disk; every bad file is made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """uint8 noise of a seed: different seeds, different images."""

    def make(seed: int, *, size: int = 24, channels: int = 3) -> np.ndarray:
        shape = (size, size) if channels == 1 else (size, size, channels)
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    return make


@pytest.fixture
def tree(tmp_path: Path, noise: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """Writes root/class/pNN_k.png: `counts` images of each class, two of a person."""

    def make(counts: dict[str, int], *, root: Path | None = None) -> Path:
        root = root or tmp_path / "images"
        for c, (name, count) in enumerate(sorted(counts.items())):
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                Image.fromarray(noise(1000 * c + i)).save(root / name / f"{name}{i // 2:02d}_{i % 2}.png")
        return root

    return make


@pytest.fixture
def by_person() -> dict[str, str]:
    """The folder setting that reads the person from the names of `tree`."""
    return {"group_regex": r"([^/]+)_\d\.\w+$"}
