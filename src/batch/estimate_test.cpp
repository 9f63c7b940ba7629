#include "batch/estimate.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(1'764'000'000'000)};

Batch waiting(const char* id, std::int64_t lines, const char* model = "m") {
  Batch batch;
  batch.id = {id};
  batch.status = BatchStatus::in_progress;
  batch.model = model;
  batch.counts.total = lines;
  return batch;
}

TEST(EstimatorTest, TheRateIsThatOfTheTimeWithLinesUnderWay) {
  Estimator estimator;
  EXPECT_DOUBLE_EQ(estimator.lines_per_second("m"), 1);  // a guess
  for (int i = 0; i < 10; ++i) estimator.add("m", 50, Millis{1'000});
  EXPECT_NEAR(estimator.lines_per_second("m"), 50, 0.5);
  EXPECT_DOUBLE_EQ(estimator.lines_per_second("other"), 1);
}

TEST(EstimatorTest, ItFollowsAnEngineThatBecameSlower) {
  Estimator estimator;
  for (int i = 0; i < 60; ++i) estimator.add("m", 100, Millis{1'000});
  for (int i = 0; i < 240; ++i) estimator.add("m", 10, Millis{1'000});
  EXPECT_LT(estimator.lines_per_second("m"), 13);
}

TEST(EstimateTest, ABatchBeginsWhenThoseOfItsModelBeforeItAreThrough) {
  Estimator estimator;
  estimator.add("m", 100, Millis{10'000});
  estimator.add("n", 100, Millis{1'000});
  Batch running = waiting("batch_running", 100);
  running.in_progress_at = kNow - Millis{5'000};
  running.counts.completed = 40;
  running.counts.failed = 10;
  Batch validating = waiting("batch_validating", 0);
  validating.status = BatchStatus::validating;
  Batch cancelling = waiting("batch_cancelling", 1'000);
  cancelling.status = BatchStatus::cancelling;
  const std::vector<Batch> queue = {
      running,   cancelling, waiting("batch_next", 200), waiting("batch_other", 100, "n"), waiting("batch_last", 30),
      validating};
  const auto places = estimate(queue, estimator, kNow);
  ASSERT_EQ(places.size(), 5u);
  const auto place = [&](const char* id) { return places.at(BatchId{id}); };
  const auto seconds = [](Timestamp t) { return std::chrono::duration<double>(t - kNow).count(); };

  EXPECT_FALSE(place("batch_running").position);
  EXPECT_EQ(place("batch_running").start, *running.in_progress_at);
  EXPECT_NEAR(seconds(place("batch_running").completion), 5, 0.1);
  EXPECT_EQ(place("batch_next").position, 1);
  EXPECT_NEAR(seconds(place("batch_next").start), 5, 0.1);
  EXPECT_NEAR(seconds(place("batch_next").completion), 25, 0.1);
  EXPECT_EQ(place("batch_other").position, 2);
  EXPECT_NEAR(seconds(place("batch_other").start), 0, 0.1) << "another model's engine is free";
  EXPECT_NEAR(seconds(place("batch_other").completion), 1, 0.1);
  EXPECT_EQ(place("batch_last").position, 3);
  EXPECT_NEAR(seconds(place("batch_last").completion), 28, 0.1);
  EXPECT_EQ(place("batch_validating").position, 4);
}

}  // namespace
}  // namespace penstock
