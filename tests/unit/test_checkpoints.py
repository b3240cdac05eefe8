"""Checkpoints: tensors by name, and a plain message for everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from medsynth_ray.checkpoints import read_state, timm_pretrained
from medsynth_ray.errors import ConfigError


class Payload:
    """Something that is no tensor."""


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_tensors_come_by_name(tmp_path: Path, name: str) -> None:
    state = {"a": torch.arange(3.0)}
    if name == "w.pth":
        torch.save({"state_dict": {"module.a": state["a"]}}, tmp_path / name)
    else:
        save_file(state, tmp_path / name)
    torch.testing.assert_close(read_state(tmp_path / name), state)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{broken}", b"<html>not found</html>"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{name}' cannot be read: .") as raised:
        read_state(tmp_path / name)
    assert "weights_only=False" not in str(raised.value)


@pytest.mark.parametrize("value", [[torch.zeros(2)], {}, {"a": 3}, {0: torch.zeros(2)}, torch.zeros(2), None])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"w\.pth' hold no tensors by name"):
        read_state(tmp_path / "w.pth")


def test_an_object_is_refused_without_torchs_advice(tmp_path: Path) -> None:
    torch.save({"a": Payload()}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"only tensors are read \(weights_only\)$"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("state", [{"fc.bias": torch.tensor(1.0)}, {"conv1.weight": torch.zeros(2)}])
def test_weights_of_another_shape_are_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=r"w\.safetensors' do not fit test_resnet: ."):
        timm_pretrained("test_resnet", tmp_path / "w.safetensors")
