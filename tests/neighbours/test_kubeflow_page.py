"""docs/kubeflow.md: the pipeline runs as it is written, with the component's own launcher, in alias mode.

`make test-neighbours` runs it: it needs Linux, root and iproute2.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.alias.client import ASKED, Client
from tests.docs.pages import blocks, runs
from tests.neighbours.conftest import Neighbour, neighbour

PAGE = "docs/kubeflow.md"
PIPELINE, PROGRAM = blocks(PAGE, "python")
(RUN,) = blocks(PAGE, "sh")
RESOURCES, ARTIFACTS = blocks(PAGE, "json")

pytestmark = [
    pytest.mark.neighbours,
    pytest.mark.skipif(
        not os.environ.get(ASKED),
        reason="changes the system's network namespaces: run `make test-neighbours`",
    ),
]


@pytest.fixture
def kubeflow(client: Client, tmp_path: Path) -> Neighbour:
    made = neighbour(client, tmp_path, "kubeflow")
    (made.folder / "pipeline.py").write_text(PIPELINE.text)
    (made.folder / "run_here.py").write_text(PROGRAM.text)
    return made


def is_as(shown: Any, found: Any) -> bool:
    """Return whether a value is as a page shows it, where `…` in a text stands for any other."""
    if isinstance(shown, dict):
        return shown.keys() == found.keys() and all(is_as(shown[key], found[key]) for key in shown)
    if isinstance(shown, list):
        return len(shown) == len(found) and all(map(is_as, shown, found))
    return re.fullmatch(re.escape(shown).replace("…", ".+"), found) is not None


@runs(PIPELINE, PROGRAM, RUN)
def test_documented_pipeline(kubeflow: Neighbour) -> None:
    kubeflow.sh(RUN.text)
    (task,) = kubeflow.folder.glob("outputs/*/model-batch-predict")
    resources = json.loads((task / "gcp_resources").read_text())
    assert is_as(json.loads(RESOURCES.text), resources)
    output = json.loads((task / "executor_output.json").read_text())
    assert is_as(json.loads(ARTIFACTS.text), output)
    (directory,) = output["artifacts"]["gcs_output_directory"]["artifacts"]
    predictions = kubeflow.client.data / "buckets" / directory["uri"].removeprefix("gs://")
    (line,) = (predictions / "predictions_00001.jsonl").read_text().splitlines()
    assert [found["displayName"] for found in json.loads(line)["prediction"]] == ["cat"]


@runs(PIPELINE)
def test_restarted_launcher_waits_for_the_same_job(kubeflow: Neighbour) -> None:
    """As the page says: `gcp_resources` of the first start names the job."""
    kubeflow.sh(RUN.text)
    (task,) = kubeflow.folder.glob("outputs/*/model-batch-predict")
    before = (task / "gcp_resources").read_text()
    created = kubeflow.client.log.read_text().count("created: 'from a pipeline'")
    launcher = "google_cloud_pipeline_components.container.v1.batch_prediction_job.launcher"
    place = "--type BatchPredictionJob --project my-project --location us-central1 --payload '{}'"
    paths = f"--gcp_resources {task / 'gcp_resources'} --executor_input '{_executor_input(task)}'"
    kubeflow.sh(f"python -m {launcher} {place} {paths}")
    assert (task / "gcp_resources").read_text() == before
    assert kubeflow.client.log.read_text().count("created: 'from a pipeline'") == created
    assert is_as(json.loads(ARTIFACTS.text), json.loads((task / "again.json").read_text()))


def _executor_input(task: Path) -> str:
    """What a pipeline gives the launcher: where its outputs go, by name and type."""
    types = {
        name: artifacts["artifacts"][0]["type"]
        for name, artifacts in json.loads(ARTIFACTS.text)["artifacts"].items()
    }
    outputs = {
        "artifacts": {name: {"artifacts": [{"name": name, "type": kind}]} for name, kind in types.items()},
        "outputFile": str(task / "again.json"),
    }
    return json.dumps({"inputs": {}, "outputs": outputs})
