"""Checkpoints of published networks: tensors by name, read without running anything that is in the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth_ray.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, or of one that torch loads with weights_only; a wrapping is taken off.

    Raises:
        ConfigError: the file is damaged, or holds something else.
    """
    import torch
    from timm.models import load_state_dict

    try:
        state: Any = load_state_dict(str(path), weights_only=True)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"weights {str(path)!r} hold no tensors by name") from error
    except Exception as error:  # a damaged file fails in many ways, each format in its own
        raise ConfigError(f"weights {str(path)!r} cannot be read: {reason(error)}") from error
    if not state or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        raise ConfigError(f"weights {str(path)!r} hold no tensors by name")
    return dict(state)


def reason(error: Exception) -> str:
    """One line of what is wrong with a file; never torch's advice to read it in a way that runs what is in it."""
    text = " ".join(str(error).split())
    if "weights only" in text.lower() or "weights_only" in text:
        return "it is damaged, or holds more than tensors, and only tensors are read (weights_only)"
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def timm_pretrained(name: str, path: Path, **options: Any) -> tuple[nn.Module, int]:
    """A timm model as its checkpoint has it, the checkpoint's own head included, and the outputs of that (0: no head).

    With the checkpoint's own number of classes timm loads strictly; with another it skips what does not fit.

    Raises:
        ConfigError: the file cannot be read, or is not of this model.
    """
    import timm
    from timm.models import PretrainedCfg

    cfg: Any = timm.get_pretrained_cfg(name) or PretrainedCfg()
    head = cfg.classifier if isinstance(cfg.classifier, str) else cfg.classifier[0]
    state = read_state(path)
    bias = state.get(f"{head}.bias")
    num_classes = 0 if bias is None else bias.numel()
    overlay = {"state_dict": state, "num_classes": num_classes, "custom_load": False}
    try:
        network = timm.create_model(
            name, pretrained=True, num_classes=num_classes, pretrained_cfg_overlay=overlay, **options
        )
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:  # timm adapts names and shapes
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"weights {str(path)!r} do not fit {name}: {said}") from error
    return network, num_classes
