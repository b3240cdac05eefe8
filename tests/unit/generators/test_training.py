"""The loop that small generators train in: which images a step sees, when it keeps, reports and stops."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from medsynth_ray.errors import Diverged, Stopped
from medsynth_ray.generators._training import BatchOrder, checkpoint_steps, seeded, train
from medsynth_ray.testing import LocalRuntime, toy_images


class Brightness:
    """Learns the mean of what it sees; after `broken_at` steps its loss is not finite."""

    def __init__(self, *, broken_at: int | None = None, loss: float = float("nan")) -> None:
        with seeded(4):
            self.conv = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
        self.adam = torch.optim.Adam(self.conv.parameters(), lr=0.1, fused=True)
        self.modules: Mapping[str, nn.Module] = {"conv": self.conv}
        self.optimisers: Mapping[str, torch.optim.Optimizer] = {"adam": self.adam}
        self.broken_at, self.broken_loss = broken_at, loss
        self.seen: list[tuple[int, float, float]] = []

    def step(
        self, x_NCHW: torch.Tensor, labels: torch.Tensor, *, step: int, noise: torch.Generator
    ) -> dict[str, torch.Tensor]:
        draw = torch.randn(1, generator=noise)
        self.seen.append((step, float(x_NCHW.double().sum()), float(draw)))
        loss = (self.conv(x_NCHW).mean() - labels.float().mean() + 0.1 * draw).square().sum()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return {"loss": torch.tensor(self.broken_loss) if step == self.broken_at else loss.detach()}


def trained(
    trainee: Brightness, runtime: LocalRuntime, *, num_steps: int, batch_size: int = 6, seed: int = 9
) -> dict[str, torch.Tensor]:
    """The state at the end."""
    train(
        trainee, toy_images(), name="brightness", batch_size=batch_size, num_steps=num_steps, seed=seed,
        runtime=runtime,
    )  # fmt: skip
    return load_file(runtime.checkpoints[-1] / "state.safetensors")


@pytest.mark.parametrize(("num_images", "batch_size"), [(12, 4), (10, 4), (3, 8), (1, 2)])
def test_every_epoch_uses_each_image_once(num_images: int, batch_size: int) -> None:
    order = BatchOrder(num_images, batch_size, seed=3)
    seen = np.concatenate([order.rows(step) for step in range(num_images)])
    assert seen.shape == (num_images * batch_size,)
    assert np.array_equal(np.sort(seen.reshape(batch_size, num_images), axis=1), [np.arange(num_images)] * batch_size)


def test_epochs_differ_in_order() -> None:
    order = BatchOrder(40, 40, seed=3)
    assert order.rows(0).tolist() != order.rows(1).tolist()


def test_rows_depend_on_seed_and_step_alone() -> None:
    forward = [BatchOrder(10, 4, seed=3).rows(step).tolist() for step in (0, 5, 2)]
    one = BatchOrder(10, 4, seed=3)
    assert [one.rows(step).tolist() for step in (0, 5, 2)] == forward
    assert BatchOrder(10, 4, seed=4).rows(5).tolist() != forward[1]


@pytest.mark.parametrize(
    ("num_steps", "steps"),
    [(90, [10, 20, 30, 40, 50, 60, 70, 80, 90]), (10, [2, 3, 4, 5, 6, 7, 8, 9, 10]), (3, [1, 2, 3]), (1, [1])],
)
def test_checkpoints_are_at_nine_steps(num_steps: int, steps: list[int]) -> None:
    assert sorted(checkpoint_steps(num_steps)) == steps


@pytest.mark.parametrize(("num_steps", "num_reports"), [(640, 64 + 9 - 1), (1000, 62 + 9 - 1), (20, 20)])
def test_reports_are_some_dozens_with_images_seen(num_steps: int, num_reports: int) -> None:
    # 1000 steps: every 16th, and nine checkpoints, of which step 112 is both.
    runtime = LocalRuntime()
    trained(Brightness(), runtime, num_steps=num_steps)
    assert len(runtime.reports) == num_reports
    assert [numbers["images_seen"] for _, numbers in runtime.reports] == [6.0 * step for step, _ in runtime.reports]
    assert checkpoint_steps(num_steps) <= {step for step, _ in runtime.reports}
    assert runtime.progress_seen[-1] == (num_steps, num_steps, "training steps")


@pytest.mark.parametrize("fit_share", [1 / 9, 1 / 3, 0.5, 1.0])
def test_rung_ends_at_its_share_of_the_steps(fit_share: float) -> None:
    runtime = LocalRuntime(fit_share=fit_share)
    state = trained(Brightness(), runtime, num_steps=18)
    assert int(state["step"]) == round(18 * fit_share)
    assert len(runtime.checkpoints) == int(np.ceil(9 * fit_share))


@pytest.mark.parametrize("cut", [1, 5, 17])
def test_stopped_after_any_step_it_goes_on_exactly(cut: int) -> None:
    straight = Brightness()
    expected = trained(straight, LocalRuntime(), num_steps=18)
    first, second = Brightness(), Brightness()
    runtime = LocalRuntime(stop_after=cut)
    with pytest.raises(Stopped, match=f"brightness stopped after {cut} of 18 steps"):
        trained(first, runtime, num_steps=18)
    runtime._stop_after = None
    found = trained(second, runtime, num_steps=18)
    assert first.seen + second.seen == straight.seen
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_rung_that_is_reached_already_is_kept_again() -> None:
    runtime = LocalRuntime(fit_share=0.5)
    first = trained(Brightness(), runtime, num_steps=4)
    trainee = Brightness()
    again = trained(trainee, runtime, num_steps=4)
    assert trainee.seen == []
    assert all(torch.equal(again[name], first[name]) for name in first)


def test_state_does_not_depend_on_the_global_generator() -> None:
    expected = trained(Brightness(), LocalRuntime(), num_steps=5)
    with seeded(77):
        found = trained(Brightness(), LocalRuntime(), num_steps=5)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_restored_moments_lie_as_their_parameter() -> None:
    runtime = LocalRuntime(fit_share=0.5)
    trained(Brightness(), runtime, num_steps=4)
    trainee = Brightness()
    trained(trainee, runtime, num_steps=4)
    weight = trainee.conv.weight
    assert trainee.adam.state[weight]["exp_avg"].stride() == weight.stride() == (27, 1, 9, 3)


@pytest.mark.parametrize(("loss", "text"), [(float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")])
def test_loss_that_is_not_finite_is_divergence(loss: float, text: str) -> None:
    with pytest.raises(Diverged, match=f"^brightness: loss is {text} at step 4$"):
        trained(Brightness(broken_at=3, loss=loss), LocalRuntime(), num_steps=9)


def test_seeded_leaves_the_global_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    with seeded(5):
        first = torch.rand(3)
    with seeded(5):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before)
