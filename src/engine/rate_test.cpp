#include "engine/rate.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(RateTest, ASteadyRateIsFoundAndGoesDownWhenNothingComes) {
  Rate rate;
  Moment now{};
  EXPECT_EQ(rate.at(now), 0);
  for (int tenth = 0; tenth < 1'000; ++tenth) rate.add(2, now += Millis{100});
  EXPECT_NEAR(rate.at(now), 20, 1);
  EXPECT_NEAR(rate.at(now + Millis{10'000}), 20 / 2.718, 1);
  EXPECT_LT(rate.at(now + Millis{100'000}), 0.01);
}

}  // namespace
}  // namespace penstock
