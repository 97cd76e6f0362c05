-- Which objective or budget a status is of: after a change, numbers of the former one are not shown.

ALTER TABLE penstock.slo_status_rows
    ADD COLUMN IF NOT EXISTS `spec_hash` LowCardinality(String) COMMENT 'Hash of what was asked for; empty in rows of earlier versions.';

CREATE OR REPLACE VIEW penstock.slo_status
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
    `alarm_at` Nullable(DateTime('UTC')) COMMENT 'Event time of the last alarm of the e-detector.',
    `spec_hash` LowCardinality(String) COMMENT 'Hash of what was asked for; empty in rows of earlier versions.'
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
    `alarm_at`,
    `spec_hash`
FROM penstock.slo_status_rows FINAL
COMMENT 'Objectives over time, each once.';

ALTER TABLE penstock.cost_status_rows
    ADD COLUMN IF NOT EXISTS `spec_hash` LowCardinality(String) COMMENT 'Hash of what was asked for; empty in rows of earlier versions.';

CREATE OR REPLACE VIEW penstock.cost_status
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
    `measured_share` Nullable(Float64) COMMENT 'Share of the traffic whose cost is known. Unit: ratio 0..1.',
    `spec_hash` LowCardinality(String) COMMENT 'Hash of what was asked for; empty in rows of earlier versions.'
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
    `measured_share`,
    `spec_hash`
FROM penstock.cost_status_rows FINAL
COMMENT 'Budgets of cost over time, each once.';
