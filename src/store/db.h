#pragma once
#include <string>

#include "base/async.h"
#include "store/sessions.h"

namespace penstock {

// The store as coroutines see it. Constructed and used on the loop thread.
//
// SQLite: one thread writes, another reads the last committed state, so that a GET never waits for a commit.
// PostgreSQL: some threads of each, with sessions of their own: functions given to write() may run at the same time.
class Db {
 public:
  // `address` is a path, ":memory:", which reads through the writer, or a URL of PostgreSQL. Opens or creates; throws
  // UsageError when it cannot be used, naming it.
  explicit Db(const std::string& address);
  // Over a database that is ready; it reads through the same session.
  explicit Db(std::unique_ptr<sql::Connection> session);
  ~Db();

  // Runs f(Store&) in one transaction, durable when it returns; rolls back when f throws. Where transactions crossed,
  // or the session broke before the commit, it is rolled back and f runs again: it must not mind.
  template <class F>
  auto write(F f) {
    return run(writers_, writer_pool_, Sessions::kTries, std::move(f));
  }
  // The same for what may not stand in line behind other writes: on PostgreSQL it has a thread and a session of its
  // own.
  template <class F>
  auto write_at_once(F f) {
    return run(urgent_ ? *urgent_ : writers_, urgent_ ? urgent_pool_ : writer_pool_, Sessions::kTries, std::move(f));
  }
  // f(Store&) sees one state of the database.
  template <class F>
  auto read(F f) {
    return run(readers_ ? *readers_ : writers_, readers_ ? reader_pool_ : writer_pool_, 1, std::move(f));
  }

  // Removes what is left of what was deleted: see sql::Connection.
  Task<bool> forget_deleted();

  // From now on `heard` gets, on the loop thread, what transactions of any process say with sql::Connection::notify(),
  // and nothing when something may have been missed. SQLite has one process, which hears nothing.
  void listen(asio::io_context& loop, std::function<void(const std::string&)> heard);

 private:
  template <class F, class R = std::invoke_result_t<F&, Store&>>
  static Task<R> run(Sessions& sessions, asio::thread_pool& pool, int tries, F f) {
    co_return co_await blocking(pool, [&] { return sessions.transaction(tries, f); });
  }

  const std::string address_;
  Sessions writers_;
  std::optional<Sessions> readers_, urgent_;
  asio::thread_pool writer_pool_, reader_pool_, urgent_pool_{1};
  std::shared_ptr<std::function<void(const std::string&)>> heard_;
  std::unique_ptr<sql::Listener> listener_;
};

}  // namespace penstock
