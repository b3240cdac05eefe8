"""Copies the journal of a sweep to MLflow. The only importer of mlflow.

The journal is `sweep/<sweep_id>/runs/<unit>.json` in the store, one file for each run. The mirror keeps no state of its
own: a run is found by its tag `medsynth.unit` and done when its tag `medsynth.synced`, set last, is the sha256 of the
journal's bytes. Steps and times come from the journal, so copying twice changes nothing. A run that a user deleted
stays deleted. A server that is down, slow or full means "behind", never an error of the sweep. Where the sweep is to be
seen is written to `sweep/<sweep_id>/mlflow.json`.

`python -m medsynth_ray.tracking.mirror --store URL --sweep ID --uri URI` copies until its stdin ends.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import math
import os
import select
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}.items():
    os.environ.setdefault(_name, _value)

import fsspec  # noqa: E402
from mlflow.entities import Metric, Param, Run, RunTag, ViewType  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

from medsynth_ray.tracking._files import lay_out  # noqa: E402
from medsynth_ray.tracking.links import LOCAL_UI, VIEW_STATE, VIEW_TAG, links  # noqa: E402

INTERVAL_S = 2.0
LAST_PASS_S = 30.0
_UNIT, _SYNCED = "medsynth.unit", "medsynth.synced"
_MAX_METRICS, _MAX_PARAMS, _MAX_PARAM_CHARS = 1000, 100, 6000
_FAILURES = (MlflowException, OSError, ValueError, KeyError, TypeError)
"""Dead server, locked or full database, a journal entry that cannot be read."""


_COMPARE_FIRST = {"confirm": 0, "mix": 1}
"""Which runs the compare page begins with: the winner and its controls, then the best arms of the mix."""


@dataclass(frozen=True)
class SyncState:
    """How far the mirror is: runs copied (or deleted by the user), runs still to copy, and the last problem."""

    mirrored: int
    behind: int
    experiment_id: str | None
    links: dict[str, str]
    problem: str = ""


def sync(
    store_url: str, sweep_id: str, uri: str, *, experiment: str | None = None, base_url: str | None = None
) -> SyncState:
    """Copy what the journal holds and MLflow does not. A failure is told in `problem` and leaves its run behind.

    Args:
        store_url: the store, a folder or fsspec URL.
        sweep_id: whose journal.
        uri: MLflow tracking URI, `sqlite:///...` or a server's address.
        experiment: name of the MLflow experiment; the sweep's id unless given.
        base_url: address that `links` start with; the server's, or that of `medsynth ui`, unless given.
    """
    return Copier(store_url, sweep_id, uri, experiment=experiment, base_url=base_url).copy()


class Copier:
    """One sweep's way to one MLflow; remembers what it has copied, so that another pass is cheap."""

    def __init__(
        self, store_url: str, sweep_id: str, uri: str, *, experiment: str | None = None, base_url: str | None = None
    ) -> None:
        self._fs, root = fsspec.core.url_to_fs(os.path.expanduser(store_url))
        self._root = root.rstrip("/")
        self._sweep = f"{self._root}/sweep/{sweep_id}"
        self._base_url = base_url or (uri if uri.startswith(("http://", "https://")) else LOCAL_UI)
        self._links: dict[str, str] = {}
        self._uri, self._experiment = uri, experiment or sweep_id
        self._experiment_id: str | None = None
        self._client: MlflowClient | None = None
        self._runs: dict[str, list[Run]] = {}
        self._copied: dict[str, str] = {}
        self._run_ids: dict[tuple[int, float, str], str] = {}

    def copy(self, *, timeout_s: float = math.inf) -> SyncState:
        """One pass over the journal, which starts no further run after `timeout_s`."""
        end = time.monotonic() + timeout_s
        stamps: dict[str, str] = {}
        problem = ""
        try:
            stamps = self._journal()
            if self._missing(stamps):
                with _lock(f"{self._uri}\n{self._experiment}"):
                    self._open()
                    problem = self._copy_runs(self._missing(stamps), end)
            self._write_links()
        except _FAILURES as error:
            problem = _one_line(error)
        behind = len(self._missing(stamps))
        return SyncState(len(stamps) - behind, behind, self._experiment_id, self._links, problem)

    def _journal(self) -> dict[str, str]:
        """Path of each entry -> what changes when its content does."""
        self._fs.invalidate_cache(f"{self._sweep}/runs")
        try:
            found = self._fs.ls(f"{self._sweep}/runs", detail=True)
        except FileNotFoundError:
            return {}
        names = [info for info in found if info["name"].endswith(".json")]
        return {info["name"]: _stamp(info) for info in sorted(names, key=lambda info: str(info["name"]))}

    def _missing(self, stamps: dict[str, str]) -> dict[str, str]:
        return {path: stamp for path, stamp in stamps.items() if self._copied.get(path) != stamp}

    def _copy_runs(self, missing: dict[str, str], end: float) -> str:
        """Copy entry by entry; one that fails is left for the next pass. Returns the last problem."""
        problem = ""
        for path, stamp in missing.items():
            if time.monotonic() > end:
                return problem or "out of time"
            try:
                self._copy_run(self._fs.cat_file(path))
                self._copied[path] = stamp
            except _FAILURES as error:
                problem = f"{path.rpartition('/')[2]}: {_one_line(error)}"
        return problem

    def _open(self) -> None:
        """Find or create the experiment, once, and list its runs."""
        if self._experiment_id is not None:
            return
        client = MlflowClient(tracking_uri=self._uri)
        found = client.get_experiment_by_name(self._experiment)
        if found is None:
            created = client.create_experiment(
                self._experiment, artifact_location=_artifact_location(self._uri), tags={VIEW_TAG: VIEW_STATE}
            )
            found = client.get_experiment(created)
        self._runs = _runs_by_unit(client, found.experiment_id) if found.lifecycle_stage == "active" else {}
        self._client, self._experiment_id = client, found.experiment_id

    def _copy_run(self, data: bytes) -> None:
        """Bring one run to the state of its entry; what a user deleted is left alone."""
        entry = json.loads(data)
        digest = hashlib.sha256(data).hexdigest()
        run = self._find_or_create(entry)
        if run is None:
            return
        if run.data.tags.get(_SYNCED) != digest:
            self._write(run.info.run_id, entry, digest)
        stage = entry.get("tags", {}).get("stage", "")
        place = (_COMPARE_FIRST.get(stage, len(_COMPARE_FIRST)), -entry.get("score", 0.0), entry["unit"])
        self._run_ids[place] = run.info.run_id

    def _find_or_create(self, entry: dict[str, Any]) -> Run | None:
        """The entry's run; None if a user deleted it, or the experiment. Of several, the oldest is kept."""
        assert self._client is not None
        assert self._experiment_id is not None
        unit = entry["unit"]
        runs = self._runs.pop(unit, None) or _search(self._client, self._experiment_id, f"tags.`{_UNIT}` = '{unit}'")
        alive = [run for run in runs if run.info.lifecycle_stage == "active"]
        alive.sort(key=lambda run: (run.info.start_time, run.info.run_id))
        for extra in alive[1:]:
            self._client.delete_run(extra.info.run_id)
        if runs or self._client.get_experiment(self._experiment_id).lifecycle_stage != "active":
            return alive[0] if alive else None
        return self._client.create_run(
            self._experiment_id, start_time=entry["start_ms"], tags={_UNIT: unit}, run_name=entry["name"]
        )

    def _write(self, run_id: str, entry: dict[str, Any], digest: str) -> None:
        """Everything of one run; the tag that says so comes last."""
        assert self._client is not None
        metrics, not_finite = _metrics(entry.get("metrics", ()))
        params = [Param(key, str(value)[:_MAX_PARAM_CHARS]) for key, value in entry.get("params", {}).items()]
        with tempfile.TemporaryDirectory() as folder:
            tags = {**entry.get("tags", {}), **lay_out(entry, Path(folder), self._read)}
            if any(Path(folder).iterdir()):
                self._client.log_artifacts(run_id, folder)
        if not_finite:
            tags["medsynth.not_finite"] = ", ".join(not_finite)
        for some in _chunks(params, _MAX_PARAMS):
            self._client.log_batch(run_id, params=some)
        for some in _chunks([RunTag(key, str(value)) for key, value in tags.items()], _MAX_PARAMS):
            self._client.log_batch(run_id, tags=some)
        for some in _chunks(metrics, _MAX_METRICS):
            self._client.log_batch(run_id, metrics=some)
        self._client.set_terminated(run_id, status=entry["status"], end_time=entry["end_ms"])
        self._client.set_tag(run_id, _SYNCED, digest)

    def _read(self, path: str) -> bytes:
        data: bytes = self._fs.cat_file(f"{self._root}/{path}")
        return data

    def _write_links(self) -> None:
        if self._experiment_id is None:
            return
        found = links(self._base_url, self._experiment_id, [self._run_ids[place] for place in sorted(self._run_ids)])
        if found != self._links:
            self._fs.pipe_file(f"{self._sweep}/mlflow.json", json.dumps(found).encode())
            self._links = found


def _metrics(rows: Any) -> tuple[list[Metric], list[str]]:
    """Rows (key, value, step, timestamp_ms) as metrics; NaN and Inf, which empty a chart, only by name."""
    finite = [row for row in rows if row[1] is not None and math.isfinite(row[1])]
    not_finite = sorted({row[0] for row in rows if row[1] is None or not math.isfinite(row[1])})
    return [Metric(key, float(value), int(ms), int(step)) for key, value, step, ms in finite], not_finite


def _runs_by_unit(client: MlflowClient, experiment_id: str) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in _search(client, experiment_id, ""):
        found.setdefault(run.data.tags.get(_UNIT, ""), []).append(run)
    return found


def _search(client: MlflowClient, experiment_id: str, condition: str) -> list[Run]:
    """Runs of the experiment, deleted ones included."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], condition, run_view_type=ViewType.ALL, page_token=token)
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _stamp(info: dict[str, Any]) -> str:
    return "|".join(str(info.get(key)) for key in ("size", "mtime", "LastModified", "updated", "etag", "ETag"))


def _artifact_location(uri: str) -> str | None:
    """A folder beside a database file, so that nothing is written to the current directory; a server knows its own."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    """Only one process of this machine and user at a time."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"medsynth-mirror-{os.getuid()}-{digest}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


# --- the mirror process ----------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Copy until stdin ends, then once more for at most 30 s; 0 if nothing is behind."""
    parser = argparse.ArgumentParser(prog="python -m medsynth_ray.tracking.mirror", description=main.__doc__)
    parser.add_argument("--store", required=True, help="store of the sweep: a folder or fsspec URL")
    parser.add_argument("--sweep", required=True, help="id of the sweep")
    parser.add_argument("--uri", required=True, help="MLflow tracking URI")
    parser.add_argument("--experiment", help="name of the MLflow experiment (default: the sweep's id)")
    parser.add_argument("--state", type=Path, help="file that always holds the newest state as JSON")
    options = parser.parse_args(arguments)
    copier = Copier(options.store, options.sweep, options.uri, experiment=options.experiment)
    told = _tell(copier.copy(timeout_s=LAST_PASS_S), options.state, "")
    while not _stdin_ended(INTERVAL_S):
        told = _tell(copier.copy(timeout_s=LAST_PASS_S), options.state, told)
    end = time.monotonic() + LAST_PASS_S
    while (state := copier.copy(timeout_s=end - time.monotonic())).behind and time.monotonic() < end:
        told = _tell(state, options.state, told)
        time.sleep(1.0)
    _tell(state, options.state, told)
    return int(state.behind > 0)


def _stdin_ended(wait_s: float) -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], wait_s)
    return bool(ready) and os.read(sys.stdin.fileno(), 4096) == b""


def _tell(state: SyncState, file: Path | None, told: str) -> str:
    """Write the state file; print a problem unless it was the last one printed."""
    if file is not None:
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(state)))
        fresh.replace(file)
    if state.problem and state.problem != told:
        print(f"mirror: {state.behind} runs behind: {state.problem}", file=sys.stderr, flush=True)
    return state.problem


if __name__ == "__main__":
    sys.exit(main())
