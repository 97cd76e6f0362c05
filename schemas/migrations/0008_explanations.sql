-- What changed when an alert fired.

CREATE TABLE IF NOT EXISTS penstock.alert_explanations_rows
(
    `alert_id` String COMMENT 'The alert that fired.',
    `at` DateTime('UTC') COMMENT 'Event time at which it fired.',
    `text` String COMMENT 'The most telling of it in one line.',
    `body` String COMMENT 'What was found as JSON: stretches compared, slices, release markers, engine steps.',
    `recorded_at` DateTime64(6, 'UTC') COMMENT 'When it was found out.'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (alert_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Explanations of alerts, as written.';

CREATE VIEW IF NOT EXISTS penstock.alert_explanations
(
    `alert_id` String COMMENT 'The alert that fired.',
    `at` DateTime('UTC') COMMENT 'Event time at which it fired.',
    `text` String COMMENT 'The most telling of it in one line.',
    `body` String COMMENT 'What was found as JSON: stretches compared, slices, release markers, engine steps.',
    `recorded_at` DateTime64(6, 'UTC') COMMENT 'When it was found out.'
)
AS SELECT
    `alert_id`,
    `at`,
    `text`,
    `body`,
    `recorded_at`
FROM penstock.alert_explanations_rows FINAL
COMMENT 'What changed when an alert fired, each once.';
