"""The console's list and the page of a job: live, filtered, cancelled, deleted, and with hostile names."""

import re

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.control.project import LOCATION, Project, job_id

HOSTILE = "<img src=x onerror=\"document.title='owned'\"> \u202etxt.exe \u2066 " + "😀" * 80


@pytest.fixture
def jobs(page: Page, project: Project) -> Page:
    """The list of the test's own project, with a first job in it."""
    project.finish(project.create(name="first"))
    page.goto(list_path(project))
    expect(row(page, "first").get_by_text("Succeeded")).to_be_visible()
    return page


def list_path(project: Project, query: str = "") -> str:
    return f"/console/projects/{project.id}/locations/{LOCATION}/batch-predictions{query}"


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def job_path(project: Project, name: str, tab: str = "") -> str:
    return f"{list_path(project)}/{job_id(name)}{tab}"


def test_states_change_before_ones_eyes(jobs: Page, project: Project) -> None:
    project.pace("pending=hold,running=hold")
    name = project.create(name="held")
    jobs.get_by_role("button", name="1 new").click()
    expect(row(jobs, "held").get_by_text("Pending")).to_be_visible()
    project.control("POST", f"jobs/{job_id(name)}/release")
    expect(row(jobs, "held").get_by_text("Running 0/1")).to_be_visible()
    project.control("POST", f"jobs/{job_id(name)}/release")
    expect(row(jobs, "held").get_by_text("Succeeded")).to_be_visible()
    expect(row(jobs, "held").get_by_text("1 of 1")).to_be_visible()


def test_rows_stay_in_place_while_jobs_arrive(jobs: Page, project: Project) -> None:
    project.create(name="second")
    project.create(name="third")
    expect(jobs.get_by_role("button", name="2 new")).to_be_visible()
    expect(jobs.get_by_role("row")).to_have_count(2)
    jobs.get_by_role("button", name="2 new").click()
    names = jobs.get_by_role("row").get_by_role("link")
    expect(names).to_have_text(["third", "second", "first"])


def test_filter_is_the_servers(jobs: Page, project: Project) -> None:
    project.finish(project.create("missing.mp4", name="broken"))
    jobs.get_by_role("button", name="Failed").click()
    expect(row(jobs, "broken")).to_be_visible()
    expect(row(jobs, "first")).to_have_count(0)
    expect(jobs.get_by_label("Filter", exact=True)).to_have_value('state="JOB_STATE_FAILED"')
    jobs.get_by_label("Filter", exact=True).fill('display_name:"none*"')
    jobs.get_by_role("button", name="Apply").click()
    expect(jobs.get_by_text("No job matches the filter")).to_be_visible()
    jobs.get_by_role("button", name="Clear the filter").click()
    expect(row(jobs, "first")).to_be_visible()
    # The address has the filter, so that the browser's history has it.
    jobs.go_back()
    expect(jobs.get_by_label("Filter", exact=True)).to_have_value('display_name:"none*"')


def test_bad_filter_is_explained_at_the_field(open_page: Page, project: Project) -> None:
    project.create(name="first")
    open_page.goto(list_path(project, "?filter=colour%3Dred"))
    field = open_page.get_by_label("Filter", exact=True)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(
        re.compile("Unknown field 'colour'. Known fields: create_time")
    )


def test_pages_of_fifty(page: Page, project: Project) -> None:
    project.pace("pending=hold")
    for number in range(52):
        project.create(name=f"job {number}")
    page.goto(list_path(project))
    expect(row(page, "job 51")).to_be_visible()
    expect(page.get_by_role("row")).to_have_count(51)
    page.get_by_role("button", name="Older").click()
    expect(row(page, "job 0")).to_be_visible()
    expect(page.get_by_role("row")).to_have_count(3)
    page.reload()
    expect(row(page, "job 1")).to_be_visible()
    page.get_by_role("button", name="Newest").click()
    expect(row(page, "job 51")).to_be_visible()


def test_selected_jobs_are_cancelled_and_deleted(jobs: Page, project: Project) -> None:
    project.pace("pending=hold")
    waiting = project.create(name="waiting")
    jobs.get_by_role("button", name="1 new").click()
    jobs.get_by_label("Select all on this page").check()
    expect(jobs.get_by_text("2 jobs selected")).to_be_visible()
    jobs.get_by_role("button", name="Cancel 1").click()
    jobs.get_by_role("dialog").get_by_role("button", name="Cancel 1 job").click()
    expect(row(jobs, "waiting").get_by_text("Cancelled")).to_be_visible()
    assert project.state(waiting) == "CANCELLED"
    jobs.get_by_label("Select waiting").check()
    jobs.get_by_role("button", name="Delete 1").click()
    jobs.get_by_role("dialog").get_by_role("button", name="Delete 1 job").click()
    expect(row(jobs, "waiting")).to_have_count(0)
    expect(row(jobs, "first")).to_be_visible()


def test_two_tabs_know_of_each_other(open_page: Page, context: BrowserContext, project: Project) -> None:
    project.finish(project.create(name="first"))
    open_page.goto(list_path(project))
    expect(row(open_page, "first")).to_be_visible()
    other = context.new_page()
    other.goto(list_path(project))
    row(other, "first").get_by_role("checkbox").check()
    other.get_by_role("button", name="Delete 1").click()
    other.get_by_role("dialog").get_by_role("button", name="Delete 1 job").click()
    expect(other.get_by_text(re.compile("^No batch predictions in"))).to_be_visible()
    open_page.bring_to_front()
    expect(row(open_page, "first").get_by_text("Deleted")).to_be_visible()


def test_every_location_at_once(page: Page, project: Project) -> None:
    project.finish(project.create(name="first"))
    elsewhere = f"projects/{project.id}/locations/europe-west4"
    body = project.body(name="elsewhere")
    body["model"] = f"{elsewhere}/models/tiny"
    project.call("POST", f"/v1/{elsewhere}/batchPredictionJobs", body)
    # The list that Airflow links to names no location.
    page.goto(f"/vertex-ai/batch-predictions?project={project.id}")
    expect(row(page, "first").get_by_text("us-central1")).to_be_visible()
    expect(row(page, "elsewhere").get_by_text("europe-west4")).to_be_visible()


def test_link_of_the_sdk_leads_to_the_job(page: Page, project: Project) -> None:
    name = project.create(name="from the SDK")
    number = name.split("/")[1]
    page.goto(f"/ai/platform/locations/{LOCATION}/batch-predictions/{job_id(name)}?project={number}")
    expect(page.get_by_role("heading", name="from the SDK")).to_be_visible()


def test_hostile_names_are_text(page: Page, project: Project) -> None:
    name = project.create("<script>alert(1)</script>.mp4", name=HOSTILE[:128], labels={"x": "y"})
    project.finish(name)
    page.goto(list_path(project))
    expect(page.get_by_role("link", name="<img src=x onerror=")).to_be_visible()
    for tab in ("", "/details", "/steps", "/errors"):
        page.goto(job_path(project, name, tab))
        expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x onerror=")
    expect(page.get_by_text("<script>alert(1)</script>.mp4").first).to_be_visible()
    assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0


def test_held_job_is_released(page: Page, project: Project) -> None:
    project.pace("pending=hold")
    page.goto(job_path(project, project.create(name="held")))
    expect(page.get_by_text("Held in pending", exact=True)).to_be_visible()
    page.get_by_role("button", name="Release").click()
    expect(page.get_by_role("region", name="Summary").get_by_text("Succeeded")).to_be_visible()


def test_looking_at_a_job_is_no_read_of_it(page: Page, project: Project) -> None:
    project.pace("running=2")
    name = project.create(name="counted")
    page.goto(list_path(project))
    page.goto(job_path(project, name))
    expect(page.get_by_text("Held in running", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_text("for 2 more reads")).to_be_visible()
    called = project.control("GET", "requests", params={"project": project.id})["requests"]
    assert [one["method"] for one in called] == ["JobService/CreateBatchPredictionJob"]


def test_errors_name_the_line(page: Page, project: Project) -> None:
    name = project.create("a.mp4", "missing.mp4", name="half")
    project.finish(name)
    page.goto(job_path(project, name))
    expect(page.get_by_text("Succeeded with 1 failed", exact=True)).to_be_visible()
    page.get_by_role("link", name="Errors (1)").click()
    expect(page.get_by_text(re.compile("line 2: gs://bucket/missing.mp4 does not exist"))).to_be_visible()


def test_job_that_is_deleted_under_the_reader(open_page: Page, project: Project) -> None:
    name = project.create(name="short-lived")
    project.finish(name)
    open_page.goto(job_path(project, name))
    expect(open_page.get_by_role("heading", name="short-lived")).to_be_visible()
    project.call("DELETE", f"/v1/{name}")
    expect(open_page.get_by_text("This job has been deleted.")).to_be_visible(timeout=30_000)
    expect(open_page.get_by_role("heading", name="short-lived")).to_be_visible()


def test_outputs_that_are_gone(page: Page, project: Project) -> None:
    job = project.finish(project.create(name="emptied"))
    folder = project.buckets / job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")
    for path in folder.iterdir():
        path.unlink()
    page.goto(job_path(project, job["name"]))
    expect(page.get_by_role("heading", name="The output directory is no longer there")).to_be_visible()
    expect(page.get_by_role("region", name="Summary").get_by_text("Succeeded")).to_be_visible()


def test_create_similar(page: Page, project: Project) -> None:
    parameters = {"confidenceThreshold": 0.25}
    first = project.finish(project.create(name="model", labels={"team": "x"}, modelParameters=parameters))
    page.goto(job_path(project, first["name"]))
    page.get_by_role("link", name="Create similar").click()
    page.get_by_label("Name", exact=True).fill("twin")
    page.get_by_role("button", name="Create", exact=True).click()
    summary = page.get_by_role("region", name="Summary")
    expect(summary.get_by_text("Succeeded")).to_be_visible()
    twin = project.get(summary.get_by_text(re.compile("^projects/")).inner_text())
    same = ("model", "inputConfig", "outputConfig", "modelParameters", "labels")
    assert twin["displayName"] == "twin"
    assert {key: twin[key] for key in same} == {key: first[key] for key in same}
