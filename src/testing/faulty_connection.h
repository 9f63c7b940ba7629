#pragma once
#include <utility>

#include "sql/connection.h"

namespace penstock {

// One of several sessions with a database that has a single one; whole transactions of them take turns. It fails when a
// test says so.
class FaultyConnection : public sql::Connection {
 public:
  explicit FaultyConnection(sql::Connection& database) : database_(database) {}

  int statements_left = -1;  // before one fails, COMMIT among them; -1: none does
  int failures = 1;          // so many transactions fail one after the other then
  bool loses_reply = false;  // the next COMMIT of results takes effect, and fails all the same
  bool cut_off = false;      // nothing has an effect or a result any more: the process is gone, and does not know

  void execute_script(std::string_view statements) override {
    if (!cut_off) database_.execute_script(statements);
  }
  std::int64_t execute(std::string_view statement, std::span<const sql::Value> values,
                       const std::function<void(const sql::Row&)>& each) override {
    if (cut_off) return 0;
    count();
    saves_ |= statement.starts_with("INSERT INTO result_groups");
    return database_.execute(statement, values, each);
  }
  void begin() override {
    saves_ = false;
    if (!cut_off) database_.begin();
  }
  void commit() override {
    if (cut_off) return;
    count();
    database_.commit();
    if (saves_ && std::exchange(loses_reply, false)) fail("the reply to COMMIT was lost");
  }
  void rollback() noexcept override {
    if (!cut_off) database_.rollback();
  }

 private:
  [[noreturn]] static void fail(const char* why) { throw sql::Failure(sql::Failure::Kind::io, why); }
  void count() {
    if (statements_left < 0) return;
    if (statements_left > 0) {
      --statements_left;
      return;
    }
    if (--failures <= 0) statements_left = -1;
    fail("the database is away");
  }

  sql::Connection& database_;
  bool saves_ = false;
};

}  // namespace penstock
