"""`vertex-emulator env`: what each shell makes of it."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from emulator.cli import build
from emulator.config import load_settings

# What needs quoting in one shell or another.
AWKWARD = """it's a "data" dir $HOME `x` \\ \u2019 # ;&"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build(), ["env", *map(str, arguments)], catch_exceptions=False)


def variables(*arguments: str | Path) -> dict[str, str]:
    result = run("--shell", "json", *arguments)
    assert result.exit_code == 0, result.output
    values: dict[str, str] = json.loads(result.stdout)
    return values


def test_every_file_that_is_named_exists(tmp_path: Path) -> None:
    values = variables("--data-dir", tmp_path)
    files = {name: Path(value) for name, value in values.items() if value.startswith("/")}
    assert all(path.is_file() for path in files.values())
    bundled = {name for name, path in files.items() if path == tmp_path / "tls" / "ca-bundle.pem"}
    assert bundled == {
        "REQUESTS_CA_BUNDLE",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
    }
    account = json.loads(files["GOOGLE_APPLICATION_CREDENTIALS"].read_text())
    assert account["type"] == "service_account"
    assert "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE" in files


def test_addresses_follow_the_settings(tmp_path: Path) -> None:
    values = variables(
        "--data-dir", tmp_path, "--host", "0.0.0.0", "--port", "9000", "--project", "its-project"
    )
    assert values["STORAGE_EMULATOR_HOST"] == "http://127.0.0.1:9000"
    assert values["CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"] == "http://127.0.0.1:9000/"
    assert values["CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE"] == "http://127.0.0.1:9000/storage/v1/"
    assert values["GOOGLE_CLOUD_PROJECT"] == values["CLOUDSDK_CORE_PROJECT"] == "its-project"


def test_server_started_with_these_variables_keeps_its_buckets(tmp_path: Path) -> None:
    """STORAGE_EMULATOR_HOST is for its clients; another server in the same shell must not use it either."""
    values = variables("--data-dir", tmp_path, "--port", "9000")
    assert load_settings({}, values).settings.gcs_endpoint == "local"


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert variables("--data-dir", "data")["NODE_EXTRA_CA_CERTS"] == str(tmp_path / "data/tls/ca-bundle.pem")


def test_empty_flags_count_as_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = variables("--data-dir", "", "--host", "", "--tls-names", "", "--config", "")
    assert values["STORAGE_EMULATOR_HOST"] == "http://127.0.0.1:8080"
    assert [path.name for path in tmp_path.iterdir()] == ["vertex-emulator-data"]


def test_tilde_that_the_shell_leaves_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert variables("--data-dir=~/data")["NODE_EXTRA_CA_CERTS"].startswith(f"{tmp_path}/home/data/")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_alias_mode_sets_no_endpoint(tmp_path: Path) -> None:
    usual, alias = variables("--data-dir", tmp_path), variables("--data-dir", tmp_path, "--alias")
    endpoints = {name for name, value in usual.items() if "://" in value}
    others = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "NO_PROXY", "no_proxy"}
    assert endpoints | others == set(usual) - set(alias)
    assert {name: value for name, value in alias.items() if usual.get(name) != value} == {
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": str(tmp_path / "tls" / "ca-bundle.pem"),
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "tls" / "service-account-alias.json"),
    }


@pytest.mark.parametrize(
    ("arguments", "uri"),
    [
        ((), "http://127.0.0.1:8080/token"),
        (("--host", "0.0.0.0", "--port", "9000"), "http://127.0.0.1:9000/token"),
        (("--host", "::", "--port", "9000"), "http://[::1]:9000/token"),
        (("--alias",), "https://oauth2.googleapis.com/token"),
    ],
)
def test_account_gets_its_tokens_where_the_server_is(
    tmp_path: Path, arguments: tuple[str, ...], uri: str
) -> None:
    for copy in ((), ("--copy-to", str(tmp_path / "copy"))):
        values = variables("--data-dir", tmp_path, *arguments, *copy)
        account = json.loads(Path(values["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
        assert account["token_uri"] == uri
    assert values["GOOGLE_APPLICATION_CREDENTIALS"] == str(tmp_path / "copy" / "service-account.json")


def test_alias_mode_does_not_depend_on_the_port(tmp_path: Path) -> None:
    assert variables("--data-dir", tmp_path, "--alias", "--port", "0")


def test_copies_hold_what_clients_need_and_no_key_of_the_ca(tmp_path: Path) -> None:
    values = variables("--data-dir", tmp_path / "data", "--copy-to", tmp_path / "client")
    copies = {Path(value) for value in values.values() if value.startswith("/")}
    copies |= {tmp_path / "client" / name for name in ("ca.pem", "ca-bundle.p12")}
    assert copies == set((tmp_path / "client").iterdir())
    assert values["JAVA_TOOL_OPTIONS"].endswith(f"={tmp_path}/client/ca-bundle.p12")
    for copy in copies:
        assert copy.read_bytes() == (tmp_path / "data" / "tls" / copy.name).read_bytes()
        assert copy.stat().st_mode & 0o777 == 0o644
    assert {copy.name for copy in copies} == {
        "ca.pem",
        "ca-bundle.pem",
        "ca-bundle.p12",
        "service-account.json",
        "access-token",
    }


def test_options_of_java_are_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = "-Xmx1g -Djavax.net.ssl.trustStore=/my/store -Djavax.net.ssl.trustStorePassword=x -Da=b"
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", mine)
    once = variables("--data-dir", tmp_path / "a folder")["JAVA_TOOL_OPTIONS"]
    assert once == f'-Xmx1g -Da=b -Djavax.net.ssl.trustStore="{tmp_path}/a folder/tls/ca-bundle.p12"'
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", once)
    assert variables("--data-dir", tmp_path / "a folder")["JAVA_TOOL_OPTIONS"] == once


@pytest.mark.parametrize(
    ("host", "mine", "upper", "lower"),
    [
        ("127.0.0.1", {}, "127.0.0.1,localhost", "127.0.0.1,localhost"),
        ("vertex", {"NO_PROXY": ".corp, 10.0.0.0/8"}, ".corp,10.0.0.0/8,vertex", ".corp,10.0.0.0/8,vertex"),
        ("vertex", {"NO_PROXY": "a", "no_proxy": "vertex,b"}, "a,vertex", "vertex,b"),
        ("0.0.0.0", {"no_proxy": "localhost"}, "localhost,127.0.0.1", "localhost,127.0.0.1"),
        ("::1", {}, "::1,[::1],127.0.0.1,localhost", "::1,[::1],127.0.0.1,localhost"),
        ("vertex", {"no_proxy": "*"}, "*", "*"),
    ],
)
def test_hosts_that_need_no_proxy_are_added_to(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    mine: dict[str, str],
    upper: str,
    lower: str,
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):  # what was printed once is not added again
        values = variables("--data-dir", tmp_path, "--host", host)
        assert (values["NO_PROXY"], values["no_proxy"]) == (upper, lower)
        monkeypatch.setenv("NO_PROXY", upper)
        monkeypatch.setenv("no_proxy", lower)


def test_folder_that_cannot_take_the_copies_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("--data-dir", tmp_path, "--copy-to", tmp_path / "file")
    assert result.exit_code == 1
    assert "Name another with --copy-to" in result.stderr


def test_port_0_is_refused(tmp_path: Path) -> None:
    result = run("--port", "0", "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert "Name one with --port" in result.stderr


def test_data_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("--data-dir", tmp_path / "file")
    assert result.exit_code == 1
    assert "Name another with --data-dir" in result.stderr


def test_bash_reads_it_back_whatever_the_path(tmp_path: Path) -> None:
    values = variables("--data-dir", tmp_path / AWKWARD)
    script = f'eval "$PRINTED"; for name in {" ".join(values)}; do printf "%s\\0" "${{!name}}"; done'
    done = subprocess.run(
        ["bash", "-euc", script],
        env={"PRINTED": run("--data-dir", tmp_path / AWKWARD).stdout},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().split("\0")[:-1] == list(values.values())


def unquoted(text: str, escapes: dict[str, str]) -> str:
    """Undo a quoting in which every quote and escape of the inside is one of `escapes`."""
    pattern = "|".join(re.escape(escape) for escape in escapes)
    return re.sub(pattern, lambda match: escapes[match[0]], text)


@pytest.mark.parametrize(
    ("shell", "line", "escapes"),
    [
        ("fish", r"set -gx (\w+) '((?:[^'\\]|\\'|\\\\)*)'", {r"\'": "'", r"\\": "\\"}),
        (
            "powershell",
            "\\$env:(\\w+) = '((?:[^'\u2018\u2019\u201a\u201b]|''|\u2019\u2019)*)'",
            {"''": "'", "\u2019\u2019": "\u2019"},
        ),
        ("dotenv", r'(\w+)="?((?:[^"\\]|\\"|\\\\)*)"?', {r"\"": '"', r"\\": "\\"}),
    ],
)
def test_other_shells_quote_as_they_must(
    tmp_path: Path, shell: str, line: str, escapes: dict[str, str]
) -> None:
    values = variables("--data-dir", tmp_path / AWKWARD)
    lines = run("--shell", shell, "--data-dir", tmp_path / AWKWARD).stdout.splitlines()
    matches = [re.fullmatch(line, text) for text in lines if not text.startswith("#")]
    assert all(matches)
    assert {match[1]: unquoted(match[2], escapes) for match in matches if match} == values


def test_dotenv_has_quotes_only_where_they_are_needed(tmp_path: Path) -> None:
    assert "'" not in run("--shell", "dotenv", "--data-dir", tmp_path).stdout.replace("'s ", "")
    spaced = run("--shell", "dotenv", "--data-dir", tmp_path / "a b").stdout
    assert f"NODE_EXTRA_CA_CERTS='{tmp_path}/a b/tls/ca-bundle.pem'" in spaced.splitlines()


@pytest.mark.parametrize("shell", ["bash", "fish", "powershell", "dotenv"])
def test_every_variable_has_its_comment(tmp_path: Path, shell: str) -> None:
    lines = run("--shell", shell, "--data-dir", tmp_path).stdout.splitlines()
    assert len(lines) % 2 == 0
    assert all(line.startswith("# ") for line in lines[::2])
    assert not any(line.startswith("#") for line in lines[1::2])
