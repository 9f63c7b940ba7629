#include "store/access.h"

#include <fmt/format.h>

#include "store/columns.h"

namespace penstock {
namespace {

constexpr const char* kProjectColumns =
    "id, name, created_ms, archived_ms, weight, stored_bytes, active_batches, queued_lines, requests_per_second";

Project read_project(const sql::Row& row) {
  return {.id = {std::string(row.text(0))},
          .name = std::string(row.text(1)),
          .created_at = from_ms(row.integer(2)),
          .archived_at = time_at(row, 3),
          .weight = row.integer(4),
          .quotas = {.stored_bytes = integer_at(row, 5),
                     .active_batches = integer_at(row, 6),
                     .queued_lines = integer_at(row, 7),
                     .requests_per_second = integer_at(row, 8)}};
}

}  // namespace

void Access::insert_project(const Project& project) {
  const Quotas& quotas = project.quotas;
  sql_.execute(fmt::format("INSERT INTO projects ({}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)", kProjectColumns),
               {project.id.value, project.name, to_ms(project.created_at), value_of(project.archived_at),
                project.weight, value_of(quotas.stored_bytes), value_of(quotas.active_batches),
                value_of(quotas.queued_lines), value_of(quotas.requests_per_second)});
}

std::optional<Project> Access::find_project(const ProjectId& id) {
  std::optional<Project> project;
  sql_.execute(fmt::format("SELECT {} FROM projects WHERE id = $1", kProjectColumns), {id.value},
               [&](const sql::Row& row) { project = read_project(row); });
  return project;
}

std::vector<Project> Access::projects() {
  std::vector<Project> all;
  sql_.execute(fmt::format("SELECT {} FROM projects ORDER BY seq", kProjectColumns), {},
               [&](const sql::Row& row) { all.push_back(read_project(row)); });
  return all;
}

bool Access::update_project(const Project& project) {
  const Quotas& quotas = project.quotas;
  return sql_.execute(
             "UPDATE projects SET name = $1, archived_ms = $2, weight = $3, stored_bytes = $4, active_batches = $5,"
             " queued_lines = $6, requests_per_second = $7 WHERE id = $8",
             {project.name, value_of(project.archived_at), project.weight, value_of(quotas.stored_bytes),
              value_of(quotas.active_batches), value_of(quotas.queued_lines), value_of(quotas.requests_per_second),
              project.id.value}) == 1;
}

void Access::audit(const AuditEntry& entry) {
  std::optional<std::string> key, request;
  if (entry.key) key = entry.key->value;
  if (!entry.request_id.empty()) request = entry.request_id;
  sql_.execute_later(
      "INSERT INTO audit_log (at_ms, project, key_id, action, object_id, request_id) VALUES ($1, $2, $3, $4, $5, $6)",
      {to_ms(entry.at), entry.project.value, value_of(key), entry.action, entry.object_id, value_of(request)});
}

Page<AuditEntry> Access::audit_log(const AuditQuery& query) {
  std::string where = "seq < $1";
  std::vector<sql::Value> values = {query.before, query.limit + 1};
  const auto narrow = [&](std::string_view column, const std::vector<std::string>& wanted) {
    if (wanted.empty()) return;
    std::vector<std::string> places;
    for (const std::string& one : wanted) {
      values.emplace_back(one);
      places.push_back(fmt::format("${}", values.size()));
    }
    where += fmt::format(" AND {} IN ({})", column, fmt::join(places, ", "));
  };
  narrow("project", query.projects);
  narrow("key_id", query.keys);
  narrow("action", query.actions);
  narrow("object_id", query.object_ids);

  Page<AuditEntry> page;
  sql_.execute(fmt::format("SELECT at_ms, project, key_id, action, object_id, request_id, seq FROM audit_log WHERE {}"
                           " ORDER BY seq DESC LIMIT $2",
                           where),
               values, [&](const sql::Row& row) {
                 AuditEntry& entry = page.items.emplace_back();
                 entry.at = from_ms(row.integer(0));
                 entry.project.value = row.text(1);
                 if (auto key = text_at(row, 2)) entry.key = KeyId{std::move(*key)};
                 entry.action = row.text(3);
                 entry.object_id = row.text(4);
                 entry.request_id = text_at(row, 5).value_or("");
                 entry.seq = row.integer(6);
               });
  page.has_more = static_cast<std::int64_t>(page.items.size()) > query.limit;
  if (page.has_more) page.items.pop_back();
  return page;
}

std::optional<Timestamp> Access::audit_log_begins() {
  std::optional<Timestamp> first;
  sql_.execute("SELECT MIN(at_ms) FROM audit_log", {}, [&](const sql::Row& row) { first = time_at(row, 0); });
  return first;
}

void Access::purge_audit_log(Timestamp made_by, std::int64_t limit) {
  sql_.execute(
      "DELETE FROM audit_log WHERE seq IN (SELECT seq FROM audit_log WHERE at_ms <= $1 ORDER BY at_ms LIMIT $2"
      " /*PG FOR UPDATE SKIP LOCKED*/)",
      {to_ms(made_by), limit});
}

}  // namespace penstock
