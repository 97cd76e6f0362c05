from __future__ import annotations

import pytest
from penstock.schemas.config import Configuration, parse
from penstock.schemas.errors import InvalidConfiguration
from penstock.streams.core import metrics as m
from penstock.streams.core.configured import cell_groupings, configured_counters, counting_of

TEXT = """
gates:
  - {{id: g, metrics: [{{metric: latency, field: ttft_ms, max_ms: {gate}}},
     {{metric: cost_per_1k_tokens_usd, max_usd: 0.01, cap_usd: 1}}]}}
slos:
  - {{id: o, sli: {{kind: latency, field: ttft_ms, max_ms: {slo}}}, target: 0.9}}
alerts:
  rules:
    - id: r
      condition: {{kind: threshold, metric: ttft_ms_p95, window: 1m, op: ">", value: {rule}}}
"""


def asked(gate: float, slo: float, rule: float) -> Configuration:
    return parse(TEXT.format(gate=gate, slo=slo, rule=rule))


def collision() -> tuple[int, int]:
    """Two limits in us whose counters have one number."""
    known: dict[int, int] = {}
    for limit_us in range(1_000, 1_000_000):
        other = known.setdefault(m.Threshold("ttft_us", limit_us).number, limit_us)
        if other != limit_us:
            return other, limit_us
    raise AssertionError("a million numbers of 30 bits meet")


def test_cells_are_kept_by_what_rules_ask_for() -> None:
    assert cell_groupings(()) == ("fleet", "model", "release")
    rules = [
        f"    - {{id: {by}-{window}, by: {by}, condition: {{kind: threshold, metric: errors,"
        f' window: {window}, op: ">", value: 1}}}}'
        for by, window in (("tenant", "5m"), ("route", "30m"), ("model", "1m"))
    ]
    found = cell_groupings(parse("\n".join(["alerts:", "  rules:", *rules])).rules)
    assert found == ("fleet", "model", "release", "tenant")


def test_every_section_asks_and_each_counter_is_kept_once() -> None:
    assert configured_counters(Configuration()) == ()
    found = configured_counters(asked(100, 200, 300))
    limits = [item.limit_us for item in found if isinstance(item, m.Threshold)]
    assert limits == [100_000, 300_000, 200_000]
    assert len(found) == 4
    assert len(configured_counters(asked(100, 100, 100))) == 2


@pytest.mark.parametrize(
    ("where", "named"),
    [((0, 1, 2), "objective o"), ((0, 2, 1), "alert rule r")],
)
def test_two_counters_of_one_number_are_refused_by_name(
    where: tuple[int, int, int], named: str
) -> None:
    first, second = collision()
    limits = [first / 1000, second / 1000, 7.0]
    with pytest.raises(InvalidConfiguration) as caught:
        configured_counters(asked(*(limits[at] for at in where)))
    assert f"{named} counts ttft_us > {second} us under the same number as gate g" in str(
        caught.value
    )


def test_a_cost_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m, "configured_number", lambda name: 0x8001)
    with pytest.raises(InvalidConfiguration, match="cost above 10000000 nano-USD per 1k tokens"):
        configured_counters(asked(1, 2, 3))


def test_numbers_are_wide_and_apart_from_all_others() -> None:
    limits = [m.Threshold("latency_us", at) for at in range(0, 2_000_000, 1000)]
    keys = {m.key(one.number, position) for one in limits for position in (0, 1)}
    assert len(keys) == 2 * len(limits)
    assert min(keys) >= m.CONFIGURED_BASE << m.BIN_BITS
    assert max(keys) < 2**32


def test_counting_is_the_same_as_long_as_what_is_counted_is() -> None:
    assert counting_of(asked(1, 2, 3)) == counting_of(asked(1, 2, 3))
    assert counting_of(asked(1, 2, 3)) == counting_of(asked(1, 3, 2))  # who asks is all the same
    assert counting_of(asked(1, 2, 3)) != counting_of(asked(1, 2, 4))
    rate = "{kind: threshold, metric: error_rate, op: '>', value: 0.1}"
    more = TEXT.format(gate=1, slo=2, rule=3) + f"    - {{id: rate, condition: {rate}}}\n"
    assert counting_of(asked(1, 2, 3)) == counting_of(parse(more))
