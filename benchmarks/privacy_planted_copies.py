"""The near_copy gate on chest X-rays with planted copies: does it reject, and does its bound cover what was planted?

30 group splits of kermany_cxr (64 px gray): train is shown, val unseen, and a pool is 1,500 images of the locked test
that nobody was shown (one of each patient first), some of them replaced by altered images of train. A split is looked
at once, with 300 copies of each alteration; the pools are parts of that look, as what is said of an image does not
depend on the others. The planted alterations have other seeds than those with which the gate measures its sensitivity.
Run `python benchmarks/privacy_planted_copies.py`; with `--check` the exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402

from medsynth_ray import registry  # noqa: E402
from medsynth_ray.config import DataConfig, SplitConfig  # noqa: E402
from medsynth_ray.data.dataset import prepare  # noqa: E402
from medsynth_ray.data.split import split_groups  # noqa: E402
from medsynth_ray.gates._alterations import ALTERATIONS, Alteration, alter  # noqa: E402
from medsynth_ray.gates.near_copy import NearCopy  # noqa: E402
from medsynth_ray.images import ImageSet, concat  # noqa: E402
from medsynth_ray.protocols import GateResult, Pool, Spec  # noqa: E402
from medsynth_ray.testing import LocalRuntime  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("MEDSYNTH_REAL_DATA", ROOT.parent / "shared" / "data")) / "kermany_cxr"
SHARES = (0.01, 0.05, 0.2)
MIXED = "mixed"
POOL_IMAGES = 1500
MOST_COPIES = int(max(SHARES) * POOL_IMAGES)
SOURCE_IMAGES = 1400
"""Copies are made of these images, where they are in train: so only these need to be altered and embedded."""
FIRST_SPLIT = 100
"""Settings of the gate were chosen on splits 0 to 19."""
BOUND = "copy_rate_upper95_declared_alterations"
MIN_REJECTED, MIN_PASSED, MIN_COVERED = 0.8, 0.95, 0.95


class CachedRuntime(LocalRuntime):
    """Embeds each distinct image once, as the engine does."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[bytes, np.ndarray] = {}
        self._spaces: dict[str, object] = {}

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        """From memory where an equal image was embedded before."""
        keys = [digest.tobytes() for digest in images.digests]
        new = [row for row, key in enumerate(keys) if key not in self._rows]
        if new:
            made = self._spaces.setdefault(space.model_dump_json(), registry.configure("spaces", space).build())
            features = made.embed(images.take(new), runtime=self)  # type: ignore[attr-defined]
            self._rows |= {keys[row]: values for row, values in zip(new, features, strict=True)}
        return np.stack([self._rows[key] for key in keys])


def planted_sources(images: ImageSet) -> dict[Alteration, ImageSet]:
    """The same images, altered in each way."""
    chosen = np.sort(np.random.default_rng(1).permutation(len(images))[:SOURCE_IMAGES])
    return {name: alter(images.take(chosen), name, seed=1) for name in ALTERATIONS}


def innocents(test: ImageSet, seed: int) -> ImageSet:
    """POOL_IMAGES images of the locked test: one of each group, then others."""
    order = np.random.default_rng(seed).permutation(len(test))
    first = np.unique(test.groups[order], return_index=True)[1]
    rest = np.setdiff1d(np.arange(len(test)), first)
    return test.take(order[np.concatenate([np.random.default_rng(seed).permutation(first), rest])[:POOL_IMAGES]])


def copies_of(shown: ImageSet, sources: dict[Alteration, ImageSet], seed: int) -> list[ImageSet]:
    """MOST_COPIES altered images of shown ones for each alteration, of the same images in the same order.

    Raises:
        SystemExit: too few of the sources are shown.
    """
    rows = np.flatnonzero(np.isin(sources[ALTERATIONS[0]].ids, shown.ids))
    if len(rows) < MOST_COPIES:
        raise SystemExit(f"only {len(rows)} of {SOURCE_IMAGES} sources are shown, {MOST_COPIES} copies are wanted")
    chosen = np.random.default_rng(seed).permutation(rows)[:MOST_COPIES]
    return [sources[name].take(chosen) for name in ALTERATIONS]


def pool_rows(kind: str, num_copies: int) -> np.ndarray:
    """Rows of one pool in [innocents, copies of each alteration]."""
    own = np.arange(POOL_IMAGES - num_copies)
    copy = np.arange(num_copies)
    which = copy % len(ALTERATIONS) if kind == MIXED else ALTERATIONS.index(kind)  # type: ignore[arg-type]
    return np.concatenate([own, POOL_IMAGES + which * MOST_COPIES + copy])


def judged_split(
    images: ImageSet, sources: dict[Alteration, ImageSet], runtime: CachedRuntime, seed: int
) -> dict[tuple[str, float], GateResult]:
    """What the gate says of each pool of one split; ("none", 0) is the innocent one."""
    names = np.array(images.class_names)[images.labels]
    split = split_groups(names, images.groups, val_share=0.25, test_share=0.5, seed=seed)
    shown, unseen, test = (images.take(np.flatnonzero(split == part)) for part in ("train", "val", "test"))
    everything = concat([innocents(test, seed), *copies_of(shown, sources, seed)])
    gate = NearCopy(NearCopy.Config())
    looks = gate.look(everything, shown=shown, unseen=unseen, seed=0, runtime=runtime)
    pools = {("none", 0.0): np.arange(POOL_IMAGES)}
    pools |= {(kind, s): pool_rows(kind, round(s * POOL_IMAGES)) for kind in (*ALTERATIONS, MIXED) for s in SHARES}
    results = {key: gate.decide(tuple(look.take(rows) for look in looks), shown.ids) for key, rows in pools.items()}
    if seed == FIRST_SPLIT:
        rows = pools[MIXED, SHARES[0]]
        assert_same(results[MIXED, SHARES[0]], gate, everything.take(rows), shown, unseen, runtime)
    return results


def assert_same(
    expected: GateResult,
    gate: NearCopy,
    images: ImageSet,
    shown: ImageSet,
    unseen: ImageSet,
    runtime: CachedRuntime,
) -> None:
    """`judge` on the pool itself says the same as the part of the look."""
    num = len(images)
    pool = Pool(images, np.arange(num, dtype=np.uint64), np.full(num, ""), ("a",))
    result = gate.judge(pool, shown=shown, unseen=unseen, seed=0, runtime=runtime)
    assert np.array_equal(result.keep, expected.keep), "judge keeps other images than the part of the look"
    assert result.numbers == expected.numbers, "judge gives other numbers than the part of the look"


def table(results: list[dict[tuple[str, float], GateResult]]) -> list[str]:
    """One line for each kind of pool; returns the targets that were missed."""
    missed = []
    print("| planted | share | found | innocents flagged | rejected | bound: median [min, max] | covered |")
    print("|---|---|---|---|---|---|---|")
    for kind, share in results[0]:
        pools = [split[kind, share] for split in results]
        num_copies = round(share * POOL_IMAGES)
        flagged = np.array([~pool.keep for pool in pools])
        found = f"{flagged[:, POOL_IMAGES - num_copies :].mean():.1%}" if num_copies else ""
        innocent = flagged[:, : POOL_IMAGES - num_copies].mean()
        rejected = np.mean([not pool.passed for pool in pools])
        bounds = np.array([pool.numbers[BOUND] for pool in pools])
        covered = (bounds >= share).mean()
        spread = f"{np.median(bounds):.2%} [{bounds.min():.2%}, {bounds.max():.2%}]"
        print(f"| {kind} | {share:.0%} | {found} | {innocent:.2%} | {rejected:.0%} | {spread} | {covered:.0%} |")
        too_few = 0.0 < share and rejected < MIN_REJECTED
        too_many = share == 0.0 and 1.0 - rejected < MIN_PASSED
        missed += [f"{kind} {share:.0%}: rejected {rejected:.0%}"] if too_few or too_many else []
        missed += [f"{kind} {share:.0%}: covered {covered:.0%}"] if covered < MIN_COVERED else []
    return missed


def sensitivities(results: list[dict[tuple[str, float], GateResult]]) -> None:
    """Print the gate's own sensitivities: in each space and in either, means over the splits."""
    numbers = [split["none", 0.0].numbers for split in results]
    spaces = sorted(name.removeprefix("p_") for name in numbers[0] if name.startswith("p_"))
    print("\n| sensitivity to | either space | " + " | ".join(spaces) + " |\n" + "|---" * (2 + len(spaces)) + "|")
    for name in ALTERATIONS:
        shares = [np.mean([n[f"sensitivity_{name}{end}"] for n in numbers]) for end in ("", *(f"_{s}" for s in spaces))]
        print(f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")


def main() -> int:
    """Print the tables; 1 if `--check` is given and a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of kermany_cxr (default: %(default)s)")
    parser.add_argument("--splits", type=int, default=30, help="number of splits (default: %(default)s)")
    arguments = parser.parse_args()
    if not (arguments.data / "metadata.csv").is_file():
        print(f"privacy_planted_copies: skipped, no metadata.csv in {arguments.data}; set --data or MEDSYNTH_REAL_DATA")
        return 0
    start = time.process_time()
    data = DataConfig(adapter="folder", root=str(arguments.data), resolution=64)
    images = prepare(data, SplitConfig(val_share=0.25, test_share=0.5), num_threads=1).images
    sources, runtime = planted_sources(images), CachedRuntime()
    seeds = range(FIRST_SPLIT, FIRST_SPLIT + arguments.splits)
    results = [judged_split(images, sources, runtime, seed) for seed in seeds]
    print(f"{arguments.splits} splits, pools of {POOL_IMAGES}, {time.process_time() - start:.0f} CPU s\n")
    missed = table(results)
    sensitivities(results)
    print(f"\nprivacy_planted_copies: {'missed: ' + '; '.join(missed) if missed else 'all targets reached'}")
    return int(arguments.check and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
