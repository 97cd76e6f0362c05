-- What live gates counted, block by block: a verdict is computed from it again to the last bit.

CREATE TABLE IF NOT EXISTS penstock.gate_inputs_rows
(
    `gate_id` LowCardinality(String) COMMENT 'Gate.',
    `epoch` UInt32 COMMENT 'Life of the gate.',
    `spec_hash` LowCardinality(String) COMMENT 'Hash of the specification that asked for it.',
    `end` DateTime64(6, 'UTC') COMMENT 'End of the block in event time.',
    `version` UInt64 COMMENT 'Incarnation and cut.',
    `coverage` Nullable(Float64) COMMENT 'Share of the events of the fleet that arrived in the minute that ends here. Unit: ratio 0..1.',
    `share` Nullable(Float64) COMMENT 'Configured share of the treatment, where a release marker states it. Unit: ratio 0..1.',
    `rows` String CODEC(ZSTD(3)) COMMENT 'Sums per arm, stratum, worker and metric as JSON.',
    `context` String CODEC(ZSTD(3)) COMMENT 'What the evaluation that read the block knew beside it, as JSON.'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(end)
ORDER BY (gate_id, epoch, spec_hash, end)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What live gates counted in each block, as written.';

CREATE OR REPLACE VIEW penstock.gate_inputs
(
    `gate_id` LowCardinality(String) COMMENT 'Gate.',
    `epoch` UInt32 COMMENT 'Life of the gate.',
    `spec_hash` LowCardinality(String) COMMENT 'Hash of the specification that asked for it.',
    `end` DateTime64(6, 'UTC') COMMENT 'End of the block in event time.',
    `version` UInt64 COMMENT 'Incarnation and cut.',
    `coverage` Nullable(Float64) COMMENT 'Share of the events of the fleet that arrived in the minute that ends here. Unit: ratio 0..1.',
    `share` Nullable(Float64) COMMENT 'Configured share of the treatment, where a release marker states it. Unit: ratio 0..1.',
    `rows` String COMMENT 'Sums per arm, stratum, worker and metric as JSON.',
    `context` String COMMENT 'What the evaluation that read the block knew beside it, as JSON.'
)
AS SELECT
    `gate_id`,
    `epoch`,
    `spec_hash`,
    `end`,
    `version`,
    `coverage`,
    `share`,
    `rows`,
    `context`
FROM penstock.gate_inputs_rows FINAL
COMMENT 'What live gates counted in each block, each once.';
