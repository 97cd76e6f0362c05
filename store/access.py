"""What each role may do, told to the engine: roles with grants, limits with constraints.

The engine reads this once, when the first connection of a process opens the folder. Every connection
is its user `default`, who has no privileges but these roles; each connection takes one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .users import Role

ROOT = "penstock_root"

# Clients that name no database name `default`; it is empty, and stays so.
_DEFAULT = "GRANT SHOW DATABASES ON default.*"
_GRANTS: dict[Role, tuple[str, ...]] = {
    # Everything in the database; no sources (files, URLs, other servers), dictionaries or backups.
    "writer": (
        "GRANT SHOW, SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW,"
        " DROP DATABASE, DROP TABLE, DROP VIEW, UNDROP TABLE, TRUNCATE, OPTIMIZE, CHECK"
        " ON penstock.*",
        "GRANT CREATE TEMPORARY TABLE, SHOW DATABASES ON *.*",
    ),
    "reader": ("GRANT SHOW, SELECT ON penstock.*", _DEFAULT),
    # Beside the probe, what people set through the API, and the log of who did.
    "api": (
        "GRANT SHOW, SELECT ON penstock.*",
        "GRANT INSERT ON penstock.probe",
        "GRANT INSERT ON penstock.silences_rows",
        "GRANT INSERT ON penstock.acknowledgements_rows",
        "GRANT INSERT ON penstock.drift_references_rows",
        "GRANT INSERT ON penstock.audit_log_rows",
        _DEFAULT,
    ),
}

# Settings that name a file or an address, hold SQL that no check sees, change the language, or decide
# what this interface decides: nobody's to set.
FROZEN = (
    "additional_result_filter",
    "additional_table_filters",
    "ai_function_embedding_default_credentials",
    "ai_function_text_default_credentials",
    "allow_experimental_eval_table_function",
    "allow_introspection_functions",
    "compression",
    "default_format",
    "default_materialized_view_sql_security",
    "default_normal_view_sql_security",
    "default_view_definer",
    "dialect",
    "filter",
    "format",
    "format_avro_schema_registry_url",
    "format_schema",
    "format_schema_source",
    "format_template_resultset",
    "format_template_row",
    "framing_output_format",
    "implicit_select",
    "implicit_table_at_top_level",
    "input_format",
    "input_format_record_errors_file_path",
    "order",
    "output_format",
    "output_format_schema",
    "parallel_replicas_custom_key",
    "polyglot_dialect",
    "rename_files_after_processing",
    "s3_base",
    "select",
    "sort",
    "url_base",
)
# What a connection starts with, before its role freezes it.
_BASE: dict[str, str | int] = {
    "allow_introspection_functions": 0,
    "default_materialized_view_sql_security": "INVOKER",
    "implicit_select": 0,
}
# Data in the format Values may hold expressions; only a writer's are looked through.
NO_EXPRESSIONS = {
    "input_format_values_interpret_expressions": 0,
    "input_format_values_deduce_templates_of_expressions": 0,
}


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """What one query of a reader may cost; a reader may ask for less, never for more.

    Attributes:
        max_execution_time_s: seconds that it may run.
        max_result_rows: rows that it may answer.
        max_result_bytes: bytes that it may answer, before encoding.
        max_memory_bytes: memory that it may take.
        max_threads: threads that it may run in.
    """

    max_execution_time_s: int = 30
    max_result_rows: int = 1_000_000
    max_result_bytes: int = 1 << 30
    max_memory_bytes: int = 4 << 30
    max_threads: int = 8

    def settings(self) -> dict[str, int]:
        """As settings of the engine."""
        return {
            "max_execution_time": self.max_execution_time_s,
            "max_result_rows": self.max_result_rows,
            "max_result_bytes": self.max_result_bytes,
            "max_memory_usage": self.max_memory_bytes,
            "max_threads": self.max_threads,
        }


def within_limits(role: Role, settings: Mapping[str, str], limits: ReaderLimits) -> dict[str, str]:
    """The settings of a request, a reader's lowered to its limits.

    Clients send limits that nobody typed (clickhouse-go: max_execution_time), so that is no error;
    0 means without a limit. In the text of a statement the engine refuses what is too much.
    """
    most = limits.settings() if role == "reader" else {}
    return {
        name: str(most[name])
        if name in most and value.isdigit() and not 0 < int(value) <= most[name]
        else value
        for name, value in settings.items()
    }


def initial_settings(role: Role, limits: ReaderLimits) -> dict[str, str | int]:
    """The settings that a connection of a role is opened with.

    With readonly = 2 the engine itself refuses to write, and to change readonly.
    """
    if role == "writer":
        return _BASE
    if role == "api":
        return _BASE | NO_EXPRESSIONS
    return _BASE | NO_EXPRESSIONS | limits.settings() | {"readonly": 2}


def take_role(role: Role) -> tuple[str, str]:
    """The statements that make a fresh connection one of this role."""
    name = f"penstock_{role}"
    return f"SET profile = '{name}'", f"SET ROLE {name}"


def write_config(folder: Path, limits: ReaderLimits) -> Path:
    """Write the engine's configuration and return its path."""
    users = folder / "users.xml"
    users.write_text(_users_xml(limits), encoding="utf-8")
    config = folder / "config.xml"
    config.write_text(
        f"<clickhouse><users_config>{users}</users_config></clickhouse>\n", encoding="utf-8"
    )
    return config


def _users_xml(limits: ReaderLimits) -> str:
    frozen = "".join(f"<{name}><const/></{name}>" for name in FROZEN)
    no_expressions = "".join(f"<{name}><const/></{name}>" for name in NO_EXPRESSIONS)
    bounds = "".join(
        f"<{name}><min>1</min><max>{value}</max></{name}>"
        for name, value in limits.settings().items()
    )
    constraints: dict[Role, str] = {
        "writer": frozen,
        "reader": frozen + no_expressions + bounds,
        "api": frozen + no_expressions,
    }
    profiles = "".join(
        f"<penstock_{role}><constraints>{text}</constraints></penstock_{role}>"
        for role, text in constraints.items()
    )
    roles = "".join(_role_xml(f"penstock_{role}", grants) for role, grants in _GRANTS.items())
    roles += _role_xml(ROOT, ["GRANT ALL ON *.*"])
    granted = ", ".join([*(f"penstock_{role}" for role in _GRANTS), ROOT])
    return (
        "<clickhouse>"
        f"<profiles><default/>{profiles}</profiles>"
        f"<roles>{roles}</roles>"
        "<users><default><password></password><networks><ip>::/0</ip></networks>"
        "<profile>default</profile><quota>default</quota>"
        f"<grants><query>GRANT {granted}</query></grants></default></users>"
        "<quotas><default/></quotas>"
        "</clickhouse>\n"
    )


def _role_xml(name: str, grants: Iterable[str]) -> str:
    queries = "".join(f"<query>{grant}</query>" for grant in grants)
    return f"<{name}><grants>{queries}</grants></{name}>"
