"""AlexNet with all layers frozen but a new last one, as in the lymphoma study (CLL, FL, MCL).

Stated there: a pretrained AlexNet whose last fully connected layer is replaced (4096 features to the classes), a
log-softmax and the negative log-likelihood, Adam, 5 epochs (from its tables). Not stated, and chosen here: learning
rate 1e-3, batch 32, no class weights, no augmentation beyond the arms compared.

The frozen part is a feature space, so that its features are computed once for each image and not for each epoch and
repeat. Dropout in the frozen part is therefore off, as it is when predicting; if the study's code left it on while
training, each epoch saw noisier features than here.
"""

from __future__ import annotations

from torch import nn

from medsynth_ray.classifiers._dense import DenseClassifier, DenseConfig
from medsynth_ray.protocols import Spec


class Alexnet(DenseClassifier):
    """One linear layer on AlexNet's 4096 features."""

    class Config(DenseConfig):
        """Settings."""

        space: Spec = Spec(use="torchvision_alexnet", config={"weights": "alexnet_imagenet"})
        """The frozen part; `weights` in its config is a local path or a registered name."""

        @classmethod
        def tiny(cls) -> Alexnet.Config:
            """Random features of 64 px images, 2 epochs."""
            space = Spec(use="torchvision_alexnet", config={"random_init": True, "resolution": 64})
            return cls(space=space, num_train_epochs=2, train_batch_size=8)

    config: Config

    def make_layers(self, num_features: int, num_classes: int) -> list[nn.Linear]:
        """The new last layer, with torch's own initial weights."""
        return [nn.Linear(num_features, num_classes)]
