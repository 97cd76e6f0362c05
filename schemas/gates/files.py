"""What `penstock gate run` reads: the gates of a penstock.yaml, or of a file of their own."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from . import Gate


class GatesFile(BaseModel):
    """Gates of every kind; other sections of a penstock.yaml are not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    gates: tuple[Gate, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> GatesFile:
        ids = [gate.id for gate in self.gates]
        repeated = sorted({name for name in ids if ids.count(name) > 1})
        if repeated:
            raise ValueError(f"gate ids must be unique: {', '.join(repeated)}")
        return self
