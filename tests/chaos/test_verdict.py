"""The campaign sees what it is there to see, and hits every point in every way."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.chaos.campaign import KILL, LEAP, LONG, SHORT, aims, share
from tests.chaos.served import POINT_NAMES
from tests.chaos.test_campaign import SETUPS
from tests.chaos.verdict import Result, Verdict, judge, result_of

JOB = {"name": "n", "state": "JOB_STATE_SUCCEEDED", "completionStats": {"successfulCount": "3"}}
FILES = {
    "predictions_00001.jsonl": b"a\nb\n",
    "predictions_00002.jsonl": b"c\n",
    "errors_00001.jsonl": b"e\n",
}
UNDISTURBED = Result(JOB, FILES)


def verdict(changes: Mapping[str, bytes | None], **job: Any) -> Verdict:
    files = {name: data for name, data in {**FILES, **changes}.items() if data is not None}
    return judge(Result(JOB | {"name": "other"} | job, files), UNDISTURBED)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, {}),
        ({"predictions_00002.jsonl": b"a\n"}, {"lines_lost": 1, "lines_doubled": 1, "files_differing": 1}),
        ({"predictions_00002.jsonl": None}, {"lines_lost": 1, "files_differing": 1}),
        ({"predictions_00003.jsonl": b"c\n"}, {"lines_doubled": 1, "files_too_many": 1}),
        ({"predictions_00001.jsonl": b"b\na\n"}, {"files_differing": 1}),
        ({"predictions_00001.jsonl": b"c\n", "predictions_00002.jsonl": b"a\nb\n"}, {"files_renumbered": 2}),
        ({"errors_00001.jsonl": b""}, {"files_differing": 1}),
        ({".part": b""}, {"files_too_many": 1}),
    ],
)
def test_files_are_compared_byte_for_byte(changes: dict[str, bytes | None], found: dict[str, int]) -> None:
    figures = verdict(changes).figures()
    assert {name: number for name, number in figures.items() if number} == found


def test_members_of_the_job_are_compared() -> None:
    found = verdict({}, completionStats={"successfulCount": "2"})
    assert (found.figures()["jobs_wrong"], found.is_clean) == (1, False)
    assert "completionStats is {'successfulCount': '2'}" in found.words[0]


def test_files_outside_the_jobs_directory_are_too_many() -> None:
    job = JOB | {"outputInfo": {"gcsOutputDirectory": "gs://bucket/prefix/own"}}
    output = {f"own/{name}": data for name, data in FILES.items()} | {"another/errors_00001.jsonl": b"e\n"}
    assert judge(result_of(job, output), UNDISTURBED).files_too_many == 1


def test_verdicts_add_up() -> None:
    sum_ = Verdict()
    for _ in range(2):
        sum_.add(verdict({"predictions_00002.jsonl": None}))
    assert (sum_.jobs, sum_.lines_lost, sum_.is_clean) == (2, 2, False)


def test_aims_cover_every_point() -> None:
    first = aims(SETUPS, POINT_NAMES, "seed", len(POINT_NAMES))
    assert sorted(aim.point for aim in first) == sorted(POINT_NAMES)
    assert {(aim.blow, aim.setup.servers) for aim in first} == {(LONG, 2)}
    every = len(SETUPS) * len(POINT_NAMES) * 4
    kinds = {
        (aim.setup, aim.point, aim.blow) for aim in aims(SETUPS, POINT_NAMES, "seed", len(first) + every)
    }
    assert len(kinds) == every
    assert {blow for _, _, blow in kinds} == {LONG, SHORT, LEAP, KILL}
    assert (
        first == aims(SETUPS, POINT_NAMES, "seed", len(first)) != aims(SETUPS, POINT_NAMES, "s", len(first))
    )
    assert sum(share(50, 6, place) for place in range(6)) == 50
