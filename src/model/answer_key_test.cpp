#include "model/answer_key.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

std::optional<Hash128> key(std::string_view endpoint, std::string body) {
  const std::size_t size = body.size();
  body.resize(size + kLinePadding, '}');
  AnswerKeys keys;
  return keys.key(endpoint, std::string_view(body).substr(0, size));
}

TEST(AnswerKeysTest, OnlyWhatIsAnsweredAlikeHasAKey) {
  const struct {
    const char *endpoint, *body;
    bool has_key;
  } cases[] = {
      {kChat, R"({"model":"m","messages":[{"temperature":0,"seed":1}]})", false},
      {kChat, R"({"model":"m","temperature":0})", true},
      {kChat, R"({"model":"m","\u0074emperature": 0.0 ,"n":2})", true},
      {kChat, R"({"temperature":-0e5})", true},
      {kChat, R"({"temperature":0.1})", false},
      {kChat, R"({"temperature":"0"})", false},
      {kChat, R"({"temperature":null,"seed":null})", false},
      {kChat, R"({"temperature":1,"seed":0})", true},
      {kChat, R"({"seed":123456789012345678901234567890})", true},
      {kChat, R"({"temperature":null,"messages":[{"a":[{}]}],"seed":7})", true},
      {"/v1/completions", R"({"prompt":"a"})", false},
      {"/v1/completions", R"({"prompt":"a","seed":7})", true},
      {"/v1/responses", R"({"input":"a","temperature":0})", true},
      {"/v1/embeddings", R"({"input":"a"})", true},
  };
  for (const auto& c : cases) EXPECT_EQ(key(c.endpoint, c.body).has_value(), c.has_key) << c.body;
}

TEST(AnswerKeysTest, EveryByteCounts) {
  const std::string bodies[] = {R"({"seed":1})", R"({"seed":2})", R"({"seed": 1})", R"({"seed":1,"a":1})",
                                R"({"a":1,"seed":1})"};
  for (const auto& a : bodies) {
    for (const auto& b : bodies) EXPECT_EQ(key(kChat, a).value() == key(kChat, b).value(), a == b) << a << b;
  }
}

}  // namespace
}  // namespace penstock
