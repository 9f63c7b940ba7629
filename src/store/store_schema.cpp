#include <fmt/core.h>

#include "store/store.h"

namespace penstock {

extern const std::string_view kSchema;  // schema.sql, put into the program by CMake

namespace {
// Raised by every change of schema.sql; migrate() then learns the way from the version before.
constexpr std::int64_t kSchemaVersion = 1;
}  // namespace

void Store::migrate() {
  sql_.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)", {});
  std::int64_t version = 0;
  sql_.execute("SELECT version FROM schema_version", {}, [&](const sql::Row& row) { version = row.integer(0); });
  if (version > kSchemaVersion) {
    throw UsageError(
        fmt::format("its schema is version {}, and this program knows only version {}: use a newer penstock", version,
                    kSchemaVersion));
  }
  if (version == 0) {
    sql_.execute_script(kSchema);
    sql_.execute("INSERT INTO schema_version (version) VALUES ($1)", {kSchemaVersion});
  }
}

}  // namespace penstock
