"""clean-fid's own wrapper is the oracle, on a small TorchScript of the same layout as NVIDIA's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.resize import build_resizer
from pydantic import ValidationError
from torch import nn

from medsynth_ray.errors import ConfigError, WeightsMissing
from medsynth_ray.spaces.inception_v3 import InceptionV3
from medsynth_ray.testing import LocalRuntime, toy_images

IMAGES = toy_images((2, 1), size_px=64)
FILE = "inception-2015-12-05.pt"


class Script(nn.Module):
    """What the file holds, in outline: `layers` from scaled pixels to 2048 features."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 7, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 2048)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / FILE
    with torch.random.fork_rng():
        torch.manual_seed(3)
        torch.jit.script(Script()).save(str(path))
    return path


def config(path: Path, **settings: Any) -> InceptionV3.Config:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return InceptionV3.Config(**{"weights": str(path), "sha256": sha256, "batch_size": 2, **settings})


def test_features_are_clean_fids(script: Path) -> None:
    found = config(script).build().embed(IMAGES, runtime=LocalRuntime())
    resize = build_resizer("clean")
    x_NCHW = torch.from_numpy(np.stack([resize(image) for image in IMAGES.pixels])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = InceptionV3W(str(script.parent), download=False)(x_NCHW).numpy()
    assert expected.std(axis=0).mean() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_unexpected_file_is_not_loaded(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []
    monkeypatch.setattr(torch.jit, "load", lambda *args, **kwargs: loaded.append(args))
    with pytest.raises(ConfigError, match=f"{FILE}': sha256 is .* expected f58cb9b6"):
        InceptionV3.Config(weights=str(script)).build().embed(IMAGES, runtime=LocalRuntime())
    assert loaded == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=FILE):
        InceptionV3.Config(weights=str(tmp_path / FILE)).build().embed(IMAGES, runtime=LocalRuntime())


def test_weights_or_random_must_be_said() -> None:
    with pytest.raises(ValidationError, match="random_init: true"):
        InceptionV3.Config()


@pytest.mark.parametrize(
    ("settings", "label"), [({"weights": "w.pt"}, "inception_v3"), ({"random_init": True}, "inception_v3_random")]
)
def test_label_says_whether_it_is_random(settings: dict[str, Any], label: str) -> None:
    assert InceptionV3.Config(**settings).label == label


def test_random_features_do_not_collapse() -> None:
    features = InceptionV3.Config.tiny().build().embed(IMAGES, runtime=LocalRuntime())
    assert features.shape == (3, 2048)
    assert 1e-3 < features.std(axis=0).mean() < 10.0
