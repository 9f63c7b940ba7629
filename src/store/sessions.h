#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "sql/connection.h"
#include "store/store.h"

namespace penstock {

// Sessions with one database, shared by threads: each transaction has one for itself. They are opened when they are
// needed and stay open; one that has ended is replaced.
class Sessions {
 public:
  using Open = std::function<std::unique_ptr<sql::Connection>()>;

  static constexpr int kTries = 5;

  explicit Sessions(Open open) : open_(std::move(open)) {}
  // A single one, for one thread at a time.
  explicit Sessions(std::unique_ptr<sql::Connection> session) { idle_.push_back(std::move(session)); }

  // Runs f(Store&) in a transaction. When that certainly had no effect, because others crossed it or its session broke
  // before the commit, it runs again, `tries` times in all. Throws what f throws, or sql::Failure.
  template <class F>
  std::invoke_result_t<F&, Store&> transaction(int tries, F& f) {
    while (true) {
      Lent session(*this);
      bool committing = false;
      try {
        session->begin();
        Store store(*session);
        if constexpr (std::is_void_v<std::invoke_result_t<F&, Store&>>) {
          f(store);
          committing = true;
          return session->commit();
        } else {
          auto result = f(store);
          committing = true;
          session->commit();
          return result;
        }
      } catch (const sql::Failure& e) {
        session->rollback();
        const bool had_no_effect =
            e.kind() == sql::Failure::Kind::conflict || (e.kind() == sql::Failure::Kind::away && !committing);
        if (!had_no_effect || --tries <= 0) throw;
      } catch (...) {
        session->rollback();
        throw;
      }
    }
  }

  // See sql::Connection.
  bool forget_deleted() { return Lent(*this)->forget_deleted(); }

 private:
  // Gives it back at its end.
  class Lent {
   public:
    explicit Lent(Sessions& from) : from_(from), session_(from.take()) {}
    ~Lent() { from_.give(std::move(session_)); }
    sql::Connection& operator*() const { return *session_; }
    sql::Connection* operator->() const { return session_.get(); }

   private:
    Sessions& from_;
    std::unique_ptr<sql::Connection> session_;
  };

  // While the database is away it throws at once, but for one caller at times, who looks.
  std::unique_ptr<sql::Connection> take();
  void give(std::unique_ptr<sql::Connection> session);

  const Open open_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<sql::Connection>> idle_;
  std::optional<std::string> away_;  // why, since the last attempt to open one
  std::chrono::steady_clock::time_point look_at_{};
};

}  // namespace penstock
