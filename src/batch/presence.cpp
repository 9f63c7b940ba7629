#include "batch/presence.h"

namespace penstock {
namespace {

constexpr Millis kSignEvery{10'000};

}  // namespace

Presence::Presence(asio::io_context& loop, Clock& clock, Db& db, std::string worker)
    : clock_(clock), db_(db), worker_(std::move(worker)), tasks_(loop) {}

Task<> Presence::start() {
  co_await give_sign();
  tasks_.keep("signs of the worker", clock_, [this] { return run(); });
}

Task<> Presence::stop() {
  tasks_.cancel();
  co_await tasks_.join();
}

Task<> Presence::give_sign() {
  co_await db_.write([this](Store& store) { store.worker_seen(worker_, clock_.now()); });
}

Task<> Presence::run() {
  while (true) {
    co_await sleep_until(clock_, clock_.monotonic() + kSignEvery);
    co_await give_sign();
  }
}

}  // namespace penstock
