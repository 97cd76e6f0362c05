"""Changes of verdicts: what is new in a series of stored verdicts, and what of it people are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .canonical import sha256

CONCLUSIONS = frozenset({"PASS", "FAIL", "INVALID"})


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """A verdict that its gate had not given just before.

    Attributes:
        gate_id, epoch, as_of_us: which verdict; event time up to which it has seen data.
        verdict: one of `VerdictName`.
        spec_hash: of the specification that it was given under.
        before: the verdict before it, in this epoch and under this specification; empty for the first.
    """

    gate_id: str
    epoch: int
    as_of_us: int
    verdict: str
    spec_hash: str = ""
    before: str = ""

    @property
    def id(self) -> str:
        """The same whenever the same change is read again, as 32 hexadecimal digits."""
        return sha256([self.gate_id, self.epoch, self.verdict, self.as_of_us])[:32]

    @property
    def is_told(self) -> bool:
        """Whether people are told: a conclusion, or that one no longer stands.

        That an epoch begins without knowing, and what is missing then, is no news.

        >>> VerdictChange("g", 1, 0, "UNDECIDED").is_told
        False
        >>> VerdictChange("g", 1, 9, "UNDECIDED", before="INVALID").is_told
        True
        """
        return self.verdict in CONCLUSIONS or self.before in CONCLUSIONS


def changes_after(
    last: Mapping[str, VerdictChange], rows: Iterable[Mapping[str, Any]]
) -> list[VerdictChange]:
    """The changes in stored verdicts.

    Args:
        last: gate -> its last change that is known; what is not later is passed over, and what is of an
            earlier epoch of the same specification. Another specification may follow an older release.
        rows: gate_id, epoch, us (`as_of`), verdict and spec_hash; of each gate by us and epoch. Of
            equal ones in a row all but the first may be missing.
    """
    newest = dict(last)
    found = []
    for row in rows:
        gate, epoch, us, spec = row["gate_id"], row["epoch"], row["us"], row["spec_hash"]
        known = newest.get(gate)
        before = ""
        if known is not None:
            is_later = us > known.as_of_us
            if spec == known.spec_hash:
                is_later = (epoch, us) > (known.epoch, known.as_of_us)
            if not is_later:
                continue
            before = known.verdict if (known.epoch, known.spec_hash) == (epoch, spec) else ""
        if row["verdict"] != before:
            newest[gate] = VerdictChange(gate, epoch, us, row["verdict"], spec, before)
            found.append(newest[gate])
    return found
