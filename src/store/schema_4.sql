-- Version 4: who may do what, and who is told when a batch has ended. Each file, upload and batch is one project's.

CREATE TABLE projects (
  seq                  INTEGER PRIMARY KEY AUTOINCREMENT,
  id                   TEXT NOT NULL UNIQUE,
  name                 TEXT NOT NULL,
  created_ms           BIGINT NOT NULL,
  archived_ms          BIGINT,
  weight               BIGINT NOT NULL DEFAULT 1,   -- its share of the slots, against those of others that have work
  -- What it may have at most; no number: no limit.
  stored_bytes         BIGINT,
  active_batches       BIGINT,
  queued_lines         BIGINT,
  requests_per_second  BIGINT
);
-- What was there before, and all that comes without a key.
INSERT INTO projects (id, name, created_ms) VALUES ('proj_default', 'Default', 0);

-- They are a project's own by now.
UPDATE idempotency_keys SET key = 'proj_default ' || key;

ALTER TABLE files ADD COLUMN project TEXT NOT NULL DEFAULT 'proj_default';
ALTER TABLE deleted_files ADD COLUMN project TEXT NOT NULL DEFAULT 'proj_default';
ALTER TABLE uploads ADD COLUMN project TEXT NOT NULL DEFAULT 'proj_default';
ALTER TABLE batches ADD COLUMN project TEXT NOT NULL DEFAULT 'proj_default';
CREATE INDEX files_by_project ON files (project, seq, bytes);  -- their sum is asked for, too
CREATE INDEX batches_by_project ON batches (project, seq);

-- The name of a file goes with it; an upload that has ended does not keep it.
UPDATE uploads SET filename = '' WHERE status <> 'pending';

CREATE TABLE api_keys (
  seq           INTEGER PRIMARY KEY AUTOINCREMENT,
  id            TEXT NOT NULL UNIQUE,
  project       TEXT NOT NULL REFERENCES projects (id),
  name          TEXT NOT NULL,
  hash          TEXT NOT NULL UNIQUE,      -- SHA-256 of the key, which is stored nowhere
  hint          TEXT NOT NULL,             -- its first and last characters
  scopes        TEXT NOT NULL,             -- words, one space between
  created_ms    BIGINT NOT NULL,
  expires_ms    BIGINT,
  revoked_ms    BIGINT,
  rotated_ms    BIGINT,                    -- another takes its place, and it expires soon
  last_used_ms  BIGINT                     -- to about a minute
);

-- Who did what to which id. Never what was in it.
CREATE TABLE audit_log (
  seq         INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ms       BIGINT NOT NULL,
  project     TEXT NOT NULL,
  key_id      TEXT,                        -- none: without a key, or on the machine itself
  action      TEXT NOT NULL,               -- such as batch.created
  object_id   TEXT NOT NULL,
  request_id  TEXT                         -- none: on the machine itself
);
CREATE INDEX audit_log_by_age ON audit_log (at_ms);

-- What a batch asked for when it was created, as JSON.
ALTER TABLE batches ADD COLUMN webhook TEXT;   -- {"url", "secret", "events"}
ALTER TABLE batches ADD COLUMN sinks TEXT;     -- array

-- Who hears of every batch of a project.
CREATE TABLE webhook_endpoints (
  seq                  INTEGER PRIMARY KEY AUTOINCREMENT,
  id                   TEXT NOT NULL UNIQUE,
  project              TEXT NOT NULL,
  name                 TEXT NOT NULL,
  url                  TEXT NOT NULL,
  event_types          TEXT NOT NULL,      -- JSON array
  secret               TEXT NOT NULL,
  old_secret           TEXT,               -- signs too, until then
  old_secret_until_ms  BIGINT,
  created_ms           BIGINT NOT NULL,
  updated_ms           BIGINT NOT NULL,
  disabled_ms          BIGINT              -- it has said that it is gone
);

-- The outbox: what is to be told or brought to whom, inserted in the transaction that ends the batch. A row is a
-- process's own while `owner` lives.
CREATE TABLE deliveries (
  seq         INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT NOT NULL UNIQUE,        -- the same over all attempts
  project     TEXT NOT NULL,
  batch_id    TEXT NOT NULL,
  kind        TEXT NOT NULL,               -- webhook or sink
  receiver    TEXT NOT NULL,               -- JSON: what it goes to
  destination TEXT NOT NULL,               -- the far side that it burdens: host and port, or the name of a sink
  event       TEXT NOT NULL,               -- such as batch.completed
  body        TEXT NOT NULL,               -- of a webhook, as it is signed
  status      TEXT NOT NULL,               -- pending, delivered or dead
  attempts    BIGINT NOT NULL DEFAULT 0,   -- that were begun
  failures    BIGINT NOT NULL DEFAULT 0,   -- attempts that failed since one came further
  position    BIGINT NOT NULL DEFAULT 0,   -- of a sink: how far it has come
  next_ms     BIGINT NOT NULL,             -- not before
  owner       TEXT,
  last_error  TEXT,                        -- of the last attempt, in our words
  created_ms  BIGINT NOT NULL,
  ended_ms    BIGINT
);
CREATE INDEX deliveries_due ON deliveries (next_ms) WHERE status = 'pending';
CREATE INDEX deliveries_owned ON deliveries (owner, destination) WHERE owner IS NOT NULL;
CREATE INDEX deliveries_ended ON deliveries (ended_ms) WHERE ended_ms IS NOT NULL;
CREATE INDEX deliveries_by_batch ON deliveries (batch_id);
CREATE INDEX deliveries_by_project ON deliveries (project, seq);

ANALYZE sqlite_schema;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
  ('batches', 'batches_by_project', '20000 5000 1'),
  ('files', 'files_by_project', '40000 10000 1 1');
ANALYZE sqlite_schema;
