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
  EXPECT_DOUBLE_EQ(lengths.expect(R"({"max_tokens":100})"), 100);
  lengths.add(R"({"max_tokens":100})", 20);
  lengths.add(R"({"max_tokens":80})", 8);
  EXPECT_NEAR(lengths.expect(R"({"max_tokens":120})"), 18, 1e-9);
  EXPECT_DOUBLE_EQ(lengths.expect(R"({"max_tokens":1000})"), 1000);  // nothing of that size was seen
}

TEST(AnswerLengthsTest, WithoutALimitRequestsOfLikeSizeTell) {
  AnswerLengths lengths;
  const std::string small(100, ' '), large(3'000, ' '), huge(100'000, ' ');
  EXPECT_DOUBLE_EQ(lengths.expect(small), lengths.expect(large));
  lengths.add(small, 10);
  lengths.add(large, 200);
  lengths.add(large, 400);
  EXPECT_DOUBLE_EQ(lengths.expect(std::string(90, ' ')), 10);
  EXPECT_DOUBLE_EQ(lengths.expect(std::string(2'500, ' ')), 300);
  EXPECT_DOUBLE_EQ(lengths.expect(huge), 610.0 / 3);
}

}  // namespace
}  // namespace penstock
