"""docs/fidelity.md says of every RPC and field what the service's tables say; the tables cover them all."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from emulator.service.fidelity import JOB_FIELDS, MODEL_FIELDS, RPCS, Fidelity, Kind
from emulator.vertex.contract import load

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "fidelity.md"
UNIMPLEMENTED = Fidelity(Kind.UNIMPLEMENTED)
RESOURCES = {"BatchPredictionJob": JOB_FIELDS, "Model": MODEL_FIELDS}


def row(name: str, fidelity: Fidelity) -> str:
    return f"| `{name}` | {fidelity.kind.value} | {fidelity.note} |"


def section(title: str) -> list[str]:
    """The table rows of a section of the page."""
    text = PAGE.read_text(encoding="utf-8")
    body = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return [line for line in body.splitlines() if line.startswith("| `")]


def rpcs() -> dict[str, Fidelity]:
    names = sorted({f"{rpc.service}/{rpc.name}" for rpc in load().methods()})
    return {name: RPCS.get(name, UNIMPLEMENTED) for name in names}


def leaves(descriptor: Any, table: Mapping[str, Fidelity], prefix: str = "") -> Iterator[str]:
    """Paths of a message's fields, no deeper than the table goes."""
    for field in descriptor.fields:
        path = f"{prefix}{field.name}"
        if any(entry.startswith(f"{path}.") for entry in table):
            yield from leaves(field.message_type, table, f"{path}.")
        else:
            yield path


def test_page_has_the_rpcs() -> None:
    assert section("RPCs") == [row(name, fidelity) for name, fidelity in rpcs().items()]


@pytest.mark.parametrize("resource", RESOURCES)
def test_page_has_the_fields(resource: str) -> None:
    assert section(resource) == [row(name, fidelity) for name, fidelity in RESOURCES[resource].items()]


@pytest.mark.parametrize("resource", RESOURCES)
def test_table_covers_every_field_of_both_versions(resource: str) -> None:
    table = RESOURCES[resource]
    found = {
        path
        for version in ("v1", "v1beta1")
        for path in leaves(getattr(load().package(version), resource).DESCRIPTOR, table)
    }
    assert found == set(table)


@pytest.mark.parametrize("resource", RESOURCES)
def test_only_output_fields_are_absent(resource: str) -> None:
    fields = getattr(load().v1, resource).DESCRIPTOR.fields_by_name
    absent = {
        path.partition(".")[0]
        for path, fidelity in RESOURCES[resource].items()
        if fidelity.kind is Kind.ABSENT
    }
    # Documented as output only, without the annotation that says so.
    absent -= {"checkpoints"}
    assert [name for name in absent if name in fields and not load().is_output_only(fields[name])] == []


def test_page_explains_every_kind() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for kind in Kind:
        assert re.search(rf"^- \*\*{kind.value}\*\*: ", text, re.MULTILINE), kind
