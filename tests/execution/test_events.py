"""The events that wait for a runner: how many, and that nothing waits for a runner that has stopped."""

import threading

import pytest

from emulator.execution import predicting
from emulator.execution.executor import Alive
from emulator.execution.predicting import Events, Task

PATIENCE_S = 60
BOUND = 3


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """Full but for nothing: one more event waits for an hour."""
    monkeypatch.setattr(predicting, "_MAX_WAITING_EVENTS", BOUND)
    monkeypatch.setattr(predicting, "_ROOM_TIMEOUT_S", 3600.0)
    full = Events()
    for number in range(BOUND):
        full.put((Task(number, [0]), Alive()))
    return full


def putting(events: Events) -> threading.Thread:
    thread = threading.Thread(target=events.put, args=((Task(BOUND, [0]), Alive()),), daemon=True)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive(), "there was room"
    return thread


def taken(events: Events) -> list[int]:
    found = [events.get(0.0) for _ in range(BOUND + 1)]
    return [event[0].video for event in found if event is not None and event[0] is not None]


def test_event_waits_for_room_and_none_is_lost(events: Events) -> None:
    thread = putting(events)
    first = events.get(PATIENCE_S)
    assert first is not None
    assert first[0] == Task(0, [0])
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert taken(events) == [1, 2, 3]


def test_nothing_waits_once_the_bound_is_lifted(events: Events) -> None:
    thread = putting(events)
    events.lift_bound()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    events.put((Task(BOUND + 1, [0]), Alive()))
    assert taken(events) == [0, 1, 2, 3]


def test_waking_the_runner_needs_no_room(events: Events) -> None:
    events.wake()
    assert taken(events) == [0, 1, 2]
