-- What PostgreSQL has besides in version 1, where its storage works otherwise than SQLite's.
/*PG
-- A column that an index's predicate names keeps an update from staying in its page, and every saved group updates a
-- span: a scan of the batch's own spans is cheaper. With room in the pages, such updates touch no index.
DROP INDEX spans_open;
ALTER TABLE spans SET (fillfactor = 30, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE batches SET (fillfactor = 50);
-- They are compressed already.
ALTER TABLE result_groups ALTER COLUMN entries SET STORAGE EXTERNAL, ALTER COLUMN lines SET STORAGE EXTERNAL;
*/
