"""What every executor promises: the contract of emulator/execution/executor.py, over each kind."""

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from emulator.execution.executor import Alive, Died, Event, Executor, Finished, Fired, Refused
from emulator.execution.shards import Failed, ModelUse, Predicted, Predictors, run
from emulator.inference.prediction_cache import CachePlace
from emulator.inference.predictor import Unwatched
from emulator.instructions.faults import JobFault
from emulator.storage import LocalStore
from tests.execution.executors import KINDS, Bench, GoneStore, Job, Kind, as_parameters, wait_until
from tests.execution.workplace import write_tiny_model, write_video

SEGMENTS = [(0, 300_000), (300_000, None), (0, None)]
CANNED = '[model]\nobjective = "object_tracking"\ncanned = "canned.jsonl"\n'

Make = Callable[..., Executor]


@pytest.fixture(scope="module", params=as_parameters(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    write_video(folder / "bucket" / "a.mp4", 1)
    write_video(folder / "bucket" / "long.mp4", 60)
    return Bench(LocalStore(folder), tiny_model)


@pytest.fixture(scope="module")
def one(kind: Kind, tiny_model: Path) -> Iterator[Executor]:
    """One worker, for the tests that leave it as it was."""
    executor = kind.make(1, timeout_s=60, warm=[ModelUse(tiny_model, "cpu", 1)])
    executor.start()
    assert executor.wait_until_warm()
    yield executor
    executor.stop()


@pytest.fixture
def make(kind: Kind) -> Iterator[Make]:
    """Makes executors, not started, that are stopped after the test."""
    made: list[Executor] = []

    def make_one(size: int = 1, **options: object) -> Executor:
        made.append(kind.make(size, **options))
        return made[-1]

    yield make_one
    for executor in made:
        executor.stop()


def canned(folder: Path) -> ModelUse:
    """A model whose shards take no time."""
    folder.mkdir()
    (folder / "model.toml").write_text(CANNED)
    (folder / "canned.jsonl").write_text('{"video": "*", "prediction": []}\n')
    return ModelUse(folder)


# What is heard of a shard


def test_each_instance_has_its_outcome_before_the_shard_is_finished(one: Executor, bench: Bench) -> None:
    job = Job(one, {"a": bench.shard(segments=SEGMENTS)})
    (finished,) = job.run("a")
    assert isinstance(finished, Finished)
    assert sorted(outcome.instance for outcome in job.outcomes("a")) == [0, 1, 2]
    assert all(isinstance(outcome, Predicted) for outcome in job.outcomes("a"))
    assert (finished.provider, finished.frames) == ("cpu", 10)
    assert finished.model == ModelUse(bench.model, "cpu", 1)
    assert finished.decoding is not None
    assert "OpenCV" in finished.decoding.decoder
    job.queue.close()


def test_outcomes_are_those_of_the_shard_byte_for_byte(one: Executor, bench: Bench) -> None:
    shard = bench.shard(segments=SEGMENTS)
    expected = list(run(shard, Predictors().get(shard.model), Unwatched()))
    job = Job(one, {"a": shard, "again": shard})
    job.run("a", "again")
    assert job.outcomes("a") == job.outcomes("again") == expected
    job.queue.close()


def test_a_video_that_is_missing_fails_its_instances_and_nothing_else(one: Executor, bench: Bench) -> None:
    job = Job(one, {"gone": bench.shard("gone.mp4", SEGMENTS), "a": bench.shard()})
    assert [type(event) for event in job.run("gone", "a")] == [Finished, Finished]
    assert [(type(failed), failed.instance) for failed in job.outcomes("gone")] == [
        (Failed, number) for number in range(3)
    ]
    assert all(isinstance(failed, Failed) and failed.failure.code == 5 for failed in job.outcomes("gone"))
    job.queue.close()


def test_a_shard_that_takes_time_says_how_far_it_is(one: Executor, bench: Bench) -> None:
    slow = JobFault("slow-model", delay_s=0.1)
    job = Job(one, {"a": bench.shard("long.mp4", fault=slow)})
    job.queue.add(["a"])
    job.wait_for(lambda: any(isinstance(event, Alive) and event.frames for event in job.of("a")))
    alive = [event for event in job.of("a") if isinstance(event, Alive)]
    assert alive[-1].of == 600
    job.queue.close()


# Order and fairness


def test_tasks_of_a_job_are_begun_in_their_order(one: Executor, tmp_path: Path, bench: Bench) -> None:
    names = [f"{number}" for number in range(20)]
    shard = bench.shard(model=canned(tmp_path / "canned"))
    job = Job(one, dict.fromkeys(names, shard))
    job.queue.add(names[:15])
    job.queue.add(names[15:])
    assert {type(job.ending(name)) for name in names} == {Finished}
    assert job.built == job.ended() == names
    job.queue.close()


def test_jobs_take_turns_with_one_worker(make: Make, tmp_path: Path, bench: Bench) -> None:
    executor = make(1)
    shard = bench.shard(model=canned(tmp_path / "canned"))
    begun: list[str] = []
    jobs = [Job(executor, dict.fromkeys(names, shard), built=begun) for names in ("abcd", "xy")]
    jobs[0].queue.add(list("abcd"))
    jobs[1].queue.add(list("xy"))
    executor.start()
    assert {type(job.ending(task)) for job in jobs for task in job.shards} == {Finished}
    assert begun == ["a", "x", "b", "y", "c", "d"]


def test_the_job_with_fewer_running_shards_is_served_first(make: Make, tmp_path: Path, bench: Bench) -> None:
    """A worker of the first job is taken for good, so the second job has the other until it is done."""
    executor = make(2, timeout_s=600)
    shard = bench.shard(model=canned(tmp_path / "canned"))
    begun: list[str] = []
    greedy = Job(executor, {"endless": bench.endless(), "a": shard, "b": shard}, built=begun)
    other = Job(executor, {"x": shard, "y": shard, "z": shard}, built=begun)
    greedy.queue.add(["endless", "a", "b"])
    other.queue.add(["x", "y", "z"])
    executor.start()
    assert isinstance(greedy.ending("b"), Finished)
    assert sorted(begun[:2]) == ["endless", "x"]
    assert begun[2:] == ["y", "z", "a", "b"]


def test_events_of_a_job_come_one_at_a_time(make: Make, tmp_path: Path, bench: Bench) -> None:
    executor = make(2)
    names = [f"{number}" for number in range(20)]
    shard = bench.shard(model=canned(tmp_path / "canned"))
    speaking, overlapped = threading.Lock(), threading.Event()
    job = Job(executor, dict.fromkeys(names, shard))

    def deliver(task: str | None, event: Event) -> None:
        if not speaking.acquire(blocking=False):
            overlapped.set()
            return
        if isinstance(event, Predicted) and len(job.ended()) < 5:
            overlapped.wait(0.2)  # time for the other worker to interrupt
        job._deliver(task, event)
        speaking.release()

    queue = executor.open_queue(job._build, deliver)
    queue.add(names)
    executor.start()
    assert {type(job.ending(name)) for name in names} == {Finished}
    assert not overlapped.is_set()


# Cancelling


def test_a_cancelled_shard_is_silent_and_frees_its_worker(one: Executor, bench: Bench) -> None:
    slow = JobFault("slow-model", delay_s=0.05)
    job = Job(one, {"a": bench.shard("long.mp4", SEGMENTS, fault=slow), "waiting": bench.shard()})
    job.queue.add(["a", "waiting"])
    job.wait_for(lambda: bool(job.outcomes("a")))
    job.queue.close()
    heard = len(job.heard)
    other = Job(one, {"b": bench.shard()})
    assert isinstance(other.run("b")[0], Finished)
    assert len(job.heard) == heard
    assert job.built == ["a"]
    job.queue.close()
    job.queue.add(["waiting"])
    assert isinstance(Job(one, {"c": bench.shard()}).run("c")[0], Finished)
    assert (len(job.heard), job.built) == (heard, ["a"])


def test_a_job_may_close_its_queue_while_it_is_told_something(one: Executor, bench: Bench) -> None:
    job = Job(one, {"a": bench.shard(segments=SEGMENTS), "b": bench.shard()})

    def deliver(task: str | None, event: Event) -> None:
        job._deliver(task, event)
        if isinstance(event, Predicted):
            queue.close()

    queue = one.open_queue(job._build, deliver)
    queue.add(["a", "b"])
    job.wait_for(lambda: bool(job.outcomes("a")))
    assert isinstance(Job(one, {"c": bench.shard()}).run("c")[0], Finished)
    assert len(job.outcomes("a")) == 1
    assert job.ended() == []
    assert job.built == ["a"]


def test_a_shard_that_hangs_can_be_cancelled(make: Make, bench: Bench) -> None:
    executor = make(1, timeout_s=600)
    executor.start()
    job = Job(executor, {"a": replace(bench.endless(), faults=(JobFault("hang-worker", plan=7),))})
    job.queue.add(["a"])
    job.wait_for(lambda: job.said("a", Fired))
    job.queue.close()
    assert isinstance(Job(executor, {"b": bench.shard()}).run("b")[0], Finished)
    assert job.ended() == []


# What fails


def test_a_model_that_cannot_run_is_refused(one: Executor, tmp_path: Path, bench: Bench) -> None:
    broken = write_tiny_model(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no graph")
    job = Job(one, {"a": bench.shard(model=ModelUse(broken, "cpu", 1)), "b": bench.shard()})
    refused, finished = job.run("a", "b")
    assert isinstance(refused, Refused)
    assert refused.code == 9
    assert "model.onnx" in refused.message
    assert isinstance(finished, Finished)
    job.queue.close()


def test_a_model_that_has_changed_is_refused(one: Executor, bench: Bench) -> None:
    job = Job(one, {"a": bench.shard(digest="of another model")})
    (refused,) = job.run("a")
    assert isinstance(refused, Refused)
    assert (refused.code, job.outcomes("a")) == (9, [])
    assert "The model has changed since the job began" in refused.message
    job.queue.close()


def test_storage_that_does_not_answer_is_refused(one: Executor, bench: Bench) -> None:
    job = Job(one, {"a": bench.shard(store=GoneStore(bench.store.root))})
    assert job.run("a") == [Refused(14, "gs://bucket/a.mp4: the endpoint does not answer")]
    job.queue.close()


def test_a_shard_that_cannot_be_built_is_refused(one: Executor, bench: Bench) -> None:
    job = Job(one, {"b": bench.shard()})
    refused, finished = job.run("a", "b")
    assert refused == Refused(13, "KeyError: 'a'")
    assert isinstance(finished, Finished)
    job.queue.close()


def test_a_worker_that_an_injected_fault_kills(one: Executor, bench: Bench) -> None:
    """The outcomes before it stand, nobody tries again, and the next attempt has a worker."""
    fault = JobFault("kill-worker", plan=7, instance=2, attempts=1)
    shard = bench.shard(segments=[(0, 200_000), (0, 400_000), (0, None)], fault=fault)
    job = Job(one, {"a": shard, "again": replace(shard, attempt=2)})
    died, finished = job.run("a", "again")
    assert isinstance(died, Died)
    assert died.cause
    assert [type(event) for event in job.of("a") if not isinstance(event, Alive)] == [Predicted, Fired, Died]
    assert isinstance(finished, Finished)
    assert len(job.outcomes("again")) == 3
    assert job.built == ["a", "again"]
    wait_until(lambda: one.status().ready == 1)
    job.queue.close()


@pytest.mark.parametrize("kind", as_parameters(kind for kind in KINDS if kind.kill), indirect=True)
def test_a_worker_that_is_killed_from_outside(kind: Kind, make: Make, bench: Bench) -> None:
    executor = make(1, timeout_s=600)
    executor.start()
    slow = JobFault("slow-model", delay_s=0.05)
    job = Job(executor, {"a": bench.shard("long.mp4", SEGMENTS, fault=slow), "b": bench.shard()})
    job.queue.add(["a"])
    job.wait_for(lambda: bool(job.outcomes("a")))
    before = executor.status()
    assert before.ready == 1
    assert kind.kill is not None
    kind.kill(executor)
    died = job.ending("a")
    assert isinstance(died, Died)
    assert isinstance(job.run("b")[0], Finished)
    after = executor.status()
    assert (after.ready, set(after.process_ids) & set(before.process_ids)) == (1, set())


def test_a_worker_that_is_silent_for_too_long_is_given_up(make: Make, bench: Bench) -> None:
    executor = make(1, timeout_s=2)
    executor.start()
    job = Job(executor, {"a": bench.endless(), "b": bench.shard()})
    died, finished = job.run("a", "b")
    assert isinstance(died, Died)
    assert "gave no sign of life for 2 s" in died.cause
    assert isinstance(finished, Finished)


# Start, stop, status


def test_the_status_follows_the_workers(make: Make, bench: Bench) -> None:
    executor = make(2, warm=[ModelUse(bench.model, "cpu", 1)])
    before = executor.status()
    assert (before.ready, before.is_warm, before.process_ids) == (0, False, ())
    assert not executor.reload(ModelUse(bench.model, "cpu", 1))
    executor.start()
    assert executor.wait_until_warm()
    wait_until(lambda: executor.status().ready == 2)
    warm = executor.status()
    assert (warm.is_warm, warm.problems, warm.providers) == (True, {}, {bench.model: "cpu"})
    assert len(set(warm.process_ids)) in (0, 2)
    executor.stop()
    stopped = executor.status()
    assert (stopped.ready, stopped.is_warm, stopped.process_ids) == (0, False, ())


def test_waiting_for_an_executor_that_is_stopped_ends(make: Make) -> None:
    executor = make(1)
    warm: list[bool] = []
    waiting = threading.Thread(target=lambda: warm.append(executor.wait_until_warm()))
    waiting.start()
    executor.stop()
    waiting.join(60)
    assert warm == [False]


def test_stop_drops_what_waits_and_ends_what_runs(make: Make, bench: Bench) -> None:
    executor = make(1, timeout_s=600)
    hang = replace(bench.endless(), faults=(JobFault("hang-worker", plan=7),))
    job = Job(executor, {"a": hang, "b": bench.shard()})
    executor.start()
    job.queue.add(["a", "b"])
    job.wait_for(lambda: job.said("a", Fired))
    executor.stop()
    heard = len(job.heard)
    late = Job(executor, {"c": bench.shard()})
    late.queue.add(["c"])
    job.queue.add(["b"])
    job.queue.close()
    assert (job.built, job.ended(), len(job.heard), late.heard) == (["a"], [], heard, [])
    assert executor.status().ready == 0


def test_a_broken_model_is_a_problem_until_it_is_repaired(make: Make, tmp_path: Path, bench: Bench) -> None:
    folder = write_tiny_model(tmp_path / "model")
    graph = (folder / "model.onnx").read_bytes()
    use = ModelUse(folder, "cpu", 1)
    (folder / "model.onnx").write_bytes(b"no graph")
    executor = make(1, warm=[use, ModelUse(bench.model, "cpu", 1)])
    executor.start()
    assert executor.wait_until_warm()
    status = executor.status()
    assert (list(status.problems), list(status.providers)) == ([folder], [bench.model])
    (folder / "model.onnx").write_bytes(graph)
    assert executor.reload(use)
    wait_until(lambda: not executor.status().problems)
    assert executor.status().providers == {folder: "cpu", bench.model: "cpu"}
    (folder / "model.onnx").write_bytes(b"none either")
    assert executor.reload(use)
    wait_until(lambda: bool(executor.status().problems))
    (folder / "model.onnx").write_bytes(graph)
    assert isinstance(Job(executor, {"a": bench.shard(model=use)}).run("a")[0], Finished)
    assert not executor.status().problems, "a shard has shown that it runs"
    assert status.problems, "a status is of one moment"


def test_a_model_whose_files_have_changed_is_loaded_again(
    one: Executor, tmp_path: Path, bench: Bench
) -> None:
    folder = write_tiny_model(tmp_path / "model", label="first")
    shard = bench.shard(model=ModelUse(folder, "cpu", 1))
    job = Job(one, {"a": shard, "b": shard})
    job.run("a")
    (folder / "labels.txt").write_text("second\n")
    assert one.reload(shard.model)
    job.run("b")
    outcomes = [*job.outcomes("a"), *job.outcomes("b")]
    lines = [outcome.line for outcome in outcomes if isinstance(outcome, Predicted)]
    assert [(b'"first"' in line, b'"second"' in line) for line in lines] == [(True, False), (False, True)]
    job.queue.close()


def test_grid_points_from_the_prediction_cache_are_counted(
    one: Executor, tmp_path: Path, bench: Bench
) -> None:
    use = ModelUse(bench.model, "cpu", 1, cache=CachePlace(tmp_path / "cache", 1_000_000))
    job = Job(one, {"a": bench.shard(model=use), "b": bench.shard(model=use)})
    before = one.status()
    job.run("a")
    between = one.status()
    job.run("b")
    after = one.status()
    counts = [(status.points_recalled, status.points_computed) for status in (before, between, after)]
    assert counts[1] == (counts[0][0], counts[0][1] + 10)
    assert counts[2] == (counts[1][0] + 10, counts[1][1])
    assert job.outcomes("a") == job.outcomes("b")
    job.queue.close()
    shutil.rmtree(tmp_path / "cache")
