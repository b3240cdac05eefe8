"""Checkpoints of a fit: what a kill may cost, and what a fit that goes on still knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medsynth_ray.engine.runtime import Checkpoints
from medsynth_ray.engine.store import Store


def state(step: int) -> Any:
    return lambda folder: (folder / "state.txt").write_text(str(step))


def look(folder: Path, step: int) -> dict[str, Any]:
    (folder / f"{step}.npy").write_text(f"images at {step}")
    return {"images_seen": 10.0 * step}


def checkpoints(tmp_path: Path, name: str, every_s: float, before: str = "") -> Checkpoints:
    def fetch(folder: Path) -> bool:
        if before:
            (folder / "state.txt").write_text(before)
        return bool(before)

    return Checkpoints(
        Store(str(tmp_path / "store")), "fit-key", tmp_path / name, fetch, look,
        before_step=int(before or -1), every_s=every_s,
    )  # fmt: skip


def test_a_killed_fit_goes_on_from_the_newest_committed_checkpoint(tmp_path: Path) -> None:
    killed = checkpoints(tmp_path, "killed", 0.0)
    assert killed.latest() is None
    for step in (1, 2, 3):
        killed.save(state(step), step, [(step, {"loss": 1.0 / step})], stopping=False)
    resumed = checkpoints(tmp_path, "resumed", 0.0)
    folder = resumed.latest()
    assert folder is not None
    assert (folder / "state.txt").read_text() == "3"
    assert resumed.curve == [(3, {"loss": 1.0 / 3})]
    assert resumed.seen == [{"step": s, "images_seen": 10.0 * s} for s in (1, 2, 3)]
    assert sorted(p.name for p in resumed.seen_folder.iterdir()) == ["1.npy", "2.npy", "3.npy"]


def test_commits_are_rare_unless_the_fit_is_asked_to_stop(tmp_path: Path) -> None:
    fit = checkpoints(tmp_path, "fit", 1e9)
    fit.save(state(1), 1, [], stopping=False)
    assert checkpoints(tmp_path, "other", 1e9).latest() is None
    fit.save(state(2), 2, [], stopping=True)
    resumed = checkpoints(tmp_path, "resumed", 1e9)
    folder = resumed.latest()
    assert folder is not None
    assert (folder / "state.txt").read_text() == "2"
    assert [row["step"] for row in resumed.seen] == [1], "a checkpoint made to stop is none of the method's"


def test_a_step_is_kept_once_and_only_the_newest_state_stays_on_disk(tmp_path: Path) -> None:
    fit = checkpoints(tmp_path, "fit", 1e9)
    for step in (1, 1, 2):
        fit.save(state(step), step, [], stopping=False)
    assert [row["step"] for row in fit.seen] == [1, 2]
    assert [p.name for p in (tmp_path / "fit").glob("checkpoint-*")] == ["checkpoint-2"]
    assert fit.state is not None
    assert (fit.state / "state.txt").read_text() == "2"


@pytest.mark.parametrize("before", ["", "5"])
def test_a_rung_begins_where_the_one_before_ended(tmp_path: Path, before: str) -> None:
    folder = checkpoints(tmp_path, "fit", 0.0, before).latest()
    assert (folder and (folder / "state.txt").read_text()) == (before or None)


def test_a_rung_that_adds_no_step_is_not_looked_at_again(tmp_path: Path) -> None:
    fit = checkpoints(tmp_path, "fit", 1e9, "5")
    for step in (5, 6):
        fit.save(state(step), step, [], stopping=False)
    assert [row["step"] for row in fit.seen] == [6]


def test_a_fit_that_is_asked_to_stop_right_after_a_checkpoint_commits_that(tmp_path: Path) -> None:
    fit = checkpoints(tmp_path, "fit", 1e9)
    fit.save(state(5), 5, [], stopping=False)
    fit.save(state(5), 5, [], stopping=True)
    folder = checkpoints(tmp_path, "resumed", 1e9).latest()
    assert folder is not None
    assert (folder / "state.txt").read_text() == "5"
