-- Signals: alerts, objectives, budgets, and what people do about them.

ALTER TABLE penstock.checkpoints_rows
    ADD COLUMN IF NOT EXISTS `signals` String COMMENT 'States of rules and objectives at closed_ts, and the changes of alerts that are to be stored with it, as JSON; empty without any.';

CREATE OR REPLACE VIEW penstock.checkpoints
(
    `partition` UInt32 COMMENT 'Shard: partition of the panes topic whose slices it holds.',
    `incarnation` UInt32 COMMENT 'Highest counter of the life of the topic.',
    `cut` UInt64 COMMENT 'Highest cut of all sources.',
    `closed_ts` DateTime('UTC') COMMENT 'Event time up to which cells and panes are published.',
    `epoch` UInt32 COMMENT 'Configuration epoch.',
    `stale_s` Array(UInt32) COMMENT 'Stretch that late rows amended and whose window rows are not rewritten yet, as [start, end). Unit: s.',
    `at` DateTime64(6, 'UTC') COMMENT 'When it was written.',
    `version` UInt64 COMMENT 'Incarnation and highest offset given out.',
    `cuts` Array(Tuple(UInt32, UInt32, UInt64)) COMMENT 'Per source, as (incarnation, partition, cut): rows up to the cut are in what closed before closed_ts.',
    `losses` Array(Tuple(String, UInt32, UInt16, Int64)) COMMENT 'Losses known to what closed, as (boot, start of the pane in s, metric, events).',
    `signals` String COMMENT 'States of rules and objectives at closed_ts, and the changes of alerts that are to be stored with it, as JSON; empty without any.'
)
AS SELECT
    `partition`,
    `incarnation`,
    `cut`,
    `closed_ts`,
    `epoch`,
    `stale_s`,
    `at`,
    `version`,
    `cuts`,
    `losses`,
    `signals`
FROM penstock.checkpoints_rows FINAL
COMMENT 'How far publication has come, one row per partition, each once.';

CREATE TABLE IF NOT EXISTS penstock.alert_transitions_rows
(
    `id` String COMMENT 'Identity of the change: the same whenever it is computed again.',
    `alert_id` String COMMENT 'Identity of the alert: of rule, slice and start of the episode.',
    `sequence` UInt32 COMMENT 'Position in the episode, from 0; of an amendment, that of what it amends.',
    `kind` LowCardinality(String) COMMENT 'pending, firing, resolved, cancelled or amended.',
    `reason` LowCardinality(String) COMMENT 'condition, cleared, no_data, forgotten, rule_changed, rule_removed or late_data.',
    `rule_id` LowCardinality(String) COMMENT 'Rule.',
    `rule_hash` LowCardinality(String) COMMENT 'Hash of what the rule decides by.',
    `severity` LowCardinality(String) COMMENT 'info, warning, critical or emergency.',
    `at` DateTime('UTC') COMMENT 'Event time of the change.',
    `started` DateTime('UTC') COMMENT 'Event time of the first breach of the episode.',
    `labels` Map(LowCardinality(String), String) COMMENT 'Labels of the alert: alertname, group, severity, those of its slice and of its rule.',
    `value` Nullable(Float64) COMMENT 'What was compared; NULL where it cannot be told.',
    `limit_value` Nullable(Float64) COMMENT 'What it was compared with.',
    `n` UInt64 COMMENT 'Rows behind the value.',
    `text` String COMMENT 'Value and limit for people.',
    `annotations` Map(LowCardinality(String), String) COMMENT 'Texts of the rule, filled in.',
    `runbook` String COMMENT 'Runbook of the rule; empty without one.',
    `shard` UInt32 COMMENT 'Shard that evaluated it.',
    `recorded_at` DateTime64(6, 'UTC') COMMENT 'Clock of the evaluator when it was committed.'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (at, alert_id, id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Changes of alerts, as written.';

CREATE VIEW IF NOT EXISTS penstock.alert_transitions
(
    `id` String COMMENT 'Identity of the change: the same whenever it is computed again.',
    `alert_id` String COMMENT 'Identity of the alert: of rule, slice and start of the episode.',
    `sequence` UInt32 COMMENT 'Position in the episode, from 0; of an amendment, that of what it amends.',
    `kind` LowCardinality(String) COMMENT 'pending, firing, resolved, cancelled or amended.',
    `reason` LowCardinality(String) COMMENT 'condition, cleared, no_data, forgotten, rule_changed, rule_removed or late_data.',
    `rule_id` LowCardinality(String) COMMENT 'Rule.',
    `rule_hash` LowCardinality(String) COMMENT 'Hash of what the rule decides by.',
    `severity` LowCardinality(String) COMMENT 'info, warning, critical or emergency.',
    `at` DateTime('UTC') COMMENT 'Event time of the change.',
    `started` DateTime('UTC') COMMENT 'Event time of the first breach of the episode.',
    `labels` Map(LowCardinality(String), String) COMMENT 'Labels of the alert: alertname, group, severity, those of its slice and of its rule.',
    `value` Nullable(Float64) COMMENT 'What was compared; NULL where it cannot be told.',
    `limit_value` Nullable(Float64) COMMENT 'What it was compared with.',
    `n` UInt64 COMMENT 'Rows behind the value.',
    `text` String COMMENT 'Value and limit for people.',
    `annotations` Map(LowCardinality(String), String) COMMENT 'Texts of the rule, filled in.',
    `runbook` String COMMENT 'Runbook of the rule; empty without one.',
    `shard` UInt32 COMMENT 'Shard that evaluated it.',
    `recorded_at` DateTime64(6, 'UTC') COMMENT 'Clock of the evaluator when it was committed.'
)
AS SELECT
    `id`,
    `alert_id`,
    `sequence`,
    `kind`,
    `reason`,
    `rule_id`,
    `rule_hash`,
    `severity`,
    `at`,
    `started`,
    `labels`,
    `value`,
    `limit_value`,
    `n`,
    `text`,
    `annotations`,
    `runbook`,
    `shard`,
    `recorded_at`
FROM penstock.alert_transitions_rows FINAL
COMMENT 'Changes of alerts, each once.';

CREATE VIEW IF NOT EXISTS penstock.alerts
(
    `alert_id` String COMMENT 'Identity of the alert: of rule, slice and start of the episode.',
    `rule_id` LowCardinality(String) COMMENT 'Rule.',
    `severity` LowCardinality(String) COMMENT 'info, warning, critical or emergency.',
    `state` LowCardinality(String) COMMENT 'pending, firing, resolved or cancelled (pending that never fired).',
    `reason` LowCardinality(String) COMMENT 'Why it is in that state.',
    `labels` Map(LowCardinality(String), String) COMMENT 'Labels of the alert.',
    `started` DateTime('UTC') COMMENT 'Event time of the first breach.',
    `fired` Nullable(DateTime('UTC')) COMMENT 'Event time at which it fired; NULL where it has not.',
    `ended` Nullable(DateTime('UTC')) COMMENT 'Event time at which it was resolved or cancelled; NULL while it is open.',
    `at` DateTime('UTC') COMMENT 'Event time of the last change.',
    `value` Nullable(Float64) COMMENT 'What was compared at the last change.',
    `limit_value` Nullable(Float64) COMMENT 'What it was compared with.',
    `n` UInt64 COMMENT 'Rows behind the value.',
    `text` String COMMENT 'Value and limit for people.',
    `amended_text` String COMMENT 'The same as late rows left it; empty where they changed nothing.',
    `annotations` Map(LowCardinality(String), String) COMMENT 'Texts of the rule, filled in.',
    `runbook` String COMMENT 'Runbook of the rule; empty without one.',
    `shard` UInt32 COMMENT 'Shard that evaluated it.',
    `recorded_at` DateTime64(6, 'UTC') COMMENT 'Clock of the evaluator when the last change was committed.'
)
AS SELECT
    t.alert_id AS `alert_id`,
    any(t.rule_id) AS `rule_id`,
    any(t.severity) AS `severity`,
    argMaxIf(t.kind, t.sequence, t.kind != 'amended') AS `state`,
    argMaxIf(t.reason, t.sequence, t.kind != 'amended') AS `reason`,
    any(t.labels) AS `labels`,
    any(t.started) AS `started`,
    minIf(toNullable(t.at), t.kind = 'firing') AS `fired`,
    minIf(toNullable(t.at), t.kind IN ('resolved', 'cancelled')) AS `ended`,
    maxIf(t.at, t.kind != 'amended') AS `at`,
    argMaxIf(tuple(t.value), t.sequence, t.kind != 'amended').1 AS `value`,
    argMaxIf(tuple(t.limit_value), t.sequence, t.kind != 'amended').1 AS `limit_value`,
    argMaxIf(t.n, t.sequence, t.kind != 'amended') AS `n`,
    argMaxIf(t.text, t.sequence, t.kind != 'amended') AS `text`,
    argMaxIf(t.text, t.recorded_at, t.kind = 'amended') AS `amended_text`,
    argMaxIf(t.annotations, t.sequence, t.kind != 'amended') AS `annotations`,
    argMaxIf(t.runbook, t.sequence, t.kind != 'amended') AS `runbook`,
    any(t.shard) AS `shard`,
    max(t.recorded_at) AS `recorded_at`
FROM penstock.alert_transitions_rows AS t FINAL
GROUP BY t.alert_id
COMMENT 'Every alert as it stands now.';

CREATE TABLE IF NOT EXISTS penstock.slo_status_rows
(
    `slo_id` LowCardinality(String) COMMENT 'Objective.',
    `as_of` DateTime('UTC') COMMENT 'Event time up to which it has seen data.',
    `version` UInt64 COMMENT 'Incarnation and cut.',
    `state` LowCardinality(String) COMMENT 'met, at_risk, breached, unknown or no_data.',
    `declared` String COMMENT 'What is asked for, in words.',
    `target` Float64 COMMENT 'Share that must be good. Unit: ratio 0..1.',
    `period_start` DateTime('UTC') COMMENT 'Start of the period of the budget.',
    `period_end` DateTime('UTC') COMMENT 'End of the period; of a calendar one it may lie ahead.',
    `bad` Int64 COMMENT 'Bad events of the period so far; minutes, or millionths of a score, where those count.',
    `total` Int64 COMMENT 'Events of the period so far, in the same unit.',
    `attainment` Nullable(Float64) COMMENT 'Share of good ones. Unit: ratio 0..1.',
    `consumed` Nullable(Float64) COMMENT 'Share of the budget that is spent, above 1 in a breach. Unit: ratio.',
    `budget_minutes` Float64 COMMENT 'The budget in minutes of the period. Unit: min.',
    `left_minutes` Nullable(Float64) COMMENT 'What is left of it, negative in a breach. Unit: min.',
    `exhaustion_s` Nullable(Float64) COMMENT 'Time until it is spent at the burn rate of the last hour; NULL where it will not be. Unit: s.',
    `burn_1h` Nullable(Float64) COMMENT 'Burn rate of the last hour: 1 spends the budget in its period. Unit: ratio.',
    `coverage` Nullable(Float64) COMMENT 'Share of the events of the fleet that arrived. Unit: ratio 0..1.',
    `burns` String COMMENT 'Burn-rate rules as JSON: name, severity, factor, long_rate, short_rate, above, firing.',
    `alarm_at` Nullable(DateTime('UTC')) COMMENT 'Event time of the last alarm of the e-detector.'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(as_of)
ORDER BY (slo_id, as_of)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Objectives over time, as written.';

CREATE VIEW IF NOT EXISTS penstock.slo_status
(
    `slo_id` LowCardinality(String) COMMENT 'Objective.',
    `as_of` DateTime('UTC') COMMENT 'Event time up to which it has seen data.',
    `version` UInt64 COMMENT 'Incarnation and cut.',
    `state` LowCardinality(String) COMMENT 'met, at_risk, breached, unknown or no_data.',
    `declared` String COMMENT 'What is asked for, in words.',
    `target` Float64 COMMENT 'Share that must be good. Unit: ratio 0..1.',
    `period_start` DateTime('UTC') COMMENT 'Start of the period of the budget.',
    `period_end` DateTime('UTC') COMMENT 'End of the period; of a calendar one it may lie ahead.',
    `bad` Int64 COMMENT 'Bad events of the period so far; minutes, or millionths of a score, where those count.',
    `total` Int64 COMMENT 'Events of the period so far, in the same unit.',
    `attainment` Nullable(Float64) COMMENT 'Share of good ones. Unit: ratio 0..1.',
    `consumed` Nullable(Float64) COMMENT 'Share of the budget that is spent, above 1 in a breach. Unit: ratio.',
    `budget_minutes` Float64 COMMENT 'The budget in minutes of the period. Unit: min.',
    `left_minutes` Nullable(Float64) COMMENT 'What is left of it, negative in a breach. Unit: min.',
    `exhaustion_s` Nullable(Float64) COMMENT 'Time until it is spent at the burn rate of the last hour; NULL where it will not be. Unit: s.',
    `burn_1h` Nullable(Float64) COMMENT 'Burn rate of the last hour: 1 spends the budget in its period. Unit: ratio.',
    `coverage` Nullable(Float64) COMMENT 'Share of the events of the fleet that arrived. Unit: ratio 0..1.',
    `burns` String COMMENT 'Burn-rate rules as JSON: name, severity, factor, long_rate, short_rate, above, firing.',
    `alarm_at` Nullable(DateTime('UTC')) COMMENT 'Event time of the last alarm of the e-detector.'
)
AS SELECT
    `slo_id`,
    `as_of`,
    `version`,
    `state`,
    `declared`,
    `target`,
    `period_start`,
    `period_end`,
    `bad`,
    `total`,
    `attainment`,
    `consumed`,
    `budget_minutes`,
    `left_minutes`,
    `exhaustion_s`,
    `burn_1h`,
    `coverage`,
    `burns`,
    `alarm_at`
FROM penstock.slo_status_rows FINAL
COMMENT 'Objectives over time, each once.';

CREATE TABLE IF NOT EXISTS penstock.cost_status_rows
(
    `budget_id` LowCardinality(String) COMMENT 'Budget.',
    `as_of` DateTime('UTC') COMMENT 'Event time up to which it has seen data.',
    `version` UInt64 COMMENT 'Incarnation and cut.',
    `state` LowCardinality(String) COMMENT 'ok, projected, exceeded or unknown.',
    `reasons` Array(LowCardinality(String)) COMMENT 'Why it is unknown, or what the numbers lack.',
    `period_start` DateTime('UTC') COMMENT 'Start of the period.',
    `period_end` DateTime('UTC') COMMENT 'End of the period.',
    `budget_nanousd` Int64 COMMENT 'The budget. Unit: nano-USD.',
    `spent_nanousd` Int64 COMMENT 'Spent in the period so far. Unit: nano-USD.',
    `projected_nanousd` Nullable(Int64) COMMENT 'Expected at the end of the period. Unit: nano-USD.',
    `low_nanousd` Nullable(Int64) COMMENT 'Lower end of the interval of what is expected. Unit: nano-USD.',
    `high_nanousd` Nullable(Int64) COMMENT 'Upper end of the interval of what is expected. Unit: nano-USD.',
    `method` LowCardinality(String) COMMENT 'Profile of the projection: previous_week, linear or none.',
    `last_hour_nanousd` Int64 COMMENT 'Spent in the last hour. Unit: nano-USD.',
    `budget_per_hour_nanousd` Int64 COMMENT 'The budget over the hours of the period. Unit: nano-USD.',
    `measured_share` Nullable(Float64) COMMENT 'Share of the traffic whose cost is known. Unit: ratio 0..1.'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(as_of)
ORDER BY (budget_id, as_of)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Budgets of cost over time, as written.';

CREATE VIEW IF NOT EXISTS penstock.cost_status
(
    `budget_id` LowCardinality(String) COMMENT 'Budget.',
    `as_of` DateTime('UTC') COMMENT 'Event time up to which it has seen data.',
    `version` UInt64 COMMENT 'Incarnation and cut.',
    `state` LowCardinality(String) COMMENT 'ok, projected, exceeded or unknown.',
    `reasons` Array(LowCardinality(String)) COMMENT 'Why it is unknown, or what the numbers lack.',
    `period_start` DateTime('UTC') COMMENT 'Start of the period.',
    `period_end` DateTime('UTC') COMMENT 'End of the period.',
    `budget_nanousd` Int64 COMMENT 'The budget. Unit: nano-USD.',
    `spent_nanousd` Int64 COMMENT 'Spent in the period so far. Unit: nano-USD.',
    `projected_nanousd` Nullable(Int64) COMMENT 'Expected at the end of the period. Unit: nano-USD.',
    `low_nanousd` Nullable(Int64) COMMENT 'Lower end of the interval of what is expected. Unit: nano-USD.',
    `high_nanousd` Nullable(Int64) COMMENT 'Upper end of the interval of what is expected. Unit: nano-USD.',
    `method` LowCardinality(String) COMMENT 'Profile of the projection: previous_week, linear or none.',
    `last_hour_nanousd` Int64 COMMENT 'Spent in the last hour. Unit: nano-USD.',
    `budget_per_hour_nanousd` Int64 COMMENT 'The budget over the hours of the period. Unit: nano-USD.',
    `measured_share` Nullable(Float64) COMMENT 'Share of the traffic whose cost is known. Unit: ratio 0..1.'
)
AS SELECT
    `budget_id`,
    `as_of`,
    `version`,
    `state`,
    `reasons`,
    `period_start`,
    `period_end`,
    `budget_nanousd`,
    `spent_nanousd`,
    `projected_nanousd`,
    `low_nanousd`,
    `high_nanousd`,
    `method`,
    `last_hour_nanousd`,
    `budget_per_hour_nanousd`,
    `measured_share`
FROM penstock.cost_status_rows FINAL
COMMENT 'Budgets of cost over time, each once.';

CREATE TABLE IF NOT EXISTS penstock.audit_log_rows
(
    `chain` LowCardinality(String) COMMENT 'Chain of one writer: shard-N of an evaluator, api of the API.',
    `seq` UInt64 COMMENT 'Position in its chain, from 0.',
    `at` DateTime('UTC') COMMENT 'When.',
    `kind` LowCardinality(String) COMMENT 'What happened: alert, silence, acknowledge, configuration, ...',
    `who` String COMMENT 'Who did it: a person, a key, or penstock.',
    `body` String COMMENT 'What it was, as canonical JSON.',
    `previous` String COMMENT 'Hash of the entry before; 64 zeros for the first.',
    `hash` String COMMENT 'SHA-256 of the canonical JSON of seq, at, kind, who, body and previous.'
)
ENGINE = ReplacingMergeTree
ORDER BY (chain, seq)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Audit log, append-only: who changed what, as written.';

CREATE VIEW IF NOT EXISTS penstock.audit_log
(
    `chain` LowCardinality(String) COMMENT 'Chain of one writer: shard-N of an evaluator, api of the API.',
    `seq` UInt64 COMMENT 'Position in its chain, from 0.',
    `at` DateTime('UTC') COMMENT 'When.',
    `kind` LowCardinality(String) COMMENT 'What happened: alert, silence, acknowledge, configuration, ...',
    `who` String COMMENT 'Who did it: a person, a key, or penstock.',
    `body` String COMMENT 'What it was, as canonical JSON.',
    `previous` String COMMENT 'Hash of the entry before; 64 zeros for the first.',
    `hash` String COMMENT 'SHA-256 of the canonical JSON of seq, at, kind, who, body and previous.'
)
AS SELECT
    `chain`,
    `seq`,
    `at`,
    `kind`,
    `who`,
    `body`,
    `previous`,
    `hash`
FROM penstock.audit_log_rows FINAL
COMMENT 'Audit log, append-only: who changed what, each once.';

CREATE TABLE IF NOT EXISTS penstock.silences_rows
(
    `id` String COMMENT 'Silence.',
    `matchers` String COMMENT 'Which alerts, as JSON: a list of label, op and value.',
    `reason` String COMMENT 'Why.',
    `author` String COMMENT 'Who set it.',
    `starts_at` DateTime('UTC') COMMENT 'From when it holds.',
    `ends_at` DateTime('UTC') COMMENT 'When it ends; ending one early writes it again.',
    `version` UInt64 COMMENT 'When it was written last; the highest counts. Unit: us UTC.'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Silences that were set by the API, as written.';

CREATE VIEW IF NOT EXISTS penstock.silences
(
    `id` String COMMENT 'Silence.',
    `matchers` String COMMENT 'Which alerts, as JSON: a list of label, op and value.',
    `reason` String COMMENT 'Why.',
    `author` String COMMENT 'Who set it.',
    `starts_at` DateTime('UTC') COMMENT 'From when it holds.',
    `ends_at` DateTime('UTC') COMMENT 'When it ends; ending one early writes it again.',
    `version` UInt64 COMMENT 'When it was written last; the highest counts. Unit: us UTC.'
)
AS SELECT
    `id`,
    `matchers`,
    `reason`,
    `author`,
    `starts_at`,
    `ends_at`,
    `version`
FROM penstock.silences_rows FINAL
COMMENT 'Silences that were set by the API, each once.';

CREATE TABLE IF NOT EXISTS penstock.acknowledgements_rows
(
    `alert_id` String COMMENT 'Alert.',
    `who` String COMMENT 'Who has taken it.',
    `at` DateTime('UTC') COMMENT 'When.',
    `until` Nullable(DateTime('UTC')) COMMENT 'When that ends; NULL for as long as the alert is open. One that is taken back ends at once.',
    `reason` String COMMENT 'Why.',
    `version` UInt64 COMMENT 'When it was written last; the highest counts. Unit: us UTC.'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY alert_id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Alerts that somebody has taken, as written.';

CREATE VIEW IF NOT EXISTS penstock.acknowledgements
(
    `alert_id` String COMMENT 'Alert.',
    `who` String COMMENT 'Who has taken it.',
    `at` DateTime('UTC') COMMENT 'When.',
    `until` Nullable(DateTime('UTC')) COMMENT 'When that ends; NULL for as long as the alert is open. One that is taken back ends at once.',
    `reason` String COMMENT 'Why.',
    `version` UInt64 COMMENT 'When it was written last; the highest counts. Unit: us UTC.'
)
AS SELECT
    `alert_id`,
    `who`,
    `at`,
    `until`,
    `reason`,
    `version`
FROM penstock.acknowledgements_rows FINAL
COMMENT 'Alerts that somebody has taken, each once.';

CREATE TABLE IF NOT EXISTS penstock.signal_states_rows
(
    `kind` LowCardinality(String) COMMENT 'notify: what receivers were told.',
    `id` String COMMENT 'Which one of its kind.',
    `state` String COMMENT 'The state, as JSON.',
    `version` UInt64 COMMENT 'The highest counts.'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (kind, id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What computations of signals go on from, as written.';

CREATE VIEW IF NOT EXISTS penstock.signal_states
(
    `kind` LowCardinality(String) COMMENT 'notify: what receivers were told.',
    `id` String COMMENT 'Which one of its kind.',
    `state` String COMMENT 'The state, as JSON.',
    `version` UInt64 COMMENT 'The highest counts.'
)
AS SELECT
    `kind`,
    `id`,
    `state`,
    `version`
FROM penstock.signal_states_rows FINAL
COMMENT 'What computations of signals go on from, each once.';
