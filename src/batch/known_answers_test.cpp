#include "batch/known_answers.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

LineOutcome answer(std::string body) {
  LineOutcome outcome;
  outcome.body = std::move(body);
  return outcome;
}

TEST(KnownAnswersTest, FindsWhatWasAdded) {
  KnownAnswers known;
  known.add({1, 2}, answer("a"));
  known.add({2, 1}, answer("b"));
  ASSERT_TRUE(known.find({1, 2}));
  EXPECT_EQ(known.find({1, 2})->body, "a");
  EXPECT_EQ(known.find({2, 1})->body, "b");
  EXPECT_FALSE(known.find({1, 1}));
}

TEST(KnownAnswersTest, ForgetsTheOldestPastItsLimits) {
  KnownAnswers known({.count = 2, .bytes = 5});
  known.add({1, 0}, answer("aa"));
  known.add({2, 0}, answer("bb"));
  EXPECT_TRUE(known.find({1, 0}));
  known.add({3, 0}, answer("c"));
  EXPECT_FALSE(known.find({1, 0}));
  EXPECT_TRUE(known.find({2, 0}));
  known.add({4, 0}, answer("ddddd"));
  EXPECT_FALSE(known.find({3, 0}));
  EXPECT_TRUE(known.find({4, 0}));
  known.add({5, 0}, answer("eeeeee"));
  EXPECT_FALSE(known.find({4, 0}));
  EXPECT_FALSE(known.find({5, 0}));
  known.add({6, 0}, answer("f"));
  EXPECT_TRUE(known.find({6, 0}));
}

}  // namespace
}  // namespace penstock
