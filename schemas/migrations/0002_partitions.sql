-- Several partitions and several processors: which partition a boot is at home in, the cuts of every
-- source at a checkpoint, sealed dead letters, and the life of a topic.

ALTER TABLE penstock.coverage_rows
    ADD COLUMN IF NOT EXISTS `partition` UInt32 COMMENT 'Home partition of the boot.';

CREATE OR REPLACE VIEW penstock.coverage
(
    `worker_id` LowCardinality(String) COMMENT 'Worker.',
    `boot_id` String COMMENT 'Boot.',
    `version` UInt64 COMMENT 'Incarnation and cut.',
    `first_ts` DateTime64(6, 'UTC') COMMENT 'Clock of the boot at its first frame.',
    `last_ts` DateTime64(6, 'UTC') COMMENT 'Clock of the boot at its last frame.',
    `last_append_ts` DateTime64(6, 'UTC') COMMENT 'When the last frame was taken.',
    `next_seq` UInt64 COMMENT 'One past the highest sequence number given out.',
    `expected` UInt64 COMMENT 'Events sent, as far as is known.',
    `received` UInt64 COMMENT 'Events received.',
    `stored` UInt64 COMMENT 'Events stored.',
    `missing` UInt64 COMMENT 'Events that have not arrived.',
    `gap` UInt64 COMMENT 'Events declared as dropped.',
    `duplicate` UInt64 COMMENT 'Repeated deliveries dropped.',
    `rejected` UInt64 COMMENT 'Events in quarantine.',
    `late` UInt64 COMMENT 'Events that came after their pane had closed.',
    `state` LowCardinality(String) COMMENT 'ok, partial, unknown or closed.',
    `closed` Bool COMMENT 'The boot ended in order.',
    `identified` Bool COMMENT 'Its events carry an identity.',
    `body_hash` UInt64 COMMENT 'Hash of a POST that came with an Idempotency-Key.',
    `seen` Array(Tuple(UInt64, UInt64, Int64)) COMMENT 'Sequence numbers delivered, as (low, high, clock in us of the first).',
    `dropped` Array(Tuple(UInt64, UInt64, Int64)) COMMENT 'Sequence numbers declared as dropped.',
    `partition` UInt32 COMMENT 'Home partition of the boot.'
)
AS SELECT
    `worker_id`,
    `boot_id`,
    `version`,
    `first_ts`,
    `last_ts`,
    `last_append_ts`,
    `next_seq`,
    `expected`,
    `received`,
    `stored`,
    `missing`,
    `gap`,
    `duplicate`,
    `rejected`,
    `late`,
    `state`,
    `closed`,
    `identified`,
    `body_hash`,
    `seen`,
    `dropped`,
    `partition`
FROM penstock.coverage_rows FINAL
COMMENT 'Per boot: what was sent and what arrived, each once.';

ALTER TABLE penstock.checkpoints_rows
    ADD COLUMN IF NOT EXISTS `cuts` Array(Tuple(UInt32, UInt32, UInt64)) COMMENT 'Per source, as (incarnation, partition, cut): rows up to the cut are in what closed before closed_ts.',
    ADD COLUMN IF NOT EXISTS `losses` Array(Tuple(String, UInt32, UInt16, Int64)) COMMENT 'Losses known to what closed, as (boot, start of the pane in s, metric, events).';

ALTER TABLE penstock.checkpoints_rows
    COMMENT COLUMN `partition` 'Shard: partition of the panes topic whose slices it holds.',
    COMMENT COLUMN `incarnation` 'Highest counter of the life of the topic.',
    COMMENT COLUMN `cut` 'Highest cut of all sources.';

ALTER TABLE penstock.panes_rows
    COMMENT COLUMN `partition` 'Shard: partition of the panes topic whose slices it holds.';

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
    `losses` Array(Tuple(String, UInt32, UInt16, Int64)) COMMENT 'Losses known to what closed, as (boot, start of the pane in s, metric, events).'
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
    `losses`
FROM penstock.checkpoints_rows FINAL
COMMENT 'How far publication has come, one row per partition, each once.';

ALTER TABLE penstock.quarantine_rows
    ADD COLUMN IF NOT EXISTS `topic` LowCardinality(String) COMMENT 'Topic that it came by; empty when embedded.',
    ADD COLUMN IF NOT EXISTS `preview` String COMMENT 'What a person may see of it: redacted, cut short.',
    ADD COLUMN IF NOT EXISTS `sealed` Bool COMMENT 'Whether body is encrypted: AES-256-GCM, the nonce first.';

CREATE OR REPLACE VIEW penstock.quarantine
(
    `append_ts` DateTime64(6, 'UTC') COMMENT 'When it was taken.',
    `incarnation` UInt32 COMMENT 'Counter of the life of the topic.',
    `partition` UInt32 COMMENT 'Partition.',
    `offset` UInt64 COMMENT 'Offset.',
    `row_index` UInt32 COMMENT 'Position within the frame.',
    `kind` LowCardinality(String) COMMENT 'Kind of event, where it could be told.',
    `worker_id` LowCardinality(String) COMMENT 'Worker.',
    `boot_id` LowCardinality(String) COMMENT 'Boot.',
    `seq` UInt64 COMMENT 'Sequence number.',
    `reason` LowCardinality(String) COMMENT 'Why it was rejected, from a closed list.',
    `detail` String COMMENT 'Which field, which value.',
    `body` String COMMENT 'The row as JSON, or the undecodable bytes.',
    `source` LowCardinality(String) COMMENT 'http, kafka or redrive.',
    `topic` LowCardinality(String) COMMENT 'Topic that it came by; empty when embedded.',
    `preview` String COMMENT 'What a person may see of it: redacted, cut short.',
    `sealed` Bool COMMENT 'Whether body is encrypted: AES-256-GCM, the nonce first.'
)
AS SELECT
    `append_ts`,
    `incarnation`,
    `partition`,
    `offset`,
    `row_index`,
    `kind`,
    `worker_id`,
    `boot_id`,
    `seq`,
    `reason`,
    `detail`,
    `body`,
    `source`,
    `topic`,
    `preview`,
    `sealed`
FROM penstock.quarantine_rows FINAL
COMMENT 'What was rejected, with its bytes and reason, each once.';

CREATE TABLE IF NOT EXISTS penstock.incarnations
(
    topic String COMMENT 'Name of the topic.',
    topic_id String COMMENT 'Id that the broker gave it when it was created.',
    incarnation UInt32 COMMENT 'Counts its lives up from 1; a topic created anew starts its offsets at 0.',
    at DateTime64(6, 'UTC') COMMENT 'When it was first seen.'
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, topic_id)
COMMENT 'The lives of the events topic.';

CREATE TABLE IF NOT EXISTS penstock.redrives
(
    incarnation UInt32 COMMENT 'Of the dead letter.',
    partition UInt32 COMMENT 'Of the dead letter.',
    offset UInt64 COMMENT 'Of the dead letter.',
    row_index UInt32 COMMENT 'Of the dead letter.',
    at DateTime64(6, 'UTC') COMMENT 'When it was sent again.'
)
ENGINE = ReplacingMergeTree(at)
ORDER BY (incarnation, partition, offset, row_index)
COMMENT 'Dead letters that were sent again.';

ALTER TABLE penstock.frames_rows
    ADD COLUMN IF NOT EXISTS `part` UInt16 COMMENT 'Position among what one message brought: a JSON message may hold several batches.',
    MODIFY ORDER BY (incarnation, partition, offset, part);

CREATE OR REPLACE VIEW penstock.frames
(
    `incarnation` UInt32 COMMENT 'Counter of the life of the topic.',
    `partition` UInt32 COMMENT 'Partition.',
    `offset` UInt64 COMMENT 'Offset: the highest one of a partition is its cut.',
    `kind` LowCardinality(String) COMMENT 'Kind of event, or control.',
    `worker_id` LowCardinality(String) COMMENT 'Worker.',
    `boot_id` LowCardinality(String) COMMENT 'Boot.',
    `ranges` Array(Tuple(UInt64, UInt64)) COMMENT 'Sequence numbers taken from this frame for the first time, as [low, high).',
    `gaps` Array(Tuple(UInt64, UInt64)) COMMENT 'Sequence numbers that the worker declared as dropped, as [low, high).',
    `next_seq` UInt64 COMMENT 'One past the highest sequence number that the boot had given out.',
    `clock_ts` DateTime64(6, 'UTC') COMMENT 'Clock of the worker when it built the frame.',
    `closing` Bool COMMENT 'The boot ended in order with this frame.',
    `identified` Bool COMMENT 'The frame carried an identity; without one a repeated POST counts again.',
    `stored` UInt32 COMMENT 'Rows stored.',
    `duplicate` UInt32 COMMENT 'Rows that had been stored before.',
    `rejected` UInt32 COMMENT 'Rows put into quarantine.',
    `late` UInt32 COMMENT 'Rows whose pane had closed.',
    `append_ts` DateTime64(6, 'UTC') COMMENT 'When it was taken.',
    `epoch` UInt32 COMMENT 'Configuration epoch.',
    `body_hash` UInt64 COMMENT 'Hash of a POST that came with an Idempotency-Key.',
    `part` UInt16 COMMENT 'Position among what one message brought: a JSON message may hold several batches.'
)
AS SELECT
    `incarnation`,
    `partition`,
    `offset`,
    `kind`,
    `worker_id`,
    `boot_id`,
    `ranges`,
    `gaps`,
    `next_seq`,
    `clock_ts`,
    `closing`,
    `identified`,
    `stored`,
    `duplicate`,
    `rejected`,
    `late`,
    `append_ts`,
    `epoch`,
    `body_hash`,
    `part`
FROM penstock.frames_rows FINAL
COMMENT 'Ledger: one row per frame that was applied; the commit record, each once.';

-- One insert of some 100,000 rows is one compact part: a wide one has files for every column, and making
-- them costs more than writing the rows. Merged parts are wide. Parts of a few inserts a second are merged
-- fewer times on their way: at the default of 5, merging costs as much as writing.
ALTER TABLE penstock.requests_rows MODIFY SETTING min_bytes_for_wide_part = 67108864, merge_selector_base = 10;

ALTER TABLE penstock.steps_rows MODIFY SETTING min_bytes_for_wide_part = 67108864, merge_selector_base = 10;

ALTER TABLE penstock.feedback_rows MODIFY SETTING min_bytes_for_wide_part = 67108864, merge_selector_base = 10;

ALTER TABLE penstock.releases_rows MODIFY SETTING min_bytes_for_wide_part = 67108864, merge_selector_base = 10;

ALTER TABLE penstock.spans_rows MODIFY SETTING min_bytes_for_wide_part = 67108864, merge_selector_base = 10;
