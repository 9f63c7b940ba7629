#include "batch/estimate.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(1'764'000'000'000)};
constexpr std::int64_t kBytes = 400;  // a line

Batch waiting(const char* id, std::int64_t lines, const char* model = "m") {
  Batch batch;
  batch.id = {id};
  batch.status = BatchStatus::in_progress;
  batch.model = std::string(model);
  batch.counts.total = lines;
  batch.input_bytes = lines * kBytes;
  return batch;
}

// Begun `ago`, with that many of its lines answered.
Batch running(const char* id, std::int64_t lines, std::int64_t answered, Usage usage = {}, Millis ago = Millis{5'000}) {
  Batch batch = waiting(id, lines);
  batch.in_progress_at = kNow - ago;
  batch.counts.completed = answered;
  batch.usage = usage;
  return batch;
}

// `count` lines, `slots` at a time.
void answer(Estimator& estimator, int count, Millis took, std::int64_t slots, Usage usage = {},
            const char* model = "m") {
  for (int i = 0; i < count; ++i) estimator.add(model, {kBytes, usage, took, slots});
}

double seconds(Timestamp t) {
  return std::chrono::duration<double>(t - kNow).count();
}

TEST(EstimatorTest, AModelThatHasAnsweredNothingIsGuessedAtOneLineASecond) {
  Estimator estimator;
  answer(estimator, 10, Millis{10}, 1);
  EXPECT_EQ(estimator.pace("other").lines, 0);
  EXPECT_DOUBLE_EQ(estimator.pace("other").work_per_second(), 1);
  const auto places = estimate({waiting("a", 10, "other"), waiting("b", 5, "other")}, {}, estimator, kNow);
  EXPECT_NEAR(seconds(places.at({"a"}).completion), 10, 0.01);
  EXPECT_NEAR(seconds(places.at({"b"}).completion), 15, 0.01);
}

TEST(EstimatorTest, TheSpeedIsThatOfAllLinesUnderWay) {
  struct Case {
    const char* what;
    Millis took;
    std::int64_t slots;
    Usage usage;
    double work_per_second;
  };
  for (const Case& c : {
           Case{"no tokens: lines count", Millis{2'000}, 1, {}, 0.5},
           Case{"eight at a time", Millis{2'000}, 8, {}, 4},
           Case{"the answer's tokens, and 1 for the line", Millis{2'000}, 1, {.output = 19}, 10},
           Case{"a quarter of the prompt's", Millis{1'000}, 1, {.input = 40, .output = 9}, 20},
           Case{"not those that were cached", Millis{1'000}, 1, {.input = 400, .cached = 360, .output = 9}, 20},
           Case{"embeddings have a prompt alone", Millis{100}, 4, {.input = 36}, 400},
       }) {
    Estimator estimator;
    answer(estimator, 1, c.took, c.slots, c.usage);
    EXPECT_NEAR(estimator.pace("m").work_per_second(), c.work_per_second, 1e-9) << c.what << ", from one line";
    answer(estimator, 300, c.took, c.slots, c.usage);
    EXPECT_NEAR(estimator.pace("m").work_per_second(), c.work_per_second, 1e-9) << c.what;
  }
}

TEST(EstimatorTest, ItFollowsAnEngineThatBecameSlower) {
  struct Case {
    const char* what;
    Millis before, after;
    int answered;  // since it became slower
  };
  for (const Case& c : {Case{"fast lines: two minutes", Millis{100}, Millis{400}, 2'400},
                        Case{"slow lines: two hundred", Millis{10'000}, Millis{40'000}, 200}}) {
    Estimator estimator;
    answer(estimator, 5'000, c.before, 8);
    const double before = estimator.pace("m").work_per_second();
    answer(estimator, c.answered / 20, c.after, 8);
    EXPECT_GT(estimator.pace("m").work_per_second(), before / 2) << c.what << ": a few say little";
    answer(estimator, c.answered, c.after, 8);
    EXPECT_LT(estimator.pace("m").work_per_second(), before / 4 * 1.5) << c.what;
  }
}

TEST(EstimatorTest, ALineThatTookNoMeasurableTimeDoesNoHarm) {
  Estimator estimator;
  answer(estimator, 10, Millis{0}, 4);
  EXPECT_NEAR(seconds(estimate({waiting("a", 1'000)}, {}, estimator, kNow).at({"a"}).completion), 0, 0.1);
}

TEST(EstimateTest, ABatchBeginsWhenTheLastLineOfItsModelBeforeItIsSent) {
  Estimator estimator;
  answer(estimator, 100, Millis{1'000}, 10);         // 10 lines a second
  answer(estimator, 100, Millis{100}, 10, {}, "n");  // 100
  Batch validating = waiting("validating", 0);
  validating.status = BatchStatus::validating;
  Batch cancelling = waiting("cancelling", 1'000);
  cancelling.status = BatchStatus::cancelling;
  Batch finalizing = running("finalizing", 70, 60);
  finalizing.status = BatchStatus::finalizing;
  finalizing.counts.failed = 10;
  const auto places = estimate({finalizing, running("running", 100, 50), cancelling, waiting("next", 200),
                                waiting("other", 100, "n"), waiting("tiny", 3), waiting("last", 30), validating},
                               {}, estimator, kNow);
  ASSERT_EQ(places.size(), 7u);

  struct Case {
    const char* id;
    std::int64_t position;  // 0: none
    double start, completion;
    double lines_per_second;  // 0: none
  };
  for (const Case& c : {
           Case{"finalizing", 0, -5, 0, 0},
           Case{"running", 0, -5, 5, 10},
           Case{"next", 1, 4, 25, 0},       // while the last ten of `running` are still under way
           Case{"other", 2, 0, 1, 0},       // another model's engine is free
           Case{"tiny", 3, 24, 25.3, 0},    //
           Case{"last", 4, 24.3, 28.3, 0},  // with all of `tiny` under way
           Case{"validating", 5, 27.3, 28.3, 0},
       }) {
    const QueuePlace& place = places.at({c.id});
    EXPECT_EQ(place.position.value_or(0), c.position) << c.id;
    EXPECT_NEAR(seconds(place.start), c.start, 0.01) << c.id;
    EXPECT_NEAR(seconds(place.completion), c.completion, 0.01) << c.id;
    EXPECT_NEAR(place.lines_per_second.value_or(0), c.lines_per_second, 0.01) << c.id;
  }
}

// Of lines with 80 tokens in and 19 out, 1 s each, 10 at a time: 40 of work a line, 400 a second.
TEST(EstimateTest, LinesAreJudgedByTheirLengthAndByTheBatchsOwnAnswers) {
  Estimator estimator;
  answer(estimator, 500, Millis{1'000}, 10, {.input = 80, .output = 19});

  Batch longer = waiting("longer lines", 100);
  longer.input_bytes *= 10;
  Batch unknown = waiting("unknown length", 100);
  unknown.input_bytes = 0;
  Batch failing = running("all fail", 200, 0);
  failing.counts.failed = 100;
  struct Case {
    Batch batch;
    double completion;
  };
  for (const Case& c : {
           Case{waiting("like the others", 100), 10},
           Case{longer, 55},  // a line's prompt has 800 tokens: 1 + 200 + 19 of work
           Case{unknown, 10},
           Case{running("longer answers, one so far", 101, 1, {.input = 80, .output = 419}), 14.76},  // 40..440: 1/21
           Case{running("longer answers, twenty so far", 120, 20, {.input = 1'600, .output = 8'380}), 60},  // half
           Case{running("longer answers, known", 1'080, 980, {.input = 78'400, .output = 410'620}),
                108},             // 49/50 of it
           Case{failing, 1.875},  // 1 of work a line, and still a little of what the model's lines come to: 7.5
           Case{running("all answered", 100, 100, {.input = 8'000, .output = 1'900}), 0},
       }) {
    const auto places = estimate({c.batch}, {}, estimator, kNow);
    EXPECT_NEAR(seconds(places.at(c.batch.id).completion), c.completion, 0.01 * c.completion + 0.001)
        << c.batch.id.value;
  }
}

TEST(EstimateTest, WhereLengthsAreSpreadTheLastLinesTakeLonger) {
  Estimator estimator;
  for (int i = 0; i < 2'000; ++i) {  // 20 of work on the average, and a spread of 0.81
    const bool is_long = i % 2 == 0;
    estimator.add("m", {kBytes, {.output = is_long ? 37 : 1}, Millis{is_long ? 1'900 : 100}, 8});
  }
  struct Case {
    std::int64_t left;
    double completion;
  };
  for (const Case& c :
       {Case{1, 0.125}, Case{2, 0.25 * (1 + 0.81 * 0.693)}, Case{8, 1 + 0.81 * 2.079}, Case{80, 10 + 0.81 * 2.079}}) {
    Batch batch = running("a", c.left + 1'000, 1'000, {.output = 19'000}, Millis{125'000});
    EXPECT_NEAR(seconds(estimate({batch}, {}, estimator, kNow).at({"a"}).completion), c.completion, 0.02 * c.completion)
        << c.left;
  }
}

TEST(EstimateTest, AfterARestartTheBatchsOwnRecordServes) {
  Estimator nothing_learned;
  const auto places = estimate({running("running", 1'100, 100, {.input = 8'000, .output = 1'900}, Millis{10'000}),
                                waiting("next", 100), waiting("other", 100, "n")},
                               {}, nothing_learned, kNow);
  EXPECT_NEAR(*places.at({"running"}).lines_per_second, 10, 0.01);
  EXPECT_NEAR(seconds(places.at({"running"}).completion), 100, 0.1);
  EXPECT_NEAR(seconds(places.at({"next"}).start), 100, 0.2);
  EXPECT_NEAR(seconds(places.at({"next"}).completion), 110, 0.1);
  EXPECT_NEAR(seconds(places.at({"other"}).completion), 100, 0.1) << "a guess";
  EXPECT_FALSE(estimate({running("new", 10, 0)}, {}, nothing_learned, kNow).at({"new"}).lines_per_second);
}

Batch of(const char* project, Batch batch) {
  batch.project = {project};
  return batch;
}

// 10 lines a second, 10 at a time.
TEST(EstimateTest, ProjectsShareTheSpeedByTheirWeights) {
  Estimator estimator;
  answer(estimator, 100, Millis{1'000}, 10);
  answer(estimator, 100, Millis{1'000}, 10, {}, "n");
  struct Case {
    const char* what;
    Weights weights;
    std::vector<Batch> queue;
    struct Place {
      const char* id;
      std::int64_t position;
      double start, completion, lines_per_second;
    };
    std::vector<Place> places;
  };
  for (const Case& c : {
           Case{"half each, until one has no more",
                {},
                {of("a", running("a1", 1'000, 0)), of("b", waiting("b1", 100)), of("b", waiting("b2", 5))},
                {{"a1", 0, -5, 110.5, 5}, {"b1", 1, 0, 20, 0}, {"b2", 2, 19, 21, 0}}},
           Case{"weights",
                {{ProjectId{"b"}, 3}},
                {of("a", running("a1", 1'000, 0)), of("b", running("b1", 300, 0))},
                {{"a1", 0, -5, 130, 2.5}, {"b1", 0, -5, 40, 7.5}}},
           Case{"three",
                {},
                {of("a", waiting("a1", 100)), of("b", waiting("b1", 200)), of("c", waiting("c1", 300))},
                {{"a1", 1, 0, 30, 0}, {"b1", 1, 0, 50, 0}, {"c1", 1, 0, 60, 0}}},
           Case{"another model",
                {},
                {of("a", running("a1", 1'000, 0)), of("b", waiting("b1", 100, "n"))},
                {{"a1", 0, -5, 100, 10}, {"b1", 1, 0, 10, 0}}},
           Case{"one that has no line left, and one whose lines are not counted",
                {},
                {of("a", running("a1", 100, 100)), of("b", waiting("b1", 100)), of("c", waiting("c1", 0))},
                {{"a1", 0, -5, 0, 0}, {"b1", 1, 0, 10, 0}, {"c1", 1, 0, 0, 0}}},
       }) {
    const auto places = estimate(c.queue, c.weights, estimator, kNow);
    for (const auto& expected : c.places) {
      const std::string name = std::string(c.what) + ": " + expected.id;
      const QueuePlace& place = places.at({expected.id});
      EXPECT_EQ(place.position.value_or(0), expected.position) << name;
      EXPECT_NEAR(seconds(place.start), expected.start, 0.01) << name;
      EXPECT_NEAR(seconds(place.completion), expected.completion, 0.01) << name;
      EXPECT_NEAR(place.lines_per_second.value_or(0), expected.lines_per_second, 0.01) << name;
      EXPECT_LE(place.start, place.completion) << name;
    }
  }
}

}  // namespace
}  // namespace penstock
