#pragma once
#include <string>

#include "base/async.h"
#include "store/store.h"

namespace penstock {

// The store as coroutines see it. One thread writes, another reads the last committed state, so that a GET never waits
// for a commit. Constructed and used on the loop thread.
class Db {
 public:
  // Opens or creates; throws UsageError when it cannot be used, naming the path. ":memory:" reads through the writer.
  explicit Db(const std::string& path);
  // Over a database that is ready; it reads through the same session.
  explicit Db(std::unique_ptr<sql::Connection> session) : writer_(std::move(session)) {}
  ~Db();

  // Runs f(Store&) in one transaction, durable when it returns; rolls back when f throws.
  template <class F>
  auto write(F f) {
    return run(writer_, writer_pool_, std::move(f));
  }
  template <class F>
  auto read(F f) {
    return run(reader_ ? reader_ : writer_, reader_ ? reader_pool_ : writer_pool_, std::move(f));
  }

 private:
  template <class F, class R = std::invoke_result_t<F&, Store&>>
  static Task<R> run(std::unique_ptr<sql::Connection>& connection, asio::thread_pool& pool, F f) {
    co_return co_await blocking(pool, [&] {
      return sql::transaction(*connection, [&] {
        Store store(*connection);
        return f(store);
      });
    });
  }

  std::unique_ptr<sql::Connection> writer_, reader_;
  asio::thread_pool writer_pool_{1}, reader_pool_{1};
};

}  // namespace penstock
