"""Two folders compared: clean-fid as oracle, the cache, classes, what is left out, and the verb."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from cleanfid import fid
from cleanfid.inception_torchscript import InceptionV3W
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from medsynth_ray.errors import AuditError, ConfigError
from medsynth_ray.evaluate import Evaluation, default_cache, evaluate
from medsynth_ray.evaluate_page import page
from medsynth_ray.evaluate_verb import register
from medsynth_ray.protocols import Spec
from medsynth_ray.spaces._embed import NetworkSpace

SPACE = Spec(use="efficientnet_lite0", config={"resolution": 32})
KID = Spec(use="kid", config={"num_permutations": 99})
WORDS = ("--space", "{use: efficientnet_lite0, config: {resolution: 32}}")


class Script(nn.Module):
    """The layout of `inception-2015-12-05.pt`, small: `layers` from scaled pixels to 2048 features."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 7, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 2048)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def write_images(
    root: Path, num: int, *, seed: int, brightness: float = 100.0, classes: tuple[str, ...] = ("",), px: int = 48
) -> Path:
    """Smooth blobs with noise as PNG, `num` for each class, of sizes that differ."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(num):
            coarse = rng.uniform(-60, 60, (4, 4, 3)) + brightness
            size = (px + int(rng.integers(0, 9)), px + int(rng.integers(0, 9)))
            blob = np.asarray(Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8)).resize(size))
            pixels = np.clip(blob + rng.normal(0, 6, blob.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:03d}.png")
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    """44 real images, 22 synthetic ones that are brighter, of two classes; and their cache, filled."""
    root = tmp_path_factory.mktemp("folders")
    real = write_images(root / "real", 44, seed=1, classes=("ill", "well"))
    synthetic = write_images(root / "synthetic", 22, seed=2, brightness=200.0, classes=("ill", "well"))
    evaluate(str(real), str(synthetic), spaces=[SPACE], metrics=[KID], cache=root / "cache")
    return str(real), str(synthetic), root / "cache"


def evaluated(folders: tuple[str, str, Path], **options: Any) -> Evaluation:
    real, synthetic, cache = folders
    return evaluate(real, synthetic, **{"spaces": [SPACE], "metrics": [KID], "cache": cache, **options})


def inception(folder: Path) -> Spec:
    path = folder / "inception-2015-12-05.pt"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        torch.jit.script(Script()).save(str(path))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Spec(use="inception_v3", config={"weights": str(path), "sha256": sha256})


# --- against clean-fid -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_features_of_a_folder_are_clean_fids(tmp_path: Path) -> None:
    real = write_images(tmp_path / "real", 40, seed=1)
    space = inception(tmp_path)
    evaluate(str(real), str(real), spaces=[space], metrics=[KID], cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache").rglob("*.npy")
    model = InceptionV3W(str(tmp_path), download=False)
    expected = fid.get_folder_features(
        str(real), model, num_workers=0, batch_size=8, device=torch.device("cpu"), verbose=False
    )
    assert expected.std(axis=0).mean() > 1e-3
    np.testing.assert_allclose(np.load(file), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)  # clean-fid's square root of a 2048 x 2048 matrix
@pytest.mark.filterwarnings("ignore")
def test_the_frechet_distance_is_clean_fids(tmp_path: Path) -> None:
    real = write_images(tmp_path / "real", 40, seed=1)
    synthetic = write_images(tmp_path / "synthetic", 40, seed=2, brightness=150.0)
    metric = Spec(use="frechet", config={"num_images": 40})
    found = evaluate(
        str(real), str(synthetic), spaces=[inception(tmp_path)], metrics=[metric], cache=tmp_path / "cache"
    )
    expected = fid.compute_fid(
        str(real), str(synthetic), custom_feat_extractor=InceptionV3W(str(tmp_path), download=False), num_workers=0,
        batch_size=8, device=torch.device("cpu"), verbose=False,
    )  # fmt: skip
    assert found.rows[0].value == pytest.approx(expected, rel=1e-4)


# --- the cache -------------------------------------------------------------------------------------------------------


def test_a_second_call_reads_the_cache(folders: tuple[str, str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = evaluated(folders)
    monkeypatch.setattr(NetworkSpace, "embed_each", lambda *args, **options: pytest.fail("embedded again"))
    again = evaluated(folders)
    assert (again.num_cached, again.num_chunks) == (2, 2)
    assert again.rows == fresh.rows


def test_without_a_cache_the_numbers_are_the_same(folders: tuple[str, str, Path], tmp_path: Path) -> None:
    fresh = evaluated(folders, cache=tmp_path)
    assert (fresh.num_cached, fresh.num_chunks) == (0, 2)
    assert fresh.rows == evaluated(folders).rows


@pytest.mark.parametrize(
    "options", [{"resolution": 16}, {"spaces": [Spec(use="efficientnet_lite0", config={"resolution": 64})]}]
)
def test_other_pixels_or_another_space_are_embedded_anew(
    folders: tuple[str, str, Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    evaluated(folders, cache=tmp_path)
    assert evaluated(folders, cache=tmp_path, **options).num_cached == 0


def test_a_changed_image_is_embedded_anew(tmp_path: Path) -> None:
    real = write_images(tmp_path / "real", 40, seed=1)
    synthetic = write_images(tmp_path / "synthetic", 20, seed=2)
    settings = {"spaces": [SPACE], "metrics": [KID], "cache": tmp_path / "cache"}
    before = evaluate(str(real), str(synthetic), **settings)
    Image.new("RGB", (48, 48)).save(synthetic / "003.png")
    after = evaluate(str(real), str(synthetic), **settings)
    assert (after.num_cached, after.num_chunks) == (1, 2)
    assert after.rows[0].value != before.rows[0].value


@pytest.mark.parametrize("damage", [b"", b"no array", b"\x80\x04."])
def test_a_damaged_file_of_the_cache_is_written_anew(
    folders: tuple[str, str, Path], tmp_path: Path, damage: bytes
) -> None:
    fresh = evaluated(folders, cache=tmp_path)
    files = sorted(tmp_path.rglob("*"))
    assert {path.suffix for path in files if path.is_file()} == {".npy"}
    for path in files:
        if path.is_file():
            path.write_bytes(damage)
    again = evaluated(folders, cache=tmp_path)
    assert again.num_cached == 0
    assert again.rows == fresh.rows
    assert evaluated(folders, cache=tmp_path).num_cached == 2


def test_a_cache_that_is_a_file_is_refused(folders: tuple[str, str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file' cannot be written .*--cache"):
        evaluated(folders, cache=tmp_path / "file")


def test_the_cache_lies_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "medsynth" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "medsynth" / "features"


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_what_differs_is_told_from_what_does_not(folders: tuple[str, str, Path], tmp_path: Path) -> None:
    shifted = evaluated(folders).rows[0]
    same = evaluated((folders[0], str(write_images(tmp_path / "more", 44, seed=5)), folders[2])).rows[0]
    assert (shifted.name, shifted.num_real, shifted.num_synthetic) == ("kid_efficientnet_lite0", 88, 44)
    assert shifted.p is not None
    assert shifted.p <= 0.05 < same.p
    assert shifted.value > shifted.floor_extreme
    assert "times the highest value of real against real" in shifted.said
    assert same.value <= same.floor_extreme
    assert same.said.startswith("not worse than the highest value of real against real")


def test_a_copied_folder_is_found_out(folders: tuple[str, str, Path]) -> None:
    found = evaluated((folders[0], folders[0], folders[2]))
    assert found.rows[0].value <= 0
    assert "88 synthetic image(s) are exact copies of a real one" in found.notes
    assert "not worse than" in found.rows[0].said


def test_classes_are_compared_one_by_one(folders: tuple[str, str, Path]) -> None:
    found = evaluated(folders, metrics=[KID, Spec(use="prdc")])
    assert [(row.metric, row.label, row.num_real) for row in found.rows] == [
        ("kid", None, 88), ("prdc", None, 88), ("kid", "ill", 44), ("prdc", "ill", 44), ("kid", "well", 44),
        ("prdc", "well", 44),
    ]  # fmt: skip
    assert found.real.counts == {"ill": 44, "well": 44}
    assert all(row.label is None for row in evaluated(folders, per_class=False).rows)


@pytest.mark.parametrize(
    ("classes", "shown"), [(("ill",), "(ill, well against ill)"), (("",), "(ill, well against (none))")]
)
def test_classes_that_differ_are_said(
    folders: tuple[str, str, Path], tmp_path: Path, classes: tuple[str, ...], shown: str
) -> None:
    synthetic = write_images(tmp_path / "synthetic", 24, seed=2, classes=classes)
    found = evaluated((folders[0], str(synthetic), folders[2]))
    assert [row.label for row in found.rows] == [None]
    assert found.notes == (f"the folders' classes differ {shown}: compared over all images only",)


def test_a_class_that_is_too_small_says_so_and_the_others_stay(tmp_path: Path) -> None:
    real, synthetic = (write_images(tmp_path / name, 24, seed=i, classes=("a",)) for i, name in enumerate("rs"))
    for root in (real, synthetic):
        write_images(root, 5, seed=9, classes=("b",))
    found = evaluate(str(real), str(synthetic), spaces=[SPACE], metrics=[KID], cache=tmp_path / "cache")
    small = next(row for row in found.rows if row.label == "b")
    assert (small.value, small.num_real) == (None, 5)
    assert small.reason == "reference holds 5 images, this metric needs at least 20"
    assert found.rows[0].value is not None


# --- what cannot be used ---------------------------------------------------------------------------------------------


def test_unreadable_files_are_named_and_left_out(tmp_path: Path) -> None:
    real, synthetic = (write_images(tmp_path / name, 22, seed=i) for i, name in enumerate("rs"))
    (synthetic / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (synthetic / "page.jpg").write_bytes(b"<html>not found</html>")
    found = evaluate(str(real), str(synthetic), spaces=[SPACE], metrics=[KID], cache=tmp_path / "cache")
    assert sorted(found.synthetic.left_out) == ["broken.png", "page.jpg"]
    assert found.synthetic.num_images == 22
    assert found.notes[-1].startswith("2 synthetic file(s) left out: broken.png (")


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    real, synthetic = write_images(tmp_path / "r", 22, seed=1), write_images(tmp_path / "s", 19, seed=2)
    with pytest.raises(AuditError, match="kid: synthetic holds 19 images, this metric needs at least 20"):
        evaluate(str(real), str(synthetic), spaces=[SPACE], metrics=[KID], cache=tmp_path / "cache")


def deep(root: Path, num: int) -> Path:
    root.mkdir()
    for i in range(num):
        rng = np.random.default_rng(i)
        Image.fromarray((rng.uniform(0, 4095, (32, 32))).astype(np.uint16)).save(root / f"{i}.png")
    return root


def test_deep_images_need_a_window(tmp_path: Path) -> None:
    real = deep(tmp_path / "r", 20)
    settings = {"spaces": [SPACE], "metrics": [KID], "cache": tmp_path / "cache"}
    with pytest.raises(AuditError, match=r"0\.png: 16 bits a channel, values .* 8 bits are allowed.*--window"):
        evaluate(str(real), str(real), **settings)
    found = evaluate(str(real), str(real), window=(0.0, 4095.0), **settings)
    assert found.real.num_images == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spaces": [Spec(use="baseline")]}, "'baseline' needs a sweep's classifier"),
        ({"spaces": [SPACE, SPACE]}, "must differ in name"),
        ({"spaces": [Spec(use="inceptoin_v3")]}, "did you mean 'inception_v3'"),
        ({"metrics": [Spec(use="kid", config={"min_image": 3})]}, "did you mean 'min_images'"),
        ({"window": (5.0, 5.0)}, "low must be below high"),
        ({"resolution": 4}, r"resolution must be in \[8, 2048\] px, got 4"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    folders: tuple[str, str, Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluated(folders, **options)


# --- the verb --------------------------------------------------------------------------------------------------------


def call(*words: str | Path) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def test_the_verb_prints_one_json_object_and_a_table(folders: tuple[str, str, Path], tmp_path: Path) -> None:
    html = tmp_path / "page.html"
    done = call(*folders[:2], *WORDS, "--cache", folders[2], "--html", html, "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert [row["metric"] for row in said["rows"] if row["label"] is None] == ["kid", "frechet", "prdc"]
    assert said["real"]["num_images"] == 88
    assert said["html"] == str(html)
    text = " ".join(done.stderr.split())
    assert "kid_efficientnet_lite0:" in text
    assert "times the highest value of real against real" in text
    assert "frechet_efficientnet_lite0_n44" in html.read_text()


@pytest.mark.parametrize(("page", "says"), [("taken.html", "is there already"), ("no/page.html", "there is no folder")])
def test_where_the_page_goes_is_looked_at_before_the_work(tmp_path: Path, page: str, says: str) -> None:
    (tmp_path / "taken.html").write_text("kept")
    done = call(tmp_path / "no_real", tmp_path / "no_synthetic", "--html", tmp_path / page)
    assert done.exit_code == 2
    assert says in done.stderr
    assert (tmp_path / "taken.html").read_text() == "kept"


def test_the_verbs_help_has_an_example() -> None:
    text = " ".join(call("--help").stdout.split())
    assert "Example: medsynth evaluate" in text
    assert "--json" in text


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--space", "{use: efficientnet_lite0, config: {resolutoin: 32}}"), 2, "did you mean 'resolution'"),
        (("--space", "{use: a, use: b}"), 2, "duplicate key"),
        (("--space", "[a]"), 2, "--space"),
        (("--window", "5"), 2, "--window: LOW,HIGH or full is allowed, got '5'"),
        (("--metric", "fid"), 2, "no metrics component 'fid'"),
    ],
)
def test_wrong_words_are_explained(
    folders: tuple[str, str, Path], words: tuple[str, str], code: int, message: str
) -> None:
    done = call(*folders[:2], "--cache", folders[2], *words, "--json")
    assert done.exit_code == code
    assert message in json.loads(done.stdout)["message"]


def test_a_missing_folder_is_an_audit_error(tmp_path: Path) -> None:
    done = call(tmp_path / "none", tmp_path, "--json")
    assert done.exit_code == 3
    assert "no such folder" in json.loads(done.stdout)["message"]


@pytest.mark.parametrize("window", ["0,4095", "[0, 4095]", "full"])
def test_a_window_is_read(tmp_path: Path, window: str) -> None:
    real = deep(tmp_path / "r", 20)
    done = call(real, real, *WORDS, "--metric", "kid", "--window", window, "--cache", tmp_path / "cache", "--json")
    assert done.exit_code == 0, done.stderr


def test_names_of_files_cannot_write_into_the_page(tmp_path: Path) -> None:
    real, synthetic = (write_images(tmp_path / name, 22, seed=i) for i, name in enumerate("rs"))
    (synthetic / "<script>.png").write_bytes(b"")
    found = evaluate(str(real), str(synthetic), spaces=[SPACE], metrics=[KID], cache=tmp_path / "cache")
    text = page(found)
    assert "<script>" not in text
    assert "&lt;script&gt;.png" in text
