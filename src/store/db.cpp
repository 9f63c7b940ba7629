#include "store/db.h"

#include <fmt/core.h>

namespace penstock {
namespace {

// Each waits for the server most of the time.
constexpr std::size_t kPostgresThreads = 4;

std::size_t threads(const std::string& address) {
  return sql::is_postgres(address) ? kPostgresThreads : 1;
}

Sessions::Open opening(const std::string& address, bool read_only) {
  if (sql::is_postgres(address)) return [=] { return sql::open_postgres(address, read_only); };
  return [=] { return sql::open_sqlite(address, read_only); };
}

}  // namespace

Db::Db(const std::string& address)
    : address_(address),
      writers_(opening(address, false)),
      writer_pool_(threads(address)),
      reader_pool_(threads(address)) {
  try {
    const auto migrate = [](Store& store) { store.migrate(); };
    writers_.transaction(Sessions::kTries, migrate);
  } catch (const std::exception& e) {
    throw UsageError(fmt::format("cannot use the database {}: {}",
                                 sql::is_postgres(address) ? sql::without_password(address) : address, e.what()));
  }
  if (address != ":memory:") readers_.emplace(opening(address, true));
  if (sql::is_postgres(address)) urgent_.emplace(opening(address, false));
}

Db::Db(std::unique_ptr<sql::Connection> session) : writers_(std::move(session)), writer_pool_(1), reader_pool_(1) {}

Db::~Db() {
  listener_.reset();
  reader_pool_.join();
  urgent_pool_.join();
  writer_pool_.join();
}

Task<bool> Db::forget_deleted() {
  co_return co_await blocking(writer_pool_, [this] { return writers_.forget_deleted(); });
}

void Db::listen(asio::io_context& loop, std::function<void(const std::string&)> heard) {
  if (!sql::is_postgres(address_)) return;
  heard_ = std::make_shared<std::function<void(const std::string&)>>(std::move(heard));
  listener_ = sql::open_listener(address_, [&loop, weak = std::weak_ptr(heard_)](const std::string& payload) {
    asio::post(loop, [weak, payload] {
      if (const auto still_wanted = weak.lock()) (*still_wanted)(payload);
    });
  });
}

}  // namespace penstock
