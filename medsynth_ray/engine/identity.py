"""What decides the output of a component: its settings, and the content of what it needs. Imports no ray."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import fsspec

from medsynth_ray import registry
from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import Circuits, Features, Files, Fitted, Need, Spec, Weights
from medsynth_ray.weights import file_sha256, resolve


def component_identity(
    role: str, spec: Spec, *, baseline: Spec, weights: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Name, version and settings of a component, and the content of what it needs.

    baseline: the sweep's classifier, which is what a component gets that needs one. weights: sha256 of weights whose
    file need not be here, by name.

    Raises:
        ConfigError: unknown component or setting.
        WeightsMissing: a weights file is not there.
    """
    config = registry.configure(role, spec)
    return {
        "role": role, "use": spec.use, "version": type(config).component.version, "config": config.identity(),
        "needs": [_need_identity(need, baseline, weights or {}) for need in config.needs()],
    }  # fmt: skip


def _need_identity(need: Need, baseline: Spec, weights: Mapping[str, str]) -> Any:
    def identity(role: str, spec: Spec) -> dict[str, Any]:
        return component_identity(role, spec, baseline=baseline, weights=weights)

    match need:
        case Features(space):
            return ["features", identity("spaces", space)]
        case Weights(name):
            return ["weights", weights.get(name) or file_sha256(resolve(name))]
        case Files(root):
            return ["files", tree_sha256(root)]
        case Fitted(generator):
            return ["fitted", generator and identity("generators", generator)]
        case Circuits(runner):
            return ["circuits", runner.model_dump(mode="json")]
        case _:
            return ["baseline", identity("classifiers", baseline)]


def tree_sha256(root: str) -> str:
    """sha256 over names and contents of all files below `root` (any fsspec URL); kept while the listing stands.

    Raises:
        ConfigError: no such folder, or no file in it.
    """
    fs, base = fsspec.core.url_to_fs(os.path.expanduser(root))
    fs.invalidate_cache()
    found = fs.find(base, detail=True)
    if not found:
        raise ConfigError(f"folder {root!r} does not exist or holds no file")
    stamps = [(name, repr([found[name].get(k) for k in ("size", "mtime", "ETag", "etag")])) for name in sorted(found)]
    return _tree_sha256(root, tuple(stamps))


@lru_cache(maxsize=16)
def _tree_sha256(root: str, stamps: tuple[tuple[str, str], ...]) -> str:
    fs, base = fsspec.core.url_to_fs(os.path.expanduser(root))
    files = [name for name, _ in stamps]
    sha = hashlib.sha256()
    for name in files:
        sha.update(name[len(base) :].encode() + hashlib.sha256(fs.cat_file(name)).digest())
    return sha.hexdigest()
