#include "batch/answer_lengths.h"

#include <gtest/gtest.h>

#include <string>

namespace penstock {
namespace {

TEST(AnswerLengthsTest, FindsWhatARequestAllows) {
  EXPECT_EQ(output_tokens_max(R"({"max_tokens":64,"x":1})"), 64);
  EXPECT_EQ(output_tokens_max(R"({"max_completion_tokens" : 7})"), 7);
  EXPECT_EQ(output_tokens_max(R"({"max_output_tokens":
 12})"),
            12);
  EXPECT_EQ(output_tokens_max(R"({"model":"m"})"), 0);
  EXPECT_EQ(output_tokens_max(R"({"max_tokens":null})"), 0);
  EXPECT_EQ(output_tokens_max(R"({"max_tokens":-1})"), 0);
  EXPECT_EQ(output_tokens_max(R"({"max_tokens)"), 0);
  EXPECT_EQ(output_tokens_max(R"({"max_tokens")"), 0);
  EXPECT_EQ(output_tokens_max(R"({"max_tool_calls":3,"max_tokens":9})"), 9);
  EXPECT_EQ(output_tokens_max(R"({"content":"set \"max_tokens\":5 please","max_tokens":8})"), 8);
}

TEST(AnswerLengthsTest, ALimitIsExpectedToBeReachedUntilAnswersTellOtherwise) {
  AnswerLengths lengths;
  EXPECT_DOUBLE_EQ(lengths.expect(100, 50), 100);
  lengths.add(100, 50, 20);
  lengths.add(80, 50, 8);
  EXPECT_NEAR(lengths.expect(120, 50), 18, 1e-9);
  EXPECT_DOUBLE_EQ(lengths.expect(1000, 50), 1000);  // nothing of that size was seen
}

TEST(AnswerLengthsTest, WithoutALimitRequestsOfLikeSizeTell) {
  AnswerLengths lengths;
  EXPECT_DOUBLE_EQ(lengths.expect(0, 100), lengths.expect(0, 3'000));
  lengths.add(0, 100, 10);
  lengths.add(0, 3'000, 200);
  lengths.add(0, 3'000, 400);
  EXPECT_DOUBLE_EQ(lengths.expect(0, 90), 10);
  EXPECT_DOUBLE_EQ(lengths.expect(0, 2'500), 300);
  EXPECT_DOUBLE_EQ(lengths.expect(0, 100'000), 610.0 / 3);
}

}  // namespace
}  // namespace penstock
