#include "store/columns.h"
#include "store/store.h"

namespace penstock {

void Store::worker_seen(const std::string& worker, Timestamp now) {
  sql_.execute(
      "INSERT INTO workers (id, seen_ms) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET seen_ms = excluded.seen_ms",
      {worker, to_ms(now)});
  sql_.execute("DELETE FROM workers WHERE seen_ms < $1 OR seen_ms > $2",
               {to_ms(now - std::chrono::days(1)), to_ms(now)});
}

std::optional<Timestamp> Store::worker_last_seen() {
  std::optional<Timestamp> seen;
  sql_.execute("SELECT MAX(seen_ms) FROM workers", {}, [&](const sql::Row& row) { seen = time_at(row, 0); });
  return seen;
}

}  // namespace penstock
