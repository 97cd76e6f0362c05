-- Messages to receivers of alerts, and who may send them.

CREATE TABLE IF NOT EXISTS penstock.deliveries_rows
(
    `key` String COMMENT 'Idempotency key of the message.',
    `queue` LowCardinality(String) COMMENT 'Whose outbox it is in: one dispatcher works on it.',
    `receiver` LowCardinality(String) COMMENT 'Name of the receiver.',
    `lanes` Array(String) COMMENT 'Sequences whose order is kept, mostly ids of alerts.',
    `body` String COMMENT 'What is sent, as JSON without secrets; as it was when it was put in.',
    `created` DateTime64(6, 'UTC') COMMENT 'When it was put in.',
    `position` UInt32 COMMENT 'Position among those put in together.',
    `state` LowCardinality(String) COMMENT 'waiting, delivered or dead (given up).',
    `attempts` UInt32 COMMENT 'How often it was tried.',
    `next_try` DateTime64(6, 'UTC') COMMENT 'Not tried before.',
    `reason` String COMMENT 'Of the last failure; empty without one.',
    `changed` DateTime64(6, 'UTC') COMMENT 'When this row was written.',
    `version` UInt64 COMMENT 'Attempts; of what is delivered or dead, above all of what waits.'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(created)
ORDER BY key
TTL toDateTime(created) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Messages to receivers of alerts, as written.';

CREATE VIEW IF NOT EXISTS penstock.deliveries
(
    `key` String COMMENT 'Idempotency key of the message.',
    `queue` LowCardinality(String) COMMENT 'Whose outbox it is in: one dispatcher works on it.',
    `receiver` LowCardinality(String) COMMENT 'Name of the receiver.',
    `lanes` Array(String) COMMENT 'Sequences whose order is kept, mostly ids of alerts.',
    `body` String COMMENT 'What is sent, as JSON without secrets; as it was when it was put in.',
    `created` DateTime64(6, 'UTC') COMMENT 'When it was put in.',
    `position` UInt32 COMMENT 'Position among those put in together.',
    `state` LowCardinality(String) COMMENT 'waiting, delivered or dead (given up).',
    `attempts` UInt32 COMMENT 'How often it was tried.',
    `next_try` DateTime64(6, 'UTC') COMMENT 'Not tried before.',
    `reason` String COMMENT 'Of the last failure; empty without one.',
    `changed` DateTime64(6, 'UTC') COMMENT 'When this row was written.',
    `version` UInt64 COMMENT 'Attempts; of what is delivered or dead, above all of what waits.'
)
AS SELECT
    `key`,
    `queue`,
    `receiver`,
    `lanes`,
    `body`,
    `created`,
    `position`,
    `state`,
    `attempts`,
    `next_try`,
    `reason`,
    `changed`,
    `version`
FROM penstock.deliveries_rows FINAL
COMMENT 'Messages to receivers of alerts, each once.';

CREATE TABLE IF NOT EXISTS penstock.leases_rows
(
    `name` String COMMENT 'What one process at a time may do.',
    `term` UInt64 COMMENT 'Grows by one with each change and each renewal; the highest counts.',
    `holder` String COMMENT 'Host, process and life of the one who may; empty where it was given back.',
    `at` DateTime64(6, 'UTC') COMMENT 'When, by the clock of the holder.'
)
ENGINE = ReplacingMergeTree(term)
ORDER BY name
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Who may do what only one may, as written.';

CREATE VIEW IF NOT EXISTS penstock.leases
(
    `name` String COMMENT 'What one process at a time may do.',
    `term` UInt64 COMMENT 'Grows by one with each change and each renewal; the highest counts.',
    `holder` String COMMENT 'Host, process and life of the one who may; empty where it was given back.',
    `at` DateTime64(6, 'UTC') COMMENT 'When, by the clock of the holder.'
)
AS SELECT
    `name`,
    `term`,
    `holder`,
    `at`
FROM penstock.leases_rows FINAL
COMMENT 'Who may do what only one may.';
