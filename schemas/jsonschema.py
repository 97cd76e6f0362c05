"""JSON Schema and reference tables of the events, made from the catalogue.

`python -m penstock.schemas.jsonschema docs/schemas` writes one schema per event and, beside the
folder, events.md.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from .events import ALIASES, EVENT_TYPES, SCHEMA_VERSION, EventName, fields_of
from .fields import Doc, FieldSpec, Kind, stored_name

_MAX_LABEL = 256
_MAX_TEXT = 64 * 2**10
_MAX_PAYLOAD = 256 * 2**10

_SHAPES: dict[Kind, dict[str, Any]] = {
    "label": {"type": ["string", "null"], "maxLength": _MAX_LABEL},
    "text": {"type": ["string", "null"], "maxLength": _MAX_TEXT},
    "int": {"type": ["integer", "null"]},
    "float": {"type": ["number", "null"]},
    "bool": {"type": ["boolean", "null"]},
    "ms": {"type": ["number", "null"]},
    "usd": {"type": ["number", "null"]},
    "time": {"type": ["integer", "string", "null"]},
    "labels": {
        "type": ["array", "null"],
        "items": {"type": "string", "maxLength": _MAX_LABEL},
        "uniqueItems": True,
    },
    "floats": {"type": ["object", "null"], "additionalProperties": {"type": "number"}},
    "texts": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
}
_TYPES: dict[Kind, str] = {
    "label": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "ms": "number",
    "usd": "number",
    "time": "integer or ISO 8601",
    "labels": "set of strings",
    "floats": "name to number",
    "texts": "name to string",
}


def json_schema(event: EventName) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of an event as `POST /v1/events` takes it.

    Unknown properties are allowed: they survive in `attributes`.
    """
    specs = fields_of(event)
    properties: dict[str, Any] = {"event": {"const": event, "description": "Names the event."}}
    properties.update({spec.name: _property(spec) for spec in specs})
    for alias, name in ALIASES[event].items():
        properties[alias] = {**properties[name], "description": f"Another name of {name}."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:penstock:event:{event}:{SCHEMA_VERSION}",
        "title": EVENT_TYPES[event].__name__,
        "description": _summary(event),
        "type": "object",
        "required": ["event", *[spec.name for spec in specs if spec.required]],
        "properties": properties,
    }


def _property(spec: FieldSpec) -> dict[str, Any]:
    doc = spec.doc
    shape: dict[str, Any] = dict(_SHAPES[doc.kind])
    if spec.required:
        shape["type"] = [name for name in shape["type"] if name != "null"]
        if doc.kind in ("label", "text"):
            shape["minLength"] = 1
    if spec.name == "payload":
        shape["maxLength"] = _MAX_PAYLOAD
    if doc.values:
        shape["enum"] = [*doc.values, None]
    if doc.kind in ("int", "float", "ms", "usd") and doc.minimum is not None:
        shape["minimum"] = _short(doc.minimum)
    if doc.maximum is not None:
        shape["maximum"] = _short(doc.maximum)
    return {"description": _described(doc), **shape}


def _described(doc: Doc) -> str:
    return f"{doc.meaning} Unit: {doc.unit}." if doc.unit else doc.meaning


def _short(number: float) -> int | float:
    return int(number) if number == int(number) else number


def _summary(event: EventName) -> str:
    return inspect.cleandoc(EVENT_TYPES[event].__doc__ or "").splitlines()[0]


def reference() -> str:
    """docs/events.md: a table of every event."""
    parts = [_INTRODUCTION]
    for event in EVENT_TYPES:
        parts.append(f"\n## `{event}`\n\n{_summary(event)}\n")
        if ALIASES[event]:
            names = ", ".join(f"`{alias}` for `{name}`" for alias, name in ALIASES[event].items())
            parts.append(f"\nOther names taken in JSON: {names}.\n")
        parts.append("\n| field | type | unit | meaning | asked by |\n|---|---|---|---|---|\n")
        parts.extend(_line(spec) for spec in fields_of(event))
    return "".join(parts)


def _line(spec: FieldSpec) -> str:
    doc = spec.doc
    meaning = doc.meaning
    if doc.values:
        meaning += " One of: " + ", ".join(doc.values) + "."
    if stored_name(spec) != spec.name:
        meaning += f" Held as `{stored_name(spec)}`."
    name = f"**`{spec.name}`**" if spec.required else f"`{spec.name}`"
    return f"| {name} | {_TYPES[doc.kind]} | {doc.unit} | {meaning} | {doc.asked_by} |\n"


_INTRODUCTION = f"""# Events

Made from `schemas/events.py` by `python -m penstock.schemas.jsonschema docs/schemas`; change it
there. Version {SCHEMA_VERSION} of the schema. JSON Schema of each event: [schemas/](schemas/).

As JSON, every event names itself in `event`. Fields in bold are required; every other one may be
absent or null. Fields that are not listed survive in `attributes`, as strings. A request
without `status` is ok, or an error where `error_type` is given; with `overdue` it is the announcement
of one in flight. Labels hold at most 256 bytes, texts 64 KiB, `payload` 256 KiB.

`asked by` names the request of users that a field answers: gates (release gates of an inference
engine), playbook (LLM monitoring playbook), pipeline (metrics of a translation pipeline), mlops
(observability of model serving), training (detectors of a training runtime), penstock (needed by the
design itself).
"""


def files() -> dict[str, str]:
    """Name of each file below the schema folder -> its text; the reference is ../events.md."""
    texts = {
        f"{event}.json": json.dumps(json_schema(event), indent=2) + "\n" for event in EVENT_TYPES
    }
    texts["../events.md"] = reference()
    return texts


def main(arguments: list[str]) -> int:
    """Write the files; the only argument is the schema folder."""
    folder = Path(arguments[0] if arguments else "docs/schemas")
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
