"""Frechet distance against clean-fid's, on the same 2048 features: time in CPU seconds, one thread on both sides.

Each side gets the features and makes what it needs of them: means and covariances there, centred features here.
Run `python benchmarks/frechet.py`; with `--check` the exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
from cleanfid import fid  # noqa: E402

from medsynth_ray.metrics.frechet import frechet_distance  # noqa: E402

DIMENSION = 2048
TARGETS = {300: 300.0, 1000: 50.0}
TOLERANCE = 1e-5
ROUNDS_OURS, ROUNDS_PEER = 9, 3


def features(n: int, shift: float, seed: int) -> np.ndarray:
    """Pooled ReLU activations in outline: correlated, not negative, float32 (n, 2048)."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(DIMENSION, DIMENSION)) / np.sqrt(DIMENSION)
    activations: np.ndarray = np.maximum(rng.normal(size=(n, DIMENSION)) @ mixing + shift, 0.0)
    return activations.astype(np.float32)


def peer_distance(a: np.ndarray, b: np.ndarray) -> float:
    """clean-fid, from features, as its `fid_from_feats` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        statistics_of = [(x.mean(axis=0), np.cov(x, rowvar=False)) for x in (a, b)]
        return float(fid.frechet_distance(*statistics_of[0], *statistics_of[1]))


def median_seconds(distance: Callable[[], float], rounds: int) -> tuple[float, float]:
    """(median CPU seconds, the value)."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        value = distance()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), value


def speedup(n: int) -> float:
    """clean-fid's seconds over ours at n images on each side.

    Raises:
        SystemExit: the two values differ by more than TOLERANCE.
    """
    a, b = features(n, 0.0, 1), features(n, 0.1, 2)
    ours_s, ours = median_seconds(lambda: frechet_distance(a, b), ROUNDS_OURS)
    peer_s, peer = median_seconds(lambda: peer_distance(a, b), ROUNDS_PEER)
    difference = abs(ours - peer) / peer
    print(f"n={n}: {ours_s:.4f} s against {peer_s:.2f} s; {ours:.6f} against {peer:.6f}, off by {difference:.1e}")
    if difference > TOLERANCE:
        raise SystemExit(f"the distances differ by {difference:.1e}, allowed {TOLERANCE}")
    return peer_s / ours_s


def main() -> int:
    """Print the two ratios; 1 if `--check` is given and one is below its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    check = parser.parse_args().check
    ratios = {n: speedup(n) for n in TARGETS}
    reached = " and ".join(f">= {target:.0f}x" for target in TARGETS.values())
    measured = ", ".join(f"{ratio:.0f}x at n={n}" for n, ratio in ratios.items())
    print(f"frechet: {measured} (target {reached}; peer clean-fid frechet_distance)")
    return int(check and any(ratios[n] < target for n, target in TARGETS.items()))


if __name__ == "__main__":
    sys.exit(main())
