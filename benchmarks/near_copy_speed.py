"""What near_copy costs beside embedding: CPU seconds, one thread, 64 px gray images and 1,280 features.

Run `python benchmarks/near_copy_speed.py`; with `--check` the exit code is 1 if the target is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
from scipy.ndimage import zoom  # noqa: E402

from medsynth_ray.gates._registration import nearest_registered, registrable  # noqa: E402
from medsynth_ray.gates.near_copy import NearCopy, nearest_features  # noqa: E402
from medsynth_ray.images import ImageSet  # noqa: E402
from medsynth_ray.protocols import Spec  # noqa: E402
from medsynth_ray.testing import LocalRuntime  # noqa: E402

DIMENSION = 1280
NUM_SHOWN = 3000
NUM_UNSEEN = 1000
TARGET_S = 2.0
ROUNDS = 3


class KnownFeatures(LocalRuntime):
    """Features cost nothing: noise."""

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        """As many rows as asked for of one table."""
        return NOISE[: len(images)]


NOISE = np.random.default_rng(0).normal(size=(NUM_SHOWN, DIMENSION)).astype(np.float32)


def images(num: int, seed: int) -> ImageSet:
    """Smooth random 64 px gray images, each of a group of its own."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (num, 8, 8))
    pixels = zoom(coarse, (1, 8, 8), order=1).astype(np.uint8)[..., None]
    ids = np.array([f"{seed}/{i}" for i in range(num)])
    return ImageSet(pixels, np.zeros(num, dtype=np.int64), ids, ids, ("c",))


def median_cpu_s(work: Callable[[], object]) -> float:
    """Median CPU seconds of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def main() -> int:
    """Print the seconds; 1 if `--check` is given and the comparison takes longer than the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if the target is missed")
    check = parser.parse_args().check
    pool, shown, unseen = images(NUM_SHOWN, 1), images(NUM_SHOWN, 2), images(NUM_UNSEEN, 3)
    x, y = registrable(pool.pixels), registrable(shown.pixels)
    pixels_s = median_cpu_s(lambda: nearest_registered(x, y))
    features_s = median_cpu_s(lambda: nearest_features(NOISE, NOISE[::-1]))
    gate, runtime = NearCopy(NearCopy.Config()), KnownFeatures()
    whole_s = median_cpu_s(lambda: gate.look(pool, shown=shown, unseen=unseen, seed=0, runtime=runtime))
    print(
        f"{NUM_SHOWN} x {NUM_SHOWN}: {pixels_s:.2f} s registered pixels, mirrored too; "
        f"{features_s:.2f} s {DIMENSION} features"
    )
    print(f"a whole look, {NUM_UNSEEN} unseen and 500 altered images with it, without embedding: {whole_s:.2f} s")
    total_s = pixels_s + features_s
    print(f"near_copy: {total_s:.2f} CPU s for the comparison in two spaces (target <= {TARGET_S:.0f} s)")
    return int(check and total_s > TARGET_S)


if __name__ == "__main__":
    sys.exit(main())
