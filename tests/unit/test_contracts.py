"""The public contract classes catch what they are there to catch: one broken component for each promise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ConfigDict

from medsynth_ray.contracts import GateContract, GeneratorContract, MetricContract, MixerContract, SamplerContract
from medsynth_ray.contracts import _runs as runs
from medsynth_ray.gates.dedupe import Dedupe
from medsynth_ray.generators.gaussian import Gaussian
from medsynth_ray.images import ImageSet
from medsynth_ray.mixers.add import Add
from medsynth_ray.protocols import Component, ComponentConfig, Draw, GateResult, Measured, Pool, PoolShard
from medsynth_ray.samplers.all_real import AllReal
from medsynth_ray.testing import LocalRuntime, toy_images


class ForgetsTheSeed(Gaussian):
    class Config(Gaussian.Config):
        """As its base."""

    def _paint(self, draw: Draw) -> PoolShard:
        noise = np.random.random(1)[0]  # noqa: NPY002 - the fault
        return PoolShard(super()._paint(draw).images + np.uint8(100 * noise), np.full(len(draw), ""))


class LooksAround(Gaussian):
    class Config(Gaussian.Config):
        """As its base."""

    def _paint(self, draw: Draw) -> PoolShard:
        shard = super()._paint(draw)
        return PoolShard(shard.images + np.uint8(len(draw)), shard.source_ids)


class NeverStops(Gaussian):
    class Config(Gaussian.Config):
        """As its base."""

    def sample(self, draw: Draw, *, sources: ImageSet | None, runtime: Any) -> Iterator[PoolShard]:
        yield self._paint(draw)


class StartsAnew(Gaussian):
    class Config(Gaussian.Config):
        """As its base."""

    def _start(self, deviations: Any, seed: int, checkpoint: Path | None) -> tuple[np.ndarray, int]:
        basis, step = super()._start(deviations, seed, checkpoint)
        return basis[:, ::-1] if checkpoint is None else np.roll(basis, 1, axis=0), step


class SavesNothing(Gaussian):
    class Config(Gaussian.Config):
        """As its base."""

    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "model.pkl").write_bytes(b"")


class AddsTooMuch(Add):
    class Config(Add.Config):
        """As its base."""

    def mix(self, real: ImageSet, pool: Pool, *, ratio: float | None, seed: int) -> ImageSet:
        return super().mix(real, pool, ratio=0.5, seed=seed)


class WritesToItsInput(AllReal):
    class Config(AllReal.Config):
        """As its base."""

    def select(self, train: ImageSet, *, seed: int, runtime: Any) -> tuple[ImageSet, ...]:
        base = train.pixels.base
        assert base is not None
        base[0] = 0
        return (train,)


class RejectsWithoutReason(Dedupe):
    class Config(Dedupe.Config):
        """As its base."""

    def judge(self, pool: Pool, **others: Any) -> GateResult:
        return GateResult(np.zeros(len(pool), dtype=bool), False, "", {})


class ForgivesEverything(Component):
    lower_is_better = True

    def measure(self, reference: np.ndarray, synthetic: np.ndarray, *, space: str, seed: int) -> Measured:
        return Measured("forgiving", float(len(reference)))


class Loose(Add):
    class Config(ComponentConfig):
        """It ignores typing errors and documents nothing."""

        model_config = ConfigDict(extra="ignore", use_attribute_docstrings=False)
        field: int = 3


REAL, POOL, SHOWN = toy_images((9, 4)), runs.toy_pool((90, 60)), toy_images()


@pytest.mark.parametrize(
    ("contract", "test", "component", "others"),
    [
        (GeneratorContract, "test_run_repeats_after_other_work", ForgetsTheSeed, {}),
        (GeneratorContract, "test_image_does_not_depend_on_its_company", LooksAround, {"shown": SHOWN}),
        (GeneratorContract, "test_sampling_stops_when_asked", NeverStops, {"shown": SHOWN}),
        (GeneratorContract, "test_fit_in_rungs_equals_a_straight_fit", StartsAnew, {"shown": SHOWN}),
        (GeneratorContract, "test_stopped_fit_goes_on_exactly", StartsAnew, {"shown": SHOWN, "stop_after": 1}),
        (MixerContract, "test_counts_are_what_was_demanded", AddsTooMuch, {"real": REAL, "pool": POOL}),
        (MixerContract, "test_larger_ratios_hold_the_smaller", AddsTooMuch, {"real": REAL, "pool": POOL}),
        (MixerContract, "test_config_refuses_an_unknown_key", Loose, {}),
        (MixerContract, "test_config_documents_every_field", Loose, {}),
        (MixerContract, "test_config_builds_its_component", AddsTooMuch, {}),
        (SamplerContract, "test_parts_are_subsets_of_train", WritesToItsInput, {}),
        (GateContract, "test_judgement_is_well_formed", RejectsWithoutReason, {}),
        (MetricContract, "test_a_set_is_near_itself", ForgivesEverything, {}),
        (MetricContract, "test_number_is_named_and_bounded", ForgivesEverything, {}),
        (MetricContract, "test_unusable_features_are_refused", ForgivesEverything, {"fault": "too few"}),
    ],
)
def test_a_broken_component_fails(
    contract: type[Any], test: str, component: type[Component], others: dict[str, Any]
) -> None:
    if component is ForgivesEverything:
        ComponentConfig.component = component
    config = component.Config.tiny()
    needs_runtime = contract is not MetricContract and contract is not MixerContract and "run_repeats" not in test
    with closing(LocalRuntime()) as runtime, pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(contract(), test)(config, **others, **({"runtime": runtime} if needs_runtime else {}))


def test_a_pickle_in_the_saved_folder_fails(tmp_path: Path) -> None:
    with closing(LocalRuntime()) as runtime, pytest.raises(AssertionError, match="pkl"):
        GeneratorContract().test_saved_and_loaded_draws_the_same(SavesNothing.Config.tiny(), SHOWN, runtime, tmp_path)


def test_an_import_of_ray_is_found_in_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sneaky.py").write_text(
        "from medsynth_ray.mixers.add import Add\n"
        "class Sneaky(Add):\n"
        "    class Config(Add.Config):\n"
        "        pass\n"
        "    def mix(self, *args, **settings):\n"
        "        import ray.data\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sneaky = __import__("sneaky")
    with pytest.raises(AssertionError, match="ray.data"):
        MixerContract().test_module_imports_no_engine(sneaky.Sneaky.Config())


def test_a_fault_in_the_other_process_is_reported() -> None:
    with pytest.raises(RuntimeError, match=r"Add failed in another process: KeyError: 'no such role'"):
        runs.run_elsewhere("no such role", Add.Config(), 16)


def test_hash_order_of_the_other_process_differs() -> None:
    """The worker's hash seed is not ours, so an answer that hangs on it would not repeat."""
    here = runs.run("samplers", AllReal.Config(), 16)
    assert runs.run_elsewhere("samplers", AllReal.Config(), 16) == {"digest": here, "engines": []}
