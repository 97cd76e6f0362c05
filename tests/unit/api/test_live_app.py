from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from penstock.api.live_app import LiveApp
from penstock.schemas.config import Configuration
from starlette.types import Receive, Scope, Send


def test_each_request_meets_the_configuration_in_force() -> None:
    newest, stopping = [Configuration()], [False]
    built: list[Callable[[], bool]] = []
    asked: list[Configuration] = []

    def build(configuration: Configuration, is_over: Callable[[], bool]) -> Any:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            asked.append(configuration)

        built.append(is_over)
        return app

    live = LiveApp(build, lambda: newest[0], lambda: stopping[0])
    nowhere: Any = None

    def ask() -> None:
        asyncio.run(live({"type": "http"}, nowhere, nowhere))

    ask()
    ask()
    assert (len(built), built[0]()) == (1, False)
    former, newest[0] = newest[0], Configuration()
    assert built[0]()  # its streams end as soon as there is another one
    ask()
    assert (len(built), built[1]()) == (2, False)
    assert [one is former for one in asked] == [True, True, False]
    stopping[0] = True
    assert built[1]()
