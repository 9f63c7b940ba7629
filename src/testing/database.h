#pragma once
#include <fmt/core.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "sql/connection.h"
#include "testing/fixtures.h"

namespace penstock {

enum class Driver { sqlite, postgres };

// Those that tests can run on: PostgreSQL when PENSTOCK_TEST_POSTGRES is the URL of a database.
inline std::vector<Driver> drivers() {
  if (std::getenv("PENSTOCK_TEST_POSTGRES")) return {Driver::sqlite, Driver::postgres};
  return {Driver::sqlite};
}
// Of them, those with a server.
inline std::vector<Driver> servers() {
  std::vector<Driver> all = drivers();
  all.erase(all.begin());
  return all;
}
// For INSTANTIATE_TEST_SUITE_P.
inline const auto driver_name = [](const auto& info) {
  return std::string(info.param == Driver::sqlite ? "sqlite" : "postgres");
};

// An empty database that goes with its object: a file, or a schema of its own on a server.
class TestDatabase {
 public:
  explicit TestDatabase(Driver driver) : address_(folder_ / "test.db"), driver_(driver) {
    if (driver == Driver::sqlite) return;
    schema_ = fmt::format("test_{:016x}", std::uniform_int_distribution<std::uint64_t>()(random_));
    address_ = std::getenv("PENSTOCK_TEST_POSTGRES");
    administrator().execute_script("CREATE SCHEMA " + schema_);
    address_ += fmt::format("{0}options=-csearch_path%3D{1}&application_name={1}",
                            address_.find('?') == std::string::npos ? '?' : '&', schema_);
  }
  ~TestDatabase() {
    while (driver_ == Driver::postgres && !drop()) continue;
  }
  TestDatabase(const TestDatabase&) = delete;
  TestDatabase& operator=(const TestDatabase&) = delete;

  const std::string& address() const { return address_; }
  const std::string& schema() const { return schema_; }
  std::unique_ptr<sql::Connection> open(bool read_only = false) const {
    return driver_ == Driver::sqlite ? sql::open_sqlite(address_, read_only) : sql::open_postgres(address_, read_only);
  }
  // As an administrator, or the end of the server, does.
  void end_all_sessions() const {
    administrator().execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = $1",
                            {schema_});
  }
  // For a test that needs a single session: SQLite then stays in memory.
  std::unique_ptr<sql::Connection> open_alone() const {
    return driver_ == Driver::sqlite ? sql::open_sqlite(":memory:") : open();
  }

 private:
  static sql::Connection& administrator() {
    static const auto session = sql::open_postgres(std::getenv("PENSTOCK_TEST_POSTGRES"));
    return *session;
  }

  // False when it crossed with what another session of the server did.
  bool drop() const {
    try {
      administrator().execute_script("DROP SCHEMA " + schema_ + " CASCADE");
    } catch (const sql::Failure& e) {
      if (e.kind() == sql::Failure::Kind::conflict) return false;
      throw;
    }
    return true;
  }

  inline static std::mt19937_64 random_{std::random_device{}()};
  TempDir folder_;
  std::string address_, schema_;
  Driver driver_;
};

}  // namespace penstock
