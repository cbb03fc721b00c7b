"""What reading, listing, uploading, updating and deleting models and versions means."""

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from emulator.database import OperationRow
from emulator.registry import Registry
from emulator.storage import GcsUri, LocalStore
from emulator.vertex.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)
from emulator.vertex.job_state import JobState
from tests.service.service_client import LOCATION, NUMBER, PARENT, Client, N, write_model

GET = "ModelService/GetModel"
LIST = "ModelService/ListModels"
VERSIONS = "ModelService/ListModelVersions"
UPLOAD = "ModelService/UploadModel"
UPDATE = "ModelService/UpdateModel"
DELETE = "ModelService/DeleteModel"
DELETE_VERSION = "ModelService/DeleteModelVersion"
MERGE = "ModelService/MergeVersionAliases"
TRACKER = f"{PARENT}/models/tracker"


def get(client: Client, name: str) -> dict[str, Any]:
    return client.call(GET, {"name": name})


def upload(
    client: Client, version: str = "v1", model: dict[str, Any] | None = None, **request: Any
) -> dict[str, Any]:
    """The finished operation of an upload."""
    artifact_uri = client.put_model("model-bucket", "exported")
    body = {"displayName": "Mine", "artifactUri": artifact_uri, **(model or {})}
    operation = client.call(UPLOAD, {"parent": PARENT, "model": body, **request}, version)
    return client.call("Operations/WaitOperation", {"name": operation["name"]})


def test_folder_model_is_described_as_vertex_does(client: Client) -> None:
    model = get(client, TRACKER)
    schema = "gs://google-cloud-aiplatform/schema/predict/{}/video_object_tracking_1.0.0.yaml"
    assert model == {
        "name": f"{N}/models/tracker",
        "displayName": "Traffic",
        "versionId": "1",
        "versionAliases": ["default"],
        "predictSchemata": {
            "instanceSchemaUri": schema.format("instance"),
            "parametersSchemaUri": schema.format("params"),
            "predictionSchemaUri": schema.format("prediction"),
        },
        "supportedInputStorageFormats": ["jsonl"],
        "supportedOutputStorageFormats": ["jsonl"],
        "modelSourceInfo": {"sourceType": "AUTOML"},
        **{
            key: model[key]
            for key in ("createTime", "updateTime", "versionCreateTime", "versionUpdateTime", "etag")
        },
    }


@pytest.mark.parametrize("suffix", ["", "@1", "@default"])
def test_version_may_be_a_number_or_an_alias(client: Client, suffix: str) -> None:
    assert get(client, TRACKER + suffix)["versionId"] == "1"


@pytest.mark.parametrize("name", ["tracker@2", "tracker@best", "nothing"])
def test_unknown_model_or_version_is_not_found(client: Client, name: str) -> None:
    with pytest.raises(NotFound, match=r"^The Model does not exist"):
        get(client, f"{PARENT}/models/{name}")


def test_models_are_listed_in_the_order_asked_for(client: Client) -> None:
    write_model(client.models_folder / "other", display_name="Another")
    by_name = client.call(LIST, {"parent": PARENT, "orderBy": "display_name"})["models"]
    assert [model["displayName"] for model in by_name] == ["Another", "Swings", "Traffic"]
    first = client.call(LIST, {"parent": PARENT, "orderBy": "displayName desc", "pageSize": 2})
    assert [model["displayName"] for model in first["models"]] == ["Traffic", "Swings"]
    request = {"parent": PARENT, "orderBy": "displayName desc", "pageToken": first["nextPageToken"]}
    assert [model["displayName"] for model in client.call(LIST, request)["models"]] == ["Another"]
    with pytest.raises(InvalidArgument, match="order_by"):
        client.call(LIST, {"parent": PARENT, "orderBy": "size"})
    with pytest.raises(InvalidArgument, match="page_token"):
        client.call(LIST, {**request, "orderBy": "display_name"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model=tracker", ["Traffic"]),
        ('display_name!="Traffic"', ["Swings"]),
        ('displayName="Swings"', ["Swings"]),
        ("labels.team=red", ["Traffic"]),
        ("labels:team", ["Traffic"]),
    ],
)
def test_models_are_filtered(client: Client, text: str, expected: list[str]) -> None:
    client.call(UPDATE, {"model": {"name": TRACKER, "labels": {"team": "red"}}, "updateMask": "labels"})
    found = client.call(LIST, {"parent": PARENT, "filter": text})["models"]
    assert [model["displayName"] for model in found] == expected


def test_model_list_obeys_its_read_mask(client: Client) -> None:
    found = client.call(LIST, {"parent": PARENT, "readMask": "displayName", "filter": "model=tracker"})
    assert found["models"] == [{"displayName": "Traffic"}]


def test_uploaded_model_can_be_used(client: Client) -> None:
    operation = upload(
        client,
        model={"description": "text", "labels": {"a": "b"}, "versionDescription": "first"},
        modelId="mine",
    )
    assert operation["done"] is True
    assert operation["name"].startswith(f"{N}/models/mine/operations/")
    assert operation["response"] == {
        "@type": "type.googleapis.com/google.cloud.aiplatform.v1.UploadModelResponse",
        "model": f"{N}/models/mine",
        "modelVersionId": "1",
    }
    model = get(client, f"{PARENT}/models/mine")
    assert (model["displayName"], model["description"], model["labels"]) == ("Mine", "text", {"a": "b"})
    assert (model["versionDescription"], model["versionAliases"]) == ("first", ["default"])
    assert model["artifactUri"] == "gs://model-bucket/exported"
    assert model["modelSourceInfo"] == {"sourceType": "CUSTOM"}
    assert model["supportedInputStorageFormats"] == ["jsonl"]
    client.create(model=f"{PARENT}/models/mine@1")
    job = client.database.claim_job("runner", 10**9)
    assert job is not None
    assert (Path(job.model_folder) / "model.onnx").read_bytes() == b"\x08\x08"


def test_upload_speaks_the_version_of_the_call(client: Client) -> None:
    operation = upload(client, "v1beta1")
    for part, name in (("metadata", "UploadModelOperationMetadata"), ("response", "UploadModelResponse")):
        assert operation[part]["@type"].endswith(f"google.cloud.aiplatform.v1beta1.{name}")
    assert operation["response"]["model"].rpartition("/")[2].isdecimal(), (
        "a model without an id gets a number"
    )


def test_upload_under_a_parent_is_a_new_version(client: Client) -> None:
    operation = upload(
        client, parentModel=TRACKER, model={"versionAliases": ["default", "best"], "labels": {"v": "2"}}
    )
    assert operation["response"]["modelVersionId"] == "2"
    model = get(client, TRACKER)
    assert (model["versionId"], model["versionAliases"]) == ("2", ["best", "default"])
    assert (model["displayName"], model["labels"]) == ("Traffic", {"v": "2"})
    first = get(client, f"{TRACKER}@1")
    assert not first.keys() & {"versionAliases", "labels"}
    listed = client.call(VERSIONS, {"name": TRACKER})["models"]
    assert [version["versionId"] for version in listed] == ["2", "1"]
    page = client.call(VERSIONS, {"name": TRACKER, "orderBy": "create_time", "pageSize": 1})
    assert [version["versionId"] for version in page["models"]] == ["1"]
    filtered = client.call(VERSIONS, {"name": TRACKER, "filter": "labels.v=2"})["models"]
    assert [version["versionId"] for version in filtered] == ["2"]


@pytest.mark.parametrize(
    ("request_part", "field"),
    [
        ({"modelId": "Upper"}, "model_id"),
        ({"modelId": "1model"}, "model_id"),
        ({"modelId": "x" * 64}, "model_id"),
        ({"model": {"displayName": ""}}, "model.display_name"),
        ({"model": {"artifactUri": ""}}, "model.artifact_uri"),
        ({"model": {"artifactUri": "/tmp/model"}}, "model.artifact_uri"),
        ({"model": {"labels": {"A": ""}}}, "model.labels"),
        ({"model": {"versionAliases": ["2"]}}, "model.version_aliases"),
        ({"model": {"explanationSpec": {"parameters": {"topK": 3}}}}, "model.explanation_spec"),
        ({"parentModel": "tracker"}, "parent_model"),
    ],
)
def test_wrong_upload_is_refused_at_once(client: Client, request_part: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        upload(client, **request_part)
    assert [item["field"] for item in caught.value.details[0]["fieldViolations"]] == [field]
    assert client.call("Operations/ListOperations", {"name": PARENT}) == {}


def test_upload_to_a_taken_id_or_a_missing_parent_is_refused(client: Client) -> None:
    with pytest.raises(AlreadyExists, match="parent_model"):
        upload(client, modelId="tracker")
    with pytest.raises(NotFound):
        upload(client, parentModel=f"{PARENT}/models/nothing")
    with pytest.raises(InvalidArgument, match="not in"):
        upload(client, parentModel="projects/other/locations/us-central1/models/tracker")
    with pytest.raises(Unimplemented, match="default_checkpoint_id"):
        upload(client, model={"defaultCheckpointId": "1"})


@pytest.mark.parametrize(
    ("spoil", "code", "text"),
    [
        (lambda folder: (folder / "model.toml").unlink(), 3, "model.toml does not exist"),
        (lambda folder: (folder / "model.toml").write_text("[model"), 3, "cannot be read as TOML"),
        (lambda folder: (folder / "model.onnx").unlink(), 3, "names model.onnx, which does not exist"),
        (lambda folder: (folder / "labels.txt").unlink(), 3, "labels.txt"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], 5, "There are no objects below"),
    ],
)
def test_wrong_artifact_fails_the_operation(
    client: Client, spoil: Callable[[Path], Any], code: int, text: str
) -> None:
    uri = client.put_model("model-bucket", "broken")
    spoil(client.root / "buckets" / "model-bucket" / "broken")
    request = {"parent": PARENT, "modelId": "mine", "model": {"displayName": "x", "artifactUri": uri}}
    operation = client.call(UPLOAD, request)
    assert operation["done"] is True
    assert operation["error"]["code"] == code
    assert text in operation["error"]["message"]
    assert "response" not in operation
    assert client.registry.uploads() == []
    with pytest.raises(NotFound):
        get(client, f"{PARENT}/models/mine")


def test_artifact_with_too_many_files_is_refused(client: Client) -> None:
    for n in range(101):
        client.put("model-bucket", f"all/{n}.bin")
    body = {"displayName": "x", "artifactUri": "gs://model-bucket/all"}
    operation = client.call(UPLOAD, {"parent": PARENT, "model": body})
    assert "name one model's folder" in operation["error"]["message"]


def test_missing_bucket_fails_the_operation(client: Client) -> None:
    body = {"displayName": "x", "artifactUri": "gs://no-such-bucket/model"}
    operation = client.call(UPLOAD, {"parent": PARENT, "model": body})
    assert operation["error"]["code"] in (5, 9)


def test_update_changes_what_the_mask_names(client: Client) -> None:
    body = {"name": TRACKER, "displayName": "New", "description": "text", "labels": {"a": "b"}}
    before = get(client, TRACKER)
    updated = client.call(UPDATE, {"model": body, "updateMask": "displayName,labels"})
    assert (updated["displayName"], updated["labels"]) == ("New", {"a": "b"})
    assert "description" not in updated
    assert updated["etag"] != before["etag"]
    assert updated["updateTime"] > before["updateTime"]
    assert get(client, TRACKER) == updated


def test_update_of_a_version_changes_that_version(client: Client) -> None:
    upload(client, parentModel=TRACKER, model={"versionAliases": []})
    body = {"name": f"{TRACKER}@2", "versionDescription": "better", "labels": {"v": "2"}}
    updated = client.call(UPDATE, {"model": body, "updateMask": "versionDescription,labels"})
    assert (updated["versionId"], updated["versionDescription"], updated["labels"]) == (
        "2",
        "better",
        {"v": "2"},
    )
    assert not get(client, TRACKER).keys() & {"versionDescription", "labels"}
    model = {"name": f"{TRACKER}@-", "labels": {"m": "1"}}
    client.call(UPDATE, {"model": model, "updateMask": "labels"})
    assert get(client, f"{TRACKER}@2")["labels"] == {"m": "1", "v": "2"}


@pytest.mark.parametrize(
    ("name", "mask", "error", "text"),
    [
        (TRACKER, "", InvalidArgument, "update_mask"),
        (TRACKER, "artifactUri", InvalidArgument, "artifact_uri cannot be updated"),
        (TRACKER, "versionDescription", FailedPrecondition, "with @version"),
        (f"{TRACKER}@1", "displayName", FailedPrecondition, "without @version"),
        (f"{PARENT}/models/nothing", "labels", NotFound, "does not exist"),
        ("tracker", "labels", InvalidArgument, "model.name"),
    ],
)
def test_wrong_update_is_refused(
    client: Client, name: str, mask: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        client.call(UPDATE, {"model": {"name": name}, "updateMask": mask})


@pytest.mark.parametrize("model", [{"displayName": ""}, {"displayName": "x" * 129}, {"labels": {"A": "b"}}])
def test_update_keeps_the_rules(client: Client, model: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        client.call(
            UPDATE,
            {"model": {"name": TRACKER, **model}, "updateMask": "*" if "labels" in model else "displayName"},
        )


def test_update_with_an_old_etag_is_aborted(client: Client) -> None:
    etag = get(client, TRACKER)["etag"]
    body = {"name": TRACKER, "displayName": "New", "etag": etag}
    client.call(UPDATE, {"model": body, "updateMask": "displayName"})
    with pytest.raises(Aborted, match="Read it again"):
        client.call(UPDATE, {"model": body, "updateMask": "displayName"})


def test_aliases_are_merged_moved_and_removed(client: Client) -> None:
    upload(client, parentModel=TRACKER, model={"versionAliases": ["new"]})
    merged = client.call(MERGE, {"name": f"{TRACKER}@2", "versionAliases": ["default", "best", "-new"]})
    assert (merged["versionId"], merged["versionAliases"]) == ("2", ["best", "default"])
    assert "versionAliases" not in get(client, f"{TRACKER}@1")
    both = client.call(MERGE, {"name": f"{TRACKER}@2", "versionAliases": ["x2", "-x2", "-absent"]})
    assert both["versionAliases"] == ["best", "default"]


@pytest.mark.parametrize(
    ("name", "aliases", "error"),
    [
        (f"{TRACKER}@1", ["-default"], FailedPrecondition),
        (f"{TRACKER}@1", ["Best"], InvalidArgument),
        (f"{TRACKER}@1", [], InvalidArgument),
        (TRACKER, ["best"], InvalidArgument),
        (f"{TRACKER}@default", ["best"], InvalidArgument),
        (f"{TRACKER}@3", ["best"], NotFound),
    ],
)
def test_wrong_merge_is_refused(
    client: Client, name: str, aliases: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        client.call(MERGE, {"name": name, "versionAliases": aliases})
    assert get(client, TRACKER)["versionAliases"] == ["default"]


def test_version_is_deleted_unless_it_is_the_default_or_the_only_one(client: Client) -> None:
    with pytest.raises(FailedPrecondition, match="only version"):
        client.call(DELETE_VERSION, {"name": f"{TRACKER}@1"})
    upload(client, parentModel=TRACKER, model={"versionAliases": ["default"]})
    with pytest.raises(FailedPrecondition, match="default version"):
        client.call(DELETE_VERSION, {"name": f"{TRACKER}@2"})
    with pytest.raises(InvalidArgument, match="version id is missing"):
        client.call(DELETE_VERSION, {"name": TRACKER})
    operation = client.call(DELETE_VERSION, {"name": f"{TRACKER}@1"})
    assert operation["done"] is True
    assert [v["versionId"] for v in client.call(VERSIONS, {"name": TRACKER})["models"]] == ["2"]


def test_deleted_folder_model_stays_away(make_client: Callable[..., Client]) -> None:
    client = make_client()
    operation = client.call(DELETE, {"name": TRACKER}, "v1beta1")
    assert operation["metadata"]["@type"].endswith("v1beta1.DeleteOperationMetadata")
    for again in (client, make_client()):
        with pytest.raises(NotFound):
            get(again, TRACKER)
    assert get(client, TRACKER.replace(LOCATION, "europe-west4"))["versionId"] == "1", "deleted there only"
    with pytest.raises(InvalidArgument, match="deleteVersion"):
        client.call(DELETE, {"name": f"{PARENT}/models/swings@1"})


def test_files_of_a_deleted_upload_stay_while_a_job_needs_them(client: Client) -> None:
    upload(client, modelId="mine")
    job = client.create(model=f"{PARENT}/models/mine")
    client.call(DELETE, {"name": f"{PARENT}/models/mine"})
    (folder,) = client.registry.uploads()
    row = client.database.claim_job("runner", 10**9)
    assert row is not None
    assert row.model_folder == str(folder)
    assert client.get(job["name"])["modelVersionId"] == "1"
    client.database.finish_job(row.id, "runner", JobState.SUCCEEDED)
    client.service.recover()
    assert client.registry.uploads() == []


def test_files_of_an_upload_stay_if_its_row_has_another_path(client: Client) -> None:
    upload(client, modelId="mine")
    client.database.move_folders(lambda path: path.replace("/uploads/", "/mounted/uploads/"))
    client.service.models.sweep()
    assert len(client.registry.uploads()) == 1


def test_restart_fails_what_was_under_way(make_client: Callable[..., Client]) -> None:
    client = make_client()
    name = f"{N}/models/mine/operations/77"
    metadata = client.call(
        UPLOAD,
        {
            "parent": PARENT,
            "model": {"displayName": "x", "artifactUri": client.put_model("model-bucket", "m")},
        },
    )
    row = client.database.get_operation(int(metadata["name"].rpartition("/")[2]))
    assert row is not None
    client.database.insert_operation(OperationRow(77, NUMBER, LOCATION, "mine", 5, False, row.document))
    (client.root / "uploads" / "77").mkdir()
    again = make_client()
    again.service.recover()
    operation = again.call("Operations/GetOperation", {"name": name})
    assert (operation["done"], operation["error"]["code"]) == (True, 10)
    assert not (client.root / "uploads" / "77").exists()
    assert len(again.registry.uploads()) == 1, "the finished upload stays"


def test_later_folder_replaces_an_earlier_one(tmp_path: Path) -> None:
    write_model(tmp_path / "a" / "model", display_name="Bundled")
    write_model(tmp_path / "b" / "model", display_name="Mine")
    registry = Registry([tmp_path / "a", tmp_path / "b", tmp_path / "missing"], tmp_path / "uploads")
    catalogue = registry.catalogue()
    assert [source.manifest.display_name for source in catalogue.sources] == ["Mine"]
    assert "missing cannot be read" in catalogue.problems[0]
    single = Registry([tmp_path / "a" / "model"], tmp_path / "uploads")
    assert [source.id for source in single.catalogue().sources] == ["model"]


class HeldStore(LocalStore):
    """Storage that stops at the first file until it is released."""

    reached = threading.Event()
    release = threading.Event()

    def open_read(self, uri: GcsUri) -> BinaryIO:
        self.reached.set()
        assert self.release.wait(30)
        return super().open_read(uri)


def upload_often(client: Client) -> None:
    """The first one may still be taken by a server that is about to stop."""
    for _ in range(10):
        upload(client)


def test_stopping_server_ends_a_slow_upload(make_client: Callable[..., Client], tmp_path: Path) -> None:
    store = HeldStore(tmp_path / "buckets")
    client = make_client(store=store)
    body = {"displayName": "x", "artifactUri": client.put_model("model-bucket", "m")}
    operation = client.call(UPLOAD, {"parent": PARENT, "model": body})
    assert store.reached.is_set()
    assert "done" not in operation, "it goes on in the background"
    assert client.call("Operations/ListOperations", {"name": PARENT, "filter": "done=false"})["operations"]
    closing = threading.Thread(target=client.service.close)
    closing.start()
    with pytest.raises(Unavailable, match="stopping"):
        upload_often(client)
    store.release.set()
    closing.join(30)
    ended = client.call("Operations/GetOperation", {"name": operation["name"]})
    assert (ended["done"], ended["error"]["code"]) == (True, 10)
    assert client.registry.uploads() == []


def test_files_of_an_upload_under_way_are_not_swept(client: Client) -> None:
    client.database.insert_operation(OperationRow(77, NUMBER, LOCATION, "mine", 5, False, b""))
    folder = client.root / "uploads" / "77"
    folder.mkdir(parents=True)
    client.call(DELETE, {"name": TRACKER})
    assert folder.is_dir()


def test_edited_folder_model_is_read_anew(client: Client) -> None:
    before = get(client, f"{PARENT}/models/swings")
    write_model(client.models_folder / "swings", display_name="Edited")
    (edited,) = client.call(LIST, {"parent": PARENT, "filter": "model=swings"})["models"]
    assert edited["displayName"] == "Edited"
    assert "video_object_tracking" in edited["predictSchemata"]["predictionSchemaUri"]
    assert edited["createTime"] == before["createTime"]


def test_an_unknown_model_is_looked_for_in_the_folders_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, real = list[None](), Registry._look

    def look(registry: Registry) -> None:
        looks.append(None)
        real(registry)

    monkeypatch.setattr(Registry, "_look", look)
    for _ in range(2):
        client.registry._looked_at = -math.inf
        looks.clear()
        with pytest.raises(NotFound, match=r"No .*/models/nothing\. Models there: "):
            client.create(model=f"{PARENT}/models/nothing")
        assert len(looks) == 1
