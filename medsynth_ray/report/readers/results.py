"""The numbers of a scored study as `medsynth readers score -o` writes them: what the section shows must be there."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT: Literal["medsynth-readers/1"] = "medsynth-readers/1"


class _Part(BaseModel):
    """What is not shown may be there as well."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Interval(_Part):
    """A number in [0, 1] and its interval."""

    value: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class Share(Interval):
    """`count` of `num`."""

    num: int
    count: int


class Kinds(_Part):
    """Of the synthetic and of the real images of a class."""

    synthetic: Share | None
    real: Share | None


class Same(_Part):
    """Agreement of a reader with themselves."""

    same: Share | None
    kappa: float | None


class Again(_Part):
    """Of the images that were shown twice."""

    origin: Same
    diagnosis: Same


class Reader(_Part):
    """One reader."""

    reader: int
    answered: int
    shown: int
    auc: Interval | None
    accuracy: Share | None
    again: Again


class Kappa(_Part):
    """Agreement between readers."""

    kappa: float | None
    kind: Literal["cohen", "fleiss"]
    num: int


class Agreement(_Part):
    """Of origin and diagnosis; None: one reader."""

    origin: Kappa | None
    diagnosis: Kappa | None


class Counts(_Part):
    """Answers to a yes-or-no question."""

    yes: int
    no: int
    uncertain: int


class Question(_Part):
    """A yes-or-no question."""

    text: str
    synthetic: Counts
    real: Counts


class Results(_Part):
    """The file."""

    format: Literal["medsynth-readers/1"]
    sweep: str
    arm: str
    real_images_of: str
    fitted_on_unknown: bool
    num_real: int
    num_synthetic: int
    num_packets: int
    margin: float = Field(gt=0, lt=0.5)
    conclusion: Literal["cannot_tell_apart", "can_tell_apart", "cannot_say"]
    sentence: str
    auc: Interval | None
    readers: list[Reader]
    agreement: Agreement
    fidelity: dict[str, Kinds]
    questions: list[Question]
