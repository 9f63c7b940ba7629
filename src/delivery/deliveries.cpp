#include "delivery/deliveries.h"

#include <random>

#include "base/log.h"
#include "delivery/schedule.h"
#include "store/outbox.h"

namespace penstock {
namespace {

constexpr Millis kPurgeAfter = std::chrono::hours(1), kStoreAway{1'000};

class Noting : public DeliveryProgress {
 public:
  Noting(Db& db, Delivery attempt) : db_(db), attempt_(std::move(attempt)) {}
  Task<bool> note(std::int64_t position) override {
    came_further_ |= position > attempt_.position;
    co_return co_await db_.write([&](Store& store) { return Outbox(store).note(attempt_, position); });
  }
  bool came_further() const { return came_further_; }

 private:
  Db& db_;
  const Delivery attempt_;
  bool came_further_ = false;
};

double random_draw() {
  static std::mt19937_64 random{std::random_device{}()};
  return std::uniform_real_distribution<double>(0, 1)(random);
}

}  // namespace

Deliveries::Deliveries(asio::io_context& loop, Clock& clock, Db& db, Options options)
    : clock_(clock), db_(db), options_(std::move(options)), wake_(loop), tasks_(loop), attempts_(loop) {
  if (!options_.draw) options_.draw = random_draw;
}

void Deliveries::add(DeliveryKind kind, std::unique_ptr<Sender> sender) {
  senders_[kind] = std::move(sender);
}

void Deliveries::start() {
  tasks_.keep("deliveries", clock_, [this] { return run(); });
}

Task<> Deliveries::stop(Millis patience) {
  tasks_.cancel();
  co_await tasks_.join();
  co_await attempts_.join_until(clock_, clock_.monotonic() + patience);
  attempts_.cancel();
  co_await attempts_.join();
  if (under_way_.empty()) co_return;
  try {
    co_await db_.write([this](Store& store) {
      for (const auto& [id, attempt] : under_way_) Outbox(store).give_back(attempt);
    });
  } catch (const sql::Failure& e) {
    log::error("deliveries under way could not be given back; the end of this process frees them: {}", e.what());
  }
}

Task<> Deliveries::run() {
  // Those of a claim whose commit came to an unknown end.
  const auto held = co_await db_.read([this](Store& store) { return Outbox(store).held(options_.process); });
  for (const Delivery& delivery : held) {
    if (!under_way_.contains(delivery.id)) begin(delivery);
  }
  Moment purge_at = clock_.monotonic();
  while (true) {
    const Moment asked = clock_.monotonic();
    const Timestamp now = clock_.now();
    if (asked >= purge_at) {
      co_await db_.write([&](Store& store) { Outbox(store).purge(now - kDeliveredKept, now - kDeadKept); });
      purge_at = asked + kPurgeAfter;
    }
    const auto room = kAtOnce - static_cast<std::int64_t>(under_way_.size());
    auto due = co_await db_.read([](Store& store) { return Outbox(store).next_due(Timestamp{}); });
    if (due && *due <= now) {
      auto claimed = co_await db_.write([&](Store& store) {
        return Outbox(store).claim(options_.process, room, kPerDestination, now, options_.sinks);
      });
      for (Delivery& delivery : claimed) begin(std::move(delivery));
      // What is due and was not claimed waits for the end of an attempt, which wakes us.
      due = co_await db_.read([&](Store& store) { return Outbox(store).next_due(now); });
    }
    Moment until = std::min(purge_at, asked + kLookAfter);
    if (due) until = std::min(until, asked + (*due - now));
    co_await wake_.wait_until(clock_, until);
  }
}

void Deliveries::begin(Delivery delivery) {
  under_way_.emplace(delivery.id, delivery);
  attempts_.spawn("delivery", attempt(std::move(delivery)));
}

Task<> Deliveries::attempt(Delivery delivery) {
  Outcome outcome{Outcome::Kind::again, "this server had an error", std::nullopt};
  Noting progress(db_, delivery);
  try {
    const auto sender = senders_.find(delivery.kind);
    if (sender != senders_.end()) outcome = co_await sender->second->send(delivery, progress);
  } catch (const std::exception& e) {
    if (is_cancelled(e)) throw;
    log::error("delivery {}: {}", delivery.id.value, e.what());
  }
  delivery.failures = progress.came_further() ? 1 : delivery.failures + 1;
  co_await keep(delivery, outcome);
  under_way_.erase(delivery.id);
  wake_.notify();
}

// However long the database is away: nobody else knows.
Task<> Deliveries::keep(const Delivery& attempt, const Outcome& outcome) {
  using Kind = Outcome::Kind;
  std::optional<Millis> pause;
  if (outcome.kind == Kind::again) pause = pause_after(attempt.failures, outcome.retry_after, options_.draw());
  while (true) {
    const Timestamp now = clock_.now();
    try {
      co_await db_.write([&](Store& store) {
        Outbox outbox(store);
        if (outcome.kind == Kind::delivered) {
          outbox.end(attempt, DeliveryStatus::delivered, std::nullopt, now);
        } else if (pause) {
          outbox.try_again(attempt, outcome.why, now + *pause);
        } else if (outbox.end(attempt, DeliveryStatus::dead, outcome.why, now) && outcome.kind == Kind::gone) {
          outbox.disable_endpoint(attempt, now);
        }
      });
      break;
    } catch (const sql::Failure& e) {
      log::warn("the outcome of delivery {} waits for the database: {}", attempt.id.value, e.what());
    }
    co_await sleep_until(clock_, clock_.monotonic() + kStoreAway);
  }
  if (outcome.kind != Kind::delivered && !pause) {
    log::warn("delivery {} of batch {} is dead: {}", attempt.id.value, attempt.batch_id.value, outcome.why);
  }
}

}  // namespace penstock
