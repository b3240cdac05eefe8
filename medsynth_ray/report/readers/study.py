"""A blinded study: which images are shown to whom, in what order, under which opaque ids; and the key to it.

A packet holds as many synthetic as real images of each class, and repeats of some, far from the first showing. Ids and
orders are keyed hashes of a secret: who holds a packet but not the key learns nothing from them, nor from another
reader's packet.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from medsynth_ray.errors import ConfigError
from medsynth_ray.images import ImageSet
from medsynth_ray.registry import explain
from medsynth_ray.seeds import rng

MIN_APART = 10
"""A repeat stands at least so many places after the first showing."""
OTHER = "other"
"""Code of the diagnosis that is none of the classes; class c has the code `class-c`."""
TAKEN = ("diagnosis", "diagnosis_confidence", "origin", "origin_confidence")
"""Names of the questions that every study asks."""


class Part(BaseModel):
    """Base of what a study is written as: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Questions(Part):
    """The words of a study. The label of an image must not be in them: the diagnosis is blind to it."""

    language: str = Field(default="en", pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]+)*$")
    """Language of the page, as in HTML."""
    title: str = "Reader study"
    introduction: str = (
        "Some of these images are of patients, the others were made by a computer. Judge each by itself; some are "
        "shown twice. Your answers are kept in this browser: you may stop and go on later. At the end, download them "
        "and send the file back."
    )
    diagnosis: str = "What does the image show?"
    """Asked first, so that the question of its origin does not colour it."""
    other: str = "other / none of these"
    class_names: dict[str, str] = {}
    """Class name of the data -> what readers see, where that differs."""
    yes_no: dict[str, str] = Field(
        default={
            "looks_real": "Does it look like a real image of this kind?",
            "plausible": "Is it effectively of a person, the anatomy plausible?",
            "malformed": "Are there any malformations, strange structures or artefacts in it?",
            "disease": "Is a disease or finding of the list above identifiable?",
        },
        min_length=1,
        max_length=12,
    )
    """Name -> question, answered by yes, no or uncertain."""
    origin: str = "Is the image real or synthetic?"
    real: str = "real"
    synthetic: str = "synthetic"
    yes: str = "yes"
    no: str = "no"
    uncertain: str = "uncertain"
    confidence: str = "How sure are you? (1: a guess, 5: certain)"
    previous: str = "Back"
    next: str = "Next"
    download: str = "Download answers"
    image: str = "Image"
    missing: str = "Please answer every question first."
    finished: str = "All images are answered. Download the answers and send the file back."
    not_kept: str = "This browser keeps no answers: download them before you close the page."
    keys: str = "Keys: 1 to 9 choose an answer and go to the next question, Enter goes to the next image."

    @field_validator("yes_no")
    @classmethod
    def _names_are_free(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name in TAKEN or not name.isidentifier() or not name.isascii():
                raise ValueError(f"{name!r} must be letters, digits and _, and none of {', '.join(TAKEN)}")
        return value

    @classmethod
    def read(cls, values: dict[str, object], where: str) -> Self:
        """The questions in a mapping.

        Raises:
            ConfigError: a key is unknown or a value not allowed; `where` is named in front.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError("\n".join(explain(error, where, cls))) from None

    def codes(self, class_names: tuple[str, ...]) -> dict[str, dict[str, str]]:
        """Question -> code of each answer -> its words, in the order in which they are asked."""
        sure = {str(n): str(n) for n in range(1, 6)}
        named = {f"class-{c}": self.class_names.get(name, name) for c, name in enumerate(class_names)}
        yes_no = {"yes": self.yes, "no": self.no, "uncertain": self.uncertain}
        return {
            "diagnosis": {**named, OTHER: self.other},
            "diagnosis_confidence": sure,
            **{name: yes_no for name in self.yes_no},
            "origin": {"real": self.real, "synthetic": self.synthetic},
            "origin_confidence": sure,
        }

    def text(self, name: str) -> str:
        """The words of a question."""
        return {"diagnosis": self.diagnosis, "origin": self.origin, **self.yes_no}.get(name, self.confidence)


class Case(Part):
    """One image of a study. label: index of its class. digest: hash of its pixels, 32 hex digits."""

    image_id: str
    synthetic: bool
    label: int = Field(ge=0)
    digest: str = Field(pattern="^[0-9a-f]{32}$")


class Showing(Part):
    """An image as one reader sees it. case: row of `Key.cases`. repeat_of: id of the first showing, or None."""

    id: str
    case: int = Field(ge=0)
    repeat_of: str | None = None


class Packet(Part):
    """What one reader is shown, in order."""

    reader: int = Field(ge=1)
    id: str
    showings: tuple[Showing, ...]


class Key(Part):
    """key.json: what no reader may see."""

    format: Literal["medsynth-readers-key/1"] = "medsynth-readers-key/1"
    sweep: str
    arm: str
    real_images_of: str = "val"
    """Split of the real images: the generator was not fitted on them."""
    fitted_on_unknown: bool = False
    """Nobody knows what the generator was fitted on: it may have seen the real images."""
    secret: str = Field(pattern="^[0-9a-f]{32,}$")
    class_names: tuple[str, ...] = Field(min_length=1)
    questions: Questions = Questions()
    cases: tuple[Case, ...]
    packets: tuple[Packet, ...]

    @property
    def compared(self) -> np.ndarray:
        """Bool (cases,): False for real images of classes that have no synthetic ones, which only keep readers blind.

        All True where no image is synthetic.
        """
        made = {case.label for case in self.cases if case.synthetic}
        return np.array([not made or case.label in made for case in self.cases], dtype=bool)


def choose(real: ImageSet, synthetic: ImageSet, *, per_class: int, seed: int) -> tuple[ImageSet, ImageSet]:
    """As many real as synthetic images of each class: `per_class`, or as many as the smaller side has.

    Where one class alone has both, as many real images of the other classes join them, so that the diagnosis stays
    blind: not all images are of one class.

    Raises:
        ConfigError: no class has images on both sides, or one has and there is no real image of another.
    """
    take = np.minimum(np.minimum(real.counts(), synthetic.counts()), per_class)
    names = ", ".join(real.class_names)
    if not take.any():
        raise ConfigError(f"no class has both real and synthetic images (classes: {names}), so nothing can be compared")
    more = np.zeros_like(take)
    if (take > 0).sum() == 1:
        more = _spread(np.where(take > 0, 0, real.counts()), int(take.max()))
        if not more.any():
            only = real.class_names[int(take.argmax())]
            raise ConfigError(
                f"all images would be of class {only!r}, so the diagnosis would not be blind: there are no real images "
                f"of another class (classes: {names})"
            )
    return _drawn(real, take + more, seed, "real"), _drawn(synthetic, take, seed, "synthetic")


def plan(
    real: ImageSet,
    synthetic: ImageSet,
    *,
    sweep: str,
    arm: str,
    num_readers: int,
    repeat_share: float,
    secret: bytes,
    questions: Questions,
    fitted_on_unknown: bool = False,
) -> Key:
    """The key of a study of these images; image i of `real` and `synthetic` together is row i of its cases.

    Args:
        real: the real images to show.
        synthetic: the synthetic ones.
        sweep: id of the sweep.
        arm: whose images the synthetic ones are.
        num_readers: packets to make, each with ids and an order of its own.
        repeat_share: share of the images that are shown twice, in [0, 1).
        secret: at least 16 bytes; ids and orders are hashes of it.
        questions: the words.
        fitted_on_unknown: the generator may have seen the real images.

    Raises:
        ConfigError: too few images for repeats that stand far apart, `questions` names no class of the data, or two
            answers to one question cannot be told apart.
    """
    unknown = sorted(set(questions.class_names) - set(real.class_names))
    if unknown:
        allowed = ", ".join(real.class_names)
        raise ConfigError(f"questions: class_names: {unknown[0]!r} is no class of the data (classes: {allowed})")
    _check_words(questions.codes(real.class_names))
    cases = _cases(real, False) + _cases(synthetic, True)
    return Key(
        sweep=sweep, arm=arm, fitted_on_unknown=fitted_on_unknown, secret=secret.hex(), questions=questions,
        class_names=real.class_names, cases=cases,
        packets=tuple(_packet(cases, reader + 1, repeat_share, secret) for reader in range(num_readers)),
    )  # fmt: skip


def ordered(num_cases: int, num_repeats: int, *, seed: int) -> list[tuple[int, bool]]:
    """A random order of (case, whether it is a repeat), each repeat at least MIN_APART places after its first showing.

    Raises:
        ConfigError: too few images for that.
    """
    if num_repeats > max(0, num_cases - MIN_APART + 1):
        raise ConfigError(
            f"{num_cases} images are too few to show {num_repeats} again {MIN_APART} places later; "
            "show more of each class, or repeat a smaller share"
        )
    draw = np.random.default_rng(seed)
    order = [(int(case), False) for case in draw.permutation(num_cases)]
    early = draw.permutation(max(0, num_cases - MIN_APART + 1))[:num_repeats]
    for case in [order[place][0] for place in early]:
        first = order.index((case, False))
        order.insert(int(draw.integers(first + MIN_APART, len(order) + 1)), (case, True))
    return order


def opaque(secret: bytes, *parts: str | int) -> str:
    """HMAC-SHA256 of `parts` under the secret, the first 64 bits: 16 hex digits."""
    text = "\0".join(map(str, parts)).encode()
    return hmac.new(secret, text, hashlib.sha256).hexdigest()[:16]


def _check_words(codes: dict[str, dict[str, str]]) -> None:
    """Label Studio may name an answer by its words or by its code: neither may be another answer's."""
    for question, answers in codes.items():
        for code, words in answers.items():
            for other, their_words in answers.items():
                if other != code and words.strip() in (other, their_words.strip()):
                    raise ConfigError(
                        f"questions: {question}: the words {words!r} of {code} cannot be told from the answer {other} "
                        f"({their_words!r}); change them (of classes: class_names)"
                    )


def _packet(cases: tuple[Case, ...], reader: int, repeat_share: float, secret: bytes) -> Packet:
    def name(case: int, repeat: bool) -> str:
        shown = cases[case]
        return opaque(secret, "image", reader, int(shown.synthetic), int(repeat), shown.image_id)

    seed = int(opaque(secret, "order", reader), 16)
    order = ordered(len(cases), round(repeat_share * len(cases)), seed=seed)
    showings = [
        Showing(id=name(case, repeat), case=case, repeat_of=name(case, False) if repeat else None)
        for case, repeat in order
    ]
    return Packet(reader=reader, id=opaque(secret, "packet", reader), showings=tuple(showings))


def _spread(counts: np.ndarray, num: int) -> np.ndarray:
    """`num` images, or all, taken one by one from each class in turn."""
    turns = sorted((turn, label) for label, count in enumerate(counts) for turn in range(min(int(count), num)))
    return np.bincount([label for _, label in turns[:num]], minlength=len(counts))


def _drawn(images: ImageSet, take: np.ndarray, seed: int, arm: str) -> ImageSet:
    rows = [
        rng(seed, "readers", arm, label).permutation(np.flatnonzero(images.labels == label))[: int(num)]
        for label, num in enumerate(take)
    ]
    return images.take(np.sort(np.concatenate(rows)))


def _cases(images: ImageSet, synthetic: bool) -> tuple[Case, ...]:
    rows = zip(images.ids, images.labels, images.digests, strict=True)
    return tuple(
        Case(image_id=str(name), synthetic=synthetic, label=int(label), digest=bytes(digest).hex())
        for name, label, digest in rows
    )
