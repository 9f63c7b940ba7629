#include "batch/fair_share.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <queue>
#include <random>
#include <vector>

namespace penstock {
namespace {

// Slots that are never free while somebody wants one.
class Slots {
 public:
  using Seconds = std::function<double()>;  // that the next line takes

  explicit Slots(int count) : free_(count) {}

  std::size_t add(std::int64_t weight, Seconds line) {
    projects_.push_back({.line = std::move(line)});
    projects_.back().share.weight = weight;
    return projects_.size() - 1;
  }
  // Whether it has lines that wait.
  void want(std::size_t project, bool wants) { projects_[project].wants = wants; }
  void set_weight(std::size_t project, std::int64_t weight) { projects_[project].share.weight = weight; }

  void run(double seconds) {
    const Moment end = now_ + Millis(static_cast<std::int64_t>(1000 * seconds));
    for (Project& project : projects_) project.had = 0;
    fill();
    while (!under_way_.empty() && under_way_.top().end <= end) {
      pass(under_way_.top().end);
      const Line line = under_way_.top();
      under_way_.pop();
      ++free_;
      fair_.take_back(projects_[line.project].share, line.begin, now_);
      fill();
    }
    pass(end);
  }
  // Of all slots, since run() was called.
  double part(std::size_t project) const {
    double all = 0;
    for (const Project& one : projects_) all += one.had;
    return projects_[project].had / all;
  }
  std::int64_t slots(std::size_t project) const { return projects_[project].share.slots; }

 private:
  struct Project {
    Share share = {};
    Seconds line;
    bool wants = true;
    double had = 0;
  };
  struct Line {
    Moment end, begin;
    std::size_t project;
    bool operator<(const Line& other) const { return end > other.end; }
  };
  void pass(Moment then) {
    const double step = std::chrono::duration<double>(then - now_).count();
    for (Project& project : projects_) project.had += static_cast<double>(project.share.slots) * step;
    now_ = then;
  }
  void fill() {
    for (; free_ > 0; --free_) {
      std::optional<std::size_t> next;
      for (std::size_t i = 0; i < projects_.size(); ++i) {
        if (!projects_[i].wants) continue;
        if (!next || fair_.level(projects_[i].share, now_) < fair_.level(projects_[*next].share, now_)) next = i;
      }
      if (!next) return;
      fair_.give(projects_[*next].share, now_);
      const auto takes = Millis(static_cast<std::int64_t>(1000 * projects_[*next].line()));
      under_way_.push({now_ + takes, now_, *next});
    }
  }

  FairShare fair_;
  std::vector<Project> projects_;
  std::priority_queue<Line> under_way_;
  Moment now_{Millis(1'000'000'000)};
  int free_;
};

std::minstd_rand random_numbers(1);

Slots::Seconds about(double mean) {
  return [mean] { return std::exponential_distribution<>(1 / mean)(random_numbers); };
}
Slots::Seconds always(double seconds) {
  return [seconds] { return seconds; };
}

TEST(FairShareTest, EachHasTheSlotsForAsLongAsItsWeightSays) {
  struct Project {
    std::int64_t weight;
    Slots::Seconds line;
  };
  struct Case {
    const char* what;
    int slots;
    std::vector<Project> projects;
  };
  const std::vector<Project> many(100, {1, about(0.5)});
  for (const Case& c : {
           Case{"alike", 8, {{1, always(1)}, {1, always(1)}}},
           Case{"one slot", 1, {{1, always(1)}, {3, always(1)}}},
           Case{"weights", 16, {{1, about(2)}, {3, about(2)}, {4, about(2)}}},
           Case{"long lines against short ones", 16, {{1, about(30)}, {1, about(0.1)}}},
           Case{"long lines against short ones, and one slot", 1, {{1, about(10)}, {1, about(0.1)}}},
           Case{"lines of which nobody knows how long they are", 8, {{2, about(5)}, {1, always(5)}}},
           Case{"lines that take no time", 4, {{1, always(0.001)}, {1, always(0.001)}}},
           Case{"many projects", 4, many},
       }) {
    Slots slots(c.slots);
    double weights = 0;
    for (const Project& project : c.projects) {
      slots.add(project.weight, project.line);
      weights += static_cast<double>(project.weight);
    }
    slots.run(c.slots == 1 ? 20'000 : 3'000);
    for (std::size_t i = 0; i < c.projects.size(); ++i) {
      const double fair = static_cast<double>(c.projects[i].weight) / weights;
      EXPECT_NEAR(slots.part(i), fair, 0.05 * fair) << c.what << ", " << i;
    }
  }
}

TEST(FairShareTest, WhoComesLateOrComesBackHasNeitherSavedUpNorToWait) {
  Slots slots(4);
  const std::size_t a = slots.add(1, always(1)), b = slots.add(1, always(1));
  slots.want(b, false);
  slots.run(3'600);
  slots.want(b, true);
  slots.run(10);
  EXPECT_NEAR(slots.part(b), 0.5, 0.1) << "after an hour without work";
  slots.want(a, false);
  slots.run(3'600);
  slots.want(a, true);
  slots.run(10);
  EXPECT_NEAR(slots.part(a), 0.5, 0.1) << "after an hour in which the other had all";
  slots.want(a, false);
  slots.want(b, false);
  slots.run(10);
  slots.want(a, true);
  slots.run(100);
  EXPECT_EQ(slots.part(a), 1) << "alone";
  slots.want(b, true);
  slots.run(10);
  EXPECT_NEAR(slots.part(b), 0.5, 0.1) << "after both had none";
}

TEST(FairShareTest, WhoseLinesHangHasNoMoreThanItsSlots) {
  Slots slots(32);
  double takes = 1;
  slots.add(1, always(1));
  const std::size_t hanging = slots.add(1, [&] { return takes; });
  slots.run(100);
  takes = 600;
  for (int second = 0; second < 300; second += 10) {
    slots.run(10);
    EXPECT_LE(slots.slots(hanging), 17) << second;
  }
}

TEST(FairShareTest, AnotherWeightCountsFromThenOn) {
  Slots slots(8);
  const std::size_t a = slots.add(1, about(0.2));
  slots.add(1, about(0.2));
  slots.run(1'000);
  for (const std::int64_t weight : {3, 1}) {
    slots.set_weight(a, weight);
    slots.run(60);
    EXPECT_NEAR(slots.part(a), static_cast<double>(weight) / static_cast<double>(weight + 1), 0.05) << weight;
  }
}

}  // namespace
}  // namespace penstock
