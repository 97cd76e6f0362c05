"""Gates: what a specification may state, one module per kind."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Tag

from .absolute import AbsoluteGate
from .budget import BudgetGate
from .canary import CanaryGate
from .parity import ParityGate
from .perf import PerfGate
from .rollback import RollbackGate
from .shadow import ShadowGate
from .stability import StabilityGate
from .training import TrainingGate

LiveGate: TypeAlias = AbsoluteGate | CanaryGate | BudgetGate | RollbackGate
"""Gates that are evaluated on a running stream."""

OfflineGate: TypeAlias = ParityGate | PerfGate | ShadowGate | StabilityGate | TrainingGate
"""Gates that are evaluated on files."""


def kind_of(value: Any) -> str:
    """The kind that a specification states, absolute where it states none."""
    kind = value.get("kind", "absolute") if isinstance(value, dict) else value.kind
    return str(kind)


Gate: TypeAlias = Annotated[
    Annotated[AbsoluteGate, Tag("absolute")]
    | Annotated[CanaryGate, Tag("canary")]
    | Annotated[BudgetGate, Tag("budget")]
    | Annotated[RollbackGate, Tag("rollback")]
    | Annotated[ParityGate, Tag("parity")]
    | Annotated[PerfGate, Tag("perf")]
    | Annotated[ShadowGate, Tag("shadow")]
    | Annotated[StabilityGate, Tag("stability")]
    | Annotated[TrainingGate, Tag("training")],
    Discriminator(kind_of),
]
"""Any gate, told apart by its `kind`."""
