"""The API over a real store, for every contract test: in the process, and behind HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.api import CONFIGURATION, Client, Ingest
from penstock.tests.support.chstore import StoreServer
from penstock.tests.support.store import opened_store


@pytest.fixture(scope="module", params=["embedded", "distributed"])
def form(request: pytest.FixtureRequest) -> str:
    """Where the store is: in this process, or behind HTTP with a user of the API's own."""
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def stores(form: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    """The store as its writers see it, and as the API does."""
    folder = tmp_path_factory.mktemp("store")
    if form == "embedded":
        with opened_store(folder) as opened:
            yield opened, opened
        return
    server = StoreServer(folder)
    server.start()
    try:
        writer, reader = Store(server.url), Store(server.api_url)
        migrate(writer)
        yield writer, reader
        reader.close()
        writer.close()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def store(stores: tuple[Store, Store]) -> Store:
    return stores[0]


@pytest.fixture(scope="module")
def api_store(stores: tuple[Store, Store]) -> Store:
    return stores[1]


@pytest.fixture
def ingest() -> Ingest:
    return Ingest()


@pytest.fixture
def app(api_store: Store, ingest: Ingest) -> FastAPI:
    return build_app(ingest, api_store, CONFIGURATION, Access(required=False))


@pytest.fixture
def client(app: FastAPI) -> Client:
    return Client(app)
