"""The API over a real store, for every contract test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.streams.store import Store
from penstock.tests.support.api import CONFIGURATION, Client, Ingest
from penstock.tests.support.store import opened_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened_store(tmp_path_factory.mktemp("store")) as opened:
        yield opened


@pytest.fixture
def ingest() -> Ingest:
    return Ingest()


@pytest.fixture
def app(store: Store, ingest: Ingest) -> FastAPI:
    return build_app(ingest, store, CONFIGURATION, Access(required=False))


@pytest.fixture
def client(app: FastAPI) -> Client:
    return Client(app)
