"""docs/airflow.md: the DAG runs as it is written, against a real server, in alias mode.

`make test-neighbours` runs it: it needs Linux, root and iproute2, and installs Airflow (1.5 GB).
"""

import json
import os
import re
from pathlib import Path

import pytest

from tests.alias.client import ASKED, Client
from tests.docs.pages import Block, blocks, runs
from tests.neighbours.conftest import Neighbour, neighbour

PAGE, TOOLS = "docs/airflow.md", "docs/clients/data-tools.md"
(DAG,) = blocks(PAGE, "python")
(RUN,) = blocks(PAGE, "sh")
PRINTED, LINK = blocks(PAGE, "text")
(HOOK_ENV,) = blocks(TOOLS, "sh", "Airflow")
(HOOK,) = blocks(TOOLS, "python", "Airflow")

pytestmark = [
    pytest.mark.neighbours,
    pytest.mark.skipif(
        not os.environ.get(ASKED),
        reason="changes the system's network namespaces: run `make test-neighbours`",
    ),
]


@pytest.fixture
def airflow(client: Client, tmp_path: Path) -> Neighbour:
    return neighbour(client, tmp_path, "airflow")


def missing(block: Block, printed: str) -> list[str]:
    """Return the lines of a block that a program did not print; `…` stands for any text."""
    lines = block.text.splitlines()
    return [line for line in lines if not re.search(re.escape(line).replace("…", ".*"), printed)]


@runs(DAG, RUN, PRINTED, LINK)
def test_documented_dag(airflow: Neighbour) -> None:
    (airflow.folder / "dags").mkdir()
    (airflow.folder / "dags" / "batch_prediction.py").write_text(DAG.text)
    printed = airflow.sh(f"{{ {RUN.text}}} 2>&1", AIRFLOW__CORE__LOAD_EXAMPLES="False")
    assert missing(PRINTED, printed) == []
    created = re.findall(r"Batch prediction job was created\. Job id: (\d+)", printed)
    assert len(created) == 2
    assert "Pausing task as DEFERRED" in printed
    assert "Trigger completed" in printed
    log = airflow.client.log.read_text()
    assert missing(LINK, log) == []
    assert re.findall(r"Console: \S+/batch-predictions/(\d+)", log)[-2:] == created
    for job in created:
        assert _labels(airflow, job) == ["cat"]


def _labels(airflow: Neighbour, job: str) -> list[str]:
    """Read the labels that a job has found from its output."""
    name = f"projects/my-project/locations/us-central1/batchPredictionJobs/{job}"
    shown = airflow.sh(f"curl -sS --fail https://us-central1-aiplatform.googleapis.com/v1/{name}")
    directory = json.loads(shown)["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")
    lines = (airflow.client.data / "buckets" / directory / "predictions_00001.jsonl").read_text().splitlines()
    return [found["displayName"] for line in lines for found in json.loads(line)["prediction"]]


@runs(HOOK_ENV, HOOK)
def test_hook_of_cloud_storage(airflow: Neighbour) -> None:
    (airflow.folder / "hook.py").write_text(HOOK.text)
    printed = airflow.sh(f"{HOOK_ENV.text}airflow db migrate >&2\npython hook.py")
    assert printed.splitlines()[-1] == "hello"
