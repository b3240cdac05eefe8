"""Wall time, CPU time and memory of the quickstart sweep, and how fast the command line and the package come up.

The process tree of the sweep is sampled every quarter of a second; CPU seconds and memory are sums over its processes.
Run it on an idle machine. There is no peer: nobody else goes from images to a verdict.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {"wall_s": 300.0, "cpu_s": 500.0, "memory_gib": 8.0, "help_s": 0.5, "import_s": 0.3}


def run_quickstart() -> dict[str, float]:
    """Run it in a new store; wall and CPU seconds and peak resident memory of its process tree."""
    with tempfile.TemporaryDirectory() as store:
        command = [
            sys.executable,
            "-m",
            "medsynth_ray",
            "run",
            str(ROOT / "sweeps/quickstart.yaml"),
            "--yes",
            "-s",
            f"store={store}",
        ]
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        seen: dict[tuple[int, float], float] = {}
        peak = 0
        while process.poll() is None:
            peak = max(peak, sample(process.pid, seen))
            time.sleep(0.25)
    assert process.returncode == 0, f"quickstart ended with {process.returncode}"
    return {"wall_s": time.monotonic() - start, "cpu_s": sum(seen.values()), "memory_gib": peak / 2**30}


def sample(pid: int, seen: dict[tuple[int, float], float]) -> int:
    """Update the CPU seconds of every process of the tree; returns its unique resident bytes."""
    total = 0
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in tree:
        try:
            times = process.cpu_times()
            seen[(process.pid, process.create_time())] = times.user + times.system
            total += process.memory_full_info().uss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def median_s(code: list[str], runs: int = 7) -> float:
    """Median wall seconds of a command, after one warm-up."""
    times = []
    for _ in range(runs + 1):
        start = time.monotonic()
        subprocess.run(
            [sys.executable, *code], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "TERM": "dumb"}
        )
        times.append(time.monotonic() - start)
    return statistics.median(times[1:])


def main() -> int:
    """Print the figures; with --check, 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    arguments = parser.parse_args()
    figures = {
        "help_s": median_s(["-m", "medsynth_ray", "--help"]),
        "import_s": median_s(["-c", "import medsynth_ray"]),
    }
    figures |= run_quickstart()
    for name, value in figures.items():
        print(f"{name}: {value:.2f} (target <= {TARGETS[name]:g})")
    print(
        f"quickstart: {figures['wall_s']:.0f} s wall, {figures['cpu_s']:.0f} CPU s, {figures['memory_gib']:.1f} GiB, "
        f"--help {figures['help_s']:.2f} s, import {figures['import_s']:.2f} s "
        f"(target <= {TARGETS['wall_s']:g} s, {TARGETS['cpu_s']:g} CPU s, {TARGETS['memory_gib']:g} GiB, "
        f"{TARGETS['help_s']:g} s, {TARGETS['import_s']:g} s; peer none)"
    )
    return 0 if not arguments.check or all(figures[name] <= TARGETS[name] for name in TARGETS) else 1


if __name__ == "__main__":
    sys.exit(main())
