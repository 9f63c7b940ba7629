#include <fmt/core.h>

#include <limits>

#include "store/columns.h"
#include "store/store.h"

namespace penstock {
namespace {

constexpr const char* kFileColumns =
    "id, filename, purpose, bytes, created_ms, expires_ms, endpoint, model, lines, project";
// Of a row of `files`: a batch reads it, as its input or, at first, as the output of the batch that it retries.
constexpr const char* kInUse = "EXISTS (SELECT 1 FROM batches b WHERE b." PENSTOCK_UNFINISHED
                               " AND (b.input_file_id = files.id OR (b.model IS NULL AND b.retry_of ="
                               " (SELECT id FROM batches WHERE output_file_id = files.id))))";

File read_file(const sql::Row& row) {
  File file;
  file.id.value = row.text(0);
  file.filename = row.text(1);
  file.purpose = row.text(2);
  file.bytes = static_cast<std::uint64_t>(row.integer(3));
  file.created_at = from_ms(row.integer(4));
  file.expires_at = time_at(row, 5);
  if (auto endpoint = text_at(row, 6)) {
    file.checked = CheckedInput{std::move(*endpoint), std::string(row.text(7)), row.integer(8)};
  }
  file.project.value = row.text(9);
  return file;
}

}  // namespace

Error no_such_file(const FileId& id, std::string param) {
  return {Error::Kind::not_found, fmt::format("No such File object: {}", id.value), "", std::move(param)};
}

void Store::insert_file(const File& file) {
  std::optional<std::string> endpoint, model;
  std::optional<std::int64_t> lines;
  if (file.checked) {
    endpoint = file.checked->endpoint;
    model = file.checked->model;
    lines = file.checked->lines;
  }
  sql_.execute(
      fmt::format("INSERT INTO files ({}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", kFileColumns),
      {file.id.value, file.filename, file.purpose, static_cast<std::int64_t>(file.bytes), to_ms(file.created_at),
       value_of(file.expires_at), value_of(endpoint), value_of(model), value_of(lines), file.project.value});
}

std::optional<File> Store::find_file(const ProjectId& project, const FileId& id, Timestamp now) {
  std::optional<File> file;
  sql_.execute(
      fmt::format("SELECT {} FROM files WHERE id = $1 AND project = $3 AND (expires_ms IS NULL OR expires_ms > $2)",
                  kFileColumns),
      {id.value, to_ms(now), project.value}, [&](const sql::Row& row) { file = read_file(row); });
  return file;
}

std::vector<FileId> Store::all_file_ids() {
  std::vector<FileId> ids;
  sql_.execute("SELECT id FROM files", {}, [&](const sql::Row& row) { ids.push_back({std::string(row.text(0))}); });
  return ids;
}

Result<Page<File>> Store::list_files(const FileQuery& query, Timestamp now) {
  std::int64_t after = query.ascending ? 0 : std::numeric_limits<std::int64_t>::max();
  if (query.after) {
    bool known = false;
    sql_.execute(
        "SELECT seq FROM files WHERE id = $1 AND project = $2"
        " UNION ALL SELECT seq FROM deleted_files WHERE id = $1 AND project = $2",
        {query.after->value, query.project.value}, [&](const sql::Row& row) {
          after = row.integer(0);
          known = true;
        });
    if (!known) return no_such_file(*query.after, "after");
  }

  const std::string statement = fmt::format(
      "SELECT {} FROM files WHERE project = $4 AND seq {} $1 AND (expires_ms IS NULL OR expires_ms > $2) {} ORDER BY "
      "seq {} LIMIT $3",
      kFileColumns, query.ascending ? '>' : '<', query.purpose ? "AND purpose = $5" : "",
      query.ascending ? "ASC" : "DESC");
  std::vector<sql::Value> values = {after, to_ms(now), query.limit + 1, query.project.value};
  if (query.purpose) values.emplace_back(*query.purpose);
  Page<File> page;
  sql_.execute(statement, values, [&](const sql::Row& row) { page.items.push_back(read_file(row)); });
  page.has_more = static_cast<std::int64_t>(page.items.size()) > query.limit;
  if (page.has_more) page.items.pop_back();
  return page;
}

Result<void> Store::delete_file(const ProjectId& project, const FileId& id, Timestamp now) {
  lock_queue();
  if (!find_file(project, id, now)) return no_such_file(id);
  std::optional<std::int64_t> seq;
  sql_.execute(fmt::format("DELETE FROM files WHERE id = $1 AND NOT {} RETURNING seq", kInUse), {id.value},
               [&](const sql::Row& row) { seq = row.integer(0); });
  if (!seq) {
    return Error{Error::Kind::invalid_request,
                 fmt::format("File {} is read by a batch that has not finished. Cancel the batch first.", id.value),
                 "file_in_use", "id"};
  }
  remember_removed(id, *seq, project);
  return {};
}

std::vector<File> Store::expire_files(Timestamp now) {
  lock_queue();
  std::vector<File> files;
  std::vector<std::int64_t> places;
  sql_.execute(
      fmt::format("DELETE FROM files WHERE expires_ms <= $1 AND NOT {} RETURNING {}, seq", kInUse, kFileColumns),
      {to_ms(now)}, [&](const sql::Row& row) {
        files.push_back(read_file(row));
        places.push_back(row.integer(10));
      });
  for (std::size_t i = 0; i < files.size(); ++i) remember_removed(files[i].id, places[i], files[i].project);
  return files;
}

std::optional<Timestamp> Store::next_file_expiry() {
  std::optional<Timestamp> next;
  sql_.execute(fmt::format("SELECT expires_ms FROM files WHERE expires_ms IS NOT NULL AND NOT {} "
                           "ORDER BY expires_ms LIMIT 1",
                           kInUse),
               {}, [&](const sql::Row& row) { next = from_ms(row.integer(0)); });
  return next;
}

void Store::lock_queue() {
  sql_.lock("queue");
}

void Store::remember_removed(const FileId& id, std::int64_t seq, const ProjectId& project) {
  sql_.execute_later("INSERT INTO deleted_files (id, seq, project) VALUES ($1, $2, $3)",
                     {id.value, seq, project.value});
}

}  // namespace penstock
