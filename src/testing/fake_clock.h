#pragma once
#include <atomic>
#include <map>
#include <memory>

#include "base/async.h"

namespace penstock {

// Time that stands still until a test moves it. Alarms ring on `loop`, so a test lets the loop run after advance().
class FakeClock : public Clock {
 public:
  explicit FakeClock(asio::io_context& loop, Moment start = Moment(Millis(1'000'000))) : loop_(loop), moment_(start) {}

  Timestamp now() const override {
    return Timestamp(Millis(1'764'000'000'000)) + moment_.load().time_since_epoch() + wall_.load();
  }
  Moment monotonic() const override { return moment_; }

  std::unique_ptr<Alarm> alarm_at(Moment when, std::function<void()> ring) override {
    auto alarm = std::make_unique<FakeAlarm>(*this, Key{when, ++made_}, std::move(ring));
    if (when <= moment_.load()) {
      post(alarm->ring);
    } else {
      alarms_[alarm->key] = alarm->ring;
    }
    return alarm;
  }

  // Time jumps; then what has fallen due rings, in the order in which it fell due.
  void advance(Millis step) {
    moment_ = moment_.load() + step;
    while (!alarms_.empty() && alarms_.begin()->first.first <= moment_.load()) {
      post(alarms_.begin()->second);
      alarms_.erase(alarms_.begin());
    }
  }

  // Somebody sets the wall clock: by so much it is off from then on.
  void set_wall(Millis offset) { wall_ = offset; }

  std::optional<Moment> next_alarm() const {
    return alarms_.empty() ? std::nullopt : std::optional(alarms_.begin()->first.first);
  }
  bool has_alarms() const { return !alarms_.empty(); }
  // Whether somebody waits for exactly then.
  bool has_alarm_at(Moment when) const { return has_alarm_within(when, when); }
  // Whether somebody waits for a time from `first` to `last`.
  bool has_alarm_within(Moment first, Moment last) const {
    const auto it = alarms_.lower_bound({first, 0});
    return it != alarms_.end() && it->first.first <= last;
  }

 private:
  using Key = std::pair<Moment, int>;
  using Ring = std::shared_ptr<std::function<void()>>;  // gone with its alarm, also when it is on the loop already
  struct FakeAlarm : Alarm {
    FakeAlarm(FakeClock& the_clock, Key the_key, std::function<void()> the_ring)
        : clock(the_clock), key(the_key), ring(std::make_shared<std::function<void()>>(std::move(the_ring))) {}
    ~FakeAlarm() override { clock.alarms_.erase(key); }
    FakeClock& clock;
    const Key key;
    const Ring ring;
  };

  void post(const Ring& ring) {
    asio::post(loop_, [weak = std::weak_ptr(ring)] {
      if (const auto still_wanted = weak.lock()) (*still_wanted)();
    });
  }

  asio::io_context& loop_;
  std::atomic<Moment> moment_;
  std::atomic<Millis> wall_{Millis{0}};
  std::map<Key, Ring> alarms_;
  int made_ = 0;
};

}  // namespace penstock
