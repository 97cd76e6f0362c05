"""`alerts: catalogue:`, which takes rules that come with Penstock and changes their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from ..catalogue import GROUPS, catalogue_rules
from ..errors import InvalidConfiguration
from .base import Id, Model, Severity
from .rules import Absence, AlertRule, Change, Signal

Product = Literal["llm", "agent", "online"]
PRODUCTS: tuple[Product, ...] = ("llm", "agent", "online")


def _group(name: str) -> str:
    if name not in GROUPS:
        raise ValueError(f"the catalogue has no group {name}: it has {', '.join(GROUPS)}")
    return name


class Override(Model):
    """What is different about one rule; what is left out stays as it is.

    A new `value` takes the place of hysteresis too, unless that is given with it.
    """

    disabled: bool = False
    value: float | None = Field(None, allow_inf_nan=False, description="Of its condition.")
    resolve_below: float | None = Field(None, allow_inf_nan=False)
    resolve_above: float | None = Field(None, allow_inf_nan=False)
    min_baseline: float | None = Field(None, ge=0, description="Of a change.")
    absent_s: int | None = Field(None, ge=10, description="Of a dead-man switch.")
    for_s: int | None = Field(None, ge=0)
    min_requests: int | None = Field(None, ge=0)
    severity: Severity | None = None

    def applied(self, rule: AlertRule) -> AlertRule:
        """The rule with these numbers.

        Raises:
            ValueError: it has no such number, or the numbers do not fit together.
        """
        fields = rule.model_dump()
        limits = self._given("value", "resolve_below", "resolve_above")
        where = fields["condition"]
        if isinstance(rule.condition, Signal):
            where = where["limit"]
        if limits and (where is None or isinstance(rule.condition, Absence)):
            raise ValueError(f"{rule.id} compares no value: {', '.join(limits)} cannot be given")
        if self.absent_s is not None and not isinstance(rule.condition, Absence):
            raise ValueError(f"{rule.id} is no dead-man switch: absent_s cannot be given")
        if self.min_baseline is not None and not isinstance(rule.condition, Change):
            raise ValueError(f"{rule.id} compares nothing with before: leave min_baseline out")
        if "value" in limits:
            limits = {"resolve_below": None, "resolve_above": None} | limits
        if limits:
            where.update(limits)
        fields["condition"].update(self._given("absent_s", "min_baseline"))
        return AlertRule.model_validate(fields | self._given("for_s", "min_requests", "severity"))

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class Catalogue(Model):
    """Which rules of the catalogue are evaluated.

    Without `groups` and `rules`, all; with either, those named. Rules of a signal that the file does
    not define are left out, unless they are named.
    """

    groups: tuple[Annotated[str, AfterValidator(_group)], ...] = ()
    products: tuple[Product, ...] = Field(
        PRODUCTS, description="Kinds of product whose own rules (llm-, agent-, online-) are taken."
    )
    rules: tuple[Id, ...] = Field((), description="Single rules, whatever their group and product.")
    overrides: dict[Id, Override] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _word(cls, data: Any) -> Any:
        if isinstance(data, str):
            if data != "all":
                raise ValueError(f"`all`, or groups, products, rules and overrides, not {data!r}")
            return {}
        return data

    @model_validator(mode="after")
    def _sensible(self) -> Catalogue:
        chosen = {rule.id for rule in self._chosen()}
        unknown = sorted(self.overrides.keys() - chosen)
        if unknown:
            raise ValueError(
                f"overrides of rules that are not taken: {', '.join(unknown)}"
                " (docs/alert-catalogue.md lists them)"
            )
        _ = self.taken
        return self

    @cached_property
    def taken(self) -> tuple[AlertRule, ...]:
        """The rules, as they are overridden."""
        plain = Override()
        found = ((rule, self.overrides.get(rule.id, plain)) for rule in self._chosen())
        return tuple(change.applied(rule) for rule, change in found if not change.disabled)

    def is_named(self, rule_id: str) -> bool:
        """Whether somebody asked for this very rule."""
        return rule_id in self.rules or rule_id in self.overrides

    def _chosen(self) -> Iterator[AlertRule]:
        try:
            rules = catalogue_rules(self.rules, self.groups)
        except InvalidConfiguration as error:
            raise ValueError(str(error)) from error
        for rule in rules:
            product = rule.id.partition("-")[0]
            foreign = product in PRODUCTS and product not in self.products
            if rule.id in self.rules or not foreign:
                yield rule
