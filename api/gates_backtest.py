"""POST /v1/gates/{id}/backtest: what would a gate say, before it is switched on?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response
from pydantic import TypeAdapter, ValidationError

from ..schemas.errors import Backpressure, InvalidQuery
from ..schemas.gates import Gate
from ..schemas.gates.canary import CanaryGate
from ..schemas.gates.rollback import RollbackGate
from ..schemas.ports import StoreReader
from ..streams.core.gates.backtest import Draws, Run, early, judged, reasons_of, runs, table_of
from ..streams.core.gates.backtest_past import PastEpoch, past_epochs, past_shares
from ..streams.core.gates.canonical import spec_hash
from ..streams.core.gates.interface import CONTROL, TREATMENT, Wanted
from ..streams.core.gates.live import QueriedGate, inputs_wanted
from ..streams.core.gates.pool import stretch
from ..streams.core.gates.split import BUCKETS, Change, Split
from ..streams.core.gates.verdict import iso
from ..streams.core.tiles import SECOND_US
from .answers import Answer
from .backtest_models import BacktestAnswer, BacktestBody
from .gates_models import GateId
from .gates_traffic import traffic
from .gates_verdicts import Verdicts, stored_markers
from .parameters import parse_time
from .problems import described

MAX_BLOCKS = 20_000
_GATE: TypeAdapter[Gate] = TypeAdapter(Gate)
Body = dict[str, Any]


class Backtests:
    """Runs gates over stored history, one backtest at a time.

    Args:
        store: has the history.
        verdicts: knows the gates.
        watermark_us: event time now: what came later is not whole.
        monotonic_s: clock of the time that an answer may take.
        is_stopping: whether the server is about to end; no further run is begun then.
    """

    def __init__(
        self,
        store: StoreReader,
        verdicts: Verdicts,
        watermark_us: Callable[[], int],
        monotonic_s: Callable[[], float],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._store = store
        self._verdicts = verdicts
        self._watermark_us = watermark_us
        self._monotonic_s = monotonic_s
        self._is_stopping = is_stopping
        self._busy = threading.Lock()

    def post(self, gate_id: GateId, body: BacktestBody) -> Response:
        """Run a canary or rollback gate over stored history.

        `aa` parts one arm's traffic by a hash of the unit: every FAIL is a false alarm. `inject` makes
        the treatment's part worse: the share of FAIL is the power. `past` goes over the releases that
        there were. With `spec`, the gate need not be in the configuration.
        """
        spec = self._spec(gate_id, body)
        if not self._busy.acquire(blocking=False):
            raise Backpressure("another backtest is under way: ask again when it is over", 10.0)
        try:
            return Answer(self._told(spec, body))
        finally:
            self._busy.release()

    def _spec(self, gate_id: str, body: BacktestBody) -> QueriedGate:
        try:
            given = {"id": gate_id} | (body.spec or {})
            spec = (
                self._verdicts.known(gate_id) if body.spec is None else _GATE.validate_python(given)
            )
        except ValidationError as error:
            told = (f"{'.'.join(map(str, it['loc']))}: {it['msg']}" for it in error.errors())
            raise InvalidQuery(f"spec: {'; '.join(told)}") from error
        if not isinstance(spec, CanaryGate | RollbackGate):
            raise InvalidQuery(f"a backtest is of canary and rollback gates; this is {spec.kind}")
        if body.mode == "aa" and not isinstance(spec, CanaryGate):
            raise InvalidQuery(
                "aa needs two arms to be the same, and a rollback gate holds one against limits: "
                "ask for inject, or for past"
            )
        return spec

    def _told(self, spec: QueriedGate, body: BacktestBody) -> Body:
        wanted = inputs_wanted(spec)
        assert wanted is not None
        first_us, end_us = self._period(wanted, body)
        told: Body = {
            "gate": spec.id,
            "kind": spec.kind,
            "mode": body.mode,
            "spec_hash": spec_hash(spec),
            "start": iso(first_us),
            "end": iso(end_us),
            "blocks": (end_us - first_us) // (wanted.block_s * SECOND_US),
            "block_s": wanted.block_s,
            "alpha_fail": spec.alpha_fail,
        }
        if body.mode == "past":
            return told | {"runs": None} | self._past(spec, wanted, first_us, end_us)
        return told | {"past": []} | self._runs(spec, wanted, first_us, end_us, body)

    def _period(self, wanted: Wanted, body: BacktestBody) -> tuple[int, int]:
        """Whole closed blocks within the period that is asked for."""
        block_us = wanted.block_s * SECOND_US
        closed_us = self._watermark_us() - wanted.mature_s * SECOND_US
        first_us = -(-_micros(body.start) // block_us) * block_us
        end_us = min(_micros(body.end), closed_us) // block_us * block_us
        blocks = (end_us - first_us) // block_us
        if blocks < 1:
            raise InvalidQuery(
                f"there is no whole block of {wanted.block_s} s in the period that closed by now"
            )
        if blocks > MAX_BLOCKS:
            raise InvalidQuery(
                f"{blocks:,} blocks of {wanted.block_s} s are more than {MAX_BLOCKS:,}: ask about a "
                "shorter period"
            )
        return first_us, end_us

    def _runs(
        self, spec: QueriedGate, wanted: Wanted, first_us: int, end_us: int, body: BacktestBody
    ) -> Body:
        is_compared = isinstance(spec, CanaryGate)
        split = Split(
            arm=CONTROL if is_compared else TREATMENT,
            seed=body.seed,
            buckets=BUCKETS if is_compared else 1,
        )
        plain = traffic(self._store, wanted, first_us, end_us, split)
        changed = None
        if body.change is not None:
            change = Change(**body.change.model_dump())
            changed = traffic(self._store, wanted, first_us, end_us, replace(split, change=change))
        draws = _draws(spec, wanted, len(plain.end_us), split.buckets, body)
        found: list[Run] = []
        until_s = self._monotonic_s() + body.max_s
        for run in runs(spec, plain, changed, draws):
            found.append(run)
            if self._monotonic_s() > until_s or self._is_stopping():
                break
        told = {
            "made": len(found),
            "asked": body.runs,
            "lives": len(plain.end_us) // draws.life_blocks,
            "life_s": draws.life_blocks * wanted.block_s,
            "share": draws.treated / draws.buckets if is_compared else None,
            "seed": body.seed,
            "early": early(found),
            "table": [asdict(line) for line in table_of(found)],
            "open_reasons": reasons_of(found),
        }
        return {"units": int(plain.assigned.sum()), "runs": told}

    def _past(self, spec: QueriedGate, wanted: Wanted, first_us: int, end_us: int) -> Body:
        markers = stored_markers(self._store)
        units, told = 0, []
        block_us = wanted.block_s * SECOND_US
        for epoch in past_epochs(spec, markers, first_us, end_us):
            low_us = -(-epoch.start_us // block_us) * block_us
            high_us = epoch.end_us // block_us * block_us
            if low_us >= high_us:
                continue
            mine = traffic(self._store, wanted, low_us, high_us)
            mine = replace(mine, share=past_shares(spec, markers, range(low_us, high_us, block_us)))
            seen = mine.block[mine.arm == TREATMENT]
            if not epoch.is_marked and len(
                seen
            ):  # as a gate without markers: from its first request
                low_us += int(seen.min()) * block_us
                mine = stretch(mine, int(seen.min()), len(mine.end_us))
            units += int(mine.assigned.sum())
            start_us = max(low_us, epoch.start_us)
            verdict = judged(spec, mine, start_us)
            is_decided = verdict.verdict in ("PASS", "FAIL")
            delay_s = (verdict.as_of_us - start_us) / SECOND_US + spec.mature_s
            told.append(
                _shown(epoch, start_us)
                | {"delay_s": delay_s if is_decided else None, "told": verdict.to_dict()}
            )
        return {"units": units, "past": told}


def _draws(
    spec: QueriedGate, wanted: Wanted, blocks: int, buckets: int, body: BacktestBody
) -> Draws:
    life_s = body.life_s or spec.deadline_s or blocks * wanted.block_s
    share = body.share or (spec.share if isinstance(spec, CanaryGate) else None) or 0.5
    life_blocks = min(max(life_s // wanted.block_s, 1), blocks)
    return Draws(body.seed, body.runs, share, buckets, life_blocks)


def _shown(epoch: PastEpoch, start_us: int) -> Body:
    return {"start": iso(start_us), "end": iso(epoch.end_us), "release": epoch.release}


def _micros(time: datetime) -> int:
    return parse_time(time.isoformat())


def routes(backtests: Backtests) -> APIRouter:
    """The route of this module."""
    router = APIRouter(tags=["gates"])
    router.add_api_route(
        "/v1/gates/{gate_id}/backtest",
        backtests.post,
        methods=["POST"],
        response_model=BacktestAnswer,
        responses=described(401, 403, 404, 422, 429, 503),
        summary="A gate over stored history",
    )
    return router
