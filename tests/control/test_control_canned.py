"""Canned models: what they answer, what is wrong with their lines, and that they say what they are."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from emulator.app import Emulator
from tests.control.project import Project, client_of, job_id, make_settings

CAT = {
    "id": "1",
    "displayName": "cat",
    "confidence": 0.9,
    "frames": [
        {"timeOffset": "0s", "xMin": 0.1, "xMax": 0.5, "yMin": 0.25, "yMax": 1},
        {"timeOffset": "0.1s", "xMin": 0.11, "xMax": 0.5, "yMin": 0.25, "yMax": 1},
    ],
}
CAT_TEXT = (
    '{"id":"1","displayName":"cat","timeSegmentStart":"0s","timeSegmentEnd":"0.100s","confidence":0.9,"frames":['
    '{"timeOffset":"0s","xMin":0.1,"xMax":0.5,"yMin":0.25,"yMax":1.0},'
    '{"timeOffset":"0.100s","xMin":0.11,"xMax":0.5,"yMin":0.25,"yMax":1.0}]}'
)
PUNCH = {
    "id": "7",
    "displayName": "punch",
    "timeSegmentStart": "1.5s",
    "timeSegmentEnd": "1.5s",
    "confidence": 1,
}


def canned(project: Project, *lines: Any, objective: str = "object_tracking", model: str = "pets") -> Any:
    body = {"parent": project.parent, "modelId": model, "objective": objective, "lines": list(lines)}
    return project.control("POST", "canned", body)


def predicted(project: Project, job: Any) -> dict[str, str]:
    """The text of the predictions of each video of a finished job."""
    found = {}
    for name, text in project.files(job).items():
        if name.startswith("predictions_"):
            for line in text.splitlines():
                content = json.loads(line)["instance"]["content"]
                found[content] = line.partition(',"prediction":')[2].removesuffix("}")
    return found


def test_answers_by_pattern_without_a_video_or_a_network(project: Project) -> None:
    answer = canned(
        project, {"video": "gs://bucket/cats/*.mp4", "prediction": [CAT]}, {"video": "*", "prediction": []}
    )
    assert answer["versionId"] == "1"
    assert answer["lines"] == 2
    name = project.create("cats/there/is/none.mp4", "dog.mp4", model="pets")
    job = project.finish(name)
    assert predicted(project, job) == {
        "gs://bucket/cats/there/is/none.mp4": f"[{CAT_TEXT}]",
        "gs://bucket/dog.mp4": "[]",
    }
    assert job["completionStats"] == {"successfulCount": "2"}
    explained = project.control("GET", f"jobs/{job_id(name)}/explain")
    assert (explained["canned"], explained["executionProvider"]) == (True, "canned")
    assert explained["notHonoured"][0]["field"] == "model_parameters"
    model = project.call("GET", f"/v1/{project.parent}/models/pets")
    assert model["labels"] == {"emulator-canned": "true"}


def test_answers_by_the_hash_of_the_bytes(project: Project) -> None:
    digest = hashlib.sha256((project.buckets / "bucket" / "a.mp4").read_bytes()).hexdigest()
    canned(project, {"video": f"sha256:{digest}", "prediction": [CAT]}, {"video": "*", "prediction": []})
    job = project.finish(project.create("a.mp4", "b.mp4", model="pets"))
    assert predicted(project, job) == {"gs://bucket/a.mp4": f"[{CAT_TEXT}]", "gs://bucket/b.mp4": "[]"}


def test_video_that_no_line_fits_is_an_error_line(project: Project) -> None:
    canned(
        project,
        {"video": "gs://bucket/a.mp4", "prediction": [CAT]},
        {"video": "*c.mp4", "error": {"code": 3}},
    )
    job = project.finish(project.create("a.mp4", "b.mp4", "c.mp4", model="pets"))
    lines = project.files(job)["errors_00001.jsonl"].splitlines()
    codes = {json.loads(line)["content"]: json.loads(line)["error"]["code"] for line in lines}
    assert codes == {"gs://bucket/b.mp4": 5, "gs://bucket/c.mp4": 3}


def test_output_of_a_real_model_is_given_again_byte_for_byte(project: Project) -> None:
    job = project.finish(project.create("a.mp4", "b.mp4", model="tiny"))
    real = predicted(project, job)
    body = {
        "parent": project.parent,
        "modelId": "replay",
        "objective": "object_tracking",
        "directory": job["outputInfo"]["gcsOutputDirectory"],
    }
    assert project.control("POST", "canned", body)["lines"] == 2
    assert predicted(project, project.finish(project.create("a.mp4", "b.mp4", model="replay"))) == real


@pytest.mark.parametrize(
    "answer",
    [
        '[{"id":"1","displayName":"cat","timeSegmentStart":"1.2s","timeSegmentEnd":"2s","confidence":0.90000004}]',
        '[{"displayName":"a","id":7,"mask":"x","confidence":0.1},{"displayName":"b","confidence":0.9}]',
        '[{"id":"1","displayName":"cat","confidence":1e-7,"frames":[]}, {"new":{"prediction":[{}]}}]',
        '[{"displayName":"\\u732b","confidence":1.0}]',
    ],
)
@pytest.mark.parametrize("extra", ["", ',"modelVersion":"7","instance_id":[1, 2]'])
def test_recorded_lines_are_given_again_verbatim(project: Project, answer: str, extra: str) -> None:
    line = f'{{"instance":{{"content":"gs://bucket/a.mp4"}},"prediction":{answer}{extra}}}'
    body = {"parent": project.parent, "modelId": "old", "objective": "object_tracking", "lines": [line]}
    assert project.control("POST", "canned", body)["lines"] == 1
    files = project.files(project.finish(project.create("a.mp4", model="old")))
    (written,) = files["predictions_00001.jsonl"].splitlines()
    instance = written.partition(',"prediction"')[0]
    assert json.loads(f"{instance}}}")["instance"]["content"] == "gs://bucket/a.mp4"
    assert written == f'{instance},"prediction":{answer}{extra}}}'


def test_instance_may_stand_anywhere_in_a_recorded_line(project: Project) -> None:
    line = '{"prediction":[{"instance":{}}], "instance" : {"content":"gs://bucket/a.mp4"} ,"n":1}'
    body = {"parent": project.parent, "modelId": "old", "objective": "object_tracking", "lines": [line]}
    project.control("POST", "canned", body)
    files = project.files(project.finish(project.create("a.mp4", model="old")))
    written = files["predictions_00001.jsonl"]
    assert written.startswith('{"prediction":[{"instance":{}}], "instance" : {"content":"gs://bucket/a.mp4"')
    assert written.endswith('} ,"n":1}\n')


def test_line_with_a_segment_answers_that_segment_only(project: Project) -> None:
    segment = {"timeSegmentStart": "0s", "timeSegmentEnd": "1s"}
    instance = {"content": "gs://bucket/a.mp4", **segment}
    canned(project, {"instance": instance, "prediction": [CAT]}, {"video": "*", "prediction": []})
    (project.buckets / "bucket" / f"{project.id}.jsonl").write_text(
        json.dumps({**instance, "mimeType": "video/mp4"})
        + "\n"
        + json.dumps({"content": "gs://bucket/a.mp4", "mimeType": "video/mp4"})
    )
    uris = {"instancesFormat": "jsonl", "gcsSource": {"uris": [f"gs://bucket/{project.id}.jsonl"]}}
    job = project.finish(project.create(model="pets", inputConfig=uris))
    [text] = [text for name, text in project.files(job).items() if name.startswith("predictions_")]
    assert [len(json.loads(line)["prediction"]) for line in text.splitlines()] == [1, 0]


def test_actions(project: Project) -> None:
    canned(project, {"video": "*", "prediction": [PUNCH]}, objective="action_recognition")
    job = project.finish(project.create(model="pets"))
    assert predicted(project, job)["gs://bucket/a.mp4"] == (
        '[{"id":"7","displayName":"punch","timeSegmentStart":"1.500s","timeSegmentEnd":"1.500s","confidence":1.0}]'
    )
    assert job["modelObjective"] == "ACTION_RECOGNITION"


def test_classes(project: Project) -> None:
    line = {
        **PUNCH,
        "type": "segment-classification",
        "timeSegmentStart": "0s",
        "timeSegmentEnd": "2.766667s",
    }
    canned(project, {"video": "*", "prediction": [line]}, objective="classification")
    job = project.finish(project.create(model="pets"))
    assert predicted(project, job)["gs://bucket/a.mp4"] == (
        '[{"id":"7","displayName":"punch","type":"segment-classification","timeSegmentStart":"0s",'
        '"timeSegmentEnd":"2.766667s","confidence":1.0}]'
    )


def test_new_answers_are_a_new_version(project: Project) -> None:
    canned(project, {"video": "*", "prediction": []})
    answer = canned(project, {"video": "*", "prediction": [CAT]})
    assert answer["versionId"] == "2"
    job = project.finish(project.create(model="pets"))
    assert predicted(project, job)["gs://bucket/a.mp4"] == f"[{CAT_TEXT}]"


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"modelId": "x@1"}, "modelId"),
        ({"modelId": "X"}, "modelId"),
        ({"modelId": "x" * 64}, "modelId"),
        ({"modelId": 5}, "modelId"),
        ({"displayName": 5}, "displayName"),
        ({"displayName": "x" * 129}, "displayName"),
    ],
)
def test_names_that_no_model_can_have_are_refused(
    project: Project, members: Mapping[str, Any], field: str
) -> None:
    body = {"parent": project.parent, "modelId": "pets", "objective": "object_tracking"}
    line = {"video": "*", "prediction": []}
    error = project.error("POST", "/_emulator/canned", {**body, "lines": [line], **members})
    assert f"Field: {field};" in error["message"]


def test_a_canned_model_may_have_a_number_as_automl_s_have(project: Project) -> None:
    body = {"parent": project.parent, "modelId": "1234567890", "objective": "object_tracking"}
    project.control("POST", "canned", {**body, "lines": [{"video": "*", "prediction": []}]})
    assert project.finish(project.create(model="1234567890"))["state"] == "JOB_STATE_SUCCEEDED"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "lines line 2: "),
        ({"prediction": []}, "line 2: it must have either instance or video"),
        ({"video": "*"}, "line 2: it must have either prediction or error"),
        ({"video": "*", "predictions": []}, "unknown member 'predictions'"),
        ({"video": "sha256:abc", "prediction": []}, "video is no hash"),
        ({"video": "*", "prediction": {}}, "prediction must be a list"),
        (
            {"video": "*", "prediction": [{**CAT, "id": 1}]},
            "prediction[0].id is 1; it must be a decimal number",
        ),
        ({"video": "*", "prediction": [{**CAT, "confidence": 2}]}, "prediction[0].confidence is 2"),
        ({"video": "*", "prediction": [CAT, {**CAT, "frames": []}]}, "prediction[1].frames must be a list"),
        ({"video": "*", "prediction": [{**CAT, "frames": [{"timeOffset": "1"}]}]}, "frames[0].xMin is None"),
        ({"video": "*", "prediction": [{**CAT, "track": 1}]}, "prediction[0].track is not known"),
        (
            {"video": "*", "prediction": [{**CAT, "timeSegmentEnd": "3s"}]},
            "a track begins with its first frame",
        ),
        ({"video": "*", "error": {"code": 0}}, "error.code is 0"),
        ({"instance": {"content": "gs://b/a"}, "prediction": {}}, "prediction must be a list"),
        ({"instance": {}, "prediction": []}, "it does not say for which video it is"),
        ({"instance": [], "prediction": []}, "instance must be a JSON object"),
        ({"instance": {"content": "gs://b/a"}, "video": "*", "prediction": []}, "either instance or video"),
        ('{"instance":{"content":"gs://b/a"},"prediction":[{"confidence":NaN}]}', "NaN is no JSON"),
        ({"video": "*", "timeSegmentStart": "x", "prediction": []}, "timeSegmentStart"),
    ],
)
def test_bad_lines_are_named(project: Project, line: Any, message: str) -> None:
    body = {
        "parent": project.parent,
        "modelId": "pets",
        "objective": "object_tracking",
        "lines": [{"video": "*", "prediction": []}, line],
    }
    error = project.error("POST", "/_emulator/canned", body)
    assert error["status"] == "INVALID_ARGUMENT"
    assert message in error["message"]
    assert project.http.get(f"/v1/{project.parent}/models/pets").status_code == 404


def test_folder_model_needs_no_graph_and_no_inference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where OpenCV and onnxruntime are not installed, canned jobs run and the others say what is missing."""
    settings = make_settings(tmp_path)
    folder = tmp_path / "models" / "pets"
    (folder / "saved").mkdir(parents=True)
    (folder / "model.toml").write_text('[model]\nobjective = "object_tracking"\ncanned = "saved"\n')
    (folder / "saved" / "predictions_00001.jsonl").write_text(json.dumps({"video": "*", "prediction": [CAT]}))
    (folder / "saved" / "errors_00001.jsonl").write_text("not read")
    (tmp_path / "slim").mkdir()
    for module in ("cv2", "onnxruntime"):
        (tmp_path / "slim" / f"{module}.py").write_text("raise ImportError('not installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slim"))
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        model = project.call("GET", f"/v1/{project.parent}/models/pets")
        assert model["description"] == "Canned predictions; no model is run."
        assert project.finish(project.create(model="pets"))["state"] == "JOB_STATE_SUCCEEDED"
        failed = project.finish(project.create(model="tiny"))
        assert "ImportError: not installed" in failed["error"]["message"]
        ready = project.control("GET", "ready")
        assert {model["id"]: bool(model["problem"]) for model in ready["models"]} == {
            "pets": False,
            "tiny": True,
        }


def test_command_line_predicts_with_a_canned_model(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(
        '[model]\nid="x"\nobjective = "object_tracking"\ncanned = "c.jsonl"\n'
    )
    (tmp_path / "c.jsonl").write_text(json.dumps({"video": "*", "prediction": [CAT]}))
    (tmp_path / "clip.mp4").write_bytes(b"never opened")
    command = [sys.executable, "-m", "emulator", "predict", str(tmp_path), str(tmp_path / "clip.mp4")]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert CAT_TEXT in finished.stdout, finished.stderr
