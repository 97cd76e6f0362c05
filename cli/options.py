"""What several commands share."""

STORE_HELP = "chdb:///folder or clickhouse://user:password@host:8123/penstock"
