"""ClickHouse's HTTP interface over the embedded engine: one node for small installations and tests."""
