"""The grammar of paces and the stages that they come to."""

from itertools import pairwise

import pytest

from emulator.instructions import InstructionError
from emulator.instructions.pace import FOREVER_US, Stage, parse_pace
from emulator.vertex.job_state import TERMINAL, JobState, allowed

TEXTS = [
    "",
    "real",
    "immediate",
    "steps",
    "pending=2s,running=10s",
    "pending=2,running=3",
    "queued=1,pending=1,running=1,paused=hold",
    "paused=1,paused=2,updating=500ms,partially_succeeded",
    "immediate,running=1,running=2,expired,cancelling=hold",
]


@pytest.mark.parametrize("text", TEXTS)
def test_every_move_is_in_the_table_of_moves(text: str) -> None:
    pace = parse_pace(text)
    states = [stage.state for stage in pace.stages]
    assert states[0] in (JobState.QUEUED, JobState.PENDING)
    assert states[-1] is JobState.RUNNING
    for before, after in pairwise(states):
        assert before is after or allowed(before, after)
    assert pace.end is None or (pace.end in TERMINAL and allowed(JobState.RUNNING, pace.end))


def test_states_that_lie_between_are_passed_without_a_stay() -> None:
    assert parse_pace("queued=1,paused=hold").stages == (
        Stage(JobState.QUEUED, reads=1),
        Stage(JobState.PENDING),
        Stage(JobState.RUNNING),
        Stage(JobState.PAUSED, until_released=True),
        Stage(JobState.RUNNING),
    )


@pytest.mark.parametrize(
    ("amount", "hold"),
    [
        ("0", (None, None)),
        ("3", (3, None)),
        ("1.5s", (None, 1_500_100)),
        ("20ms", (None, 20_100)),
        ("hold", (None, FOREVER_US)),
    ],
)
def test_amounts(amount: str, hold: tuple[int | None, int | None]) -> None:
    assert parse_pace(f"pending={amount}").stages[0].hold(now_us=100) == hold


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fast", 'has a part "fast"'),
        ("pending", 'has a part "pending"'),
        ("pending=-1", 'has an amount "-1"'),
        ("pending=1m", 'has an amount "1m"'),
        ("running=1,pending=1", "comes to PENDING too late"),
        ("pending=1,queued=1", "comes to QUEUED too late"),
        ("expired,partially_succeeded", 'has a part "partially_succeeded"'),
        ("succeeded", 'has a part "succeeded"'),
    ],
)
def test_bad_paces(text: str, message: str) -> None:
    with pytest.raises(InstructionError, match=message):
        parse_pace(text)


@pytest.mark.parametrize(
    ("text", "state", "stage"),
    [
        ("pending=1", JobState.QUEUED, -1),
        ("queued=1", JobState.QUEUED, 0),
        ("queued=1", JobState.PENDING, 1),
        ("running=1", JobState.PAUSED, 0),
        ("running=1,paused=1", JobState.PAUSED, 2),
    ],
)
def test_where_a_job_in_some_state_stands_in_another_pace(text: str, state: JobState, stage: int) -> None:
    assert parse_pace(text).stage_of(state) == stage
