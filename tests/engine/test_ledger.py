"""The ledger: caps, the lease, and events of a driver that was overtaken."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsynth_ray.engine import ledger as ledger_module
from medsynth_ray.engine.ledger import Ledger, heartbeat, read_spent
from medsynth_ray.engine.store import Store, canonical
from medsynth_ray.errors import Fenced, SweepLocked


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def led(store: Store, **caps: object) -> Ledger:
    """A ledger that leads, without waiting for a heartbeat."""
    ledger = Ledger(store, "s", **caps)  # type: ignore[arg-type]
    ledger.refresh()
    ledger.epoch = ledger.spent.epoch + 1
    assert ledger._append("lead")
    return ledger


def test_trial_cap_holds(store: Store) -> None:
    ledger = led(store, trials=2)
    assert [ledger.start("a"), ledger.start("b"), ledger.start("c")] == [True, True, False]
    assert ledger.refusal() == "budget.trials = 2 reached"


def test_trials_count_over_all_drivers(store: Store) -> None:
    led(store, trials=2).start("a")
    second = led(store, trials=2)
    assert second.start("b")
    assert not second.start("c")


def test_hours_add_up_over_drivers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(ledger_module.time, "monotonic", lambda: clock[0])
    first = led(store, hours=1.0)
    clock[0] = 1800.0
    assert first.start("a")
    second = led(store, hours=1.0)
    clock[0] = 1800.0 + 1700.0
    assert second.start("b")
    clock[0] = 1800.0 + 1801.0
    assert second.refusal() == "budget.hours = 1 reached"
    assert not second.start("c")
    assert read_spent(store, "s").hours == pytest.approx((1800 + 1700) / 3600, abs=1e-3)


def test_overtaken_driver_is_fenced_and_its_late_events_are_void(store: Store) -> None:
    old = led(store)
    old.start("a")
    new = led(store)
    with pytest.raises(Fenced, match="epoch 2"):
        old.start("b")
    store.create_exclusive(
        "sweep/s/ledger/00000003.json",
        canonical({"kind": "start", "epoch": 1, "elapsed_s": 1.0, "trial": "zombie", "nonce": "z"}),
    )
    new.start("c")
    assert new.spent.trials_started == 2
    assert new.spent.open_trials == {"c"}


@settings(max_examples=25)
@given(cap=st.integers(1, 12), writers=st.integers(2, 4))
def test_started_never_exceeds_the_cap_under_any_interleaving(
    cap: int, writers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(str(tmp_path_factory.mktemp("ledger")))
    lead = led(store)
    started: list[str] = []

    def work(number: int) -> None:
        own = Ledger(store, "s", trials=cap)
        own.refresh()
        own.epoch = lead.epoch
        for turn in range(6):
            if own.start(f"{number}-{turn}"):
                started.append(f"{number}-{turn}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_spent(store, "s").trials_started == len(started) == min(cap, 6 * writers)


def test_a_live_leader_locks_others_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "HEARTBEAT_S", 0.1)
    leader = Ledger(store, "s")
    leader.lead()
    try:
        with pytest.raises(SweepLocked, match="sweep is led by process"):
            Ledger(store, "s").lead()
    finally:
        leader.release()
    after = Ledger(store, "s")
    after.lead()
    assert after.epoch == 2
    after.release()
    assert heartbeat(store, "s") == {"released": True}


def test_a_heartbeat_that_stands_still_is_overtaken(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "HEARTBEAT_S", 0.05)
    store.overwrite(
        "sweep/s/heartbeat.json",
        canonical({"epoch": 1, "count": 7, "host": "elsewhere", "pid": 1, "born": 0, "boot": 0}),
    )
    ledger = Ledger(store, "s")
    ledger.lead()
    assert ledger.epoch == 1
    ledger.release()


def test_stop_is_seen_by_workers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from medsynth_ray.engine.work import stop_asked

    ledger = Ledger(store, "s")
    ledger.lead()
    ask = stop_asked(store, "s", ledger.epoch)
    assert not ask()
    ledger.ask_stop()
    assert ask()
    ledger.release()
