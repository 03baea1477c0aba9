-- Inserts are synced: the log is trimmed behind the tables, and what it kept safe must stay safe.

-- Elements. The sorting key is the identity: a repeat of a row is the same row.
CREATE TABLE IF NOT EXISTS points
(
    workspace LowCardinality(String),
    run LowCardinality(String),
    metric LowCardinality(String),
    column LowCardinality(String),
    -- -9223372036854775808: none
    step Int64 CODEC(DoubleDelta, ZSTD(1)),
    writer FixedString(16) CODEC(ZSTD(1)),
    seq UInt64 CODEC(DoubleDelta, ZSTD(1)),
    idx UInt32 CODEC(DoubleDelta, ZSTD(1)),
    -- runstream.v1.ValueType
    type UInt8 CODEC(ZSTD(1)),
    -- NaN where the element is no number
    value Float64 CODEC(ZSTD(1)),
    -- exact text of STRING, BIG_INTEGER, and INT64 that a double does not hold
    text String CODEC(ZSTD(1)),
    -- -1: none
    rank Int32 CODEC(ZSTD(1)),
    -- running maximum of logged_time in the writer's order
    time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    logged_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (workspace, run, metric, column, step, writer, seq, idx)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Newest description of each series that has one.
CREATE TABLE IF NOT EXISTS series
(
    workspace LowCardinality(String),
    run LowCardinality(String),
    metric String,
    column String,
    description String,
    version DateTime64(9, 'UTC')
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (workspace, run, metric, column)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Lifecycle. State is computed from these rows when read.
CREATE TABLE IF NOT EXISTS run_events
(
    workspace LowCardinality(String),
    run String,
    -- field number in runstream.v1.RunEvent.event
    kind UInt8,
    writer FixedString(16),
    seq UInt64,
    time DateTime64(9, 'UTC'),
    received_time DateTime64(9, 'UTC'),
    -- of run_started
    experiment LowCardinality(String),
    -- of run_started, writer_started, writer_ended
    launch String,
    -- of run_started, writer_started: how often the launcher restarted the launch
    restart UInt32,
    -- of writer_started, writer_ended: runstream.v1.WriterRole
    role UInt8,
    -- of writer_started; -1: none
    rank Int32,
    -- of run_ended: runstream.v1.RunStatus
    status UInt8,
    -- of writer_ended: runstream.v1.WriterOutcome
    outcome UInt8,
    -- serialized runstream.v1.RunEvent
    event String CODEC(ZSTD(1)),
    -- which row of one identity wins: for writer_ended seq_end * 4 + exit_seen * 2 + observed; for writer_drained
    -- seq_end; for the others 2^64 - 1 - received time in ns: the first receipt
    precedence UInt64
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (workspace, run, kind, writer, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Every setting of an attribute. The greatest (version, writer, seq) of a key wins.
CREATE TABLE IF NOT EXISTS attributes
(
    workspace LowCardinality(String),
    run String,
    -- runstream.v1.AttributeKind
    kind UInt8,
    key String,
    writer FixedString(16),
    seq UInt64,
    -- the smaller of the writer's ordering time and the time of receipt
    version DateTime64(9, 'UTC'),
    value Nullable(String),
    removed UInt8,
    -- 2^64 - 1 - received time in ns: of several deliveries the first receipt wins
    precedence UInt64
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (workspace, run, kind, key, writer, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Records that were accepted into the log and could not be stored; a row for each run concerned ('' when it can't be told).
CREATE TABLE IF NOT EXISTS dead_letters
(
    topic LowCardinality(String),
    partition UInt32,
    epoch FixedString(16),
    offset UInt64,
    workspace String,
    run String,
    -- the sequence numbers concerned, as far as they can be told: a refused batch that is delivered again is the same refusal
    writer FixedString(16),
    first_seq UInt64,
    seq_end UInt64,
    -- runstream.v1.ErrorCode
    code UInt8,
    reason String,
    elements UInt64,
    received_time DateTime64(9, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, epoch, offset, workspace, run)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Offset of the last log record of which everything is in the tables.
CREATE TABLE IF NOT EXISTS applied
(
    consumer LowCardinality(String),
    topic LowCardinality(String),
    partition UInt32,
    epoch FixedString(16),
    offset UInt64,
    -- CRC-32 of that record's value: tells a log that was set back from the one that was read
    check UInt32
)
ENGINE = ReplacingMergeTree(offset)
ORDER BY (consumer, topic, partition, epoch)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
