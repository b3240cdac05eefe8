"""What every torch classifier needs while it is fitted: own random state and threads, class weights, a val number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch

from medsynth_ray.images import ImageSet

ClassWeight = Literal["balanced", "none"]


@contextmanager
def own_state(num_threads: int, seed: int = 0) -> Iterator[None]:
    """Seed torch's global generator and set its threads inside; what was there before comes back."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def check_trainable(train: ImageSet) -> None:
    """Refuse a training set from which nothing can be learnt.

    Raises:
        ValueError: fewer than 2 images.
    """
    if len(train) < 2:
        raise ValueError(f"a classifier needs at least 2 training images, got {len(train)}")


def class_weights(train: ImageSet, how: ClassWeight) -> torch.Tensor:
    """float32 (K,): 1, or inversely proportional to the class's count with mean 1 over images; 0 for an empty class."""
    counts = train.counts()
    if how == "none":
        return torch.ones(train.num_classes)
    weights = np.zeros(train.num_classes, dtype=np.float32)
    present = counts > 0
    weights[present] = len(train) / (present.sum() * counts[present])
    return torch.from_numpy(weights)


def val_numbers(probs: np.ndarray, val: ImageSet) -> dict[str, float]:
    """`val_loss` and `val_balanced_accuracy` of probabilities (N, K); nothing for an empty val."""
    if not len(val):
        return {}
    hit = probs.argmax(axis=1) == val.labels
    recalls = [hit[val.labels == c].mean() for c in np.flatnonzero(val.counts())]
    own = np.clip(probs[np.arange(len(val)), val.labels].astype(np.float64), 1e-7, 1.0)
    return {"val_loss": float(-np.log(own).mean()), "val_balanced_accuracy": float(np.mean(recalls))}
