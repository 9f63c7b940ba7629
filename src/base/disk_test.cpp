#include "base/disk.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "testing/fake_clock.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

constexpr std::uint64_t kMega = 1 << 20;

TEST(DiskReserve, IsAHundredthOfASmallDiskAndOtherwise64Mega) {
  EXPECT_EQ(disk_reserve(0), 0u);
  EXPECT_EQ(disk_reserve(100 * kMega), kMega);
  EXPECT_EQ(disk_reserve(6'400 * kMega), 64 * kMega);
  EXPECT_EQ(disk_reserve(10'000'000 * kMega), 64 * kMega);
}

TEST(DiskRoom, IsThatOfTheFoldersFileSystem) {
  const DiskRoom room = disk_room("/");
  EXPECT_GT(room.size, 0u);
  EXPECT_LE(room.free, room.size);
  EXPECT_THROW(disk_room("/no such folder"), std::system_error);
}

TEST(DiskWatch, TellsOnceWhenTheReserveIsBrokenIntoAndOnceWhenItIsWholeAgain) {
  log::set_level(log::Level::off);
  asio::io_context loop;
  FakeClock clock(loop);
  asio::thread_pool pool(1);
  std::atomic<std::uint64_t> free{kMega - 1};
  std::vector<bool> told;
  DiskWatch watch(
      loop, clock, pool,
      [&] {
        return DiskRoom{100 * kMega, free};
      },
      [&](bool low) { told.push_back(low); });
  run_task(loop, watch.start());
  EXPECT_EQ(told, std::vector{true});
  const auto a_second_later = [&](std::uint64_t now_free) {
    free = now_free;
    EXPECT_TRUE(run_until(loop, [&] { return clock.has_alarms(); }));
    clock.advance(Millis{1'000});
    EXPECT_TRUE(run_until(loop, [&] { return clock.has_alarms(); }));
  };
  a_second_later(0);
  EXPECT_EQ(told, std::vector{true});
  a_second_later(kMega);
  a_second_later(50 * kMega);
  EXPECT_EQ(told, (std::vector{true, false}));
  a_second_later(5);
  EXPECT_EQ(told, (std::vector{true, false, true}));
  run_task(loop, watch.stop());
  log::set_level(log::Level::info);
}

}  // namespace
}  // namespace penstock
