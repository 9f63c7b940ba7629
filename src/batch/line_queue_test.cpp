#include "batch/line_queue.h"

#include <gtest/gtest.h>

#include <set>

namespace penstock {
namespace {

class LineQueueTest : public testing::Test {
 protected:
  std::vector<std::shared_ptr<HeldSpan>> spans(std::uint32_t count, std::uint32_t entries = kSpanLines) {
    std::vector<std::shared_ptr<HeldSpan>> all;
    for (; count > 0; --count, first_ += entries) {
      all.push_back(std::make_shared<HeldSpan>());
      all.back()->claim.first = first_;
      all.back()->claim.count = entries;
    }
    return all;
  }
  // As a loader would read it, up to `most` lines.
  static std::vector<Line> read(Stretch& stretch, std::uint32_t most) {
    if (!stretch.opened) stretch.entries.resize(stretch.count);
    stretch.opened = true;
    std::vector<Line> lines;
    for (; stretch.next < stretch.entries.size() && lines.size() < most; ++stretch.next) {
      const auto index = static_cast<std::uint32_t>(stretch.first + stretch.next);
      lines.push_back({.span = stretch.span, .index = index, .custom_id_json = {}, .body = std::to_string(index)});
    }
    return lines;
  }
  // Until nothing more is wanted.
  void load_all(std::uint32_t most = kSpanLines) {
    while (const auto stretch = queue.next_to_read()) queue.loaded(*stretch, read(*stretch, most));
  }
  std::vector<std::uint32_t> take(std::size_t engine, int count) {
    std::vector<std::uint32_t> indices;
    for (; count > 0 && queue.has_line_for(engine); --count) indices.push_back(queue.take(engine).index);
    return indices;
  }
  static std::vector<std::uint32_t> range(std::uint32_t from, std::uint32_t end) {
    std::vector<std::uint32_t> all;
    for (; from < end; ++from) all.push_back(from);
    return all;
  }

  LineQueue queue;
  std::uint32_t first_ = 0;
};

TEST_F(LineQueueTest, OneEngineGetsAllLinesInTheOrderOfThePlan) {
  queue.set_engines({{3, 40}});
  EXPECT_TRUE(queue.runs_dry());
  queue.add(spans(2));
  EXPECT_FALSE(queue.runs_dry());
  load_all(5);
  EXPECT_EQ(queue.size(), 80u);  // as soon as twice the slots wait, no more is read
  EXPECT_FALSE(queue.has_line_for(0));
  std::vector<std::uint32_t> taken;
  while (!queue.empty()) {
    taken.push_back(queue.take(3).index);
    load_all(5);
  }
  EXPECT_EQ(taken, range(0, 2 * kSpanLines));
  EXPECT_TRUE(queue.runs_dry());
}

TEST_F(LineQueueTest, EachEngineGetsNeighboursOfItsOwn) {
  queue.set_engines({{0, 4}, {1, 4}});
  queue.add(spans(1));
  load_all();
  EXPECT_EQ(take(1, 3), range(256, 259));
  EXPECT_EQ(take(0, 3), range(0, 3));
}

TEST_F(LineQueueTest, ShortStretchesAreNotCutFurther) {
  queue.set_engines({{0, 4}, {1, 4}, {2, 4}});
  queue.add(spans(1, 40));
  load_all();
  EXPECT_EQ(take(0, 1), range(0, 1));
  EXPECT_EQ(take(1, 1), range(32, 33));
}

TEST_F(LineQueueTest, AnEngineWithNothingLeftTakesTheEndOfTheLongestLane) {
  queue.set_engines({{0, 4}, {1, 3}});
  queue.add(spans(1, 10));
  EXPECT_FALSE(queue.has_line_for(1));  // its lines may still be read
  load_all();
  EXPECT_EQ(take(1, 2), range(7, 9));  // as many as it has slots
  EXPECT_EQ(take(0, 1), range(0, 1));
  EXPECT_EQ(take(1, 3), (std::vector<std::uint32_t>{9, 4, 5}));  // half of the six
  EXPECT_EQ(take(0, 9), (std::vector<std::uint32_t>{1, 2, 3, 6}));
  EXPECT_TRUE(queue.empty());
  EXPECT_FALSE(queue.has_line_for(0));
}

TEST_F(LineQueueTest, NothingIsTakenFromOthersWhileThereIsSomethingToRead) {
  queue.set_engines({{0, 4}, {1, 4}});
  queue.add(spans(1, 64));
  const auto stretch = queue.next_to_read();
  queue.loaded(*stretch, read(*stretch, 64));
  EXPECT_TRUE(queue.has_line_for(0));
  EXPECT_FALSE(queue.has_line_for(1));
}

TEST_F(LineQueueTest, WhatAGoneEngineHadIsForAny) {
  queue.set_engines({{0, 4}, {1, 4}});
  queue.add(spans(1));
  load_all(8);
  queue.set_engines({{1, 4}});
  EXPECT_EQ(take(1, 64), range(0, 64));
  EXPECT_EQ(take(1, 2), range(256, 258));
  std::set<std::uint32_t> rest;
  do {
    load_all(8);
    for (const auto index : take(1, 8)) rest.insert(index);
  } while (!queue.empty());
  EXPECT_EQ(rest.size(), 446u);
  EXPECT_TRUE(queue.runs_dry());
}

TEST_F(LineQueueTest, AnEngineMayGoWhileItsStretchIsRead) {
  queue.set_engines({{0, 4}});
  queue.add(spans(1, 10));
  const auto stretch = queue.next_to_read();
  queue.set_engines({});
  queue.loaded(*stretch, read(*stretch, 6));
  EXPECT_EQ(queue.size(), 6u);
  queue.set_engines({{1, 8}});
  load_all();
  EXPECT_EQ(take(1, 20), range(0, 10));
  EXPECT_TRUE(queue.runs_dry());
}

TEST_F(LineQueueTest, WhatIsPutInFrontGoesFirst) {
  queue.set_engines({{0, 4}});
  queue.add(spans(1, 3));
  load_all();
  Line again = queue.take(0);
  again.deaths = 3;
  queue.push_front(std::move(again));
  ASSERT_TRUE(queue.front());
  EXPECT_EQ(queue.front()->deaths, 3);
  EXPECT_EQ(take(0, 9), range(0, 3));
  EXPECT_FALSE(queue.front());
}

TEST_F(LineQueueTest, WhatIsTakenOutComesBackWhole) {
  queue.set_engines({{0, 2}, {1, 2}});
  const auto claimed = spans(3, 64);
  queue.add(claimed);
  load_all(4);
  auto parts = queue.remove([&](const HeldSpan& span) { return &span == claimed[0].get(); });
  std::set<std::uint32_t> others, back;
  load_all(4);
  while (!queue.empty()) {
    for (std::size_t engine : {0u, 1u}) {
      for (const auto index : take(engine, 3)) others.insert(index);
    }
    load_all(4);
  }
  EXPECT_EQ(others.size(), 128u);
  EXPECT_EQ(*others.begin(), 64u);
  queue.restore(std::move(parts));
  do {
    load_all(4);
    for (const auto index : take(0, 3)) back.insert(index);
  } while (!queue.empty());
  EXPECT_EQ(back.size(), 64u);
  EXPECT_EQ(*back.rbegin(), 63u);
}

TEST_F(LineQueueTest, LinesThatAreLargeAreNotHoarded) {
  queue.set_engines({{0, 64}});
  queue.add(spans(1, 10));
  int read_lines = 0;
  while (const auto stretch = queue.next_to_read()) {
    auto lines = read(*stretch, 1);
    lines[0].body.resize(3 << 20);
    ++read_lines;
    queue.loaded(*stretch, std::move(lines));
  }
  EXPECT_EQ(read_lines, 2);
  queue.take(0);
  EXPECT_TRUE(queue.next_to_read());
}

TEST_F(LineQueueTest, ManyQueuesTogetherHoardNoMoreThanOne) {
  constexpr std::size_t kQueues = 100;
  queue.set_engines({{0, 64}}, kQueues);
  queue.add(spans(1, 100));
  std::size_t bytes = 0;
  while (const auto stretch = queue.next_to_read()) {
    auto lines = read(*stretch, 1);
    lines[0].body.resize(10'000);
    bytes += lines[0].body.size();
    queue.loaded(*stretch, std::move(lines));
  }
  EXPECT_LT(bytes * kQueues, 6u << 20);
}

// With two slots, a line that takes as long as half of all that waits goes first.
TEST_F(LineQueueTest, NearTheEndALineThatWouldOutlastTheOthersGoesFirst) {
  const std::map<std::uint32_t, double> seconds = {{0, 1}, {1, 2}, {2, 9}, {3, 1}, {4, 4}, {5, 1}};
  const auto expect = [&](const Line& line) { return seconds.at(line.index); };
  queue.set_engines({{0, 2}});
  queue.add(spans(1, 6));
  const auto stretch = queue.next_to_read();
  queue.loaded(*stretch, read(*stretch, 3));
  EXPECT_EQ(queue.take(0, expect).index, 0u);  // more is to come
  load_all();
  std::vector<std::uint32_t> order;
  while (!queue.empty()) order.push_back(queue.take(0, expect).index);
  EXPECT_EQ(order, (std::vector<std::uint32_t>{2, 4, 1, 3, 5}));
}

}  // namespace
}  // namespace penstock
