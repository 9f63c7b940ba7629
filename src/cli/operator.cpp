#include "cli/operator.h"

#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <map>

#include "store/access.h"
#include "store/schema.h"

namespace penstock {

namespace fs = std::filesystem;

OperatorDatabase::OperatorDatabase(const Config& config, bool create) {
  const std::string file = fs::absolute(config.data) / "penstock.db";
  const bool shared = !config.database.empty();
  name_ = shared ? sql::without_password(config.database) : file;
  if (!shared) {
    if (!create && !fs::exists(file)) {
      throw UsageError(fmt::format("data: there is no database in {}; name the server's folder with --data",
                                   fs::absolute(config.data).string()));
    }
    try {
      folder_.emplace(config.data);
    } catch (const DataInUse&) {  // by the server: its database has room for us
    }
  }
  const std::string address = shared ? config.database : file;
  sessions_.emplace([=] { return shared ? sql::open_postgres(address) : sql::open_sqlite(address); });
  try {
    write([&](Store& store) { folder_ ? store.migrate() : migrate_unless_in_use(store); });
  } catch (const std::exception& e) {
    throw UsageError(fmt::format("cannot use the database {}: {}", name_, e.what()));
  }
}

Timestamp wall_clock() {
  return std::chrono::floor<Millis>(std::chrono::system_clock::now());
}

void audit(Store& store, const ProjectId& project, const char* action, const std::string& object_id) {
  Access(store).audit(
      {.at = wall_clock(), .project = project, .key = {}, .action = action, .object_id = object_id, .request_id = {}});
}

std::chrono::seconds parse_duration(std::string_view param, const std::string& text) {
  using namespace std::chrono_literals;
  static const std::map<char, std::chrono::seconds> units = {{'s', 1s}, {'m', 1min}, {'h', 1h}, {'d', 24h}};
  const auto unit = text.empty() ? units.end() : units.find(text.back());
  int count = 0;
  const char* end = text.data() + text.size() - (text.empty() ? 0 : 1);
  const auto [read, error] = std::from_chars(text.data(), end, count);
  if (unit == units.end() || error != std::errc{} || read != end || count < 0 || count > 1'000'000) {
    throw UsageError(fmt::format("{}: '{}': expected a duration such as 90d, 24h, 30m or 0s", param, text));
  }
  return count * unit->second;
}

}  // namespace penstock
