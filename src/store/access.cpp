#include "store/access.h"

#include <fmt/format.h>

#include <algorithm>

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

// In queries of api_keys k.
constexpr const char* kKeyColumns =
    "k.id, k.project, k.name, k.hint, k.scopes, k.created_ms, k.expires_ms, k.revoked_ms, k.rotated_ms, k.last_used_ms";

// Words that a newer program knows mean nothing here.
Scopes read_scopes(std::string_view text) {
  Scopes scopes;
  while (!text.empty()) {
    const auto end = std::min(text.find(' '), text.size());
    scopes |= parse_scopes({std::string(text.substr(0, end))}).value_or(Scopes());
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return scopes;
}

ApiKey read_key(const sql::Row& row) {
  return {.id = {std::string(row.text(0))},
          .project = {std::string(row.text(1))},
          .name = std::string(row.text(2)),
          .hint = std::string(row.text(3)),
          .scopes = read_scopes(row.text(4)),
          .created_at = from_ms(row.integer(5)),
          .expires_at = time_at(row, 6),
          .revoked_at = time_at(row, 7),
          .rotated_at = time_at(row, 8),
          .last_used_at = time_at(row, 9)};
}

}  // namespace

Error no_such_project(const ProjectId& id, std::string param) {
  return {Error::Kind::not_found, fmt::format("No such project: {}", id.value), "", std::move(param)};
}

Error no_such_key(const KeyId& id) {
  return {Error::Kind::not_found, fmt::format("No such API key: {}", id.value)};
}

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
  lock();
  const Quotas& quotas = project.quotas;
  return sql_.execute(
             "UPDATE projects SET name = $1, archived_ms = $2, weight = $3, stored_bytes = $4, active_batches = $5,"
             " queued_lines = $6, requests_per_second = $7 WHERE id = $8",
             {project.name, value_of(project.archived_at), project.weight, value_of(quotas.stored_bytes),
              value_of(quotas.active_batches), value_of(quotas.queued_lines), value_of(quotas.requests_per_second),
              project.id.value}) == 1;
}

Result<void> Access::insert_key(const ApiKey& key, const std::string& hash) {
  lock();
  const auto project = find_project(key.project);
  if (!project) return no_such_project(key.project, "project_id");
  if (project->archived_at) {
    return Error{Error::Kind::conflict, fmt::format("The project {} is archived.", key.project.value)};
  }
  const std::string scopes = fmt::format("{}", fmt::join(words(key.scopes), " "));
  sql_.execute(
      "INSERT INTO api_keys (id, project, name, hash, hint, scopes, created_ms, expires_ms)"
      " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
      {key.id.value, key.project.value, key.name, hash, key.hint, scopes, to_ms(key.created_at),
       value_of(key.expires_at)});
  return {};
}

std::optional<ApiKey> Access::find_key(const KeyId& id) {
  std::optional<ApiKey> key;
  sql_.execute(fmt::format("SELECT {} FROM api_keys k WHERE k.id = $1", kKeyColumns), {id.value},
               [&](const sql::Row& row) { key = read_key(row); });
  return key;
}

std::optional<KnownKey> Access::find_key_by_hash(const std::string& hash) {
  std::optional<KnownKey> key;
  sql_.execute(fmt::format("SELECT {}, k.hash, p.archived_ms FROM api_keys k JOIN projects p ON p.id = k.project"
                           " WHERE k.hash = $1",
                           kKeyColumns),
               {hash}, [&](const sql::Row& row) {
                 key = KnownKey{read_key(row), std::string(row.text(10)), !row.is_null(11)};
               });
  return key;
}

std::vector<ApiKey> Access::keys(const std::optional<ProjectId>& project) {
  std::vector<ApiKey> all;
  const auto read = [&](const sql::Row& row) { all.push_back(read_key(row)); };
  if (project) {
    sql_.execute(fmt::format("SELECT {} FROM api_keys k WHERE k.project = $1 ORDER BY k.seq", kKeyColumns),
                 {project->value}, read);
  } else {
    sql_.execute(fmt::format("SELECT {} FROM api_keys k ORDER BY k.seq", kKeyColumns), {}, read);
  }
  return all;
}

std::vector<ApiKey> Access::living_admin_keys(Timestamp now) {
  lock();
  std::vector<ApiKey> living;
  sql_.execute(fmt::format("SELECT {} FROM api_keys k JOIN projects p ON p.id = k.project"
                           " WHERE p.archived_ms IS NULL AND k.revoked_ms IS NULL AND k.rotated_ms IS NULL",
                           kKeyColumns),
               {}, [&](const sql::Row& row) {
                 ApiKey key = read_key(row);
                 if (lives(key, now) && has(key.scopes, Scope::admin)) living.push_back(std::move(key));
               });
  return living;
}

bool Access::has_keys() {
  bool any = false;
  sql_.execute("SELECT 1 FROM api_keys LIMIT 1", {}, [&](const sql::Row&) { any = true; });
  return any;
}

Result<ApiKey> Access::rotate_key(const KeyId& old, ApiKey made, const std::string& hash, Millis overlap) {
  lock();
  const auto key = find_key(old);
  if (!key) return no_such_key(old);
  const Timestamp now = made.created_at;
  if (!lives(*key, now)) {
    return Error{Error::Kind::conflict,
                 fmt::format("The API key {} was revoked or has expired; make another one.", old.value)};
  }
  if (key->rotated_at) {
    return Error{
        Error::Kind::conflict,
        fmt::format("The API key {} was rotated already. Rotate the one that took its place, or revoke that and "
                    "make another one.",
                    old.value)};
  }
  made.project = key->project;
  made.name = key->name;
  made.scopes = key->scopes;
  if (key->expires_at) made.expires_at = now + (*key->expires_at - key->created_at);
  const auto inserted = insert_key(made, hash);
  if (!inserted) return inserted.error();
  set_end("rotated_ms", old, now);
  set_end("expires_ms", old, std::min(now + overlap, key->expires_at.value_or(Timestamp::max())));
  return made;
}

Result<ApiKey> Access::revoke_key(const KeyId& id, Timestamp now) {
  lock();
  auto key = find_key(id);
  if (!key) return no_such_key(id);
  if (key->revoked_at) return std::move(*key);
  key->revoked_at = now;
  set_end("revoked_ms", id, now);
  return std::move(*key);
}

void Access::set_end(const char* column, const KeyId& id, Timestamp at) {
  sql_.execute(fmt::format("UPDATE api_keys SET {} = $1 WHERE id = $2", column), {to_ms(at), id.value});
}

void Access::touch_key(const KeyId& id, Timestamp at) {
  sql_.execute("UPDATE api_keys SET last_used_ms = $1 WHERE id = $2 AND (last_used_ms IS NULL OR last_used_ms < $1)",
               {to_ms(at), id.value});
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

std::int64_t Access::purge_audit_log(Timestamp made_by, std::int64_t limit) {
  return sql_.execute(
      "DELETE FROM audit_log WHERE seq IN (SELECT seq FROM audit_log WHERE at_ms <= $1 ORDER BY at_ms LIMIT $2"
      " /*PG FOR UPDATE SKIP LOCKED*/)",
      {to_ms(made_by), limit});
}

}  // namespace penstock
