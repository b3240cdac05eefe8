"""The real-only classifier in the hands of gates and spaces, whatever it needs itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.inline import TINY_SPACE, config, run

PROBE = {"use": "probe", "config": {"space": TINY_SPACE, "max_train_steps": 20}}


@pytest.mark.parametrize(
    "sections",
    [{"gates": {"label_fidelity": {"config": {"min_agreement_ratio": 0.01}}}}, {"fit": {"spaces": ["baseline"]}}],
    ids=["label_fidelity", "baseline"],
)
def test_a_baseline_with_needs_of_its_own_is_asked(tmp_path: Path, sections: dict[str, Any]) -> None:
    fit = {"quality": {"num_images": 40, "space": TINY_SPACE}, "shard_images": 16, **sections.pop("fit", {})}
    mix = {"ratios": [0.25], "classifier": PROBE, "repeats": 1}
    result = run(config(tmp_path, fit=fit, mix=mix, **sections))
    (row,) = [row for row in result.generators() if row["role"] == "candidate"]
    names = {m["name"] for m in row["measured"]} | set(row["gates"].get("label_fidelity", {}).get("numbers", ()))
    assert {"kid_baseline", "agreement"} & names
    assert result.verdict is not None
