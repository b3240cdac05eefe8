"""A ReportView of a sweep that never ran, with everything in it that a page can show."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from medsynth_ray.report.view import CheckpointPreview, NearCopy, Preview, ReportView
from medsynth_ray.sections import PublishedConfig
from medsynth_ray.stats.evidence import describe
from medsynth_ray.stats.power import plan_power
from medsynth_ray.stats.primary import Primary
from medsynth_ray.stats.published import measured_cells, published_tables
from medsynth_ray.stats.verdict import compare, decide

CLASSES = ("nevus", "melanoma", "<script>alert(1)</script>")
GENERATORS = ("gaussian", "dcgan_small", "img2img")
NUM_REPEATS = 8
PRIMARY = Primary("balanced_accuracy")


def arm(name, phase, mean, **change):
    """One row of `ReportView.arms`."""
    rng = np.random.default_rng(zlib.crc32(f"{name} {phase}".encode()))
    num = 3 if phase == "mix" else NUM_REPEATS
    row = {
        "arm": name,
        "role": "candidate",
        "generator": None,
        "mixer": None,
        "ratio": None,
        "phase": phase,
        "split": "val" if phase == "mix" else "test",
        "metric": "balanced_accuracy",
        "mean": mean,
        "low": None if mean is None else mean - 0.021,
        "high": None if mean is None else mean + 0.021,
        "repeats": [] if mean is None else [mean + float(d) for d in rng.normal(0, 0.008, num)],
        "num_train": 1200,
        "num_synthetic": 0,
        "synthetic_share": 0.0,
        "parameters": {},
        "cost_s": 12.5,
        "status": "ok",
        "reason": "",
    }
    return {**row, **change}


def mixed(generator, mixer, ratio, mean, **change):
    """A candidate of the mix phase."""
    synthetic = round(1200 * ratio / (1 - ratio))
    return arm(
        f"{generator}+{mixer}@{ratio:g}", "mix", mean, generator=generator, mixer=mixer, ratio=ratio,
        num_train=1200 + synthetic, num_synthetic=synthetic, synthetic_share=ratio,
        parameters={"learning_rate": 1e-4, "num_components": 24}, cost_s=41.0, **change,
    )  # fmt: skip


def arms():
    """Both phases; one arm was rejected, one failed."""
    gains = {("gaussian", "add"): (0.01, 0.03, 0.02), ("gaussian", "replace"): (-0.01, -0.02, -0.05)}
    gains[("dcgan_small", "add")] = (0.004, 0.011, -0.006)
    rows = [arm("real_only", "mix", 0.781, role="control")]
    rows += [
        mixed(generator, mixer, ratio, 0.781 + gain)
        for (generator, mixer), found in gains.items()
        for ratio, gain in zip((0.25, 0.5, 0.75), found, strict=True)
    ]
    failed = {"status": "failed", "reason": "diverged: loss is NaN at step 120"}
    rows += [mixed("img2img", "add", 0.25, None, status="rejected", reason="near_copy: 31 of 200 flagged")]
    rows += [mixed("img2img", "add", 0.5, None, **failed)]
    winner = {"generator": "gaussian", "mixer": "add", "ratio": 0.5, "num_synthetic": 1200, "synthetic_share": 0.5}
    return rows + [
        arm("gaussian+add@0.5", "confirm", 0.812, **winner, num_train=2400),
        arm("real_only", "confirm", 0.771, role="control"),
        arm("real_classic", "confirm", 0.779, role="control"),
        arm("real_oversampled", "confirm", 0.768, role="control", cost_s=9000.0),
    ]


def verdict(gain=0.06):
    """A real verdict, decided from simulated probabilities."""
    rng = np.random.default_rng(5)
    labels, groups = np.arange(600) % 3, (np.arange(600) // 2).astype(str)
    hard = rng.normal(0, 1, 600)

    def probs(right):
        hit = hard + rng.normal(0, 0.4, (NUM_REPEATS, 600)) < np.quantile(hard, right)
        return np.eye(3)[np.where(hit, labels, (labels + 1) % 3)]

    winner = probs(0.72 + gain)
    found = {
        name: compare(winner, probs(right), labels, groups, control=name, primary=PRIMARY, seed=0)
        for name, right in (("real_only", 0.72), ("real_classic", 0.73), ("real_oversampled", 0.715))
    }
    caveats = ("conditional on one fitted generator", "groups: none, every image stands alone")
    what = {"effect": 0.03, "winner": "gaussian (add, ratio 0.50)", "about": "pool", "primary": PRIMARY}
    return decide(found, **what, caveats=caveats).to_json()


def evidence():
    """Four arms whose sureness is not their accuracy; the winner gains, but not in women."""
    rng = np.random.default_rng(8)
    labels, women, hard = np.arange(300) % 3, np.arange(300) % 2 == 0, rng.normal(0, 1, 300)

    def probs(right, of_women):
        limit = np.quantile(hard, np.where(women, of_women, right))
        hit = hard + rng.normal(0, 0.3, (NUM_REPEATS, 300)) < limit
        sure = rng.uniform(0.5, 0.99, (NUM_REPEATS, 300, 1))
        return (sure * np.eye(3)[np.where(hit, labels, (labels + 1) % 3)] + (1 - sure) / 3).astype(np.float32)

    arms = {"gaussian+add@0.5": probs(0.93, 0.6), "real_only": probs(0.7, 0.72), "real_classic": probs(0.72, 0.72)}
    return describe(
        arms, labels, (np.arange(300) // 4 * 2 + women).astype(str), np.array([f"<i>/{i}.png" for i in range(300)]),
        CLASSES, seed=3, val_probs={name: p[:, ::3] for name, p in arms.items()}, val_labels=labels[::3],
        columns={
            "sex": ["F" if w else "M" for w in women], "age": [str(30 + i % 50) for i in range(300)],
            "<site>": ["rare" if i < 7 else "" if i < 17 else "main" for i in range(300)],
            "note": [f"n{i}" for i in range(300)],
        },
    )  # fmt: skip


def learning_curve():
    """Real only, on four shares of the real images."""
    points = [
        {"num_images": n, "mean": 0.8 - 2 / n**0.6, "low": 0.79 - 2 / n**0.6, "high": 0.81 - 2 / n**0.6}
        for n in (150, 300, 600, 1200)
    ]
    winner = {"mean": 0.812, "low": 0.80, "high": 0.824, "num_train": 2400}
    return {"points": points, "winner": winner, "sentence": "The gain is worth about 900 <b>more</b> real images."}


def generators():
    """Two that passed their gates and one that copies."""

    def measured(kid, frechet):
        floor = {"floor": 0.0021, "floor_high": 0.0079, "p": 0.005, "standard_error": 0.002}
        prdc = {"precision": 0.912, "recall": 0.4, "density": 1.04, "coverage": 1 - 5 * kid, "floor": 0.96}
        prdc["floor_low"] = 0.93
        return [
            {"name": "kid_efficientnet_lite0", "value": kid, "low": kid - 0.004, "high": kid + 0.005, "details": floor},
            {"name": "frechet_efficientnet_lite0_n300", "value": frechet, "low": None, "high": None, "details": {}},
            {
                "name": "prdc_coverage_efficientnet_lite0_k5_n120",
                "value": 1 - 5 * kid,
                "low": None,
                "high": None,
                "details": prdc,
            },
        ]

    def gates(passed, kept):
        numbers = {"flagged": 500.0 - kept, "copy_rate_upper": 0.0123 if passed else 0.181}
        reason = "" if passed else "31 of 200 flagged, 4 expected"
        near = {"passed": passed, "reason": reason, "kept": kept, "judged": 500, "numbers": numbers}
        return {"dedupe": {"passed": True, "reason": "", "kept": 500, "judged": 512, "numbers": {}}, "near_copy": near}

    rows = []
    found = (("gaussian", 0.0312, True, 498), ("dcgan_small", 0.0871, True, 500), ("img2img", 0.0042, False, 410))
    for label, kid, passed, kept in found:
        rows.append(
            {
                "label": label,
                "use": label.split("_")[0],
                "status": "ok" if passed else "rejected",
                "reason": "" if passed else "near_copy",
                "parameters": {"learning_rate": 2e-4, "steps": 2000},
                "measured": measured(kid, 1000 * kid),
                "gates": gates(passed, kept),
                "fitted_on_unknown": label == "img2img",
                "cost_s": 312.4,
            }
        )
    control = {"label": "real_classic", "role": "control", "gates": {}, "measured": [], "fitted_on_unknown": False}
    return [*rows, {**rows[0], **control, "use": "classic_augment"}]


def rungs():
    """Two generators, three settings each, three rungs."""
    rng = np.random.default_rng(0)
    return [
        {
            "generator": generator,
            "candidate": c,
            "share": share,
            "quality": float(0.2 / (1 + 4 * share) + 0.02 * c + rng.normal(0, 0.004)),
            "promoted": c < promoted,
            "parameters": {"learning_rate": 10.0 ** -(c + 3)},
        }
        for generator in GENERATORS[:2]
        for share, num, promoted in ((1 / 9, 6, 3), (1 / 3, 3, 1), (1.0, 1, 1))
        for c in range(num)
    ]


SEEN = (640, 1920, 5760, 12800, 25600, 64000, 128000)


def curves():
    """Three settings of two generators, of which one goes the whole way."""
    rows = []
    for g, generator in enumerate(GENERATORS[:2]):
        for c, reached in enumerate((7, 5, 3)):
            values = [0.0312 + 0.055 * g + 0.012 * c + (60.0 + 30 * c) / seen for seen in SEEN[:reached]]
            points = [(seen, v, v - 0.006, v + 0.006) for seen, v in zip(SEEN, values, strict=False)]
            row = {"generator": generator, "candidate": f"0-{c}", "share": (1.0, 1 / 3, 1 / 9)[c], "best": c == 0}
            rows.append({**row, "metric": "kid_efficientnet_lite0", "points": points, "floor": 0.0021})
    return rows


def checkpoint_previews():
    """Sharper and sharper blobs of one generator, in all classes."""
    return [
        CheckpointPreview("gaussian", seen, name, np.stack([picture(100 * c + i) // (8 - step) for i in range(3)]))
        for step, seen in enumerate(SEEN)
        for c, name in enumerate(CLASSES)
    ]


def published() -> PublishedConfig:
    """Two tables in the manner of the field: one with a stated n, one without."""
    first = {
        "title": "Table 2: X-rays, 140 test images",
        "columns": ["Acc", "P", "R", "FID"],
        "rows": {
            "original": [0.90, 0.87, 0.80, None],
            "conventional augmentation": [0.89, 0.84, 0.81, None],
            "<i>DreamBooth</i>": [0.91, 0.89, 0.81, 31.5],
        },
        "num_test": 140,
        "proportions": ["Acc"],
        "measured": {"original": "real_only", "<i>DreamBooth</i>": "gaussian", "conventional augmentation": "nobody"},
        "metrics": {"Acc": "accuracy", "P": "macro_precision", "R": "macro_recall", "FID": "frechet"},
    }
    second = {
        "title": "Table 3: skin",
        "columns": ["Acc (%)"],
        "rows": {"none": [71.67], "GAN": [74.67]},
        "percent": True,
        "proportions": ["Acc (%)"],
    }
    notes = ("The winner is the best of 17 rows on one test set.", "Baseline and generator saw different images.")
    return PublishedConfig(source="Doe et al. 2024, A study, Journal 1(2).", notes=notes, tables=(first, second))


def repeat_scores():
    """Scores of each repeat for the arms of the locked test."""
    rng = np.random.default_rng(11)
    names = ("gaussian+add@0.5", "real_only", "real_classic", "real_oversampled")
    return {
        ("confirm", name): [
            {"accuracy": 0.8 + e, "macro_precision": 0.79 + e, "balanced_accuracy": 0.77 + e}
            for e in rng.normal(0, 0.01, NUM_REPEATS)
        ]
        for name in names
    }


def findings():
    """One of each severity, out of order."""
    rows = [
        ("info", "exif_rotated", "12 images were turned as their EXIF says", [f"id-{i}" for i in range(12)]),
        (
            "warn",
            "near_duplicate",
            "12 pairs of near duplicates were joined to one group",
            [f"id-{i}" for i in range(24)],
        ),
        ("quarantine", "unreadable", "1 file cannot be read", ["<img src=x>.png"]),
        ("warn", "conflicting_labels", "2 images stand under two labels", ["id-3", "id-4"]),
    ]
    return [dict(zip(("severity", "kind", "message", "ids"), row, strict=True)) for row in rows]


def picture(seed, size=48, channels=3):
    """A smooth blob, uint8 (size, size, channels)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - rng.uniform(0.4, 0.6, (2, 1, 1))
    blob = np.exp(-(x**2 + y**2) * rng.uniform(8, 20))[:, :, None] * rng.uniform(80, 200, channels)
    return np.clip(blob + rng.normal(30, 6, (size, size, channels)), 0, 255).astype(np.uint8)


def view(**change) -> ReportView:
    """The whole page, with some fields changed."""
    previews = [
        Preview(generator, name, np.stack([picture(100 * c + 10 * g + i) for i in range(6)]))
        for c, name in enumerate(CLASSES)
        for g, generator in enumerate(("gaussian", "dcgan_small", "img2img", "real"))
    ]
    copies = [
        NearCopy("img2img", "efficientnet_lite0", 0.011, picture(1), picture(1), "synthetic/1/7", "a/b.png"),
        NearCopy("img2img", "baseline", 0.004, picture(2), None, "synthetic/0/12", "<b>.png"),
    ]
    power = plan_power([200, 200, 200], repeats=8, effect=0.03, discordance=0.12, repeat_sd=0.01)
    given = {
        "name": "quickstart",
        "sweep_id": "quickstart-1a2b3c4d",
        "status": "finished",
        "description": "Three generators on a small skin data set.",
        "verdict": verdict(),
        "arms": arms(),
        "generators": generators(),
        "rungs": rungs(),
        "previews": previews,
        "near_copies": copies,
        "curves": curves(),
        "checkpoint_previews": checkpoint_previews(),
        "audit": findings(),
        "thumbnails": {f"id-{i}": picture(500 + i // 2) for i in range(10)},
        "real_share": {"classifier": 0.1, "generator": 1.0, "classifier_images": 1200, "generator_images": 12000},
        "published": published_tables(published()),
        "measured_cells": measured_cells(
            published(), arms=arms(), generators=generators(), repeat_scores=repeat_scores()
        ),
        "counts": {"train": [700, 300, 200], "val": [140, 60, 40], "test": [200, 200, 200]},
        "class_names": CLASSES,
        "power": power.to_json(),
        "looks": 1,
        "evidence": (found := evidence()),
        "flip_images": {row["id"]: picture(700 + i, 32, 1) for i, row in enumerate(found["flips"]["rows"][:30])},
        "learning_curve": learning_curve(),
        "config_yaml": "name: quickstart\nverdict:\n  effect: 0.03\n",
        "command": "medsynth run sweeps/quickstart.yaml -s seed=0",
        "run": {
            "started": "2025-01-01T10:00:00Z",
            "hours": 0.4,
            "failures": [{"job": "fit-1", "message": "NaN"}],
            "versions": {"ray": "2.60"},
        },
    }
    return ReportView(**{**given, **change})


@pytest.fixture(scope="session")
def make_view():
    """Makes the ReportView of this file, with some fields changed."""
    return view


@pytest.fixture
def make_arm():
    """Makes one row of `ReportView.arms`."""
    return arm
