"""States as JSON can hold them: dataclasses by name, arrays exactly, sequences as tuples.

float64 arrays are base64 of their little-endian bytes: exact, and a fifth of the size of their digits.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

_TYPE, _FLOATS, _INTS, _SHAPE = "type", "f8", "i8", "shape"


def encoded(value: Any) -> Any:
    """A value as JSON can hold it.

    >>> encoded((np.array([1.0, 0.1]), {"a": 1}))
    [{'f8': 'AAAAAAAA8D+amZmZmZm5Pw==', 'shape': [2]}, {'a': 1}]
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            text = base64.b64encode(np.ascontiguousarray(value, "<f8").tobytes()).decode()
            return {_FLOATS: text, _SHAPE: list(value.shape)}
        return {_INTS: value.ravel().tolist(), _SHAPE: list(value.shape)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            item.name: encoded(getattr(value, item.name)) for item in dataclasses.fields(value)
        }
        return {_TYPE: type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {key: encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(item) for item in value]
    return value


def decoded(value: Any, types: Mapping[str, type]) -> Any:
    """The value that `encoded` took, lists as tuples.

    Args:
        value: what JSON holds.
        types: dataclasses by name.

    Raises:
        ValueError: it is not such a value.
    """
    try:
        return _decoded(value, types)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the state of a gate: {error}") from error


def _decoded(value: Any, types: Mapping[str, type]) -> Any:
    if isinstance(value, list):
        return tuple(_decoded(item, types) for item in value)
    if not isinstance(value, dict):
        return value
    if _FLOATS in value:
        flat = np.frombuffer(base64.b64decode(value[_FLOATS], validate=True), "<f8")
        return flat.reshape(value[_SHAPE]).copy()
    if _INTS in value:
        return np.array(value[_INTS], np.int64).reshape(value[_SHAPE])
    if _TYPE in value:
        fields = {key: _decoded(item, types) for key, item in value.items() if key != _TYPE}
        return types[value[_TYPE]](**fields)
    return {key: _decoded(item, types) for key, item in value.items()}
