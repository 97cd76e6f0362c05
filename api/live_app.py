"""The application under the configuration in force: built anew when that changes.

Whatever is under way in the former application ends with its own configuration; streams and waits of
it end soon, as when a server stops, and their clients come back to the new one.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from ..schemas.config import Configuration

IsStopping = Callable[[], bool]
Build = Callable[[Configuration, IsStopping], ASGIApp]


class LiveApp:
    """An ASGI application that follows the configuration. For one event loop.

    Args:
        build: makes the application under a configuration; the second argument tells its open
            streams when to end.
        newest: the configuration in force, the same object for as long as it is the same.
        is_stopping: whether the server was told to end.
    """

    def __init__(
        self, build: Build, newest: Callable[[], Configuration], is_stopping: IsStopping
    ) -> None:
        self._build = build
        self._newest = newest
        self._is_stopping = is_stopping
        self._configuration = newest()
        self._app = self._built(self._configuration)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request by the application of the moment."""
        newest = self._newest()
        if newest is not self._configuration:
            self._configuration = newest
            self._app = self._built(newest)
        await self._app(scope, receive, send)

    def _built(self, configuration: Configuration) -> ASGIApp:
        def is_over() -> bool:
            return self._is_stopping() or self._newest() is not configuration

        return self._build(configuration, is_over)
