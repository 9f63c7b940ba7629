#pragma once
#include <cmath>

#include "base/clock.h"

namespace penstock {

// How much of something comes in a second: over about the last ten, what is older counts less and less.
class Rate {
 public:
  void add(double amount, Moment now) {
    rate_ = at(now) + amount / kSeconds;
    last_ = now;
  }
  double at(Moment now) const {
    return rate_ * std::exp(-std::chrono::duration<double>(now - last_).count() / kSeconds);
  }

 private:
  static constexpr double kSeconds = 10;
  double rate_ = 0;
  Moment last_{};
};

}  // namespace penstock
