"""A look at a registered weights file: is it what was registered, and can it be read? Runs nothing that it reads."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsynth_ray.checkpoints import reason
from medsynth_ray.weights import entry, remedy


def check(name: str) -> dict[str, Any]:
    """Read a registered file anew: name, path, state, sha256, registered, num_tensors, said.

    state: missing; changed (another sha256); unreadable; ok.

    Raises:
        ConfigError: no such name.
    """
    found = entry(name)
    row = {"name": name, "path": str(found.file), "sha256": None, "registered": found.sha256, "num_tensors": None}
    if not found.file.is_file():
        return {**row, "state": "missing", "said": remedy(name, found)}
    with found.file.open("rb") as file:
        row["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    if found.sha256 not in (None, row["sha256"]):
        return {**row, "state": "changed", "said": f"sha256 is {row['sha256']}, registered is {found.sha256}"}
    try:
        num, said = _contents(found.file)
    except Exception as error:  # a damaged file fails in many ways, and its state is what was asked for
        return {**row, "state": "unreadable", "said": reason(error)}
    return {**row, "state": "ok", "num_tensors": num, "said": said}


def _contents(path: Path) -> tuple[int | None, str]:
    """Number of tensors and what kind of file; never runs a pickle or a script."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            return len(file.keys()), "safetensors"
    if path.suffix not in (".pt", ".pth", ".bin", ".ckpt"):
        return None, f"{path.suffix or 'no suffix'}: its contents are not looked at"
    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in member for member in archive.namelist()):
                return None, "TorchScript is code: nothing but its sha256 vouches for it"
    import torch

    return _num_tensors(torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)), "torch, weights only"


def _num_tensors(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(_num_tensors(item) for item in value.values())
    return int(hasattr(value, "untyped_storage"))
