"""Where people and probes knock first leads on, and a bucket of such a name still comes first."""

import httpx
import pytest

from tests.control.project import Project


def get(project: Project, path: str, **headers: str) -> httpx.Response:
    return project.http.get(path, headers=headers, follow_redirects=False)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/healthz", "health"), ("/livez", "health"), ("/health", "health"),
        ("/ready", "ready"), ("/readyz", "ready"), ("/metrics", "metrics"), ("/metrics/", "metrics"),
    ],
)  # fmt: skip
def test_usual_paths_of_probes_lead_to_the_control_surface(project: Project, path: str, target: str) -> None:
    answer = get(project, path)
    assert (answer.status_code, answer.headers["location"]) == (307, f"/_emulator/{target}")
    assert project.http.get(path, follow_redirects=True).status_code in (200, 503)


def test_root_names_every_place(project: Project) -> None:
    answer = get(project, "/").json()
    assert answer["emulator"] == "Vertex AI batch prediction"
    assert {"console", "documentation", "openapi", "control", "health", "ready", "metrics"} == set(
        answer["places"]
    )
    for place in answer["places"].values():
        assert project.http.get(place).status_code in (200, 503)
    assert get(project, "/", accept="text/html").headers["location"] == "/console"


@pytest.mark.parametrize("path", ["/_emulator", "/_emulator/"])
def test_control_surface_lists_its_routes(project: Project, path: str) -> None:
    routes = get(project, path).json()["routes"]
    assert routes["GET /_emulator/jobs/{job}/explain"] == "Every step of a job"
    assert routes["PUT /_emulator/snapshot"] == "Put a saved file in place of everything"
    assert all(text and not text.startswith("/") for text in routes.values())


def test_bucket_of_such_a_name_comes_first(project: Project) -> None:
    project.call("POST", "/storage/v1/b", {"name": "metrics"}, params={"project": project.id})
    try:
        answer = get(project, "/metrics")
        assert answer.status_code == 200
        assert "ListBucketResult" in answer.text
    finally:
        project.http.delete("/storage/v1/b/metrics")


def test_other_methods_and_paths_find_nothing(project: Project) -> None:
    assert project.error("POST", "/metrics")["code"] == 404
    assert project.error("GET", "/nothing")["code"] == 404


def test_docs_have_a_section_of_the_emulator_s_own_routes(project: Project) -> None:
    document = project.http.get("/openapi.json").json()
    tag = document["tags"][-1]["name"]
    assert tag.startswith("Emulator: the control surface")
    own = {
        path
        for path, operations in document["paths"].items()
        for one in operations.values()
        if one["tags"] == [tag]
    }
    assert own == {path for path in document["paths"] if path.startswith("/_emulator/")}
    explain = document["paths"]["/_emulator/jobs/{job}/explain"]["get"]
    assert explain["summary"] == "Every step of a job"
    assert [parameter["name"] for parameter in explain["parameters"]] == ["job"]
    ids = [one["operationId"] for operations in document["paths"].values() for one in operations.values()]
    assert len(ids) == len(set(ids))
