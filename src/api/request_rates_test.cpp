#include "api/request_rates.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

const ProjectId kA{"proj_a"}, kB{"proj_b"};

class RequestRatesTest : public testing::Test {
 protected:
  // How many of so many requests at once are within the rate.
  int send(int requests, const ProjectId& project = kA) {
    int within = 0;
    while (requests-- > 0) within += rates.count(project, now)->is_within;
    return within;
  }

  RequestRates rates;
  Moment now{Millis(1'000'000)};
};

TEST_F(RequestRatesTest, ASecondsWorthAtOnceAndThenAsManyASecond) {
  rates.set(kA, 10, now);
  EXPECT_EQ(send(25), 10);
  now += Millis{99};
  EXPECT_EQ(send(1), 0);
  now += Millis{1};
  EXPECT_EQ(send(2), 1);
  now += Millis{500};
  EXPECT_EQ(send(25), 5);
  now += std::chrono::hours(1);
  EXPECT_EQ(send(25), 10) << "no more are saved up";
  for (int i = 0; i < 100; ++i) {
    now += Millis{100};
    EXPECT_EQ(send(1), 1) << i;
  }
}

TEST_F(RequestRatesTest, TellsWhatIsLeft) {
  rates.set(kA, 4, now);
  const auto first = rates.count(kA, now);
  EXPECT_TRUE(first->is_within);
  EXPECT_EQ(first->limit, 4);
  EXPECT_EQ(first->remaining, 3);
  EXPECT_EQ(first->reset, Millis{250});
  send(3);
  const auto past = rates.count(kA, now);
  EXPECT_FALSE(past->is_within);
  EXPECT_EQ(past->remaining, 0);
  EXPECT_EQ(past->reset, Millis{1'000});
}

TEST_F(RequestRatesTest, EachProjectHasItsOwnAndWhoHasNoneIsNotCounted) {
  rates.set(kA, 2, now);
  rates.set(kB, 3, now);
  EXPECT_EQ(send(5, kA), 2);
  EXPECT_EQ(send(5, kB), 3);
  EXPECT_FALSE(rates.count({"proj_c"}, now));
  rates.set(kA, std::nullopt, now);
  EXPECT_FALSE(rates.count(kA, now));
}

TEST_F(RequestRatesTest, TheStoreIsAskedAgainAfterASecondAndAnotherLimitHoldsFromThenOn) {
  EXPECT_TRUE(rates.must_ask(kA, now));
  rates.set(kA, 1, now);
  now += Millis{999};
  EXPECT_FALSE(rates.must_ask(kA, now));
  EXPECT_TRUE(rates.must_ask(kB, now));
  EXPECT_EQ(send(3), 1);
  now += Millis{1};
  EXPECT_TRUE(rates.must_ask(kA, now));
  EXPECT_TRUE(rates.keep(kA, now));
  EXPECT_FALSE(rates.must_ask(kA, now));
  EXPECT_FALSE(rates.keep(kB, now));
  EXPECT_TRUE(rates.must_ask(kB, now));
  rates.set(kA, 100, now);
  EXPECT_EQ(send(3), 0) << "what is used is used";
  now += Millis{500};
  EXPECT_EQ(send(100), 50);
}

}  // namespace
}  // namespace penstock
