from __future__ import annotations

import numpy as np
import pyarrow as pa
from penstock.streams.core.columns import (
    booleans,
    codes_in,
    dictionary,
    floats,
    integers,
    list_members,
)

TABLE = pa.table(
    {
        "n": pa.array([1, None, 3], pa.int64()),
        "whole": pa.array([1, 2, 3], pa.uint32()),
        "f": pa.array([0.5, None, 2.0]),
        "b": pa.array([True, None, False]),
        "label": pa.array(["x", None, "y"]).dictionary_encode(),
        "text": pa.array(["x", "", "y"]),
        "flags": pa.array([["a", "b"], None, []], pa.list_(pa.string())),
    }
)
SPLIT = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
EMPTY = TABLE.slice(0, 0)


def test_values_and_where_they_are() -> None:
    for table in (TABLE, SPLIT):
        assert [part.tolist() for part in integers(table, "n")] == [[1, 0, 3], [True, False, True]]
        assert [part.tolist() for part in integers(table, "whole")] == [[1, 2, 3], [True] * 3]
        assert [p.tolist() for p in floats(table, "f")] == [[0.5, 0.0, 2.0], [True, False, True]]
        assert [p.tolist() for p in booleans(table, "b")] == [
            [True, False, False],
            [True, False, True],
        ]


def test_an_absent_column_is_missing_everywhere() -> None:
    for read in (integers, floats, booleans):
        values, valid = read(TABLE, "no")
        assert not values.any()
        assert not valid.any()
        assert len(values) == len(valid) == 3
    assert dictionary(TABLE, "no")[1] == [""]
    assert codes_in(TABLE, "no", ("x",)).tolist() == [-1, -1, -1]
    rows, members = list_members(TABLE, "no")
    assert (rows.tolist(), members) == ([], [])


def test_labels_as_codes_whether_encoded_or_not() -> None:
    for table in (TABLE, SPLIT):
        for name in ("label", "text"):
            codes, values = dictionary(table, name)
            assert [values[code] for code in codes.tolist()] == ["x", "", "y"]
            assert codes_in(table, name, ("y", "x")).tolist() == [1, -1, 0]


def test_members_of_lists() -> None:
    rows, members = list_members(TABLE, "flags")
    assert (rows.tolist(), members) == ([0, 0], ["a", "b"])


def test_empty_tables() -> None:
    for name in ("n", "whole"):
        assert len(integers(EMPTY, name)[0]) == 0
    no_chunks = pa.table({"n": pa.chunked_array([], pa.int64())})
    assert integers(no_chunks, "n")[0].dtype == np.int64
    assert len(floats(EMPTY, "f")[0]) == len(booleans(EMPTY, "b")[0]) == 0
    assert dictionary(EMPTY, "label")[0].tolist() == []
