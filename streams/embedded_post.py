"""One POST on its way into the store of the embedded form."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from ..schemas.errors import PenstockError
from ..schemas.ports import Receipt
from .core.decode import Batch
from .core.ingest import Arrival
from .core.json_events import Rejected


@dataclass(slots=True)
class Post:
    """Decoded, waiting to be durable."""

    batches: list[tuple[Batch, Arrival]]
    rejected: list[Rejected]
    events: int
    boot_id: str
    body_hash: int
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Receipt]
    arrived: float = field(default_factory=time.perf_counter)

    def resolve(self, result: Receipt | PenstockError) -> None:
        """Answer from the ingest thread."""

        def finish() -> None:
            if self.answer.done():
                return
            if isinstance(result, PenstockError):
                self.answer.set_exception(result)
            else:
                self.answer.set_result(result)

        self.loop.call_soon_threadsafe(finish)
