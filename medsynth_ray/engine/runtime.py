"""What a component gets from the engine in one unit, and the checkpoints of a fit. Imports no ray."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsynth_ray import registry
from medsynth_ray.engine.store import Record, Store, Unit
from medsynth_ray.engine.weights import located
from medsynth_ray.errors import ConfigError
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import (
    Baseline,
    CircuitRunner,
    Circuits,
    Classifier,
    Features,
    Fitted,
    Generator,
    Need,
    Spec,
    Weights,
)

if TYPE_CHECKING:
    from medsynth_ray.engine.bench import Bench

Curve = list[tuple[int, dict[str, float]]]
"""Reported numbers by training step."""


class UnitRuntime:
    """The Runtime of one component in one unit: what it did not declare in `needs()` is refused.

    stoppable: False never asks the component to stop.
    """

    def __init__(
        self,
        bench: Bench,
        needs: Sequence[Need],
        scratch: Path,
        *,
        fit_share: float = 1.0,
        checkpoints: Checkpoints | None = None,
        fitted: Callable[[Spec | None], tuple[Generator, ...]] | None = None,
        stoppable: bool = True,
    ) -> None:
        self.device, self.num_threads = _device(), bench.threads
        self.fit_share, self.scratch = fit_share, scratch
        self.curve: Curve = []
        self._bench, self._needs, self._checkpoints = bench, tuple(needs), checkpoints
        self._fitted, self._stoppable, self._stopping = fitted, stoppable, False

    def _declared(self, need: Need) -> None:
        if need not in self._needs:
            raise ConfigError(f"a component asked for {need}, which its needs() do not declare: {list(self._needs)}")

    @property
    def accelerator(self) -> Any:
        """A plain Accelerator for one process."""
        from accelerate import Accelerator

        return Accelerator(cpu=self.device == "cpu")

    def report(self, metrics: Mapping[str, float], *, step: int, images: ImageSet | None = None) -> None:
        """Keep the numbers for the unit's record."""
        self.curve.append((step, {k: float(v) for k, v in metrics.items()}))

    def progress(self, done: int, total: int, what: str) -> None:
        """Progress inside a unit is not shown: the sweep's bar counts units."""

    def checkpoint(self, save: Callable[[Path], None], *, step: int) -> None:
        """Keep a checkpoint of this fit, and look at what it draws by now (not at one that is made to stop)."""
        if self._checkpoints is not None:
            self._checkpoints.save(save, step, self.curve, stopping=self._stopping)

    def latest(self) -> Path | None:
        """Folder of the newest checkpoint."""
        if self._checkpoints is None:
            return None
        folder = self._checkpoints.latest()
        self.curve[:] = self._checkpoints.curve
        return folder

    def stopped(self) -> bool:
        """Whether to checkpoint and raise Stopped."""
        self._stopping = self._stoppable and self._bench.stopped()
        return self._stopping

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        """Features, cached by content."""
        self._declared(Features(space))
        return self._bench.features(images, space)

    def baseline(self) -> Classifier:
        """The real-only classifier."""
        self._declared(Baseline())
        return self._bench.baseline()

    def fitted(self, generator: Spec | None = None) -> tuple[Generator, ...]:
        """The fitted generators, one for each part."""
        self._declared(Fitted(generator))
        assert self._fitted is not None, "this role has no fitted generator"
        return self._fitted(generator)

    def weights(self, name: str) -> Path:
        """Local path of declared weights; from the store where this node lacks the file."""
        self._declared(Weights(name))
        return located(self._bench.store, name, self._bench.weights.get(name))

    def circuits(self) -> CircuitRunner:
        """The declared circuit runner.

        Raises:
            ConfigError: the component declares none, or more than one.
        """
        runners = [need.runner for need in self._needs if isinstance(need, Circuits)]
        if len(runners) != 1:
            raise ConfigError(f"needs() must declare one circuit runner, it declares {len(runners)}")
        runner: CircuitRunner = registry.configure("quantum", runners[0]).build()
        return runner


class Checkpoints:
    """The checkpoints of one fit: the newest is kept here, and now and then committed to the store.

    Committed ones are numbered units of their own, so that a killed fit goes on from the newest. Each holds the state
    of the generator (`state/`) and what was seen so far: `curve`, and the files that `look` wrote (`seen/`).

    before: fetches the state of the rung before into a folder; False at the beginning. before_step: the last step that
    was looked at there.
    look: draws what the generator can draw by now into a folder, and says what it wrote (JSON).
    every_s: seconds between two commits; a fit that is asked to stop commits at once.
    """

    def __init__(
        self,
        store: Store,
        fit_key: str,
        scratch: Path,
        before: Callable[[Path], bool],
        look: Callable[[Path, int], dict[str, Any]],
        *,
        before_step: int,
        every_s: float,
    ) -> None:
        self._before_step = before_step
        self._store, self._fit_key, self._scratch = store, fit_key, scratch
        self._before, self._look, self._every_s = before, look, every_s
        self._count, self._step = 0, -1
        self._committed_step, self._committed_at = -1, time.monotonic()
        self.curve: Curve = []
        self.seen: list[dict[str, Any]] = []
        self._newest: Path | None = None
        scratch.mkdir(parents=True, exist_ok=True)

    @property
    def state(self) -> Path | None:
        """Folder of the newest state; None if there was none."""
        return None if self._newest is None else self._newest / "state"

    @property
    def seen_folder(self) -> Path:
        """Where the files of `look` are."""
        folder = self._scratch / "seen"
        folder.mkdir(exist_ok=True)
        return folder

    def save(self, save: Callable[[Path], None], step: int, curve: Curve, *, stopping: bool) -> None:
        """Keep what `save(folder)` writes, unless the newest checkpoint is of this step already."""
        if step != self._step:
            self._keep(save, step, stopping=stopping)
        due = stopping or time.monotonic() - self._committed_at >= self._every_s
        if due and self._committed_step != step:
            self._commit(curve)

    def _keep(self, save: Callable[[Path], None], step: int, *, stopping: bool) -> None:
        if not stopping and step > self._before_step:
            self.seen.append({"step": step, **self._look(self.seen_folder, step)})
        folder = self._scratch / f"checkpoint-{step}"
        (folder / "state").mkdir(parents=True)
        save(folder / "state")
        if self._newest is not None:
            shutil.rmtree(self._newest)
        self._newest, self._step = folder, step

    def _commit(self, curve: Curve) -> None:
        folder = self._newest
        assert folder is not None, "nothing was kept"
        shutil.copytree(self.seen_folder, folder / "seen")
        result = {"step": self._step, "curve": curve, "seen": self.seen}
        self._store.commit(self._unit(self._count), folder, result, {"started": time.time()})
        shutil.rmtree(folder / "seen")
        self._count, self._committed_step, self._committed_at = self._count + 1, self._step, time.monotonic()

    def latest(self) -> Path | None:
        """State of the newest checkpoint of this fit; else that of the rung before; else None."""
        newest = None
        while (record := self._store.record(self._unit(self._count))) is not None:
            newest, self._count = record, self._count + 1
        if newest is None:
            folder = self._scratch / "before"
            folder.mkdir(exist_ok=True)
            return folder if self._before(folder) else None
        return self._restore(newest)

    def _restore(self, record: Record) -> Path:
        folder = self._scratch / f"checkpoint-{record['result']['step']}"
        folder.mkdir()
        self._store.fetch(record, folder)
        if (folder / "seen").exists():
            shutil.rmtree(self.seen_folder)
            (folder / "seen").rename(self.seen_folder)
        self._newest, self._step = folder, record["result"]["step"]
        self._committed_step = self._step
        self.curve = [(step, numbers) for step, numbers in record["result"]["curve"]]
        self.seen = list(record["result"]["seen"])
        return folder / "state"

    def _unit(self, number: int) -> Unit:
        return Unit("checkpoint", {"fit": self._fit_key, "number": number})


@lru_cache(maxsize=1)
def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
