"""A probe: logistic regression on the frozen features of a feature space. Cheap enough for hundreds of mix trials.

The loss is scikit-learn's, mean weighted cross-entropy + |W|^2 / (2 C n). Its optimum has no seed, so repeats of it
would show no training noise at all; as in a network, the seed sets the initial weights and the order of mini-batches.
No bootstrap: it would drop a third of the images, and with fewer real images synthetic ones look better than they are.
The number of Adam steps is fixed: were it epochs, a larger training set would win by being trained longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field
from torch.nn.functional import linear, one_hot

from medsynth_ray.classifiers._features import NUM_ROUNDS, FeatureClassifier, FeatureConfig, State
from medsynth_ray.classifiers._fitting import ClassWeight, class_weights
from medsynth_ray.errors import MedsynthError, Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import History, Runtime, Spec


class Probe(FeatureClassifier):
    """Standardise, then fit one linear layer."""

    class Config(FeatureConfig):
        """Settings."""

        space: Spec = Spec(use="efficientnet_lite0")
        """The feature space."""
        standardise: bool = True
        """Scale every feature to mean 0 and standard deviation 1 over the training set."""
        C: float = Field(default=0.002, gt=0.0)
        """Inverse strength of the L2 penalty, scikit-learn's C; standardised features want a small one."""
        class_weight: ClassWeight = "balanced"
        """balanced: every class weighs the same in the loss, however many images it has."""
        max_train_steps: int = Field(default=400, ge=1)
        """Optimiser steps, however many images there are."""
        train_batch_size: int = Field(default=128, ge=1)
        """Images of one step."""
        learning_rate: float = Field(default=3e-3, gt=0.0)
        """Of Adam; falls to 0 along a cosine."""

        @classmethod
        def tiny(cls) -> Probe.Config:
            """Ten steps on 32 px features."""
            space = Spec(use="efficientnet_lite0", config={"resolution": 32})
            return cls(space=space, max_train_steps=10, train_batch_size=8)

    config: Config

    @torch.no_grad()
    def learn(
        self,
        x_ND: np.ndarray,
        train: ImageSet,
        *,
        watch: Callable[[State], dict[str, float]],
        seed: int,
        runtime: Runtime,
    ) -> tuple[State, History]:
        """History: epoch, train_loss and val's numbers of each round."""
        x, generator = torch.from_numpy(x_ND), torch.Generator().manual_seed(seed)
        target_NK = one_hot(torch.tensor(train.labels), train.num_classes).float()
        target_NK *= class_weights(train, self.config.class_weight)
        weight_KD = 0.01 * torch.randn(train.num_classes, x.shape[1], generator=generator)
        layer = _AdamLayer(weight_KD, torch.zeros(train.num_classes), decay=1.0 / (self.config.C * len(train)))
        state = {"weight": layer.weight_KD.numpy(), "bias": layer.bias_K.numpy()}
        size, num_steps, step = min(self.config.train_batch_size, len(train)), self.config.max_train_steps, 0
        batches = torch.split(_row_stream(len(train), num_steps * size, generator), size)
        history: History = []
        for chunk in np.array_split(np.arange(num_steps), min(NUM_ROUNDS, num_steps)):
            if runtime.stopped():
                raise Stopped(f"asked to stop after {step} of {num_steps} steps")
            total = 0.0
            for step in chunk.tolist():
                learning_rate = 0.5 * self.config.learning_rate * (1.0 + math.cos(math.pi * step / num_steps))
                total += layer.step(x[batches[step]], target_NK[batches[step]], learning_rate)
            step += 1
            if not math.isfinite(total):
                raise MedsynthError(f"diverged: the probe's loss is {total} by step {step}; lower learning_rate")
            runtime.progress(step, num_steps, "probe steps")
            loss = total / (len(chunk) * size)
            history.append({"epoch": step * size / len(train), "train_loss": loss, **watch(state)})
        return state, history

    def probs(self, state: State, x_ND: np.ndarray) -> np.ndarray:
        """Softmax of the linear layer."""
        weight_KD, bias_K = torch.tensor(state["weight"]), torch.tensor(state["bias"])
        probs: np.ndarray = linear(torch.from_numpy(x_ND), weight_KD, bias_K).softmax(dim=1).numpy()
        return probs


def _row_stream(num_rows: int, length: int, generator: torch.Generator) -> torch.Tensor:
    """One shuffled pass over the rows after the other, cut to `length`: all rows are drawn equally often, but for 1."""
    passes = [torch.randperm(num_rows, generator=generator) for _ in range(-(-length // num_rows))]
    return torch.cat(passes)[:length]


class _AdamLayer:
    """One linear layer with its gradient by hand and Adam (arXiv 1412.6980).

    The weight is (K, D): products with a (D, 3) matrix run at a quarter of the speed.
    """

    def __init__(self, weight_KD: torch.Tensor, bias_K: torch.Tensor, *, decay: float) -> None:
        self.weight_KD, self.bias_K, self._decay, self._steps = weight_KD, bias_K, decay, 0
        self._moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in (weight_KD, bias_K)]

    def step(self, x_BD: torch.Tensor, target_BK: torch.Tensor, learning_rate: float) -> float:
        """One step on weighted one-hot targets; the batch's summed loss before it, without the penalty."""
        log_probs_BK = linear(x_BD, self.weight_KD, self.bias_K).log_softmax(dim=1)
        weight_B1 = target_BK.sum(dim=1, keepdim=True)
        error_BK = (log_probs_BK.exp() * weight_B1 - target_BK) / len(x_BD)
        self._steps += 1
        self._adam(0, self.weight_KD, error_BK.T @ x_BD + self._decay * self.weight_KD, learning_rate)
        self._adam(1, self.bias_K, error_BK.sum(dim=0), learning_rate)
        return -float((target_BK * log_probs_BK).sum())

    def _adam(self, which: int, parameter: torch.Tensor, gradient: torch.Tensor, learning_rate: float) -> None:
        first, second = self._moments[which]
        first.lerp_(gradient, 0.1)
        second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
        scale = (second / (1.0 - 0.99**self._steps)).sqrt_().add_(1e-8)
        parameter.addcdiv_(first, scale, value=-learning_rate / (1.0 - 0.9**self._steps))
