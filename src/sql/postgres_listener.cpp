#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>

#include "base/log.h"
#include "sql/connection.h"
#include "sql/postgres.h"

namespace penstock::sql {
namespace {

constexpr int kPauseMinMs = 100, kPauseMaxMs = 2'000;

class PostgresListener final : public Listener {
 public:
  PostgresListener(std::string url, std::function<void(const std::string&)> heard)
      : url_(std::move(url)), heard_(std::move(heard)), end_(::eventfd(0, EFD_CLOEXEC)) {
    if (end_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
    thread_ = std::thread([this] { run(); });
  }
  ~PostgresListener() override {
    ::eventfd_write(end_, 1);
    thread_.join();
    ::close(end_);
  }

 private:
  // Until the destructor wants an end.
  void run() {
    int pause = 0;
    bool told = false;
    while (!ends_within(pause)) {
      try {
        const PostgresSession session = connect_postgres(url_);
        listen(session.get());
        heard_("");
        pause = 0;
        told = false;
        hear(session.get());
      } catch (const std::exception& e) {
        if (!std::exchange(told, true)) log::warn("listening to the database: {}; trying again", e.what());
      }
      pause = std::clamp(2 * pause, kPauseMinMs, kPauseMaxMs);
    }
  }

  bool ends_within(int ms) {
    pollfd end{end_, POLLIN, 0};
    return ::poll(&end, 1, ms) != 0;
  }

  static void listen(PGconn* session) {
    const std::unique_ptr<PGresult, decltype(&PQclear)> schema(PQexec(session, "SELECT md5(current_schema())"),
                                                               &PQclear);
    if (PQntuples(schema.get()) != 1) fail(session);
    const std::string statement = "LISTEN " + std::string(kChannelPrefix) + PQgetvalue(schema.get(), 0, 0);
    const ResultPtr result(PQexec(session, statement.c_str()));
    if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) fail(session);
  }
  [[noreturn]] static void fail(PGconn* session) {
    throw Failure(Failure::Kind::away, in_one_line(PQerrorMessage(session)));
  }

  void hear(PGconn* session) {
    while (true) {
      pollfd both[] = {{PQsocket(session), POLLIN, 0}, {end_, POLLIN, 0}};
      if (::poll(both, 2, -1) < 0) continue;
      if (both[1].revents != 0) return;
      if (!PQconsumeInput(session)) fail(session);
      while (const std::unique_ptr<PGnotify, decltype(&PQfreemem)> note{PQnotifies(session), &PQfreemem}) {
        heard_(note->extra);
      }
    }
  }

  const std::string url_;
  const std::function<void(const std::string&)> heard_;
  const int end_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Listener> open_listener(const std::string& url, std::function<void(const std::string&)> heard) {
  return std::make_unique<PostgresListener>(url, std::move(heard));
}

}  // namespace penstock::sql
