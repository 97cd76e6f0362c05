"""How fields of events are described: kind on the wire, unit, meaning, bounds (see schemas/events.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# How a field is held on the wire and in the store.
#   label  few distinct strings (dictionary-coded)      text   many distinct strings
#   ms     milliseconds, kept as integer microseconds   usd    US dollars, kept as integer nano-dollars
#   time   integer microseconds since 1970 UTC          labels a set of strings
#   floats name -> float                                texts  name -> string
Kind = Literal[
    "label", "text", "int", "float", "bool", "ms", "usd", "time", "labels", "floats", "texts"
]

# Integers per unit of the field: what is stored is floor(value * scale + 0.5).
SCALES: dict[str, int] = {"ms": 1_000, "usd": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Doc:
    """What a field means: its wire kind, unit, one line of meaning, and who asked for it.

    `asked_by` names the request of users that the field answers: gates (release gates of an inference
    engine), playbook (LLM monitoring playbook), pipeline (metrics of a translation pipeline), mlops
    (observability of model serving), training (detectors of a training runtime), or penstock (needed
    by the design itself).
    """

    kind: Kind
    meaning: str
    unit: str = ""
    asked_by: str = "penstock"
    values: tuple[str, ...] = ()
    minimum: float | None = 0.0
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of an event: its name and its `Doc`."""

    name: str
    doc: Doc
    required: bool


def label_doc(meaning: str, asked_by: str = "penstock", values: tuple[str, ...] = ()) -> Doc:
    """Of a field that holds few distinct strings."""
    return Doc("label", meaning, asked_by=asked_by, values=values)


def text_doc(meaning: str, asked_by: str = "penstock") -> Doc:
    """Of a field that holds many distinct strings."""
    return Doc("text", meaning, asked_by=asked_by)


def ms_doc(meaning: str, asked_by: str = "mlops") -> Doc:
    """Of a field that holds milliseconds."""
    return Doc("ms", meaning, unit="ms", asked_by=asked_by)


def int_doc(meaning: str, unit: str, asked_by: str = "penstock") -> Doc:
    """Of a field that holds a whole number of `unit`."""
    return Doc("int", meaning, unit=unit, asked_by=asked_by)


def float_doc(
    meaning: str,
    unit: str,
    asked_by: str = "penstock",
    minimum: float | None = None,
    maximum: float | None = None,
) -> Doc:
    """Of a field that holds a number of `unit`."""
    return Doc("float", meaning, unit=unit, asked_by=asked_by, minimum=minimum, maximum=maximum)


def ratio_doc(meaning: str, asked_by: str = "mlops") -> Doc:
    """Of a field that holds a ratio from 0 to 1."""
    return float_doc(meaning, "ratio 0..1", asked_by, 0.0, 1.0)


def stored_name(spec: FieldSpec) -> str:
    """Name of the column that holds the field in a decoded batch and in a writer's table.

    Scaled integers say their unit: `latency_ms` is held as `latency_us`, `cost_usd` as
    `cost_nanousd`. The published views give the field's own name and unit back.
    """
    if spec.doc.kind == "ms":
        return spec.name.removesuffix("_ms") + "_us"
    if spec.doc.kind == "usd":
        return spec.name.removesuffix("_usd") + "_nanousd"
    return spec.name
