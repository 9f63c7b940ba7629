#include "model/answer_stream.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace penstock {
namespace {

namespace json = boost::json;

constexpr const char* kChat = "/v1/chat/completions";

// A stream of these events, as most engines write it.
std::string stream(const std::vector<std::string>& events) {
  std::string out;
  for (const auto& event : events) out += fmt::format("data: {}\n\n", event);
  return out + "data: [DONE]\n\n";
}

// A chunk whose choices are these.
std::string chunk(std::string_view choices) {
  return fmt::format(
      R"({{"id":"c-1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{}],"usage":null}})",
      choices);
}

std::string delta(std::string_view delta, std::string_view finish = "null", int index = 0) {
  return chunk(fmt::format(R"({{"index":{},"delta":{},"finish_reason":{}}})", index, delta, finish));
}

json::value answer(std::string_view events) {
  const auto whole = whole_answer(events);
  if (!whole) return "nothing";
  EXPECT_EQ(whole->status, 200);
  return json::parse(whole->body);
}

json::value message(const std::vector<std::string>& deltas) {
  std::vector<std::string> events;
  for (const auto& text : deltas) events.push_back(delta(text));
  return answer(stream(events)).at_pointer("/choices/0/message");
}

TEST(AskingToStream, KeepsTheOtherBytesOfTheBody) {
  const struct {
    const char *endpoint, *body, *asking;
  } cases[] = {
      {kChat, R"({"model":"m", "seed" : 12345678901234567890123})",
       R"({"stream_options":{"include_usage":true},"stream":true,"model":"m", "seed" : 12345678901234567890123})"},
      {kChat, R"({ "stream" : false , "a":{"stream":false}})",
       R"({"stream_options":{"include_usage":true}, "stream" : true , "a":{"stream":false}})"},
      {kChat, R"({"b":[1.50],"stream_options":{"x":[{}]},"stream":null})",
       R"({"b":[1.50],"stream_options":{"include_usage":true},"stream":true})"},
      {"/v1/completions", R"({"str\u0065am":false,"prompt":"\"stream\":false"})",
       R"({"stream_options":{"include_usage":true},"str\u0065am":true,"prompt":"\"stream\":false"})"},
      {"/v1/responses", R"({"input":"é"})", R"({"stream":true,"input":"é"})"},
  };
  for (const auto& c : cases) EXPECT_EQ(asking_to_stream(c.endpoint, c.body), c.asking);
}

TEST(AskingToStream, IsForWhatIsWrittenTokenByToken) {
  EXPECT_TRUE(can_stream(kChat));
  EXPECT_TRUE(can_stream("/v1/completions"));
  EXPECT_TRUE(can_stream("/v1/responses"));
  EXPECT_FALSE(can_stream("/v1/embeddings"));
}

TEST(WholeAnswer, IsWhatTheEngineWouldHaveAnsweredWithoutAStream) {
  const std::string events = stream(
      {R"({"id":"c-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":null,"choices":[{"index":0,"delta":{"role":"assistant","content":null,"refusal":null},"logprobs":null,"finish_reason":null}],"usage":null})",
       R"({"id":"c-1","object":"chat.completion.chunk","created":8,"model":"m","system_fingerprint":"f","choices":[{"index":0,"delta":{"content":"Hé"},"logprobs":null,"finish_reason":null}]})",
       delta(R"({"content":"llo\n"})"), delta("{}", R"("stop")"),
       R"({"id":"c-1","object":"chat.completion.chunk","created":9,"model":"m","system_fingerprint":null,"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5},"timings":{"prompt_n":3}})"});
  EXPECT_EQ(
      whole_answer(events).value().body,
      R"({"choices":[{"index":0,"message":{"role":"assistant","content":"Hé)"
      R"(llo\n","refusal":null},"logprobs":null,"finish_reason":"stop"}],"id":"c-1","object":"chat.completion","created":9,"model":"m","system_fingerprint":"f","usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5},"timings":{"prompt_n":3}})");
}

TEST(WholeAnswer, PutsTextCompletionsTogether) {
  const auto text = [](std::string_view choice) {
    return fmt::format(R"({{"id":"c","object":"text_completion","created":7,"model":"m","choices":[{}]}})", choice);
  };
  EXPECT_EQ(
      answer(stream(
          {text(
               R"({"index":0,"text":" the","logprobs":{"tokens":[" the"],"token_logprobs":[-0.5],"top_logprobs":[{" the":-0.5}],"text_offset":[0]},"finish_reason":null,"stop_reason":null})"),
           text(
               R"({"index":0,"text":" end","logprobs":{"tokens":[" end"],"token_logprobs":[-1.25],"top_logprobs":[{" end":-1.25}],"text_offset":[4]},"finish_reason":"stop","stop_reason":7})")})),
      json::parse(
          R"({"id":"c","object":"text_completion","created":7,"model":"m","choices":[{"index":0,"text":" the end","logprobs":{"tokens":[" the"," end"],"token_logprobs":[-0.5,-1.25],"top_logprobs":[{" the":-0.5},{" end":-1.25}],"text_offset":[0,4]},"finish_reason":"stop","stop_reason":7}]})"));
}

TEST(WholeAnswer, TellsChoicesApartByTheirIndex) {
  const json::value whole = answer(stream(
      {delta(R"({"role":"assistant","content":"b"})", "null", 1), delta(R"({"role":"assistant","content":"a"})"),
       delta(R"({"content":"B"})", R"("length")", 1), chunk(R"({"delta":{"content":"A"},"finish_reason":"stop"})")}));
  EXPECT_EQ(
      whole.at("choices"),
      json::parse(
          R"([{"index":0,"message":{"role":"assistant","content":"aA"},"finish_reason":"stop"},{"index":1,"message":{"role":"assistant","content":"bB"},"finish_reason":"length"}])"));
}

TEST(WholeAnswer, PutsEveryKindOfPieceTogether) {
  const struct {
    std::vector<std::string> deltas;
    const char* message;
  } cases[] = {
      {{"{}"}, R"({"role":"assistant","content":null})"},
      {{R"({"role":"assistant","content":"a"})", R"({"role":"assistant","content":"b"})"},  // each time again
       R"({"role":"assistant","content":"ab"})"},
      {{R"({"refusal":"I "})", R"({"refusal":"won't."})"},
       R"({"role":"assistant","content":null,"refusal":"I won't."})"},
      {{R"({"reasoning_content":"Hm"})", R"({"reasoning_content":"m."})",
        R"({"content":"Yes","reasoning_content":null})"},
       R"({"role":"assistant","content":"Yes","reasoning_content":"Hmm."})"},
      {{R"({"function_call":{"name":"f","arguments":""}})", R"({"function_call":{"arguments":"{\"a\""}})",
        R"({"function_call":{"arguments":":1}"}})"},
       R"({"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{\"a\":1}"}})"},
      {{R"({"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}}]})",
        R"({"tool_calls":[{"index":0,"function":{"arguments":"{\"index\""}}]})",
        R"({"tool_calls":[{"index":1,"id":"y","type":"function","function":{"name":"g","arguments":"{"}}]})",
        R"({"tool_calls":[{"index":0,"id":"","type":"function","function":{"name":"","arguments":":1}"}},{"index":1,"id":"y","function":{"name":"g","arguments":"}"}}]})"},
       R"({"role":"assistant","content":null,"tool_calls":[{"id":"x","type":"function","function":{"name":"f","arguments":"{\"index\":1}"}},{"id":"y","type":"function","function":{"name":"g","arguments":"{}"}}]})"},
  };
  for (const auto& c : cases) EXPECT_EQ(message(c.deltas), json::parse(c.message));
}

TEST(WholeAnswer, PutsLogprobsTogether) {
  const auto piece = [](std::string_view logprobs) {
    return chunk(fmt::format(R"({{"index":0,"delta":{{}},"logprobs":{}}})", logprobs));
  };
  EXPECT_EQ(
      answer(stream({piece(R"({"content":[{"token":"a","id":1}],"refusal":null})"), piece("null"),
                     piece(R"({"content":[{"token":"b","id":2},{"token":"c","id":1}],"refusal":null})")}))
          .at_pointer("/choices/0/logprobs"),
      json::parse(R"({"content":[{"token":"a","id":1},{"token":"b","id":2},{"token":"c","id":1}],"refusal":null})"));
}

TEST(WholeAnswer, KeepsTheValueOfEachNumber) {
  const auto whole =
      whole_answer(stream({chunk(R"({"index":0,"logprobs":[-1.8714457750320435,-1.5200676918029785]})")}));
  ASSERT_TRUE(whole);
  EXPECT_NE(whole->body.find("[-1.8714457750320435E0,-1.5200676918029785E0]"), std::string::npos) << whole->body;
}

TEST(WholeAnswer, ReadsEventsHoweverTheyAreWritten) {
  const std::string a = delta(R"({"content":"a"})"), b = delta(R"({"content":"b"})", R"("stop")");
  const std::string plain = whole_answer(stream({a, b})).value().body;
  const auto comma = b.find(',') + 1;
  const std::string cases[] = {
      fmt::format("data: {}\r\n\r\ndata: {}\r\n\r\ndata: [DONE]\r\n\r\n", a, b),
      fmt::format("data: {}\r\rdata: {}\r\rdata: [DONE]\r\r", a, b),
      fmt::format("data:{}\n\ndata:{}\n\ndata:[DONE]", a, b),
      fmt::format(": ping\n\n\n: ping\ndata: {}\nid: 4\n\n:\n\nevent: x\nretry: 1\ndata: {}\n\ndata: [DONE]\n", a, b),
      fmt::format("data: {}\r\n\r\ndata: {}\r\ndata: {}\r\n\r\ndata: [DONE]\r\n\r\ndata: {}\r\n\r\n", a,
                  b.substr(0, comma), b.substr(comma), a),
  };
  for (const auto& events : cases) {
    const auto whole = whole_answer(events);
    ASSERT_TRUE(whole) << events;
    EXPECT_EQ(whole->body, plain);
  }
}

TEST(WholeAnswer, IsNothingWhenTheStreamIsNotWhole) {
  const std::string whole = stream({delta(R"({"content":"a"})"), delta("{}", R"("stop")")});
  const auto done = whole.find("[DONE]") + 6;
  for (std::size_t size = 0; size < done; ++size) EXPECT_FALSE(whole_answer(whole.substr(0, size))) << size;
  EXPECT_TRUE(whole_answer(whole.substr(0, done)));
  for (const char* events : {"data: [DONE]\n\n", "data: 7\n\ndata: [DONE]\n\n", "data: {\n\ndata: [DONE]\n\n",
                             "data: {\"choices\":{}}\n\ndata: [DONE]\n\n", "{\"choices\":[]}"}) {
    EXPECT_FALSE(whole_answer(events)) << events;
  }
}

TEST(WholeAnswer, IsTheErrorThatEndedTheStream) {
  const struct {
    const char* event;
    int status;
  } cases[] = {{R"({"error":{"message":"m","code":400}})", 400},
               {R"({"error":{"message":"m","code":"server_error"}})", 500},
               {R"({"error":{"message":"m","code":200}})", 500},
               {R"({"error":"m"})", 500},
               {R"({"type":"error","message":"m"})", 500}};
  for (const auto& c : cases) {
    const auto whole = whole_answer(stream({delta(R"({"content":"a"})"), c.event}));
    ASSERT_TRUE(whole) << c.event;
    EXPECT_EQ(whole->status, c.status) << c.event;
    EXPECT_EQ(whole->body, c.event);
  }
}

TEST(WholeAnswer, OfResponsesIsInTheEventThatEndsThem) {
  for (const char* type : {"response.completed", "response.incomplete", "response.failed"}) {
    const auto whole = whole_answer(fmt::format(
        "event: response.created\ndata: {{\"type\":\"response.created\",\"response\":{{\"error\":null}}}}\n\n"
        "data: {{\"type\":\"response.output_text.delta\",\"delta\":\"a\"}}\n\n"
        "event: {0}\ndata: {{\"type\":\"{0}\",\"response\":{{\"output\":[\"a\"]}}}}\n\n",
        type));
    ASSERT_TRUE(whole) << type;
    EXPECT_EQ(whole->body, R"({"output":["a"]})");
  }
}

}  // namespace
}  // namespace penstock
