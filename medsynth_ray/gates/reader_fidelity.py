"""Rejects a pool whose labels people did not recognise: what `medsynth readers score` found becomes a gate.

Only readings of images that are in the judged pool count: an image is known by its place and its pixels. A pool of
fewer images than the one that readers saw is judged by those of them that it holds. Places are the same for every
generator, so that another generator's pool counts as another pool: the gate belongs to the one whose images were read,
under `generators.<name>.gates`.
"""

from __future__ import annotations

import json
import math
from statistics import NormalDist
from typing import Any, Literal

import fsspec
import numpy as np
from pydantic import BaseModel, Field, ValidationError, field_validator

from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, ComponentConfig, Files, GateResult, Need, Pool, Runtime

_Z = NormalDist().inv_cdf(0.975)


class ReaderFidelity(Component):
    """Rejects a pool of which readers recognise a class too seldom, or which they tell from real too well."""

    class Config(ComponentConfig):
        """Whose readings, and what is enough."""

        results: str | None = Field(default=None, json_schema_extra={"key": False})
        """File or fsspec URL that `medsynth readers score -o` wrote; its content, not its place, enters the content
        key. None: nobody has read the images yet, and every pool passes (its numbers say `read` 0)."""
        min_fidelity: float | dict[str, float] = 0.5
        """Least share, in [0, 1], of a class's images that readers must diagnose as the class; one for all classes, or
        by class name (others: no limit). A class fails when even the upper end of the 95 % interval lies below it. It
        is absolute: what readers recognise of the real images, in the same results, says how much to ask."""
        max_auc: float | None = Field(default=None, ge=0.5, le=1.0)
        """Most that readers may tell synthetic from real, as the mean area under the ROC curve; exceeded when even the
        lower end of its 95 % interval lies above. None: no limit."""
        other_pool: Literal["reject", "pass"] = "reject"
        """What a pool gets that readers did not see. pass: needed while settings are searched or fits go through
        rungs, whose pools nobody can have read."""

        @field_validator("min_fidelity")
        @classmethod
        def _is_share(cls, value: float | dict[str, float]) -> float | dict[str, float]:
            for share in value.values() if isinstance(value, dict) else [value]:
                if not 0.0 <= share <= 1.0:
                    raise ValueError(f"shares must lie in [0, 1], got {share}")
            return value

        def needs(self) -> tuple[Need, ...]:
            """The file."""
            return () if self.results is None else (Files(self.results),)

    config: Config

    def judge(self, pool: Pool, *, shown: ImageSet, unseen: ImageSet, seed: int, runtime: Runtime) -> GateResult:
        """Look up what readers said of the pool's images; no image is dropped.

        Raises:
            ValueError: the results cannot be read or are of another kind, or `min_fidelity` names no class.
        """
        keep = np.ones(len(pool), dtype=bool)
        if self.config.results is None:
            return GateResult(keep, True, "", {"read": 0.0})
        results = _load(self.config.results)
        limits = self._limits(pool.images.class_names)
        here = _in_pool(results.pool_images, pool)
        numbers = {"read": float(sum(row.read for row in here or ())), "num_found": float(len(here or ()))}
        if not here:
            passed = self.config.other_pool == "pass"
            why = f"readers saw another pool ({results.sweep}, {results.arm}): this one does not hold those images"
            return GateResult(keep, passed, "" if passed else why, numbers)
        more, reasons = _fidelity(here, limits)
        if results.auc is not None and self.config.max_auc is not None:
            more["auc"] = results.auc["value"]
            if results.auc["low"] > self.config.max_auc:
                reasons.append(
                    f"readers tell synthetic from real: mean AUC {results.auc['value']:.3f}, at least "
                    f"{results.auc['low']:.3f}, max_auc is {self.config.max_auc:g}"
                )
        return GateResult(keep, not reasons, "; ".join(reasons), {**numbers, **more})

    def _limits(self, class_names: tuple[str, ...]) -> dict[str, float]:
        limits = self.config.min_fidelity
        if not isinstance(limits, dict):
            return dict.fromkeys(class_names, limits)
        if unknown := sorted(set(limits) - set(class_names)):
            allowed = ", ".join(class_names)
            raise ValueError(f"reader_fidelity.min_fidelity: no class {unknown[0]!r} (classes: {allowed})")
        return limits


class _Image(BaseModel):
    """One image that readers saw."""

    id: str
    digest: str
    class_name: str = Field(alias="class")
    read: int = Field(ge=0)
    right: int = Field(ge=0)


class _Results(BaseModel):
    """What the gate reads of a results file."""

    format: Literal["medsynth-readers/1"]
    sweep: str
    arm: str
    auc: dict[str, float] | None
    pool_images: list[_Image]


def _load(path: str) -> _Results:
    where = f"reader_fidelity.results {path!r}"
    try:
        with fsspec.open(path, "rb") as file:
            values: Any = json.load(file)
        return _Results.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where} is not what `medsynth readers score` writes: {place}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from None


def _in_pool(images: list[_Image], pool: Pool) -> list[_Image] | None:
    """The images that this pool holds too; None if one of them has other pixels or another class here."""
    names = [pool.images.class_names[label] for label in pool.images.labels]
    digests = [bytes(digest).hex() for digest in pool.images.digests]
    own = {str(name): told for name, *told in zip(pool.images.ids, digests, names, strict=True)}
    found = [image for image in images if image.id in own]
    same = all(own[image.id] == [image.digest, image.class_name] for image in found)
    return found if same else None


def _fidelity(images: list[_Image], limits: dict[str, float]) -> tuple[dict[str, float], list[str]]:
    """Numbers of each class, and a reason for each that lies below its limit."""
    numbers: dict[str, float] = {}
    reasons = []
    for name in dict.fromkeys(image.class_name for image in images):
        shares = [image.right / image.read for image in images if image.class_name == name and image.read]
        if not shares:
            continue
        share, high = sum(shares) / len(shares), _wilson_high(sum(shares) / len(shares), len(shares))
        numbers |= {f"fidelity/{name}": share, f"fidelity_high/{name}": high}
        if high < limits.get(name, 0.0):
            reasons.append(
                f"{name}: readers recognise {share:.1%} of {len(shares)} images, at most {high:.1%}, "
                f"min_fidelity is {limits[name]:.1%}"
            )
    return numbers, reasons


def _wilson_high(share: float, num: int) -> float:
    """Upper end of Wilson's 95 % interval; `num` counts images, however many read each: readers agree on bad ones."""
    widen = _Z**2 / num
    half = _Z * math.sqrt(share * (1 - share) / num + widen / (4 * num))
    return min(1.0, (share + widen / 2 + half) / (1 + widen))
