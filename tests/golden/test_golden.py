"""What each generator's `tiny()` draws must not move unless its `version` does.

`drawn.json` holds, for each generator, its version and eight images, averaged over 4 x 4 pixels: a comparison with a
tolerance of one level is robust against the rounding of other processors. After a wanted change raise `version` and run

    python tests/golden/test_golden.py --update
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsynth_ray import registry
from medsynth_ray.contracts._runs import draw_images, drawable, toy_draw
from medsynth_ray.testing import LocalRuntime, toy_images

GOLDEN = Path(__file__).with_name("drawn.json")
HOW = "python tests/golden/test_golden.py --update"
MAX_LEVELS = 1


def drawn(name: str) -> dict[str, Any]:
    """Version and coarse images of a generator: 8 rows of 4 x 4 x 3 levels."""
    component, shown = registry.load("generators", name), toy_images()
    generator = component.Config.tiny().build()
    with closing(LocalRuntime()) as runtime:
        generator.fit(shown, seed=1, runtime=runtime)
        images = draw_images(generator, toy_draw(drawable(generator, 4, 2)), shown, runtime).images
    coarse = images.reshape(8, 4, 4, 4, 4, 3).mean(axis=(2, 4))
    return {"version": component.version, "images": np.rint(coarse).astype(int).reshape(8, -1).tolist()}


def complaint(name: str, now: dict[str, Any], golden: dict[str, Any]) -> str:
    """What is wrong with an output, or nothing."""
    if name not in golden:
        return f"{name} has no golden images yet: run `{HOW}`"
    if golden[name]["version"] != now["version"]:
        return f"{name} has version {now['version']}, golden is {golden[name]['version']}: run `{HOW}`"
    moved = int(np.abs(np.array(now["images"]) - np.array(golden[name]["images"])).max())
    if moved > MAX_LEVELS:
        return f"the output of {name} moved by up to {moved} levels and `version` did not: raise it and run `{HOW}`"
    return ""


def stored() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}


@pytest.mark.parametrize("name", registry.names("generators"))
def test_output_moves_only_with_the_version(name: str) -> None:
    assert complaint(name, drawn(name), stored()) == ""


def test_golden_holds_nothing_else() -> None:
    assert sorted(stored()) == registry.names("generators")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"images": [[101, 7]]}, ""),
        ({"images": [[104, 7]]}, "moved by up to 4 levels and `version` did not"),
        ({"images": [[104, 7]], "version": 2}, "has version 2, golden is 1"),
    ],
)
def test_complaint_names_what_moved(change: dict[str, Any], message: str) -> None:
    golden = {"version": 1, "images": [[100, 7]]}
    found = complaint("gaussian", {**golden, **change}, {"gaussian": golden})
    assert message in found
    assert bool(message) == bool(found)


def test_new_generator_is_told_how_to_enter() -> None:
    assert complaint("gaussian", {}, {}) == f"gaussian has no golden images yet: run `{HOW}`"


def update() -> int:
    """Write `drawn.json`; an output that moved under the same version keeps its old entry, and is an error."""
    old, refused, new = stored(), [], {}
    for name in registry.names("generators"):
        new[name] = drawn(name)
        found = complaint(name, new[name], old)
        if "moved" in found:
            refused.append(found)
        if "moved" in found or not found:
            new[name] = old[name]
    lines = [f" {json.dumps(name)}: {json.dumps(entry, separators=(',', ':'))}" for name, entry in new.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print("\n".join(refused) or f"wrote {GOLDEN.name}: {', '.join(new)}")
    return 1 if refused else 0


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit(f"usage: {HOW}")
    sys.exit(update())
