"""What several commands share."""

STORE_HELP = "chdb:///folder or clickhouse://user:password@host:8123/penstock"
KAFKA_HELP = "host:9092[,host:9092] or kafka://user:password@host:9092?tls=true&sasl=SCRAM-SHA-512"
