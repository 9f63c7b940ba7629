#include "delivery/schedule.h"

#include <gtest/gtest.h>

#include <vector>

namespace penstock {
namespace {

using namespace std::chrono_literals;

TEST(Schedule, ADeliveryIsTriedTenTimesInThreeDays) {
  std::vector<Millis> pauses;
  std::int64_t attempts = 1;
  while (const auto pause = pause_after(attempts++, std::nullopt, 0)) pauses.push_back(*pause);
  EXPECT_EQ(pauses, (std::vector<Millis>{5s, 5min, 30min, 2h, 5h, 10h, 14h, 20h, 24h}));
}

TEST(Schedule, ItIsNeverEarlyAndUpToATenthLate) {
  EXPECT_EQ(pause_after(1, std::nullopt, 0.5), 5250ms);
  EXPECT_EQ(pause_after(1, std::nullopt, 0.999), 5499ms);
  EXPECT_EQ(pause_after(9, std::nullopt, 0.5), 24h + 72min);
}

TEST(Schedule, WhatAReceiverAsksForIsWaitedForUpToAnHour) {
  EXPECT_EQ(pause_after(1, 40s, 0), Millis(40s));
  EXPECT_EQ(pause_after(1, 30h, 0), Millis(1h));
  EXPECT_EQ(pause_after(4, 40s, 0), Millis(2h)) << "less than the step is no reason to come sooner";
  EXPECT_FALSE(pause_after(10, 40s, 0)) << "nor is it one for an attempt more";
}

}  // namespace
}  // namespace penstock
