"""A stack of linear layers with ReLUs between them on frozen features, trained by Adam for a number of epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from medsynth_ray.classifiers._features import NUM_ROUNDS, FeatureClassifier, FeatureConfig, State
from medsynth_ray.classifiers._fitting import ClassWeight, class_weights
from medsynth_ray.errors import MedsynthError, Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import History, Runtime


class DenseConfig(FeatureConfig):
    """How the layers are trained."""

    num_train_epochs: int = Field(default=5, ge=1)
    """Passes over the training set; val does not end them."""
    train_batch_size: int = Field(default=32, ge=1)
    """Images of one step; the last batch of an epoch may be smaller."""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Of Adam; constant."""
    class_weight: ClassWeight = "none"
    """balanced: every class weighs the same in the loss, however many images it has."""


class DenseClassifier(FeatureClassifier):
    """Base of classifiers that are linear layers; `config` is a `DenseConfig`. They run on the CPU."""

    config: DenseConfig

    def make_layers(self, num_features: int, num_classes: int) -> list[nn.Linear]:
        """Fresh layers; torch's global generator is seeded."""
        raise TypeError(f"{type(self).__name__} does not say what its layers are")

    def penalty(self, layers: Sequence[nn.Linear]) -> torch.Tensor | float:
        """What is added to the loss of a step."""
        return 0.0

    def learn(
        self,
        x_ND: np.ndarray,
        train: ImageSet,
        *,
        watch: Callable[[State], dict[str, float]],
        seed: int,
        runtime: Runtime,
    ) -> tuple[State, History]:
        """History: epoch, train_loss (without the penalty) and val's numbers of each round."""
        layers = self.make_layers(x_ND.shape[1], train.num_classes)
        optimiser = torch.optim.Adam([p for layer in layers for p in layer.parameters()], lr=self.config.learning_rate)
        generator = torch.Generator().manual_seed(seed)
        x, labels = torch.from_numpy(x_ND), torch.tensor(train.labels)
        weights_K = class_weights(train, self.config.class_weight)
        num_epochs, history = self.config.num_train_epochs, []
        for chunk in np.array_split(np.arange(num_epochs), min(NUM_ROUNDS, num_epochs)):
            losses = []
            for epoch in chunk.tolist():
                if runtime.stopped():
                    raise Stopped(f"asked to stop after {epoch} of {num_epochs} epochs")
                order = torch.randperm(len(x), generator=generator)
                losses.append(self._epoch(layers, optimiser, x[order], labels[order], weights_K))
                if not math.isfinite(losses[-1]):
                    raise MedsynthError(f"diverged: the loss is {losses[-1]} in epoch {epoch + 1}; lower learning_rate")
                runtime.progress(epoch + 1, num_epochs, "epochs")
            loss = float(np.mean(losses))
            history.append({"epoch": float(chunk[-1] + 1), "train_loss": loss, **watch(_state_of(layers))})
        return _state_of(layers), history

    def _epoch(
        self,
        layers: Sequence[nn.Linear],
        optimiser: torch.optim.Optimizer,
        x_ND: torch.Tensor,
        labels: torch.Tensor,
        weights_K: torch.Tensor,
    ) -> float:
        """One pass in the order given; the mean loss of an image."""
        total, size = 0.0, self.config.train_batch_size
        for x_BD, labels_B in zip(torch.split(x_ND, size), torch.split(labels, size), strict=True):
            logits_BK = _forward([(layer.weight, layer.bias) for layer in layers], x_BD)
            # Cross-entropy of logits is the negative log-likelihood of a log-softmax.
            loss = F.cross_entropy(logits_BK, labels_B, weight=weights_K)
            optimiser.zero_grad(set_to_none=True)
            (loss + self.penalty(layers)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += float(loss.detach()) * len(x_BD)
        return total / len(x_ND)

    def probs(self, state: State, x_ND: np.ndarray) -> np.ndarray:
        """Softmax of the last layer."""
        with torch.inference_mode():
            logits_NK = _forward(_layers_of(state), torch.from_numpy(x_ND))
            probs: np.ndarray = logits_NK.softmax(dim=1).numpy()
        return probs

    def last_inputs(self, state: State, x_ND: np.ndarray) -> np.ndarray:
        """What the last layer reads."""
        with torch.inference_mode():
            inputs: np.ndarray = _hidden(_layers_of(state)[:-1], torch.from_numpy(x_ND)).numpy()
        return inputs


Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]


def _hidden(layers: Layers, x_ND: torch.Tensor) -> torch.Tensor:
    for weight, bias in layers:
        x_ND = F.relu(F.linear(x_ND, weight, bias))
    return x_ND


def _forward(layers: Layers, x_ND: torch.Tensor) -> torch.Tensor:
    return F.linear(_hidden(layers[:-1], x_ND), *layers[-1])


def _state_of(layers: Sequence[nn.Linear]) -> State:
    state = {}
    for number, layer in enumerate(layers):
        state[f"weight_{number}"] = layer.weight.detach().numpy()
        state[f"bias_{number}"] = layer.bias.detach().numpy()
    return state


def _layers_of(state: State) -> Layers:
    num_layers = sum(name.startswith("weight_") for name in state)
    return [(torch.tensor(state[f"weight_{i}"]), torch.tensor(state[f"bias_{i}"])) for i in range(num_layers)]
