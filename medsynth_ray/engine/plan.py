"""The plan as straight-line code: coroutines that yield jobs (or coroutines) and get their results back in order.

    results = yield [job, job, other_coroutine]     # a barrier: goes on when all three are done

`Schedule` runs such a coroutine: it looks up what is recorded, hands out what is missing in plan order, and sends the
results back. It decides nothing, so what it computes does not depend on how many workers there are or who was first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from medsynth_ray.engine.store import Record, Store, Unit, canonical, content_key
from medsynth_ray.errors import StoreError

Steps = Generator[Any, Any, Any]


@dataclass(frozen=True)
class Job:
    """One trial: `kind` names a function of trial.py, `args` are its arguments (JSON), `inputs` alone decide its key.

    The inputs say all that the arguments say, but by content: an argument may hold a location, an input never.
    name, tags: for people, in progress bars, MLflow and the report.
    """

    kind: str
    name: str
    args: dict[str, Any]
    inputs: dict[str, Any]
    tags: dict[str, Any] = field(default_factory=dict)

    @property
    def unit(self) -> Unit:
        """The unit whose record says that this job is done, and what came out."""
        return Unit("trial", {"job": self.kind, "inputs": self.inputs})


@dataclass
class _Node:
    """A coroutine that waits for what it yielded."""

    steps: Steps
    parent: _Node | None
    place: int
    path: tuple[int, ...]
    results: list[Any] = field(default_factory=list)
    waiting: int = 0
    turns: int = 0


class Schedule:
    """Runs a plan.

    lookup: the record of a job, or None. on_record: called once for every job that has one. failed: keys of jobs that
    count as failed where they have no record, and are not handed out.
    """

    def __init__(
        self,
        plan: Steps,
        lookup: Callable[[Job], Record | None],
        on_record: Callable[[Job, Record], None] | None = None,
        *,
        failed: Collection[str] = (),
    ) -> None:
        self._lookup, self._on_record = lookup, on_record or (lambda job, record: None)
        self._left = failed
        self._ready: list[tuple[tuple[int, ...], int, Job, _Node, int]] = []
        self._out: dict[str, list[tuple[_Node, int]]] = {}
        self._pushed = 0
        self.done, self.outcome = False, None
        self.num_done = self.num_seen = 0
        self.failed: dict[str, Job] = {}
        self._advance(_Node(plan, None, 0, ()), None)

    def next(self) -> Job | None:
        """The next job to start, or None while all that is ready is out already."""
        while self._ready:
            *_, job, node, place = heapq.heappop(self._ready)
            key = job.unit.key
            if key in self._out:  # the same job was asked for twice: one trial serves both
                self._out[key].append((node, place))
                continue
            self._out[key] = [(node, place)]
            return job
        return None

    def num_ready(self) -> int:
        """How many jobs could start now."""
        return len(self._ready)

    def num_out(self) -> int:
        """How many jobs were handed out and are not finished."""
        return len(self._out)

    def finish(self, job: Job, record: Record | None) -> None:
        """Take back a job that was handed out; None: it failed, and the plan gets None for it."""
        waiting = self._out.pop(job.unit.key)
        self._count(job, record)
        for node, place in waiting:
            self._fill(node, place, record and record["result"])

    def forget(self, job: Job) -> None:
        """Take back a job that was stopped before it had a result; the plan goes on waiting for it."""
        self._out.pop(job.unit.key)

    def retry(self, job: Job) -> None:
        """Take back a job whose worker died, to be handed out once more."""
        for node, place in self._out.pop(job.unit.key):
            heapq.heappush(self._ready, ((*node.path, node.turns, place), self._pushed, job, node, place))
            self._pushed += 1

    def _count(self, job: Job, record: Record | None) -> None:
        self.num_done += 1
        if record is None:
            self.failed[job.unit.key] = job
        else:
            self._on_record(job, record)

    def _advance(self, node: _Node, value: Any) -> None:
        """Send `value` to a coroutine until it waits for something or returns."""
        while True:
            try:
                items = node.steps.send(value)
            except StopIteration as stop:
                self._returned(node, stop.value)
                return
            node.turns += 1
            node.results, node.waiting = [None] * len(items), len(items)
            self._open(node, items)
            if node.waiting:
                return
            value = node.results

    def _open(self, node: _Node, items: Sequence[Any]) -> None:
        """Start the items; recorded ones are filled in at once without waking the node (its loop goes on)."""
        node.waiting += 1  # keeps the node asleep until all are open
        for place, item in enumerate(items):
            path = (*node.path, node.turns, place)
            if not isinstance(item, Job):
                self._advance(_Node(item, node, place, path), None)
                continue
            self.num_seen += 1
            found = self._lookup(item)
            if found is None and item.unit.key not in self._left:
                heapq.heappush(self._ready, (path, self._pushed, item, node, place))
                self._pushed += 1
            else:
                self._count(item, found)
                node.results[place] = found and found["result"]
                node.waiting -= 1
        node.waiting -= 1

    def _returned(self, node: _Node, value: Any) -> None:
        if node.parent is None:
            self.done, self.outcome = True, value
        else:
            self._fill(node.parent, node.place, value)

    def _fill(self, node: _Node, place: int, value: Any) -> None:
        node.results[place] = value
        node.waiting -= 1
        if node.waiting == 0:
            self._advance(node, node.results)


class Decisions:
    """What a sweep decided, as records: read before they are computed, so that a resume cannot decide otherwise.

    writable: False only reads (report, status): a decision that is not recorded is computed and not kept.
    """

    def __init__(self, store: Store, sweep_id: str, *, writable: bool = True) -> None:
        self._store, self._folder, self._writable = store, f"sweep/{sweep_id}/decision", writable

    def decide(self, name: str, inputs: Any, compute: Callable[[], Any]) -> Any:
        """The outcome (JSON) of decision `name` on these inputs (JSON).

        Other inputs are another decision: after a failed trial was retried, what was decided without it is not taken.

        Raises:
            StoreError: the store cannot be written.
        """
        path = f"{self._folder}/{name}-{content_key('decision', inputs)[:8]}.json"
        found = self._store.read_json(path)
        if found is None:
            found = {"name": name, "inputs": inputs, "outcome": compute()}
            if self._writable and not self._store.create_exclusive(path, canonical(found)):
                found = self._store.read_json(path)
                if found is None:
                    raise StoreError(f"{self._store.at(path)} was refused and cannot be read")
        return found["outcome"]

    def look(self, test_fingerprint: str, sweep_id: str, winner: str) -> None:
        """Record that this sweep opens the locked test for a winner: `look/<test>/<sweep>-<hash of the winner>`.

        Raises:
            StoreError: the store cannot be written.
        """
        if self._writable:
            name = f"{sweep_id}-{content_key('look', winner)[:8]}"
            self._store.create_exclusive(f"look/{test_fingerprint[:32]}/{name}", b"opened")


def promote(quality: Sequence[tuple[str, float | None]], keep: int) -> list[str]:
    """The `keep` best keys of (key, quality), smaller is better; without a finite quality a key is never promoted."""
    finite = [(value, key) for key, value in quality if value is not None and value == value]
    return [key for _, key in sorted(finite)[:keep]]
