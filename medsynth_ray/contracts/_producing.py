"""What holds for components that make images or image sets: preprocessors, samplers, generators, mixers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from medsynth_ray.contracts import _runs as runs
from medsynth_ray.contracts._base import RunContract, assert_plain_files, bytes_of
from medsynth_ray.errors import Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import ComponentConfig, Draw, GeneratorConfig, HasLoss, Pool, PoolShard
from medsynth_ray.testing import LocalRuntime, toy_images


class PreprocessorContract(RunContract):
    """What every preprocessor must do."""

    role = "preprocess"

    @pytest.mark.parametrize("channels", [1, 3])
    def test_the_kind_of_image_is_kept(self, config: ComponentConfig, channels: int) -> None:
        """uint8 of as many dimensions, also of a read-only, strided view; the input stays."""
        photograph = runs.toy_photograph(channels)
        strided = np.repeat(photograph, 2, axis=1)[:, ::2]
        strided.flags.writeable = False
        before, step = runs.digest(photograph), config.build()
        changed = step.apply(strided)
        assert (changed.dtype, changed.ndim, changed.shape[2:]) == (np.uint8, photograph.ndim, photograph.shape[2:])
        assert changed.size > 0
        assert runs.digest(step.apply(photograph)) == runs.digest(changed)
        assert runs.digest(photograph, strided) == runs.digest(runs.toy_photograph(channels), photograph)
        assert runs.digest(photograph) == before

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7, 3), (5, 2), (9, 9, 3), (40, 3)])
    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_an_empty_picture_is_no_error(self, config: ComponentConfig, shape: tuple[int, ...], level: int) -> None:
        """Images of one level, and tiny ones, come back as images."""
        changed = config.build().apply(np.full(shape, level, dtype=np.uint8))
        assert (changed.dtype, changed.ndim) == (np.uint8, len(shape))
        assert changed.size > 0

    def test_threads_do_not_disturb_each_other(self, config: ComponentConfig) -> None:
        """One object, used by several threads at once: each image gets what it gets alone."""
        step = config.build()
        photographs = [np.roll(runs.toy_photograph(3), shift, axis=1) for shift in range(8)]
        alone = [runs.digest(step.apply(photograph)) for photograph in photographs]
        with ThreadPoolExecutor(4) as pool:
            assert [runs.digest(changed) for changed in pool.map(step.apply, photographs)] == alone


class SamplerContract(RunContract):
    """What every sampler must do."""

    role = "samplers"

    def test_parts_are_subsets_of_train(self, config: ComponentConfig, runtime: LocalRuntime) -> None:
        """At least one part, none empty, each made of training images as they are."""
        train = toy_images(size_px=self.size_px)
        before = bytes_of(train)
        parts = config.build().select(train, seed=3, runtime=runtime)
        assert len(parts) >= 1
        known = dict(zip(train.ids.tolist(), train.digests.tolist(), strict=True))
        for part in parts:
            assert len(part) >= 1
            assert [known[i] for i in part.ids.tolist()] == part.digests.tolist()
        assert bytes_of(train) == before


class GeneratorContract(RunContract):
    """What every generator must do."""

    role = "generators"
    max_level_difference: ClassVar[int] = 1
    """By how many levels of 255 a pixel may differ when an image is drawn in other company (float kernels round)."""

    @pytest.fixture
    def shown(self) -> ImageSet:
        """What the generator is fitted on."""
        return toy_images(size_px=self.size_px)

    def _fitted(self, config: GeneratorConfig, shown: ImageSet, runtime: LocalRuntime) -> tuple[Any, Draw]:
        generator = config.build()
        generator.fit(shown, seed=3, runtime=runtime)
        return generator, runs.toy_draw(runs.drawable(generator, 4, shown.num_classes))

    def test_rungs_and_search_space(self, config: GeneratorConfig) -> None:
        """Rungs increase to 1; every value of the search space is an allowed value of a field."""
        rungs = config.rungs()
        assert list(rungs) == sorted(set(rungs))
        assert rungs[0] > 0
        assert rungs[-1] == 1.0
        for name, space in config.search_space().items():
            for value in space.grid(3):
                type(config).model_validate({**config.model_dump(mode="json"), name: value})

    @pytest.mark.parametrize("channels", [1, 3])
    def test_images_fit_the_shown_ones(self, config: GeneratorConfig, runtime: LocalRuntime, channels: int) -> None:
        """uint8 of the shown shape, a source id for each; inputs are not written to; progress is told."""
        shown = toy_images(size_px=self.size_px, channels=channels)
        before = bytes_of(shown)
        generator, draw = self._fitted(config, shown, runtime)
        draw_before = runs.digest(draw.labels, draw.indices, draw.seeds)
        shard = runs.draw_images(generator, draw, shown, runtime)
        assert shard.images.shape == (len(draw), *shown.image_shape)
        assert shard.images.dtype == np.uint8
        assert len(shard.source_ids) == len(draw)
        assert set(shard.source_ids.tolist()) <= ({""} if not generator.needs_sources else set(shown.ids.tolist()))
        assert bytes_of(shown) == before
        assert runs.digest(draw.labels, draw.indices, draw.seeds) == draw_before
        assert runtime.progress_seen

    def test_image_does_not_depend_on_its_company(
        self, config: GeneratorConfig, shown: ImageSet, runtime: LocalRuntime
    ) -> None:
        """Drawn alone, in another order or among all, image i is the same."""
        generator, draw = self._fitted(config, shown, runtime)
        whole = runs.draw_images(generator, draw, shown, runtime)
        some = np.arange(len(draw))[::-2]
        part = Draw(draw.labels[some], draw.indices[some], draw.seeds[some])
        _assert_close(runs.draw_images(generator, part, shown, runtime), whole, some, self.max_level_difference)
        alone = runs.draw_images(generator, draw.slice(0, 1), shown, runtime)
        _assert_close(alone, whole, np.array([0]), self.max_level_difference)

    def test_saved_and_loaded_draws_the_same(
        self, config: GeneratorConfig, shown: ImageSet, runtime: LocalRuntime, tmp_path: Path
    ) -> None:
        """The folder holds JSON and safetensors only; what is loaded draws the same bytes."""
        generator, draw = self._fitted(config, shown, runtime)
        generator.save(tmp_path / "saved")
        assert_plain_files(tmp_path / "saved")
        loaded = config.component.load(tmp_path / "saved")  # type: ignore[attr-defined]
        assert loaded.config == config
        assert _drawn(loaded, draw, shown, runtime) == _drawn(generator, draw, shown, runtime)

    def test_sampling_stops_when_asked(self, config: GeneratorConfig, shown: ImageSet, runtime: LocalRuntime) -> None:
        """A long draw can be stopped."""
        generator, draw = self._fitted(config, shown, runtime)
        with closing(LocalRuntime(stop_after=0)) as stopping, pytest.raises(Stopped):
            runs.draw_images(generator, draw, shown, stopping)

    @pytest.mark.parametrize("stop_after", [0, 1])
    def test_stopped_fit_goes_on_exactly(
        self, config: GeneratorConfig, shown: ImageSet, runtime: LocalRuntime, stop_after: int
    ) -> None:
        """A fit that reports steps stops when asked, and from its checkpoint comes to the same images."""
        generator, draw = self._fitted(config, shown, runtime)
        straight = _drawn(generator, draw, shown, runtime)
        with closing(LocalRuntime(stop_after=stop_after)) as stopping, closing(LocalRuntime()) as resuming:
            if len(runtime.reports) > stop_after + 1:
                with pytest.raises(Stopped):
                    config.build().fit(shown, seed=3, runtime=stopping)
            resuming.checkpoints += stopping.checkpoints
            assert _drawn(self._fitted(config, shown, resuming)[0], draw, shown, runtime) == straight

    def test_fit_in_rungs_equals_a_straight_fit(
        self, config: GeneratorConfig, shown: ImageSet, runtime: LocalRuntime
    ) -> None:
        """Resumed at every rung, the generator is the same; every rung is usable."""
        generator, draw = self._fitted(config, shown, runtime)
        straight = _drawn(generator, draw, shown, runtime)
        with closing(LocalRuntime()) as in_rungs:
            for in_rungs.fit_share in config.rungs():
                climbed = self._fitted(config, shown, in_rungs)[0]
                drawn = _drawn(climbed, draw, shown, runtime)
        assert drawn == straight

    def test_drawing_while_a_checkpoint_is_made_changes_nothing(
        self, config: GeneratorConfig, shown: ImageSet, runtime: LocalRuntime
    ) -> None:
        """The engine looks at what a fit can draw at every checkpoint; the fit ends where it would have ended."""
        generator, draw = self._fitted(config, shown, runtime)
        straight, looked = _drawn(generator, draw, shown, runtime), config.build()

        class Looking(LocalRuntime):
            def checkpoint(self, save: Callable[[Path], None], *, step: int) -> None:
                runs.draw_images(looked, draw.slice(0, 2), shown, runtime)
                super().checkpoint(save, step=step)

        with closing(Looking()) as looking:
            looked.fit(shown, seed=3, runtime=looking)
        assert _drawn(looked, draw, shown, runtime) == straight

    def test_loss_depends_on_the_image_alone(
        self, config: GeneratorConfig, shown: ImageSet, runtime: LocalRuntime
    ) -> None:
        """A generator that offers a loss: float32 (N,), finite, the same again, in another order and after loading."""
        if not isinstance(config.build(), HasLoss):
            pytest.skip("it offers no loss")
        generator, _ = self._fitted(config, shown, runtime)
        before = bytes_of(shown)
        losses = generator.loss(shown, seed=3, runtime=runtime)
        assert (losses.shape, losses.dtype) == ((len(shown),), np.float32)
        assert np.isfinite(losses).all()
        assert np.ptp(losses) > 0
        assert runs.digest(generator.loss(shown, seed=3, runtime=runtime)) == runs.digest(losses)
        some = np.arange(len(shown))[::-3]
        assert np.allclose(generator.loss(shown.take(some), seed=3, runtime=runtime), losses[some], rtol=1e-5)
        generator.save(runtime.scratch / "with-loss")
        loaded = config.component.load(runtime.scratch / "with-loss")  # type: ignore[attr-defined]
        assert runs.digest(loaded.loss(shown, seed=3, runtime=runtime)) == runs.digest(losses)
        assert bytes_of(shown) == before

    def test_capacity_is_kept(self, config: GeneratorConfig, shown: ImageSet, runtime: LocalRuntime) -> None:
        """None, or a number of images beyond which drawing is a ValueError."""
        generator, _ = self._fitted(config, shown, runtime)
        capacity = generator.capacity(0)
        if capacity is not None:
            beyond = Draw(np.array([0]), np.array([capacity]), np.array([1], dtype=np.uint64))
            with pytest.raises(ValueError, match=str(capacity)):
                runs.draw_images(generator, beyond, shown, runtime)


class MixerContract(RunContract):
    """What every mixer must do."""

    role = "mixers"

    @pytest.fixture
    def real(self) -> ImageSet:
        """Real images of two classes, one of them short."""
        return toy_images((9, 4), size_px=self.size_px)

    @pytest.fixture
    def pool(self) -> Pool:
        """A pool with enough for every ratio tested."""
        return runs.toy_pool((90, 60), size_px=self.size_px)

    def _ratios(self, mixer: Any) -> list[float | None]:
        return [0.0, 0.1, 0.25, 0.5, 0.9] if mixer.takes_ratio else [None]

    def test_counts_are_what_was_demanded(self, config: ComponentConfig, real: ImageSet, pool: Pool) -> None:
        """Each class holds `demand` synthetic images; the others are real ones as they are; inputs stay."""
        mixer, before = config.build(), (bytes_of(real), bytes_of(pool.images))
        for ratio in self._ratios(mixer):
            demand = mixer.demand(real.counts(), ratio=ratio)
            assert demand.dtype == np.int64
            assert (demand >= 0).all()
            mixed = mixer.mix(real, pool, ratio=ratio, seed=3)
            synthetic = mixed.take(np.isin(mixed.ids, pool.images.ids))
            assert synthetic.counts().tolist() == demand.tolist()
            assert np.isin(mixed.digests, np.concatenate([real.digests, pool.images.digests])).all()
        assert (bytes_of(real), bytes_of(pool.images)) == before

    def test_larger_ratios_hold_the_smaller(self, config: ComponentConfig, real: ImageSet, pool: Pool) -> None:
        """Synthetic images are nested prefixes of the pool; ratio 0 is the real images alone."""
        mixer = config.build()
        taken = [set(mixer.mix(real, pool, ratio=r, seed=3).ids) & set(pool.images.ids) for r in self._ratios(mixer)]
        for small, large in zip(taken, taken[1:], strict=False):
            assert small <= large
        if mixer.takes_ratio:
            assert mixer.mix(real, pool, ratio=0.0, seed=3).fingerprint == real.fingerprint

    def test_a_small_pool_is_refused(self, config: ComponentConfig, real: ImageSet) -> None:
        """A pool that is too small is a ValueError, never a smaller result."""
        mixer = config.build()
        with pytest.raises(ValueError, match="too few"):
            mixer.mix(real, runs.toy_pool((1, 1), size_px=self.size_px), ratio=self._ratios(mixer)[-1], seed=3)

    @pytest.mark.parametrize("wrong", [None, -0.1, 1.0, float("nan")])
    def test_a_wrong_ratio_is_refused(self, config: ComponentConfig, wrong: float | None) -> None:
        """A ratio outside [0, 1), a missing one, or one that the mixer does not take, is a ValueError."""
        mixer = config.build()
        with pytest.raises(ValueError, match="ratio"):
            mixer.demand(np.array([3, 4]), ratio=wrong if mixer.takes_ratio else 0.5)


def _drawn(generator: Any, draw: Draw, shown: ImageSet, runtime: LocalRuntime) -> str:
    shard = runs.draw_images(generator, draw, shown, runtime)
    return runs.digest(shard.images, shard.source_ids)


def _assert_close(part: PoolShard, whole: PoolShard, rows: np.ndarray, max_levels: int) -> None:
    difference = np.abs(part.images.astype(int) - whole.images[rows])
    assert difference.max() <= max_levels
    assert (difference > 0).mean() <= 0.01
    assert part.source_ids.tolist() == whole.source_ids[rows].tolist()
