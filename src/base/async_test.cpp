#include "base/async.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/log.h"
#include "testing/fake_clock.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

class AsyncTest : public testing::Test {
 protected:
  AsyncTest() { log::set_level(log::Level::off); }
  ~AsyncTest() override {
    tasks.cancel();
    poll(loop);
    log::set_level(log::Level::info);
  }

  // Lives as long as the tasks that wait on it.
  Event& new_event() { return events.emplace_back(loop); }

  asio::io_context loop;
  FakeClock clock{loop};
  std::list<Event> events;
  TaskGroup tasks{loop};
};

// --- FakeClock, on which so many tests stand

TEST_F(AsyncTest, AlarmsRingInTheOrderInWhichTheyFallDue) {
  std::string rung;
  const auto late = clock.alarm_at(clock.monotonic() + Millis{30}, [&] { rung += 'c'; });
  const auto early = clock.alarm_at(clock.monotonic() + Millis{10}, [&] { rung += 'a'; });
  const auto second = clock.alarm_at(clock.monotonic() + Millis{10}, [&] { rung += 'b'; });
  clock.advance(Millis{9});
  poll(loop);
  EXPECT_EQ(rung, "");
  clock.advance(Millis{21});
  EXPECT_EQ(rung, "");  // never from inside advance()
  poll(loop);
  EXPECT_EQ(rung, "abc");
}

TEST_F(AsyncTest, AnAlarmOfThePastRingsAtOnceButNotFromInside) {
  bool rung = false;
  const auto alarm = clock.alarm_at(clock.monotonic(), [&] { rung = true; });
  EXPECT_FALSE(rung);
  poll(loop);
  EXPECT_TRUE(rung);
}

TEST_F(AsyncTest, ADestroyedAlarmDoesNotRingEvenWhenItWasDue) {
  bool rung = false;
  auto alarm = clock.alarm_at(clock.monotonic() + Millis{1}, [&] { rung = true; });
  clock.advance(Millis{1});
  alarm.reset();
  poll(loop);
  EXPECT_FALSE(rung);
}

TEST_F(AsyncTest, TheSystemClocksAlarmsRingAndCanBeCancelled) {
  SystemClock system(loop);
  std::string rung;
  auto never = system.alarm_at(system.monotonic() + Millis{1}, [&] { rung += 'x'; });
  const auto past = system.alarm_at(system.monotonic() - Millis{5}, [&] { rung += 'a'; });
  EXPECT_EQ(rung, "");
  never.reset();
  EXPECT_TRUE(run_until(loop, [&] { return !rung.empty(); }));
  EXPECT_EQ(rung, "a");
  EXPECT_GT(system.now(), Timestamp(Millis(1'600'000'000'000)));
}

// --- Event

Task<> count_waits(Event& event, int& count) {
  while (true) {
    co_await event.wait();
    ++count;
  }
}

TEST_F(AsyncTest, AnEventKeepsANotifyForTheNextWaitAndCountsSeveralAsOne) {
  Event& event = new_event();
  event.notify();
  event.notify();
  int count = 0;
  tasks.spawn("waiting", count_waits(event, count));
  poll(loop);
  EXPECT_EQ(count, 1);
  event.notify();
  poll(loop);
  EXPECT_EQ(count, 2);
}

Task<> wait_until(Event& event, Clock& clock, Moment deadline, std::optional<bool>& in_time) {
  in_time = co_await event.wait_until(clock, deadline);
}

TEST_F(AsyncTest, WaitUntilTellsANotifyFromTheDeadline) {
  Event& event = new_event();
  std::optional<bool> in_time;
  const Moment deadline = clock.monotonic() + Millis{100};
  tasks.spawn("waiting", wait_until(event, clock, deadline, in_time));
  poll(loop);
  clock.advance(Millis{99});
  poll(loop);
  EXPECT_FALSE(in_time.has_value());
  clock.advance(Millis{1});
  poll(loop);
  EXPECT_EQ(in_time, false);

  in_time.reset();
  tasks.spawn("waiting", wait_until(event, clock, clock.monotonic() + Millis{100}, in_time));
  poll(loop);
  event.notify();
  poll(loop);
  EXPECT_EQ(in_time, true);
  EXPECT_FALSE(clock.has_alarms()) << "an alarm was left behind";
}

TEST_F(AsyncTest, WaitUntilTakesAKeptNotifyAlsoPastTheDeadline) {
  Event& event = new_event();
  event.notify();
  std::optional<bool> in_time;
  tasks.spawn("waiting", wait_until(event, clock, clock.monotonic() - Millis{1}, in_time));
  poll(loop);
  EXPECT_EQ(in_time, true);
}

TEST_F(AsyncTest, ANotifyAtTheVeryDeadlineIsNotLost) {
  Event& event = new_event();
  std::optional<bool> in_time;
  tasks.spawn("waiting", wait_until(event, clock, clock.monotonic() + Millis{1}, in_time));
  poll(loop);
  clock.advance(Millis{1});  // the alarm is about to ring
  event.notify();
  poll(loop);
  EXPECT_EQ(in_time, true);
}

TEST_F(AsyncTest, ADeadlineThatWasMissedIsNoNotifyForTheNextWait) {
  Event& event = new_event();
  std::optional<bool> in_time;
  tasks.spawn("waiting", wait_until(event, clock, clock.monotonic(), in_time));
  poll(loop);
  EXPECT_EQ(in_time, false);
  int count = 0;
  tasks.spawn("waiting", count_waits(event, count));
  poll(loop);
  EXPECT_EQ(count, 0);
}

Task<> tell_how_it_ended(Task<> task, std::string& how) {
  try {
    co_await std::move(task);
    how = "returned";
  } catch (const std::exception& e) {
    how = is_cancelled(e) ? "cancelled" : e.what();
    throw;
  }
}

TEST_F(AsyncTest, ACancelledWaitThrowsOperationAborted) {
  Event& event = new_event();
  std::string wait, sleep;
  int count = 0;
  tasks.spawn("waiting", tell_how_it_ended(count_waits(event, count), wait));
  tasks.spawn("sleeping", tell_how_it_ended(sleep_until(clock, clock.monotonic() + Millis{5}), sleep));
  poll(loop);
  EXPECT_EQ(wait + sleep, "");
  tasks.cancel();
  poll(loop);
  EXPECT_EQ(wait, "cancelled");
  EXPECT_EQ(sleep, "cancelled");
  EXPECT_EQ(tasks.size(), 0u);
}

TEST_F(AsyncTest, SleepEndsAtItsTime) {
  std::string how;
  tasks.spawn("sleeping", tell_how_it_ended(sleep_until(clock, clock.monotonic() + Millis{5}), how));
  poll(loop);
  clock.advance(Millis{4});
  poll(loop);
  EXPECT_EQ(how, "");
  clock.advance(Millis{1});
  poll(loop);
  EXPECT_EQ(how, "returned");
}

// --- TaskGroup

Task<> fail(const char* what) {
  throw std::runtime_error(what);
  co_return;
}

Task<> join_then(TaskGroup& group, bool& joined) {
  co_await group.join();
  joined = true;
}

TEST_F(AsyncTest, JoinWaitsForTheLastTaskAndOutlivesOneThatThrows) {
  Event& event = new_event();
  int count = 0;
  TaskGroup group(loop);
  group.spawn("failing", fail("on purpose"));
  group.spawn("waiting", count_waits(event, count));
  bool joined = false;
  tasks.spawn("joining", join_then(group, joined));
  poll(loop);
  EXPECT_EQ(group.size(), 1u);
  EXPECT_FALSE(joined);
  group.cancel();
  poll(loop);
  EXPECT_TRUE(joined);
}

TEST_F(AsyncTest, JoiningAnEmptyGroupReturnsAtOnce) {
  bool joined = false;
  TaskGroup group(loop);
  tasks.spawn("joining", join_then(group, joined));
  poll(loop);
  EXPECT_TRUE(joined);
}

TEST_F(AsyncTest, JoinUntilGivesUpAtItsDeadline) {
  Event& event = new_event();
  int count = 0;
  TaskGroup group(loop);
  group.spawn("waiting", count_waits(event, count));
  poll(loop);
  EXPECT_FALSE(run_task(loop, group.join_until(clock, clock.monotonic())));
  group.cancel();
  EXPECT_TRUE(run_task(loop, group.join_until(clock, clock.monotonic() + Millis{1'000})));
}

Task<> fail_three_times(int& starts) {
  if (++starts <= 3) throw std::runtime_error("not yet");
  co_return;
}

TEST_F(AsyncTest, KeepStartsAgainAfterPausesOf1And2And4SecondsAndEndsWhenItReturns) {
  int starts = 0;
  tasks.keep("kept", clock, [&] { return fail_three_times(starts); });
  poll(loop);
  for (const int pause : {1'000, 2'000, 4'000}) {
    const int before = starts;
    clock.advance(Millis{pause - 1});
    poll(loop);
    EXPECT_EQ(starts, before) << pause;
    clock.advance(Millis{1});
    poll(loop);
    EXPECT_EQ(starts, before + 1) << pause;
  }
  EXPECT_EQ(starts, 4);
  EXPECT_EQ(tasks.size(), 0u);
}

Task<> always_fail(int& starts) {
  ++starts;
  throw std::runtime_error("never");
  co_return;
}

TEST_F(AsyncTest, KeepNeverPausesForMoreThan4Seconds) {
  int starts = 0;
  tasks.keep("kept", clock, [&] { return always_fail(starts); });
  poll(loop);
  for (int i = 0; i < 20; ++i) {
    clock.advance(Millis{4'000});
    poll(loop);
  }
  EXPECT_EQ(starts, 21);
}

Task<> fail_after(Clock& clock, Millis time, int& starts) {
  ++starts;
  co_await sleep_until(clock, clock.monotonic() + time);
  throw std::runtime_error("at last");
}

TEST_F(AsyncTest, KeepPausesForASecondAgainAfterItRanForLong) {
  int starts = 0;
  tasks.keep("kept", clock, [&] { return fail_after(clock, Millis{4'001}, starts); });
  poll(loop);
  for (int i = 1; i <= 3; ++i) {
    clock.advance(Millis{4'001});
    poll(loop);
    EXPECT_EQ(starts, i);
    clock.advance(Millis{1'000});
    poll(loop);
    EXPECT_EQ(starts, i + 1);
  }
}

TEST_F(AsyncTest, KeepEndsWhenCancelledWhileRunningAndWhilePausing) {
  Event& event = new_event();
  int count = 0, starts = 0;
  tasks.keep("running", clock, [&] { return count_waits(event, count); });
  tasks.keep("pausing", clock, [&] { return always_fail(starts); });
  poll(loop);
  EXPECT_EQ(tasks.size(), 2u);
  tasks.cancel();
  poll(loop);
  EXPECT_EQ(tasks.size(), 0u);
  clock.advance(Millis{60'000});
  poll(loop);
  EXPECT_EQ(starts, 1);
}

Task<> cancel_all(TaskGroup& group, Event& event) {
  co_await event.wait();
  group.cancel();
}

TEST_F(AsyncTest, ATaskMayCancelItsOwnGroup) {
  Event &event = new_event(), &never = new_event();
  int count = 0;
  tasks.spawn("first", count_waits(never, count));
  tasks.spawn("cancelling", cancel_all(tasks, event));
  Event& other = new_event();
  tasks.spawn("last", count_waits(other, count));
  poll(loop);
  event.notify();
  poll(loop);
  EXPECT_EQ(tasks.size(), 0u);
}

// --- blocking

Task<std::string> where_it_runs(asio::thread_pool& pool) {
  const auto loop_thread = std::this_thread::get_id();
  const auto inside = co_await blocking(pool, [] { return std::this_thread::get_id(); });
  const auto after = std::this_thread::get_id();
  co_return std::string(inside != loop_thread ? "pool" : "loop") + (after == loop_thread ? ", loop" : ", pool");
}

TEST_F(AsyncTest, BlockingRunsOnThePoolAndReturnsToTheLoop) {
  asio::thread_pool pool(1);
  EXPECT_EQ(run_task(loop, where_it_runs(pool)), "pool, loop");
}

Task<std::unique_ptr<int>> answer_of(asio::thread_pool& pool) {
  co_return co_await blocking(pool, [] { return std::make_unique<int>(42); });
}
Task<> throw_on(asio::thread_pool& pool) {
  co_await blocking(pool, [] { throw std::invalid_argument("from the pool"); });
}
Task<int> throw_instead_of_a_number(asio::thread_pool& pool) {
  co_return co_await blocking(pool, []() -> int { throw std::invalid_argument("from the pool"); });
}

TEST_F(AsyncTest, BlockingHandsOnWhatIsReturnedAndWhatIsThrown) {
  asio::thread_pool pool(1);
  EXPECT_EQ(*run_task(loop, answer_of(pool)), 42);
  EXPECT_THROW(run_task(loop, throw_on(pool)), std::invalid_argument);
  EXPECT_THROW(run_task(loop, throw_instead_of_a_number(pool)), std::invalid_argument);
}

TEST_F(AsyncTest, RunUntilDoneThrowsWhatTheTaskThrew) {
  EXPECT_THROW(run_until_done(loop, fail("on purpose")), std::runtime_error);
  loop.restart();
  run_until_done(loop, sleep_until(clock, clock.monotonic()));
}

TEST(IsCancelledTest, IsTrueForOperationAbortedAlone) {
  EXPECT_TRUE(is_cancelled(boost::system::system_error(asio::error::operation_aborted)));
  EXPECT_FALSE(is_cancelled(boost::system::system_error(asio::error::connection_reset)));
  EXPECT_FALSE(is_cancelled(std::runtime_error("operation_aborted")));
}

}  // namespace
}  // namespace penstock
