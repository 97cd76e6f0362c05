"""A gate of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..schemas.errors import NotFound

if TYPE_CHECKING:
    from ..schemas.gates import LiveGate


def gate_in(path: Path, gate_id: str) -> LiveGate:
    """The live gate of that id.

    Raises:
        InvalidConfiguration: the file has mistakes.
        NotFound: it has no such gate.
    """
    from ..schemas.config import load

    gates = {gate.id: gate for gate in load(path).live_gates}
    if gate_id not in gates:
        raise NotFound(f"{path} has no live gate {gate_id!r}; it has: {', '.join(gates) or 'none'}")
    return gates[gate_id]
