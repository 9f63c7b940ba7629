#include <fmt/core.h>

#include "store/schema.h"

namespace penstock {

// schema_1.sql and so on, put into the program by CMake
extern const std::string_view kSchema1, kSchema1Postgres, kSchema2, kSchema3, kSchema4, kSchema5;

namespace {

// Of all versions, in their order.
std::vector<SchemaScript> scripts() {
  static const std::string first = fmt::format("{}{}", kSchema1, kSchema1Postgres);
  return {{first}, {kSchema2}, {kSchema3}, {kSchema4}, {kSchema5, true}};
}

void prepare(sql::Connection& sql) {
  sql.lock("schema");  // many programs may start at once
  sql.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)", {});
  // The version of the oldest program that can work with this schema. Programs of version 2 and before do not look
  // here.
  sql.execute("CREATE TABLE IF NOT EXISTS schema_oldest_program (version BIGINT NOT NULL)", {});
}

std::optional<std::int64_t> version_in(sql::Connection& sql, std::string_view table) {
  std::optional<std::int64_t> version;
  sql.execute(fmt::format("SELECT version FROM {}", table), {}, [&](const sql::Row& row) { version = row.integer(0); });
  return version;
}

bool is_too_new(sql::Connection& sql, std::int64_t version, std::int64_t ours) {
  return version > ours && version_in(sql, "schema_oldest_program").value_or(version) > ours;
}

}  // namespace

SchemaVersions Store::schema_versions() {
  const auto ours = static_cast<std::int64_t>(scripts().size());
  const std::int64_t version = version_in(sql_, "schema_version").value_or(0);
  return {version, ours, !is_too_new(sql_, version, ours)};
}

void migrate_unless_in_use(Store& store) {
  prepare(store.connection());
  const SchemaVersions versions = store.schema_versions();
  if (versions.database > 0 && versions.database < versions.program) {
    throw UsageError(
        fmt::format("its schema is version {}, and this program's is {}: start a server of this version first",
                    versions.database, versions.program));
  }
  store.migrate();
}

void Store::migrate() {
  migrate(scripts());
}

void Store::migrate(std::span<const SchemaScript> scripts) {
  prepare(sql_);
  const std::int64_t version = version_in(sql_, "schema_version").value_or(0);
  const auto ours = static_cast<std::int64_t>(scripts.size());
  if (is_too_new(sql_, version, ours)) {
    throw UsageError(fmt::format(
        "its schema is version {}, and this program knows only version {}: use a newer penstock", version, ours));
  }
  if (version >= ours) return;

  sql_.execute_script("/*PG SET LOCAL statement_timeout = 0;*/");  // a large table takes its time
  std::int64_t oldest = 0;
  for (std::int64_t i = 1; i <= ours; ++i) {
    const SchemaScript& script = scripts[static_cast<std::size_t>(i - 1)];
    if (i > version) sql_.execute_script(script.statements);
    if (!script.earlier_programs_can_go_on) oldest = i;
  }
  for (const auto& [table, now] : {std::pair("schema_version", ours), std::pair("schema_oldest_program", oldest)}) {
    sql_.execute(fmt::format("DELETE FROM {}", table), {});
    sql_.execute(fmt::format("INSERT INTO {} (version) VALUES ($1)", table), {now});
  }
}

std::optional<std::string> Store::known_identity() {
  std::optional<std::string> id;
  sql_.execute("SELECT id FROM identity", {}, [&](const sql::Row& row) { id = row.text(0); });
  return id;
}

std::string Store::identity(const std::string& first) {
  sql_.lock("identity");
  if (auto known = known_identity()) return std::move(*known);
  sql_.execute("INSERT INTO identity (id, marked) VALUES ($1, 0)", {first});
  return first;
}

bool Store::is_marked() {
  bool marked = false;
  sql_.execute("SELECT marked FROM identity", {}, [&](const sql::Row& row) { marked = row.integer(0) != 0; });
  return marked;
}

void Store::set_marked() {
  sql_.execute("UPDATE identity SET marked = 1", {});
}

}  // namespace penstock
