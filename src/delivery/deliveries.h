#pragma once
#include <map>

#include "delivery/sender.h"
#include "store/db.h"

namespace penstock {

// Takes what is in the outbox to its receivers. Every process has one: each row is attempted by the one that holds it.
// At most kAtOnce attempts are under way here, kPerProject of one project and kPerDestination at one far side, so that
// neither a receiver that is dead or slow nor a project that has many of them holds up others. One that advances for
// kAttemptMax lets others go first. Loop thread only; the referenced parts must outlive it.
class Deliveries {
 public:
  static constexpr std::int64_t kAtOnce = 64, kPerProject = 8, kPerDestination = 2;
  static constexpr Millis kAttemptMax = std::chrono::minutes(5);
  static constexpr Millis kLookAfter{5'000};  // at the latest: others may have put something in, or died
  static constexpr Millis kUnclaimedMax = std::chrono::days(3), kDeliveredKept = std::chrono::days(30),
                          kDeadKept = std::chrono::days(90);

  // Attempts of this process that have ended, each by what came of it.
  struct Totals {
    std::int64_t delivered = 0, again = 0, dead = 0;
  };

  struct Options {
    std::string process;                  // this one's name on what it holds
    std::vector<std::string> sinks = {};  // those of other names are left to processes that have them
    std::function<double()> draw = {};    // from 0 to before 1; empty: at random
  };

  Deliveries(asio::io_context& loop, Clock& clock, Db& db, Options options);

  const std::map<DeliveryKind, Totals>& totals() const { return totals_; }
  // Before start().
  void add(DeliveryKind kind, std::unique_ptr<Sender> sender);
  // When this process has its row.
  void start();
  // There may be something new.
  void wake() { wake_.notify(); }
  // No attempt begins any more; those under way have `patience`, and what is left then is free for others.
  Task<> stop(Millis patience);

 private:
  Task<> run();
  void begin(Delivery delivery);
  Task<> attempt(Delivery delivery);
  Task<> keep(const Delivery& attempt, Outcome outcome, bool goes_on);

  Clock& clock_;
  Db& db_;
  Options options_;
  std::map<DeliveryKind, std::unique_ptr<Sender>> senders_;
  std::map<DeliveryKind, Totals> totals_{{DeliveryKind::webhook, {}}, {DeliveryKind::sink, {}}};
  std::map<DeliveryId, Delivery> under_way_;
  Event wake_;
  TaskGroup tasks_, attempts_;
};

}  // namespace penstock
