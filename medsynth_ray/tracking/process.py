"""The processes around MLflow: the mirror beside a sweep, kept alive, and the UI. Imports no mlflow."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Environment of a server that sends nothing home and starts no other processes."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


class Mirror:
    """The mirror as a child process on a pipe: when this process dies, the pipe ends, and so does the mirror."""

    def __init__(
        self,
        store_url: str,
        sweep_id: str,
        uri: str,
        *,
        experiment: str | None = None,
        warn: Callable[[str], None] = _to_stderr,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="medsynth-mirror-")
        self._state_file = Path(self._folder.name) / "state.json"
        self._command = [sys.executable, "-m", "medsynth_ray.tracking.mirror"]
        self._command += ["--store", store_url, "--sweep", sweep_id, "--uri", uri, "--state", str(self._state_file)]
        self._command += ["--experiment", experiment] if experiment else []
        self._warn, self._warned = warn, False
        self._pause_s = _FIRST_PAUSE_S
        self._restart_at = 0.0
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the mirror; None when it does not run."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def start(self) -> None:
        """Start the process; returns at once."""
        source = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        with (Path(self._folder.name) / "log.txt").open("ab") as log:
            # A session of its own: Ctrl-C ends the sweep, and the pipe's end then ends the mirror after a last pass.
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )

    def state(self) -> dict[str, Any]:
        """The newest `SyncState` as a dict; {} before the first pass."""
        try:
            found: dict[str, Any] = json.loads(self._state_file.read_text())
        except FileNotFoundError:
            return {}
        return found

    def poll(self) -> None:
        """Restart a mirror that died, after 1, 2, 4 ... 60 s; warn once. Call it as often as you like."""
        problem = self.state().get("problem", "")
        if problem:
            self._warn_once(problem)
        if self._child is None or self._child.poll() is None:
            return
        now = time.monotonic()
        if self._restart_at == 0.0:
            self._warn_once(f"the mirror process ended with exit status {self._child.returncode}; it is started again")
            self._restart_at = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        elif now >= self._restart_at:
            self._restart_at = 0.0
            self._close_pipe()
            self.start()

    def finish(self, *, timeout_s: float = 30.0) -> int | None:
        """Let the mirror make its last pass; return how many runs are not in MLflow, None if it never got to count."""
        if self._child is None:
            return None
        if self._child.poll() is not None:
            self._close_pipe()
            self.start()
        self._close_pipe()
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        behind: int | None = self.state().get("behind")
        return behind

    def close(self) -> None:
        """Remove the files of the process; `state` is empty afterwards."""
        self._folder.cleanup()

    def _close_pipe(self) -> None:
        if self._child and self._child.stdin:
            self._child.stdin.close()

    def _warn_once(self, problem: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(f"MLflow is behind (the sweep is not affected): {problem}")


def serve(uri: str, port: int, *, page: str | None = None) -> int:
    """Serve MLflow's UI for a database on localhost until it is interrupted; return the exit status.

    page: an address to open in a browser once the server answers.
    """
    process = subprocess.Popen(ui_command(uri, port), env={**os.environ, **QUIET}, stdout=sys.stderr)
    if page is not None:
        threading.Thread(target=_open_once_served, args=(process, port, page), daemon=True).start()
    try:
        return process.wait()
    except KeyboardInterrupt:
        return process.wait()


def ui_command(uri: str, port: int) -> list[str]:
    """The command of `serve`: one worker, reachable from this machine only, artifacts beside the database."""
    artifacts = Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    return [*command, "--port", str(port), "--workers", "1", "--artifacts-destination", str(artifacts)]


def _open_once_served(process: subprocess.Popen[bytes], port: int, page: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None:
        try:
            with direct.open(f"http://127.0.0.1:{port}/health", timeout=5):
                break
        except urllib.error.HTTPError:
            break  # it answers
        except (OSError, http.client.HTTPException):
            time.sleep(0.25)
    if process.poll() is None:
        open_page(page)


def open_page(page: str) -> bool:
    """Open an address in a browser; False where there is none to open it in. Never raises for that.

    On a Linux machine without a display only a browser for the terminal could open, and take that over.
    """
    windows = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    if sys.platform.startswith("linux") and not windows:
        return False
    try:
        return webbrowser.open(page)
    except (webbrowser.Error, OSError):
        return False
