"""A design that its pilot shows to be hopeless ends a real run: the plan's own exception comes out of Ray Tune."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsynth_ray.driver import Sweep
from tests.runner import Runner

pytestmark = pytest.mark.timeout(600)

NOISY = """\
name: noisy
data: {adapter: phantom, resolution: 32, size_px: 32, num_images: 300}
split: {val_share: 0.3, test_share: 0.3}
generators: {gaussian: }
gates: {}
fit: {quality: {num_images: 40, space: {use: efficientnet_lite0, config: {resolution: 32}}}}
mix: {ratios: [0.25], classifier: majority, repeats: 1}
confirm:
  classifier: {use: resnet, config: {model: test_resnet, max_train_steps: 2}}
  repeats: 6
verdict: {repeat_sd: 0.0, pilot_repeats: 3, effect: EFFECT}
runtime: {workers: 1}
tracking: {enabled: false}
"""


def test_it_ends_with_2_after_the_pilot_and_before_any_fit(tmp_path: Path) -> None:
    runner, path = Runner(tmp_path), tmp_path / "first.yaml"
    path.write_text(NOISY.replace("EFFECT", "0.5"))
    effect = Sweep.from_yaml(path, [f"store={runner.store}"]).power().detectable * 1.0001
    text = NOISY.replace("EFFECT", str(effect))
    said = runner.run(text=text, code=2)
    assert said["error"] == "Underpowered"
    assert "in a pilot of 3" in said["message"]
    assert "--accept-underpowered" in said["message"]
    assert len(list(runner.store.glob("score/*/record.json"))) == 3
    assert not list(runner.store.glob("fit/*"))
