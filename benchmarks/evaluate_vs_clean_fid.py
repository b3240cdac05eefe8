"""`medsynth evaluate` against clean-fid on two folders of PNG: CPU seconds, one thread on both sides, the same network.

Both load one TorchScript file: Inception-v3 with seeded weights in the layout of `inception-2015-12-05.pt`. Two races:

- FID alone, nothing cached: `compute_fid(custom_feat_extractor=...)` against `evaluate` with the metric frechet;
- FID and KID with the real side cached: `compute_fid` and then `compute_kid` against `evaluate` with both metrics,
  which embeds the synthetic side once. clean-fid's `compute_kid` takes no extractor of one's own, so the two steps of
  its body are called instead: `get_folder_features` for each folder, then `kernel_distance`.

clean-fid's KID is a mean over unseeded random blocks. Up to 1,000 images a block is the whole set, so it is the same
number as ours but for rounding: its kernel is float32, which near 0 costs digits (at KID 0.0011 it is 1.3e-4 away from
its own float64, ours 2e-7). The synthetic images are therefore much brighter than the real ones.

Run `python benchmarks/evaluate_vs_clean_fid.py`, with fewer images to try it: `--num-images 60`. With `--check` the
exit code is 1 if a target is missed; with few images clean-fid's matrix root weighs more, so the ratios are larger.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from cleanfid import fid  # noqa: E402
from cleanfid.inception_torchscript import InceptionV3W  # noqa: E402
from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402
from torchvision.models import inception_v3  # noqa: E402

from medsynth_ray.evaluate import Evaluation, evaluate  # noqa: E402
from medsynth_ray.protocols import Spec  # noqa: E402

NUM_IMAGES, SIZE_PX = 1000, 256
TARGETS = {"FID, nothing cached": 1.6, "FID and KID, real cached": 4.0}
TOLERANCE = 1e-4
WEIGHTS = "inception-2015-12-05.pt"
OPTIONS = {"num_workers": 0, "batch_size": 32, "device": torch.device("cpu"), "verbose": False}

T = TypeVar("T")


class Layers(nn.Module):
    """What the file holds: `layers`, from scaled pixels to 2048 features."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features (N, 2048)."""
        return self.layers(x)


def write_weights(folder: Path) -> Spec:
    """The space with weights by He's rule (torch's own let Inception's features collapse to a constant)."""
    torch.manual_seed(0)
    network = inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    network.fc = nn.Identity()
    example = torch.zeros(2, 3, 299, 299)
    torch.jit.trace(Layers(network).eval(), example, check_trace=False).save(str(folder / WEIGHTS))
    sha256 = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    return Spec(use="inception_v3", config={"weights": str(folder / WEIGHTS), "sha256": sha256})


def write_images(folder: Path, num: int, seed: int, brightness: float) -> str:
    """Smooth blobs with noise, 256 px, RGB."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(num):
        coarse = np.clip(rng.uniform(-70, 70, (6, 6, 3)) + brightness, 0, 255).astype(np.uint8)
        blob = np.asarray(Image.fromarray(coarse).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC))
        pixels = np.clip(blob + rng.normal(0, 5, blob.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:05d}.png", compress_level=1)
    return str(folder)


def seconds(work: Callable[[], T]) -> tuple[float, T]:
    """(CPU seconds, what it returned)."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = work()
    return time.process_time() - start, value


def ours(real: str, synthetic: str, space: Spec, cache: Path, metrics: list[str], num: int) -> Evaluation:
    """All images on both sides and no floors, as clean-fid does."""
    settings = {
        "frechet": {"num_images": num},
        "kid": {"num_floor_splits": 0, "max_images": num},
    }
    specs = [Spec(use=name, config=settings[name]) for name in metrics]
    return evaluate(real, synthetic, spaces=[space], metrics=specs, cache=cache, per_class=False)


def peer_kid(real: str, synthetic: str, model: nn.Module) -> float:
    """The body of clean-fid's `compute_kid`."""
    features = [fid.get_folder_features(folder, model, mode="clean", **OPTIONS) for folder in (real, synthetic)]
    np.random.seed(0)  # noqa: NPY002 - kernel_distance draws from it
    return float(fid.kernel_distance(*features))


def compare(name: str, ours_s: float, peer_s: float, values: list[tuple[str, float, float]]) -> float:
    """Print one race; peer's seconds over ours.

    Raises:
        SystemExit: a value differs by more than TOLERANCE.
    """
    print(f"{name}: {ours_s:.1f} s against {peer_s:.1f} s, {peer_s / ours_s:.2f}x (target {TARGETS[name]}x)")
    for metric, own, expected in values:
        difference = abs(own - expected) / abs(expected)
        print(f"  {metric}: {own:.8g} against {expected:.8g}, off by {difference:.1e}")
        if difference > TOLERANCE:
            raise SystemExit(f"{metric} differs by {difference:.1e}, allowed {TOLERANCE}")
    return peer_s / ours_s


def race(folder: Path, num: int) -> dict[str, float]:
    """Both ratios."""
    space = write_weights(folder)
    real = write_images(folder / "real", num, 1, 100.0)
    synthetic = write_images(folder / "synthetic", num, 2, 180.0)
    model = InceptionV3W(str(folder), download=False)
    alone_s, alone = seconds(lambda: ours(real, synthetic, space, folder / "alone", ["frechet"], num))
    ours(real, real, space, folder / "cached", ["frechet"], num)
    both_s, both = seconds(lambda: ours(real, synthetic, space, folder / "cached", ["frechet", "kid"], num))
    fid_s, fid_value = seconds(lambda: float(fid.compute_fid(real, synthetic, custom_feat_extractor=model, **OPTIONS)))
    kid_s, kid_value = seconds(lambda: peer_kid(real, synthetic, model))
    frechet, kid = (row.value for row in both.rows)
    first = alone.rows[0].value
    assert first is not None
    assert frechet is not None
    assert kid is not None
    return {
        "FID, nothing cached": compare("FID, nothing cached", alone_s, fid_s, [("FID", first, fid_value)]),
        "FID and KID, real cached": compare(
            "FID and KID, real cached", both_s, fid_s + kid_s, [("FID", frechet, fid_value), ("KID", kid, kid_value)]
        ),
    }


def main() -> int:
    """Print the ratios; 1 if `--check` is given and one is below its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--num-images", type=int, default=NUM_IMAGES, help="of each side, 20 to 1000")
    arguments = parser.parse_args()
    if not 20 <= arguments.num_images <= 1000:
        parser.error(f"--num-images: 20 to 1000 is allowed, got {arguments.num_images}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        ratios = race(Path(folder), arguments.num_images)
    return int(arguments.check and any(ratios[name] < target for name, target in TARGETS.items()))


if __name__ == "__main__":
    sys.exit(main())
