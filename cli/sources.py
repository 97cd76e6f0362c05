"""Where commands ask for signals: the API of a server, or a store without one. Both answer alike."""

from __future__ import annotations

import getpass
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from ..schemas.errors import InvalidConfiguration, InvalidQuery, NotFound, PenstockError
from .options import STORE_HELP

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..schemas.config import Configuration
    from ..streams.storage.store import Store

Body = dict[str, Any]
M = TypeVar("M", bound="BaseModel")


class Source(Protocol):
    """Answers as docs/api.md has them, with times as ISO 8601."""

    def ask(self, path: str, **query: Any) -> Body:
        """GET of a path.

        Raises:
            PenstockError: it cannot be answered; the text says what to do.
        """
        ...

    def tell(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Body:
        """POST or DELETE of a path.

        Raises:
            PenstockError: it was refused, or its outcome is unknown.
        """
        ...


class HttpSource:
    """The API of a server.

    Args:
        url: http:// or https:// address of it.
        api_key: bearer key, where the server asks for one.
        timeout_s: limit of each question.

    Raises:
        InvalidConfiguration: the URL is not one of HTTP.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout_s: float = 60.0) -> None:
        if not re.match(r"https?://[^/]", url):
            raise InvalidConfiguration(f"--url is an http(s) address, not {url!r}")
        self._url = url.rstrip("/")
        self._headers = {"User-Agent": "penstock", "Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout_s = timeout_s
        # Straight to the server, whatever proxies the environment names.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, path: str, **query: Any) -> Body:
        """See `Source.ask`."""
        given = {name: value for name, value in query.items() if value is not None}
        return self.tell(
            "GET", f"{path}?{urllib.parse.urlencode(given, doseq=True)}" if given else path
        )

    def tell(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Body:
        """See `Source.tell`."""
        data = None if body is None else json.dumps(body).encode()
        return self.send(method, path, data)

    def send(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str] | None = None
    ) -> Body:
        """Bytes as they are, to a path.

        Raises:
            PenstockError: as `Source.tell`.
        """
        every = {**self._headers, **(headers or {})}
        request = urllib.request.Request(self._url + path, data, every, method=method)
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                found: Body = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            with error:
                raise PenstockError(_detail(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise PenstockError(f"{self._url} did not answer: {error}") from error
        except ValueError as error:
            raise PenstockError(f"{self._url}{path} answers no JSON: is it Penstock?") from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {error.code}"


class StoreSource:
    """A store, asked with the API's own code.

    Args:
        store: of a server that is stopped (`chdb://`), or any of `clickhouse://`.
        configuration: for filters, composites, budgets and silences; None shows what the store has.
        wall_us: the clock, integer microseconds since 1970.
    """

    def __init__(
        self, store: Store, configuration: Configuration | None, wall_us: Callable[[], int]
    ) -> None:
        from ..api.alerts import Alerts
        from ..api.costs import Costs
        from ..api.drift import Drift
        from ..api.drift_examples import Examples
        from ..api.drift_references import StoredReferences
        from ..api.silences import Said
        from ..api.slos import Slos
        from ..schemas.alerts.section import Alerts as Section

        known = configuration
        section = Section() if known is None else known.alerts
        self._said = Said(store, section.silences, wall_us)
        self._alerts = Alerts(store, section, self._said)
        self._slos = Slos(store, None if known is None else known.objectives)
        self._costs = Costs(store, None if known is None else known.costs)
        monitors = None if known is None else known.drift.monitors
        self._drift = Drift(store, monitors)
        self._examples = Examples(store)
        self._references = StoredReferences(store, monitors or (), wall_us)

    def ask(self, path: str, **query: Any) -> Body:
        """See `Source.ask`."""
        from ..api.alerts import AlertsAsk, SilencesAsk
        from ..api.costs import CostsAsk
        from ..api.slos import SloAsk

        given = {name: value for name, value in query.items() if value is not None}
        _, _, kind, *rest = path.split("/")
        if kind == "slos":
            body = self._slos.one(rest[0], _valid(SloAsk, given)) if rest else self._slos.all()
        elif kind == "costs":
            body = self._costs.all(_valid(CostsAsk, given))
        elif kind == "drift":
            body = self._of_drift(rest, given)
        elif kind == "silences":
            body = {"silences": self._said.listed(_valid(SilencesAsk, given).state)}
        elif rest:
            body = self._alerts.one(rest[0])
        else:
            body = self._alerts.all(_valid(AlertsAsk, given))
        return _as_json(body)

    def _of_drift(self, rest: Sequence[str], given: Mapping[str, Any]) -> Body:
        from ..api.drift import DriftAsk
        from ..api.drift_examples import ExamplesAsk
        from ..api.drift_references import ReferencesAsk

        if not rest:
            return self._drift.all(_valid(DriftAsk, given))
        if rest == ["references"]:
            return self._references.all(_valid(ReferencesAsk, given))
        return self._examples.of(rest[0], _valid(ExamplesAsk, given))

    def tell(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Body:
        """See `Source.tell`."""
        from ..api.drift_references import ReferenceBody
        from ..api.silences import AcknowledgeBody, SilenceBody

        _, _, kind, *rest = path.split("/")
        who = f"{getpass.getuser()} (at the store)"
        if method == "DELETE":
            return _as_json(self._said.end(rest[0], who))
        if kind == "drift":
            return _as_json(self._references.keep(_valid(ReferenceBody, body)))
        if kind == "silences":
            return _as_json(self._said.silence(_valid(SilenceBody, body), who))
        taken = self._alerts.acknowledge(rest[0], _valid(AcknowledgeBody, body), who)
        return _as_json(taken)


def _valid(model: type[M], given: Any) -> M:
    from pydantic import ValidationError

    try:
        return model.model_validate(given)
    except ValidationError as error:
        told = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise InvalidQuery("; ".join(told)) from error


def _as_json(body: Body) -> Body:
    from ..api.answers import encode

    found: Body = json.loads(encode(body))
    return found


_OPTIONS = (
    click.option("--url", help="Of a server: http://host:port"),
    click.option("--api-key", envvar="PENSTOCK_API_KEY", help="Key for --url."),
    click.option("--store", envvar="PENSTOCK_STORE", help=f"Instead of --url: {STORE_HELP}"),
    click.option(
        "--config",
        envvar="PENSTOCK_CONFIG",
        type=click.Path(path_type=Path),
        help="penstock.yaml, for --store: what is not in the store.",
    ),
)


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `opened` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@contextmanager
def opened(
    url: str | None, api_key: str | None, store: str | None, config: Path | None
) -> Iterator[Source]:
    """The source that the options name; a server comes before a store."""
    from ..schemas.config import load

    if url is not None:
        yield HttpSource(url, api_key)
        return
    if store is None:
        raise click.UsageError("where to ask: --url of a server, or --store")
    with opened_store(store) as found:
        configuration = None if config is None else load(config)
        yield StoreSource(found, configuration, lambda: time.time_ns() // 1000)


@contextmanager
def opened_store(url: str) -> Iterator[Store]:
    """A store that is there already."""
    from ..streams.storage.store import Store

    store = Store(url)
    if store.folder is not None and not store.folder.exists():
        raise NotFound(f"there is no folder {store.folder}")
    try:
        yield store
    finally:
        store.close()
