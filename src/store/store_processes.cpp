#include "store/columns.h"
#include "store/outbox.h"

namespace penstock {

void Store::join(const std::string& process, bool is_worker, Timestamp now) {
  sql_.execute("DELETE FROM processes WHERE alive = 0 AND (seen_ms < $1 OR seen_ms > $2)",
               {to_ms(now - std::chrono::days(1)), to_ms(now)});
  sql_.execute(
      "INSERT INTO processes (id, alive, beats, seen_ms, is_worker, report) VALUES ($1, 1, 0, $2, $3, '')"
      " ON CONFLICT (id) DO UPDATE SET alive = 1, beats = processes.beats + 1, seen_ms = excluded.seen_ms",
      {process, to_ms(now), std::int64_t{is_worker}});
}

bool Store::beat(const std::string& process, const std::string& report, Timestamp now) {
  return sql_.execute("UPDATE processes SET beats = beats + 1, seen_ms = $1, report = $2 WHERE id = $3 AND alive = 1",
                      {to_ms(now), report, process}) == 1;
}

bool Store::lives(const std::string& process) {
  bool lives = false;
  sql_.execute("SELECT 1 FROM processes WHERE id = $1 AND alive = 1 /*PG FOR SHARE*/", {process},
               [&](const sql::Row&) { lives = true; });
  return lives;
}

std::vector<Peer> Store::peers() {
  std::vector<Peer> all;
  sql_.execute(
      "SELECT id, beats, is_worker, report, seen_ms FROM processes WHERE alive = 1 ORDER BY id", {}, [&](const sql::Row& row) {
        all.push_back({std::string(row.text(0)), row.integer(1), row.integer(2) != 0, std::string(row.text(3)), from_ms(row.integer(4))});
      });
  return all;
}

bool Store::bury(const std::string& process, std::optional<std::int64_t> beats) {
  const bool died =
      sql_.execute("UPDATE processes SET alive = 0 WHERE id = $1 AND alive = 1 AND beats = COALESCE($2, beats)",
                   {process, value_of(beats)}) == 1;
  if (!died) return false;
  release_spans(process);
  Outbox(*this).release(process);
  return true;
}

void Store::bury_all() {
  sql_.execute("UPDATE processes SET alive = 0 WHERE alive = 1", {});
  sql_.execute("UPDATE spans SET owner = NULL WHERE owner IS NOT NULL AND " PENSTOCK_OPEN, {});
  sql_.execute("UPDATE deliveries SET owner = NULL WHERE owner IS NOT NULL", {});
}

std::vector<BatchId> Store::adopt_batches(const std::string& process) {
  sql_.execute("UPDATE batches SET driver = $1 WHERE " PENSTOCK_UNFINISHED
               " AND (driver IS NULL OR driver NOT IN (SELECT id FROM processes WHERE alive = 1))",
               {process});
  std::vector<BatchId> ids;
  sql_.execute("SELECT id FROM batches WHERE driver = $1 AND " PENSTOCK_UNFINISHED " ORDER BY seq", {process},
               [&](const sql::Row& row) { ids.push_back(BatchId{std::string(row.text(0))}); });
  return ids;
}

std::optional<Timestamp> Store::worker_last_seen() {
  std::optional<Timestamp> seen;
  sql_.execute("SELECT MAX(seen_ms) FROM processes WHERE is_worker = 1", {},
               [&](const sql::Row& row) { seen = time_at(row, 0); });
  return seen;
}

}  // namespace penstock
