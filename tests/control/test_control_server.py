"""Health, readiness and description of a server, and who may ask."""

from pathlib import Path

import httpx
import pytest

from emulator import __version__
from emulator.app import Emulator
from tests.control.project import Project, client_of, make_settings


def test_health(project: Project) -> None:
    assert project.control("GET", "health") == {"status": "ok"}


def test_ready_once_the_models_are_loaded(tmp_path: Path) -> None:
    with Emulator(make_settings(tmp_path)) as emulator, client_of(emulator) as http:
        first = http.get("/_emulator/ready")
        assert (first.status_code, first.json()["ready"]) in ((503, False), (200, True))
        while (answer := http.get("/_emulator/ready")).status_code != 200:
            assert answer.status_code == 503
        assert answer.json() == {
            "ready": True,
            "workers": 1,
            "modelsLoaded": True,
            "models": [{"id": "tiny", "canned": False, "problem": ""}],
        }


def test_server_without_workers_never_becomes_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cv2.py").write_text("import os; os._exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    with Emulator(make_settings(tmp_path)) as emulator, client_of(emulator) as http:
        answer = http.get("/_emulator/ready")
        assert (answer.status_code, answer.json()["workers"]) == (503, 0)
        assert http.get("/_emulator/health").status_code == 200


def test_info_tells_every_setting_and_where_it_came_from(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, database_url=f"sqlite:///{tmp_path}/x.db")
    sources = {"workers": "--workers", "pace": "default"}
    with Emulator(settings, sources) as emulator, client_of(emulator) as http:
        info = http.get("/_emulator/info").json()
        assert info["version"] == __version__
        assert info["addresses"] == {"rest": emulator.url, "grpc": emulator.grpc_address, "tls": None}
        while http.get("/_emulator/ready").status_code != 200:
            pass
        models = http.get("/_emulator/info").json()["models"]
        assert models == [{"id": "tiny", "canned": False, "executionProvider": "cpu"}]
        assert info["settings"]["workers"] == {"value": 1, "from": "--workers"}
        assert info["settings"]["pace"] == {"value": "real", "from": "default"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:1"}, 200),
        ({"host": "[::1]:1"}, 200),
        ({"host": "emulator"}, 200),
        ({"host": "us-central1-aiplatform.googleapis.com"}, 200),
        ({"origin": "http://localhost:3000"}, 403),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_pages_of_other_sites_are_refused(project: Project, headers: dict[str, str], status: int) -> None:
    response = project.http.get("/_emulator/health", headers=headers)
    assert response.status_code == status
    if status == 403:
        assert response.json()["error"]["status"] == "PERMISSION_DENIED"
        # Nothing happens either: the check comes first.
        answer = project.http.put("/_emulator/pace", headers=headers, json={"pace": "steps"})
        assert answer.status_code == 403
        assert project.control("GET", "pace")["pace"] == "real"


def test_unknown_paths_and_bodies_are_explained(project: Project) -> None:
    assert project.error("GET", "/_emulator/nothing")["status"] == "NOT_FOUND"
    assert " snapshot" in project.error("GET", "/_emulator/nothing")["message"]
    for after in ("x", "9" * 30):
        error = project.error("GET", f"/_emulator/events?after={after}")
        assert error["message"] == f"after is {after!r}; give an event's number."
    assert project.error("GET", "/_emulator/jobs/x/pace")["status"] == "NOT_FOUND"
    response: httpx.Response = project.http.put("/_emulator/pace", content=b"{")
    assert (response.status_code, response.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    response = project.http.put("/_emulator/pace", content=b"[]")
    assert response.json()["error"]["message"].endswith("The body must be a JSON object, not an array.")
    response = project.http.put("/_emulator/pace", content=b'{"pace":' + b"[" * 100_000)
    assert response.json()["error"]["message"].endswith("It is nested too deeply.")
    response = project.http.put("/_emulator/pace", content=b" " * (11 * 1024 * 1024))
    assert "exceeds the limit" in response.json()["error"]["message"]
