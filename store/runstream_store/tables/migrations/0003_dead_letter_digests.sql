-- Digest (docs/formats.md) of the identities of the elements, or events, that a dead letter held of the run.
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS digest UInt64 DEFAULT 0;

-- 1: the digest could be told.
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS digested UInt8 DEFAULT 0;

-- Events in it, without those of senders.
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS events UInt64 DEFAULT 0;
