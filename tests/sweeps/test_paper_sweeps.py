"""The sweep files of the papers run to a verdict, on miniatures of their data in the published layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medsynth_ray import yamlfile
from medsynth_ray.results import SweepResult
from tests.engine import inline
from tests.unit.data.adapters import layouts

SWEEPS = Path(__file__).parents[2] / "sweeps"
LITE = "{use: efficientnet_lite0, config: {resolution: 32, batch_size: 32}}"
TINY = [
    "data.resolution=16", "split={val_share: 0.3, test_share: 0.3}", "gates={}",
    f"fit.quality={{num_images: 48, checkpoint_images: 6, space: {LITE}}}", "fit.shard_images=32",
    "mix.ratios=[0.25, 0.5]", "mix.repeats=1", "confirm.repeats=2", "verdict.accept_underpowered=true",
    "tracking.enabled=false",
]  # fmt: skip
"""No gates: after nine steps all images of a generator look the same, and the gates would rightly reject them."""
RESNET = [
    f"{phase}.classifier.config={{model: test_resnet, max_train_steps: 3, train_batch_size: 8}}"
    for phase in ("mix", "confirm")
]
DCGAN = [
    "data.real_share.classifier=0.5",
    "generators.dcgan.config={num_generator_channels: 8, num_discriminator_channels: 8, train_batch_size: 8}",
    "generators.dcgan.config.max_train_steps=9",
]
WORDS = {"helps", "harms", "no_evidence", "cannot_tell"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


# --- miniatures in the published layouts


ODIR_KEYWORDS = (
    "normal fundus", "moderate non proliferative retinopathy", "glaucoma", "cataract",
    "dry age-related macular degeneration", "hypertensive retinopathy", "pathological myopia", "epiretinal membrane",
)  # fmt: skip


def mini_odir(root: Path) -> Path:
    """Eight patients of each class."""
    return layouts.odir(root, [(keywords, keywords) for keywords in ODIR_KEYWORDS for _ in range(8)])


def mini_isic2019(root: Path) -> Path:
    """The three classes of the paper, and one that it does not use."""
    return layouts.isic2019(root, {"MEL": 24, "NV": 36, "BCC": 24, "AK": 4})


def mini_fitzpatrick17k(root: Path) -> Path:
    """One of the images could not be fetched."""
    layouts.fitzpatrick17k(root, {"non-neoplastic": 36, "benign": 24, "malignant": 24})
    next((root / "images").iterdir()).unlink()
    return root


def mini_lymphoma(root: Path) -> Path:
    """A folder of TIFF files for each class."""
    for label, name in enumerate(("CLL", "FL", "MCL")):
        for number in range(26):
            path = root / name / f"sj-05-{label}{number:03d}-R1_{number:03d}.tif"
            layouts.paint(path, 100 * label + number, brightness=40 * label)
    return root


# --- the sweeps


RUNS: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "hu2024_vae_odir": (
        mini_odir,
        [*(f"generators.{arm}.config={{max_train_steps: 9, hidden_dim: 16}}" for arm in ("vae", "vae_first")), *RESNET],
    ),
    "jiao2025_dcgan_isic2019": (mini_isic2019, [*DCGAN, *RESNET]),
    "jiao2025_dcgan_fitzpatrick17k": (mini_fitzpatrick17k, [*DCGAN, *RESNET]),
    "kuijpers2023_dct_lymphoma": (
        mini_lymphoma,
        [f"{phase}.classifier.config={{space: {LITE}, max_train_steps: 20}}" for phase in ("mix", "confirm")],
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SweepResult]:
    """The result of a sweep file with settings that make it tiny, run in this process at most once."""
    results: dict[str, SweepResult] = {}

    def run(name: str) -> SweepResult:
        if name not in results:
            folder = tmp_path_factory.mktemp(name)
            build, overrides = RUNS[name]
            settings = [f"data.root={build(folder / 'data')}", f"store={folder / 'store'}", *TINY, *overrides]
            results[name] = inline.run(yamlfile.load(SWEEPS / f"{name}.yaml", settings))
        return results[name]

    return run


@pytest.mark.parametrize(
    ("name", "classes", "arms"),
    [
        (
            "hu2024_vae_odir",
            "amd cataract diabetes glaucoma hypertension myopia normal other",
            {"vae", "vae_first"},
        ),
        ("jiao2025_dcgan_isic2019", "BCC MEL NV", {"dcgan"}),
        ("jiao2025_dcgan_fitzpatrick17k", "benign malignant non-neoplastic", {"dcgan"}),
        ("kuijpers2023_dct_lymphoma", "CLL FL MCL", {"dct_method1", "dct_method2"}),
    ],
)
def test_a_paper_sweep_runs_to_a_verdict(
    finished: Callable[[str], SweepResult], name: str, classes: str, arms: set[str]
) -> None:
    result = finished(name)
    verdict = result.verdict
    assert verdict["word"] in WORDS, verdict["sentence"]
    assert sorted(verdict["class_names"]) == classes.split()
    candidates = {row["arm"].partition("+")[0] for row in verdict["mix"] if row["role"] == "candidate"}
    assert candidates == arms
    assert verdict["arm"].partition("+")[0] in arms
    assert result.config.published is not None
    assert result.config.published.source


@pytest.mark.parametrize("name", ["jiao2025_dcgan_isic2019", "jiao2025_dcgan_fitzpatrick17k"])
def test_jiao_has_a_generator_for_each_class_that_sees_more_than_the_classifier(
    finished: Callable[[str], SweepResult], name: str
) -> None:
    result = finished(name)
    counts = [fit["result"]["counts"] for fit in result.fit_records(result.verdict["arm"])]
    assert [np.flatnonzero(c).tolist() for c in counts] == [[0], [1], [2]]
    shown, train = int(np.sum(counts)), len(result.splits["train"])
    assert train < shown == len(result.splits["showable"])
    assert any(f"was shown {shown:,} real images" in caveat for caveat in result.verdict["caveats"])


def test_kuijpers_images_come_from_sources_and_meet_no_privacy_gate(finished: Callable[[str], SweepResult]) -> None:
    rows = {row["name"]: row for row in finished("kuijpers2023_dct_lymphoma").verdict["generators"]}
    assert {name: sorted(rows[name]["gates"]) for name in ("dct_method1", "dct_method2")} == {
        "dct_method1": ["dedupe"],
        "dct_method2": ["dedupe"],
    }
    assert rows["dct_method1"]["parameters"] == {"method": "zero"}
    assert rows["dct_method2"]["parameters"] == {"method": "noise"}
