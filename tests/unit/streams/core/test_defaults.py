"""What a request means that states no status."""

from __future__ import annotations

from typing import Any, cast

import pyarrow as pa
from penstock.streams.core.defaults import with_status


def table(**columns: list[object]) -> pa.Table:
    labels = {"status", "error_type"}
    return pa.table(
        {
            name: pa.array(values, pa.string()).dictionary_encode()
            if name in labels
            else pa.array(cast("Any", values))
            for name, values in columns.items()
        }
    )


def test_absent_is_ok_or_an_error() -> None:
    told = with_status(table(seq=[1, 2, 3], error_type=[None, "oom", None]))
    assert told["status"].to_pylist() == ["ok", "error", "ok"]


def test_what_is_stated_stays() -> None:
    before = table(seq=[1, 2], status=["timeout", "ok"])
    assert with_status(before) is before
    mixed = table(seq=[1, 2], status=["timeout", None])
    assert with_status(mixed)["status"].to_pylist() == ["timeout", "ok"]


def test_an_announcement_has_none() -> None:
    told = with_status(table(seq=[1, 2], overdue=[True, None]))
    assert told["status"].to_pylist() == [None, "ok"]
    alone = table(seq=[1], overdue=[True])
    assert with_status(alone) is alone
