"""How real runs end when a cap is reached, somebody interrupts them, or trials fail."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.runner import MINI, Runner

pytestmark = pytest.mark.timeout(600)

DIVERGING = """\
name: diverging
data: {adapter: phantom, resolution: 32, size_px: 32, num_images: 300}
split: {val_share: 0.3, test_share: 0.3}
generators: {gaussian: }
gates: {}
fit: {quality: {num_images: 40, space: {use: efficientnet_lite0, config: {resolution: 32}}}}
mix:
  ratios: [0.25]
  classifier: {use: resnet, config: {model: test_resnet, learning_rate: 1e30, max_train_steps: 6}}
  repeats: 1
confirm: {classifier: majority, repeats: 6}
verdict: {accept_underpowered: true}
tracking: {enabled: false}
"""


def test_a_cap_ends_with_4_and_what_is_finished_is_valid(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    said = runner.run("budget.trials=4", code=4)
    assert "budget.trials = 4 reached" in said["message"]
    (run,) = [json.loads(p.read_text()) for p in runner.store.glob("sweep/*/run.json")]
    assert run["trials"] == 4
    assert run["budget_reached"] is True
    (report,) = runner.store.glob("sweep/*/report.html")
    assert "budget reached" in report.read_text()
    assert len(list(runner.store.glob("trial/*/record.json"))) == 4
    assert not list(runner.store.glob("sweep/*/verdict.json"))


def test_ctrl_c_ends_with_130_and_keeps_what_is_done(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    process = runner.start()
    deadline = time.monotonic() + 200
    while not list(runner.store.glob("fit/*/record.json")):
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command to go on" in json.loads(out)["message"]
    (beat,) = [json.loads(p.read_text()) for p in runner.store.glob("sweep/*/heartbeat.json")]
    assert beat == {"released": True}


def test_failed_trials_end_with_5_and_are_named(tmp_path: Path) -> None:
    said = Runner(tmp_path).run(text=DIVERGING, code=5)
    assert "trials failed" in said["message"]
    assert "diverged" in said["message"]


def test_a_second_driver_is_refused_while_one_leads(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    process = runner.start()
    deadline = time.monotonic() + 200
    while not list(runner.store.glob("sweep/*/heartbeat.json")):
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    said = runner.run(code=1, text=MINI)
    assert said["error"] == "SweepLocked"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
