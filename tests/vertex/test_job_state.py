"""The table of states."""

from emulator.vertex.job_state import FORCED, TERMINAL, TRANSITIONS, JobState, allowed, sources
from emulator.vertex.messages import load


def test_states_are_those_of_the_proto() -> None:
    values = load().pool.FindEnumTypeByName("google.cloud.aiplatform.v1.JobState").values
    assert {state.proto_name: state.value for state in JobState} == {
        value.name: value.number for value in values
    }


def test_moves_are_those_of_the_design() -> None:
    s = JobState
    assert set(TRANSITIONS.values()) == {
        (s.PENDING, s.RUNNING), (s.PENDING, s.CANCELLED),
        (s.RUNNING, s.SUCCEEDED), (s.RUNNING, s.FAILED), (s.RUNNING, s.CANCELLING),
        (s.CANCELLING, s.CANCELLED), (s.CANCELLING, s.SUCCEEDED), (s.CANCELLING, s.FAILED),
    }  # fmt: skip
    assert "".join(TRANSITIONS) == "abcdefgh"


def test_forced_moves_touch_only_states_that_the_service_never_enters() -> None:
    own = {state for move in TRANSITIONS.values() for state in move}
    assert all(from_ not in own or to not in own for from_, to in FORCED.values())
    assert not set("".join(FORCED)) & set("".join(TRANSITIONS))


def test_cancelling_leads_only_where_the_real_service_leads() -> None:
    assert {to for to in JobState if allowed(JobState.CANCELLING, to)} == {
        JobState.CANCELLED,
        JobState.SUCCEEDED,
        JobState.FAILED,
    }


def test_terminal_states_are_those_without_a_way_out() -> None:
    targets = {to for _, to in (*TRANSITIONS.values(), *FORCED.values())}
    assert {state for state in targets if not any(allowed(state, to) for to in JobState)} == TERMINAL


def test_sources_are_what_a_guarded_update_asks_for() -> None:
    assert sources(JobState.FAILED) == {JobState.RUNNING, JobState.CANCELLING}
    assert sources(JobState.PENDING) == {JobState.QUEUED}
    assert sources(JobState.PARTIALLY_SUCCEEDED) == {JobState.RUNNING}
