"""examples/kubernetes fits the types of Kubernetes' API, and examples/systemd what systemd reads."""

import copy
import dataclasses
import importlib
import re
import shutil
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from emulator.config import load_settings
from tests.docs.options import serve_options
from tests.docs.pages import blocks

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "kubernetes"
UNIT = ROOT / "examples" / "systemd" / "vertex-emulator.service"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# Kinds that a cluster has only with an operator; their types are not Kubernetes' own.
OPERATORS = ("ray.io/",)


def documents() -> list[Any]:
    return [
        document
        for file in sorted(FOLDER.glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
        if not document["apiVersion"].startswith(OPERATORS)
    ]


def one(kind: str, name: str = "vertex-emulator") -> Any:
    [found] = [each for each in documents() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.fixture(autouse=True)
def _types_without_their_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The types are a package of their own, but import these three names from a client that is not needed."""
    schema = types.ModuleType("lightkube.core.schema")
    vars(schema).update(DictMixin=object, field=dataclasses.field, dataclass=dataclasses.dataclass)
    monkeypatch.setitem(sys.modules, "lightkube.core", types.ModuleType("lightkube.core"))
    monkeypatch.setitem(sys.modules, "lightkube.core.schema", schema)


def type_of(document: Any) -> Any:
    """The type of a document in Kubernetes' OpenAPI document, as a dataclass made from it."""
    group, _, version = document["apiVersion"].rpartition("/")
    module = f"{group.partition('.')[0] or 'core'}_{version}"
    return getattr(importlib.import_module(f"lightkube.models.{module}"), document["kind"])


def problems(value: Any, kind: Any, where: str) -> Iterator[str]:
    """Everything in a value that its type does not have, or has otherwise, and all that is required of it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        kinds = [each for each in arguments if each is not type(None)]
        found = [list(problems(value, each, where)) for each in kinds]
        yield from min(found, key=len)
    elif origin is list:
        if isinstance(value, list):
            for number, each in enumerate(value):
                yield from problems(each, arguments[0], f"{where}[{number}]")
        else:
            yield f"{where} is no list"
    elif origin is dict or dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            yield f"{where} is no object"
        elif origin is dict:
            for name, each in value.items():
                yield from problems(each, arguments[1], f"{where}.{name}")
        else:
            yield from problems_of_object(value, kind, where)
    elif kind in (str, int, bool, float) and type(value) is not kind:
        yield f"{where} is no {kind.__name__}: {value!r}"


def problems_of_object(value: dict[str, Any], kind: Any, where: str) -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    fields = {field.metadata.get("json", field.name): field for field in dataclasses.fields(kind)}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in value:
            yield f"{where}.{name} is missing"
    for name, each in value.items():
        if name in fields:
            yield from problems(each, hints[fields[name].name], f"{where}.{name}")
        else:
            yield f"{where}.{name} is unknown"


def pods() -> Iterator[tuple[str, Any]]:
    for document in documents():
        if "template" in document.get("spec", {}):
            yield document["metadata"]["name"], document["spec"]["template"]


def test_each_document_fits_its_type() -> None:
    found = [text for each in documents() for text in problems(each, type_of(each), each["kind"])]
    assert found == []
    assert {each["kind"] for each in documents()} >= {
        "Deployment", "StatefulSet", "Service", "PersistentVolumeClaim", "Secret"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("spec", "replica"), 2, "Deployment.spec.replica is unknown"),
        (("spec", "replicas"), "2", "Deployment.spec.replicas is no int: '2'"),
        (("spec", "selector"), None, "Deployment.spec.selector is missing"),
        (
            ("spec", "template", "spec", "containers", 0, "env", 0, "value"),
            True,
            "Deployment.spec.template.spec.containers[0].env[0].value is no str: True",
        ),
    ],
)
def test_mistakes_are_found(path: tuple[str | int, ...], value: Any, problem: str) -> None:
    document = copy.deepcopy(one("Deployment"))
    at = document
    for part in path[:-1]:
        at = at[part]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    assert list(problems(document, type_of(document), "Deployment")) == [problem]


def test_names_lead_to_each_other() -> None:
    secret, volume = one("Secret")["stringData"], one("PersistentVolumeClaim", "vertex-emulator-data")
    labels = [template["metadata"]["labels"].items() for _, template in pods()]
    for each in documents():
        if each["kind"] == "Service":
            assert sum(each["spec"]["selector"].items() <= those for those in labels) == 1
    for _, template in pods():
        spec = template["spec"]
        claims = [
            each["persistentVolumeClaim"]["claimName"]
            for each in spec["volumes"]
            if len(each) > 1 and "persistentVolumeClaim" in each
        ]
        assert set(claims) <= {volume["metadata"]["name"]}
        for container in spec["containers"]:
            keys = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each]
            assert {key["key"] for key in keys} <= set(secret)
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe].get("httpGet", {}).get("port", "http") in ports | {"http"}
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]


def test_variables_are_settings_that_can_be_read() -> None:
    [container] = one("Deployment")["spec"]["template"]["spec"]["containers"]
    secret = one("Secret")["stringData"]
    environ: dict[str, str] = {}
    for each in container["env"]:
        text = each.get("value") or secret[each["valueFrom"]["secretKeyRef"]["key"]]
        environ[each["name"]] = re.sub(r"\$\((\w+)\)", lambda found: environ[found[1]], text)
    loaded = load_settings({}, environ)
    assert loaded.warnings == ()
    [service] = [
        each for each in documents() if each["kind"] == "Service" and "postgresql" in each["metadata"]["name"]
    ]
    assert f"@{service['metadata']['name']}/" in str(loaded.settings.database_url)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": loaded.settings.port, "grpc": loaded.settings.port + 1, "tls": 8443}
    # Kubernetes would set VERTEX_EMULATOR_PORT, which is a setting, for the Service of that name.
    assert one("Deployment")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_pods_run_as_nobody_in_particular_and_within_limits() -> None:
    found = dict(pods())
    assert set(found) == {"vertex-emulator", "vertex-emulator-postgresql"}
    for template in found.values():
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in template["spec"]["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
    spec = found["vertex-emulator"]["spec"]
    user = f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}"
    assert f"\nUSER {user}\n" in DOCKERFILE
    [container] = spec["containers"]
    assert container["volumeMounts"][0] == {"name": "data", "mountPath": "/data"}
    assert "VERTEX_EMULATOR_DATA_DIR=/data" in DOCKERFILE
    assert " ".join(container["readinessProbe"]["exec"]["command"]) in re.sub('[",]', "", DOCKERFILE)
    assert one("Deployment")["spec"]["replicas"] == 2


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_reads_the_configuration_of_the_page(tmp_path: Path) -> None:
    [block] = blocks("docs/deploy.md", "nginx")
    logs = f"pid {tmp_path}/pid; error_log {tmp_path}/errors;"
    (tmp_path / "nginx.conf").write_text(f"{logs} events {{}} http {{ access_log off; {block.text} }}")
    command = ["nginx", "-t", "-q", "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """By systemd itself where it is installed, with this environment's command."""
    text = UNIT.read_text(encoding="utf-8")
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(text)
    assert parser.sections() == ["Unit", "Service", "Install"]
    command = parser["Service"]["ExecStart"]
    [options] = serve_options(re.sub(r"^\S+/vertex-emulator", "vertex-emulator", command))
    assert options["data_dir"] == "/var/lib/vertex-emulator"
    if shutil.which("systemd-analyze") is None:
        return
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/vertex-emulator/bin", str(Path(sys.executable).parent)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
