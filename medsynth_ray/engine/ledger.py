"""The ledger of a sweep: a log with one exclusive create for each event, and the lease as an event in the same log.

Events: `lead` (a driver takes over: a new epoch), `start` and `end` of a trial, `stop` (a clean end of a driver). An
event of a lower epoch than the newest `lead` before it is void. The holder of the lease moves a heartbeat counter; it
is stale when the counter stands still for three intervals on the observer's own clock, or its process is gone from
this very machine.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psutil

from medsynth_ray.engine.store import Store, canonical
from medsynth_ray.errors import Fenced, StoreError, SweepLocked

HEARTBEAT_S = 2.0


@dataclass
class Spent:
    """What a sweep has used, all its drivers together."""

    epoch: int = 0
    hours_before: float = 0.0
    trials_started: int = 0
    trials_ended: int = 0
    open_trials: set[str] = field(default_factory=set)
    _elapsed_s: float = 0.0

    def apply(self, event: dict[str, Any]) -> None:
        """Take one event into account; void ones change nothing."""
        if event["kind"] == "lead":
            if event["epoch"] <= self.epoch:
                return
            self.epoch = event["epoch"]
            self.hours_before += self._elapsed_s / 3600
            self._elapsed_s = 0.0
            self.open_trials.clear()
        elif event["epoch"] != self.epoch:
            return
        self._elapsed_s = max(self._elapsed_s, event["elapsed_s"])
        if event["kind"] == "start":
            self.trials_started += 1
            self.open_trials.add(event["trial"])
        elif event["kind"] == "end":
            self.trials_ended += 1
            self.open_trials.discard(event["trial"])

    @property
    def hours(self) -> float:
        """Wall-clock hours up to the last event."""
        return self.hours_before + self._elapsed_s / 3600


class Ledger:
    """One driver's view of a sweep's ledger, and its lease.

    hours, trials: the caps; None: no cap.
    """

    def __init__(self, store: Store, sweep_id: str, *, hours: float | None = None, trials: int | None = None) -> None:
        self._store, self._sweep_id, self._folder = store, sweep_id, f"sweep/{sweep_id}/ledger"
        self._heartbeat_path = f"sweep/{sweep_id}/heartbeat.json"
        self._cap_hours, self._cap_trials = hours, trials
        self._next, self._beat, self._nonce = 0, 0, uuid.uuid4().hex
        self._start = time.monotonic()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._stop = False
        self.spent = Spent()
        self.epoch = 0

    # --- the lease

    def lead(self) -> None:
        """Take the lead of the sweep and keep the heartbeat moving.

        Raises:
            SweepLocked: another driver leads it.
        """
        self._wait_for_stale()
        self.refresh()
        self._start = time.monotonic()
        self.epoch = self.spent.epoch + 1
        while not self._append("lead"):
            if self.spent.epoch >= self.epoch:
                raise SweepLocked(f"another driver took the lead of {self._folder} just now; run again to follow it")
        self._beat_once()
        self._thread = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Stop the heartbeat and write the end, so that the next driver need not wait."""
        if self._thread is None:
            return
        self._wake.set()
        self._thread.join()
        self._thread = None
        try:
            self.write("stop")
            self._store.overwrite(self._heartbeat_path, canonical({"released": True}))
        except (Fenced, StoreError):
            return  # somebody else leads, or the store is gone: nothing of ours is left to say

    def ask_stop(self) -> None:
        """Tell all work of this sweep to checkpoint and stop."""
        self._stop = True
        if self.spent.epoch <= self.epoch:
            self._beat_once()

    def _wait_for_stale(self) -> None:
        for leader in live_leaders(self._store, [self._sweep_id]).values():
            raise SweepLocked(f"sweep is led by {leader}; stop that one first ({self._store.at(self._folder)})")

    def _keep_beating(self) -> None:
        while not self._wake.wait(HEARTBEAT_S):
            try:
                state = self._store.read_json(self._heartbeat_path) or {}
                if state.get("epoch", 0) > self.epoch:
                    return  # overtaken: the heartbeat is the new leader's
                self._beat_once()
            except Exception:  # a store that is away for a moment must not end the sweep; others see us as stale
                continue

    def _beat_once(self) -> None:
        self._beat += 1
        state = {
            "epoch": self.epoch, "count": self._beat, "stop": self._stop, "nonce": self._nonce, **_this_process()
        }  # fmt: skip
        self._store.overwrite(self._heartbeat_path, canonical(state))

    # --- the log

    def refresh(self) -> None:
        """Read the events that others wrote."""
        if self._next == 0:
            for name in self._store.list(self._folder):
                self._read(int(name.split(".")[0]))
        while self._read(self._next):
            pass

    def _read(self, number: int) -> bool:
        if number < self._next:
            return True
        event = self._store.read_json(self._path(number))
        if event is None:
            return False
        self.spent.apply(event)
        self._next = number + 1
        return True

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:08d}.json"

    def _append(self, kind: str, **fields: Any) -> bool:
        event = {
            "kind": kind, "epoch": self.epoch, "elapsed_s": round(time.monotonic() - self._start, 3),
            "at": round(time.time(), 3), "nonce": uuid.uuid4().hex, **fields,
        }  # fmt: skip
        if self._store.create_exclusive(self._path(self._next), canonical(event)):
            self.spent.apply(event)
            self._next += 1
            return True
        self.refresh()
        return False

    def write(self, kind: str, **fields: Any) -> None:
        """Append an event of our epoch.

        Raises:
            Fenced: a newer driver leads.
        """
        self._check_fence()
        while not self._append(kind, **fields):
            self._check_fence()

    def _check_fence(self) -> None:
        if self.spent.epoch > self.epoch:
            raise Fenced(f"a newer driver (epoch {self.spent.epoch}) leads this sweep; epoch {self.epoch} stops")

    # --- the caps

    def refusal(self) -> str | None:
        """Why no further trial may start; None if one may."""
        if self._cap_trials is not None and self.spent.trials_started >= self._cap_trials:
            return f"budget.trials = {self._cap_trials} reached"
        hours = self.spent.hours_before + (time.monotonic() - self._start) / 3600
        if self._cap_hours is not None and hours >= self._cap_hours:
            return f"budget.hours = {self._cap_hours:g} reached"
        return None

    def start(self, trial: str) -> bool:
        """Write that a trial starts; False if a cap refuses it.

        Raises:
            Fenced: a newer driver leads.
        """
        while self.refusal() is None:
            self._check_fence()
            if self._append("start", trial=trial):
                return True
        return False

    def end(self, trial: str, *, ok: bool) -> None:
        """Write that a trial ended.

        Raises:
            Fenced: a newer driver leads.
        """
        self.write("end", trial=trial, ok=ok)

    def seconds_left(self) -> float | None:
        """Until `hours` is reached; None without that cap."""
        if self._cap_hours is None:
            return None
        return (self._cap_hours - self.spent.hours_before) * 3600 - (time.monotonic() - self._start)


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "boot": psutil.boot_time(),
        "pid": pid,
        "born": psutil.Process(pid).create_time(),
    }


def _process_is_gone(state: dict[str, Any]) -> bool:
    """Whether the writer of a heartbeat ran on this machine and is no more."""
    if state.get("host") != socket.gethostname() or abs(state.get("boot", 0.0) - psutil.boot_time()) > 5:
        return False
    try:
        process = psutil.Process(state["pid"])
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - state["born"]) > 1
    except psutil.NoSuchProcess:
        return True


def read_spent(store: Store, sweep_id: str) -> Spent:
    """What a sweep has used so far, read only."""
    ledger = Ledger(store, sweep_id)
    ledger.refresh()
    return ledger.spent


def heartbeat(store: Store, sweep_id: str) -> dict[str, Any] | None:
    """The last heartbeat of a sweep's driver, or None; `released` is True after a clean end."""
    state: dict[str, Any] | None = store.read_json(f"sweep/{sweep_id}/heartbeat.json")
    return state


def live_leaders(store: Store, sweep_ids: Iterable[str]) -> dict[str, str]:
    """The sweeps among these whose driver lives, and where it runs: `process 12 on host`.

    A driver that ended cleanly, or whose process is gone from this machine, is known at once; for the heartbeat of any
    other to move, this waits three intervals at most.
    """
    beats = {sweep_id: heartbeat(store, sweep_id) for sweep_id in sweep_ids}
    waiting = {s: b for s, b in beats.items() if b is not None and not b.get("released") and not _process_is_gone(b)}
    live: dict[str, str] = {}
    deadline = time.monotonic() + 3 * HEARTBEAT_S
    while waiting and time.monotonic() < deadline:
        time.sleep(HEARTBEAT_S / 4)
        for sweep_id, before in list(waiting.items()):
            now = heartbeat(store, sweep_id)
            if now == before:
                continue
            del waiting[sweep_id]
            if now is not None and not now.get("released"):
                live[sweep_id] = f"process {now['pid']} on {now['host']}"
    return live
