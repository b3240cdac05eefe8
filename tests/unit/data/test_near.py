"""Near duplicates: altered copies are found, other images are not, whatever runs around them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from medsynth_ray.data._near import NearPair, _align, _standard, _warp, families, find_pairs, print_of
from medsynth_ray.data.audit import joined_groups, near_findings

NUM = 60


def picture(seed: int, size: int = 160) -> Image.Image:
    """A bright disc on black with structure of its own, as a fundus photograph has."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.normal(size=(n, n)).astype(np.float32)).resize((size, size))) for n in (6, 24)
    ]
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    gray = np.where(x**2 + y**2 < 0.9, np.clip(130 + 30 * layers[0] + 25 * layers[1], 25, 230), 0)
    return Image.fromarray(gray.astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def cut(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    w, h = image.size
    return image.crop((round(left * w), round(top * h), round((1 - right) * w), round((1 - bottom) * h)))


ALTERED: dict[str, tuple[Callable[[Image.Image], Image.Image], str]] = {
    "JPEG of quality 50": (lambda i: jpeg(i, 50), "upright"),
    "half the size": (lambda i: i.resize((80, 80)), "upright"),
    "another aspect": (lambda i: i.resize((160, 120)), "upright"),
    "mirrored": (lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "mirrored left-right"),
    "on its head": (lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM), "mirrored top-bottom"),
    "turned by 180 degrees": (lambda i: i.rotate(180), "upside down"),
    "5 % cut off all around": (lambda i: cut(i, 0.05, 0.05, 0.05, 0.05), "upright"),
    "5 % cut off two sides": (lambda i: cut(i, 0.05, 0.05, 0, 0), "upright"),
    "darker": (lambda i: ImageEnhance.Brightness(i).enhance(0.75), "upright"),
    "less contrast": (lambda i: ImageEnhance.Contrast(i).enhance(0.75), "upright"),
    "mirrored, cut and JPEG": (
        lambda i: jpeg(cut(i.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 0.02, 0.02, 0.02, 0.02), 60),
        "mirrored left-right",
    ),
}


@pytest.fixture(scope="module")
def prints() -> np.ndarray:
    return np.stack([print_of(picture(seed)) for seed in range(NUM)])


def test_different_images_of_one_device_are_no_pairs(prints: np.ndarray) -> None:
    assert find_pairs(prints) == []


@pytest.mark.parametrize("kind", ALTERED)
def test_altered_copies_are_found_with_what_was_done(prints: np.ndarray, kind: str) -> None:
    alter, turn = ALTERED[kind]
    copies = np.stack([print_of(alter(picture(seed))) for seed in range(5)])
    pairs = find_pairs(np.concatenate([prints, copies]))
    assert [(p.first, p.second, p.turn) for p in pairs] == [(seed, NUM + seed, turn) for seed in range(5)]
    assert min(p.score for p in pairs) >= 0.9


CROPS = ((0.0, 0.0, 0.0, 0.0), (0.05, 0.05, 0.0, 0.0), (0.0, 0.0, 0.05, 0.05), (0.03, 0.03, 0.03, 0.03))


def test_twelve_copies_of_one_image_are_one_family(prints: np.ndarray) -> None:
    """Copies of one crop are each other's nearest; they must not hide those of the other crops."""
    copies = [print_of(jpeg(cut(picture(NUM), *crop), quality)) for crop in CROPS for quality in (90, 60, 30)]
    pairs = find_pairs(np.concatenate([prints, np.stack(copies)]))
    family = families(NUM + 12, pairs)
    assert len(set(family[NUM:])) == 1
    assert len(set(family)) == NUM + 1


def test_families_are_what_pairs_connect_directly_or_not() -> None:
    family = families(6, [pair(1, 3), pair(0, 5), pair(3, 4)])
    assert [np.flatnonzero(family == number).tolist() for number in np.unique(family)] == [[0, 5], [1, 3, 4], [2]]
    assert families(3, []).tolist() == [0, 1, 2]


@pytest.mark.parametrize("num", [0, 1, 2, 3])
def test_few_images(prints: np.ndarray, num: int) -> None:
    assert find_pairs(prints[:num]) == []


def test_two_copies_alone_are_found(prints: np.ndarray) -> None:
    pairs = find_pairs(np.stack([prints[0], print_of(jpeg(picture(0), 50))]))
    assert [(p.first, p.second) for p in pairs] == [(0, 1)]


@pytest.mark.parametrize("blank", [0, 128, 255])
def test_images_without_contrast_are_never_pairs(prints: np.ndarray, blank: int) -> None:
    assert find_pairs(np.concatenate([prints[:10], np.full((4, 64, 64), blank, dtype=np.uint8)])) == []


def test_faint_images_need_more() -> None:
    """A smooth glow with the same few dust spots is not enough: an opaque lens shows nothing of the patient."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    rng = np.random.default_rng(0)
    glow = [
        128 + 60 * x * rng.uniform(0.5, 1.5) + 50 * y * rng.uniform(0.5, 1.5) + rng.normal(0, 0.7, x.shape)
        for _ in range(20)
    ]
    dust = np.zeros((64, 64))
    dust[[14, 30, 44], [22, 50, 16]] = 6
    assert find_pairs((np.stack(glow) + dust).clip(0, 255).astype(np.uint8)) == []


@pytest.mark.parametrize(("side", "empty"), [(31, True), (32, False)])
def test_tiny_images_leave_no_print(side: int, empty: bool) -> None:
    assert (print_of(picture(0).resize((100, side))).max() == 0) == empty


def test_alignment_recovers_a_known_move() -> None:
    prints = np.stack([print_of(picture(seed)) for seed in range(4)]).astype(np.float32)
    known = np.array([[-0.06, 0.02, -0.03, -0.04], [0.05, 0, 0, 0.03], [0, 0.04, 0, 0], [0, 0, 0, 0]])
    moved = _warp(prints, known)
    rough = _align(moved, prints, np.zeros((4, 4)), smooth_px=2.0, steps=4)
    found = _align(moved, prints, rough, smooth_px=0.0, steps=3)
    assert np.abs(found - known).max() < 0.002
    assert np.abs(_standard(prints).mean(axis=(1, 2))).max() < 1e-5


def test_neighbours_and_order_do_not_change_a_score(prints: np.ndarray) -> None:
    copy = print_of(jpeg(picture(3), 50))[None]
    few, many = find_pairs(np.concatenate([prints[:8], copy])), find_pairs(np.concatenate([prints, copy]))
    assert [p.score for p in few] == [p.score for p in many]
    shuffled = find_pairs(np.concatenate([copy, prints]))
    assert [(p.first, p.second) for p in shuffled] == [(0, 4)]


def pair(first: int, second: int, turn: str = "upright") -> NearPair:
    return NearPair(first, second, turn, 0.9)


def test_findings_list_pairs_with_partners_side_by_side() -> None:
    ids, labels = np.array(list("abcd")), np.array(list("xxxy"))
    groups, given = np.array(["p", "q", "q", "r"]), np.array(["train", "train", "train", "test"])
    found = near_findings(ids, labels, groups, given, [pair(0, 3, "upside down"), pair(1, 2)])
    assert [(f.kind, f.severity, f.ids) for f in found] == [
        ("near_duplicate", "info", ("b", "c")),
        ("near_duplicate", "warn", ("a", "d")),
        ("near_duplicate_labels", "warn", ("a", "d")),
        ("near_duplicate_across_splits", "stop", ("a", "d")),
    ]
    assert found[1].message == (
        "1 pair: near duplicates in different groups, which are now joined: a ~ d (upside down, 0.90)"
    )
    assert "a (train) ~ d (test)" in found[3].message


def test_a_family_across_given_splits_is_named_as_a_whole() -> None:
    ids, same = np.array(list("abcdef")), np.full(6, "x")
    given = np.array(["train", "train", "test", "test", "train", "train"])
    pairs = [pair(0, 1), pair(1, 2), pair(2, 3), pair(4, 5)]
    torn = near_findings(ids, same, ids, given, pairs)[-1]
    assert (torn.kind, torn.ids) == ("near_duplicate_across_splits", ("b", "c", "a", "d"))
    assert "3 pairs" in torn.message
    assert "ignore: b (train) ~ c (test) (0.90), a (train) ~ b (train)" in torn.message


def test_near_duplicates_join_groups_through_chains_of_copies() -> None:
    groups = np.array(["p4", "p3", "p3", "p2", "p1"])
    digests = np.array([b"%016d" % i for i in (1, 1, 2, 3, 4)], dtype="V16")
    assert joined_groups(groups, digests, [pair(2, 3)]).tolist() == ["p2", "p2", "p2", "p2", "p1"]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", ["kermany_cxr", "odir_fundus"])
def test_real_images_of_different_patients_are_not_joined_and_copies_are(name: str) -> None:
    """A sixth of each set, and copies of a hundred."""
    root = Path(os.environ.get("MEDSYNTH_REAL_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")) / name
    if not root.is_dir():
        pytest.skip(f"no real images in {root}")
    files = sorted(f for f in root.rglob("*.jp*g") if int(f.stat().st_size) % 6 == 0)
    images = [Image.open(file).convert("RGB") for file in files]
    prints = np.stack([print_of(image) for image in images])
    _, first = np.unique(prints, axis=0, return_index=True)
    keep = np.sort(first)
    assert find_pairs(prints[keep]) == []
    altered = np.linspace(0, len(keep) - 1, 100).astype(int)
    copies = np.stack([print_of(jpeg(cut(images[keep[i]], 0.02, 0.02, 0.02, 0.02), 60)) for i in altered])
    found = {(p.first, p.second) for p in find_pairs(np.concatenate([prints[keep], copies]))}
    assert sum((row, len(keep) + i) in found for i, row in enumerate(altered)) >= 95
