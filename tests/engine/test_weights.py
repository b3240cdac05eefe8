"""Weights travel through the store: published once, fetched checked; the same keys and features without the file."""

from __future__ import annotations

import hashlib
import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from medsynth_ray import registry
from medsynth_ray.config import SweepConfig
from medsynth_ray.driver import Sweep
from medsynth_ray.engine import tune, weights
from medsynth_ray.engine.bench import Bench
from medsynth_ray.engine.store import Store
from medsynth_ray.errors import StoreError, WeightsMissing
from medsynth_ray.generators.gaussian import Gaussian
from medsynth_ray.protocols import Need, Spec, Weights
from medsynth_ray.testing import toy_images
from medsynth_ray.weights import add
from tests.engine.inline import config

BYTES = bytes(range(256)) * 40_000  # more than one block


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own: no registry, no cache, no cluster."""
    monkeypatch.setenv("MEDSYNTH_WEIGHTS", str(tmp_path / "weights.yaml"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.bin"
    path.write_bytes(BYTES)
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Weights of timm's smallest network."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "network.safetensors")
    return tmp_path / "network.safetensors"


def space(name: str) -> dict[str, Any]:
    return {"use": "timm_model", "config": {"model": "test_resnet", "weights": name, "resolution": 32}}


def sweep(store: Any, name: str, **sections: Any) -> SweepConfig:
    """A sweep whose quality is measured in a space with weights."""
    return config(store, fit={"quality": {"num_images": 40, "space": space(name)}}, **sections)


# --- publish and fetch


def test_what_is_published_once_is_fetched_checked(store: Store, file: Path, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(BYTES).hexdigest()
    assert weights.publish(store, file) == weights.publish(store, file) == sha256
    (key,) = store.list("weights")
    (attempt, record) = store.list(f"weights/{key}")
    assert record == "record.json"
    assert store.list(f"weights/{key}/{attempt}") == ["net.bin"]
    path = weights.fetch(store, sha256, tmp_path / "node")
    assert path == tmp_path / "node" / sha256 / "net.bin"
    assert path.read_bytes() == BYTES
    store.delete(f"weights/{key}/{attempt}")
    assert weights.fetch(store, sha256, tmp_path / "node") == path, "the node has it already"


def test_a_damaged_copy_of_a_node_is_fetched_again(store: Store, file: Path, tmp_path: Path) -> None:
    sha256 = weights.publish(store, file)
    weights.fetch(store, sha256, tmp_path / "node").write_bytes(b"cut off")
    assert weights.fetch(store, sha256, tmp_path / "node").read_bytes() == BYTES


@pytest.mark.parametrize(("damage", "message"), [("altered", "has sha256"), ("gone", "delete .*published again")])
def test_a_damaged_store_is_refused(store: Store, file: Path, tmp_path: Path, damage: str, message: str) -> None:
    sha256 = weights.publish(store, file)
    (key,) = store.list("weights")
    path = f"weights/{key}/{store.list(f'weights/{key}')[0]}/net.bin"
    if damage == "altered":
        store.overwrite(path, BYTES[:-1])
    else:
        store.delete(path)
    with pytest.raises(StoreError, match=message):
        weights.fetch(store, sha256, tmp_path / "node")
    assert not (tmp_path / "node" / sha256).exists()


def test_what_nobody_published_is_missing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="neither on this node nor in the store"):
        weights.fetch(store, "0" * 64, tmp_path / "node")


def test_workers_of_a_node_may_race(store: Store, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256, found, downloads = weights.publish(store, file), [], []
    stored = weights.stored
    monkeypatch.setattr(weights, "stored", lambda *args, **more: downloads.append(1) or stored(*args, **more))
    threads = [
        threading.Thread(target=lambda: found.append(weights.fetch(store, sha256, tmp_path / "node"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "node" / sha256 / "net.bin"] * 8
    assert found[0].read_bytes() == BYTES
    assert len(downloads) == 1
    assert not list((tmp_path / "node").glob(".tmp-*"))


def test_an_upload_that_was_killed_is_no_publication(store: Store, file: Path, tmp_path: Path) -> None:
    unit = weights._unit(hashlib.sha256(BYTES).hexdigest())
    store.overwrite(f"{unit.path}/{uuid.uuid4().hex}/net.bin", BYTES[:100])
    sha256 = weights.publish(store, file)
    assert weights.fetch(store, sha256, tmp_path / "node").read_bytes() == BYTES


# --- what a sweep needs


class Tuned(Gaussian):
    """A generator that starts from weights."""

    class Config(Gaussian.Config):
        weights: str = "of_generator"

        def needs(self) -> tuple[Need, ...]:
            return (Weights(self.weights),)


def test_names_are_found_in_every_role_and_inside_what_is_needed(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["more", "of_classifier", "of_cluster", "of_generator", "quality", "searched"]
    for name in names:
        add(name, str(network))
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda role, name: Tuned if name == "tuned" else load(role, name))
    generators = {
        "one": {"use": "gaussian", "sampler": {"use": "cluster", "config": {"space": space("of_cluster")}}},
        "two": {"use": "tuned", "search": {"space": {"weights": {"kind": "choice", "values": ["searched"]}}}},
    }
    settings = config(
        Path("unused"), generators=generators,
        fit={"quality": {"space": space("quality")}, "spaces": {"more": space("more")}},
        confirm={"classifier": {"use": "resnet", "config": {"model": "test_resnet", "weights": "of_classifier"}}},
    )  # fmt: skip
    assert weights.needed(settings) == dict.fromkeys(names, network)


def test_a_sweep_with_missing_weights_stops_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="weights file 'nothing_of_that_name' does not exist"):
        Sweep(sweep(tmp_path / "store", "nothing_of_that_name")).run()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("where", "address", "variable", "published"),
    [("local", None, None, 0), ("local", "auto", None, 1), ("local", None, "head:6379", 1), ("memory", None, None, 1)],
)
def test_weights_are_published_where_there_may_be_other_nodes(
    tmp_path: Path, network: Path, where: str, address: str | None, variable: str | None, published: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    store = Store(str(tmp_path / "store") if where == "local" else f"memory://{uuid.uuid4().hex}")
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    settings = sweep(store.url, str(network), runtime={"address": address})
    sha256 = hashlib.sha256(network.read_bytes()).hexdigest()
    assert weights.handed_out(settings, store) == {str(network): sha256}
    assert len(store.list("weights")) == published


def test_the_driver_hands_them_out(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add("mine", str(network))

    def run(*args: Any, **options: Any) -> Any:
        raise RuntimeError(f"handed out: {options['weights']}")

    monkeypatch.setattr(tune, "run", run)
    sha256 = hashlib.sha256(network.read_bytes()).hexdigest()
    with pytest.raises(RuntimeError, match=f"handed out: {{'mine': '{sha256}'}}"):
        Sweep(sweep(tmp_path / "store", "mine")).run()


# --- a node without the file


def test_without_the_file_keys_and_features_are_the_same(
    tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("mine", str(network))
    images, spec = toy_images((3, 2), size_px=32), Spec.model_validate(space("mine"))
    splits = dict.fromkeys(("train", "showable", "val", "test"), images)
    first, second = (Store(str(tmp_path / name)) for name in ("first", "second"))
    with_file = Bench(sweep(first.url, "mine"), first, splits)
    features, identity = with_file.features(images, spec), with_file.identity("spaces", spec)
    handed = {"mine": weights.publish(second, network)}

    network.unlink()
    monkeypatch.setenv("MEDSYNTH_WEIGHTS", str(tmp_path / "nothing.yaml"))
    without = Bench(sweep(second.url, "mine"), second, splits, weights=handed)
    assert without.identity("spaces", spec) == identity
    np.testing.assert_array_equal(without.features(images, spec), features)
    assert second.list("features") == first.list("features")
    with pytest.raises(WeightsMissing, match="'mine' does not exist"):
        Bench(sweep(second.url, "mine"), second, splits).identity("spaces", spec)


def test_the_bench_of_a_worker_knows_what_was_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = toy_images((3, 2), size_px=32)
    monkeypatch.setattr(tune, "_BENCHES", {})
    monkeypatch.setattr(tune.ray, "get", lambda reference: reference)
    setting = {
        "config": sweep(tmp_path / "store", "mine").model_dump_json(), "store": str(tmp_path / "store"), "epoch": 1,
        "splits": [dict.fromkeys(("train", "showable", "val", "test"), images)], "shelf": None, "pid": 1,
        "sweep_id": "tiny", "weights": {"mine": "a" * 64},
    }  # fmt: skip
    identity = tune._bench(setting).identity("spaces", Spec.model_validate(space("mine")))
    assert identity["needs"] == [["weights", "a" * 64]]


def test_a_node_with_another_file_of_that_name_takes_that_of_the_store(
    tmp_path: Path, network: Path, file: Path
) -> None:
    store = Store(str(tmp_path / "store"))
    sha256 = weights.publish(store, network)
    add("mine", str(file))
    assert weights.located(store, "mine", sha256).read_bytes() == network.read_bytes()
    assert weights.located(store, "mine", None) == file
    assert weights.located(store, str(network), sha256) == network


def test_only_declared_weights_are_given(tmp_path: Path, network: Path) -> None:
    images, store = toy_images((3, 2), size_px=32), Store(str(tmp_path / "store"))
    bench = Bench(sweep(store.url, str(network)), store, dict.fromkeys(("train", "val", "test"), images))
    (tmp_path / "unit").mkdir()
    settings = bench.configure("spaces", Spec.model_validate(space(str(network))))
    assert settings.needs() == (Weights(str(network)),)
    runtime = bench.runtime(settings, tmp_path / "unit" / "files")
    assert runtime.weights(str(network)) == network
    with pytest.raises(ValueError, match="which its needs"):
        runtime.weights("resnet18")
