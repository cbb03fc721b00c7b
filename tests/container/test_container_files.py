"""Dockerfile, docker-compose.yml and .dockerignore agree with the repository; see `make test-image` too."""

import json
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from emulator.cli import build
from emulator.config import Settings, variable_name

ROOT = Path(__file__).parents[2]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
STAGES = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)


def is_ignored(path: str) -> bool:
    """What .dockerignore says of a path: the last line that fits it or a folder above it decides."""
    ignored = False
    parents = [path, *map(str, Path(path).parents)]
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if not line or line.startswith("#"):
            continue
        if any(fnmatch(each, pattern) or fnmatch(Path(each).name, pattern) for each in parents):
            ignored = not line.startswith("!")
    return ignored


def command(words: list[str]) -> None:
    """Let our own command line read the words, without running them."""
    assert CliRunner().invoke(build(), [*words, "--help"]).exit_code == 0
    name, *options = words
    known = {option for each in get_command(build()).commands[name].params for option in each.opts}  # type: ignore[attr-defined]
    assert {word for word in options if word.startswith("--")} <= known


def test_every_copied_file_exists_and_reaches_the_builder() -> None:
    copied = [words for words in map(shlex.split, instructions("COPY")) if not words[0].startswith("--from")]
    sources = [source for words in copied for source in words[:-1]]
    assert {"pyproject.toml", "emulator", "models"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert not is_ignored(source)


@pytest.mark.parametrize("path", [".git", "tests", ".venv", "models/video-object-tracking/train.py"])
def test_what_no_image_needs_stays_away_from_the_builder(path: str) -> None:
    assert is_ignored(path)


def test_every_stage_that_is_copied_from_exists() -> None:
    assert set(re.findall(r"--from=(\S+)", DOCKERFILE)) <= set(STAGES)
    assert STAGES[-1] == "cpu"  # what is built when no target is named


def test_image_runs_as_somebody_else_than_root() -> None:
    assert instructions("USER")[-1] == "10001:10001"


def test_stopping_is_what_the_server_listens_for() -> None:
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert instructions("ENTRYPOINT")[0] == '["vertex-emulator"]'


def test_commands_exist() -> None:
    (health,) = re.findall(r"CMD (\[.*\])$", instructions("HEALTHCHECK")[0])
    assert json.loads(health)[0] == "vertex-emulator"
    command(json.loads(health)[1:])
    command(json.loads(instructions("CMD")[0]))
    service = COMPOSE["services"]["emulator"]
    assert service["healthcheck"]["test"][:2] == ["CMD", "vertex-emulator"]
    command(service["healthcheck"]["test"][2:])
    command(COMPOSE["services"]["client-files"]["command"])


def test_what_slim_leaves_out_is_what_inference_needs() -> None:
    from emulator.inference.predictor import _PACKAGES

    (removed,) = re.findall(r"^FROM build AS build-slim\nRUN (.*)$", DOCKERFILE, re.MULTILINE)
    assert set(_PACKAGES.values()) <= set(removed.split())


def test_settings_of_the_files_exist() -> None:
    known = {variable_name(name) for name in Settings.__dataclass_fields__}
    named = set(re.findall(r"VERTEX_EMULATOR_\w+", DOCKERFILE))
    named |= {name for name in COMPOSE["services"]["emulator"]["environment"] if name.startswith("VERTEX_")}
    assert named <= known
    assert {"VERTEX_EMULATOR_HOST", "VERTEX_EMULATOR_DATA_DIR"} <= named


def test_services_fit_each_other() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"emulator", "client-files", "sample", "gcs"}
    for service in services.values():
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert volumes <= set(COMPOSE["volumes"])
        assert set(service.get("depends_on", ())) <= set(services)
        target = service.get("build", {}).get("target")
        assert target is None or re.sub(r"\$\{\w+:-(\w+)\}", r"\1", target) in STAGES


def test_emulator_answers_to_googles_names_on_the_port_of_https() -> None:
    service = COMPOSE["services"]["emulator"]
    assert set(service["networks"]["default"]["aliases"]) == {
        "us-central1-aiplatform.googleapis.com",
        "storage.googleapis.com",
    }
    assert service["environment"]["VERTEX_EMULATOR_TLS_PORT"] == "443"
    assert service["read_only"] is True


def test_helper_that_writes_beside_the_server_is_the_same_user_on_a_host_of_the_same_name() -> None:
    emulator, helper = (COMPOSE["services"][name] for name in ("emulator", "client-files"))
    # Otherwise it would make the server's certificate anew, and the server could not read it any more.
    assert helper["hostname"] == emulator["hostname"]
    assert helper["environment"] == emulator["environment"]
    assert helper["image"] == emulator["image"]
    assert "user" not in helper


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
