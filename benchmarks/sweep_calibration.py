"""Is the verdict calibrated? Whole sweeps, through `Sweep.run` on a local Ray, on the phantom, whose truth is known.

- null: ready-made images whose labels were shuffled. Nothing can be learnt from them; "helps" is a false alarm.
- perfect: fresh draws of the phantom's own law, and few real images. Nothing better can be generated.

Both come as folders of images (generator from_folder), so that the sweep treats them like any other tool's output.
Every sweep has its own phantom cohort, split and seeds. Run it on an idle machine; `--check` fails where a limit is
missed.
There is no peer: nobody else goes from images to a verdict.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import ray
from PIL import Image

from medsynth_ray.config import SweepConfig
from medsynth_ray.data.adapters.phantom import Phantom
from medsynth_ray.driver import Sweep

SIZE_PX, NUM_CLASSES = 32, 3
TRAIN, VAL, TEST = 60, 100, 900
SYNTHETIC = 240
"""Images of each class in the folder: more than any arm takes."""
LIMITS = {"null": ("at most", 5 / 60), "perfect": ("at least", 15 / 20)}
SPACE = {"use": "efficientnet_lite0", "config": {"resolution": 64}}


def write_folder(folder: Path, cohort: int, *, shuffled: bool) -> None:
    """Fresh phantom images of another cohort; `shuffled` puts them into folders at random."""
    drawn = Phantom(
        Phantom.Config(
            size_px=SIZE_PX, num_classes=NUM_CLASSES, counts=(SYNTHETIC,) * NUM_CLASSES, phantom_seed=100_000 + cohort
        )
    )
    records = drawn.scan()
    labels = [str(record.label) for record in records]
    if shuffled:
        labels = list(np.random.default_rng(cohort).permutation(labels))
    for number, (record, label) in enumerate(zip(records, labels, strict=True)):
        path = folder / label / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(drawn.read(record))).save(path)


def sweep(folder: Path, cohort: int) -> SweepConfig:
    """A sweep with few real images to train on and many to test on."""
    total = TRAIN + VAL + TEST
    return SweepConfig.model_validate({
        "name": "calibration", "seed": cohort, "store": str(folder / "store"), "tracking": {"enabled": False},
        "data": {
            "adapter": "phantom", "resolution": SIZE_PX, "size_px": SIZE_PX, "num_classes": NUM_CLASSES,
            "num_images": total, "phantom_seed": cohort,
        },
        "split": {"val_share": VAL / total, "test_share": TEST / total, "split_seed": cohort},
        "generators": {"made": {"use": "from_folder", "config": {"root": str(folder / "made")}}},
        "gates": {"dedupe": None},
        "fit": {"quality": {"space": SPACE, "checkpoint_images": 0}, "metrics": ["kid"]},
        "mix": {"ratios": [0.5, 0.75, 0.9], "classifier": {"use": "probe", "config": {"space": SPACE}}},
        "confirm": {"classifier": {"use": "probe", "config": {"space": SPACE}}, "repeats": 8, "learning_curve": []},
        "verdict": {"effect": 0.05, "accept_underpowered": True},
    })  # fmt: skip


def run(kind: str, cohort: int) -> dict[str, Any]:
    """One sweep to its verdict."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(folder / "made", cohort, shuffled=kind == "null")
        verdict = Sweep(sweep(folder, cohort)).run().verdict
    assert verdict is not None, "the sweep came to no verdict"
    return verdict


def main() -> int:
    """Print a line for each sweep and the counts; with --check, 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--null", type=int, default=60, help="sweeps with shuffled labels")
    parser.add_argument("--perfect", type=int, default=20, help="sweeps with fresh draws")
    parser.add_argument("--first", type=int, default=0, help="number of the first cohort")
    parser.add_argument("--check", action="store_true", help="exit 1 if a limit is missed")
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    ray.init(
        num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )  # fmt: skip
    missed = False
    for kind, num in (("null", arguments.null), ("perfect", arguments.perfect)):
        words: Counter[str] = Counter()
        started = time.monotonic()
        for cohort in range(arguments.first, arguments.first + num):
            verdict = run(kind, cohort)
            words[verdict["word"]] += 1
            against = ", ".join(f"{c['difference']:+.3f}" for c in verdict["comparisons"])
            print(f"{kind} {cohort}: {verdict['word']} ({verdict['arm']}: {against})", flush=True)
        if num:
            side, limit = LIMITS[kind]
            share = words["helps"] / num
            missed |= share > limit if side == "at most" else share < limit
            minutes = (time.monotonic() - started) / 60
            print(f"{kind}: {dict(words)} of {num}; helps in {share:.1%} ({side} {limit:.1%}), {minutes:.1f} min")
    ray.shutdown()
    return int(missed and arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
