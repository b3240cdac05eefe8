"""Weights of a sweep: found before anything runs, and carried through the store to nodes that lack the file.

In the store they are units of the kind weights, whose key is made of the file's sha256. Imports no ray.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from medsynth_ray import registry
from medsynth_ray.config import SweepConfig
from medsynth_ray.engine.store import Store, Unit, canonical
from medsynth_ray.errors import ConfigError, StoreError, WeightsMissing
from medsynth_ray.protocols import Features, Fitted, GeneratorConfig, Spec, Weights
from medsynth_ray.sections import GeneratorArm
from medsynth_ray.space import Choice
from medsynth_ray.weights import cache_folder, file_sha256, resolve, stored

_BLOCK_BYTES = 1 << 22


def needed(config: SweepConfig) -> dict[str, Path]:
    """Every weights that the components of a sweep declare, as they name them -> the file on this machine.

    Raises:
        WeightsMissing: one is not on this machine.
    """
    names = {name for role, spec in _components(config) for name in _names(role, spec)}
    return {name: resolve(name) for name in sorted(names)}


def handed_out(config: SweepConfig, store: Store) -> dict[str, str]:
    """Name -> sha256 of every weights of a sweep, for its workers; in the store where some may be on other nodes.

    Raises:
        WeightsMissing: one is not on this machine.
        StoreError: the store cannot be written.
    """
    several_nodes = not store.local or bool(config.runtime.address or os.environ.get("RAY_ADDRESS"))
    files = needed(config)
    return {name: publish(store, path) if several_nodes else file_sha256(path) for name, path in files.items()}


def located(store: Store, name: str, sha256: str | None) -> Path:
    """A file of this node: the one that `name` stands for here if it has that sha256, else that of the store.

    sha256: None where nobody handed it out, so that only this machine is looked at.

    Raises:
        WeightsMissing: it is neither here nor in the store.
    """
    if sha256 is None:
        return resolve(name)
    try:
        path = resolve(name)
    except WeightsMissing:
        return fetch(store, sha256, cache_folder())
    return path if file_sha256(path) == sha256 else fetch(store, sha256, cache_folder())


def publish(store: Store, path: Path) -> str:
    """Put a file into the store unless it is there, streamed; returns its sha256.

    Raises:
        StoreError: the store cannot be written, or the file changed meanwhile.
    """
    sha256 = file_sha256(path)
    unit = _unit(sha256)
    if store.record(unit) is None:
        attempt = uuid.uuid4().hex
        started = time.time()
        _upload(store, path, f"{unit.path}/{attempt}/{path.name}", sha256)
        record = {
            "kind": unit.kind, "key": unit.key, "inputs": unit.inputs, "attempt": attempt,
            "files": {path.name: sha256}, "result": {"num_bytes": path.stat().st_size},
            "meta": {"started": round(started, 3), "seconds": round(time.time() - started, 3)},
        }  # fmt: skip
        store.create_exclusive(f"{unit.path}/record.json", canonical(record))
    return sha256


def fetch(store: Store, sha256: str, cache: Path) -> Path:
    """The published file of that sha256 on this node: `<cache>/<sha256>/<filename>`, checked, downloaded once.

    Raises:
        WeightsMissing: nobody published it.
        StoreError: what is in the store is another file.
    """
    record = store.record(_unit(sha256))
    if record is None:
        raise WeightsMissing(f"weights of sha256 {sha256} are neither on this node nor in the store {store.url}")
    (name,) = record["files"]
    path = cache / sha256 / Path(name).name
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{sha256}.lock"):  # the other workers of a node wait for the one that downloads
        if path.is_file() and file_sha256(path) == sha256:
            return path
        full = store.at(f"{record['kind']}/{record['key']}/{record['attempt']}/{name}")
        try:
            with store.fs.open(full, "rb") as source:
                return stored(source, cache, path.name, sha256=sha256, what=full)
        except (ConfigError, FileNotFoundError) as error:
            where = store.at(f"{record['kind']}/{record['key']}")
            raise StoreError(f"{error}; delete {where} to have it published again") from error


def _unit(sha256: str) -> Unit:
    return Unit("weights", {"sha256": sha256})


def _upload(store: Store, path: Path, target: str, sha256: str) -> None:
    full, sha = store.at(target), hashlib.sha256()
    try:
        store.fs.makedirs(os.path.dirname(full), exist_ok=True)
        with path.open("rb") as source, store.fs.open(full, "wb") as file:
            while block := source.read(_BLOCK_BYTES):
                sha.update(block)
                file.write(block)
            if store.local:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(f"cannot write {full}: {error}") from error
    if sha.hexdigest() != sha256:
        raise StoreError(f"weights {path} changed while they were copied to the store; run again")


def _names(role: str, spec: Spec) -> set[str]:
    """Weights that a component or what it needs declares."""
    found: set[str] = set()
    for need in registry.configure(role, spec).needs():
        match need:
            case Weights(name):
                found.add(name)
            case Features(space):
                found |= _names("spaces", space)
            case Fitted(Spec() as generator):
                found |= _names("generators", generator)
    return found


def _components(config: SweepConfig) -> Iterator[tuple[str, Spec]]:
    """(role, spec) of everything that trials build; controls are made from real images and need no weights."""
    for label, arm in config.generators.items():
        yield from (("generators", spec) for spec in _settings(arm))
        yield "samplers", arm.sampler
        yield from (("gates", gate) for gate in config.gates_of(label).values())
    fit = config.fit
    yield from (("metrics", metric) for metric in (fit.quality.metric, *fit.metrics.values()))
    yield from (("spaces", space) for space in (fit.quality.space, *fit.spaces.values()))
    yield from (("mixers", mixer) for mixer in config.mix.mixers.values())
    yield from (("classifiers", classifier) for classifier in (config.mix.classifier, config.confirm.classifier))


def _settings(arm: GeneratorArm) -> Iterator[Spec]:
    """A generator's settings, and those with each other choice of one field: a search may choose among weights."""
    spec = Spec(use=arm.use, config=arm.config)
    yield spec
    if arm.search is None:
        return
    generator = registry.configure("generators", spec)
    assert isinstance(generator, GeneratorConfig)
    for name, space in (generator.search_space() if arm.search.space is None else arm.search.space).items():
        if isinstance(space, Choice):
            yield from (Spec(use=arm.use, config={**arm.config, name: value}) for value in space.values)
