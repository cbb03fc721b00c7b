"""The Compose recipe of docs/alias-mode.md: its commands exist, and it sets what `env --alias` prints."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from emulator.cli import build

PAGE = Path(__file__).parents[2] / "docs" / "alias-mode.md"


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def parsed(service: dict[str, Any]) -> dict[str, Any]:
    """The options of a service's command, as the command line itself reads them."""
    assert service["entrypoint"] == ["vertex-emulator"]
    name, *arguments = service["command"]
    group: Any = typer.main.get_command(build())
    options: dict[str, Any] = group.commands[name].make_context(name, arguments).params
    return options


def test_server_listens_where_the_aliases_lead(recipe: dict[str, Any]) -> None:
    server = recipe["services"]["vertex"]
    options = parsed(server)
    assert (options["host"], options["tls"], options["tls_port"]) == ("0.0.0.0", True, 443)
    aliases = server["networks"]["default"]["aliases"]
    names = ["us-central1-aiplatform", "aiplatform", "storage", "oauth2"]
    assert aliases == [f"{name}.googleapis.com" for name in names]
    # A certificate's wildcard stands for one label.
    assert all(re.fullmatch(r"[a-z0-9-]+\.googleapis\.com", alias) for alias in aliases)


def test_both_commands_use_one_data_folder_and_the_client_never_sees_it(recipe: dict[str, Any]) -> None:
    services = recipe["services"]
    server, files, app = (services[name] for name in ("vertex", "vertex-client-files", "app"))
    assert str(parsed(server)["data_dir"]) == str(parsed(files)["data_dir"]) == "/data"
    assert "vertex-data:/data" in server["volumes"]
    assert "vertex-data:/data" in files["volumes"]
    assert app["volumes"] == ["vertex-client:/vertex-client:ro"]
    assert set(recipe["volumes"]) == {"vertex-data", "vertex-client"}
    assert set(app["depends_on"]) == set(services) - {"app"}


def test_client_is_given_what_the_command_prints(recipe: dict[str, Any], tmp_path: Path) -> None:
    command = recipe["services"]["vertex-client-files"]["command"]
    places = {"/data": str(tmp_path / "data"), "/vertex-client": str(tmp_path / "client"), "dotenv": "json"}
    arguments = [places.get(argument, argument) for argument in command]
    printed = CliRunner().invoke(build(), arguments, catch_exceptions=False).stdout
    there = printed.replace(str(tmp_path / "client"), "/vertex-client")
    assert recipe["services"]["app"]["environment"] == json.loads(there)
