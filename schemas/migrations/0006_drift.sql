-- Drift: counts of features and categories by stretch of event time, references, looks.

CREATE TABLE IF NOT EXISTS penstock.drift_counts_rows
(
    `counting` String COMMENT 'What is counted: a hash of filter, series and length. Monitors that agree share rows.',
    `start` DateTime('UTC') COMMENT 'Start of the stretch.',
    `length_s` UInt32 COMMENT 'Its length. Unit: s.',
    `series` LowCardinality(String) COMMENT 'Feature or category; (labels) of labels.',
    `filter` Map(LowCardinality(String), String) COMMENT 'Traffic that is counted.',
    `rows` UInt64 COMMENT 'Rows that carry a value, or could have done.',
    `keys` Array(String) COMMENT 'Sketch bins of a feature, names of a category, coded labels.',
    `counts` Array(UInt64) COMMENT 'How often each key was there.',
    `version` UInt64 COMMENT 'Incarnation and cut.'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (counting, start)
TTL start + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Counts that drift is computed from, as written.';

CREATE VIEW IF NOT EXISTS penstock.drift_counts
(
    `counting` String COMMENT 'What is counted: a hash of filter, series and length. Monitors that agree share rows.',
    `start` DateTime('UTC') COMMENT 'Start of the stretch.',
    `length_s` UInt32 COMMENT 'Its length. Unit: s.',
    `series` LowCardinality(String) COMMENT 'Feature or category; (labels) of labels.',
    `filter` Map(LowCardinality(String), String) COMMENT 'Traffic that is counted.',
    `rows` UInt64 COMMENT 'Rows that carry a value, or could have done.',
    `keys` Array(String) COMMENT 'Sketch bins of a feature, names of a category, coded labels.',
    `counts` Array(UInt64) COMMENT 'How often each key was there.',
    `version` UInt64 COMMENT 'Incarnation and cut.'
)
AS SELECT
    `counting`,
    `start`,
    `length_s`,
    `series`,
    `filter`,
    `rows`,
    `keys`,
    `counts`,
    `version`
FROM penstock.drift_counts_rows FINAL
COMMENT 'Counts that drift is computed from, each once.';

CREATE TABLE IF NOT EXISTS penstock.drift_references_rows
(
    `scope` LowCardinality(String) COMMENT 'uploaded (by its name), or monitor (what a monitor chose).',
    `name` String COMMENT 'Of the upload, or id of the monitor.',
    `series` String COMMENT 'Feature or category; (labels) of labels.',
    `revision` UInt32 COMMENT 'Counts up whenever the content changes.',
    `source` String COMMENT 'Where it came from, as JSON.',
    `rows` UInt64 COMMENT 'Rows behind it; 0 where that is not known.',
    `values` UInt64 COMMENT 'Rows that carry a value.',
    `digest` String COMMENT 'SHA-256 of everything but the revision.',
    `content` String CODEC(ZSTD(3)) COMMENT 'Counts by hour, as JSON.',
    `created` DateTime64(6, 'UTC') COMMENT 'When it was stored.',
    `version` UInt64 COMMENT 'Microseconds since 1970 at which the row was written.'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (scope, name, series, revision)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What traffic is compared with, as written.';

CREATE VIEW IF NOT EXISTS penstock.drift_references
(
    `scope` LowCardinality(String) COMMENT 'uploaded (by its name), or monitor (what a monitor chose).',
    `name` String COMMENT 'Of the upload, or id of the monitor.',
    `series` String COMMENT 'Feature or category; (labels) of labels.',
    `revision` UInt32 COMMENT 'Counts up whenever the content changes.',
    `source` String COMMENT 'Where it came from, as JSON.',
    `rows` UInt64 COMMENT 'Rows behind it; 0 where that is not known.',
    `values` UInt64 COMMENT 'Rows that carry a value.',
    `digest` String COMMENT 'SHA-256 of everything but the revision.',
    `content` String COMMENT 'Counts by hour, as JSON.',
    `created` DateTime64(6, 'UTC') COMMENT 'When it was stored.',
    `version` UInt64 COMMENT 'Microseconds since 1970 at which the row was written.'
)
AS SELECT
    `scope`,
    `name`,
    `series`,
    `revision`,
    `source`,
    `rows`,
    `values`,
    `digest`,
    `content`,
    `created`,
    `version`
FROM penstock.drift_references_rows FINAL
COMMENT 'What traffic is compared with, every revision once.';

CREATE TABLE IF NOT EXISTS penstock.drift_scores_rows
(
    `monitor` LowCardinality(String) COMMENT 'Monitor.',
    `series` LowCardinality(String) COMMENT 'Feature or category; (concept) of the relation between inputs and labels.',
    `end` DateTime('UTC') COMMENT 'End of the window.',
    `window_s` UInt32 COMMENT 'Its length. Unit: s.',
    `kind` LowCardinality(String) COMMENT 'feature, category or concept.',
    `filter` Map(LowCardinality(String), String) COMMENT 'Traffic that was looked at.',
    `state` LowCardinality(String) COMMENT 'no_reference, no_data, ok, moderate or drift, by the rule for a single look.',
    `severity` LowCardinality(String) COMMENT 'medium or high; empty without drift.',
    `reasons` Array(LowCardinality(String)) COMMENT 'Which parts of the rule hold.',
    `confirmed` Nullable(DateTime('UTC')) COMMENT 'The look that confirmed drift which is still there.',
    `believed` Bool COMMENT 'Among the series of the look that are believed at the false discovery rate.',
    `revision` UInt32 COMMENT 'Of the reference; 0 without one.',
    `n_reference` UInt64 COMMENT 'Values of the reference.',
    `n_current` UInt64 COMMENT 'Values of the window.',
    `psi` Nullable(Float64) COMMENT 'Population stability index, its bias taken off. Unit: nats.',
    `js` Nullable(Float64) COMMENT 'Jensen-Shannon divergence. Unit: bits.',
    `p` Nullable(Float64) COMMENT 'p of the single look: of KS, or of chi-square.',
    `ks` Nullable(Float64) COMMENT 'Kolmogorov-Smirnov distance of a feature.',
    `wasserstein` Nullable(Float64) COMMENT 'Wasserstein-1 distance of a feature, in its unit.',
    `cramers_v` Nullable(Float64) COMMENT 'Cramer V of a category.',
    `e_value` Nullable(Float64) COMMENT 'Of the sequential monitor.',
    `alarm` Bool COMMENT 'The sequential monitor alarmed at this look.',
    `missing_share` Nullable(Float64) COMMENT 'Share of rows without a value. Unit: ratio.',
    `missing_state` LowCardinality(String) COMMENT 'no_data, ok, warning or critical; empty without a reference.',
    `figures` String COMMENT 'Every score and interval by name, as JSON.',
    `bars` String COMMENT 'Reference and current counts by bin or category, as JSON.',
    `version` UInt64 COMMENT 'Incarnation and cut.'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(end)
ORDER BY (monitor, series, end)
TTL end + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Looks of drift monitors, as written.';

CREATE VIEW IF NOT EXISTS penstock.drift_scores
(
    `monitor` LowCardinality(String) COMMENT 'Monitor.',
    `series` LowCardinality(String) COMMENT 'Feature or category; (concept) of the relation between inputs and labels.',
    `end` DateTime('UTC') COMMENT 'End of the window.',
    `window_s` UInt32 COMMENT 'Its length. Unit: s.',
    `kind` LowCardinality(String) COMMENT 'feature, category or concept.',
    `filter` Map(LowCardinality(String), String) COMMENT 'Traffic that was looked at.',
    `state` LowCardinality(String) COMMENT 'no_reference, no_data, ok, moderate or drift, by the rule for a single look.',
    `severity` LowCardinality(String) COMMENT 'medium or high; empty without drift.',
    `reasons` Array(LowCardinality(String)) COMMENT 'Which parts of the rule hold.',
    `confirmed` Nullable(DateTime('UTC')) COMMENT 'The look that confirmed drift which is still there.',
    `believed` Bool COMMENT 'Among the series of the look that are believed at the false discovery rate.',
    `revision` UInt32 COMMENT 'Of the reference; 0 without one.',
    `n_reference` UInt64 COMMENT 'Values of the reference.',
    `n_current` UInt64 COMMENT 'Values of the window.',
    `psi` Nullable(Float64) COMMENT 'Population stability index, its bias taken off. Unit: nats.',
    `js` Nullable(Float64) COMMENT 'Jensen-Shannon divergence. Unit: bits.',
    `p` Nullable(Float64) COMMENT 'p of the single look: of KS, or of chi-square.',
    `ks` Nullable(Float64) COMMENT 'Kolmogorov-Smirnov distance of a feature.',
    `wasserstein` Nullable(Float64) COMMENT 'Wasserstein-1 distance of a feature, in its unit.',
    `cramers_v` Nullable(Float64) COMMENT 'Cramer V of a category.',
    `e_value` Nullable(Float64) COMMENT 'Of the sequential monitor.',
    `alarm` Bool COMMENT 'The sequential monitor alarmed at this look.',
    `missing_share` Nullable(Float64) COMMENT 'Share of rows without a value. Unit: ratio.',
    `missing_state` LowCardinality(String) COMMENT 'no_data, ok, warning or critical; empty without a reference.',
    `figures` String COMMENT 'Every score and interval by name, as JSON.',
    `bars` String COMMENT 'Reference and current counts by bin or category, as JSON.',
    `version` UInt64 COMMENT 'Incarnation and cut.'
)
AS SELECT
    `monitor`,
    `series`,
    `end`,
    `window_s`,
    `kind`,
    `filter`,
    `state`,
    `severity`,
    `reasons`,
    `confirmed`,
    `believed`,
    `revision`,
    `n_reference`,
    `n_current`,
    `psi`,
    `js`,
    `p`,
    `ks`,
    `wasserstein`,
    `cramers_v`,
    `e_value`,
    `alarm`,
    `missing_share`,
    `missing_state`,
    `figures`,
    `bars`,
    `version`
FROM penstock.drift_scores_rows FINAL
COMMENT 'Looks of drift monitors, each once.';

CREATE TABLE IF NOT EXISTS penstock.drift_states_rows
(
    `monitor` LowCardinality(String) COMMENT 'Monitor.',
    `end` DateTime('UTC') COMMENT 'The look after which it is so.',
    `state` String COMMENT 'What the monitor remembers, as JSON.',
    `version` UInt64 COMMENT 'Incarnation and cut.'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(end)
ORDER BY (monitor, end)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What drift monitors remember, as written.';

CREATE VIEW IF NOT EXISTS penstock.drift_states
(
    `monitor` LowCardinality(String) COMMENT 'Monitor.',
    `end` DateTime('UTC') COMMENT 'The look after which it is so.',
    `state` String COMMENT 'What the monitor remembers, as JSON.',
    `version` UInt64 COMMENT 'Incarnation and cut.'
)
AS SELECT
    `monitor`,
    `end`,
    `state`,
    `version`
FROM penstock.drift_states_rows FINAL
COMMENT 'What drift monitors remember, each once.';
