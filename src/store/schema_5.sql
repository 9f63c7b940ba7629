-- Version 5: a batch is part of the trace of who has created it.

ALTER TABLE batches ADD COLUMN traceparent TEXT;  -- as the client sent it; none: a trace of its own
