"""What tokens and accelerators cost, from when on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Literal, TypeVar

from pydantic import Field, model_validator

from .values import NANO_PER_USD, PICO_PER_USD, Moment, Section, Usd, whole

ANY_MODEL = "*"
MAX_PICO_PER_TOKEN = 10**11  # 0.1 USD a token: the cost of any valid request fits into 64 bits
_TOKENS = {"1k": 1_000, "1M": 1_000_000}


class Dated(Section):
    """A price of one model, or of all that have none, from a moment on until the next entry."""

    model: str = Field(ANY_MODEL, min_length=1, description="`*` for every model without a price.")
    valid_from: Moment


class TokenPrice(Dated):
    """Inference price of a model by class of token, USD per 1k or per 1M tokens.

    Cached tokens are a part of the input and reasoning tokens a part of the output; where they have
    no price of their own they cost as the rest does.
    """

    per: Literal["1k", "1M"] = "1M"
    input_usd: Usd
    output_usd: Usd
    cached_usd: Usd | None = None
    reasoning_usd: Usd | None = None

    @model_validator(mode="after")
    def _countable(self) -> TokenPrice:
        most = max(self.picousd_per_token)
        if most > MAX_PICO_PER_TOKEN:
            raise ValueError("a price above 0.1 USD per token; see `per`")
        return self

    @property
    def picousd_per_token(self) -> tuple[int, int, int, int]:
        """Price of an input, cached, output and reasoning token in 1e-12 USD, exact.

        Raises:
            ValueError: a price is finer than 1e-12 USD per token.
        """
        cached = self.input_usd if self.cached_usd is None else self.cached_usd
        reasoning = self.output_usd if self.reasoning_usd is None else self.reasoning_usd
        return (
            self._pico(self.input_usd),
            self._pico(cached),
            self._pico(self.output_usd),
            self._pico(reasoning),
        )

    def _pico(self, usd: Decimal) -> int:
        try:
            return whole(usd, PICO_PER_USD // _TOKENS[self.per])
        except ValueError as error:
            raise ValueError(
                f"{usd} USD per {self.per} tokens is finer than 1e-12 USD per token"
            ) from error


class TrainingPrice(Dated):
    """Training price of a model: per hour of one accelerator, or per 1k trained tokens."""

    usd_per_accelerator_hour: Usd | None = None
    usd_per_1k_tokens: Usd | None = None

    @model_validator(mode="after")
    def _one_unit(self) -> TrainingPrice:
        if (self.usd_per_accelerator_hour is None) == (self.usd_per_1k_tokens is None):
            raise ValueError("give either usd_per_accelerator_hour or usd_per_1k_tokens")
        whole(self._usd, NANO_PER_USD)
        return self

    @property
    def _usd(self) -> Decimal:
        usd = self.usd_per_accelerator_hour
        return self.usd_per_1k_tokens or Decimal(0) if usd is None else usd

    @property
    def is_hourly(self) -> bool:
        """Whether accelerator time is paid, not tokens."""
        return self.usd_per_accelerator_hour is not None

    @property
    def nanousd(self) -> int:
        """Nano-dollars per accelerator-hour, or per 1k tokens."""
        return whole(self._usd, NANO_PER_USD)


D = TypeVar("D", bound=Dated)


def by_model(prices: Iterable[D]) -> dict[str, Sequence[D]]:
    """The entries of each model, ascending in time, each valid until the next.

    Raises:
        ValueError: two entries of a model begin at the same time, or a later line begins earlier.
    """
    grouped: dict[str, list[D]] = {}
    for price in prices:
        before = grouped.setdefault(price.model, [])
        if before and price.valid_from <= before[-1].valid_from:
            was, now = before[-1].valid_from, price.valid_from
            why = "overlap: both begin" if was == now else "are not in order: one begins"
            raise ValueError(
                f"prices of {price.model} {why} at {now:%Y-%m-%dT%H:%M:%SZ}"
                + ("" if was == now else f", after one of {was:%Y-%m-%dT%H:%M:%SZ}")
            )
        before.append(price)
    return dict(grouped)
