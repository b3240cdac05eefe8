"""A classifier that is one timm network: AdamW, linear warm-up, then a fall to 0. Subclasses make the network."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import nn

from medsynth_ray.classifiers._augment import Augment, augmented
from medsynth_ray.classifiers._fitting import ClassWeight, check_trainable, class_weights, own_state, val_numbers
from medsynth_ray.errors import MedsynthError, Stopped
from medsynth_ray.images import ImageSet, batches
from medsynth_ray.protocols import Component, ComponentConfig, History, Runtime

Schedule = Literal["cosine", "linear", "constant"]


class NetworkConfig(ComponentConfig):
    """How a network is trained."""

    num_train_epochs: int = Field(default=10, ge=1)
    """Passes over the training set; without the last images where the batch size does not divide it."""
    max_train_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; where given, it replaces `num_train_epochs`."""
    train_batch_size: int = Field(default=32, ge=2)
    """Images of one step."""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Largest learning rate, reached after warm-up."""
    warmup_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of all steps over which the learning rate rises from 0."""
    schedule: Schedule = "cosine"
    """How the learning rate falls to 0 after warm-up, or that it does not."""
    weight_decay: float = Field(default=0.05, ge=0.0)
    """AdamW's decoupled decay, on matrices and convolutions."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of a label's weight that is spread over all classes."""
    class_weight: ClassWeight = "balanced"
    """balanced: every class weighs the same in the loss, however many images it has."""
    augment: Augment = Augment()
    """Classic augmentation, drawn anew for every image and epoch."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """bf16: activations of half the size."""
    channels_last: bool = True
    """Memory layout; faster on CPUs and on recent GPUs."""
    eval_strategy: Literal["end", "epoch"] = "end"
    """When val is looked at: it decides nothing, and each look costs a forward pass over it."""
    eval_batch_size: int = Field(default=64, ge=1)
    """Images at a time when predicting."""


class NetworkClassifier(Component):
    """Base of classifiers that are a torch network; `config` is a `NetworkConfig`."""

    config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        """An unfitted classifier."""
        super().__init__(config)
        self._network: nn.Module | None = None
        self._shape: dict[str, Any] = {}

    def make_network(self, image_shape: tuple[int, int, int], num_classes: int, runtime: Runtime | None) -> nn.Module:
        """A fresh network from float32 (N, C, H, W) in [-1, 1] to logits; runtime None: `load` brings the weights.

        It is a timm model, perhaps as the last of an nn.Sequential whose other steps prepare its input.
        """
        raise TypeError(f"{type(self).__name__} does not say what its network is")

    def fit(self, train: ImageSet, *, val: ImageSet, seed: int, runtime: Runtime) -> History:
        """History: train_loss of each epoch; val_loss and val_balanced_accuracy as `eval_strategy` says.

        Raises:
            ValueError: fewer than 2 training images.
            Stopped: the sweep asked for it.
            MedsynthError: the loss is not finite.
        """
        check_trainable(train)
        self._shape = {"image_shape": list(train.image_shape), "class_names": list(train.class_names)}
        with own_state(runtime.num_threads, seed), self._precision():
            network = self.make_network(train.image_shape, train.num_classes, runtime)
            self._network = network
            return list(self._epochs(self._placed(runtime), train, val, seed, runtime))

    def _epochs(
        self, network: nn.Module, train: ImageSet, val: ImageSet, seed: int, runtime: Runtime
    ) -> Iterator[dict[str, float]]:
        config = self.config
        per_epoch = max(len(train) // config.train_batch_size, 1)
        num_steps = config.max_train_steps or config.num_train_epochs * per_epoch
        optimiser = _adamw(network, config)
        generator = torch.Generator().manual_seed(seed)
        weights = class_weights(train, config.class_weight).to(runtime.device)
        for epoch in range(math.ceil(num_steps / per_epoch)):
            _train_mode(network)
            losses: list[float] = []
            for x, labels in self._epoch_batches(train, seed, epoch, min(per_epoch, num_steps - epoch * per_epoch)):
                step = epoch * per_epoch + len(losses)
                if runtime.stopped():
                    raise Stopped(f"asked to stop after {step} of {num_steps} steps")
                rate = config.learning_rate * _schedule(step, num_steps, config.warmup_share, config.schedule)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                x_NCHW = augmented(self._input(x, runtime), config.augment, generator)
                losses.append(self._step(network, optimiser, x_NCHW, labels.to(runtime.device), weights))
                _check_loss(losses[-1], step)
                runtime.progress(step + 1, num_steps, "training steps")
            last = (epoch + 1) * per_epoch >= num_steps
            watch = last or config.eval_strategy == "epoch"
            numbers = val_numbers(self._probs(network, val, runtime), val) if watch else {}
            yield {"epoch": epoch + 1.0, "train_loss": float(np.mean(losses)), **numbers}

    def _epoch_batches(
        self, train: ImageSet, seed: int, epoch: int, num: int
    ) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """The first `num` batches of the epoch: a short last one is left out, batch norm cannot use a single image."""
        stream = batches(train, batch_size=self.config.train_batch_size, seed=seed, epoch=epoch)
        for _, (x, labels, _) in zip(range(num), stream, strict=False):
            yield x, torch.tensor(labels)

    def _step(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        x_NCHW: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor,
    ) -> float:
        with self._autocast(x_NCHW.device.type):
            logits = network(x_NCHW)
        loss = F.cross_entropy(logits.float(), labels, weight=weights, label_smoothing=self.config.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return float(loss.detach())

    def predict(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        """Softmax of the network.

        Raises:
            ValueError: it was not fitted, or on images of another shape.
        """
        self._check(images)
        with own_state(runtime.num_threads), self._precision():
            return self._probs(self._placed(runtime), images, runtime)

    def embed(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        """The network's pooled features, float32 (N, D).

        Raises:
            ValueError: it was not fitted, or on images of another shape.
        """
        self._check(images)
        with own_state(runtime.num_threads), self._precision():
            network = self._placed(runtime).eval()
            steps: list[Any] = list(network) if isinstance(network, nn.Sequential) else [network]
            return self._rows(lambda x: _pooled(steps, x), steps[-1].head_hidden_size, images, runtime)

    def _check(self, images: ImageSet) -> None:
        if self._network is None:
            raise ValueError("this classifier was not fitted: call fit or load first")
        if list(images.image_shape) != self._shape["image_shape"]:
            raise ValueError(f"it was fitted on images of {self._shape['image_shape']}, got {list(images.image_shape)}")

    def _placed(self, runtime: Runtime) -> nn.Module:
        """The network on its device, in its memory layout."""
        assert self._network is not None
        network: nn.Module = self._network.to(runtime.device, memory_format=self._layout)  # type: ignore[call-overload]
        return network

    def _probs(self, network: nn.Module, images: ImageSet, runtime: Runtime) -> np.ndarray:
        network.eval()
        num_classes = len(self._shape["class_names"])
        return self._rows(lambda x: network(x).float().softmax(dim=1), num_classes, images, runtime)

    def _rows(
        self, forward: Callable[[torch.Tensor], torch.Tensor], width: int, images: ImageSet, runtime: Runtime
    ) -> np.ndarray:
        """What `forward` makes of the images, batch by batch: float32 (N, width)."""
        rows = [np.empty((0, width), dtype=np.float32)]
        with torch.inference_mode(), self._autocast(runtime.device):
            for x, _, _ in batches(images, batch_size=self.config.eval_batch_size, seed=None):
                rows.append(forward(self._input(x, runtime)).float().cpu().numpy())
        return np.concatenate(rows)

    def save(self, folder: Path) -> None:
        """Write config.json, classifier.json (image shape and classes) and classifier.safetensors.

        Raises:
            ValueError: it was not fitted.
        """
        if self._network is None:
            raise ValueError("this classifier was not fitted: there is nothing to save")
        self.save_config(folder)
        (folder / "classifier.json").write_text(json.dumps(self._shape, indent=1))
        state = {name: tensor.cpu().contiguous() for name, tensor in self._network.state_dict().items()}
        save_file(state, folder / "classifier.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The classifier that was saved."""
        found = cls.from_config_of(folder)
        found._shape = json.loads((folder / "classifier.json").read_text())
        height, width, channels = found._shape["image_shape"]
        with own_state(torch.get_num_threads()):
            found._network = found.make_network((height, width, channels), len(found._shape["class_names"]), None)
        found._network.load_state_dict(load_file(folder / "classifier.safetensors"))
        return found

    @property
    def _layout(self) -> torch.memory_format:
        return torch.channels_last if self.config.channels_last else torch.contiguous_format

    def _input(self, x: np.ndarray, runtime: Runtime) -> torch.Tensor:
        return torch.from_numpy(x).to(runtime.device, memory_format=self._layout)

    def _autocast(self, device: str) -> torch.autocast:
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.config.mixed_precision == "bf16")

    def _precision(self) -> Any:
        return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=True)


def _pooled(steps: list[Any], x_NCHW: torch.Tensor) -> torch.Tensor:
    """What the head of the last step, a timm model, reads: (N, D)."""
    *before, model = steps
    for step in before:
        x_NCHW = step(x_NCHW)
    pooled: torch.Tensor = model.forward_head(model.forward_features(x_NCHW), pre_logits=True)
    return pooled.flatten(1)


def _train_mode(network: nn.Module) -> None:
    """Train, but for modules that are frozen: their batch norms keep the checkpoint's statistics."""
    network.train()
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def _adamw(network: nn.Module, config: NetworkConfig) -> torch.optim.AdamW:
    trained = [p for p in network.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim > 1]
    plain = [p for p in trained if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _schedule(step: int, num_steps: int, warmup_share: float, shape: Schedule = "cosine") -> float:
    """Share of the largest learning rate at `step`, counted from 0; never 0."""
    warmup = max(round(warmup_share * num_steps), 1)
    if step < warmup:
        return (step + 1) / warmup
    if shape == "constant":
        return 1.0
    done = (step - warmup + 1) / (num_steps - warmup + 1)
    return 1.0 - done if shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def _check_loss(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise MedsynthError(f"diverged: the classifier's loss is {loss} at step {step}; lower learning_rate")
