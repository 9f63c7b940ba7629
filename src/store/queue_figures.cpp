#include "store/queue_figures.h"

#include "store/columns.h"

namespace penstock {

std::string_view to_string(QueueFigures::State state) {
  switch (state) {
    case QueueFigures::State::waiting:
      return "waiting";
    case QueueFigures::State::running:
      return "running";
    case QueueFigures::State::paused:
      break;
  }
  return "paused";
}

std::vector<QueueFigures> queue_figures(Store& store) {
  std::vector<QueueFigures> all;
  // PostgreSQL sums to another type: hence the cast.
  store.connection().execute(
      "SELECT priority, CASE WHEN paused_ms IS NOT NULL THEN 2 WHEN in_progress_ms IS NOT NULL THEN 1 ELSE 0 END,"
      " COUNT(*), CAST(SUM(total - (SELECT COALESCE(SUM(completed + failed), 0) FROM spans"
      " WHERE batch_seq = batches.seq)) AS BIGINT), MIN(created_ms), MIN(expires_ms)"
      " FROM batches WHERE " PENSTOCK_UNFINISHED " GROUP BY 1, 2 ORDER BY 1, 2",
      {}, [&](const sql::Row& row) {
        all.push_back({.state = static_cast<QueueFigures::State>(row.integer(1)),
                       .priority = static_cast<int>(row.integer(0)),
                       .batches = row.integer(2),
                       .lines = row.integer(3),
                       .oldest = from_ms(row.integer(4)),
                       .next_expiry = from_ms(row.integer(5))});
      });
  return all;
}

std::int64_t pending_deliveries(Store& store) {
  std::int64_t count = 0;
  store.connection().execute("SELECT COUNT(*) FROM deliveries WHERE status = 'pending'", {},
                             [&](const sql::Row& row) { count = row.integer(0); });
  return count;
}

}  // namespace penstock
