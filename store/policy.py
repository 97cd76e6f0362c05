"""What no grant of the engine covers: statements, functions, system tables and settings by role.

It walks over the tree of the engine's own parser. Grants, limits and frozen settings are the
engine's to enforce (access.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .engine import Engine
from .errors import QueryFailed
from .lexer import tokens
from .request import Request
from .statement import Statement
from .users import Role, User

_READS = frozenset(
    {
        "DescribeQuery",
        "ExistsDatabaseQuery",
        "ExistsTableQuery",
        "ExistsViewQuery",
        "ExplainQuery",
        "SelectIntersectExceptQuery",
        "SelectQuery",
        "SelectWithUnionQuery",
        "SetQuery",
        "ShowColumnsQuery",
        "ShowCreateDatabaseQuery",
        "ShowCreateTableQuery",
        "ShowCreateViewQuery",
        "ShowEngineQuery",
        "ShowFunctions",
        "ShowGrantsQuery",
        "ShowIndexesQuery",
        "ShowTablesQuery",
        "UseQuery",
    }
)
_WRITES = frozenset(
    {
        "AlterQuery",
        "CheckTableQuery",
        "CreateIndexQuery",
        "CreateQuery",
        "DeleteQuery",
        "DropIndexQuery",
        "DropQuery",
        "InsertQuery",
        "OptimizeQuery",
        "RenameQuery",
        "UndropQuery",
        "UpdateQuery",
    }
)
_STATEMENTS: Mapping[Role, frozenset[str]] = {
    "writer": _READS | _WRITES,
    "reader": _READS,
    "api": _READS | {"InsertQuery"},
}
# Table functions that reach nothing outside the query.
_TABLE_FUNCTIONS = frozenset(
    {
        "generate_series",
        "generaterandom",
        "generateseries",
        "null",
        "numbers",
        "numbers_mt",
        "primes",
        "sqlstandardvalues",
        "values",
        "view",
        "viewifpermitted",
        "zeros",
        "zeros_mt",
    }
)
# Functions that no grant guards here; also their bare names, for arrayMap(file, ...) calls them too.
_DENIED_NAMES = frozenset({"catboostevaluate", "file"})
_ENGINES = re.compile(
    r"(Replacing|Summing|Aggregating|Collapsing|VersionedCollapsing|Coalescing|Graphite)?MergeTree"
    r"|Memory|Null|Log|TinyLog|StripeLog|Set|Join|View|MaterializedView|Atomic"
)
_SETTINGS = frozenset({"database", "disk", "profile", "storage_policy"})
_SYSTEM = frozenset({"system"})
_SYSTEM_TABLES = frozenset(
    {
        "aggregate_function_combinators",
        "build_options",
        "collations",
        "columns",
        "contributors",
        "current_roles",
        "data_skipping_indices",
        "data_type_families",
        "database_engines",
        "databases",
        "dictionaries",
        "documentation",
        "enabled_roles",
        "formats",
        "functions",
        "keywords",
        "licenses",
        "merge_tree_settings",
        "numbers",
        "numbers_mt",
        "one",
        "projections",
        "settings",
        "statements",
        "table_engines",
        "table_functions",
        "tables",
        "time_zones",
        "zeros",
        "zeros_mt",
    }
)
_DATABASES = ("", "default", "penstock", "information_schema", "INFORMATION_SCHEMA")
# The data of INSERT ... VALUES that is looked through; longer data may hold no expressions.
VALUES_LOOKED_THROUGH_BYTES = 1 << 20


class Policy:
    """The rules; the engine says which table functions it has."""

    def __init__(self, engine: Engine) -> None:
        listed = engine.ask(
            "SELECT lower(name) FROM system.table_functions"
            " WHERE lower(name) NOT IN (SELECT lower(name) FROM system.functions)"
        )
        self._denied_calls = frozenset(listed.split()) - _TABLE_FUNCTIONS | _DENIED_NAMES

    def check(self, user: User, statement: Statement, request: Request) -> None:
        """Refuse what a user may not do.

        Raises:
            QueryFailed: with ClickHouse's code for it.
        """
        kind = statement.kind
        if kind not in _STATEMENTS[user.role]:
            raise _denied(user, f"a {user.role} may not run this ({kind})")
        if request.method != "POST" and kind not in _READS:
            raise QueryFailed(
                164,
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies "
                "readonly. You should use method POST for modifying queries",
            )
        _check_names(user, statement.canonical)
        for key, node in _nodes(statement.tree):
            self._check_node(user, key, node)
            _check_tables(user, node, request.parameters)
        _check_settings(user, set(request.settings))
        _check_database(user, request.database)
        if kind == "UseQuery":
            _check_database(user, statement.tree["database"]["name"])

    def _check_node(self, user: User, key: str, node: Mapping[str, Any]) -> None:
        if "out_file" in node:
            raise QueryFailed(358, "INTO OUTFILE is not allowed")
        if "infile" in node:
            raise QueryFailed(78, "Query has infile and was send directly to server")
        kind = node.get("type")
        if kind == "SQLSecurity" and node.get("security_type") != "INVOKER":
            raise _denied(user, "SQL SECURITY must be INVOKER")
        if kind == "CreateQuery" and (node.get("is_dictionary") or node.get("attach")):
            raise _denied(user, "dictionaries and ATTACH are not available")
        if kind == "SetQuery":
            names = {change["name"] for change in node.get("changes", ())}
            _check_settings(user, names | set(node.get("default_settings", ())))
        if kind == "Function":
            self._check_function(user, key, node)

    def _check_function(self, user: User, key: str, node: Mapping[str, Any]) -> None:
        name = str(node["name"])
        if node.get("kind", "").endswith("_ENGINE"):
            if not _ENGINES.fullmatch(name):
                raise _denied(user, f"the engine {name} is not available")
        elif "table_function" in key:
            if name.lower() not in _TABLE_FUNCTIONS:
                raise _denied(user, f"the table function {name} is not available")
        elif name.lower() in self._denied_calls:
            raise _denied(user, f"the function {name} is not available")


def has_denied_name(data: bytes) -> bool:
    """Whether data of the format Values names a function that is not available."""
    if not re.search(rb"file|catboost|[`\"]", data, re.IGNORECASE):
        return False
    return any(
        token.is_name and token.text.lower() in _DENIED_NAMES
        for token in tokens(data.decode("utf-8", "replace"))
    )


def _check_settings(user: User, names: set[str]) -> None:
    if denied := names & _SETTINGS:
        raise _denied(user, f"the setting {min(denied)} is not available")


def _check_database(user: User, name: str) -> None:
    """Refuse a current database, whose tables could be reached without saying its name."""
    if user.role != "writer" and name not in _DATABASES:
        raise _denied(user, f"the database {name} is not available")


def _check_names(user: User, canonical: str) -> None:
    words = list(tokens(canonical))
    for word, behind in zip(words, [*words[1:], None], strict=True):
        name = word.text.lower()
        if not word.is_name:
            continue
        if name in _DENIED_NAMES:
            raise _denied(user, f"the name {word.text} is not available")
        if name == "disk" and behind is not None and behind.is_sign("("):
            raise _denied(user, "disks are not available")


def _check_tables(user: User, node: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
    kind = node.get("type")
    if kind in ("Identifier", "TableIdentifier"):
        parts = [str(part) for part in node.get("name_parts", ())]
    elif kind == "QueryParameter" and node.get("param_type") == "Identifier":
        parts = parameters.get(str(node["name"]), "").split(".")
        if parts[-1].lower() in _DENIED_NAMES:
            raise _denied(user, f"the name {parts[-1]} is not available")
        # It may be the first half of a name whose second half is another parameter.
        parts = [*parts, ""]
    else:
        return
    if user.role == "writer" or len(parts) < 2 or parts[0] not in _SYSTEM:
        return
    if parts[1] not in _SYSTEM_TABLES:
        raise _denied(user, f"the table system.{parts[1]} is not available")


def _nodes(tree: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node of a tree, with the key that it stands under."""
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Mapping):
            yield key, value
            waiting.extend(value.items())
        elif isinstance(value, list):
            waiting.extend((key, inner) for inner in value)


def _denied(user: User, reason: str) -> QueryFailed:
    return QueryFailed(497, f"{user.name}: Not enough privileges: {reason}")
