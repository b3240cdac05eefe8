"""What decides the output of a component: its settings, and the content of what it needs. Imports no ray."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec

from medsynth_ray import registry
from medsynth_ray.errors import ConfigError, WeightsMissing
from medsynth_ray.protocols import Circuits, Features, Files, Fitted, Need, Spec, Weights


def component_identity(role: str, spec: Spec, *, baseline: Spec) -> dict[str, Any]:
    """Name, version and settings of a component, and the content of what it needs.

    baseline: the sweep's classifier, which is what a component gets that needs one.

    Raises:
        ConfigError: unknown component or setting.
        WeightsMissing: a weights file is not there.
    """
    config = registry.configure(role, spec)
    return {
        "role": role, "use": spec.use, "version": type(config).component.version, "config": config.identity(),
        "needs": [_need_identity(need, baseline) for need in config.needs()],
    }  # fmt: skip


def _need_identity(need: Need, baseline: Spec) -> Any:
    match need:
        case Features(space):
            return ["features", component_identity("spaces", space, baseline=baseline)]
        case Weights(name):
            return ["weights", file_sha256(local_weights(name))]
        case Files(root):
            return ["files", tree_sha256(root)]
        case Fitted(generator):
            return ["fitted", generator and component_identity("generators", generator, baseline=baseline)]
        case Circuits(runner):
            return ["circuits", runner.model_dump(mode="json")]
        case _:
            return ["baseline", component_identity("classifiers", baseline, baseline=baseline)]


def local_weights(name: str) -> Path:
    """The local path of weights.

    Raises:
        WeightsMissing: there is no such file.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise WeightsMissing(f"weights file {str(path)!r} does not exist")
    return path


def file_sha256(path: Path) -> str:
    """sha256 of a local file; read again only when its size or time of change moved."""
    state = path.stat()
    return _file_sha256(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _file_sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
