"""The console steps of both documentation pages, from an empty server to SUCCEEDED, by what a person sees."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from emulator.config import Settings
from emulator.factory import Clip, action_documentation_clip, documentation_clip, render
from tests.control.project import Project

LOCATION = "us-central1"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """An emulator with the bundled models and nothing else."""
    folder = tmp_path_factory.mktemp("documented")
    return Settings(port=0, data_dir=folder, provider="cpu", workers=1, worker_threads=1, hold_timeout=30)


def put_video(buckets: Path, name: str, clip: Clip) -> str:
    """A rendered clip and the input file for it; the file's URI."""
    folder = buckets / "sourcebucket"
    folder.mkdir(exist_ok=True)
    render(clip, folder / f"{name}.mp4")
    line = {
        "content": f"gs://sourcebucket/{name}.mp4",
        "mimeType": "video/mp4",
        "timeSegmentStart": "1s",
        "timeSegmentEnd": "5s",
    }
    (folder / f"{name}.jsonl").write_text(f"{json.dumps(line)}\n")
    return f"gs://sourcebucket/{name}.jsonl"


@pytest.mark.parametrize(
    ("model", "clip", "labels"),
    [
        ("video-object-tracking", documentation_clip(), {"cat", "dog"}),
        ("video-action-recognition", action_documentation_clip(), {"swing", "jump"}),
    ],
    ids=["object-tracking", "action-recognition"],
)
def test_documented_steps(page: Page, project: Project, model: str, clip: Clip, labels: set[str]) -> None:
    source = put_video(project.buckets, model, clip)

    # 1. Go to the Batch predictions page.
    page.goto(f"/console/projects/{project.id}/locations/{LOCATION}/batch-predictions")
    expect(page.get_by_role("heading", name="Batch predictions", exact=True)).to_be_visible()
    expect(page.get_by_text(f"No batch predictions in {project.id} / {LOCATION} yet.")).to_be_visible()
    # 2. Click Create to open the New batch prediction window.
    page.get_by_role("link", name="Create").first.click()
    expect(page.get_by_role("heading", name="New batch prediction")).to_be_visible()
    page.get_by_label("Name", exact=True).fill(f"My {model} job")
    page.get_by_label("Model name").select_option(label=model)
    page.get_by_label("Source path", exact=True).fill(source)
    page.get_by_label("Destination path", exact=True).fill("gs://outputbucket/console")
    expect(page.get_by_label("Output format")).to_have_value("JSON Lines")
    page.get_by_label("Confidence threshold").fill("0.5")
    page.get_by_role("button", name="Check input").click()
    expect(page.get_by_text("1 instance of 1 video.")).to_be_visible()
    sent = json.loads(page.get_by_role("region", name="REST body").inner_text().partition("\n\n")[2])
    page.get_by_role("button", name="Create", exact=True).click()

    expect(page.get_by_role("heading", name=f"My {model} job")).to_be_visible()
    summary = page.get_by_role("region", name="Summary")
    expect(summary.get_by_text("Succeeded")).to_be_visible(timeout=120_000)
    expect(page).to_have_title(re.compile("Succeeded"))

    # The output equals that of the same request over the API.
    name = summary.get_by_text(re.compile("^projects/")).inner_text()
    by_console = project.get(name)
    by_api = project.finish(project.call("POST", f"/v1/{project.parent}/batchPredictionJobs", sent)["name"])
    assert (by_console["state"], by_api["state"]) == ("JOB_STATE_SUCCEEDED",) * 2
    assert project.files(by_console) == project.files(by_api)
    lines = project.files(by_console)["predictions_00001.jsonl"].splitlines()
    found = {one["displayName"] for line in lines for one in json.loads(line)["prediction"]}
    assert found == labels
