"""A reset to what was there at a moment: what came later goes, whichever project it is in."""

from tests.control.project import Project


def canned(project: Project, model_id: str, parent: str = "") -> str:
    body = {"parent": parent or project.parent, "modelId": model_id, "objective": "object_tracking"}
    return str(
        project.control("POST", "canned", {**body, "lines": [{"video": "*", "prediction": []}]})["model"]
    )


def held_by(project: Project, parent: str) -> tuple[list[str], list[str]]:
    jobs = project.call("GET", f"/v1/{parent}/batchPredictionJobs").get("batchPredictionJobs", [])
    models = project.call("GET", f"/v1/{parent}/models").get("models", [])
    return [job["displayName"] for job in jobs], [model["displayName"] for model in models]


def test_what_came_later_goes_in_every_project(project: Project) -> None:
    elsewhere = "projects/acme-video-prod/locations/us-central1"
    canned(project, "early")
    project.finish(project.create(name="early"))
    before = project.control("GET", "now")
    canned(project, "late")
    project.create(name="late", headers={"x-goog-emulator-instructions": "pace=running=hold"})
    body = project.body(name="late")
    project.call(
        "POST", f"/v1/{elsewhere}/batchPredictionJobs", {**body, "model": f"{elsewhere}/models/tiny"}
    )

    answer = project.control("POST", "reset", {"after": before["time"]})

    assert answer["cancelledJobs"] >= 1
    jobs, models = held_by(project, project.parent)
    assert jobs == ["early"]
    assert "early" in models
    assert "late" not in models
    assert held_by(project, elsewhere)[0] == []
    # The number of the newest call narrows to what came later.
    found = project.control("GET", "requests", params={"after": before["request"], "method": "Create*"})
    assert found["count"] == 2


def test_it_can_be_for_one_project(project: Project) -> None:
    before = project.control("GET", "now")["time"]
    canned(project, "late")
    project.control("POST", "reset", {"after": before, "project": "another-project"})
    assert "late" in held_by(project, project.parent)[1]
    project.control("POST", "reset", {"after": before, "project": project.id})
    assert "late" not in held_by(project, project.parent)[1]


def test_folder_models_are_in_a_new_project_again(project: Project) -> None:
    fresh, used = (f"projects/{name}/locations/us-central1" for name in ("acme-fresh", "acme-used"))
    canned(project, "own", used)
    before = project.control("GET", "now")["time"]
    shown = held_by(project, fresh)[1]
    assert "Tiny" in shown
    assert set(held_by(project, used)[1]) == {*shown, "own"}

    project.control("POST", "reset", {"after": before})

    assert held_by(project, fresh)[1] == shown
    assert set(held_by(project, used)[1]) == {*shown, "own"}


def test_a_folder_model_that_was_deleted_before_does_not_come_back(project: Project) -> None:
    project.call("GET", f"/v1/{project.parent}/models")
    project.call("DELETE", f"/v1/{project.parent}/models/tiny")
    before = project.control("GET", "now")["time"]
    canned(project, "late")
    project.control("POST", "reset", {"after": before})
    assert "Tiny" not in held_by(project, project.parent)[1]


def test_versions_of_an_older_model_stay(project: Project) -> None:
    model = canned(project, "early")
    before = project.control("GET", "now")["time"]
    canned(project, "early")
    project.control("POST", "reset", {"after": before})
    assert project.call("GET", f"/v1/{model}")["versionId"] == "2"


def test_moments_that_are_none_are_refused(project: Project) -> None:
    for body, said in (
        ({"after": "yesterday"}, "after is 'yesterday'; write a time such as"),
        ({"after": 7}, 'The body must say {"after": "…"}'),
        ({"after": "2026-01-02T03:04:05Z", "to": "empty"}, 'leave out "to"'),
        ({"since": "2026-01-02T03:04:05Z"}, "'since' is not known here"),
    ):
        assert said in project.error("POST", "/_emulator/reset", body)["message"]
