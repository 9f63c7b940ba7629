#pragma once
#include <atomic>
#include <optional>
#include <string>

#include "sql/connection.h"

namespace penstock {

// One of several sessions with a database that has a single one; whole transactions of them take turns. It fails when a
// test says so.
class FaultyConnection : public sql::Connection {
 public:
  explicit FaultyConnection(sql::Connection& database) : database_(database) {}

  // A test may set these two while transactions go on.
  std::atomic<int> statements_left = -1;             // before one fails, COMMIT among them; -1: none does
  std::atomic<int> failures = 1;                     // so many transactions fail one after the other then
  sql::Failure::Kind kind = sql::Failure::Kind::io;  // of such failures
  // The next COMMIT of a transaction that had a statement with this beginning takes effect, and fails all the same.
  std::optional<std::string> loses_reply_of;
  bool cut_off = false;  // nothing has an effect or a result any more: the process is gone, and does not know

  void execute_script(std::string_view statements) override {
    if (!cut_off) database_.execute_script(statements);
  }
  std::int64_t execute(std::string_view statement, std::span<const sql::Value> values,
                       const std::function<void(const sql::Row&)>& each) override {
    if (cut_off) return 0;
    count();
    reply_is_lost_ |= loses_reply_of && statement.starts_with(*loses_reply_of);
    return database_.execute(statement, values, each);
  }
  void begin() override {
    reply_is_lost_ = false;
    if (!cut_off) database_.begin();
  }
  void commit() override {
    if (cut_off) return;
    count();
    database_.commit();
    if (!reply_is_lost_) return;
    loses_reply_of.reset();
    fail("the reply to COMMIT was lost");
  }
  void rollback() noexcept override {
    if (!cut_off) database_.rollback();
  }

 private:
  [[noreturn]] void fail(const char* why) const { throw sql::Failure(kind, why); }
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
  bool reply_is_lost_ = false;
};

}  // namespace penstock
