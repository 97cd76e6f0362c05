"""The SQL that shows the numbers of a verdict: counts per arm, example rows, slices that contribute.

Each statement stands alone and can be pasted into clickhouse-client. It reads what is stored now: rows
that came too late for the verdict are in it (docs/gates.md, "Evidence").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ....schemas.gates import LiveGate
from ....schemas.gates.absolute import AbsoluteGate, CostLimit, LatencyLimit, MetricLimit
from ....schemas.gates.budget import BudgetGate
from ..tiles import SECOND_US
from .interface import ARM_NAMES, CONTROL, TREATMENT, Wanted, WantedMetric
from .live import QueriedGate, inputs_wanted
from .query import LOOK_BACK_US, parameters_of, requests_sql, units_sql
from .row_sql import (
    COSTED,
    STARTED,
    RowMeasure,
    above,
    cost_per_1k_tokens,
    filled,
    is_arm,
    literal,
    moment,
    row_measure,
    usd_above_plan,
)
from .units import cap_nano

EXAMPLES = 5
MAX_VALUES = 200  # per dimension, those with most bad rows
_COUNTS = {"rate": ("n", "bad"), "bins": ("n",), "moments": ("n", "a", "b")}
_BAND = (
    "if(isNull(input_tokens), '', concat(toString(toUInt64(exp2(floor(log2(input_tokens + 1)))) - 1),"
    " '-', toString(2 * toUInt64(exp2(floor(log2(input_tokens + 1)))) - 2)))"
)
# What slices are looked for by -> SQL of its value; prompts are in the bands of the stratum.
DIMENSIONS = {
    "model_version": "toString(model_version)",
    "adapter": "toString(adapter)",
    "route": "toString(route)",
    "tenant": "toString(tenant)",
    "region": "toString(region)",
    "worker_id": "toString(worker_id)",
    "prompt_length": _BAND,
}


@dataclass(frozen=True, slots=True)
class Counted:
    """What a verdict counted, in event time: integer microseconds since 1970 UTC.

    Attributes:
        start_us: where the epoch began.
        end_us: end of the last cell or block counted.
    """

    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Statements:
    """SQL about one metric.

    Attributes:
        counts: one row per arm: arm_name, n, then bad of a rate.
        examples: at most `EXAMPLES` rows per arm: arm_name, id; newest first, of means the worst
            first. Empty where rows cannot tell.
        slices: dimension, value, and n and bad of the first and of the second arm (n1, bad1, n0, bad0);
            a row for everything, whose dimension is empty. Empty as `examples` is.
    """

    counts: str
    examples: str = ""
    slices: str = ""


@dataclass(frozen=True, slots=True)
class MetricSql:
    """What can be asked about one metric.

    Attributes:
        metric: its name in the evidence.
        arms: names of the arms whose counts are in the evidence.
        every: of all rows that are stored now.
        in_time: without those that came after their second had closed; None where there is no telling.
        late: how many those are: n. Empty where there is no telling.
        measure: what examples and slices are picked by.
    """

    metric: str
    arms: tuple[str, ...]
    every: Statements
    in_time: Statements | None = None
    late: str = ""
    measure: RowMeasure | None = None


def metric_sql(
    spec: LiveGate, counted: Counted, typical_ms: Mapping[str, float | None]
) -> Iterator[MetricSql]:
    """The statements of every metric.

    Args:
        spec: the gate.
        counted: what its verdict counted.
        typical_ms: per latency quantile, the estimate of control.
    """
    if isinstance(spec, BudgetGate):
        yield _budget(spec, counted)
    elif isinstance(spec, AbsoluteGate):
        for limit in spec.metrics:
            yield _absolute(spec, limit, counted)
    else:
        yield from _queried(spec, counted, typical_ms)


def _budget(spec: BudgetGate, counted: Counted) -> MetricSql:
    as_of_s = counted.end_us // SECOND_US
    sql = (
        "SELECT 'all' AS arm_name, total AS n, bad\nFROM penstock.slo_status AS s\n"
        f"WHERE slo_id = {literal(spec.slo)} AND toUnixTimestamp(s.as_of) = {as_of_s}"
    )
    return MetricSql(spec.slo, ("all",), Statements(sql))


def _absolute(spec: AbsoluteGate, limit: MetricLimit, counted: Counted) -> MetricSql:
    """Rows by the second of their event time, as the closed cells hold them."""
    within = f"ts >= {moment(counted.start_us)} AND ts < {moment(counted.end_us)}"
    rows = _Rows({"all": is_arm(spec.filter.given())}, within)
    measure: RowMeasure | None
    if isinstance(limit, CostLimit):
        measure = cost_per_1k_tokens()
        score = usd_above_plan(round(limit.max_usd * 1e9), cap_nano(limit))
        sums = f"countIf({COSTED}) AS n, avgIf({score}, {COSTED}) AS estimate"
    else:
        if isinstance(limit, LatencyLimit):
            measure = above(limit.field, round(limit.max_ms * 1000))
        else:
            field = {"error_rate": "error", "safety_rate": "safety"}[limit.metric]
            wanted = WantedMetric(limit.name, "rate", field, "unit")
            measure = row_measure(wanted, counted.start_us)
            assert measure is not None
        sums = f"countIf({measure.carried}) AS n, countIf({measure.bad}) AS bad"
    counts = f"SELECT 'all' AS arm_name, {sums}\nFROM penstock.requests\nWHERE {rows.where}"
    return rows.statements(limit.name, (counts, f"{counts} AND NOT late"), ("all",), measure)


def _queried(
    spec: QueriedGate, counted: Counted, typical_ms: Mapping[str, float | None]
) -> Iterator[MetricSql]:
    wanted = inputs_wanted(spec)
    assert wanted is not None
    block_us = wanted.block_s * SECOND_US
    first_us = -(-counted.start_us // block_us) * block_us
    arms: tuple[str, ...] = ("treatment", "control")
    if spec.kind == "rollback":
        # The evidence is of the last minutes of the treatment; the baseline only sets a limit.
        first_us = max(first_us, counted.end_us - spec.for_s * SECOND_US)
        arms = ("treatment",)
    rows = _rows_of(wanted, first_us, counted.end_us)
    for metric in wanted.metrics:
        if metric.name.startswith("baseline:"):
            continue  # a check of control, and not in the evidence
        every, in_time = (
            _counts(wanted, metric, arms, (first_us, counted.end_us), counted.start_us, applied)
            for applied in ("1", "NOT late")
        )
        measure = row_measure(metric, first_us, typical_ms.get(metric.name))
        yield rows.statements(metric.name, (every, in_time), arms, measure)


def _rows_of(wanted: Wanted, first_us: int, end_us: int) -> _Rows:
    """Rows by the time that they started at."""
    within = (
        f"ts >= {moment(first_us)} AND ts < {moment(end_us + wanted.mature_s * SECOND_US)}"
        f" AND {STARTED} >= {first_us} AND {STARTED} < {end_us}"
    )
    arms = {
        str(ARM_NAMES[arm]): is_arm(wanted.arms[arm])
        for arm in (TREATMENT, CONTROL)
        if wanted.arms[arm]
    }
    fixed = frozenset(name for arm in wanted.arms for name in arm)
    return _Rows(arms, within, fixed)


def _counts(
    wanted: Wanted,
    metric: WantedMetric,
    arms: tuple[str, ...],
    blocks_us: tuple[int, int],
    epoch_us: int,
    applied: str,
) -> str:
    """The gate's own query of one metric, its blocks, strata and workers summed."""
    one = replace(wanted, metrics=(metric,))
    sql = units_sql(one) if metric.per == "unit" else requests_sql(one)
    parameters = parameters_of(wanted, *blocks_us, epoch_us)
    if wanted.unit != "request":
        # Asked block by block, the gate looks back so far; asked at once, the gap must say so.
        parameters["gap"] = LOOK_BACK_US
    inner = filled(sql.replace("{applied}", applied), parameters).strip()
    sums = ", ".join(f"sum({name}0) AS {name}" for name in _COUNTS[metric.kind])
    names = " OR ".join(f"arm = {ARM_NAMES.index(name)}" for name in arms)
    return (
        f"SELECT if(arm = 1, 'treatment', 'control') AS arm_name, {sums}\n"
        f"FROM (\n{inner}\n)\nWHERE {names}\nGROUP BY arm_name\nORDER BY arm_name DESC"
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of `penstock.requests`: condition of each arm, that of time, and dimensions of the arms."""

    arms: Mapping[str, str]
    within: str
    fixed: frozenset[str] = frozenset()

    @property
    def where(self) -> str:
        arms = " OR ".join(f"({condition})" for condition in self.arms.values())
        return f"({arms}) AND {self.within}"

    def statements(
        self,
        metric: str,
        counts: tuple[str, str],
        arms: tuple[str, ...],
        measure: RowMeasure | None,
    ) -> MetricSql:
        every, in_time = counts
        return MetricSql(
            metric,
            arms,
            self._about(every, measure),
            replace(self, within=f"{self.within} AND NOT late")._about(in_time, measure),
            f"SELECT countIf(late) AS n\nFROM penstock.requests\nWHERE {self.where}",
            measure,
        )

    def _about(self, counts: str, measure: RowMeasure | None) -> Statements:
        if measure is None:
            return Statements(counts)
        return Statements(counts, self._examples(measure), self._slices(measure))

    def _arm(self) -> str:
        cases = ", ".join(f"{condition}, {literal(name)}" for name, condition in self.arms.items())
        return f"multiIf({cases}, '') AS arm_name"

    def _examples(self, measure: RowMeasure) -> str:
        order = "max(toUnixTimestamp64Micro(ts)) DESC"
        picked = f"ifNull({measure.bad}, 0)"
        if measure.is_mean:
            order = f"max({measure.bad}) {'ASC' if measure.higher_is_better else 'DESC'}"
            picked = f"isNotNull({measure.bad}) AND ifNull({measure.carried}, 0) > 0"
        return (
            f"SELECT {self._arm()}, if(request_id != '', request_id,"
            " concat(boot_id, ':', toString(seq))) AS id\n"
            f"FROM penstock.requests\nWHERE {self.where} AND {picked}\n"
            f"GROUP BY arm_name, id\nORDER BY arm_name DESC, {order}, id\nLIMIT {EXAMPLES} BY arm_name"
        )

    def _slices(self, measure: RowMeasure) -> str:
        names = [name for name in DIMENSIONS if name not in self.fixed]
        values = ", ".join(f"{DIMENSIONS[name]} AS its_{name}" for name in names)
        pairs = ", ".join(f"('{name}', its_{name})" for name in names)
        first, second = (*self.arms, "")[:2]
        sums = ", ".join(
            f"sumIf({column}, arm_name = {literal(arm)}) AS {name}{number}"
            for number, arm in ((1, first), (0, second))
            for column, name in (("carried", "n"), ("worse", "bad"))
        )
        groups = ", ".join(f"its_{name}" for name in names)
        return (
            f"SELECT slice.1 AS dimension, slice.2 AS value, {sums}\nFROM (\n"
            f"SELECT {self._arm()}, {values},"
            f" sum(toFloat64(ifNull({measure.carried}, 0))) AS carried,"
            f" sum(toFloat64(ifNull({measure.bad}, 0))) AS worse\n"
            f"FROM penstock.requests\nWHERE {self.where}\nGROUP BY arm_name, {groups}\n)\n"
            f"ARRAY JOIN [('', ''), {pairs}] AS slice\nGROUP BY dimension, value\n"
            f"ORDER BY dimension, bad1 + bad0 DESC, n1 + n0 DESC, value\n"
            f"LIMIT {MAX_VALUES} BY dimension"
        )
