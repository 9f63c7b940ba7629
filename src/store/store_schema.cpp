#include <fmt/core.h>

#include "store/store.h"

namespace penstock {

extern const std::string_view kSchema1, kSchema2;  // schema_1.sql and so on, put into the program by CMake

void Store::migrate() {
  const std::string_view scripts[] = {kSchema1, kSchema2};
  migrate(scripts);
}

void Store::migrate(std::span<const std::string_view> scripts) {
  const auto newest = static_cast<std::int64_t>(scripts.size());
  sql_.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)", {});
  std::int64_t version = 0;
  sql_.execute("SELECT version FROM schema_version", {}, [&](const sql::Row& row) { version = row.integer(0); });
  if (version > newest) {
    throw UsageError(fmt::format(
        "its schema is version {}, and this program knows only version {}: use a newer penstock", version, newest));
  }
  if (version == newest) return;
  for (const std::string_view script : scripts.subspan(static_cast<std::size_t>(version))) sql_.execute_script(script);
  sql_.execute("DELETE FROM schema_version", {});
  sql_.execute("INSERT INTO schema_version (version) VALUES ($1)", {newest});
}

}  // namespace penstock
