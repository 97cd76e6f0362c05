"""Records of what an absolute gate evaluated, from which its verdicts are computed again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np

from .absolute import Context
from .canonical import canonical_json
from .units import CellCounts

Evaluation: TypeAlias = tuple[CellCounts, Context]
_ARRAYS = ("end_us", "requests")
_BY_METRIC = ("bad", "units", "cost_sum_nano")


def noted(evaluations: Sequence[Evaluation], newest: Evaluation) -> list[Evaluation]:
    """Evaluations with one more, in place of the last one where that changed nothing.

    A poll without cells and with the coverage of the evaluation before leaves the state as it was.
    """
    kept = [*evaluations]
    if len(kept) > 1 and not len(kept[-1][0]) and _known(kept[-1]) == _known(kept[-2]):
        kept.pop()
    return [*kept, newest]


def _known(evaluation: Evaluation) -> tuple[Any, ...]:
    context = evaluation[1]
    return context.coverage, context.coverage_state, context.epoch


def record_text(start_us: int, evaluations: Sequence[Evaluation]) -> str:
    """Evaluations as canonical JSON.

    Args:
        start_us: where the epoch began.
        evaluations: in order.
    """
    told = [{"cells": _cells(cells), "context": asdict(context)} for cells, context in evaluations]
    return canonical_json({"start_us": start_us, "evaluations": told})


def record_of(text: str) -> tuple[int, list[Evaluation]]:
    """What `record_text` was given.

    Raises:
        ValueError: the text is no record.
    """
    try:
        found = json.loads(text)
        evaluations = [
            (_counts(item["cells"]), Context(**item["context"])) for item in found["evaluations"]
        ]
        return found["start_us"], evaluations
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record of a gate: {error}") from error


def _cells(cells: CellCounts) -> dict[str, Any]:
    plain: dict[str, Any] = {name: getattr(cells, name).tolist() for name in _ARRAYS}
    for name in _BY_METRIC:
        plain[name] = {metric: found.tolist() for metric, found in getattr(cells, name).items()}
    return plain


def _counts(plain: dict[str, Any]) -> CellCounts:
    end_us, requests = (np.array(plain[name], np.int64) for name in _ARRAYS)
    bad, units, costs = (
        {metric: np.array(found, np.int64) for metric, found in plain[name].items()}
        for name in _BY_METRIC
    )
    return CellCounts(end_us, requests, bad, units, costs)
