"""Addresses of the MLflow 3.17 pages that answer the questions of a sweep. Cheap to import."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

LOCAL_UI = "http://127.0.0.1:5000"
"""Where `medsynth ui` serves a database file."""

VIEW = "medsynth"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
VIEW_STATE = json.dumps({"runsHiddenMode": "SHOW_ALL"})
"""A view that the experiment shares: without it the page of charts shows the first ten runs only."""

MAX_COMPARED = 8
"""More lines cannot be told apart on the compare page."""


def links(base_url: str, experiment_id: str, run_ids: Sequence[str]) -> dict[str, str]:
    """`runs`, the list; `charts`, with the image grid; `compare`, side by side.

    base_url: address of the tracking server, or of the UI of a database file.
    """
    runs = f"{base_url.rstrip('/')}/#/experiments/{experiment_id}/runs"
    compared = quote(json.dumps(list(run_ids[:MAX_COMPARED]), separators=(",", ":")))
    experiments = quote(json.dumps([experiment_id]))
    compare = f"{base_url.rstrip('/')}/#/compare-runs?runs={compared}&experiments={experiments}"
    return {"runs": runs, "charts": f"{runs}?compareRunsMode=CHART&viewStateShareKey={VIEW}", "compare": compare}
