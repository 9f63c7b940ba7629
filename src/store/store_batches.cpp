#include <fmt/core.h>

#include <algorithm>
#include <cassert>
#include <limits>
#include <map>
#include <stdexcept>

#include "model/wire.h"
#include "store/columns.h"
#include "store/outbox.h"
#include "store/quota.h"

namespace penstock {
namespace {

struct StatusTime {
  BatchStatus status;
  const char* column;
  std::optional<Timestamp> Batch::*member;
};
constexpr StatusTime kStatusTimes[] = {
    {BatchStatus::in_progress, "in_progress_ms", &Batch::in_progress_at},
    {BatchStatus::finalizing, "finalizing_ms", &Batch::finalizing_at},
    {BatchStatus::completed, "completed_ms", &Batch::completed_at},
    {BatchStatus::failed, "failed_ms", &Batch::failed_at},
    {BatchStatus::expired, "expired_ms", &Batch::expired_at},
    {BatchStatus::cancelling, "cancelling_ms", &Batch::cancelling_at},
    {BatchStatus::cancelled, "cancelled_ms", &Batch::cancelled_at},
};

// The column that tells since when a batch has that status.
const char* time_column(BatchStatus status) {
  for (const StatusTime& time : kStatusTimes) {
    if (time.status == status) return time.column;
  }
  throw std::logic_error("no batch becomes validating");
}

constexpr const char* kBatchColumns =
    "seq, id, input_file_id, (SELECT bytes FROM files WHERE files.id = input_file_id), endpoint, completion_window, "
    "metadata, output_expires_after, priority, dedupe, model, retry_of, status, total, completed, failed, "
    "input_tokens, cached_tokens, output_tokens, reasoning_tokens, errors, error_total, "
    "output_file_id, error_file_id, created_ms, expires_ms, in_progress_ms, finalizing_ms, completed_ms, failed_ms, "
    "expired_ms, cancelling_ms, cancelled_ms, paused_ms, driver, project, webhook, sinks, traceparent";

Batch read_batch(const sql::Row& row) {
  int column = 1;
  Batch batch;
  batch.id.value = row.text(column++);
  batch.input_file_id.value = row.text(column++);
  batch.input_bytes = integer_at(row, column++).value_or(0);
  batch.endpoint = row.text(column++);
  batch.completion_window = row.text(column++);
  if (const auto metadata = text_at(row, column++)) batch.metadata = wire::parse_metadata(*metadata);
  batch.output_expires_after_seconds = integer_at(row, column++);
  batch.priority = static_cast<int>(row.integer(column++));
  batch.dedupe = row.integer(column++) != 0;
  batch.model = text_at(row, column++);
  if (auto id = text_at(row, column++)) batch.retry_of = BatchId{std::move(*id)};
  batch.status = parse_batch_status(row.text(column++));
  for (std::int64_t* number : {&batch.counts.total, &batch.counts.completed, &batch.counts.failed, &batch.usage.input,
                               &batch.usage.cached, &batch.usage.output, &batch.usage.reasoning}) {
    *number = row.integer(column++);
  }
  if (const auto errors = text_at(row, column++)) batch.errors = wire::parse_errors(*errors);
  batch.error_total = row.integer(column++);
  if (auto id = text_at(row, column++)) batch.output_file_id = FileId{std::move(*id)};
  if (auto id = text_at(row, column++)) batch.error_file_id = FileId{std::move(*id)};
  batch.created_at = from_ms(row.integer(column++));
  batch.expires_at = from_ms(row.integer(column++));
  for (const StatusTime& time : kStatusTimes) batch.*time.member = time_at(row, column++);
  batch.paused_at = time_at(row, column++);
  batch.driver = text_at(row, column++);
  batch.project.value = row.text(column++);
  batch.webhook = text_at(row, column++);
  batch.sinks = text_at(row, column++);
  batch.traceparent = text_at(row, column++);
  return batch;
}

// Counts and usage of a batch that has spans.
void add_spans(sql::Connection& sql, std::int64_t seq, Batch& batch) {
  // PostgreSQL sums to another type: hence the casts.
  sql.execute(
      "SELECT CAST(COALESCE(SUM(completed), 0) AS BIGINT), CAST(COALESCE(SUM(failed), 0) AS BIGINT),"
      " CAST(COALESCE(SUM(input_tokens), 0) AS BIGINT), CAST(COALESCE(SUM(cached_tokens), 0) AS BIGINT),"
      " CAST(COALESCE(SUM(output_tokens), 0) AS BIGINT), CAST(COALESCE(SUM(reasoning_tokens), 0) AS BIGINT)"
      " FROM spans WHERE batch_seq = $1",
      {seq}, [&](const sql::Row& row) {
        batch.counts.completed += row.integer(0);
        batch.counts.failed += row.integer(1);
        batch.usage += Usage{row.integer(2), row.integer(3), row.integer(4), row.integer(5)};
      });
  assert(batch.counts.completed + batch.counts.failed <= batch.counts.total);
}

// `rest` is what follows WHERE.
std::vector<Batch> select_batches(sql::Connection& sql, std::string_view rest,
                                  std::initializer_list<sql::Value> values) {
  std::vector<Batch> batches;
  std::vector<std::int64_t> seqs;
  sql.execute(fmt::format("SELECT {} FROM batches WHERE {}", kBatchColumns, rest), values, [&](const sql::Row& row) {
    seqs.push_back(row.integer(0));
    batches.push_back(read_batch(row));
  });
  for (std::size_t i = 0; i < batches.size(); ++i) {
    if (!is_terminal(batches[i].status)) add_spans(sql, seqs[i], batches[i]);
  }
  return batches;
}

// Text that LIKE takes as it stands, within what the columns hold: in JSON some characters are escaped.
std::string like(std::string_view text) {
  const std::string json = wire::quoted(text);
  std::string pattern = "%";
  for (const char c : std::string_view(json).substr(1, json.size() - 2)) {
    if (c == '%' || c == '_' || c == '!') pattern += '!';
    pattern += c;
  }
  return pattern + "%";
}

// Of a row of `batches`: that it is of the project $1 and as a filter says, which gives $2 to $5.
struct Condition {
  explicit Condition(const BatchFilter& filter)
      : model(value_of(filter.model)),
        after(value_of(filter.created_after)),
        before(value_of(filter.created_before)),
        pattern(filter.search.empty() ? std::nullopt : std::optional(like(filter.search))),
        search(value_of(pattern)) {
    text =
        "project = $1 AND (CAST($2 AS TEXT) IS NULL OR model = $2) AND (CAST($3 AS BIGINT) IS NULL OR created_ms >= $3)"
        " AND (CAST($4 AS BIGINT) IS NULL OR created_ms < $4)"
        " AND (CAST($5 AS TEXT) IS NULL OR LOWER(id) LIKE LOWER($5) ESCAPE '!' OR LOWER(metadata) LIKE LOWER($5)"
        " ESCAPE '!')";
    if (!filter.status) return;
    if (*filter.status == BatchStatus::validating) {
      text += " AND (status = 'validating' OR (status = 'in_progress' AND in_progress_ms IS NULL))";
    } else {
      text += fmt::format(" AND status = '{}'", to_string(*filter.status));
      if (*filter.status == BatchStatus::in_progress) text += " AND in_progress_ms IS NOT NULL";
    }
  }

  std::string text;
  sql::Value model, after, before;
  std::optional<std::string> pattern;
  sql::Value search;
};

}  // namespace

Error no_such_batch(const BatchId& id, std::string param) {
  return {Error::Kind::not_found, fmt::format("No batch found with id '{}'.", id.value), "", std::move(param)};
}

Result<void> Store::insert_batch(const Batch& batch, const QueueLimits& limits) {
  assert(batch.status == BatchStatus::validating);
  lock_queue();
  // A batch whose lines are not counted yet needs room for one.
  const auto to_run = std::max<std::int64_t>(batch.counts.total - batch.counts.completed, 1);
  if (auto checked = check_batch(*this, batch.project, to_run); !checked) return checked;
  std::int64_t depth = 0, queued = 0;
  sql_.execute(
      "SELECT COUNT(*), CAST(COALESCE(SUM(total - (SELECT COALESCE(SUM(completed + failed), 0) FROM spans"
      " WHERE batch_seq = batches.seq)), 0) AS BIGINT) FROM batches WHERE " PENSTOCK_UNFINISHED,
      {}, [&](const sql::Row& row) {
        depth = row.integer(0);
        queued = row.integer(1);
      });
  if (limits.depth > 0 && depth >= limits.depth) {
    return Error{Error::Kind::queue_full, fmt::format("Queue full ({}/{} jobs). Try again later.", depth, limits.depth),
                 "queue_full"};
  }
  if (limits.queued_total > 0 && queued + to_run > limits.queued_total) {
    return Error{
        Error::Kind::queue_full,
        fmt::format("Queue full ({} of at most {} requests are queued). Try again later.", queued, limits.queued_total),
        "queue_full"};
  }

  std::optional<std::string> metadata, retry_of;
  if (batch.metadata) metadata = wire::metadata_json(*batch.metadata);
  if (batch.retry_of) retry_of = batch.retry_of->value;
  sql_.execute(
      "INSERT INTO batches (id, input_file_id, endpoint, completion_window, metadata, output_expires_after,"
      " priority, dedupe, model, retry_of, status, total, created_ms, expires_ms, driver, project, webhook, sinks,"
      " traceparent)"
      " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
      {batch.id.value, batch.input_file_id.value, batch.endpoint, batch.completion_window, value_of(metadata),
       value_of(batch.output_expires_after_seconds), std::int64_t{batch.priority}, std::int64_t{batch.dedupe},
       value_of(batch.model), value_of(retry_of), to_string(batch.status), batch.counts.total, to_ms(batch.created_at),
       to_ms(batch.expires_at), value_of(batch.driver), batch.project.value, value_of(batch.webhook),
       value_of(batch.sinks), value_of(batch.traceparent)});
  return {};
}

std::optional<Batch> Store::find_batch(const BatchId& id) {
  auto found = select_batches(sql_, "id = $1", {id.value});
  if (found.empty()) return std::nullopt;
  return std::move(found.front());
}

std::optional<Batch> Store::find_batch(const ProjectId& project, const BatchId& id) {
  auto found = select_batches(sql_, "id = $1 AND project = $2", {id.value, project.value});
  if (found.empty()) return std::nullopt;
  return std::move(found.front());
}

Result<Page<Batch>> Store::list_batches(const ProjectId& project, const std::optional<BatchId>& after,
                                        std::int64_t limit, const BatchFilter& filter, std::int64_t skip) {
  std::int64_t position = std::numeric_limits<std::int64_t>::max();
  if (after) {
    bool known = false;
    sql_.execute("SELECT seq FROM batches WHERE id = $1 AND project = $2", {after->value, project.value},
                 [&](const sql::Row& row) {
                   position = row.integer(0);
                   known = true;
                 });
    if (!known) return no_such_batch(*after, "after");
  }
  const Condition condition(filter);
  Page<Batch> page;
  page.items = select_batches(
      sql_, fmt::format("{} AND seq < $6 ORDER BY seq DESC LIMIT $7 OFFSET $8", condition.text),
      {project.value, condition.model, condition.after, condition.before, condition.search, position, limit + 1, skip});
  page.has_more = static_cast<std::int64_t>(page.items.size()) > limit;
  if (page.has_more) page.items.pop_back();
  return page;
}

std::vector<BatchTotals> Store::batch_totals(const ProjectId& project, const BatchFilter& filter) {
  std::map<std::pair<BatchStatus, std::string>, BatchTotals> all;
  const Condition condition(filter);
  const auto sums = [&](const std::string& columns, const std::string& from) {
    sql_.execute(fmt::format("SELECT {} FROM {} WHERE {} GROUP BY 1, 2", columns, from, condition.text),
                 {project.value, condition.model, condition.after, condition.before, condition.search},
                 [&](const sql::Row& row) {
                   const BatchStatus status = parse_batch_status(row.text(0));
                   const std::string model = text_at(row, 1).value_or("");
                   BatchTotals& totals = all[{status, model}];
                   totals.status = status;
                   totals.model = model;
                   totals.batches += row.integer(2);
                   totals.counts.total += row.integer(3);
                   totals.counts.completed += row.integer(4);
                   totals.counts.failed += row.integer(5);
                   totals.usage += Usage{row.integer(6), row.integer(7), row.integer(8), row.integer(9)};
                   totals.seconds += static_cast<double>(row.integer(10)) / 1e3;
                 });
  };
  // PostgreSQL sums to another type: hence the casts.
  constexpr const char* kOf =
      "CASE WHEN status = 'in_progress' AND in_progress_ms IS NULL THEN 'validating' ELSE status END, model";
  sums(fmt::format("{}, COUNT(*), CAST(SUM(total) AS BIGINT), CAST(SUM(completed) AS BIGINT), CAST(SUM(failed) AS "
                   "BIGINT), CAST(SUM(input_tokens) AS BIGINT), CAST(SUM(cached_tokens) AS BIGINT), "
                   "CAST(SUM(output_tokens) AS BIGINT), CAST(SUM(reasoning_tokens) AS BIGINT), "
                   "CAST(COALESCE(SUM(completed_ms - created_ms), 0) AS BIGINT)",
                   kOf),
       "batches");
  // What is done of those that go on.
  sums(fmt::format("{}, CAST(0 AS BIGINT), CAST(0 AS BIGINT), CAST(SUM(s.completed) AS BIGINT), CAST(SUM(s.failed) AS "
                   "BIGINT), CAST(SUM(s.input_tokens) AS BIGINT), CAST(SUM(s.cached_tokens) AS BIGINT), "
                   "CAST(SUM(s.output_tokens) AS BIGINT), CAST(SUM(s.reasoning_tokens) AS BIGINT), CAST(0 AS BIGINT)",
                   kOf),
       "batches JOIN (SELECT batch_seq, SUM(completed) AS completed, SUM(failed) AS failed, SUM(input_tokens) AS "
       "input_tokens, SUM(cached_tokens) AS cached_tokens, SUM(output_tokens) AS output_tokens, SUM(reasoning_tokens) "
       "AS reasoning_tokens FROM spans WHERE batch_seq IN (SELECT seq FROM batches WHERE project = $1) GROUP BY "
       "batch_seq) s ON s.batch_seq = seq");
  std::vector<BatchTotals> totals;
  for (auto& [of, one] : all) totals.push_back(std::move(one));
  return totals;
}

std::map<std::int64_t, std::int64_t> Store::created_by_hour(const ProjectId& project, Timestamp since) {
  std::map<std::int64_t, std::int64_t> counts;
  sql_.execute(
      "SELECT (created_ms - $2) / 3600000, COUNT(*) FROM batches WHERE project = $1 AND created_ms >= $2 GROUP BY 1",
      {project.value, to_ms(since)}, [&](const sql::Row& row) { counts[row.integer(0)] = row.integer(1); });
  return counts;
}

bool Store::drives(const std::string& process, const BatchId& id) {
  bool drives = false;
  sql_.execute("SELECT 1 FROM batches WHERE id = $1 AND driver = $2 /*PG FOR NO KEY UPDATE*/", {id.value, process},
               [&](const sql::Row&) { drives = true; });
  return drives;
}

std::vector<BatchId> Store::unfinished_batches() {
  std::vector<BatchId> ids;
  sql_.execute("SELECT id FROM batches WHERE " PENSTOCK_UNFINISHED, {},
               [&](const sql::Row& row) { ids.push_back({std::string(row.text(0))}); });
  return ids;
}

std::optional<BatchState> Store::batch_state(const BatchId& id) {
  std::optional<BatchState> state;
  sql_.execute("SELECT status, paused_ms FROM batches WHERE id = $1", {id.value}, [&](const sql::Row& row) {
    state = {parse_batch_status(row.text(0)), !row.is_null(1)};
  });
  return state;
}

void Store::notify(const BatchId& id) {
  sql_.notify(id.value);
}

std::vector<Batch> Store::queue() {
  return select_batches(sql_, PENSTOCK_UNFINISHED " ORDER BY priority DESC, expires_ms, seq", {});
}

std::vector<Demand> Store::demands(Timestamp now) {
  std::vector<Demand> all;
  sql_.execute(
      "SELECT model, priority, project FROM batches WHERE " PENSTOCK_UNFINISHED
      " AND status = 'in_progress' AND paused_ms IS NULL AND expires_ms > $1 AND EXISTS (SELECT 1 FROM spans"
      " WHERE batch_seq = batches.seq AND entries > spans.completed + spans.failed)"
      " ORDER BY priority DESC, expires_ms, seq",
      {to_ms(now)}, [&](const sql::Row& row) {
        all.push_back({std::string(row.text(0)), static_cast<int>(row.integer(1)), {std::string(row.text(2))}});
      });
  return all;
}

std::vector<Work> Store::work(Timestamp now) {
  std::vector<Work> all;
  sql_.execute("SELECT b.model, b.project, b.in_progress_ms FROM batches b WHERE b." PENSTOCK_UNFINISHED
               " AND b.status = 'in_progress' AND b.paused_ms IS NULL AND b.fenced = 0 AND b.expires_ms > $1 AND EXISTS"
               " (SELECT 1 FROM spans WHERE batch_seq = b.seq AND owner IS NULL AND " PENSTOCK_OPEN ")",
               {to_ms(now)}, [&](const sql::Row& row) {
                 all.push_back({std::string(row.text(0)), {std::string(row.text(1))}, !row.is_null(2)});
               });
  return all;
}

Result<Batch> Store::retry_batch(const BatchId& id, Batch batch, const QueueLimits& limits) {
  const auto conflict = [&](std::string_view why) {
    return Error{Error::Kind::conflict, fmt::format("Cannot retry batch {}: {}.", id.value, why)};
  };
  lock_queue();
  const std::optional<Batch> old = find_batch(batch.project, id);
  if (!old) return no_such_batch(id);
  if (!is_terminal(old->status)) {
    return conflict(fmt::format("its status is '{}'; wait until it has ended, or cancel it", to_string(old->status)));
  }
  if (old->status == BatchStatus::failed || old->counts.total == 0) {
    return conflict("its input file has faults; mend the file and create a new batch");
  }
  if (old->counts.completed == old->counts.total) return conflict("all of its lines were answered");
  if (!find_file(old->project, old->input_file_id, batch.created_at)) return conflict("its input file was deleted");
  if (old->output_file_id && !find_file(old->project, *old->output_file_id, batch.created_at))
    return conflict("its output file was deleted");

  batch.retry_of = id;
  batch.input_file_id = old->input_file_id;
  batch.endpoint = old->endpoint;
  batch.completion_window = old->completion_window;
  batch.metadata = old->metadata;
  batch.output_expires_after_seconds = old->output_expires_after_seconds;
  batch.priority = old->priority;
  batch.dedupe = old->dedupe;
  batch.webhook = old->webhook;
  batch.sinks = old->sinks;
  batch.expires_at = batch.created_at + (old->expires_at - old->created_at);
  batch.counts = {.total = old->counts.total, .completed = old->counts.completed};
  if (const auto inserted = insert_batch(batch, limits); !inserted) return inserted.error();
  return *find_batch(batch.id);
}

Result<Batch> Store::set_priority(const ProjectId& project, const BatchId& id, int priority) {
  sql_.execute("UPDATE batches SET priority = $1 WHERE id = $2 AND project = $3 AND " PENSTOCK_UNFINISHED,
               {std::int64_t{priority}, id.value, project.value});
  notify(id);
  std::optional<Batch> batch = find_batch(project, id);
  if (!batch) return no_such_batch(id);
  if (!is_terminal(batch->status)) return std::move(*batch);
  return Error{Error::Kind::conflict,
               fmt::format("Cannot change the priority of a batch with status '{}'.", to_string(batch->status))};
}

Result<Batch> Store::set_paused(const ProjectId& project, const BatchId& id, std::optional<Timestamp> since) {
  // What is paused stays so since it was first asked for.
  sql_.execute(
      "UPDATE batches SET paused_ms = CASE WHEN CAST($1 AS BIGINT) IS NULL THEN NULL ELSE COALESCE(paused_ms, $1) END"
      " WHERE id = $2 AND project = $3 AND status IN ('validating', 'in_progress')",
      {value_of(since), id.value, project.value});
  notify(id);
  std::optional<Batch> batch = find_batch(project, id);
  if (!batch) return no_such_batch(id);
  if (batch->status == BatchStatus::validating || batch->status == BatchStatus::in_progress) return std::move(*batch);
  return Error{Error::Kind::conflict, fmt::format("Cannot {} a batch with status '{}'.", since ? "pause" : "resume",
                                                  to_string(batch->status))};
}

bool Store::advance(const BatchId& id, BatchStatus from, BatchStatus to, Timestamp now) {
  assert(!is_terminal(from));
  return sql_.execute(
             fmt::format("UPDATE batches SET status = $1, {} = $2, paused_ms = NULL WHERE id = $3 AND status = $4",
                         time_column(to)),
             {to_string(to), to_ms(now), id.value, to_string(from)}) == 1;
}

bool Store::fail_batch(const BatchId& id, const std::vector<LineError>& errors, std::int64_t error_total,
                       Timestamp now) {
  std::optional<std::int64_t> seq;
  sql_.execute(
      "UPDATE batches SET status = 'failed', failed_ms = $1, errors = $2, error_total = $3, model = NULL, total = 0,"
      " paused_ms = NULL WHERE id = $4 AND status = 'validating' RETURNING seq",
      {to_ms(now), wire::errors_json(errors), error_total, id.value},
      [&](const sql::Row& row) { seq = row.integer(0); });
  if (!seq) return false;
  sql_.execute("DELETE FROM spans WHERE batch_seq = $1", {*seq});  // a retry may have some
  Outbox(*this).announce(*find_batch(id), now);
  notify(id);
  return true;
}

bool Store::start_batch(const BatchId& id, const std::string& model, std::int64_t total) {
  std::optional<std::int64_t> seq;
  sql_.execute(
      "UPDATE batches SET status = 'in_progress', model = $1, total = $2"
      " WHERE id = $3 AND status = 'validating' RETURNING seq",
      {model, total, id.value}, [&](const sql::Row& row) { seq = row.integer(0); });
  if (!seq) return false;
  insert_spans(*seq, total);
  notify(id);
  return true;
}

bool Store::begin_retry(const BatchId& id, std::int64_t total) {
  std::optional<std::int64_t> seq;
  sql_.execute(
      "SELECT seq FROM batches WHERE id = $1 AND status IN ('validating', 'cancelling') AND model IS NULL"
      " /*PG FOR NO KEY UPDATE*/",
      {id.value}, [&](const sql::Row& row) { seq = row.integer(0); });
  if (!seq) return false;
  sql_.execute("DELETE FROM result_groups WHERE batch_seq = $1", {*seq});
  sql_.execute("DELETE FROM spans WHERE batch_seq = $1", {*seq});
  insert_spans(*seq, total);
  return true;
}

// Those that are there already stay as they are.
void Store::insert_spans(std::int64_t batch_seq, std::int64_t total) {
  if (total == 0) return;
  // One span starts at each multiple of $3 below $2.
  sql_.execute(
      "INSERT INTO spans (batch_seq, number, first_entry, entries)"
      " WITH RECURSIVE cut (first) AS"
      " (SELECT CAST(0 AS BIGINT) UNION ALL SELECT first + $3 FROM cut WHERE first + $3 < $2)"
      " SELECT CAST($1 AS BIGINT), first / $3, first, CASE WHEN $2 - first < $3 THEN $2 - first ELSE $3 END FROM cut"
      " WHERE TRUE ON CONFLICT DO NOTHING",
      {batch_seq, total, span_lines(total)});
}

Result<Batch> Store::request_cancel(const ProjectId& project, const BatchId& id, Timestamp now) {
  sql_.execute(
      "UPDATE batches SET status = 'cancelling', cancelling_ms = $1, paused_ms = NULL"
      " WHERE id = $2 AND project = $3 AND status IN ('validating', 'in_progress', 'finalizing')",
      {to_ms(now), id.value, project.value});
  notify(id);
  std::optional<Batch> batch = find_batch(project, id);
  if (!batch) return no_such_batch(id);
  if (batch->status == BatchStatus::cancelling || batch->status == BatchStatus::cancelled) return std::move(*batch);
  return Error{Error::Kind::conflict, fmt::format("Cannot cancel a batch with status '{}'.", to_string(batch->status))};
}

bool Store::finish_batch(const BatchId& id, BatchStatus from, const Finish& finish, Timestamp now) {
  assert(!is_terminal(from) && is_terminal(finish.status));
  assert(finish.counts.completed + finish.counts.failed <= finish.counts.total);
  std::optional<std::string> output_id, error_id;
  if (finish.output) output_id = finish.output->id.value;
  if (finish.errors) error_id = finish.errors->id.value;

  std::optional<std::int64_t> seq;
  sql_.execute(
      fmt::format(
          "UPDATE batches SET status = $1, {} = $2, output_file_id = $3, error_file_id = $4,"
          " total = $5, completed = $6, failed = $7, paused_ms = NULL WHERE id = $8 AND status = $9 RETURNING seq",
          time_column(finish.status)),
      {to_string(finish.status), to_ms(now), value_of(output_id), value_of(error_id), finish.counts.total,
       finish.counts.completed, finish.counts.failed, id.value, to_string(from)},
      [&](const sql::Row& row) { seq = row.integer(0); });
  if (!seq) return false;

  // The status keeps new answers out by now, so these sums are the last.
  sql_.execute(
      "UPDATE batches SET"
      " input_tokens = (SELECT COALESCE(SUM(input_tokens), 0) FROM spans WHERE batch_seq = $1),"
      " cached_tokens = (SELECT COALESCE(SUM(cached_tokens), 0) FROM spans WHERE batch_seq = $1),"
      " output_tokens = (SELECT COALESCE(SUM(output_tokens), 0) FROM spans WHERE batch_seq = $1),"
      " reasoning_tokens = (SELECT COALESCE(SUM(reasoning_tokens), 0) FROM spans WHERE batch_seq = $1)"
      " WHERE seq = $1",
      {*seq});
  sql_.execute("DELETE FROM spans WHERE batch_seq = $1", {*seq});
  if (finish.output) insert_file(*finish.output);
  if (finish.errors) insert_file(*finish.errors);
  Outbox(*this).announce(*find_batch(id), now);
  notify(id);
  return true;
}

}  // namespace penstock
