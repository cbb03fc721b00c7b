"""The console's other pages: the form's mistakes and files, models, storage, requests, control, about."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Page, Route, expect

from emulator import __version__
from emulator.app import Emulator
from tests.control.project import LOCATION, Project


def place(project: Project) -> str:
    return f"/console/projects/{project.id}/locations/{LOCATION}"


@pytest.fixture
def form(page: Page, project: Project) -> Page:
    """The empty form of a new batch prediction."""
    page.goto(f"{place(project)}/batch-predictions/create")
    expect(page.get_by_label("Name", exact=True)).to_have_value(re.compile(r"untitled_\d{8}_\d{6}"))
    return page


def video(project: Project, name: str = "a.mp4") -> FilePayload:
    path = project.buckets / "bucket" / name
    return {"name": name, "mimeType": "video/mp4", "buffer": path.read_bytes()}


def test_mistakes_are_named_and_the_first_has_the_focus(form: Page) -> None:
    form.get_by_label("Name", exact=True).fill("")
    form.get_by_role("button", name="Create", exact=True).click()
    name = form.get_by_label("Name", exact=True)
    expect(name).to_be_focused()
    expect(name).to_have_accessible_description("Enter a name.")
    name.fill("a job")
    form.get_by_label("Source path", exact=True).fill("/tmp/input.jsonl")
    form.get_by_label("Confidence threshold").fill("2")
    form.get_by_role("button", name="Create", exact=True).click()
    source = form.get_by_label("Source path", exact=True)
    expect(source).to_be_focused()
    expect(source).to_have_accessible_description(re.compile("/tmp/input.jsonl must begin with gs://"))
    expect(form.get_by_label("Destination path", exact=True)).to_have_accessible_description(
        re.compile("Enter a Cloud Storage path for the results")
    )
    expect(form.get_by_label("Confidence threshold")).to_have_accessible_description(
        "Confidence threshold: from 0 to 1."
    )


def test_servers_words_stand_at_the_field(open_page: Page, project: Project) -> None:
    open_page.goto(f"{place(project)}/batch-predictions/create")
    open_page.get_by_label("Source path", exact=True).fill("gs://bucket")
    open_page.get_by_label("Destination path", exact=True).fill("gs://b")
    open_page.get_by_role("button", name="Create", exact=True).click()
    source = open_page.get_by_label("Source path", exact=True)
    expect(source).to_have_accessible_description(re.compile("names a bucket but no object"))
    expect(source).to_be_focused()
    expect(open_page.get_by_label("Destination path", exact=True)).to_have_accessible_description(
        re.compile('"b" is not a bucket name')
    )


def test_videos_that_are_uploaded_become_an_input_file(form: Page, project: Project) -> None:
    form.get_by_label("Upload files").set_input_files([video(project), video(project, "b.mp4")])
    expect(form.get_by_text("2 videos uploaded, and an input file with one segment each")).to_be_visible()
    source = form.get_by_label("Source path", exact=True).input_value()
    form.get_by_role("button", name="Check input").click()
    expect(form.get_by_text("2 instances of 2 videos.")).to_be_visible()
    written = (project.buckets / source.removeprefix("gs://")).read_text()
    assert [json.loads(line)["content"].rpartition("/")[2] for line in written.splitlines()] == [
        "a.mp4",
        "b.mp4",
    ]
    form.get_by_label("Destination path", exact=True).fill("gs://bucket/out")
    form.get_by_role("button", name="Create", exact=True).click()
    summary = form.get_by_role("region", name="Summary")
    expect(summary.get_by_text("Succeeded")).to_be_visible()
    expect(summary.get_by_text("2 of 2")).to_be_visible()


def test_files_that_are_dropped_are_uploaded(form: Page, project: Project) -> None:
    transfer = form.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            const line = '{"content": "gs://bucket/a.mp4", "mimeType": "video/mp4"}';
            transfer.items.add(new File([line], "mine.jsonl"));
            return transfer;
        }"""
    )
    form.get_by_label("Source path", exact=True).dispatch_event("drop", {"dataTransfer": transfer})
    expect(form.get_by_label("Source path", exact=True)).to_have_value(re.compile(r"gs://.*/mine\.jsonl"))
    form.get_by_role("button", name="Check input").click()
    expect(form.get_by_text("1 instance of 1 video.")).to_be_visible()


def test_check_input_tells_every_problem(form: Page, project: Project) -> None:
    lines = [
        '{"content": "gs://bucket/none.mp4", "mimeType": "video/mp4"}',
        '{"mimeType": "video/mp4"}',
        "nonsense",
    ]
    (project.buckets / "bucket" / "bad.jsonl").write_text("\n".join(lines))
    form.get_by_label("Source path", exact=True).fill("gs://bucket/bad.jsonl")
    form.get_by_role("button", name="Check input").click()
    notes = form.get_by_role("status").filter(has_text="3 instances of 1 video, 2 lines cannot be used.")
    expect(notes).to_contain_text("gs://bucket/bad.jsonl line 2")
    expect(notes).to_contain_text("gs://bucket/none.mp4 does not exist.")


def test_paths_can_be_picked(form: Page, project: Project) -> None:
    (project.buckets / "bucket" / "inputs").mkdir(exist_ok=True)
    (project.buckets / "bucket" / "inputs" / "pick-me.jsonl").write_text("{}\n")
    form.get_by_role("button", name="Browse for the source path").click()
    dialog = form.get_by_role("dialog")
    dialog.get_by_role("button", name="bucket", exact=True).click()
    dialog.get_by_role("button", name="inputs/").click()
    dialog.get_by_role("button", name="pick-me.jsonl").click()
    expect(form.get_by_label("Source path", exact=True)).to_have_value("gs://bucket/inputs/pick-me.jsonl")
    form.get_by_role("button", name="Browse for the destination path").click()
    dialog.get_by_role("button", name="bucket", exact=True).click()
    dialog.get_by_role("button", name="Use this folder").click()
    expect(form.get_by_label("Destination path", exact=True)).to_have_value("gs://bucket/")


def test_equivalent_requests_are_those_of_the_form(form: Page, project: Project) -> None:
    form.get_by_label("Name", exact=True).fill("it's")
    form.get_by_label("Source path", exact=True).fill("gs://bucket/in.jsonl\ngs://bucket/more-*.jsonl")
    form.get_by_label("Destination path", exact=True).fill("gs://bucket/out")
    form.get_by_text("More", exact=True).click()
    form.get_by_label("Labels").fill("team=vision")
    form.get_by_label("Batch size").fill("4")
    form.get_by_label("Pace").fill("immediate")
    rest = form.get_by_role("region", name="REST body").inner_text()
    assert json.loads(rest.partition("\n\n")[2]) == {
        "displayName": "it's",
        "model": f"{project.parent}/models/tiny",
        "inputConfig": {
            "instancesFormat": "jsonl",
            "gcsSource": {"uris": ["gs://bucket/in.jsonl", "gs://bucket/more-*.jsonl"]},
        },
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://bucket/out"},
        },
        "labels": {"team": "vision"},
        "manualBatchTuningParameters": {"batchSize": 4},
    }
    assert 'x-goog-emulator-instructions: {"pace":"immediate"}' in rest
    form.get_by_role("tab", name="curl").click()
    assert "'\\''" in form.get_by_role("region", name="curl command").inner_text()
    form.get_by_role("tab", name="Python").click()
    compile(form.get_by_role("region", name="Python program").inner_text(), "program", "exec")


def test_model_leads_to_the_form(page: Page, project: Project) -> None:
    page.goto(f"{place(project)}/models")
    page.get_by_role("link", name="Tiny", exact=True).click()
    expect(page.get_by_role("heading", name="Tiny")).to_be_visible()
    expect(page.get_by_text("Object tracking")).to_be_visible()
    page.get_by_role("link", name="Use for prediction").click()
    expect(page.get_by_label("Model name")).to_have_value("tiny")


def test_objects_are_uploaded_shown_and_deleted(page: Page, project: Project) -> None:
    page.goto("/console/storage")
    page.get_by_role("button", name="Create bucket").click()
    bucket = f"made-{project.id}"
    page.get_by_role("dialog").get_by_label("Name").fill(bucket)
    page.get_by_role("dialog").get_by_role("button", name="Create").click()
    page.get_by_role("link", name=bucket).click()
    expect(page.get_by_text(f"Nothing in gs://{bucket}/")).to_be_visible()
    page.get_by_label("Upload files").set_input_files(
        {"name": "note.txt", "mimeType": "text/plain", "buffer": b"<b>hello</b>"}
    )
    page.get_by_role("button", name="note.txt", exact=True).click()
    expect(page.get_by_role("dialog").get_by_text("<b>hello</b>")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download note.txt").click()
    assert Path(download.value.path()).read_bytes() == b"<b>hello</b>"
    page.get_by_role("button", name="Delete note.txt").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete the object").click()
    expect(page.get_by_text(f"Nothing in gs://{bucket}/")).to_be_visible()
    assert list((project.buckets / bucket).rglob("note.txt")) == []


def test_folders_with_strange_names(page: Page, project: Project) -> None:
    folder = project.buckets / "bucket" / "strange" / "a b#c%2F?d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "x&y.txt").write_text("here")
    page.goto("/console/storage/bucket/strange/")
    page.get_by_role("link", name="a b#c%2F?d/").click()
    page.get_by_role("button", name="x&y.txt", exact=True).click()
    expect(page.get_by_role("dialog").get_by_text("here")).to_be_visible()


def test_calls_appear_in_the_journal(page: Page, project: Project) -> None:
    name = project.create(name="for the journal")
    project.error("GET", f"/v1/{project.parent}/batchPredictionJobs/1")
    page.goto(f"/console/requests?project={project.id}")
    expect(page.get_by_text("2 calls")).to_be_visible()
    page.get_by_label("Status").fill("NOT_FOUND")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("1 call", exact=True)).to_be_visible()
    page.get_by_label("Status").fill("")
    page.get_by_label("Method").fill("Create*")
    page.get_by_role("button", name="Apply").click()
    page.get_by_text("CreateBatchPredictionJob").click()
    expect(page.get_by_text("for the journal")).to_be_visible()
    expect(page.get_by_role("button", name="Copy as curl")).to_be_visible()
    assert name.startswith("projects/")


def test_pace_and_faults_are_set_and_unset(page: Page, project: Project) -> None:
    page.goto(place(project) + "/models")
    expect(page.get_by_role("link", name="Tiny", exact=True)).to_be_visible()
    page.get_by_role("link", name="Control").click()
    card = page.get_by_role("region", name=f"Pace of {project.id}")
    card.get_by_label("New pace").fill("pending=hold")
    card.get_by_role("button", name="Set", exact=True).click()
    expect(card.get_by_text("The pace is set.")).to_be_visible()
    assert project.control("GET", f"projects/{project.id}/pace")["pace"] == "pending=hold"
    card.get_by_role("button", name="Unset").click()
    expect(card.get_by_text("Now: real")).to_be_visible()
    faults = page.get_by_role("region", name="Faults").first
    fault = {"on": "rpc", "method": "Get*", "project": project.id, "code": "UNAVAILABLE", "times": 1}
    faults.get_by_label("New fault").fill(json.dumps(fault))
    faults.get_by_role("button", name="Add").click()
    expect(faults.get_by_role("row").filter(has_text=project.id)).to_be_visible()
    faults.get_by_role("button", name=re.compile("Remove fault")).click()
    expect(faults.get_by_text("No call and no job fails on purpose.")).to_be_visible()


def test_bad_fault_is_explained(open_page: Page, project: Project) -> None:
    open_page.goto("/console/control")
    open_page.get_by_label("New fault").fill("{")
    open_page.get_by_role("button", name="Add").click()
    expect(open_page.get_by_text("This is no JSON object")).to_be_visible()
    open_page.get_by_label("New fault").fill('{"on": "rpc", "method": "Fetch*", "code": 503}')
    open_page.get_by_role("button", name="Add").click()
    expect(open_page.get_by_text("which no RPC fits")).to_be_visible()


def test_a_page_that_loads_late_does_not_replace_the_one_asked_for(page: Page, project: Project) -> None:
    held: list[Route] = []
    page.route("**/jobs.js", lambda route: held.append(route))
    page.goto(f"{place(project)}/batch-predictions")
    page.get_by_role("link", name="Control").click()
    expect(page.get_by_role("heading", name="Control")).to_be_visible()
    assert held
    for route in held:
        route.continue_()
    # Loaded, and drawn if it were.
    page.evaluate(
        "(url) => import(url).then(() => new Promise((drawn) => setTimeout(drawn, 100)))", held[0].request.url
    )
    expect(page.get_by_role("heading", name="Control")).to_have_count(1)


def test_reset_of_a_project(page: Page, project: Project) -> None:
    project.finish(project.create(name="to be forgotten"))
    page.goto(f"{place(project)}/batch-predictions")
    page.get_by_role("link", name="Control").click()
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("dialog").get_by_role("button", name="Reset").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("link", name="Batch predictions", exact=True).click()
    expect(page.get_by_text(f"No batch predictions in {project.id}")).to_be_visible()


def test_about_tells_version_and_settings(page: Page, emulator: Emulator) -> None:
    page.goto("/console/about")
    server = page.get_by_role("region", name="Server")
    expect(server.get_by_text(__version__)).to_be_visible()
    expect(server.get_by_text(emulator.url)).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="worker_threads")).to_contain_text("1")


def test_projects_can_be_picked_and_are_remembered(page: Page, project: Project) -> None:
    project.create(name="here")
    page.goto("/console/projects/another/locations/us-central1/batch-predictions")
    page.get_by_role("button", name="Project another").click()
    page.get_by_role("dialog").get_by_role("button", name=project.id).first.click()
    expect(page.get_by_role("link", name="here")).to_be_visible()
    page.goto("/")
    expect(page.get_by_role("button", name=f"Project {project.id}")).to_be_visible()
    expect(page.get_by_role("link", name="here")).to_be_visible()


def test_unknown_page_says_so(page: Page) -> None:
    page.goto("/console/nothing/here")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
