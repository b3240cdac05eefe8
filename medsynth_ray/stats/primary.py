"""What a verdict compares: the primary metric. Plain data, so that a configuration can hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

MetricName = Literal["balanced_accuracy", "macro_f1", "accuracy", "macro_auc", "sensitivity"]

SPECIFICITIES = (0.8, 0.9, 0.95, 0.99)
"""The specificities at which sensitivities are reported, and may be compared."""


@dataclass(frozen=True)
class Primary:
    """The metric of a verdict.

    name: balanced_accuracy, macro_f1, accuracy: of the most probable class. macro_auc: area under the ROC curve of one
    class against the rest, mean over classes. sensitivity: of class `positive` against the rest, by the probability of
    that class, at the threshold that leaves at least the share `specificity` of the other images below it.
    specificity: one of SPECIFICITIES; read by sensitivity only.
    positive: index of a class; of sensitivity only. class_name: how sentences call it.

    Raises:
        ValueError: a value is none of those allowed, or `positive` is missing or does not belong.
    """

    name: MetricName
    specificity: float = 0.9
    positive: int | None = None
    class_name: str = ""

    def __post_init__(self) -> None:
        if self.name not in get_args(MetricName):
            raise ValueError(f"metric must be one of {', '.join(get_args(MetricName))}, got {self.name!r}")
        if self.specificity not in SPECIFICITIES:
            raise ValueError(f"specificity must be one of {SPECIFICITIES}, got {self.specificity!r}")
        if self.name == "sensitivity" and (self.positive is None or self.positive < 0):
            raise ValueError(f"sensitivity needs positive, the index of a class; got {self.positive!r}")
        if self.name != "sensitivity" and self.positive is not None:
            raise ValueError(f"positive belongs to sensitivity, {self.name} takes none; got {self.positive!r}")

    @property
    def key(self) -> str:
        """How `stats.scores` names it: "balanced_accuracy", "sensitivity_at_0.90/1"."""
        if self.positive is None:
            return self.name
        return sensitivity_key(self.specificity, self.positive)

    def words(self) -> str:
        """How a sentence calls it: "macro F1", "sensitivity at specificity 0.90 (melanoma)"."""
        if self.positive is None:
            return self.name.replace("_", " ").replace(" f1", " F1").replace(" auc", " AUC")
        return f"{self.name} at specificity {self.specificity:.2f} ({self.class_name or f'class {self.positive}'})"


def sensitivity_key(specificity: float, label: int) -> str:
    """Name of a sensitivity among an arm's scores."""
    return f"sensitivity_at_{specificity:.2f}/{label}"
