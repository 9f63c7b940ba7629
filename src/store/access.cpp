#include "store/access.h"

#include <fmt/core.h>

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

}  // namespace penstock
