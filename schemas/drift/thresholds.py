"""When a comparison is called drift."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Model(BaseModel):
    """A part of the configuration: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Thresholds(Model):
    """One look at one feature or category (docs/drift.md, "The rule")."""

    psi_moderate: float = Field(0.1, gt=0, description="PSI above it: look into it.")
    psi: float = Field(0.2, gt=0, description="PSI above it: drift.")
    psi_high: float = Field(0.25, gt=0, description="PSI above it: severity high.")
    ks_p: float = Field(0.01, gt=0, lt=1, description="KS p below it, and ...")
    ks_d: float = Field(0.1, gt=0, lt=1, description="... KS D above it: drift.")
    chi_square_p: float = Field(0.01, gt=0, lt=1, description="Chi-square p below it, and ...")
    cramers_v: float = Field(0.1, gt=0, lt=1, description="... Cramer's V above it: drift.")
    new_share: float = Field(
        0.05, gt=0, lt=1, description="Share of rows in categories the reference lacks: drift."
    )
    min_values: int = Field(100, ge=2, description="On either side; below it there is no answer.")
    quantile_bins: int = Field(10, ge=2, le=100, description="Bins of PSI and JS.")

    @model_validator(mode="after")
    def _ordered(self) -> Thresholds:
        if not self.psi_moderate <= self.psi <= self.psi_high:
            raise ValueError("psi_moderate <= psi <= psi_high must hold")
        return self


class MissingThresholds(Model):
    """Share of rows without a feature."""

    warning: float = Field(0.01, gt=0, lt=1)
    critical: float = Field(0.05, gt=0, lt=1)
    min_rows: int = Field(100, ge=1, description="Below it there is no answer.")

    @model_validator(mode="after")
    def _ordered(self) -> MissingThresholds:
        if self.warning > self.critical:
            raise ValueError("warning must not be above critical")
        return self


class PredictionThresholds(Model):
    """Shift of the predictions' own distribution, held for a while."""

    psi: float = Field(0.15, gt=0)
    hold_s: int = Field(6 * 3600, ge=0, description="Event time for which PSI stays above.")


class ConceptThresholds(Model):
    """Change of the relation between inputs and labels; points are 0.01."""

    drop: float = Field(0.05, gt=0, lt=1, description="Accuracy, F1, or rise of ECE.")
    drop_high: float = Field(0.10, gt=0, lt=1, description="Above it: severity high.")
    p: float = Field(0.05, gt=0, lt=1, description="One-sided p below which a drop is shown.")
    confidence_js: float = Field(0.1, gt=0, lt=1)
    class_psi: float = Field(0.1, gt=0)
    importance_spearman: float = Field(0.8, gt=-1, lt=1)
    min_labels: int = Field(100, ge=2, description="On either side; below it there is no answer.")
    window_s: int = Field(
        86400, ge=60, description="Labels that became known in it are judged together."
    )

    @model_validator(mode="after")
    def _ordered(self) -> ConceptThresholds:
        if self.drop > self.drop_high:
            raise ValueError("drop must not be above drop_high")
        return self
