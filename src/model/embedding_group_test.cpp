#include "model/embedding_group.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

std::vector<EmbeddingRequest> requests_of(const std::vector<std::string>& bodies) {
  std::vector<EmbeddingRequest> requests;
  for (const auto& body : bodies) requests.push_back({body, single_input(body)});
  return requests;
}

TEST(EmbeddingGroup, TakesRequestsWithOneTextEach) {
  const std::pair<const char*, std::string> cases[] = {
      {R"({"model":"m","input":"a \"b\""})", R"("a \"b\"")"},
      {R"({"i\u006eput" : [1, -2] ,"model":"m"})", "[1, -2]"},
      {R"({"input":[-1]})", "[-1]"},
      {R"({"input":["a"]})", ""},
      {R"({"input":[[1]]})", ""},
      {R"({"input":[]})", ""},
      {R"({"input":{"a":"b"}})", ""},
      {R"({"x":{"input":"a"}})", ""},
  };
  for (const auto& [body, input] : cases) {
    const auto [at, size] = single_input(body);
    EXPECT_EQ(std::string(body).substr(at, size), input) << body;
  }
}

TEST(EmbeddingGroup, TakesTogetherWhatDiffersInTheTextAlone) {
  const std::string body = R"({"model":"m","input":"a","x":1})";
  const std::pair<const char*, bool> cases[] = {
      {R"({"model":"m","input":"bcd","x":1})", true}, {R"({"model":"m","input":"a","x":1})", true},
      {R"({"model":"n","input":"a","x":1})", false},  {R"({"model":"m","input":"a","x":2})", false},
      {R"({"model":"m","input":[1],"x":1})", false},  {R"({"model":"m","input":["a"],"x":1})", false},
      {R"({"model":"m", "input":"a","x":1})", false},
  };
  for (const auto& [other, expected] : cases) {
    const std::vector<std::string> bodies{body, other};
    const auto requests = requests_of(bodies);
    EXPECT_EQ(can_be_grouped(requests[0], requests[1]), expected) << other;
    EXPECT_EQ(can_be_grouped(requests[1], requests[0]), expected) << other;
  }
}

TEST(EmbeddingGroup, AsksForAllTexts) {
  const std::vector<std::string> bodies{R"({"model":"m","input":"a","n":1.50})",
                                        R"({"model":"m","input":"é\n","n":1.50})"};
  EXPECT_EQ(grouped_body(requests_of(bodies)), R"({"model":"m","input":["a","é\n"],"n":1.50})");
  const std::vector<std::string> tokens{R"({"input":[1,2]})", R"({"input":[3]})", R"({"input":[1,2]})"};
  EXPECT_EQ(grouped_body(requests_of(tokens)), R"({"input":[[1,2],[3],[1,2]]})");
}

TEST(EmbeddingGroup, SplitsTheAnswerAndKeepsItsBytes) {
  const std::vector<std::string> bodies{R"({"input":"a"})", R"({"input":"bbbbb"})"};
  const auto requests = requests_of(bodies);
  EXPECT_EQ(
      split_answer(
          R"({"object": "list","data":[{"index": 1 ,"embedding":[0.10,-2e-3],"object":"embedding"},{"object":"embedding","embedding":[1],"index":0}],"model":"m","usage":{"prompt_tokens":10,"total_tokens":10,"details":null}})",
          requests),
      (std::vector<std::string>{
          R"({"object": "list","data":[{"object":"embedding","embedding":[1],"index":0}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3,"details":null}})",
          R"({"object": "list","data":[{"index": 0 ,"embedding":[0.10,-2e-3],"object":"embedding"}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7,"details":null}})"}));
  EXPECT_EQ(
      split_answer(
          R"({"usage":{"prompt_tokens":1},"data":[{"embedding":"AAA=","index":0},{"embedding":"BBB=","index":1}]})",
          requests),
      (std::vector<std::string>{R"({"usage":{"prompt_tokens":0},"data":[{"embedding":"AAA=","index":0}]})",
                                R"({"usage":{"prompt_tokens":1},"data":[{"embedding":"BBB=","index":0}]})"}));
}

TEST(EmbeddingGroup, SharesOfTokensSumUp) {
  std::vector<std::string> bodies, answers;
  std::string data;
  for (int i = 0; i < 37; ++i) {
    bodies.push_back(fmt::format(R"({{"input":"{}"}})", std::string(i * i % 11, 'x')));
    data += fmt::format(R"({}{{"index":{}}})", i > 0 ? "," : "", i);
  }
  for (const int tokens : {0, 1, 36, 37, 38, 1'000, 1'000'000'000}) {
    const auto split =
        split_answer(fmt::format(R"({{"data":[{}],"usage":{{"t":{}}}}})", data, tokens), requests_of(bodies));
    ASSERT_EQ(split.size(), bodies.size());
    long sum = 0;
    for (const auto& answer : split) sum += std::stol(answer.substr(answer.find("\"t\":") + 4));
    EXPECT_EQ(sum, tokens);
  }
}

TEST(EmbeddingGroup, AnAnswerThatIsNotOneVectorForEachIsNotSplit) {
  const std::vector<std::string> bodies{R"({"input":"a"})", R"({"input":"b"})"};
  for (const char* answer :
       {R"({"data":[{"index":0}]})", R"({"data":[{"index":0},{"index":1},{"index":2}]})",
        R"({"data":[{"index":0},{"index":0}]})", R"({"data":[{"index":1},{"index":2}]})",
        R"({"data":[{"index":0},{}]})", R"({"data":[{"index":0},{"index":"1"}]})", R"({"data":[{"index":0},7]})",
        R"({"data":{"index":0}})", R"({})", "7", R"({"data":[{"index":0},{"index":-1}]})"}) {
    EXPECT_TRUE(split_answer(answer, requests_of(bodies)).empty()) << answer;
  }
}

}  // namespace
}  // namespace penstock
