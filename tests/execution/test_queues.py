"""The queues that all executors share: each task has one ending, and nothing after it."""

import threading
from pathlib import Path

from emulator.execution.executor import Alive, Died, Event, Finished, Refused
from emulator.execution.queues import Assignment, Queue, Queues
from emulator.execution.shards import ModelUse, Predicted, Shard

FINISHED = Finished("cpu", ModelUse(Path("model")))
DIED = Died("was killed by signal 9 (SIGKILL)")

Heard = list[tuple[str | None, Event]]


def no_shard(task: str) -> Shard:
    raise ValueError(f"{task} cannot be built")


def opened(queues: Queues, *tasks: str) -> tuple[Queue[str], Heard]:
    heard: Heard = []
    queue: Queue[str] = queues.open(no_shard, lambda task, event: heard.append((task, event)))
    queue.add(tasks)
    return queue, heard


def taken(queues: Queues) -> Assignment:
    assignment = queues.take()
    assert assignment is not None
    return assignment


def test_a_worker_that_counts_as_lost_is_not_heard_any_more() -> None:
    queues = Queues()
    _, heard = opened(queues, "a")
    lost = taken(queues)
    queues.deliver(lost, Alive(1, 10))
    queues.deliver(lost, DIED)
    for late in (Predicted(0, b"{}\n"), Alive(2, 10), FINISHED, DIED, Refused(13, "")):
        queues.deliver(lost, late)
    assert heard == [("a", Alive(1, 10)), ("a", DIED)]


def test_a_lost_worker_does_not_speak_for_the_next_attempt() -> None:
    queues = Queues()
    queue, heard = opened(queues, "a")
    lost = taken(queues)
    queues.deliver(lost, DIED)
    queue.add(["a"])
    again = taken(queues)
    queues.deliver(lost, Predicted(0, b"late\n"))
    queues.deliver(again, Predicted(0, b"new\n"))
    queues.deliver(lost, FINISHED)
    queues.deliver(again, FINISHED)
    assert again.ticket > lost.ticket
    assert heard == [("a", DIED), ("a", Predicted(0, b"new\n")), ("a", FINISHED)]


def test_an_ended_task_does_not_count_as_running() -> None:
    queues = Queues()
    opened(queues, "a1", "a2", "a3", "a4")
    first, second = taken(queues), taken(queues)
    opened(queues, "b1", "b2", "b3")
    assert taken(queues).task == "b1"
    for ended in (first, second, first):
        queues.deliver(ended, FINISHED)
    assert [taken(queues).task for _ in range(4)] == ["a3", "b2", "a4", "b3"]


def test_a_closed_queue_tells_who_works_for_it() -> None:
    cancelled: list[Assignment] = []
    queues = Queues(on_cancel=cancelled.extend)
    queue, heard = opened(queues, "a", "b", "c")
    other, _ = opened(queues, "x")
    ended, running = taken(queues), taken(queues)
    assert running.task == "x"
    second = taken(queues)
    queues.deliver(ended, FINISHED)
    queue.close()
    queue.close()
    assert cancelled == [second]
    assert (second.is_cancelled, running.is_cancelled) == (True, False)
    queues.deliver(second, FINISHED)
    queue.add(["d"])
    assert queues.take() is None
    assert heard == [("a", FINISHED)]
    other.close()
    assert cancelled == [second, running]


def test_a_task_that_cannot_be_built_ends_refused() -> None:
    queues = Queues()
    _, heard = opened(queues, "a")
    assert queues.build(taken(queues)) is None
    assert heard == [("a", Refused(13, "ValueError: a cannot be built"))]


def test_a_slot_may_wait_for_a_task() -> None:
    queues = Queues()
    assert queues.take(timeout_s=0.01) is None
    found: list[str] = []

    def serve() -> None:
        while (assignment := queues.take(timeout_s=None)) is not None:
            found.append(assignment.task)
            queues.deliver(assignment, FINISHED)
            done.release()

    done = threading.Semaphore(0)
    slots = [threading.Thread(target=serve) for _ in range(3)]
    for slot in slots:
        slot.start()
    queue, heard = opened(queues, "a")
    queue.add(["b", "c"])
    assert all(done.acquire(timeout=60) for _ in range(3))
    queues.stop()
    for slot in slots:
        slot.join(60)
        assert not slot.is_alive()
    assert sorted(found) == sorted(str(task) for task, _ in heard) == ["a", "b", "c"]
    assert queues.take(timeout_s=None) is None


def test_all_jobs_hear_what_concerns_all() -> None:
    queues = Queues()
    closed, silent = opened(queues, "a")
    _, heard = opened(queues, "b")
    closed.close()
    queues.deliver_to_all(Refused(13, "No worker process can be started"))
    assert silent == []
    assert heard == [(None, Refused(13, "No worker process can be started"))]
