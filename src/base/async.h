#pragma once
#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <type_traits>

#include "base/clock.h"

// The few building blocks that all asynchronous code here is made of. One loop thread runs every coroutine; blocking
// work goes to pools. Nothing else in the tree calls co_spawn.
namespace penstock {

namespace asio = boost::asio;
template <class T = void>
using Task = asio::awaitable<T>;

// The clock of a real process: its alarms ring on `loop`. Wall time is what the machine's clock said at the start, and
// the time that has passed since, sleep of the machine included. So when somebody sets that clock, by a day or by a
// mistake, nothing that is here expires early or late; from the next start on we say the same as the machine, and until
// then the log says once that we do not. What NTP does all the time is no such step: it makes the kernel's clocks run a
// little faster or slower, ours with them.
class SystemClock : public Clock {
 public:
  explicit SystemClock(asio::io_context& loop);
  Timestamp now() const override;
  Moment monotonic() const override;
  std::unique_ptr<Alarm> alarm_at(Moment when, std::function<void()> ring) override;

 private:
  asio::io_context& loop_;
  const Millis boot_;                      // the wall time at which the machine began to count
  mutable std::atomic<bool> told_{false};  // that the machine's clock was set
};

// Something that happened, for one waiting coroutine at a time. A notify() with nobody waiting is kept for the next
// wait; several count as one. Loop thread only. Waiting throws when the coroutine is cancelled.
class Event {
 public:
  explicit Event(asio::io_context& loop) : timer_(loop) {}
  void notify();
  Task<> wait();
  // False when `deadline` came first.
  Task<bool> wait_until(Clock& clock, Moment deadline);

 private:
  bool set_ = false;
  asio::steady_timer timer_;  // never expires: a waiter sleeps on it until notify() cancels it
};

// Waits until `when` by that clock. Throws when the coroutine is cancelled.
Task<> sleep_until(Clock& clock, Moment when);

// Holds running coroutines: whoever starts one here stops and joins it. An exception that leaves a task is logged with
// the task's name. Loop thread only; destroy it only when it is empty or its loop no longer runs.
class TaskGroup {
 public:
  explicit TaskGroup(asio::io_context& loop) : loop_(loop), empty_(loop) {}
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  void spawn(const char* name, Task<> task);
  // For what must not end: runs make() and, when an exception leaves it, logs that and runs it again after a pause of
  // 1 s, doubled up to 4 s, and of 1 s again when it ran for longer than that. Ends when make() returns, or when
  // cancelled.
  void keep(const char* name, Clock& clock, std::function<Task<>()> make);
  std::size_t size() const { return running_.size(); }

  // Asks every running task to end: its next wait throws operation_aborted.
  void cancel();
  // Returns when no task is left. One caller at a time.
  Task<> join();
  // False when some were left at `deadline`.
  Task<bool> join_until(Clock& clock, Moment deadline);

 private:
  static Task<> restarting(const char* name, Clock& clock, std::function<Task<>()> make);

  asio::io_context& loop_;
  std::list<asio::cancellation_signal> running_;
  Event empty_;
};

// A simulation runs on one thread: what is to run on pools comes to it here, and it decides when. Empty otherwise.
inline std::function<void(asio::thread_pool&, std::function<void()>)> simulated_pools;

// Runs a plain function on a pool's thread and returns its result, or throws what it threw, on the loop thread. Not
// cancellable: the function runs to its end, and the coroutine waits for it.
template <class F, class R = std::invoke_result_t<F&>>
Task<R> blocking(asio::thread_pool& pool, F function) {
  auto executor = co_await asio::this_coro::executor;
  if constexpr (std::is_void_v<R>) {
    std::exception_ptr failure;
    co_await asio::async_initiate<const asio::use_awaitable_t<>&, void()>(
        [&](auto handler) {
          auto work = [&, executor, handler = std::move(handler)]() mutable {
            try {
              function();
            } catch (...) {
              failure = std::current_exception();
            }
            asio::post(executor, std::move(handler));
          };
          if (!simulated_pools) return asio::post(pool, std::move(work));
          simulated_pools(pool, [shared = std::make_shared<decltype(work)>(std::move(work))] { (*shared)(); });
        },
        asio::use_awaitable);
    if (failure) std::rethrow_exception(failure);
  } else {
    std::optional<R> result;
    co_await blocking(pool, [&] { result.emplace(function()); });
    co_return std::move(*result);
  }
}

// Runs the loop until `task` ends, and throws what it threw. What is left on the loop then is not run.
void run_until_done(asio::io_context& loop, Task<> task);

// True for the exception that a cancelled wait throws.
bool is_cancelled(const std::exception& e);

}  // namespace penstock
