#include "model/answer_text.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

std::string line_with(const std::string& body, int status = 200) {
  return fmt::format(
      R"({{"id":"batch_req_0123abcd0000000b","custom_id":"a \"1\"","response":{{"status_code":{},"request_id":"r","body":{}}},"error":null}})",
      status, body);
}

AnswerText read(const std::string& line) {
  const auto said = AnswerTextParser().read(line);
  EXPECT_TRUE(said) << line;
  return said.value_or(AnswerText{});
}

TEST(AnswerText, HasTheTextOfEveryEndpoint) {
  struct {
    const char *body, *answer;
    bool is_json;
    const char* finish_reason;
    Usage usage;
  } const cases[] = {
      {R"({"choices":[{"message":{"role":"assistant","content":"Hé\n"},"finish_reason":"stop"},{"message":{"content":"second"}}],
          "usage":{"prompt_tokens":3,"completion_tokens":2}})",
       "Hé\n",
       false,
       "stop",
       {.input = 3, .output = 2}},
      {R"({"choices":[{"text":"","finish_reason":"length"}]})", "", false, "length", {}},
      {R"({"choices":[{"message":{"content":null,"tool_calls":[{"id": 12345678901234567890123}]},"finish_reason":"tool_calls"}]})",
       R"([{"id": 12345678901234567890123}])",
       true,
       "tool_calls",
       {}},
      {R"({"object":"list","data":[{"embedding":[0.10,-1e-7]}],"usage":{"prompt_tokens":5}})",
       "[0.10,-1e-7]",
       true,
       "",
       {.input = 5}},
      {R"({"status":"completed","output":[{"type":"reasoning","content":[]},{"content":[{"type":"output_text","text":"one "},{"text":"two"}]}],
          "usage":{"input_tokens":1,"output_tokens":4}})",
       "one two",
       false,
       "completed",
       {.input = 1, .output = 4}},
      {R"({"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[{"content":[{"text":"o"}]}]})",
       "o",
       false,
       "max_output_tokens",
       {}},
      {R"({"odd": [1.0]})", R"({"odd": [1.0]})", true, "", {}},
  };
  for (const auto& one : cases) {
    const AnswerText said = read(line_with(one.body));
    EXPECT_EQ(said.answer, one.answer);
    EXPECT_EQ(said.is_json, one.is_json) << one.body;
    EXPECT_EQ(said.finish_reason, one.finish_reason) << one.body;
    EXPECT_EQ(said.usage, one.usage) << one.body;
    EXPECT_EQ(said.error, "") << one.body;
    EXPECT_EQ(said.custom_id, "a \"1\"");
    EXPECT_EQ(said.index, 11);
  }
}

TEST(AnswerText, SaysWhyThereIsNone) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"custom_id":"a","response":null,"error":{"code":"batch_expired","message":"It is over."}})",
       "It is over. (batch_expired)"},
      {R"({"custom_id":"a","response":null,"error":null})", "there is no answer"},
      {line_with(R"({"error":{"code":400,"message":"Too long.","type":"invalid_request_error"}})", 400), "Too long."},
      {line_with(R"({"object":"error","message":"Hot.","code":"bad"})", 422), "Hot. (bad)"},
      {line_with(R"({})", 500), "status 500"},
  };
  for (const auto& [line, error] : cases) {
    const AnswerText said = read(line);
    EXPECT_EQ(said.error, error);
    EXPECT_EQ(said.answer, "");
  }
}

TEST(AnswerText, OtherLinesAreNone) {
  AnswerTextParser parser;
  for (const char* line : {"", "{}", "[]", "nothing", R"({"custom_id":"a","method":"POST","url":"/v1/x","body":{}})",
                           R"({"custom_id":1,"response":null,"error":null})",
                           R"({"custom_id":"a","response":{"body":{}},"error":null})"}) {
    EXPECT_FALSE(parser.read(line)) << line;
  }
}

}  // namespace
}  // namespace penstock
