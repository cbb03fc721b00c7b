"""Dockerfile, docker-compose.yml and .dockerignore agree with the repository; see `make test-image` too."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.main import get_command
from typer.testing import CliRunner

from emulator import __version__
from emulator.cli import build
from emulator.config import Settings, variable_name
from emulator.testing.server import serve

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
    copied = [words.split() for words in instructions("COPY")]
    assert ["emulator/healthcheck.py", json.loads(health)[-1]] in copied
    command(json.loads(instructions("CMD")[0]))
    service = COMPOSE["services"]["emulator"]
    assert service["healthcheck"]["test"] == ["CMD", *json.loads(health)]
    command(service["command"])
    assert service["entrypoint"][2] == 'umask 0 && exec vertex-emulator "$$@"'
    command(COMPOSE["services"]["client-files"]["command"])


def test_what_slim_leaves_out_is_what_inference_needs() -> None:
    from emulator.inference.objectives import _PACKAGES

    (removed,) = re.findall(r"^FROM dependencies AS dependencies-slim\nRUN (.*)$", DOCKERFILE, re.MULTILINE)
    assert set(_PACKAGES.values()) <= set(removed.split())


def test_settings_of_the_files_exist() -> None:
    known = {variable_name(name) for name in Settings.__dataclass_fields__}
    named = set(re.findall(r"VERTEX_EMULATOR_\w+", DOCKERFILE))
    named |= {name for name in COMPOSE["services"]["emulator"]["environment"] if name.startswith("VERTEX_")}
    assert named <= known
    assert {"VERTEX_EMULATOR_HOST", "VERTEX_EMULATOR_DATA_DIR"} <= named


def test_services_fit_each_other() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"emulator", "buckets", "client-files", "sample", "gcs"}
    for service in services.values():
        volumes = {volume for volume in service.get("volumes", ()) if not volume.startswith("$")}
        assert {volume.partition(":")[0] for volume in volumes} <= set(COMPOSE["volumes"])
        assert set(service.get("depends_on", ())) <= set(services)
        target = service.get("build", {}).get("target")
        assert target is None or re.sub(r"\$\{\w+:-(\w+)\}", r"\1", target) in STAGES


def test_buckets_are_a_folder_of_the_host_that_everyone_may_change() -> None:
    emulator, helper = COMPOSE["services"]["emulator"], COMPOSE["services"]["buckets"]
    assert "${BUCKETS:-./buckets}:/data/buckets" in emulator["volumes"]
    assert helper["volumes"] == ["${BUCKETS:-./buckets}:/buckets"]
    assert emulator["depends_on"]["buckets"]["condition"] == "service_completed_successfully"


def test_the_emulator_may_write_into_buckets_that_the_user_made(tmp_path: Path) -> None:
    bucket, file = tmp_path / "buckets" / "my-bucket" / "videos", tmp_path / "buckets" / "my-bucket" / "a.mp4"
    bucket.mkdir(parents=True)
    file.touch()
    for path, mode in ((bucket.parent.parent, 0o755), (bucket.parent, 0o755), (bucket, 0o700), (file, 0o644)):
        path.chmod(mode)
    entrypoint = COMPOSE["services"]["buckets"]["entrypoint"]
    command = [part.replace("/buckets", str(tmp_path / "buckets")) for part in entrypoint]
    subprocess.run(command, check=True)
    folders = (tmp_path / "buckets", bucket.parent, bucket)
    assert [path.stat().st_mode & 0o777 for path in folders] == [0o777] * 3
    assert file.stat().st_mode & 0o777 == 0o644


def test_the_emulator_starts_on_a_machine_of_few_cores() -> None:
    limits = COMPOSE["services"]["emulator"]["deploy"]["resources"]["limits"]
    assert limits["cpus"] == "${EMULATOR_CPUS:-0}"  # Docker refuses a limit above the number of cores


def test_what_others_make_is_pinned() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (version,) = re.findall(r"^FAKE_GCS_VERSION := v(.+)$", makefile, re.MULTILINE)
    assert COMPOSE["services"]["gcs"]["image"] == f"fsouza/fake-gcs-server:{version}"
    (base,) = [line.partition("=")[2] for line in instructions("ARG") if line.startswith("PYTHON_IMAGE=")]
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base)


def locked(name: str) -> dict[str, tuple[str, str]]:
    """The versions of a lock by name, with the lines' hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[\w+\])?==(\S+)(.*)$", text, re.MULTILINE)
    assert len(found) == len(text.splitlines())
    return {canonicalize_name(name): (version, rest) for name, version, rest in found}


LOCKS = ("runtime", "gcs", "av", "postgresql", "otel", "image", "dev")


@pytest.mark.parametrize("name", LOCKS)
def test_lock_has_a_hash_for_each_version_and_names_no_place(name: str) -> None:
    for version, rest in locked(name).values():
        assert "--hash=sha256:" in rest, version
    assert "://" not in (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def test_locks_meet_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    direct = project["project"]["dependencies"]
    wanted = {
        "runtime": direct,
        "gcs": [*direct, *extras["gcs"]],
        "postgresql": [*direct, *extras["postgresql"]],
        "av": [*direct, *extras["av"]],
        "otel": [*direct, *extras["otel"]],
        "image": groups["image"],
        "dev": [
            *direct,
            *extras["gcs"],
            *extras["postgresql"],
            *extras["av"],
            *extras["otel"],
            *groups["test"],
            *groups["check"],
        ],
    }
    assert set(wanted) == set(LOCKS)
    # No image has ray: its tier installs it.
    assert set(extras) - {"ray"} <= set(LOCKS)
    for name, texts in wanted.items():
        lock = locked(name)
        for requirement in map(Requirement, texts):
            version, _ = lock[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=True), (name, requirement)


def test_image_has_the_versions_that_the_gate_tests() -> None:
    tested = {name: version for name, (version, _) in locked("dev").items()}
    for extra in ("runtime", "gcs", "postgresql", "av"):
        for name, (version, _) in locked(extra).items():
            assert tested[name] == version, name


def test_image_installs_by_lock_only() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert text.count("--require-hashes") == 2
    copied = [words for words in instructions("COPY") if "/opt/emulator" in words or "/code/" in words]
    # Dependencies and code are layers of their own in every image.
    assert (
        sum("--from=dependencies" in words for words in copied) == len(STAGES) - STAGES.index("runtime") - 2
    )
    assert sum("/code/ /" in words for words in copied) == sum(
        "--from=dependencies" in words for words in copied
    )


def test_labels_are_filled(tmp_path: Path) -> None:
    printed = subprocess.run(
        [ROOT / ".ci" / "image-labels"], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    given = dict(re.findall(r"--build-arg (\w+)=(\S*)", printed))
    assert given["VERSION"] == __version__
    assert given["CREATED"]
    declared = next(line for line in instructions("ARG") if line.startswith("VERSION"))
    assert set(given) == set(re.findall(r"(\w+)=", declared))


def check_health(port: int, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "emulator" / "healthcheck.py"],
        env={"VERTEX_EMULATOR_HOST": "0.0.0.0", "VERTEX_EMULATOR_PORT": str(port), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_health_check_follows_the_server(tmp_path: Path) -> None:
    token = "a-token-of-a-test"
    settings = {"workers": 1, "bundled_models": False, "auth_token": token}
    with serve(settings, folder=tmp_path) as server:
        port = int(server.url.rpartition(":")[2])
        deadline = time.monotonic() + 120
        while check_health(port, VERTEX_EMULATOR_AUTH_TOKEN=token).returncode and time.monotonic() < deadline:
            time.sleep(0.1)
        assert check_health(port, VERTEX_EMULATOR_AUTH_TOKEN=token).returncode == 0
        assert check_health(port).returncode == 0
        shutil.rmtree(server.settings.buckets)
        answer = check_health(port, VERTEX_EMULATOR_AUTH_TOKEN=token)
        assert (answer.returncode, answer.stderr) == (
            1,
            "The server is not ready: HTTP/1.1 503 Service Unavailable\n",
        )
    gone = check_health(port)
    assert gone.returncode == 1
    assert "ConnectionRefusedError" in gone.stderr


def test_health_check_imports_nothing_that_costs() -> None:
    code = "import sys; exec(open(sys.argv[-1]).read(), {'__name__': 'x'}); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, ROOT / "emulator" / "healthcheck.py"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not {"os", "socket", "enum", "re", "http", "emulator"} & set(done.stdout.split())


def test_emulator_answers_to_googles_names_on_the_port_of_https() -> None:
    service = COMPOSE["services"]["emulator"]
    assert set(service["networks"]["default"]["aliases"]) == {
        "us-central1-aiplatform.googleapis.com",
        "aiplatform.googleapis.com",
        "storage.googleapis.com",
        "oauth2.googleapis.com",
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
