"""Is the verdict right as often as it says? Simulated studies, pure statistics: no training, no Ray.

A study has nine ratios. The one with the best mean on val is compared with three controls on the locked test, over ten
paired repeats, by `compare` and `decide`. Beside it the habit of papers: the best ratio on the test set, one seed.

A classifier is right on an image where a normal score stays below a threshold. The score has a part that all arms share
(how hard the image is), one of the arm (PERSISTENT_SHARE of the rest) and one of the repeat; in each repeat the
threshold moves, so that accuracy varies by SEED_SD. Two arms disagree on DISCORDANCE of the images. The threshold is
placed so that the mean over images and repeats is ACCURACY + effect to the last digit: nothing is clipped, and being
right does not depend on the class, so this is the balanced accuracy of the population as well. A true +3 is +0.03.
Where the arm's part is all of the rest, repeats disagree on nothing but the moving threshold, and more of them do not
help; where it is none, arms differ by noise of training only. Real classifiers lie between.

Run `python benchmarks/verdict_calibration.py`; with `--check` the exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import sys
import time
from dataclasses import dataclass

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
from scipy.optimize import brentq  # noqa: E402
from scipy.stats import binomtest, multivariate_normal, norm  # noqa: E402

from medsynth_ray.stats.primary import Primary  # noqa: E402
from medsynth_ray.stats.verdict import CONTROLS, compare, decide  # noqa: E402

ACCURACY, DISCORDANCE, SEED_SD = 0.8, 0.12, 0.01
NUM_RATIOS, NUM_REPEATS, NUM_VAL_REPEATS = 9, 10, 3
PERSISTENT_SHARE = 0.5
EFFECT = 0.03
SIZES = (75, 140, 900)
MAX_FALSE, MAX_FALSE_UPPER, MIN_POWER = 0.05, 0.08, 0.8


@dataclass(frozen=True)
class Study:
    """How one simulated study came out. beats_real_only: by the same rule, were there no other control."""

    helps: bool
    harms: bool
    beats_real_only: bool
    papers_gain: float


@functools.cache
def parts(persistent_share: float) -> tuple[float, float, float, float]:
    """Standard deviations of the score's shared part, of the arm's and the repeat's, and of the threshold."""
    moving = SEED_SD / norm.pdf(norm.ppf(ACCURACY))
    total = 1.0 + moving**2

    def excess(correlation: float) -> float:
        threshold = norm.ppf(ACCURACY)
        both = multivariate_normal.cdf([threshold] * 2, cov=[[1.0, correlation], [correlation, 1.0]])
        return float(2.0 * (ACCURACY - both) - DISCORDANCE)

    shared = brentq(excess, 0.0, 0.9999) * total
    return (
        math.sqrt(shared),
        *(math.sqrt(s * (1.0 - shared)) for s in (persistent_share, 1.0 - persistent_share)),
        moving,
    )


def hits(rng: np.random.Generator, hard: np.ndarray, shape: tuple[int, int], effect: float, share: float) -> np.ndarray:
    """Which images are judged right, bool (arms, repeats, N); `hard` is the shared part of the score (N,)."""
    shared, own, noise, moving = parts(share)
    score = (
        shared * hard + own * rng.normal(size=(shape[0], 1, len(hard))) + noise * rng.normal(size=(*shape, len(hard)))
    )
    threshold = norm.ppf(ACCURACY + effect) * math.sqrt(1.0 + moving**2)
    right: np.ndarray = score < threshold + moving * rng.normal(size=(*shape, 1))
    return right


def study(
    num_images: int, effect: float, seed: int, *, share: float = PERSISTENT_SHARE, num_resamples: int = 2000
) -> Study:
    """Simulate one study in which every ratio has a true effect of `effect` over every control."""
    rng = np.random.default_rng([seed, num_images, round(1000 * effect), round(1000 * share)])
    on_val = hits(rng, rng.normal(size=num_images), (NUM_RATIOS, NUM_VAL_REPEATS), effect, share)
    chosen = int(on_val.mean(axis=(1, 2)).argmax())
    hard, labels = rng.normal(size=num_images), np.arange(num_images) % 2
    ratios = hits(rng, hard, (NUM_RATIOS, NUM_REPEATS), effect, share)
    controls = hits(rng, hard, (len(CONTROLS), NUM_REPEATS), 0.0, share)
    winner, *others = (np.eye(2)[np.where(right, labels, 1 - labels)] for right in (ratios[chosen], *controls))
    primary, groups = Primary("balanced_accuracy"), np.arange(num_images)
    found = {
        name: compare(
            winner, probs, labels, groups, control=name, primary=primary, seed=seed, num_resamples=num_resamples
        )
        for name, probs in zip(CONTROLS, others, strict=True)
    }
    word = decide(found, effect=EFFECT, winner="simulated", about="pool", primary=primary).word
    papers_gain = float(ratios[:, 0].mean(axis=1).max() - controls[0, 0].mean())
    return Study(word == "helps", word == "harms", found["real_only"].beaten, papers_gain)


def upper(count: int, num: int) -> float:
    """One-sided 95 % Clopper-Pearson upper bound of a share."""
    return float(binomtest(count, num, alternative="less").proportion_ci(0.95, method="exact").high)


def rates(num_images: int, effect: float, num: int, share: float = PERSISTENT_SHARE) -> float:
    """Run `num` studies and print what they said; returns the share that helps."""
    start = time.process_time()
    done = [study(num_images, effect, seed, share=share) for seed in range(num)]
    helps, harms, single = (sum(getattr(s, name) for s in done) for name in ("helps", "harms", "beats_real_only"))
    papers = sum(s.papers_gain >= EFFECT - 1e-9 for s in done)
    print(
        f"true {effect:+.2f}, {num_images} images, persistent share {share:g}: helps {helps} of {num} "
        f"({helps / num:.3f}, upper bound {upper(helps, num):.3f}), beats real only alone {single / num:.3f}, "
        f"harms {harms / num:.3f}; papers' habit finds +{EFFECT:.2f} in {papers / num:.3f} "
        f"({time.process_time() - start:.0f} CPU s)",
        flush=True,
    )
    return helps / num


def main() -> int:
    """Print the rates; 1 if `--check` is given and a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--studies", type=int, default=400, help="simulated studies for each row")
    given = parser.parse_args()
    false = [rates(n, 0.0, given.studies) for n in SIZES]
    for share in (0.0, 1.0):
        rates(max(SIZES), EFFECT, given.studies, share)
    power = rates(max(SIZES), EFFECT, given.studies)
    worst = upper(round(max(false) * given.studies), given.studies)
    print(
        f"verdict_calibration: false 'helps' {max(false):.3f}, upper bound {worst:.3f} (target <= {MAX_FALSE} and <= "
        f"{MAX_FALSE_UPPER}); power for {EFFECT:+.2f} at {max(SIZES)} images {power:.3f} (target >= {MIN_POWER})"
    )
    return int(given.check and (max(false) > MAX_FALSE or worst > MAX_FALSE_UPPER or power < MIN_POWER))


if __name__ == "__main__":
    sys.exit(main())
