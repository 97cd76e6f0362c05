"""Verdicts computed again from what is stored of what their gates counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ....schemas.gates import LiveGate
from ....schemas.gates.absolute import AbsoluteGate
from ....schemas.gates.budget import BudgetGate
from ..gating import Epoch, GateKeeper
from ..slo.burn import BurnStatus
from ..slo.status import ObjectiveStatus
from ..tiles import SECOND_US
from .blocks import Block, evaluations
from .budget import budget_verdict
from .live import QueriedGate, advance, begin, inputs_wanted
from .verdict import Verdict


def replayed(
    spec: LiveGate, epoch: int, blocks: Sequence[Block], start_us: int | None = None
) -> Iterator[tuple[int, Verdict]]:
    """(event time in us, verdict) of every evaluation that is stored; of one time there may be several.

    Args:
        spec: the gate, as it was then.
        epoch: of the blocks.
        blocks: all of the epoch, in event-time order.
        start_us: where the epoch began, None for the start of its first block.
    """
    if isinstance(spec, BudgetGate):
        for block in blocks:
            yield block.end_us, verdict_of_budget(spec, block)
    elif isinstance(spec, AbsoluteGate):
        keeper = GateKeeper(spec, epoch=Epoch(epoch))
        for block in blocks:
            for verdict in keeper.replay(block.text):
                yield verdict.watermark_us, verdict
    elif blocks:
        yield from _live(spec, epoch, blocks, start_us)


def verdict_of_budget(spec: BudgetGate, block: Block) -> Verdict:
    """The answer that a stored status of its objective gives."""
    found = json.loads(block.text)
    status = None
    if found:
        burns = tuple(BurnStatus(**burn) for burn in found[0].pop("burns"))
        status = ObjectiveStatus(**found[0], burns=burns)
    return budget_verdict(spec, status, block.context.watermark_us)


def _live(
    spec: QueriedGate, epoch: int, blocks: Sequence[Block], start_us: int | None
) -> Iterator[tuple[int, Verdict]]:
    wanted = inputs_wanted(spec)
    assert wanted is not None
    first_us = blocks[0].end_us - wanted.block_s * SECOND_US
    state = begin(spec, epoch, first_us if start_us is None else start_us)
    for inputs, context in evaluations(wanted, blocks):
        state, verdict = advance(spec, state, inputs, context)
        yield context.watermark_us, verdict
