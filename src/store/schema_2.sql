-- Version 2: batches of whose lines those that ask the same are answered once.

ALTER TABLE batches ADD COLUMN dedupe BIGINT NOT NULL DEFAULT 0;
