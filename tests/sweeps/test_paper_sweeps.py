"""The sweep files of the papers run to a verdict, on miniatures of their data in the published layout.

Those that name what a paper did in full run a second time with `mode=as_published`, to a sentence that is no verdict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from medsynth_ray import weights, yamlfile
from medsynth_ray.driver import Sweep
from medsynth_ray.results import SweepResult
from medsynth_ray.weights_catalogue import CATALOGUE
from tests.engine import inline
from tests.unit.data.adapters import layouts

SWEEPS = Path(__file__).parents[2] / "sweeps"
LITE = "{use: efficientnet_lite0, config: {resolution: 32, batch_size: 32}}"
TINY = [
    "data.resolution=16", "split={val_share: 0.3, test_share: 0.3}", "gates={}",
    f"fit.quality={{num_images: 48, checkpoint_images: 6, space: {LITE}}}", "fit.shard_images=32",
    "mix.ratios=[0.25, 0.5]", "mix.repeats=1", "confirm.repeats=2", "verdict.accept_underpowered=true",
    "tracking.enabled=false", "confirm.learning_curve=[0.5]",
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
JIAO = [*DCGAN, *RESNET, *(f"{phase}.classifier.config.random_init=true" for phase in ("mix", "confirm"))]
GAN = "num_generator_channels: 8, num_discriminator_channels: 8, train_batch_size: 8, max_train_steps: 9"
CLUSTERS = "num_clusters: 2, min_images: 2, nearest: 6"
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


def mini_folders(root: Path, counts: Mapping[str, int], pattern: str = "{:04d}.png") -> Path:
    """An image of its own, in the brightness of its class, for each count below a folder `split/class`."""
    for place, (folder, count) in enumerate(counts.items()):
        brightness = 40 * sorted({name.rpartition("/")[2] for name in counts}).index(folder.rpartition("/")[2])
        for number in range(count):
            layouts.paint(root / folder / pattern.format(number), 1000 * place + number, brightness=brightness)
    return root


def mini_chongqing(root: Path) -> Path:
    """The official split, a third positive."""
    return mini_folders(root, {"train/0": 40, "train/1": 20, "test/0": 16, "test/1": 8})


def mini_brain_mri(root: Path) -> Path:
    """Five times what is used: `thin_share` is 0.8. Meningioma is the smallest class; glioma is doubled."""
    sizes = {"glioma": (90, 40), "meningioma": (80, 40), "notumor": (100, 40), "pituitary": (90, 40)}
    folders = {f"Training/{name}": many for name, (many, _) in sizes.items()}
    return mini_folders(root, folders | {f"Testing/{name}": few for name, (_, few) in sizes.items()}, "Te-{:04d}.jpg")


def mini_aptos(root: Path) -> Path:
    """The copy filtered by a Gaussian. Severe is the smallest class, Mild the one that is doubled."""
    return layouts.aptos(root, [40, 28, 36, 18, 24], gaussian=True)


def mini_isic2020(root: Path) -> Path:
    """With a folder of ready-made images beside it, more than are needed."""
    mini_folders(root.parent / "derm_t2im", {"benign": 40, "malignant": 20})
    return layouts.isic2020(root, {"benign": 60, "malignant": 24})


# --- the sweeps


def space(config: str) -> list[str]:
    """Both classifiers on cheap features."""
    return [f"{phase}.classifier.config={{space: {LITE}{config}}}" for phase in ("mix", "confirm")]


def repetto(*arms: str) -> list[str]:
    """Tiny DCGANs, and two clusters of a few images each."""
    settings = [f"generators.{arm}.config={{{GAN}}}" for arm in arms]
    for arm in (arm for arm in arms if arm.endswith("clusters")):
        sampler = f"generators.{arm}.sampler.config"
        settings += [f"{sampler}={{{CLUSTERS}, space: null}}", f"{sampler}.space={LITE}"]
    return settings


RUNS: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "hu2024_vae_odir": (
        mini_odir,
        [*(f"generators.{arm}.config={{max_train_steps: 9, hidden_dim: 16}}" for arm in ("vae", "vae_first")), *RESNET],
    ),
    "jiao2025_dcgan_isic2019": (mini_isic2019, JIAO),
    "jiao2025_dcgan_fitzpatrick17k": (mini_fitzpatrick17k, JIAO),
    "kuijpers2023_dct_lymphoma": (
        mini_lymphoma,
        space(", max_train_steps: 20"),
    ),
    "kuijpers2023_alexnet": (mini_lymphoma, space(", num_train_epochs: 2")),
    "repetto2023_chongqing": (mini_chongqing, space(", hidden: [16], num_train_epochs: 5")),
    "repetto2023_brain_mri": (
        mini_brain_mri,
        [*space(""), *repetto("glioma", "glioma_efficientnet_clusters", "glioma_clip_clusters")],
    ),
    "repetto2023_aptos": (
        mini_aptos,
        [*space(", max_iter: 20"), *repetto("mild", "mild_efficientnet_clusters", "mild_clip_clusters")],
    ),
    "singh2024_hybrid50": (
        mini_isic2020,
        [
            "mix.ratios=[0.5]",
            *(
                f"{phase}.classifier.config={{model: test_vit, random_init: true, resolution: 32, max_train_steps: 3, "
                "train_batch_size: 8}"
                for phase in ("mix", "confirm")
            ),
        ],
    ),
}
BOTH_MODES = [
    "kuijpers2023_alexnet", "repetto2023_aptos", "repetto2023_brain_mri", "repetto2023_chongqing", "singh2024_hybrid50",
]  # fmt: skip


Finished = Callable[..., SweepResult]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The result of a sweep file with settings that make it tiny, run in this process at most once in each mode."""
    folders: dict[str, tuple[Path, Path]] = {}
    results: dict[tuple[str, str], SweepResult] = {}

    def run(name: str, mode: str = "rigorous") -> SweepResult:
        build, overrides = RUNS[name]
        if name not in folders:
            folder = tmp_path_factory.mktemp(name)
            folders[name] = folder, build(folder / "data")
        folder, data = folders[name]
        if (name, mode) not in results:
            places = [f"data.root={data}", f"store={folder / 'store'}"]
            if name == "singh2024_hybrid50":
                places.append(f"generators.derm_t2im.config.root={folder / 'derm_t2im'}")
            settings = [*places, *TINY, *overrides, f"mode={mode}"]
            results[name, mode] = inline.run(yamlfile.load(SWEEPS / f"{name}.yaml", settings))
        return results[name, mode]

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
        ("kuijpers2023_alexnet", "CLL FL MCL", {"dct_method1", "dct_method2"}),
        ("repetto2023_chongqing", "normal pneumoconiosis", {"conventional", "gaussian"}),
        (
            "repetto2023_brain_mri",
            "glioma meningioma notumor pituitary",
            {"glioma", "glioma_efficientnet_clusters", "glioma_clip_clusters"},
        ),
        (
            "repetto2023_aptos",
            "Mild Moderate No_DR Proliferate_DR Severe",
            {"mild", "mild_efficientnet_clusters", "mild_clip_clusters"},
        ),
        ("singh2024_hybrid50", "benign malignant", {"derm_t2im"}),
    ],
)
def test_a_paper_sweep_runs_to_a_verdict(finished: Finished, name: str, classes: str, arms: set[str]) -> None:
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
def test_jiao_has_a_generator_for_each_class_that_sees_more_than_the_classifier(finished: Finished, name: str) -> None:
    result = finished(name)
    counts = [fit["result"]["counts"] for fit in result.fit_records(result.verdict["arm"])]
    assert [np.flatnonzero(c).tolist() for c in counts] == [[0], [1], [2]]
    shown, train = int(np.sum(counts)), len(result.splits["train"])
    assert train < shown == len(result.splits["showable"])
    assert any(f"was shown {shown:,} real images" in caveat for caveat in result.verdict["caveats"])


def test_kuijpers_images_come_from_sources_and_meet_no_privacy_gate(finished: Finished) -> None:
    rows = {row["name"]: row for row in finished("kuijpers2023_dct_lymphoma").verdict["generators"]}
    assert {name: sorted(rows[name]["gates"]) for name in ("dct_method1", "dct_method2")} == {
        "dct_method1": ["dedupe"],
        "dct_method2": ["dedupe"],
    }
    assert rows["dct_method1"]["parameters"] == {"method": "zero"}
    assert rows["dct_method2"]["parameters"] == {"method": "noise"}


@pytest.mark.parametrize("name", BOTH_MODES)
def test_a_study_as_published_says_why_it_is_no_evidence(finished: Finished, name: str) -> None:
    result = finished(name, "as_published")
    verdict, num_test = result.verdict, len(result.splits["test"])
    candidates = [row for row in verdict["confirm"] if row["role"] == "candidate"]
    assert verdict["word"] == "as_published"
    assert (
        f"Not evidence: the best of {len(candidates)} arms was picked on the {num_test:,} test images that score it, "
        "after one training run of each."
    ) in verdict["sentence"]
    assert verdict["caveats"][0] == "mode: as_published. Run it with -s mode=rigorous for a verdict."
    assert 0 < verdict["as_published"]["p"] <= 1
    assert {len(row["result"]["repeats"]) for row in result.plan.confirm} == {1}


@pytest.mark.parametrize("name", BOTH_MODES)
def test_its_report_shows_what_the_published_number_can_and_cannot_show(finished: Finished, name: str) -> None:
    result = finished(name, "as_published")
    page = " ".join(re.sub(r"<[^>]+>", " ", Path(result.render(["medsynth"])).read_text()).split())
    published = result.config.published
    assert published is not None
    assert "A study as most are published: what it would report, and why that is no evidence." in page
    assert "Not evidence: the best of" in page
    assert "never part of the verdict" in page
    first = published.tables[0]
    assert ("95 % Wilson interval of" if first.num_test else "n not stated: no interval") in page
    beside = {row for table in published.tables for row in table.measured.values()}
    assert [arm for arm in sorted(beside) if f"measured here {arm}" not in page] == []
    assert "no number yet" not in page


@pytest.mark.parametrize(
    ("name", "doubled"),
    [
        ("repetto2023_chongqing", "pneumoconiosis"),
        ("repetto2023_brain_mri", "glioma"),
        ("repetto2023_aptos", "Mild"),
    ],
)
def test_repetto_doubles_the_class_of_the_paper(finished: Finished, name: str, doubled: str) -> None:
    result = finished(name)
    train = dict(zip(result.data.class_names, result.data.counts()["train"], strict=True))
    (mixer,) = result.config.mix.mixers
    assert dict(zip(train, result.plan.takes(mixer, None), strict=True)) == {
        name: count if name == doubled else 0 for name, count in train.items()
    }


@pytest.mark.parametrize(
    ("name", "arm"), [("repetto2023_brain_mri", "glioma_clip_clusters"), ("repetto2023_aptos", "mild_clip_clusters")]
)
def test_repetto_clusters_the_class_that_is_doubled(finished: Finished, name: str, arm: str) -> None:
    result = finished(name)
    *_, fit = result.fits_of(arm)
    shown = [result.record(unit)["result"]["counts"] for unit in fit["result"]["units"] if unit.startswith("fit/")]
    assert [np.flatnonzero(counts).tolist() for counts in shown] == [[0], [0], [1, 2, 3, *[4] * ("aptos" in name)]]
    assert all(2 <= sum(counts) <= 6 for counts in shown[:2])


def test_brain_mri_is_thinned_in_train_and_test(finished: Finished) -> None:
    counts = finished("repetto2023_brain_mri").data.counts()
    assert counts["test"] == [8, 8, 8, 8]
    assert np.add(counts["train"], counts["val"]).tolist() == [18, 16, 20, 18]


def test_singh_has_as_many_synthetic_images_as_real_ones_and_says_what_is_not_known(finished: Finished) -> None:
    verdict = finished("singh2024_hybrid50").verdict
    (hybrid,) = [row for row in verdict["mix"] if row["role"] == "candidate"]
    assert hybrid["arm"] == "derm_t2im+hybrid@0.5"
    assert hybrid["num_synthetic"] * 2 == hybrid["num_train"]
    assert any(caveat.startswith("fitted on unknown data") for caveat in verdict["caveats"])


# --- as they stand


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of the catalogue have a file of their own on this machine; a plan looks at its bytes alone."""
    monkeypatch.setenv("MEDSYNTH_WEIGHTS", str(tmp_path / "weights.yaml"))
    for number, name in enumerate(name for name, one in CATALOGUE.items() if "sha256" not in one):
        save_file({"w": np.full(1, number, np.float32)}, tmp_path / f"{name}.safetensors")
        weights.add(name, str(tmp_path / f"{name}.safetensors"))


@pytest.mark.parametrize(
    ("name", "rigorous", "as_published"),
    [
        ("kuijpers2023_alexnet", {"fit": 2, "mix": 13, "confirm": 56}, {"fit": 2, "pool": 2, "confirm": 7}),
        ("repetto2023_chongqing", {"fit": 4, "mix": 5, "confirm": 56}, {"fit": 4, "pool": 2, "confirm": 3}),
        ("repetto2023_brain_mri", {"fit": 9, "mix": 6, "confirm": 56}, {"fit": 9, "pool": 3, "confirm": 4}),
        ("repetto2023_aptos", {"fit": 9, "mix": 6, "confirm": 56}, {"fit": 9, "pool": 3, "confirm": 4}),
        ("singh2024_hybrid50", {"fit": 1, "mix": 4, "confirm": 32}, {"fit": 1, "pool": 1, "confirm": 2}),
        ("jiao2025_dcgan_isic2019", {"fit": 3, "mix": 28, "confirm": 64}, {"fit": 3, "pool": 1, "confirm": 10}),
    ],
)
@pytest.mark.usefixtures("registered")
def test_a_paper_sweep_as_it_stands_can_be_planned_in_both_modes(
    tmp_path: Path, name: str, rigorous: dict[str, int], as_published: dict[str, int]
) -> None:
    places = [f"data.root={RUNS[name][0](tmp_path / 'data')}", f"store={tmp_path / 'store'}"]
    if name == "singh2024_hybrid50":
        places.append(f"generators.derm_t2im.config.root={tmp_path / 'derm_t2im'}")
    plans = [
        Sweep.from_yaml(SWEEPS / f"{name}.yaml", [*places, f"mode={mode}"]).estimate().trials
        for mode in ("rigorous", "as_published")
    ]
    assert {phase: plans[0][phase] for phase in rigorous} == rigorous
    assert plans[1] == as_published
