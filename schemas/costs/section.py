"""The whole `costs:` section."""

from __future__ import annotations

from pydantic import model_validator

from .budgets import Budget, SpendLimit
from .capacity import CapacityForecast
from .prices import TokenPrice, TrainingPrice, by_model
from .values import Section


class Costs(Section):
    """Prices, budgets, spend limits and capacity forecasts.

    Example:
        >>> costs = Costs.model_validate({"prices": [{
        ...     "model": "chat-8b", "valid_from": "2026-01-01", "input_usd": 0.15, "output_usd": 0.6}]})
        >>> costs.prices[0].picousd_per_token
        (150000, 150000, 600000, 600000)
    """

    prices: tuple[TokenPrice, ...] = ()
    training_prices: tuple[TrainingPrice, ...] = ()
    budgets: tuple[Budget, ...] = ()
    spend_limits: tuple[SpendLimit, ...] = ()
    forecasts: tuple[CapacityForecast, ...] = ()

    @property
    def watches(self) -> bool:
        """Whether there is anything to evaluate."""
        return bool(self.budgets or self.spend_limits or self.forecasts)

    @model_validator(mode="after")
    def _consistent(self) -> Costs:
        by_model(self.prices)
        by_model(self.training_prices)
        for entries in (self.budgets, self.spend_limits, self.forecasts):
            ids = [entry.id for entry in entries]
            repeated = sorted({name for name in ids if ids.count(name) > 1})
            if repeated:
                raise ValueError(f"ids must be unique: {', '.join(repeated)}")
        return self
