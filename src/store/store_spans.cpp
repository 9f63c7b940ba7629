#include <algorithm>

#include "store/columns.h"
#include "store/group_codec.h"
#include "store/saved_groups.h"
#include "store/store.h"

namespace penstock {
namespace {

// Whether others may read what is saved of the batch: of a retry that was never started it may be saved again.
#define PENSTOCK_READABLE "(model IS NOT NULL OR status NOT IN ('validating', 'cancelling'))"

#define PENSTOCK_ENDED "COALESCE(completed_ms, failed_ms, expired_ms, cancelled_ms)"

// Of a row of `batches`: it has ended, and one of its files was deleted since.
#define PENSTOCK_FILES_DELETED                                                                            \
  "((output_file_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM files WHERE files.id = output_file_id)) OR" \
  " (error_file_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM files WHERE files.id = error_file_id)))"

// The batches that have result groups, found by one step in an index for each of them.
#define PENSTOCK_HOLDERS                                              \
  "WITH RECURSIVE holders (seq) AS"                                   \
  " (SELECT MIN(batch_seq) FROM result_groups UNION ALL"              \
  " SELECT (SELECT MIN(batch_seq) FROM result_groups WHERE batch_seq" \
  " > holders.seq) FROM holders WHERE holders.seq IS NOT NULL) "

SavedGroup saved_group(const sql::Row& row) {
  SavedGroup group{row.integer(0), row.integer(1), {}};
  for_each_entry(row.text(2), [&](const ResultEntry& entry) { group.entries.push_back(entry); });
  return group;
}

}  // namespace

std::vector<ClaimedSpan> Store::claim_spans(const Claim& claim, Timestamp now) {
  // What is free may be gone when we have come to the batch's row: others wait there too.
  constexpr int kTries = 3;
  for (int tries = 0; tries < kTries; ++tries) {
    auto spans = claim_once(claim, now);
    if (!spans) return {};
    if (!spans->empty()) return std::move(*spans);
  }
  return {};
}

// Nothing when no batch has a free span.
std::optional<std::vector<ClaimedSpan>> Store::claim_once(const Claim& claim, Timestamp now) {
  std::optional<std::int64_t> seq;
  ClaimedSpan like;
  std::int64_t size = 0, free = 0;
  bool has_begun = false;
  sql_.execute(
      "SELECT b.seq, b.id, b.input_file_id, b.endpoint, b.dedupe, b.total, b.in_progress_ms, b.traceparent,"
      " (SELECT COUNT(*) FROM spans WHERE batch_seq = b.seq AND owner IS NULL AND " PENSTOCK_OPEN
      ") FROM batches b WHERE b." PENSTOCK_UNFINISHED
      " AND b.status = 'in_progress' AND b.paused_ms IS NULL AND b.fenced = 0 AND b.model = $1 AND b.expires_ms > $2"
      " AND b.project = $4"
      " AND ($3 = 1 OR b.in_progress_ms IS NOT NULL) AND EXISTS"
      " (SELECT 1 FROM spans WHERE batch_seq = b.seq AND owner IS NULL AND " PENSTOCK_OPEN
      ") ORDER BY b.priority DESC, b.expires_ms, b.seq LIMIT 1 /*PG FOR NO KEY UPDATE OF b*/",
      {claim.model, to_ms(now), std::int64_t{claim.begin}, claim.project.value}, [&](const sql::Row& row) {
        seq = row.integer(0);
        like.key.batch.value = row.text(1);
        like.input_file_id.value = row.text(2);
        like.endpoint = row.text(3);
        like.dedupe = row.integer(4) != 0;
        like.model = claim.model;
        like.project = claim.project;
        size = span_lines(row.integer(5));
        has_begun = !row.is_null(6);
        like.traceparent = text_at(row, 7);
        free = row.integer(8);
      });
  if (!seq) return std::nullopt;
  std::int64_t limit = std::max<std::int64_t>(1, claim.lines / size);
  if (claim.workers > 1) limit = std::min(limit, (free - 1) / (2 * claim.workers) + 1);

  std::vector<ClaimedSpan> spans;
  sql_.execute(
      "WITH free AS (SELECT number AS free_number FROM spans WHERE batch_seq = $1 AND owner IS NULL AND " PENSTOCK_OPEN
      " ORDER BY number LIMIT $2 /*PG FOR UPDATE SKIP LOCKED*/)"
      " UPDATE spans SET token = token + 1, owner = $3 FROM free WHERE batch_seq = $1 AND number = free_number"
      " RETURNING number, token, first_entry, entries, completed + failed",
      {*seq, limit, claim.owner}, [&](const sql::Row& row) {
        ClaimedSpan& span = spans.emplace_back(like);
        span.key.number = row.integer(0);
        span.token = row.integer(1);
        span.first = static_cast<std::uint32_t>(row.integer(2));
        span.count = static_cast<std::uint32_t>(row.integer(3));
        span.finished = row.integer(4);
      });
  std::sort(spans.begin(), spans.end(), [](auto& a, auto& b) { return a.key.number < b.key.number; });
  if (!spans.empty() && !has_begun) {
    sql_.execute("UPDATE batches SET in_progress_ms = $1 WHERE seq = $2 AND in_progress_ms IS NULL",
                 {to_ms(now), *seq});
  }
  return spans;
}

std::vector<SpanKey> Store::held_spans(const std::string& owner) {
  std::vector<SpanKey> held;
  sql_.execute(
      "SELECT b.id, s.number FROM spans s JOIN batches b ON b.seq = s.batch_seq WHERE s.owner = $1"
      " AND s.entries > s.completed + s.failed",
      {owner}, [&](const sql::Row& row) {
        held.push_back({{std::string(row.text(0))}, row.integer(1)});
      });
  return held;
}

std::int64_t Store::count_held_by_others(const BatchId& id, const std::string& owner) {
  std::int64_t spans = 0;
  sql_.execute(
      "SELECT COUNT(*) FROM spans WHERE batch_seq = (SELECT seq FROM batches WHERE id = $1)"
      " AND owner IS NOT NULL AND owner <> $2 AND " PENSTOCK_OPEN,
      {id.value, owner}, [&](const sql::Row& row) { spans = row.integer(0); });
  return spans;
}

void Store::release_span(const SpanKey& span, const std::string& owner) {
  sql_.execute("UPDATE spans SET owner = NULL WHERE owner = $1 AND number = $2 AND " PENSTOCK_OPEN
               " AND batch_seq = (SELECT seq FROM batches WHERE id = $3)",
               {owner, span.number, span.batch.value});
}

void Store::release_spans(const std::string& owner) {
  sql_.execute("UPDATE spans SET owner = NULL WHERE owner = $1 AND " PENSTOCK_OPEN, {owner});
  sql_.notify("");
}

void Store::release_spans(const std::string& owner, const BatchId& id) {
  sql_.execute("UPDATE spans SET owner = NULL WHERE owner = $1 AND " PENSTOCK_OPEN
               " AND batch_seq = (SELECT seq FROM batches WHERE id = $2)",
               {owner, id.value});
  notify(id);
}

void Store::fence(const BatchId& id) {
  sql_.execute(
      "UPDATE spans SET token = token + 1, owner = NULL"
      " WHERE batch_seq = (SELECT seq FROM batches WHERE id = $1 /*PG FOR NO KEY UPDATE*/)",
      {id.value});
  sql_.execute("UPDATE batches SET fenced = 1 WHERE id = $1", {id.value});
  notify(id);
}

std::vector<std::uint32_t> Store::finished_indices(const SpanKey& span) {
  // A commit that nobody heard of may still be under way.
  sql_.execute_later("SELECT seq FROM batches WHERE id = $1 /*PG FOR NO KEY UPDATE*/", {span.batch.value});
  std::vector<std::uint32_t> indices;
  sql_.execute(
      "SELECT entries FROM result_groups"
      " WHERE batch_seq = (SELECT seq FROM batches WHERE id = $1) AND span_number = $2 ORDER BY seq",
      {span.batch.value, span.number}, [&](const sql::Row& row) {
        for_each_entry(row.text(0), [&](const ResultEntry& entry) { indices.push_back(entry.index); });
      });
  return indices;
}

bool Store::save_results(const ResultGroup& group) {
  const auto failed =
      std::count_if(group.entries.begin(), group.entries.end(), [](auto& entry) { return entry.failed; });
  const auto completed = static_cast<std::int64_t>(group.entries.size()) - failed;
  std::optional<std::int64_t> batch_seq;
  sql_.execute(
      "UPDATE spans SET completed = completed + $1, failed = failed + $2, input_tokens = input_tokens + $3,"
      " cached_tokens = cached_tokens + $4, output_tokens = output_tokens + $5,"
      " reasoning_tokens = reasoning_tokens + $6"
      " WHERE batch_seq = (SELECT seq FROM batches WHERE id = $7 AND status IN ('validating', 'in_progress', "
      "'cancelling') /*PG FOR NO KEY UPDATE*/)"
      " AND number = $8 AND token = $9 RETURNING batch_seq",
      {completed, std::int64_t{failed}, group.usage.input, group.usage.cached, group.usage.output,
       group.usage.reasoning, group.span.batch.value, group.span.number, group.token},
      [&](const sql::Row& row) { batch_seq = row.integer(0); });
  if (!batch_seq) return false;

  const std::string entries = encode_entries(group.entries);
  sql_.execute_later(
      "INSERT INTO result_groups (batch_seq, span_number, entries, lines, lines_size) VALUES ($1, $2, $3, $4, $5)",
      {*batch_seq, group.span.number, sql::Blob{entries}, sql::Blob{compress(group.lines)},
       static_cast<std::int64_t>(group.lines.size())});
  return true;
}

std::int64_t Store::remaining(const BatchId& id) {
  std::int64_t lines = 0;
  sql_.execute(
      "SELECT CAST(COALESCE(SUM(entries - completed - failed), 0) AS BIGINT) FROM spans"
      " WHERE batch_seq = (SELECT seq FROM batches WHERE id = $1) AND " PENSTOCK_OPEN,
      {id.value}, [&](const sql::Row& row) { lines = row.integer(0); });
  return lines;
}

void Store::for_each_group(const BatchId& id, const std::function<void(const ResultGroup&)>& each, SpanRange spans) {
  ResultGroup group;
  group.span.batch = id;
  sql_.execute(
      "SELECT span_number, entries, lines, lines_size FROM result_groups"
      " WHERE batch_seq = (SELECT seq FROM batches WHERE id = $1) AND span_number >= $2 AND span_number < $3"
      " ORDER BY span_number, seq",
      {id.value, spans.first, spans.end}, [&](const sql::Row& row) {
        group.span.number = row.integer(0);
        group.entries.clear();
        for_each_entry(row.text(1), [&](const ResultEntry& entry) { group.entries.push_back(entry); });
        decompress(row.text(2), static_cast<std::size_t>(row.integer(3)), group.lines);
        each(group);
      });
}

std::string Store::saved_lines(const BatchId& id, SavedPlace& place, std::size_t enough) {
  std::string all, lines;
  for (bool more = true; more && all.size() < enough;) {
    more = false;
    sql_.execute(
        "SELECT seq, lines, lines_size FROM result_groups"
        " WHERE batch_seq = (SELECT seq FROM batches WHERE id = $1 AND " PENSTOCK_READABLE
        ") AND seq >= $2"
        " ORDER BY seq LIMIT 1",
        {id.value, place.seq}, [&](const sql::Row& row) {
          const std::int64_t seq = row.integer(0);
          decompress(row.text(1), static_cast<std::size_t>(row.integer(2)), lines);
          all.append(lines, seq == place.seq ? place.offset : 0);
          place = {seq + 1, 0};
          more = true;
        });
  }
  return all;
}

bool Store::find_line(const BatchId& id, std::uint32_t index, SavedPlace& place, std::int64_t limit) {
  bool found = false;
  sql_.execute(
      "SELECT seq, entries FROM result_groups"
      " WHERE batch_seq = (SELECT seq FROM batches WHERE id = $1 AND " PENSTOCK_READABLE
      ") AND seq >= $2"
      " ORDER BY seq LIMIT $3",
      {id.value, place.seq, limit}, [&](const sql::Row& row) {
        if (found) return;
        std::size_t offset = 0;
        for_each_entry(row.text(1), [&](const ResultEntry& entry) {
          if (entry.index == index && !found) {
            place = {row.integer(0), offset};
            found = true;
          }
          offset += entry.length;
        });
        if (!found) place = {row.integer(0) + 1, 0};
      });
  return found;
}

std::vector<SavedGroup> SavedGroups::of_span(const SpanKey& span) {
  std::vector<SavedGroup> groups;
  sql_.execute(
      "SELECT seq, span_number, entries FROM result_groups"
      " WHERE batch_seq = (SELECT seq FROM batches WHERE id = $1 AND " PENSTOCK_READABLE
      ") AND span_number = $2 ORDER BY seq",
      {span.batch.value, span.number}, [&](const sql::Row& row) { groups.push_back(saved_group(row)); });
  return groups;
}

std::vector<SavedGroup> SavedGroups::behind(const BatchId& id, std::int64_t seq, std::int64_t limit) {
  std::vector<SavedGroup> groups;
  sql_.execute(
      "SELECT seq, span_number, entries FROM result_groups"
      " WHERE batch_seq = (SELECT seq FROM batches WHERE id = $1 AND " PENSTOCK_READABLE
      ") AND seq > $2 ORDER BY seq LIMIT $3",
      {id.value, seq, limit}, [&](const sql::Row& row) { groups.push_back(saved_group(row)); });
  return groups;
}

std::string SavedGroups::lines(std::int64_t seq) {
  std::string lines;
  sql_.execute("SELECT lines, lines_size FROM result_groups WHERE seq = $1", {seq},
               [&](const sql::Row& row) { decompress(row.text(0), static_cast<std::size_t>(row.integer(1)), lines); });
  return lines;
}

std::optional<Timestamp> Store::ended_at(const BatchId& id) {
  std::optional<Timestamp> ended;
  sql_.execute("SELECT " PENSTOCK_ENDED " FROM batches WHERE id = $1", {id.value},
               [&](const sql::Row& row) { ended = time_at(row, 0); });
  return ended;
}

bool Store::has_deleted_files(const BatchId& id) {
  bool has = false;
  sql_.execute("SELECT 1 FROM batches WHERE id = $1 AND " PENSTOCK_FILES_DELETED, {id.value},
               [&](const sql::Row&) { has = true; });
  return has;
}

std::optional<Timestamp> Store::first_end_with_results() {
  std::optional<Timestamp> first;
  sql_.execute(PENSTOCK_HOLDERS "SELECT MIN(CASE WHEN " PENSTOCK_FILES_DELETED " THEN 0 ELSE " PENSTOCK_ENDED
                                " END) FROM batches WHERE seq IN (SELECT seq FROM holders)",
               {}, [&](const sql::Row& row) { first = time_at(row, 0); });
  return first;
}

std::int64_t Store::purge_results(Timestamp ended_by, std::int64_t limit) {
  return sql_.execute(
      "DELETE FROM result_groups WHERE seq IN (SELECT seq FROM result_groups WHERE batch_seq = (" PENSTOCK_HOLDERS
      "SELECT MIN(seq) FROM batches WHERE seq IN (SELECT seq FROM holders) AND (" PENSTOCK_ENDED
      " <= $1 OR " PENSTOCK_FILES_DELETED ")) LIMIT $2 /*PG FOR UPDATE SKIP LOCKED*/)",
      {to_ms(ended_by), limit});
}

}  // namespace penstock
