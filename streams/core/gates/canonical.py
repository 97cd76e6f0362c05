"""One JSON text for one value, and the hashes that verdicts carry."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel

ENGINE = "gates-3"
"""Version of the computation; it changes whenever an equal input could give another verdict."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; floats as their shortest exact text.

    Raises:
        ValueError: for NaN and infinities, which JSON has no name for.

    >>> canonical_json({"b": 0.1, "a": [1, None]})
    '{"a":[1,null],"b":0.1}'
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def plain_json(value: Any) -> str:
    """As `canonical_json`, but keys keep their order, so that what is read back is written the same again.

    >>> plain_json({"b": 0.1, "a": [1, None]})
    '{"b":0.1,"a":[1,null]}'
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(value: Any) -> str:
    """SHA-256 of the canonical JSON, as hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def spec_hash(spec: BaseModel) -> str:
    """Hash of a gate's specification, defaults written out; whom it tells is no part of it."""
    return sha256(spec.model_dump(mode="json", exclude={"notify"}))
