-- Version 3: several processes on one database. A process holds spans, which it runs, and batches, which it sees to
-- their ends, for as long as it lives; see Store::beat().

CREATE TABLE processes (
  id         TEXT PRIMARY KEY,
  alive      BIGINT NOT NULL,
  beats      BIGINT NOT NULL,          -- one more now and then: who has seen no change for long enough buries it
  seen_ms    BIGINT NOT NULL,          -- when it gave the last one, by its own clock
  is_worker  BIGINT NOT NULL,
  report     TEXT NOT NULL             -- JSON: what it says of its engines
);
INSERT INTO processes (id, alive, beats, seen_ms, is_worker, report) SELECT id, 0, 0, seen_ms, 1, '' FROM workers;
DROP TABLE workers;

ALTER TABLE batches ADD COLUMN driver TEXT;
ALTER TABLE batches ADD COLUMN fenced BIGINT NOT NULL DEFAULT 0;  -- no span is claimed any more

ALTER TABLE spans DROP COLUMN lease_until_ms;
CREATE INDEX spans_free ON spans (batch_seq, number) WHERE owner IS NULL;

-- The name of this database, which the place of its files bears too, if `marked`: one row.
CREATE TABLE identity (
  id      TEXT NOT NULL,
  marked  BIGINT NOT NULL
);
