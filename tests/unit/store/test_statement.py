"""Where the data of an INSERT begins, and where FORMAT stands: found in text, without an engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.store.lexer import tokens
from penstock.store.statement import Statement, format_at, split_insert


@pytest.mark.parametrize(
    ("head", "data"),
    [
        (b"INSERT INTO t FORMAT TSV\n1\n2\n", b"1\n2\n"),
        (b"INSERT INTO t FORMAT TSV\r\n1", b"1"),
        (b"INSERT INTO t FORMAT TSV  \n1", b"1"),
        (b"INSERT INTO t FORMAT TSV 1", b"1"),
        (b"INSERT INTO t FORMAT TSV;\n1", b"1"),
        (b"insert into t format Native\x00\x01", b"\x00\x01"),
        (b"INSERT INTO t FORMAT Native\n\n\x01", b"\n\x01"),
        (b"INSERT INTO t (a, b) VALUES (1, 2)", b" (1, 2)"),
        (b"INSERT INTO t VALUES", b""),
        (b"INSERT INTO TABLE db.t (a) FORMAT CSV\n1", b"1"),
        (b"INSERT INTO `a b`.`format` FORMAT CSV\n1", b"1"),
        (b"INSERT INTO format VALUES (1)", b" (1)"),
        (b"INSERT INTO db.format FORMAT CSV\n1", b"1"),
        (b"INSERT INTO values (`select`, `values`) VALUES (1)", b" (1)"),
        (b"INSERT INTO t SETTINGS async_insert = 0 FORMAT CSV\n1", b"1"),
        (b"INSERT INTO t SETTINGS log_comment = 'a FORMAT x' FORMAT CSV\n1", b"1"),
        (b"INSERT /* FORMAT x */ INTO t -- VALUES\n FORMAT CSV\n1", b"1"),
        (b"-- a comment\nINSERT INTO t FORMAT CSV\n1", b"1"),
        (b"INSERT INTO t (* EXCEPT(a)) FORMAT CSV\n1", b"1"),
        (b"INSERT INTO FUNCTION file('x', 'CSV') FORMAT CSV\n1", b"1"),
        (b"INSERT INTO t FORMAT RowBinary \xff\xfe", b"\xff\xfe"),
    ],
)
def test_data_begins_behind_the_statement(head: bytes, data: bytes) -> None:
    at = split_insert(head)
    assert at is not None
    assert head[at:] == data


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"SELECT 1 FORMAT TSV\n",
        b"INSERT INTO t SELECT 1 FORMAT TSV",
        b"INSERT INTO t (a) WITH 1 AS x SELECT x",
        b"INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        b"INSERT INTO t",
        b"INSERT INTO t FORMAT",
        b"SELECT 'INSERT INTO t FORMAT CSV'",
        b"CREATE TABLE t (a UInt8)",
        b"(INSERT INTO t FORMAT CSV",
    ],
)
def test_what_is_no_insert_with_data(head: bytes) -> None:
    assert split_insert(head) is None


@given(st.binary())
def test_data_is_cut_off_whatever_it_holds(data: bytes) -> None:
    head = b"INSERT INTO t (a) FORMAT Native\n"
    at = split_insert(head + data)
    assert at == len(head)


@given(st.text())
def test_tokens_lie_behind_each_other(text: str) -> None:
    end = 0
    for token in tokens(text):
        assert end <= token.start < token.end <= len(text)
        end = token.end


@given(st.text(alphabet="ab'`\"\\\n;()"))
def test_a_string_ends_where_its_quote_ends(content: str) -> None:
    quoted = "'" + content.replace("\\", "\\\\").replace("'", "\\'") + "'"
    found = list(tokens(f"SELECT {quoted}, x"))
    assert [token.text for token in found] == ["SELECT", content, ",", "x"]
    assert found[1].kind == "string"


@pytest.mark.parametrize(
    ("name", "read"),
    [("`a b`", "a b"), ('"a\\x62"', "ab"), ("`a``b`", "a`b"), (r"`\`x`", "`x"), ("plain", "plain")],
)
def test_names_are_read_without_their_quotes(name: str, read: str) -> None:
    (token,) = tokens(name)
    assert token.is_name
    assert token.text == read


@pytest.mark.parametrize(
    ("canonical", "form", "into"),
    [
        ("SELECT 1", "", "SELECT 1 INTO OUTFILE '/p' TRUNCATE FORMAT JSON"),
        ("SELECT 1 FORMAT JSON", "JSON", "SELECT 1 INTO OUTFILE '/p' TRUNCATE FORMAT JSON"),
        (
            "SELECT 1 FORMAT JSON SETTINGS a = 'FORMAT x'",
            "JSON",
            "SELECT 1 INTO OUTFILE '/p' TRUNCATE FORMAT JSON SETTINGS a = 'FORMAT x'",
        ),
        ("SELECT 1 FORMAT `Null`", "Null", "SELECT 1 INTO OUTFILE '/p' TRUNCATE FORMAT JSON"),
        ("SELECT ' FORMAT JSON'", "", None),
        ("SELECT a ORDER BY FORMAT ASC", "", None),
        ("SELECT FORMAT", "", None),
    ],
)
def test_format_at_the_end(canonical: str, form: str, into: str | None) -> None:
    statement = Statement(canonical, canonical, {"type": "SelectWithUnionQuery"})
    assert statement.form == form
    assert (format_at(canonical) is not None) == bool(form)
    if into is not None:
        assert statement.into("/p", "JSON") == into


def test_an_insert_takes_its_data_from_a_file() -> None:
    canonical = "INSERT INTO t (a, b) SETTINGS log_comment = ' FORMAT x' FORMAT Values"
    tree = {"type": "InsertQuery", "format": "Values"}
    statement = Statement(canonical, canonical, tree, takes_data=True)
    assert statement.form == "Values"
    assert statement.insert_from("/p") == (
        "INSERT INTO t (a, b) FROM INFILE '/p' SETTINGS log_comment = ' FORMAT x' FORMAT Values"
    )
    statement = Statement("", "INSERT INTO penstock.settings FORMAT Values", tree, takes_data=True)
    assert (
        statement.insert_from("/p")
        == "INSERT INTO penstock.settings FROM INFILE '/p'  FORMAT Values"
    )
