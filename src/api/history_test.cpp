#include "api/history.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

constexpr Timestamp kStart{std::chrono::hours(24 * 365 * 50)};

ProcessReport process(std::string id, std::int64_t lines, std::int64_t output = 0) {
  ProcessReport report;
  report.id = std::move(id);
  report.lines = lines;
  report.failed = lines / 10;
  report.usage.output = output;
  ProcessReport::Engine& engine = report.engines.emplace_back();
  engine.slots = 8;
  engine.slots_busy = 5;
  return report;
}

TEST(HistoryTest, AStepTellsWhatAllProcessesDidSinceTheLastOne) {
  History history;
  history.add({process("a", 100, 7), process("b", 50)}, 3, 2, kStart);
  EXPECT_EQ(history.fine().back().lines, 0) << "what was done before was not seen";
  history.add({process("a", 130, 19), process("b", 60)}, 4, 1, kStart + History::kFine);
  const Figures& step = history.fine().back();
  EXPECT_EQ(step.at, kStart + History::kFine);
  EXPECT_EQ(step.lines, 40);
  EXPECT_EQ(step.failed, 4);
  EXPECT_EQ(step.usage.output, 12);
  EXPECT_EQ(step.queued_lines, 4);
  EXPECT_EQ(step.queued_batches, 1);
  EXPECT_EQ(step.slots, 16);
  EXPECT_EQ(step.slots_busy, 10);
}

TEST(HistoryTest, AProcessThatBeganInTheStepCountsFromItsBeginningAndOneThatIsGoneTakesNothingAway) {
  History history;
  history.add({process("a", 100)}, 0, 0, kStart);
  history.add({process("new", 30)}, 0, 0, kStart + History::kFine);
  EXPECT_EQ(history.fine().back().lines, 30);
}

TEST(HistoryTest, ACoarseStepIsTheSumOfTheFineOnesOfItsMinute) {
  History history;
  std::int64_t lines = 0;
  for (int step = 0; step <= 24; ++step) {  // from the end of one minute to the end of the second after it
    history.add({process("a", lines += 10)}, step, 0, kStart + step * History::kFine);
  }
  ASSERT_EQ(history.coarse().size(), 3u);
  EXPECT_EQ(history.coarse()[1].lines, 120);
  EXPECT_EQ(history.coarse()[1].at, kStart + History::kCoarse);
  EXPECT_EQ(history.coarse()[1].queued_lines, 12);
  EXPECT_EQ(history.coarse()[2].lines, 120);
}

TEST(HistoryTest, WhatIsOldIsForgotten) {
  History history;
  const auto steps = static_cast<int>(History::kFineKept) + 5;
  for (int step = 0; step < steps; ++step) history.add({}, step, 0, kStart + step * History::kFine);
  EXPECT_EQ(history.fine().size(), History::kFineKept);
  EXPECT_EQ(history.fine().front().queued_lines, 5);
  EXPECT_EQ(history.coarse().size(), 62u);
}

}  // namespace
}  // namespace penstock
