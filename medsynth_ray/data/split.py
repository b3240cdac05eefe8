"""Train, val and locked test: disjoint by group, stratified by class, every class in each.

A greedy assignment (after Sechidis et al. 2011, "On the stratification of multi-label data"): first every split gets
one group of every class, rarest classes first; then each group, most uneven first and shuffled among equals, goes where
it lowers most the squared deviation from the wanted shares of all classes. scikit-learn's StratifiedGroupKFold knows
only equal folds and has no floor for rare classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medsynth_ray.errors import AuditError

SPLITS = ("train", "val", "test")


def split_groups(
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    val_share: float,
    test_share: float,
    seed: int,
    given: np.ndarray | None = None,
) -> np.ndarray:
    """Name the split of each image: str (N,) of train, val, test.

    labels, groups: str (N,). given: str (N,) of train, val, test, which is kept; where it has no val, a share of
    val_share / (1 - test_share) is cut from train.

    Raises:
        AuditError: a class would be missing from a split; or `given` tears a group apart, or has no train or no test.
    """
    if given is None:
        shares = {"train": 1.0 - val_share - test_share, "val": val_share, "test": test_share}
        splits = _assign(labels, groups, shares, seed)
    else:
        splits = _keep(labels, groups, given, val_share / (1.0 - test_share), seed)
    classes = set(map(str, labels))
    lacks = {split: sorted(classes - set(map(str, labels[splits == split]))) for split in SPLITS}
    missing = [f"{split} has none of class {name!r}" for split, names in lacks.items() for name in names]
    if missing:
        raise AuditError(f"every split needs every class, but {', '.join(missing)}")
    return splits


def share_of_groups(labels: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose about `share` of the images of every class, whole groups, at least one of each class: bool (N,).

    labels int64 (N,), groups str (N,). With one seed a smaller share is part of a larger one: each group has a place in
    the queue of its rarest class, and the queues are taken from the front.
    """
    counts, member = _group_counts(labels, groups)
    rarest_first = np.argsort(counts.sum(axis=0), kind="stable")
    queue_of = rarest_first[np.argmax(counts[:, rarest_first] > 0, axis=1)]
    order = np.random.default_rng(seed).permutation(len(counts))
    place = np.empty(len(counts))
    for c in range(counts.shape[1]):
        queue = order[queue_of[order] == c]
        sizes = counts[queue].sum(axis=1)
        # A group is in where its middle is: the first one of a queue is in for its front.
        place[queue] = (np.cumsum(sizes) - sizes / 2) / max(1, sizes.sum())
        place[queue[:1]] = 0.0
    chosen = place <= share
    for c in range(counts.shape[1]):
        if not (counts[chosen, c] > 0).any():
            holders = order[counts[order, c] > 0]
            chosen[holders[np.argmin(place[holders])]] = True
    mask: np.ndarray = chosen[member]
    return mask


def torn_groups(groups: np.ndarray, given: np.ndarray) -> dict[str, str]:
    """Groups that lie in several of the given splits: group -> `test and train`."""
    pairs = sorted(set(zip(map(str, groups), map(str, given), strict=True)))
    found: dict[str, list[str]] = {}
    for group, split in pairs:
        found.setdefault(group, []).append(split)
    return {group: " and ".join(splits) for group, splits in found.items() if len(splits) > 1}


def _keep(labels: np.ndarray, groups: np.ndarray, given: np.ndarray, val_share: float, seed: int) -> np.ndarray:
    torn = torn_groups(groups, given)
    if torn:
        group, where = next(iter(torn.items()))
        which = f"such as {group!r} ({where})"
        raise AuditError(f"{len(torn)} group(s) are torn by the given split, {which}; set split.given: ignore")
    absent = {"train", "test"} - set(map(str, given))
    if absent:
        names = " and no ".join(sorted(absent))
        raise AuditError(f"the given split has no {names}; set split.given: ignore to make a new one")
    splits: np.ndarray = given.astype("<U5")
    if "val" not in given:
        train = np.flatnonzero(given == "train")
        splits[train] = _assign(labels[train], groups[train], {"train": 1.0 - val_share, "val": val_share}, seed)
    return splits


def _assign(labels: np.ndarray, groups: np.ndarray, shares: dict[str, float], seed: int) -> np.ndarray:
    """The greedy of the module's docstring."""
    counts, member = _group_counts(labels, groups)
    names, wanted = list(shares), np.array(list(shares.values()))
    part_of_class = counts / counts.sum(axis=0)
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    place = _floor(counts, shuffled, names, np.unique(labels))
    missing = wanted[:, None] - np.stack([part_of_class[place == s].sum(axis=0) for s in range(len(names))])
    order = shuffled[np.argsort(-counts.std(axis=1)[shuffled], kind="stable")]
    for group in order[place[order] < 0]:
        best = int(np.argmax(missing @ part_of_class[group]))
        place[group] = best
        missing[best] -= part_of_class[group]
    splits: np.ndarray = np.array(names, dtype="<U5")[place[member]]
    return splits


def _group_counts(labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(images of each class in each group, int (G, K); group of each image, int (N,))."""
    (_, of_class), (unique, member) = (np.unique(names, return_inverse=True) for names in (labels, groups))
    counts = np.zeros((len(unique), int(of_class.max()) + 1), dtype=np.int64)
    np.add.at(counts, (member, of_class), 1)
    return counts, member


def _floor(counts: np.ndarray, shuffled: np.ndarray, names: Sequence[str], classes: np.ndarray) -> np.ndarray:
    """Give every split one group of every class: split index of each group, -1 where still free.

    Raises:
        AuditError: a class lies in too few groups.
    """
    place = np.full(len(counts), -1)
    for c in np.argsort((counts > 0).sum(axis=0), kind="stable"):
        for s in reversed(range(len(names))):
            holders = shuffled[counts[shuffled, c] > 0]
            if (place[holders] == s).any():
                continue
            free = holders[place[holders] < 0]
            if not len(free):
                raise AuditError(
                    f"class {str(classes[c])!r} lies in {len(holders)} group(s), too few for one in each of "
                    f"{', '.join(names)}: add images of other patients, merge the class with another or leave it out"
                )
            place[free[np.argmin(counts[free].sum(axis=1))]] = s
    return place
