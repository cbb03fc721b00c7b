"""Buckets at an endpoint are not the emulator's: a reset says that it leaves them alone."""

from pathlib import Path

from emulator.app import Emulator
from tests.control.project import client_of, make_settings


def test_a_reset_names_the_endpoints_that_it_leaves_alone(tmp_path: Path) -> None:
    elsewhere = "http://127.0.0.1:9"
    with (
        Emulator(make_settings(tmp_path, gcs_buckets={"results": elsewhere})) as emulator,
        client_of(emulator) as http,
    ):
        assert http.post("/_emulator/reset", json={"to": "empty"}).json()["bucketsLeftAlone"] == [elsewhere]
        snapshot = http.get("/_emulator/snapshot").content
        assert http.put("/_emulator/snapshot", content=snapshot).json()["bucketsLeftAlone"] == [elsewhere]
