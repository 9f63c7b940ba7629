-- Version 5: a batch is part of the trace of who has created it.

ALTER TABLE batches ADD COLUMN traceparent TEXT;  -- the span that it is a part of; none: a trace of its own
