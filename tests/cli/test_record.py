"""`record`: a finished job becomes a seed folder, which answers the same again."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from emulator.app import Emulator
from emulator.cli import build
from emulator.config import Settings

JOB_ID = "4567890123456789012"
CREATED = "2021-02-28T22:47:21.900001Z"
DIRECTORY = "prediction-traffic_20210310-2021-02-28T22:47:21.701608Z"
OUTPUT = f"gs://acme-prod-data/out/{DIRECTORY}"

#: One prediction of each shape that the service is known to write, and members that nobody knows.
TRACK = (
    '{"id":"1","displayName":"car","timeSegmentStart":"1.2s","timeSegmentEnd":"2s","confidence":0.93,'
    '"frames":[{"timeOffset":"1.200s","xMin":0.08,"xMax":0.34,"yMin":-0.0009,"yMax":0.86,"zone":"a"}]}'
)
ACTION = (
    '{"id":"7","displayName":"swing","timeSegmentStart":"1.200s","timeSegmentEnd":"1.9s","confidence":1E-3}'
)
CLASS = (
    '{"id":"7","displayName":"cat","type":"segment-classification","timeSegmentStart":"0s",'
    '"timeSegmentEnd":"47s","confidence":0.9,"attributes":{"of":[1,null]}}'
)
OBJECTIVES = {
    "object_tracking": (TRACK, TRACK.replace('"1"', '"2"')),
    "action_recognition": (ACTION, ACTION.replace("1E-3", "0.75")),
    "classification": (CLASS, CLASS.replace("segment-", "shot-")),
}


def instance(video: str) -> str:
    return (
        f'{{"content":"gs://acme-prod-data/videos/{video}","mimeType":"video/mp4",'
        '"timeSegmentStart":"0.0s","timeSegmentEnd":"Infinity"}'
    )


@dataclass
class Old:
    """A job that ran on the real service, as its files in a folder."""

    folder: Path
    objective: str

    @property
    def output(self) -> Path:
        return self.folder / DIRECTORY

    def job(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "job.json").read_text())
        return found

    def change(self, **members: Any) -> None:
        changed = {name: value for name, value in (self.job() | members).items() if value is not None}
        (self.folder / "job.json").write_text(json.dumps(changed))

    def record(self, *more: str | Path, inputs: bool = True) -> Result:
        command: list[str | Path] = ["record", "--job", self.folder / "job.json", "--output-dir", self.output]
        command += ["--input", self.folder / "input.jsonl"] if inputs else []
        command += ["--to", self.folder / "recording", *more]
        return CliRunner().invoke(build(), [str(part) for part in command], catch_exceptions=False)

    def recorded(self) -> Path:
        return self.folder / "recording"


@pytest.fixture(params=[*OBJECTIVES])
def old(tmp_path: Path, request: pytest.FixtureRequest) -> Old:
    return make(tmp_path, request.param)


def make(folder: Path, objective: str) -> Old:
    first, second = OBJECTIVES[objective]
    old = Old(folder, objective)
    old.output.mkdir()
    lines = {
        "predictions_00001.jsonl": f'{{"instance":{instance("a.mp4")},"prediction":[{second}, {first}]}}\n',
        "predictions_00002.jsonl": f'{{"instance":{instance("b.mp4")},"prediction":[],"modelVersion":"3"}}\n',
        "errors_00001.jsonl": instance("c.mp4")[:-1] + ',"error":{"code":5,"message":"No such object."}}\n',
    }
    for name, text in lines.items():
        (old.output / name).write_text(text)
    inputs = "".join(f"{instance(video)}\n" for video in ("a.mp4", "b.mp4", "c.mp4"))
    (folder / "input.jsonl").write_text(inputs)
    (folder / "job.json").write_text("{}")
    old.change(
        name=f"projects/998877665544/locations/us-central1/batchPredictionJobs/{JOB_ID}",
        displayName="nightly",
        model="projects/acme-prod/locations/us-central1/models/8765432109876543210",
        modelDisplayName="traffic_20210310",
        inputConfig={
            "instancesFormat": "jsonl",
            "gcsSource": {"uris": ["gs://acme-prod-data/in/input.jsonl"]},
        },
        outputConfig={
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://acme-prod-data/out"},
        },
        outputInfo={"gcsOutputDirectory": OUTPUT},
        state="JOB_STATE_SUCCEEDED",
        completionStats={"successfulCount": "2", "failedCount": "1"},
        createTime=CREATED,
        startTime="2021-02-28T22:47:22.060001Z",
        endTime="2021-02-28T22:57:22.060001Z",
        updateTime="2021-02-28T22:57:22.500000Z",
        serviceAccount="batch@acme-prod.iam.gserviceaccount.com",
        encryptionSpec={"kmsKeyName": "projects/acme-prod/locations/l/keyRings/r/cryptoKeys/k"},
        newMember={"of": "the service"},
    )
    return old


@contextmanager
def served(seed: Path, data: Path) -> Iterator[tuple[Emulator, httpx.Client]]:
    settings = Settings(port=0, data_dir=data, seed_dir=seed, workers=1, bundled_models=False, grpc=False)
    with Emulator(settings) as emulator, httpx.Client(base_url=emulator.url, timeout=60) as http:
        yield emulator, http


def run_again(http: httpx.Client, job: Mapping[str, Any]) -> dict[str, Any]:
    """A new job on the input of a job; as it ends."""
    wanted = {key: job[key] for key in ("displayName", "model", "inputConfig", "outputConfig")}
    parent = job["name"].partition("/batchPredictionJobs")[0]
    created = http.post(f"/v1/{parent}/batchPredictionJobs", json=wanted).json()
    http.get(f"/_emulator/jobs/{created['name'].rpartition('/')[2]}/wait", params={"timeout": 60})
    found: dict[str, Any] = http.get(f"/v1/{created['name']}").json()
    return found


def files_of(emulator: Emulator, job: Mapping[str, Any]) -> dict[str, bytes]:
    folder = emulator.settings.buckets / job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_recorded_job_is_there_and_a_new_one_answers_the_same_bytes(old: Old, tmp_path: Path) -> None:
    assert old.record("--keep-names").exit_code == 0
    with served(old.recorded(), tmp_path / "data") as (emulator, http):
        (job,) = http.get("/v1/projects/998877665544/locations/us-central1/batchPredictionJobs").json()[
            "batchPredictionJobs"
        ]
        for member in ("displayName", "state", "completionStats", "createTime", "startTime", "endTime"):
            assert job[member] == old.job()[member]
        assert job["name"].endswith(f"/{JOB_ID}")
        assert job["modelDisplayName"] == "traffic_20210310"
        before = {path.name: path.read_bytes() for path in sorted(old.output.iterdir())}
        assert files_of(emulator, job) == before
        again = run_again(http, job)
        assert again["completionStats"] == job["completionStats"]
        assert again["outputInfo"] != job["outputInfo"]
        assert files_of(emulator, again) == before


def test_names_are_replaced_consistently_and_listed(old: Old, tmp_path: Path) -> None:
    result = old.record(
        "--map", "gs://acme-prod-data/videos=gs://test/clips", "--shift", "-31d", "--pace", "0"
    )
    assert result.exit_code == 0, result.output
    everything = contents(old.recorded())
    text = b"\n".join([*everything.values(), *(name.encode() for name in everything)]).decode()
    note = everything.pop("RECORDING.md").decode()
    text = text.replace(note, "")
    for gone in ("acme-prod", "998877665544", "gserviceaccount", "cryptoKeys", "newMember", "2021-02-28"):
        assert gone not in text
    assert "gs://test/clips/a.mp4" in text
    for line in ("gs://acme-prod-data is gs://recorded-1", "serviceAccount of the job was left out"):
        assert line in note
    for name, data in everything.items():
        assert f"| {name} | {hashlib.sha256(data).hexdigest()} |" in note
    with served(old.recorded(), tmp_path / "data") as (emulator, http):
        (job,) = http.get("/v1/projects/recorded/locations/us-central1/batchPredictionJobs").json()[
            "batchPredictionJobs"
        ]
        assert job["createTime"].startswith("2021-01-28T22:47:21.9")
        assert job["outputInfo"]["gcsOutputDirectory"].endswith("-2021-01-28T22:47:21.701608Z")
        assert files_of(emulator, run_again(http, job)) == files_of(emulator, job)


def test_input_is_put_together_where_it_is_not_at_hand(old: Old) -> None:
    result = old.record("--keep-names", inputs=False)
    assert "the input was put together" in result.output
    made = (old.recorded() / "buckets/acme-prod-data/in/input.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in made] == [
        json.loads(line) for line in (old.folder / "input.jsonl").read_text().splitlines()
    ]


def test_pace_follows_the_times_of_the_job(tmp_path: Path) -> None:
    old = make(tmp_path, "classification")
    old.record("--pace", "0.01")
    control = json.loads((old.recorded() / "control.json").read_text())
    assert control == {"projects": {"recorded": {"pace": "pending=2ms,running=6000ms"}}}


@pytest.mark.parametrize("place", ["projects/998877665544/locations/us-central1/batchPredictionJobs/", ""])
def test_a_job_of_another_emulator_is_fetched(old: Old, tmp_path: Path, place: str) -> None:
    old.record("--keep-names")
    with served(old.recorded(), tmp_path / "data") as (emulator, _):
        command = ["record", place + JOB_ID, "--server", emulator.url]
        command += ["--to", str(tmp_path / "again"), "--keep-names"]
        result = CliRunner().invoke(build(), command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    first, second = contents(old.recorded()), contents(tmp_path / "again")
    for varying in ("RECORDING.md", "jobs.jsonl"):  # the emulator gives the project's number
        first.pop(varying), second.pop(varying)
    assert second == first


def test_google_is_not_called_without_a_yes(tmp_path: Path) -> None:
    name = f"projects/p/locations/us-central1/batchPredictionJobs/{JOB_ID}"
    result = CliRunner().invoke(build(), ["record", name, "--to", str(tmp_path / "r")], input="n\n")
    assert result.exit_code == 1
    assert "https://us-central1-aiplatform.googleapis.com" in result.output
    assert not (tmp_path / "r").exists()


def damage(old: Old, how: str) -> None:
    predictions = old.output / "predictions_00001.jsonl"
    match how:
        case "missing file":
            predictions.unlink()
        case "missing last file":
            (old.output / "predictions_00002.jsonl").unlink()
        case "cut line":
            predictions.write_bytes(predictions.read_bytes()[:-20])
        case "two jobs in one":
            predictions.write_text(predictions.read_text().replace("a.mp4", "of-another.mp4"))
        case "another job's directory":
            other = DIRECTORY.replace("2021-02-28", "2021-02-27")
            old.change(outputInfo={"gcsOutputDirectory": f"gs://acme-prod-data/out/{other}"})
        case "running":
            old.change(state="JOB_STATE_RUNNING")
        case "no output":
            old.change(outputInfo=None)
        case "bigquery":
            old.change(outputInfo={"bigqueryOutputDataset": "bq://p.d"})
        case "no lines":
            for path in old.output.iterdir():
                path.unlink()
        case "no model":
            old.change(model=None)
        case "a list":
            (old.folder / "job.json").write_text("[]")
        case "no json":
            (old.folder / "job.json").write_text("{")
        case "binary":
            predictions.write_bytes(b"\xff\xfe\x00")
        case "secret":
            error = old.output / "errors_00001.jsonl"
            error.write_text(error.read_text().replace("No such", "ya29.a0AfH6SMBx5 sees no"))
        case "link out of the folder":
            old.change(inputConfig={"gcsSource": {"uris": ["gs://acme-prod-data/../../input.jsonl"]}})
        case "not Vertex's":
            predictions.write_text('{"image": 1}\n')


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing file", "number 1 before predictions_00002.jsonl is missing"),
        ("missing last file", "successfulCount 2, and the files hold 1 prediction lines"),
        ("cut line", "predictions_00001.jsonl line 1 is no JSON object"),
        ("two jobs in one", "of-another.mp4, with a segment that no line of the input has"),
        ("another job's directory", f"The files are those of {DIRECTORY}, and the job wrote to"),
        ("running", "in state JOB_STATE_RUNNING. Record it once it has ended"),
        ("no output", "only a job that wrote to Cloud Storage"),
        ("bigquery", "only a job that wrote to Cloud Storage"),
        ("no lines", "nothing to record"),
        ("no model", "Model resource name"),
        ("a list", "is no JSON object"),
        ("no json", "job.json is no JSON"),
        ("binary", "predictions_00001.jsonl line 1 is no JSON object"),
        ("secret", "would hold an access token in line 1"),
        ("link out of the folder", "cannot be a file in a folder"),
        ("not Vertex's", "is no line of Vertex's"),
    ],
)
def test_what_is_not_one_whole_job_is_refused_and_nothing_written(
    tmp_path: Path, how: str, message: str
) -> None:
    old = make(tmp_path, "object_tracking")
    damage(old, how)
    before = contents(tmp_path)
    result = old.record()
    assert result.exit_code == 1
    assert message in re.sub(r"\s+", " ", result.output)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "options",
    [
        ["--map", "a=b"],
        ["--shift", "soon"],
        ["--objective", "segmentation"],
        ["--job", "/nothing.json"],
        ["--output-dir", "/nothing"],
        ["--input", "/nothing.jsonl"],
    ],
)
def test_bad_options_are_named(tmp_path: Path, options: list[str]) -> None:
    old = make(tmp_path, "object_tracking")
    result = old.record(*options)
    assert result.exit_code == 1
    assert options[0] in result.output or options[1] in result.output
    assert not old.recorded().exists()


def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    old = make(tmp_path, "object_tracking")
    assert old.record().exit_code == 0
    before = contents(old.recorded())
    assert "is there already" in old.record().output
    assert contents(old.recorded()) == before


def test_models_check_says_what_the_schema_does_not_know(old: Old) -> None:
    old.record()
    (model,) = (old.recorded() / "models").iterdir()
    result = CliRunner().invoke(build(), ["models", "check", str(model)])
    assert result.exit_code == 0, result.output
    assert "it answers with 3 lines" in result.output
    assert "predictions_00002.jsonl line 1: unknown member 'modelVersion'" in result.output
