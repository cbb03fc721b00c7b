"""What a job has left, held against the same job that nobody disturbed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

_OWN = (
    "name",
    "displayName",
    "createTime",
    "startTime",
    "endTime",
    "updateTime",
    "outputConfig",
    "outputInfo",
)


@dataclass(frozen=True)
class Result:
    """A job that has ended: what clients read of it, and its files by name."""

    job: Mapping[str, Any]
    files: Mapping[str, bytes]

    @property
    def lines(self) -> Counter[bytes]:
        """Its prediction lines, with how often each is there."""
        predictions = (data for name, data in self.files.items() if name.startswith("predictions_"))
        return Counter(text for data in predictions for text in data.splitlines(keepends=True))


@dataclass
class Verdict:
    """What is wrong with some jobs: numbers of lines and of files, and words on all else."""

    jobs: int = 0
    lines_lost: int = 0
    lines_doubled: int = 0
    files_differing: int = 0
    files_renumbered: int = 0
    files_too_many: int = 0
    staged_left: int = 0
    points_missed: int = 0
    jobs_wrong: int = 0
    words: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not any(self.figures().values())

    def figures(self) -> dict[str, int]:
        """The numbers of what is wrong, by name."""
        names = [entry.name for entry in fields(self) if entry.name not in ("jobs", "words")]
        return {name: getattr(self, name) for name in names}

    def add(self, other: Verdict) -> None:
        """Count another verdict in."""
        self.jobs += other.jobs
        for name, number in other.figures().items():
            setattr(self, name, getattr(self, name) + number)
        self.words += other.words

    def __str__(self) -> str:
        figures = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in self.figures().items())
        return f"{self.jobs} jobs: {figures}"


def result_of(job: Mapping[str, Any], output: Mapping[str, bytes]) -> Result:
    """A job with everything below its output prefix; files outside its directory keep their path."""
    directory = str(job.get("outputInfo", {}).get("gcsOutputDirectory", "")).rpartition("/")[2]
    return Result(job, {path.removeprefix(f"{directory}/"): data for path, data in output.items()})


def judge(result: Result, undisturbed: Result) -> Verdict:
    """Compare a job with the undisturbed one, byte for byte."""
    lost, doubled = undisturbed.lines - result.lines, result.lines - undisturbed.lines
    differing = [name for name, data in undisturbed.files.items() if result.files.get(name) != data]
    swapped = sorted(result.files.values()) == sorted(undisturbed.files.values())
    too_many = sorted(set(result.files) - set(undisturbed.files))
    members = sorted(
        name
        for name in {*result.job, *undisturbed.job} - set(_OWN)
        if result.job.get(name) != undisturbed.job.get(name)
    )
    words = [f"{name} differs" for name in differing] + [f"{name} is too many" for name in too_many]
    words += [f"{name} is {result.job.get(name)}, not {undisturbed.job.get(name)}" for name in members]
    return Verdict(
        jobs=1,
        lines_lost=lost.total(),
        lines_doubled=doubled.total(),
        files_differing=0 if swapped else len(differing),
        files_renumbered=len(differing) if swapped else 0,
        files_too_many=len(too_many),
        jobs_wrong=bool(members),
        words=words,
    )


def check_undisturbed(result: Result, predicted: int, failed: int) -> None:
    """See that a job nobody disturbed is one to hold others against."""
    assert result.job["state"] == "JOB_STATE_SUCCEEDED"
    stats = {"successfulCount": str(predicted), **({"failedCount": str(failed)} if failed else {})}
    assert result.job["completionStats"] == stats
    assert result.lines.total() == len(result.lines) == predicted
    assert len(result.files.get("errors_00001.jsonl", b"").splitlines()) == failed
