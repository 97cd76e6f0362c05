-- Spend of users and tenants against their limits, and forecasts of capacity, minute by minute.

CREATE TABLE IF NOT EXISTS penstock.spend_status_rows
(
    `limit_id` LowCardinality(String) COMMENT 'Spend limit.',
    `as_of` DateTime('UTC') COMMENT 'End of the rolling window in event time.',
    `version` UInt64 COMMENT 'Incarnation and cut.',
    `by` LowCardinality(String) COMMENT 'What keys are: user_hash or tenant.',
    `window_s` UInt32 COMMENT 'Length of the window. Unit: s.',
    `limit_nanousd` Int64 COMMENT 'What one key may spend in it. Unit: nano-USD.',
    `above` UInt32 COMMENT 'Keys above the limit, also those that are not listed. Unit: count.',
    `keys` Array(String) COMMENT 'Keys near the limit or above it, at most 100.',
    `spent_nanousd` Array(Int64) COMMENT 'What each of them spent in the window. Unit: nano-USD.',
    `since` Array(Nullable(DateTime('UTC'))) COMMENT 'When each of them rose above the limit; NULL for one that is not above it.',
    `spec_hash` LowCardinality(String) COMMENT 'Hash of what was asked for.'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(as_of)
ORDER BY (limit_id, as_of)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Spend limits over time, as written.';

CREATE OR REPLACE VIEW penstock.spend_status
(
    `limit_id` LowCardinality(String) COMMENT 'Spend limit.',
    `as_of` DateTime('UTC') COMMENT 'End of the rolling window in event time.',
    `version` UInt64 COMMENT 'Incarnation and cut.',
    `by` LowCardinality(String) COMMENT 'What keys are: user_hash or tenant.',
    `window_s` UInt32 COMMENT 'Length of the window. Unit: s.',
    `limit_nanousd` Int64 COMMENT 'What one key may spend in it. Unit: nano-USD.',
    `above` UInt32 COMMENT 'Keys above the limit, also those that are not listed. Unit: count.',
    `keys` Array(String) COMMENT 'Keys near the limit or above it, at most 100.',
    `spent_nanousd` Array(Int64) COMMENT 'What each of them spent in the window. Unit: nano-USD.',
    `since` Array(Nullable(DateTime('UTC'))) COMMENT 'When each of them rose above the limit; NULL for one that is not above it.',
    `spec_hash` LowCardinality(String) COMMENT 'Hash of what was asked for.'
)
AS SELECT
    `limit_id`,
    `as_of`,
    `version`,
    `by`,
    `window_s`,
    `limit_nanousd`,
    `above`,
    `keys`,
    `spent_nanousd`,
    `since`,
    `spec_hash`
FROM penstock.spend_status_rows FINAL
COMMENT 'Spend limits over time, each minute once.';

CREATE TABLE IF NOT EXISTS penstock.capacity_forecasts_rows
(
    `forecast_id` LowCardinality(String) COMMENT 'Forecast.',
    `as_of` DateTime('UTC') COMMENT 'Event time up to which it has seen data.',
    `version` UInt64 COMMENT 'Incarnation and cut.',
    `state` LowCardinality(String) COMMENT 'saturated, saturates, not_within_horizon or unknown.',
    `reason` LowCardinality(String) COMMENT 'Why it is unknown, or which signal is full now.',
    `history_end` DateTime('UTC') COMMENT 'End of the history; times ahead count from it.',
    `horizon_s` UInt32 COMMENT 'How far it looked ahead. Unit: s.',
    `estimate_s` Nullable(UInt32) COMMENT 'Expected time until the fleet is full. Unit: s.',
    `low_s` Nullable(UInt32) COMMENT 'Lower end of its interval. Unit: s.',
    `high_s` Nullable(UInt32) COMMENT 'Upper end of its interval; NULL where it lies beyond the horizon. Unit: s.',
    `signal` LowCardinality(String) COMMENT 'The utilisation that is full first.',
    `load` Nullable(Float64) COMMENT 'Expected load at the end of the history. Unit: 1/s.',
    `saturating_load` Nullable(Float64) COMMENT 'Load at which the fleet is full. Unit: 1/s.',
    `saturating_load_low` Nullable(Float64) COMMENT 'Lower end of its interval. Unit: 1/s.',
    `saturating_load_high` Nullable(Float64) COMMENT 'Upper end of its interval; NULL for one beyond any load. Unit: 1/s.',
    `daily` Bool COMMENT 'Whether there was history enough for a daily cycle.',
    `steps` UInt32 COMMENT 'Length of the history. Unit: count.',
    `spec_hash` LowCardinality(String) COMMENT 'Hash of what was asked for.'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(as_of)
ORDER BY (forecast_id, as_of)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Forecasts of capacity over time, as written.';

CREATE OR REPLACE VIEW penstock.capacity_forecasts
(
    `forecast_id` LowCardinality(String) COMMENT 'Forecast.',
    `as_of` DateTime('UTC') COMMENT 'Event time up to which it has seen data.',
    `version` UInt64 COMMENT 'Incarnation and cut.',
    `state` LowCardinality(String) COMMENT 'saturated, saturates, not_within_horizon or unknown.',
    `reason` LowCardinality(String) COMMENT 'Why it is unknown, or which signal is full now.',
    `history_end` DateTime('UTC') COMMENT 'End of the history; times ahead count from it.',
    `horizon_s` UInt32 COMMENT 'How far it looked ahead. Unit: s.',
    `estimate_s` Nullable(UInt32) COMMENT 'Expected time until the fleet is full. Unit: s.',
    `low_s` Nullable(UInt32) COMMENT 'Lower end of its interval. Unit: s.',
    `high_s` Nullable(UInt32) COMMENT 'Upper end of its interval; NULL where it lies beyond the horizon. Unit: s.',
    `signal` LowCardinality(String) COMMENT 'The utilisation that is full first.',
    `load` Nullable(Float64) COMMENT 'Expected load at the end of the history. Unit: 1/s.',
    `saturating_load` Nullable(Float64) COMMENT 'Load at which the fleet is full. Unit: 1/s.',
    `saturating_load_low` Nullable(Float64) COMMENT 'Lower end of its interval. Unit: 1/s.',
    `saturating_load_high` Nullable(Float64) COMMENT 'Upper end of its interval; NULL for one beyond any load. Unit: 1/s.',
    `daily` Bool COMMENT 'Whether there was history enough for a daily cycle.',
    `steps` UInt32 COMMENT 'Length of the history. Unit: count.',
    `spec_hash` LowCardinality(String) COMMENT 'Hash of what was asked for.'
)
AS SELECT
    `forecast_id`,
    `as_of`,
    `version`,
    `state`,
    `reason`,
    `history_end`,
    `horizon_s`,
    `estimate_s`,
    `low_s`,
    `high_s`,
    `signal`,
    `load`,
    `saturating_load`,
    `saturating_load_low`,
    `saturating_load_high`,
    `daily`,
    `steps`,
    `spec_hash`
FROM penstock.capacity_forecasts_rows FINAL
COMMENT 'Forecasts of capacity over time, each minute once.';
