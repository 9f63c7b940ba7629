-- Version 1 of the schema, which a release never changes: what the next one needs stands in a script of its own, and
-- every database, a new one too, runs those that it has not had.
--
-- In SQLite's dialect. PostgreSQL has other words for three things: INTEGER PRIMARY KEY [AUTOINCREMENT], BLOB, and
-- WITHOUT ROWID, which it does without.
--
-- Times end in _ms: milliseconds since the Unix epoch, except lease_until_ms, which is on the workers' shared clock.
-- `seq` is the order of creation: lists page by it and the queue is served by it.

CREATE TABLE files (
  seq         INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT NOT NULL UNIQUE,
  filename    TEXT NOT NULL,
  purpose     TEXT NOT NULL,
  bytes       BIGINT NOT NULL,
  created_ms  BIGINT NOT NULL,
  expires_ms  BIGINT,
  -- Of an input file that was checked as it came and has no fault.
  endpoint    TEXT,
  model       TEXT,
  lines       BIGINT
);
CREATE INDEX files_expiring ON files (expires_ms) WHERE expires_ms IS NOT NULL;

-- Where a deleted or expired file stood in the lists: who pages through them may have deleted the file he is to go on after.
CREATE TABLE deleted_files (
  id   TEXT PRIMARY KEY,
  seq  BIGINT NOT NULL
);

-- A file that comes in parts. Its parts are rows while it is pending, and none afterwards.
CREATE TABLE uploads (
  id             TEXT PRIMARY KEY,
  filename       TEXT NOT NULL,
  purpose        TEXT NOT NULL,
  bytes          BIGINT NOT NULL,          -- declared
  expires_after  BIGINT,                   -- of the file, seconds
  status         TEXT NOT NULL,
  created_ms     BIGINT NOT NULL,
  expires_ms     BIGINT NOT NULL,
  file_id        TEXT
);
CREATE INDEX uploads_pending ON uploads (expires_ms) WHERE status = 'pending';

CREATE TABLE upload_parts (
  id          TEXT PRIMARY KEY,
  upload_id   TEXT NOT NULL REFERENCES uploads (id),
  bytes       BIGINT NOT NULL,
  created_ms  BIGINT NOT NULL
);
CREATE INDEX upload_parts_by_upload ON upload_parts (upload_id);

-- What a create with such a key has made, for it to be answered again when it is sent again.
CREATE TABLE idempotency_keys (
  key         TEXT PRIMARY KEY,            -- route and key
  request     TEXT NOT NULL,               -- a hash
  object_id   TEXT NOT NULL,
  created_ms  BIGINT NOT NULL
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_ms);

CREATE TABLE batches (
  seq                   INTEGER PRIMARY KEY AUTOINCREMENT,
  id                    TEXT NOT NULL UNIQUE,
  input_file_id         TEXT NOT NULL,
  endpoint              TEXT NOT NULL,
  completion_window     TEXT NOT NULL,
  metadata              TEXT,              -- JSON object of strings
  output_expires_after  BIGINT,           -- seconds
  priority              BIGINT NOT NULL DEFAULT 0,
  model                 TEXT,
  retry_of              TEXT,              -- the id of an earlier batch over the same file
  status                TEXT NOT NULL,
  total                 BIGINT NOT NULL DEFAULT 0,
  -- Counts and tokens: 0 while there are spans to sum over, frozen here when the batch ends.
  completed             BIGINT NOT NULL DEFAULT 0,
  failed                BIGINT NOT NULL DEFAULT 0,
  input_tokens          BIGINT NOT NULL DEFAULT 0,
  cached_tokens         BIGINT NOT NULL DEFAULT 0,
  output_tokens         BIGINT NOT NULL DEFAULT 0,
  reasoning_tokens      BIGINT NOT NULL DEFAULT 0,
  errors                TEXT,              -- JSON array, the first 100
  error_total           BIGINT NOT NULL DEFAULT 0,
  output_file_id        TEXT,
  error_file_id         TEXT,
  created_ms            BIGINT NOT NULL,
  expires_ms            BIGINT NOT NULL,
  in_progress_ms        BIGINT,
  finalizing_ms         BIGINT,
  completed_ms          BIGINT,
  failed_ms             BIGINT,
  expired_ms            BIGINT,
  cancelling_ms         BIGINT,
  cancelled_ms          BIGINT,
  paused_ms             BIGINT
);
CREATE INDEX batches_unfinished ON batches (priority DESC, expires_ms, seq)
  WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling');

-- A run of plan entries. Free for a claim when lease_until_ms is past; each claim raises `token`.
CREATE TABLE spans (
  batch_seq         BIGINT NOT NULL REFERENCES batches (seq),
  number            BIGINT NOT NULL,
  first_entry       BIGINT NOT NULL,
  entries           BIGINT NOT NULL,
  token             BIGINT NOT NULL DEFAULT 0,
  owner             TEXT,
  lease_until_ms    BIGINT NOT NULL DEFAULT 0,
  completed         BIGINT NOT NULL DEFAULT 0,
  failed            BIGINT NOT NULL DEFAULT 0,
  input_tokens      BIGINT NOT NULL DEFAULT 0,
  cached_tokens     BIGINT NOT NULL DEFAULT 0,
  output_tokens     BIGINT NOT NULL DEFAULT 0,
  reasoning_tokens  BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (batch_seq, number),
  CHECK (completed + failed <= entries)
) WITHOUT ROWID;
-- `entries` on the left, here and in queries: SQLite turns `sum < column` round, and then knows it no more.
CREATE INDEX spans_open ON spans (batch_seq, number) WHERE entries > completed + failed;

-- The answers of up to some hundred lines, written once, read when the batch is assembled, and by who follows it. Within
-- a batch `seq` is the order of the commits, since one transaction writes at a time; PostgreSQL would need a lock on the
-- batch's row for that. Rows are deleted only of batches that have ended, and of retries that were not started, when nobody
-- reads them: so no number comes back to a reader.
CREATE TABLE result_groups (
  seq          INTEGER PRIMARY KEY,
  batch_seq    BIGINT NOT NULL REFERENCES batches (seq),
  span_number  BIGINT NOT NULL,
  entries      BLOB NOT NULL,              -- ResultEntry records
  lines        BLOB NOT NULL,              -- zstd
  lines_size   BIGINT NOT NULL            -- before compression
);
CREATE INDEX result_groups_by_span ON result_groups (batch_seq, span_number, seq);
CREATE INDEX result_groups_by_batch ON result_groups (batch_seq, seq);

-- When each worker gave its last sign.
CREATE TABLE workers (
  id       TEXT PRIMARY KEY,
  seen_ms  BIGINT NOT NULL
);

-- SQLite plans by these in place of a guess: few batches are unfinished, and few of a batch's spans are open, so the
-- partial indexes are worth their while.
ANALYZE sqlite_schema;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
  ('batches', 'batches_unfinished', '20 10 2 1'),
  ('spans', 'spans', '20000 2000 1'),
  ('spans', 'spans_open', '2000 200 1');
ANALYZE sqlite_schema;
