-- Pieces of logs. Of pieces with one offset the longest counts, and what overlaps the pieces before is the same bytes again: a piece
-- that was sent again may have grown.
CREATE TABLE IF NOT EXISTS logs
(
    workspace LowCardinality(String),
    run String,
    path String,
    writer FixedString(16),
    offset UInt64 CODEC(Delta, ZSTD(1)),
    -- length of data
    size UInt32 CODEC(ZSTD(1)),
    -- -1: none
    rank Int32 CODEC(ZSTD(1)),
    time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    received_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    data String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(size)
ORDER BY (workspace, run, path, writer, offset)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
