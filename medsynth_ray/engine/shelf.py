"""The shelf: one actor that puts arrays of the store into Ray's object store, once, for all trials of all nodes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import ray
import ray.exceptions

from medsynth_ray.engine.bench import load_npy
from medsynth_ray.engine.store import Record, Store

_MOST = 200
"""Arrays kept; the least used goes first."""


@ray.remote(num_cpus=0)
class ShelfActor:
    """Holds one reference for each array it was asked for."""

    def __init__(self, url: str) -> None:
        self._store = Store(url)
        self._refs: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def ref(self, record: Record, name: str) -> list[Any]:
        """[reference] to the array; in a list, so that Ray hands over the reference and not a copy."""
        place = (f"{record['kind']}/{record['key']}", name)
        if place not in self._refs:
            self._refs[place] = ray.put(load_npy(self._store.file(record, name)))
            while len(self._refs) > _MOST:
                self._refs.popitem(last=False)
        self._refs.move_to_end(place)
        return [self._refs[place]]


class RayShelf:
    """A worker's view of the shelf: arrays are read-only and not copied. Small ones are read from the store."""

    def __init__(self, actor: Any, store: Store) -> None:
        self._actor, self._store = actor, store

    def array(self, record: Record, name: str) -> np.ndarray:
        """The `.npy` file of a unit, read-only."""
        slim = {k: record[k] for k in ("kind", "key", "attempt", "files")}
        try:
            array: np.ndarray = ray.get(ray.get(self._actor.ref.remote(slim, name))[0])
        except ray.exceptions.RayError:  # the actor or its node is gone: the store still has it
            return load_npy(self._store.file(record, name))
        return array
