#include "base/async.h"

#include <time.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/system_error.hpp>

#include "base/log.h"

namespace penstock {

namespace {

constexpr Millis kStepTold{60'000};

Millis read_clock(clockid_t id) {
  timespec time{};
  ::clock_gettime(id, &time);
  return std::chrono::floor<Millis>(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
}

}  // namespace

SystemClock::SystemClock(asio::io_context& loop)
    : loop_(loop), boot_(read_clock(CLOCK_REALTIME) - read_clock(CLOCK_BOOTTIME)) {}

Timestamp SystemClock::now() const {
  const Millis now = boot_ + read_clock(CLOCK_BOOTTIME);
  const Millis ahead = read_clock(CLOCK_REALTIME) - now;
  if (std::chrono::abs(ahead) > kStepTold && !told_.exchange(true)) {
    log::warn("the machine's clock was set by {} s; what is here goes by the time of before until the next start",
              ahead.count() / 1000);
  }
  return Timestamp(now);
}
Moment SystemClock::monotonic() const {
  return std::chrono::floor<Millis>(std::chrono::steady_clock::now());
}

std::unique_ptr<Alarm> SystemClock::alarm_at(Moment when, std::function<void()> ring) {
  struct TimerAlarm : Alarm {
    TimerAlarm(asio::io_context& loop, std::function<void()> f)
        : timer(loop), ring(std::make_shared<std::function<void()>>(std::move(f))) {}
    asio::steady_timer timer;
    std::shared_ptr<std::function<void()>> ring;  // shared with the timer's handler, which may be queued already
  };
  auto alarm = std::make_unique<TimerAlarm>(loop_, std::move(ring));
  alarm->timer.expires_at(std::chrono::steady_clock::time_point(when));
  alarm->timer.async_wait([weak = std::weak_ptr(alarm->ring)](boost::system::error_code error) {
    if (error) return;
    if (const auto still_wanted = weak.lock()) (*still_wanted)();
  });
  return alarm;
}

void Event::notify() {
  set_ = true;
  timer_.cancel();
}

Task<> Event::wait() {
  if (!set_) {
    timer_.expires_at(asio::steady_timer::time_point::max());
    boost::system::error_code error;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (!set_) throw boost::system::system_error(asio::error::operation_aborted);
  }
  set_ = false;
}

Task<bool> Event::wait_until(Clock& clock, Moment deadline) {
  if (set_) {
    set_ = false;
    co_return true;
  }
  bool late = false;
  const auto alarm = clock.alarm_at(deadline, [&] {
    late = !set_;
    notify();
  });
  co_await wait();
  co_return !late;
}

Task<> sleep_until(Clock& clock, Moment when) {
  Event never(static_cast<asio::io_context&>((co_await asio::this_coro::executor).context()));
  co_await never.wait_until(clock, when);
}

void TaskGroup::spawn(const char* name, Task<> task) {
  const auto signal = running_.emplace(running_.end());
  asio::co_spawn(loop_, std::move(task),
                 asio::bind_cancellation_slot(signal->slot(), [this, name, signal](std::exception_ptr failure) {
                   running_.erase(signal);
                   if (running_.empty()) empty_.notify();
                   try {
                     if (failure) std::rethrow_exception(failure);
                   } catch (const std::exception& e) {
                     if (!is_cancelled(e)) log::error("{}: {}", name, e.what());
                   }
                 }));
}

void TaskGroup::keep(const char* name, Clock& clock, std::function<Task<>()> make) {
  spawn(name, restarting(name, clock, std::move(make)));
}

Task<> TaskGroup::restarting(const char* name, Clock& clock, std::function<Task<>()> make) {
  constexpr Millis kPauseMin{1'000}, kPauseMax{4'000};
  Millis pause = kPauseMin;
  while (true) {
    const Moment start = clock.monotonic();
    try {
      co_await make();
      co_return;
    } catch (const std::exception& e) {
      if (is_cancelled(e)) throw;
      if (clock.monotonic() - start > kPauseMax) pause = kPauseMin;
      log::error("{}: {}; once more in {} s", name, e.what(), pause.count() / 1000);
    }
    co_await sleep_until(clock, clock.monotonic() + pause);
    pause = std::min(2 * pause, kPauseMax);
  }
}

void TaskGroup::cancel() {
  // A cancelled task may end, and leave the list, while we walk it.
  for (auto it = running_.begin(); it != running_.end();) (it++)->emit(asio::cancellation_type::terminal);
}

Task<> TaskGroup::join() {
  while (!running_.empty()) co_await empty_.wait();
}

Task<bool> TaskGroup::join_until(Clock& clock, Moment deadline) {
  while (!running_.empty()) {
    const bool in_time = co_await empty_.wait_until(clock, deadline);
    if (!in_time) break;
  }
  co_return running_.empty();
}

void run_until_done(asio::io_context& loop, Task<> task) {
  std::exception_ptr failure;
  asio::co_spawn(loop, std::move(task), [&](std::exception_ptr e) {
    failure = e;
    loop.stop();
  });
  loop.run();
  if (failure) std::rethrow_exception(failure);
}

bool is_cancelled(const std::exception& e) {
  const auto* error = dynamic_cast<const boost::system::system_error*>(&e);
  return error && error->code() == asio::error::operation_aborted;
}

}  // namespace penstock
