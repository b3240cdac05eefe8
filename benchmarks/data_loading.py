"""Shuffled epochs of normalised float32 batches: the decoded array against torchvision's ImageFolder + DataLoader.

Both sides deliver the same JPEGs (256 px) at 64 px as float32 (64, 3, 64, 64) in [-1, 1]; rounds alternate and medians
are compared. The peer, with 0 or 2 workers (the better one counts), decodes in every epoch; we decode once, on one
thread, and that cost is printed beside.

    python benchmarks/data_loading.py [--images 1000] [--rounds 5] [--check]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from medsynth_ray.data.adapters.phantom import Phantom, draw
from medsynth_ray.data.dataset import Dataset, prepare
from medsynth_ray.images import batches
from medsynth_ray.sections import DataConfig, SplitConfig

TARGET = 20.0
BATCH, SIDE = 64, 64
OUR_EPOCHS = 10
"""One of our epochs takes milliseconds, so a round times several."""


def write_jpegs(root: Path, count: int) -> None:
    """Phantom images of 256 px in class folders."""
    images = draw([-(-count // 3)] * 3, config=Phantom.Config(size_px=256), seed=0)
    for pixels, label, name in zip(images.pixels[:count], images.labels, images.ids, strict=False):
        folder = root / images.class_names[label]
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{name.replace('/', '_')}.jpg", quality=90)


def peer(root: Path, num_workers: int, *, shuffle: bool = True) -> Callable[[int], Iterator[torch.Tensor]]:
    """ImageFolder + DataLoader as its tutorial has it."""
    steps = [
        transforms.Resize((SIDE, SIDE), interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ]
    folder = ImageFolder(str(root), transforms.Compose(steps))
    loader = DataLoader(
        folder, batch_size=BATCH, shuffle=shuffle, num_workers=num_workers, persistent_workers=num_workers > 0
    )
    return lambda epoch: (x_NCHW for x_NCHW, _ in loader)


def ours(data: Dataset) -> Callable[[int], Iterator[np.ndarray]]:
    """The plain loop that every component of this package uses."""
    return lambda epoch: (x_NCHW for x_NCHW, _, _ in batches(data.images, batch_size=BATCH, seed=0, epoch=epoch))


def images_per_second(epoch_of: Callable[[int], Iterable[object]], first_epoch: int, epochs: int, count: int) -> float:
    """Wall-clock rate over some epochs; every batch is touched and its count checked."""
    start, delivered = time.perf_counter(), 0
    for epoch in range(first_epoch, first_epoch + epochs):
        for x_NCHW in epoch_of(epoch):
            delivered += len(x_NCHW)  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    assert delivered == epochs * count, f"{delivered} images delivered, {epochs * count} expected"
    return delivered / seconds


def largest_difference(root: Path, data: Dataset) -> float:
    """Largest difference, on the [-1, 1] scale, between what both sides deliver for the same images."""
    theirs = torch.cat(list(peer(root, 0, shuffle=False)(0))).numpy()
    mine = np.concatenate([x_NCHW for x_NCHW, _, _ in batches(data.images, batch_size=BATCH, seed=None)])
    return float(np.abs(theirs - mine).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help=f"exit with 1 below {TARGET:g}x")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return compare(Path(folder), options.images, options.rounds, options.check)


def compare(root: Path, count: int, rounds: int, check: bool) -> int:
    """Measure all sides in turn and print the ratio of medians."""
    write_jpegs(root, count)
    start = time.perf_counter()
    data = prepare(DataConfig(root=str(root), resolution=SIDE, groups="none"), SplitConfig(), num_threads=1)
    decode_s = time.perf_counter() - start
    print(f"largest difference between the two sides' pixels: {largest_difference(root, data):.1e} of a range of 2")
    sides = {
        "peer, 0 workers": (peer(root, 0), 1),
        "peer, 2 workers": (peer(root, 2), 1),
        "ours": (ours(data), OUR_EPOCHS),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for epoch_of, _ in sides.values():
        images_per_second(epoch_of, 0, 1, count)
    for round_number in range(rounds):
        for name, (epoch_of, epochs) in sides.items():
            rates[name].append(images_per_second(epoch_of, 1 + round_number * epochs, epochs, count))
    median = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        print(f"{name}: {median[name]:,.0f} images/s (median of {rounds}; {min(values):,.0f} to {max(values):,.0f})")
    print(f"decoding once, audit and split included: {decode_s:.2f} s for {count} images ({count / decode_s:,.0f}/s)")
    ratio = median["ours"] / max(median["peer, 0 workers"], median["peer, 2 workers"])
    print(f"data_loading: {ratio:.1f}x (target >= {TARGET:g}x; peer torchvision ImageFolder + DataLoader)")
    return 1 if check and ratio < TARGET else 0


if __name__ == "__main__":
    raise SystemExit(main())
