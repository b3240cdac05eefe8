"""One small reproducible run of a component of each role, here or in another process: what `contracts` compares.

`python -m medsynth_ray.contracts._runs` answers one JSON request per line, each in a forked child: nothing that one run
imports or changes is there for the next, and torch is imported once.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np

from medsynth_ray import registry
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import (
    Baseline,
    Component,
    ComponentConfig,
    Draw,
    Fitted,
    Pool,
    PoolShard,
    Runtime,
    Spec,
)
from medsynth_ray.seeds import image_seeds
from medsynth_ray.testing import LocalRuntime, toy_images

ENGINES = ("ray", "mlflow")
"""Packages that no component may import."""


def toy_draw(num_each: tuple[int, ...], *, pool_seed: int = 7) -> Draw:
    """The first `num_each[c]` images of each class, classes taking turns as long as they last."""
    indices = np.concatenate([np.arange(n) for n in num_each])
    labels = np.repeat(np.arange(len(num_each)), num_each)
    order = np.lexsort((labels, indices))
    seeds = [image_seeds(pool_seed, int(c), np.array([i]))[0] for c, i in zip(labels, indices, strict=True)]
    return Draw(labels[order], indices[order], np.array(seeds, dtype=np.uint64)[order])


def toy_pool(counts: tuple[int, ...], *, size_px: int = 16, seed: int = 2) -> Pool:
    """A pool of toy images."""
    images = toy_images(counts, size_px=size_px, seed=seed)
    places = np.concatenate([np.arange(n) for n in counts])
    names = [images.class_names[c] for c in images.labels]
    ids = np.array([f"synthetic/{name}/{place}" for name, place in zip(names, places, strict=True)])
    images = ImageSet(images.pixels, images.labels, ids, ids, images.class_names)
    return Pool(images, np.arange(len(ids), dtype=np.uint64), np.full(len(ids), ""), ("0" * 64,))


def toy_photograph(channels: int, *, size_px: int = 96) -> np.ndarray:
    """A photograph of a bright disc on black, with a dark blob and dark lines: uint8 (H, W), or (H, W, 3)."""
    y, x = np.mgrid[:size_px, : size_px + 17]
    half = size_px / 2
    value = 150.0 + 40.0 * np.sin(x / 9.0) + np.random.default_rng(0).normal(0.0, 3.0, x.shape)
    value[np.hypot(y - 1.1 * half, x - 0.9 * half) < 0.25 * half] = 50.0
    value[np.abs(y - x - 5) < 1.5] -= 60.0
    value[np.hypot(y - half, x - half) > 0.9 * half] = 2.0
    gray = np.clip(value, 0.0, 255.0).astype(np.uint8)
    return gray if channels == 1 else np.stack([gray, gray // 2, gray // 3], axis=-1)


def draw_images(generator: Any, draw: Draw, shown: ImageSet, runtime: Runtime) -> PoolShard:
    """Every shard of a draw, joined."""
    sources = shown if generator.needs_sources else None
    shards = list(generator.sample(draw, sources=sources, runtime=runtime))
    return PoolShard(np.concatenate([s.images for s in shards]), np.concatenate([s.source_ids for s in shards]))


def drawable(generator: Any, num_each: int, num_classes: int) -> tuple[int, ...]:
    """`num_each` images of each class, or as many as there are."""
    capacities = [generator.capacity(label) for label in range(num_classes)]
    return tuple(num_each if capacity is None else min(num_each, capacity) for capacity in capacities)


def digest(*parts: Any) -> str:
    """sha256 over arrays (shape, dtype, bytes) and texts."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype.kind not in "UO":
            sha.update(f"{part.shape}{part.dtype}".encode())
            sha.update(np.ascontiguousarray(part).tobytes())
        else:
            sha.update(repr(part.tolist() if isinstance(part, np.ndarray) else part).encode())
    return sha.hexdigest()


def offering(config: ComponentConfig, size_px: int) -> LocalRuntime:
    """A runtime with the real-only classifier and the generator of the pool, where the settings declare the need."""
    train = toy_images(size_px=size_px)
    generators, classifier = [], None
    with closing(LocalRuntime()) as runtime:
        if Fitted() in config.needs():
            generators = [registry.configure("generators", Spec(use="gaussian")).build()]
            generators[0].fit(train, seed=3, runtime=runtime)
        if Baseline() in config.needs():
            classifier = registry.configure("classifiers", Spec(use="majority")).build()
            classifier.fit(train, val=train, seed=3, runtime=runtime)
    return LocalRuntime(baseline=classifier, fitted=tuple(generators))


def run(role: str, config: ComponentConfig, size_px: int) -> str:
    """Run the component once on toy inputs and hash everything that it returns."""
    with closing(offering(config, size_px)) as runtime:
        return _RUNS[role](config.build(), size_px, runtime)


def run_once(role: str, config: ComponentConfig, size_px: int) -> str:
    """`run`, or what it said when these settings were run first in this process."""
    key = (role, config.component, config.model_dump_json(), size_px)
    if key not in _FIRST_RUNS:
        _FIRST_RUNS[key] = run(role, config, size_px)
    return _FIRST_RUNS[key]


def run_elsewhere(role: str, config: ComponentConfig, size_px: int) -> dict[str, Any]:
    """`run` in a process with another hash seed: {"digest": ..., "engines": which of ENGINES it imported}.

    Raises:
        RuntimeError: the run failed there; the message holds its error.
    """
    request = {
        "role": role,
        "module": config.component.__module__,
        "name": config.component.__qualname__,
        "config": config.model_dump(mode="json"),
        "size_px": size_px,
        "num_threads": sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None,
    }
    worker = _worker()
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(json.dumps(request) + "\n")
    worker.stdin.flush()
    answer: dict[str, Any] = json.loads(worker.stdout.readline())
    if "error" in answer:
        raise RuntimeError(f"{config.component.__name__} failed in another process: {answer['error']}")
    return answer


def _run_generator(generator: Any, size_px: int, runtime: LocalRuntime) -> str:
    shown = toy_images(size_px=size_px)
    generator.fit(shown, seed=3, runtime=runtime)
    shard = draw_images(generator, toy_draw(drawable(generator, 4, 2)), shown, runtime)
    return digest(shard.images, shard.source_ids)


def _run_preprocessor(step: Any, size_px: int, runtime: LocalRuntime) -> str:
    return digest(*(step.apply(toy_photograph(channels)) for channels in (1, 3)))


def _run_sampler(sampler: Any, size_px: int, runtime: LocalRuntime) -> str:
    return digest(*(part.fingerprint for part in sampler.select(toy_images(size_px=size_px), seed=3, runtime=runtime)))


def _run_gate(gate: Any, size_px: int, runtime: LocalRuntime) -> str:
    shown, unseen = toy_images(size_px=size_px), toy_images(size_px=size_px, seed=1, prefix="unseen")
    pool = toy_pool((14, 10), size_px=size_px)
    result = gate.judge(pool, shown=shown, unseen=unseen, seed=3, runtime=runtime)
    return digest(result.keep, result.passed, result.reason, sorted(result.numbers.items()), result.flagged)


def _run_metric(metric: Any, size_px: int, runtime: LocalRuntime) -> str:
    rng = np.random.default_rng(0)
    reference, synthetic = rng.normal(size=(60, 8)), rng.normal(0.3, 1.0, size=(50, 8))
    return digest(metric.measure(reference.astype(np.float32), synthetic.astype(np.float32), space="toy", seed=3))


def _run_mixer(mixer: Any, size_px: int, runtime: LocalRuntime) -> str:
    real, pool = toy_images((8, 4), size_px=size_px), toy_pool((30, 30), size_px=size_px)
    return str(mixer.mix(real, pool, ratio=0.5 if mixer.takes_ratio else None, seed=3).fingerprint)


def _run_space(space: Any, size_px: int, runtime: LocalRuntime) -> str:
    return digest(space.embed(toy_images((3, 2), size_px=size_px), runtime=runtime))


def _run_classifier(classifier: Any, size_px: int, runtime: LocalRuntime) -> str:
    val = toy_images((4, 4), size_px=size_px, seed=1, prefix="val")
    history = classifier.fit(toy_images(size_px=size_px), val=val, seed=3, runtime=runtime)
    return digest(classifier.predict(val, runtime=runtime), history)


_RUNS: dict[str, Callable[[Any, int, LocalRuntime], str]] = {
    "preprocess": _run_preprocessor,
    "generators": _run_generator,
    "samplers": _run_sampler,
    "gates": _run_gate,
    "metrics": _run_metric,
    "mixers": _run_mixer,
    "spaces": _run_space,
    "classifiers": _run_classifier,
}


_FIRST_RUNS: dict[tuple[str, type[Component], str, int], str] = {}


@functools.cache
def _worker() -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-m", "medsynth_ray.contracts._runs"]
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, bufsize=1
    )
    atexit.register(worker.communicate)
    return worker


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    if request["num_threads"] is not None:
        sys.modules["torch"].set_num_threads(request["num_threads"])
    component = getattr(importlib.import_module(request["module"]), request["name"])
    config = component.Config.model_validate(request["config"])
    outcome = run(request["role"], config, request["size_px"])
    return {"digest": outcome, "engines": [name for name in ENGINES if name in sys.modules]}


def _answer_in_child(line: str, replies: int) -> None:
    try:
        answer = _answer(json.loads(line))
    except BaseException as error:
        os.write(replies, (json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n").encode())
        raise
    os.write(replies, (json.dumps(answer) + "\n").encode())


def _serve() -> None:
    """Answer requests until stdin ends. What components print goes to stderr, not among the replies."""
    replies = os.dup(1)
    os.dup2(2, 1)
    if importlib.util.find_spec("torch"):
        importlib.import_module("torch")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                _answer_in_child(line, replies)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            os.write(replies, (json.dumps({"error": f"killed by signal {os.WTERMSIG(status)}"}) + "\n").encode())


if __name__ == "__main__":
    _serve()
