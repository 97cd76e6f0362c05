"""The catalogue, its JSON Schemas and the committed files made from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from penstock.schemas import jsonschema
from penstock.schemas.events import ALIASES, EVENT_TYPES, EventName, field_kinds, fields_of
from penstock.schemas.fields import SCALES, stored_name

DOCS = Path(__file__).parents[3] / "docs"
EVENTS: list[EventName] = list(EVENT_TYPES)


@pytest.mark.parametrize("event", EVENTS)
def test_every_field_is_documented(event: EventName) -> None:
    for spec in fields_of(event):
        assert spec.doc.meaning.endswith(".") or "," in spec.doc.meaning
        assert spec.doc.asked_by in (
            "gates",
            "playbook",
            "pipeline",
            "mlops",
            "training",
            "penstock",
        )
        if spec.doc.kind in ("int", "float", "ms", "usd", "time"):
            assert spec.doc.unit


@pytest.mark.parametrize("event", EVENTS)
def test_stored_names_are_distinct(event: EventName) -> None:
    names = [stored_name(spec) for spec in fields_of(event)]
    assert len(names) == len(set(names))
    assert {spec.doc.kind for spec in fields_of(event) if stored_name(spec) != spec.name} <= set(
        SCALES
    )


@pytest.mark.parametrize("event", EVENTS)
def test_aliases_name_fields(event: EventName) -> None:
    kinds = field_kinds(event)
    assert all(name in kinds and alias not in kinds for alias, name in ALIASES[event].items())


def test_committed_files_are_current() -> None:
    for name, text in jsonschema.files().items():
        path = DOCS / "schemas" / name
        assert path.read_text(encoding="utf-8") == text, (
            f"{name} is old: run python -m penstock.schemas.jsonschema docs/schemas"
        )
    known = {f"{event}.json" for event in EVENTS}
    assert {path.name for path in (DOCS / "schemas").glob("*.json")} == known


def test_schema_says_what_the_catalogue_says() -> None:
    schema = jsonschema.json_schema("request")
    properties = schema["properties"]
    assert schema["required"] == ["event", "ts"]
    assert properties["latency_ms"]["minimum"] == 0
    assert "Unit: ms." in properties["latency_ms"]["description"]
    assert properties["status"]["enum"][-1] is None
    assert properties["output_score"]["maximum"] == 1
    assert jsonschema.json_schema("span")["properties"]["duration"]["type"] == ["number", "null"]
    json.dumps(schema)


def test_main_writes_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "schemas"
    folder.mkdir()
    assert jsonschema.main([str(folder)]) == 0
    assert json.loads((folder / "step.json").read_text())["title"] == "StepEvent"
    assert (tmp_path / "events.md").read_text().startswith("# Events")
