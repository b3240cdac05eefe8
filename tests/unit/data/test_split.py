from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsynth_ray.data.split import share_of_groups, split_groups, torn_groups
from medsynth_ray.errors import AuditError

SHARES = {"val_share": 0.2, "test_share": 0.3}


def cohort(seed: int, num_groups: int, num_classes: int, mixed_share: float) -> tuple[np.ndarray, np.ndarray]:
    """Groups of one to four images; a share of them holds labels at random."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, num_groups)
    groups = np.repeat(np.arange(num_groups), sizes)
    weights = 0.5 ** np.arange(num_classes)
    per_group = rng.choice(num_classes, num_groups, p=weights / weights.sum())
    labels = np.where(
        rng.random(len(groups)) < mixed_share, rng.integers(0, num_classes, len(groups)), per_group[groups]
    )
    return np.array([f"class{c}" for c in labels]), np.array([f"g{g}" for g in groups])


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    num_groups=st.integers(60, 200),
    num_classes=st.integers(2, 4),
    mixed_share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_groups_stay_whole_and_shares_are_kept(
    seed: int, num_groups: int, num_classes: int, mixed_share: float
) -> None:
    labels, groups = cohort(seed, num_groups, num_classes, mixed_share)
    if min(len(set(groups[labels == c])) for c in set(labels)) < 6:
        return
    splits = split_groups(labels, groups, **SHARES, seed=seed)
    assert torn_groups(groups, splits) == {}
    for split, share in (("train", 0.5), ("val", 0.2), ("test", 0.3)):
        assert abs((splits == split).mean() - share) <= 8 / len(labels)
        for name in set(labels):
            of_class = labels == name
            assert abs((splits[of_class] == split).mean() - share) <= 8 / of_class.sum()


def test_single_images_hit_the_shares_exactly() -> None:
    labels = np.repeat(["a", "b"], [100, 40])
    splits = split_groups(labels, np.arange(140).astype(str), **SHARES, seed=0)
    counts = {s: [int((splits[labels == c] == s).sum()) for c in "ab"] for s in ("train", "val", "test")}
    assert counts == {"train": [50, 20], "val": [20, 8], "test": [30, 12]}


def test_same_seed_same_split_and_another_seed_another() -> None:
    labels, groups = cohort(0, 100, 3, 0.2)
    first, again, other = (split_groups(labels, groups, **SHARES, seed=s) for s in (7, 7, 8))
    assert (first == again).all()
    assert (first != other).mean() > 0.3


def test_order_of_the_images_does_not_matter() -> None:
    labels, groups = cohort(1, 80, 3, 0.2)
    turned = np.random.default_rng(0).permutation(len(labels))
    whole = split_groups(labels, groups, **SHARES, seed=3)
    assert (split_groups(labels[turned], groups[turned], **SHARES, seed=3) == whole[turned]).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_three_groups_is_in_every_split(seed: int) -> None:
    labels = np.array(["common"] * 60 + ["rare"] * 6)
    groups = np.array([f"c{i}" for i in range(60)] + [f"r{i // 2}" for i in range(6)])
    splits = split_groups(labels, groups, val_share=0.05, test_share=0.1, seed=seed)
    assert set(splits[60:]) == {"train", "val", "test"}


def test_a_class_of_two_groups_is_named() -> None:
    labels = np.array(["common"] * 30 + ["rare"] * 8)
    groups = np.array([f"c{i}" for i in range(30)] + [f"r{i // 4}" for i in range(8)])
    with pytest.raises(
        AuditError, match=r"class 'rare' lies in 2 group\(s\), too few for one in each of train, val, test"
    ):
        split_groups(labels, groups, **SHARES, seed=0)


def given_split() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.array(["a", "b"] * 50)
    groups = np.array([f"g{i // 4}" for i in range(100)])
    return labels, groups, np.where(np.arange(100) < 60, "train", np.where(np.arange(100) < 80, "val", "test"))


def test_a_complete_given_split_is_kept() -> None:
    labels, groups, splits = given_split()
    assert (split_groups(labels, groups, **SHARES, seed=0, given=splits) == splits).all()


def test_val_is_cut_from_train_by_groups_where_it_is_missing() -> None:
    labels, groups, splits = given_split()
    splits[splits == "val"] = "train"
    cut = split_groups(labels, groups, val_share=0.2, test_share=0.2, seed=0, given=splits)
    assert (cut[80:] == "test").all()
    assert (cut[:80] == "val").sum() == 20  # 0.2 / (1 - 0.2) of 80
    assert torn_groups(groups, cut) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: np.concatenate([s[:57], ["test"], s[58:]]),
            r"1 group\(s\) are torn by the given split, such as 'g14' \(test and train\)",
        ),
        (lambda s: np.where(s == "test", "train", s), "the given split has no test; set split.given: ignore"),
    ],
)
def test_a_given_split_that_cannot_be_kept_says_why(change, message: str) -> None:
    labels, groups, splits = given_split()
    with pytest.raises(AuditError, match=message):
        split_groups(labels, groups, **SHARES, seed=0, given=change(splits))


def test_a_given_split_without_a_class_names_it() -> None:
    labels, groups, splits = given_split()
    labels[splits == "val"] = "a"
    with pytest.raises(AuditError, match="every split needs every class, but val has none of class 'b'"):
        split_groups(labels, groups, **SHARES, seed=0, given=splits)


def as_numbers(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1]


@given(seed=st.integers(0, 50), share=st.floats(0.02, 1.0), more=st.floats(0.02, 1.0))
@settings(max_examples=40)
def test_a_share_is_of_whole_groups_holds_every_class_and_lies_in_a_larger_one(
    seed: int, share: float, more: float
) -> None:
    labels, groups = cohort(seed, 60, 3, 0.2)
    few, many = sorted((share, more))
    small, large = (share_of_groups(as_numbers(labels), groups, s, seed) for s in (few, many))
    assert set(labels[small]) == set(labels)
    assert not set(groups[small]) & set(groups[~small])
    assert not (small & ~large).any()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_a_share_takes_about_that_much_of_every_class(share: float) -> None:
    labels, groups = cohort(1, 3000, 3, 0.1)
    chosen = share_of_groups(as_numbers(labels), groups, share, seed=0)
    for name in np.unique(labels):
        assert chosen[labels == name].mean() == pytest.approx(share, abs=0.03)
