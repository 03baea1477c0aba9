-- What runs amount to: a row for each run, made of its events, attributes and points, and made again when these change.
-- The newest reading wins, so that a repeated or late row changes nothing. Everything in it can be made anew.
CREATE TABLE IF NOT EXISTS run_summaries
(
    workspace LowCardinality(String),
    run String,
    -- when its reading began, by the tables' clock
    version DateTime64(9, 'UTC'),
    -- of the rules by which it was made
    rules UInt8,
    experiment LowCardinality(String),
    -- for people; never empty
    name String,
    parent String,
    run_type LowCardinality(String),
    -- Unix nanoseconds, 0 for none
    first_started Int64,
    started Int64,
    ended Int64,
    last_event Int64,
    -- runstream.v1.RunStatus, as if no lease were renewed
    status UInt8,
    attempts UInt32,
    -- whether an explicit end decided the status; the writer and event that did
    said UInt8,
    decider FixedString(16),
    decider_seq UInt64,
    -- writers on which the status depends, and that are not known to be gone
    open Array(FixedString(16)),
    archived UInt8,
    deleted UInt8,
    -- 1: a value below was longer than 4,096 characters, and is cut
    cut UInt8,
    tags Map(LowCardinality(String), Nullable(String)),
    properties Map(LowCardinality(String), Nullable(String)),
    params Map(LowCardinality(String), Nullable(String)),
    system Map(LowCardinality(String), Nullable(String)),
    -- by metric, for a column of a table with its name behind a zero character
    metrics_last Map(LowCardinality(String), Float64),
    metrics_min Map(LowCardinality(String), Float64),
    metrics_max Map(LowCardinality(String), Float64),
    metrics_first Map(LowCardinality(String), Float64),
    metrics_count Map(LowCardinality(String), UInt64),
    -- the last element, of series in which it is a text
    metrics_text Map(LowCardinality(String), String)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (workspace, run)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 256;

-- Every setting of an attribute of an experiment. As in attributes.
CREATE TABLE IF NOT EXISTS experiment_attributes
(
    workspace LowCardinality(String),
    experiment String,
    kind UInt8,
    key String,
    writer FixedString(16),
    seq UInt64,
    version DateTime64(9, 'UTC'),
    value Nullable(String),
    removed UInt8,
    precedence UInt64
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (workspace, experiment, kind, key, writer, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Shares that were made and revoked.
CREATE TABLE IF NOT EXISTS share_events
(
    workspace LowCardinality(String),
    share FixedString(16),
    -- field number in runstream.v1.WorkspaceEvent.event
    kind UInt8,
    writer FixedString(16),
    seq UInt64,
    time DateTime64(9, 'UTC'),
    -- of share_created; zeros otherwise
    token_sha256 FixedString(32),
    -- of share_created, Unix nanoseconds
    expires Int64,
    -- serialized runstream.v1.WorkspaceEvent
    event String CODEC(ZSTD(1)),
    precedence UInt64
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (workspace, share, kind, writer, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
