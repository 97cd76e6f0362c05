"""Checks a document against a schema of tests/data/delivery: the few words of JSON Schema that they use.

Besides: objects take no other fields than `properties` names; `pattern` must match the whole text; `names` and
`values` hold for every field; `kinds` chooses a schema by the field `type`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[3] / "data" / "delivery"
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def document(name: str) -> Any:
    """A file of tests/data/delivery."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def check(value: Any, name: str) -> None:
    """Fail unless the value is what the service takes."""
    _check(value, document(f"{name}.schema"), name)


def _check(value: Any, schema: dict[str, Any], at: str) -> None:
    if "kinds" in schema:
        schema = schema["kinds"][value["type"]]
    if "enum" in schema:
        assert value in schema["enum"], at
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert any(isinstance(value, _TYPES[kind]) for kind in kinds), f"{at}: {value!r}"
    if isinstance(value, str):
        assert len(value) <= schema.get("maxLength", len(value)), f"{at}: {len(value)} characters"
        assert re.fullmatch(schema.get("pattern", "(?s:.*)"), value), f"{at}: {value!r}"
    elif isinstance(value, list):
        assert len(value) <= schema.get("maxItems", len(value)), at
        for item in value:
            _check(item, schema["items"], f"{at}[]")
    elif isinstance(value, dict):
        _check_object(value, schema, at)


def _check_object(value: dict[str, Any], schema: dict[str, Any], at: str) -> None:
    assert set(schema.get("required", ())) <= value.keys(), f"{at}: {sorted(value)}"
    properties = schema.get("properties")
    for name, item in value.items():
        assert re.fullmatch(schema.get("names", "(?s:.*)"), name), f"{at}.{name}"
        if properties is not None:
            assert name in properties, f"{at}.{name} is unknown"
            _check(item, properties[name], f"{at}.{name}")
        elif "values" in schema:
            _check(item, schema["values"], f"{at}.{name}")
