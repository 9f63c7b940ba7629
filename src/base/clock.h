#pragma once
#include <chrono>
#include <functional>
#include <memory>

namespace penstock {

using Millis = std::chrono::milliseconds;
using Timestamp = std::chrono::sys_time<Millis>;                            // wall time: what people and the API see
using Moment = std::chrono::time_point<std::chrono::steady_clock, Millis>;  // monotonic: leases, retries, time limits

// A pending wake-up. Destroying it cancels it.
class Alarm {
 public:
  virtual ~Alarm() = default;
};

// Time as the program sees it. Implementations belong to the loop thread, except now() and monotonic(), which any
// thread may call.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Timestamp now() const = 0;
  virtual Moment monotonic() const = 0;

  // Calls `ring` on the loop thread at `when`, at once if that is past, never from inside alarm_at().
  virtual std::unique_ptr<Alarm> alarm_at(Moment when, std::function<void()> ring) = 0;
};

}  // namespace penstock
