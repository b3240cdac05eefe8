"""Procedural retina photographs with a known truth: the data set that is shipped as code.

This is a phantom, not medicine: a round field of view, optic disc, macula, vessel tree, uneven light, sensor noise, and
lesions that only loosely resemble their names. What it is good for is that its law is known: `draw` gives as many fresh
images of the same law as wanted, which is what a perfect generator would do, so a verdict can be calibrated against it.

An image is a pure function of (class, person seed, side). The two eyes of a person share anatomy (disc, vessels,
pigment) and class, and differ in jitter, light, lesions and noise: they form one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import Field, model_validator
from scipy.ndimage import gaussian_filter1d

from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, ComponentConfig, ImageRecord
from medsynth_ray.seeds import derive

SIDES = ("left", "right")
_TRUNKS, _BRANCHES, _LESIONS, _DISTRACTORS = 4, 12, 16, 5
_BLOCK_PIXELS = 32 * 64 * 64
"""Pixels painted at a time, so that the work stays in the cache."""


class Phantom(Component):
    """The phantom as a data set: `num_images` pictures of a cohort, named by class, person and side."""

    class Config(ComponentConfig):
        """The law of the phantom and how much of it there is."""

        size_px: int = Field(default=64, ge=16, le=1024)
        """Side of the painted image."""
        num_classes: int = Field(default=3, ge=2, le=4)
        """2: drusen, healthy; 3: and haemorrhages; 4: and exudates."""
        num_images: int = Field(default=600, ge=6)
        """Images of all classes together; `counts` overrides it."""
        imbalance: float = Field(default=1.0, ge=1.0, le=100.0)
        """How many times larger the largest class (healthy) is than the smallest; those between lie geometrically."""
        counts: tuple[int, ...] | None = None
        """Images of each class, classes sorted by name."""
        difficulty: float = Field(default=0.5, ge=0.0, le=1.0)
        """0: many clear lesions and clean backgrounds; 1: few faint ones among spots that mean nothing."""
        phantom_seed: int = Field(default=0, ge=0)
        """Another seed is another cohort of the same law."""

        @model_validator(mode="after")
        def _counts_fit(self) -> Self:
            if self.counts is not None and (len(self.counts) != self.num_classes or min(self.counts) < 0):
                raise ValueError(f"counts must hold num_classes = {self.num_classes} numbers, got {list(self.counts)}")
            return self

        @classmethod
        def tiny(cls) -> Self:
            """Thirty-six images of 16 px."""
            return cls(size_px=16, num_images=36)

        @property
        def class_names(self) -> tuple[str, ...]:
            """Names of the classes, sorted."""
            return tuple(sorted(("healthy", "drusen", "haemorrhages", "exudates")[: self.num_classes]))

        def class_counts(self) -> tuple[int, ...]:
            """Images of each class, classes sorted by name (healthy comes last and is the largest)."""
            if self.counts is not None:
                return self.counts
            weights = self.imbalance ** (np.arange(self.num_classes) / (self.num_classes - 1))
            edges = np.rint(np.cumsum(weights) / weights.sum() * self.num_images).astype(int)
            return tuple(int(n) for n in np.diff(edges, prepend=0))

    def scan(self) -> list[ImageRecord]:
        """Records whose stamp is the image's seed."""
        config: Phantom.Config = self.config
        records = []
        for label, (name, count) in enumerate(zip(config.class_names, config.class_counts(), strict=True)):
            persons, sides = _cohort(config.phantom_seed, label, count)
            for i in range(count):
                person, side = f"{name}-{i // 2:06d}", SIDES[sides[i]]
                stamp = f"{persons[i]}-{sides[i]}"
                records.append(ImageRecord(f"{name}/{person}_{side}", name, person, None, stamp, {"side": side}))
        return sorted(records, key=lambda record: record.id)

    def read(self, record: ImageRecord) -> np.ndarray:
        """Paint the image: uint8 (size_px, size_px, 3)."""
        person, side = (np.array([int(part)]) for part in record.stamp.split("-"))
        label = np.array([self.config.class_names.index(record.label)])
        return np.asarray(paint(label, person, side, config=self.config)[0])


def draw(counts: Sequence[int], *, config: Phantom.Config, seed: int) -> ImageSet:
    """Draw fresh images of the law in `config`: counts[c] of class c, classes sorted by name, eyes in pairs.

    Another `seed` gives other persons; `config.phantom_seed`, `num_images` and `counts` are not looked at. Fewer images
    are a prefix, within each class, of more.

    Raises:
        ValueError: `counts` does not hold one number >= 0 for each class.
    """
    names = config.class_names
    if len(counts) != len(names) or min(counts) < 0:
        raise ValueError(f"counts must hold one number >= 0 for each of {', '.join(names)}, got {list(counts)}")
    labels = np.repeat(np.arange(len(names)), counts)
    cohorts = [_cohort(derive(seed, "draw"), label, count) for label, count in enumerate(counts)]
    persons, sides = (np.concatenate([cohort[part] for cohort in cohorts]) for part in (0, 1))
    groups = np.array([f"draw-{seed}-{person}" for person in persons], dtype=str)
    ids = np.array([f"draw/{seed}/{p}_{SIDES[s]}" for p, s in zip(persons, sides, strict=True)], dtype=str)
    return ImageSet(paint(labels, persons, sides, config=config), labels, groups, ids, names)


def paint(labels: np.ndarray, persons: np.ndarray, sides: np.ndarray, *, config: Phantom.Config) -> np.ndarray:
    """Paint uint8 (N, size_px, size_px, 3); image i depends on its own row and on the law in `config` alone.

    labels: int (N,) into `config.class_names`. persons: int64 (N,) seeds >= 0. sides: int (N,), 0 left or 1 right.
    """
    size = config.size_px
    pixels = np.empty((len(labels), size, size, 3), dtype=np.uint8)
    step = max(1, _BLOCK_PIXELS // size**2)
    for start in range(0, len(labels), step):
        rows = slice(start, start + step)
        pixels[rows] = _paint_block(labels[rows], persons[rows], sides[rows], config)
    return pixels


def _cohort(seed: int, label: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(person seeds, sides) of `count` eyes of class `label`, two by two."""
    persons = [derive(seed, "person", label, i) for i in range((count + 1) // 2)]
    return np.repeat(np.array(persons, dtype=np.int64), 2)[:count], np.arange(count) % 2


class _Uniforms:
    """Rows of uniform numbers in [0, 1), one row for each image, handed out column by column: no draw is used twice."""

    def __init__(self, rows: list[np.ndarray]) -> None:
        self._rows = np.stack(rows)
        self._next = 0

    def take(self, low: float, high: float, *shape: int) -> np.ndarray:
        """float32 (N, *shape) in [low, high)."""
        count = int(np.prod(shape, dtype=int))
        columns = self._rows[:, self._next : self._next + count]
        assert columns.shape[1] == count, "more uniforms asked for than drawn"
        self._next += count
        return np.asarray(low + (high - low) * columns, dtype=np.float32).reshape(-1, *shape)


def _paint_block(labels: np.ndarray, persons: np.ndarray, sides: np.ndarray, config: Phantom.Config) -> np.ndarray:
    size = config.size_px
    eye_rngs = [np.random.default_rng([int(p), int(s)]) for p, s in zip(persons, sides, strict=True)]
    person = _Uniforms([np.random.default_rng([int(p)]).random(60) for p in persons])
    eye = _Uniforms([rng.random(320) for rng in eye_rngs])
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    mirror = np.where(sides == 0, 1.0, -1.0).astype(np.float32)

    disc = np.stack([mirror * person.take(0.38, 0.52), person.take(-0.08, 0.08)], axis=1) + eye.take(-0.03, 0.03, 2)
    macula = np.stack([disc[:, 0] - mirror * 0.62, disc[:, 1] + 0.06], axis=1)
    x_NCHW = _background(axis, person, eye)
    _blend_disc(x_NCHW, axis, disc, person)
    x_NCHW *= (1.0 - 0.35 * _blob(axis, macula, np.float32(0.16)))[:, None]
    x_NCHW *= 1.0 - _tinted(_vessels(disc, mirror, size, person, eye), (0.30, 0.62, 0.50))
    _add_lesions(x_NCHW, axis, labels, macula, config, eye)
    radius = np.sqrt(axis[None, :] ** 2 + axis[:, None] ** 2)
    x_NCHW *= np.clip((0.95 - radius) * (size / 2) + 0.5, 0.0, 1.0)
    for image, rng in zip(x_NCHW, eye_rngs, strict=True):
        image += 0.018 * rng.standard_normal(image.shape, dtype=np.float32)
    x_NCHW *= 255.0
    return np.asarray(np.rint(np.clip(x_NCHW, 0.0, 255.0)).astype(np.uint8).transpose(0, 2, 3, 1))


def _background(axis: np.ndarray, person: _Uniforms, eye: _Uniforms) -> np.ndarray:
    """Pigment of the person times light of the eye: float32 (N, 3, H, W)."""
    pigment = np.array([0.68, 0.36, 0.17], np.float32) * person.take(0.82, 1.18, 1) * person.take(0.9, 1.1, 3)
    centre = eye.take(-0.3, 0.3, 2)
    light = eye.take(0.85, 1.1)[:, None, None] * (0.62 + 0.38 * _blob(axis, centre, eye.take(0.6, 1.0)))
    coarse = eye.take(-1.0, 1.0, 8, 8)
    spread = _interpolation(len(axis), 8)
    texture = 1.0 + 0.10 * np.matmul(np.matmul(spread, coarse), spread.T)
    return np.asarray((light * texture)[:, None] * pigment[:, :, None, None], dtype=np.float32)


def _blend_disc(x_NCHW: np.ndarray, axis: np.ndarray, disc: np.ndarray, person: _Uniforms) -> None:
    """Optic disc and its paler cup, with soft rims."""
    radius, cup = person.take(0.13, 0.18), person.take(0.35, 0.6)
    distance = _squared_distance(axis, disc)
    for scale, strength, colour in ((radius, 0.75, (0.95, 0.72, 0.42)), (radius * cup, 0.6, (1.0, 0.92, 0.72))):
        inside = distance / (scale * scale)[:, None, None]
        inside = strength / (1.0 + inside * inside * inside)
        x_NCHW *= 1.0 - inside[:, None]
        x_NCHW += _tinted(inside, colour)


def _vessels(disc: np.ndarray, mirror: np.ndarray, size: int, person: _Uniforms, eye: _Uniforms) -> np.ndarray:
    """Opacity of the vessel tree, float32 (N, H, W) in [0, 1): four bent trunks, and branches that leave them."""
    t = ((np.arange(size, dtype=np.float32) + 0.5) / size).astype(np.float32)
    lean = np.array([2.1, -2.1, 0.9, -0.9], np.float32) + person.take(-0.25, 0.25, 4) + eye.take(-0.08, 0.08, 4)
    bend = np.array([1.5, -1.5, -0.5, 0.5], np.float32) * person.take(0.7, 1.3, 4)
    wiggle, phase = person.take(0.1, 0.45, 1), eye.take(0.0, 6.28, _TRUNKS)
    angle = lean[..., None] + bend[..., None] * t + wiggle[..., None] * np.sin(9.0 * t + phase[..., None])
    trunks = _walk(disc[:, None, :], angle, np.float32(1.25), mirror)

    parent = np.arange(_BRANCHES) % _TRUNKS
    leave = (person.take(0.12, 0.75, _BRANCHES) * size).astype(np.int64)
    rows = np.arange(len(disc))[:, None]
    turn = person.take(0.4, 0.9, _BRANCHES) * np.sign(person.take(-1.0, 1.0, _BRANCHES))
    start, heading = trunks[rows, parent, leave], angle[rows, parent, leave] + turn
    curl = eye.take(-0.8, 0.8, _BRANCHES)
    branches = _walk(start, heading[..., None] + curl[..., None] * t, np.float32(0.55), mirror)
    density = _trace(trunks, 1.25 * (1.0 - 0.6 * t), 0.016, size) + _trace(branches, 0.4 * (1.0 - 0.6 * t), 0.010, size)
    return np.asarray(1.0 - np.exp(-density), dtype=np.float32)


def _walk(start: np.ndarray, angle: np.ndarray, length: np.float32, mirror: np.ndarray) -> np.ndarray:
    """Points (N, V, T, 2) of vessels (N, V) that head along `angle` (N, V, T) from `start`; mirror flips x."""
    step = np.stack([np.cos(angle) * mirror[:, None, None], np.sin(angle)], axis=-1) * (length / angle.shape[-1])
    return np.asarray(start[:, :, None, :] + np.cumsum(step, axis=2), dtype=np.float32)


def _trace(points: np.ndarray, weight: np.ndarray, width: float, size: int) -> np.ndarray:
    """Splat points (N, V, T, 2) with `weight` (T,) bilinearly, then blur by `width` (share of the image): (N, H, W)."""
    place = np.clip((points + 1.0) * (size / 2) - 0.5, 0.0, size - 1.001)
    corner = place.astype(np.int64)
    near = place - corner
    base = np.arange(len(points))[:, None, None] * size**2 + corner[..., 1] * size + corner[..., 0]
    density = np.zeros(len(points) * size**2)
    for dx in (0, 1):
        for dy in (0, 1):
            share = np.abs(1 - dx - near[..., 0]) * np.abs(1 - dy - near[..., 1]) * weight
            density += np.bincount((base + dy * size + dx).ravel(), share.ravel(), minlength=len(density))
    field = density.astype(np.float32).reshape(-1, size, size)
    for side in (1, 2):
        field = gaussian_filter1d(field, width * size, axis=side, truncate=3.0, mode="constant")
    return np.asarray(field)


def _add_lesions(
    x_NCHW: np.ndarray, axis: np.ndarray, labels: np.ndarray, macula: np.ndarray, config: Phantom.Config, eye: _Uniforms
) -> None:
    """Spots of the class, and spots that mean nothing. Harder: fewer, fainter lesions, more of the latter."""
    hard = config.difficulty
    names = np.array(config.class_names)[labels]
    count = eye.take(4.0, 16.0) * (1.0 - 0.75 * hard)
    shown = (np.arange(_LESIONS) < count[:, None]) * eye.take(0.5, 1.0, _LESIONS) * (1.0 - 0.92 * hard)
    turn, reach = eye.take(0.0, 6.2832, _LESIONS), eye.take(0.0, 1.0, _LESIONS)
    away = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    spread, size = reach[..., None] ** 0.5 * away, eye.take(0.8, 1.25, _LESIONS)

    near_macula = macula[:, None, :] + 0.42 * spread
    ring = macula[:, None, :] + eye.take(-0.3, 0.3, 2)[:, None, :] + (0.2 + 0.05 * reach[..., None]) * away
    for name, place, radius, amplitude, colour in (
        ("drusen", near_macula, 0.045, 0.55, (0.55, 0.62, 0.25)),
        ("haemorrhages", 0.75 * spread, 0.05, 0.85, (-0.35, -0.22, -0.12)),
        ("exudates", ring, 0.03, 0.85, (0.45, 0.60, 0.42)),
    ):
        strength = shown * amplitude * (names == name)[:, None]
        x_NCHW += _tinted(_spots(axis, place, radius * size, strength), colour)
    _add_distractors(x_NCHW, axis, hard, eye)


def _add_distractors(x_NCHW: np.ndarray, axis: np.ndarray, hard: float, eye: _Uniforms) -> None:
    """Reflexes (bright) and pigment spots (dark) that every class has."""
    for colour in ((0.5, 0.55, 0.35), (-0.32, -0.20, -0.10)):
        place, radius = eye.take(-0.8, 0.8, _DISTRACTORS, 2), eye.take(0.025, 0.06, _DISTRACTORS)
        count = eye.take(0.0, 1.0) * (1.0 + hard * _DISTRACTORS)
        strength = (np.arange(_DISTRACTORS) < count[:, None]) * eye.take(0.1, 0.45, _DISTRACTORS)
        x_NCHW += _tinted(_spots(axis, place, radius, strength), colour)


def _spots(axis: np.ndarray, place: np.ndarray, radius: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Sum of Gaussian spots: place (N, L, 2), radius and strength (N, L) -> float32 (N, H, W)."""
    scale = -0.5 / (radius * radius)[..., None]
    across = np.exp(scale * (axis - place[..., :1]) ** 2)
    down = np.exp(scale * (axis - place[..., 1:]) ** 2) * strength[..., None]
    return np.asarray(np.matmul(down.transpose(0, 2, 1), across), dtype=np.float32)


def _blob(axis: np.ndarray, centre: np.ndarray, radius: np.ndarray | np.float32) -> np.ndarray:
    """One Gaussian per image, 1 at its centre: (N, H, W)."""
    wide = np.broadcast_to(np.asarray(radius, dtype=np.float32), (len(centre),))[:, None]
    return _spots(axis, centre[:, None, :], wide, np.ones_like(wide))


def _tinted(field: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    """A field (N, H, W) times a colour: (N, 3, H, W)."""
    return np.asarray(field[:, None] * np.array(colour, np.float32)[:, None, None])


def _squared_distance(axis: np.ndarray, centre: np.ndarray) -> np.ndarray:
    across, down = axis - centre[:, :1], axis - centre[:, 1:]
    return np.asarray(across[:, None, :] ** 2 + down[:, :, None] ** 2)


def _interpolation(size: int, knots: int) -> np.ndarray:
    """Linear interpolation from `knots` values to `size` pixels: float32 (size, knots), rows sum to 1."""
    place = np.linspace(0.0, knots - 1.0, size, dtype=np.float32)
    return np.clip(1.0 - np.abs(place[:, None] - np.arange(knots, dtype=np.float32)), 0.0, 1.0)
