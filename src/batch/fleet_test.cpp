#include "batch/presence.h"

#include <gtest/gtest.h>

#include "testing/fake_clock.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

constexpr Millis kSignEvery{10'000}, kTick{1};

class PresenceTest : public testing::Test {
 protected:
  ~PresenceTest() override { run_task(loop, presence.stop()); }

  std::optional<Timestamp> last_seen() {
    return run_task(loop, db.read([](Store& store) { return store.worker_last_seen(); }));
  }
  bool has_alarm_in(Millis left) {
    return run_until(loop, [&] { return clock.has_alarm_at(clock.monotonic() + left); });
  }

  asio::io_context loop;
  FakeClock clock{loop};
  Db db{":memory:"};
  Presence presence{loop, clock, db, "worker_1"};
};

TEST_F(PresenceTest, TheFirstSignIsGivenAtTheStartAndOneMoreEveryTenSeconds) {
  run_task(loop, presence.start());
  EXPECT_EQ(last_seen(), clock.now());
  for (int sign = 0; sign < 3; ++sign) {
    const Timestamp before = clock.now();
    ASSERT_TRUE(has_alarm_in(kSignEvery));
    clock.advance(kSignEvery - kTick);
    poll(loop);
    EXPECT_EQ(last_seen(), before);
    clock.advance(kTick);
    EXPECT_TRUE(run_until(loop, [&] { return last_seen() == clock.now(); }));
  }
}

TEST_F(PresenceTest, AfterTheStopThereAreNone) {
  run_task(loop, presence.start());
  const Timestamp last = clock.now();
  ASSERT_TRUE(has_alarm_in(kSignEvery));
  run_task(loop, presence.stop());
  EXPECT_FALSE(clock.has_alarms());
  clock.advance(2 * kSignEvery);
  EXPECT_EQ(last_seen(), last);
}

}  // namespace
}  // namespace penstock
