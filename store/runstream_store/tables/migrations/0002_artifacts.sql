-- Uploads of files. The newest (time, writer, seq) of a path is its content; uploads that repeat the content of the one before are no
-- versions of their own, which readers work out.
CREATE TABLE IF NOT EXISTS artifacts
(
    workspace LowCardinality(String),
    run String,
    path String,
    writer FixedString(16),
    seq UInt64,
    time DateTime64(9, 'UTC'),
    received_time DateTime64(9, 'UTC'),
    size UInt64,
    -- lower-case hexadecimal SHA-256 of the content
    sha256 String,
    media_type LowCardinality(String),
    -- serialized runstream.v1.ArtifactManifest
    manifest String CODEC(ZSTD(1)),
    -- 2^64 - 1 - received time in ns: the first receipt wins
    precedence UInt64
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (workspace, run, path, writer, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Registrations of models. Those of one name, in the order (received_time, run, writer, seq), are its versions, from 1.
CREATE TABLE IF NOT EXISTS models
(
    workspace LowCardinality(String),
    name String,
    run String,
    writer FixedString(16),
    seq UInt64,
    time DateTime64(9, 'UTC'),
    received_time DateTime64(9, 'UTC'),
    path String,
    -- serialized runstream.v1.ModelRegistered
    model String CODEC(ZSTD(1)),
    -- as in artifacts
    precedence UInt64
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (workspace, name, run, writer, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
