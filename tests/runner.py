"""Small real sweeps: real Ray, real components, a store in a temporary folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MINI = """\
name: mini
data: {adapter: phantom, resolution: 32, size_px: 32, num_images: 420, imbalance: 2}
split: {val_share: 0.2, test_share: 0.5}
generators:
  gaussian: {search: {method: optuna, trials: 6, batch: 3}}
  copy_real:
fit:
  quality: {num_images: 60, space: &lite {use: efficientnet_lite0, config: {resolution: 64}}}
gates:
  dedupe:
  near_copy: {config: {space: *lite}}
mix:
  ratios: [0.25, 0.5]
  mixers: [add, replace]
  classifier: &probe {use: probe, config: {space: *lite}}
  repeats: 2
confirm: {classifier: *probe, repeats: 6}
verdict: {accept_underpowered: true}
tracking: {enabled: false}
"""


@dataclass
class Runner:
    """Runs the command line on a sweep file, in a folder with a store of its own (named by a relative path)."""

    folder: Path

    def command(self, verb: str, *extra: str, text: str = MINI) -> list[str]:
        """The command of a verb ("run", "sweep sync") on the sweep file."""
        path = self.folder / "mini.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        settings = [word for pair in ("store=store", *extra) for word in ("-s", pair)]
        return [sys.executable, "-m", "medsynth_ray", *verb.split(), str(path), "--json", *settings]

    def start(self, *extra: str, text: str = MINI) -> subprocess.Popen[str]:
        """Start a run."""
        return subprocess.Popen(
            [*self.command("run", *extra, text=text), "--yes"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def run(self, *extra: str, text: str = MINI, code: int = 0) -> dict[str, Any]:
        """Run to the end and return what it printed."""
        return self.call([*self.command("run", *extra, text=text), "--yes"], code=code)

    def call(self, command: list[str], *, code: int = 0) -> dict[str, Any]:
        """Run a command and return what it printed."""
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, env=environment(), check=False, timeout=600
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stderr[-3000:]}"
        printed: dict[str, Any] = json.loads(done.stdout)
        return printed

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def verdict(self) -> bytes:
        """The bytes of verdict.json."""
        (path,) = self.store.glob("sweep/*/verdict.json")
        return path.read_bytes()

    def records(self) -> dict[str, dict[str, Any]]:
        """Every record by `<kind>/<key>`."""
        found = self.store.glob("*/*/record.json")
        return {p.parent.relative_to(self.store).as_posix(): json.loads(p.read_text()) for p in found}

    def attempts(self, unit: str) -> list[str]:
        """Names of the attempt folders of a unit."""
        return sorted(p.name for p in (self.store / unit).iterdir() if p.is_dir())


def environment() -> dict[str, str]:
    """Offline, quiet, and no Ray of somebody else."""
    quiet = {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS",)} | quiet


def kill_when(process: subprocess.Popen[str], moment: Callable[[], bool], timeout_s: float = 240) -> None:
    """SIGKILL the driver and every process that it started, Ray's included, once `moment()` is true."""
    deadline = time.monotonic() + timeout_s
    while not moment():
        assert process.poll() is None, (
            f"the run ended before the moment came: {(process.communicate()[1] or '')[-2000:]}"
        )
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.05)
    driver = psutil.Process(process.pid)
    family = [driver, *driver.children(recursive=True)]
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.communicate()
    psutil.wait_procs(family, timeout=20)
