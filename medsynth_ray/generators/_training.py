"""The training loop of the small generators, and the state from which it goes on exactly.

What step s sees - its images, mirrorings and noise - is a function of (seed, s) alone. So a fit may end after any step,
and what is kept is the step, the networks and the optimisers; there is no position of a random stream to keep.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from medsynth_ray.errors import Diverged, Stopped
from medsynth_ray.images import ImageSet, to_unit_range
from medsynth_ray.protocols import Runtime
from medsynth_ray.seeds import derive

NUM_CHECKPOINTS = 9
_NUM_REPORTS = 64


class Trainee(Protocol):
    """Networks that learn step by step. modules, optimisers: by name, all that a step changes."""

    modules: Mapping[str, nn.Module]
    optimisers: Mapping[str, torch.optim.Optimizer]

    def step(
        self, x_NCHW: torch.Tensor, labels: torch.Tensor, *, step: int, noise: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Learn from one batch, float32 in [-1, 1]; the losses, one of them named `loss`. step: 0 is the first.

        noise: for every random draw of the step; it lives on the CPU.
        """


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside, for the initial weights; what was there before comes back."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


class BatchOrder:
    """Which images each step sees: epoch after epoch, each in an order of its own, without a short last batch."""

    def __init__(self, num_images: int, batch_size: int, seed: int) -> None:
        self._num_images, self._batch_size, self._seed = num_images, batch_size, seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def rows(self, step: int) -> np.ndarray:
        """int64 (batch_size,) of step `step`, 0 the first."""
        places = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, within = np.divmod(places, self._num_images)
        return np.concatenate([self._of_epoch(int(e))[within[epochs == e]] for e in np.unique(epochs)])

    def _of_epoch(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng(derive(self._seed, "order", epoch)).permutation(self._num_images)
        return self._order


def checkpoint_steps(num_steps: int) -> set[int]:
    """Nine evenly spaced steps, the last one and the rungs 1/9 and 1/3 among them (fewer where steps are fewer)."""
    return {_steps_of_share(n / NUM_CHECKPOINTS, num_steps) for n in range(1, NUM_CHECKPOINTS + 1)}


def train(
    trainee: Trainee, shown: ImageSet, *, name: str, batch_size: int, num_steps: int, seed: int, runtime: Runtime
) -> None:
    """Go on from `runtime.latest()` to `runtime.fit_share` of `num_steps` steps.

    Raises:
        Stopped: the runtime asked for it; the state was kept.
        Diverged: a loss is NaN or infinite.
    """
    step = _resumed(trainee, runtime.latest())
    target = _steps_of_share(runtime.fit_share, num_steps)
    marks, every = checkpoint_steps(num_steps), math.ceil(num_steps / _NUM_REPORTS)
    order = BatchOrder(len(shown), batch_size, seed)

    def save(folder: Path) -> None:
        save_file(_state(trainee, step), folder / "state.safetensors")

    while step < target:
        if runtime.stopped():
            runtime.checkpoint(save, step=step)
            raise Stopped(f"{name} stopped after {step} of {target} steps")
        losses = _learn(trainee, shown, order.rows(step), step, seed, runtime.device)
        step += 1
        _check_finite(losses, name, step)
        if step % every == 0 or step in marks:
            runtime.report({**losses, "images_seen": float(step * batch_size)}, step=step)
        runtime.progress(step, target, "training steps")
        if step in marks and step < target:
            runtime.checkpoint(save, step=step)
    runtime.checkpoint(save, step=step)


def _steps_of_share(share: float, num_steps: int) -> int:
    return math.ceil(share * num_steps - 1e-9)


def _learn(trainee: Trainee, shown: ImageSet, rows: np.ndarray, step: int, seed: int, device: str) -> dict[str, float]:
    noise = torch.Generator().manual_seed(derive(seed, "noise", step))
    x_NCHW = torch.from_numpy(to_unit_range(shown.pixels[rows])).to(device)
    labels = torch.from_numpy(shown.labels[rows]).to(device)
    return {key: float(loss) for key, loss in trainee.step(x_NCHW, labels, step=step, noise=noise).items()}


def _check_finite(losses: Mapping[str, float], name: str, step: int) -> None:
    wrong = {key: value for key, value in losses.items() if not math.isfinite(value)}
    if wrong:
        raise Diverged(f"{name}: {', '.join(f'{key} is {value}' for key, value in wrong.items())} at step {step}")


def _state(trainee: Trainee, step: int) -> dict[str, torch.Tensor]:
    """Everything that an exact continuation needs, by name."""
    tensors = {"step": torch.tensor(step)}
    for name, module in trainee.modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimiser in trainee.optimisers.items():
        for index, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": value for key, value in moments.items()}
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


def _resumed(trainee: Trainee, checkpoint: Path | None) -> int:
    """Put the trainee into the state of a checkpoint, if there is one; the steps that it has done."""
    if checkpoint is None:
        return 0
    tensors = load_file(checkpoint / "state.safetensors")
    for name, module in trainee.modules.items():
        module.load_state_dict(_below(tensors, name))
    for name, optimiser in trainee.optimisers.items():
        _restore(optimiser, _below(tensors, name))
    return int(tensors["step"])


def _below(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


def _restore(optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for index, parameter in enumerate(parameters):
        for key, value in _below(tensors, str(index)).items():
            # Moments are laid out in memory as their parameter is (channels last or not): fused kernels rely on it.
            like = torch.empty_like(parameter) if value.shape == parameter.shape else value
            optimiser.state[parameter][key] = like.detach().copy_(value)
