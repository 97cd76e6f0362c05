"""Presets: the usual objectives of a kind of product, and their overall compliance."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from pydantic import Field

from .base import EVERYTHING, Id, Model, Share, SloFilter
from .burn import Window
from .objective import Composite, Objective

PresetName = Literal["interactive-llm", "agent", "online-model"]


def _below(percentile: int, max_ms: int) -> dict[str, Any]:
    quantile = Decimal(percentile).scaleb(-2)
    return {"sli": {"kind": "latency_quantile", "quantile": quantile, "max_ms": max_ms}}


def _kept(target: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"sli": {"kind": kind, **fields}, "target": target}


PRESETS: dict[PresetName, dict[str, dict[str, Any]]] = {
    "interactive-llm": {
        "latency-p50": _below(50, 400),
        "latency-p95": _below(95, 1200),
        "availability": _kept("0.999", "availability"),
        "safety": _kept("0.999", "safety"),
    },
    "agent": {
        "latency-p95": _below(95, 5_000),
        "latency-p99": _below(99, 10_000),
        "success": _kept("0.95", "error_rate"),
    },
    "online-model": {
        "latency-p95": _below(95, 100),
        "latency-p99": _below(99, 200),
        "errors": _kept("0.999", "error_rate"),
        "throughput": _kept("0.99", "throughput", min_per_s=100),
    },
}


class Preset(Model):
    """Objectives named `<id>-<part>` of a kind of product, and `<id>-overall` over them."""

    preset: PresetName
    id: Id
    service: str = ""
    filter: SloFilter = EVERYTHING
    window: Window = "7d"
    min_coverage: Share = Decimal("0.99")
    without: tuple[str, ...] = Field((), description="Parts that are left out.")
    notify: tuple[str, ...] = ()

    def expand(self) -> tuple[Objective | Composite, ...]:
        """Its objectives.

        Raises:
            ValueError: `without` names no part, or leaves none.
        """
        parts = PRESETS[self.preset]
        unknown = sorted(set(self.without) - set(parts))
        if unknown:
            raise ValueError(
                f"{self.id}: {self.preset} has no {', '.join(unknown)}; it has {', '.join(parts)}"
            )
        shared = self.model_dump(include={"service", "filter", "window", "min_coverage", "notify"})
        objectives = [
            Objective.model_validate({"id": f"{self.id}-{name}", **shared, **part})
            for name, part in parts.items()
            if name not in self.without
        ]
        if not objectives:
            raise ValueError(f"{self.id}: every part of {self.preset} is left out")
        overall = Composite(id=f"{self.id}-overall", of=tuple(item.id for item in objectives))
        return (*objectives, overall)
