"""The feed-forward network on InceptionResNetV2 features of the pneumoconiosis (Chongqing) experiment.

Stated there (Table 5.14): hidden layers 4 x 256, ReLU, kernel regulariser L2 with 0.02, no batch norm, Adam, learning
rate 1e-3, batch 64, at most 300 epochs. Not stated: what ended training before 300 epochs, so nothing does here, since
val may only be watched; the features' resolution (299 px, the network's own, of images at 512); their scale (as they
are); whether the output layer was regularised (it is not). The terms are Keras's, and so are the initial weights
(Glorot uniform, biases 0) and the penalty: 0.02 times the sum of squared weights of each hidden layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn

from medsynth_ray.classifiers._dense import DenseClassifier, DenseConfig
from medsynth_ray.classifiers._features import TINY_SPACE
from medsynth_ray.protocols import Spec


class Ffnn(DenseClassifier):
    """Hidden layers with ReLUs and an L2 penalty."""

    class Config(DenseConfig):
        """Settings."""

        space: Spec = Spec(
            use="timm_model",
            config={"model": "inception_resnet_v2.tf_in1k", "weights": "inception_resnet_v2", "resolution": 299},
        )
        """The feature space; `weights` in its config is a local path or a registered name."""
        hidden: tuple[int, ...] = Field(default=(256, 256, 256, 256), max_length=16)
        """Units of each hidden layer."""
        l2: float = Field(default=0.02, ge=0.0)
        """Factor of the sum of squared weights of the hidden layers in the loss."""
        num_train_epochs: int = Field(default=300, ge=1)
        """Passes over the training set; val does not end them."""
        train_batch_size: int = Field(default=64, ge=1)
        """Images of one step; the last batch of an epoch may be smaller."""

        @classmethod
        def tiny(cls) -> Ffnn.Config:
            """Three epochs."""
            return cls(space=TINY_SPACE, hidden=(16, 16), num_train_epochs=3, train_batch_size=8)

    config: Config

    def make_layers(self, num_features: int, num_classes: int) -> list[nn.Linear]:
        """Glorot-uniform weights, biases of 0."""
        widths = (num_features, *self.config.hidden, num_classes)
        layers = [nn.Linear(before, after) for before, after in zip(widths, widths[1:], strict=False)]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        return layers

    def penalty(self, layers: Sequence[nn.Linear]) -> torch.Tensor | float:
        """The L2 penalty of the hidden layers."""
        return self.config.l2 * sum((layer.weight.square().sum() for layer in layers[:-1]), torch.zeros(()))
