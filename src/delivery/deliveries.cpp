#include "delivery/deliveries.h"

#include <random>

#include "base/log.h"
#include "delivery/schedule.h"
#include "store/outbox.h"

namespace penstock {
namespace {

constexpr Millis kPurgeAfter = std::chrono::hours(1), kHeldAfter{60'000}, kStoreAway{1'000};

class Noting : public DeliveryProgress {
 public:
  Noting(Clock& clock, Db& db, Delivery attempt)
      : clock_(clock), db_(db), attempt_(std::move(attempt)), ends_(clock.monotonic() + Deliveries::kAttemptMax) {}
  Task<bool> note(std::int64_t position) override {
    came_further_ |= position > attempt_.position;
    const bool ours = co_await db_.write([&](Store& store) { return Outbox(store).note(attempt_, position); });
    time_is_over_ = ours && clock_.monotonic() >= ends_;
    co_return ours && !time_is_over_;
  }
  bool came_further() const { return came_further_; }
  bool time_is_over() const { return time_is_over_; }

 private:
  Clock& clock_;
  Db& db_;
  const Delivery attempt_;
  const Moment ends_;
  bool came_further_ = false, time_is_over_ = false;
};

Outcome had_an_error() {
  return {Outcome::Kind::again, "this server had an error", std::nullopt};
}

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
  Moment purge_at = clock_.monotonic(), held_at = purge_at;
  while (true) {
    const Moment asked = clock_.monotonic();
    const Timestamp now = clock_.now();
    if (asked >= held_at) {
      // Those of a claim whose commit came to an unknown end, perhaps long after we were told so.
      const auto held = co_await db_.read([this](Store& store) { return Outbox(store).held(options_.process); });
      for (const Delivery& delivery : held) {
        if (!under_way_.contains(delivery.id)) begin(delivery);
      }
      held_at = asked + kHeldAfter;
    }
    if (asked >= purge_at) {
      co_await db_.write([&](Store& store) {
        Outbox outbox(store);
        outbox.bury_unclaimed(now - kUnclaimedMax, options_.sinks, now);
        outbox.purge(now - kDeliveredKept, now - kDeadKept);
      });
      purge_at = asked + kPurgeAfter;
    }
    const ClaimLimits limits{kAtOnce - static_cast<std::int64_t>(under_way_.size()), kPerProject, kPerDestination};
    auto due = co_await db_.read([&](Store& store) { return Outbox(store).next_due(Timestamp{}, options_.sinks); });
    if (due && *due <= now) {
      std::vector<Delivery> claimed;
      if (limits.total > 0) {
        claimed = co_await db_.write([&](Store& store) {
          auto rows = Outbox(store).claim(options_.process, limits, now, options_.sinks);
          // Others would never learn what the dead have claimed.
          if (!rows.empty() && !store.lives(options_.process)) throw std::runtime_error("we are taken for dead");
          return rows;
        });
      }
      for (Delivery& delivery : claimed) begin(std::move(delivery));
      // What is due and was not claimed waits for the end of an attempt, which wakes us.
      due = co_await db_.read([&](Store& store) { return Outbox(store).next_due(now, options_.sinks); });
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
  Outcome outcome = had_an_error();
  Noting progress(clock_, db_, delivery);
  try {
    const auto sender = senders_.find(delivery.kind);
    if (sender != senders_.end()) outcome = co_await sender->second->send(delivery, progress);
  } catch (const std::exception& e) {
    if (is_cancelled(e)) throw;
    log::error("delivery {}: {}", delivery.id.value, e.what());
  }
  delivery.failures = progress.came_further() ? 1 : delivery.failures + 1;
  co_await keep(delivery, outcome, progress.time_is_over() && outcome.kind == Outcome::Kind::again);
  under_way_.erase(delivery.id);
  wake_.notify();
}

// However long the database is away: nobody else knows.
Task<> Deliveries::keep(const Delivery& attempt, Outcome outcome, bool goes_on) {
  using Kind = Outcome::Kind;
  const auto pause_of = [&](const Outcome& how) {
    return how.kind == Kind::again ? pause_after(attempt.failures, how.retry_after, options_.draw()) : std::nullopt;
  };
  std::optional<Millis> pause = pause_of(outcome);
  while (true) {
    const Timestamp now = clock_.now();
    try {
      co_await db_.write([&](Store& store) {
        Outbox outbox(store);
        if (outcome.kind == Kind::delivered) {
          outbox.end(attempt, DeliveryStatus::delivered, std::nullopt, now);
        } else if (goes_on) {
          outbox.go_on(attempt, now);
        } else if (pause) {
          outbox.try_again(attempt, outcome.why, now + *pause);
        } else if (outbox.end(attempt, DeliveryStatus::dead, outcome.why, now) && outcome.kind == Kind::gone) {
          outbox.disable_endpoint(attempt, outcome.url, now);
        }
      });
      break;
    } catch (const sql::Failure& e) {
      log::warn("the outcome of delivery {} waits for the database: {}", attempt.id.value, e.what());
    } catch (const std::exception& e) {
      if (is_cancelled(e)) throw;
      log::error("the outcome of delivery {}: {}", attempt.id.value, e.what());
      outcome = had_an_error();
      pause = pause_of(outcome);
    }
    co_await sleep_until(clock_, clock_.monotonic() + kStoreAway);
  }
  Totals& totals = totals_[attempt.kind];
  if (outcome.kind == Kind::delivered) {
    ++totals.delivered;
  } else if (pause || goes_on) {
    ++totals.again;
  } else {
    ++totals.dead;
    log::warn(log::batch(attempt.batch_id.value), "delivery {} is dead: {}", attempt.id.value, outcome.why);
  }
}

}  // namespace penstock
