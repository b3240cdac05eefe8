"""Writes a working sweep file for a folder of images: `medsynth init`."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from medsynth_ray import registry
from medsynth_ray.errors import AuditError, ConfigError
from medsynth_ray.protocols import Spec
from medsynth_ray.stats.power import plan_power

_TEMPLATE = """\
# medsynth audit {file}; medsynth plan {file}; medsynth run {file}
# Every setting with its meaning: medsynth components NAME; schema for editors: medsynth components --schema
name: {name}
data:
  adapter: folder
  root: {root}
  resolution: 64
{groups}
split: {{val_share: 0.2, test_share: 0.3}}
generators:
  gaussian: {{search: {{method: optuna, trials: 8, batch: 4}}}}
  classic_augment:
  copy_real:            # must be rejected by the privacy gate
mix: {{ratios: [0.25, 0.5], classifier: probe, repeats: 3}}
confirm: {{classifier: probe, repeats: 8}}
verdict:
  metric: balanced_accuracy
  effect: {effect}          # the smallest difference worth having{advice}
budget: {{hours: 2}}
store: medsynth-store
"""


def write_sweep_file(folder: str, output: Path | None = None) -> dict[str, Any]:
    """Scan `folder` (any fsspec URL), write the file (default: `<folder's name>.yaml` here), and say what was found.

    Raises:
        ConfigError: the file exists, or the folder holds no class with images.
    """
    root = folder if "://" in folder else str(Path(folder).expanduser().absolute())
    try:
        records = registry.configure("data", Spec(use="folder", config={"root": root}), where="init").build().scan()
    except AuditError as error:
        raise ConfigError(f"{folder}: {error}") from None
    classes = Counter(record.label for record in records if record.label)
    if len(classes) < 2:
        raise ConfigError(
            f"{folder} must hold at least two subfolders with images, one for each class; found {sorted(classes)}"
        )
    name = re.sub(r"[^a-zA-Z0-9_.-]+", "_", Path(root.rstrip("/")).name).strip("._-") or "sweep"
    path = output or Path(f"{name}.yaml")
    if path.exists():
        raise ConfigError(f"{path} exists; name another file with -o")
    grouped = all(record.group for record in records)
    effect, advice = _effect([max(1, round(0.3 * count)) for count in classes.values()])
    text = _TEMPLATE.format(
        file=path, name=name, root=_quoted(root), groups=_groups(grouped), effect=effect, advice=advice
    )
    path.write_text(text)
    return {
        "path": str(path),
        "images": sum(classes.values()),
        "classes": dict(sorted(classes.items())),
        "grouped": grouped,
    }


def _effect(test_counts: list[int]) -> tuple[float, str]:
    """0.03, or what so small a test set can show at all, with a word about it."""
    detectable = plan_power(test_counts, repeats=8, effect=0.03, discordance=0.12, repeat_sd=0.01).detectable
    if detectable <= 0.03:
        return 0.03, ""
    return math.ceil(120 * detectable) / 100, "; 0.03 would need more test images"


def _groups(grouped: bool) -> str:
    if grouped:
        return "  groups: required     # the group column: no patient stands in two splits"
    return (
        "  groups: none         # no group column was found: images of one patient may stand in train and test.\n"
        "                       # Better: a metadata.csv with path, label, group; then remove this line."
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
