#include "model/line_parser.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <memory>

namespace penstock {
namespace {

constexpr std::string_view kChat = "/v1/chat/completions";

// A line with readable bytes behind it, which say nothing.
class Padded {
 public:
  explicit Padded(std::string_view text) : bytes_(text), size_(text.size()) { bytes_.append(kLinePadding, '"'); }
  operator std::string_view() const { return std::string_view(bytes_).substr(0, size_); }

 private:
  std::string bytes_;
  std::size_t size_;
};

// A good line of which one member, or the whole body, is replaced; an empty text leaves the member out.
struct LineText {
  std::string custom_id = R"("a")", method = R"("POST")", url = R"("/v1/chat/completions")";
  std::string body = R"({"model":"m","messages":[]})";

  std::string text() const {
    std::string line = "{";
    for (const auto& [name, value] :
         {std::pair{"custom_id", &custom_id}, {"method", &method}, {"url", &url}, {"body", &body}}) {
      if (!value->empty()) line += fmt::format("{}\"{}\": {}", line.size() > 1 ? ", " : "", name, *value);
    }
    return line + "}";
  }
};
std::string with_id(std::string json) {
  return LineText{.custom_id = std::move(json)}.text();
}
std::string with_body(std::string json) {
  return LineText{.body = std::move(json)}.text();
}

class LineParserTest : public testing::Test {
 protected:
  // "" when the line is good, else "code param".
  std::string fault(std::string_view line, std::string_view endpoint = kChat) {
    const auto facts = parser.check(Padded(line), endpoint);
    if (facts) return "";
    EXPECT_FALSE(facts.error().message.empty());
    EXPECT_FALSE(facts.error().line.has_value());
    message = facts.error().message;
    return facts.error().code + " " + facts.error().param.value_or("-");
  }

  LineParser parser;
  std::string message;  // of the last fault
};

TEST_F(LineParserTest, TellsWhatValidationKeepsOfAGoodLine) {
  const Padded line(R"({"custom_id": "r\u00e9q-1", "method": "POST", "url": "/v1/chat/completions",)"
                    R"( "body": {"model": "qw\"en", "messages": [{"role": "user", "content": "hi"}]}})");
  const auto facts = parser.check(line, kChat);
  ASSERT_TRUE(facts) << facts.error().message;
  EXPECT_EQ(facts->custom_id, "r\xC3\xA9q-1");
  EXPECT_EQ(facts->model, "qw\"en");
}

TEST_F(LineParserTest, TellsThePromptOfALine) {
  struct Row {
    std::string endpoint, body;
    std::vector<std::string> prompt;
  };
  const std::string long_text(100'000, 'x');
  const Row table[] = {
      {"chat/completions", R"("messages":[])", {}},
      {"chat/completions",
       R"("messages":[{"role":"system","content":"a\nb"},{"content":"c","role":"user"}],"seed":7)",
       {"a\nb", "c"}},
      {"chat/completions",
       R"("messages":[{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":)"
       R"({"url":"data:image/png;base64,AA"}}]}],"metadata":{"x":"y"})",
       {"see", "data:image/png;base64,AA"}},
      // Tools stand in front, wherever the client put them.
      {"chat/completions",
       R"("messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f"}}])",
       {"f", "hi"}},
      {"chat/completions", R"("messages":["hi"],"tools":["f"],"tools":["g"])", {"g", "hi"}},
      {"completions", R"("prompt":"once")", {"once"}},
      {"completions", R"("prompt":["once","upon"])", {"once", "upon"}},
      {"completions", R"("prompt":[1,258])", {std::string("\1\0\0\0\0\0\0\0\2\1\0\0\0\0\0\0", 16)}},
      {"responses",
       R"("input":"go","instructions":"be brief","tools":[{"type":"function","name":"f"}])",
       {"f", "be brief", "go"}},
      {"responses", R"("input":[{"role":"user","content":"go"}],"instructions":null)", {"go"}},
      {"embeddings", R"("input":["a","b"])", {}},
      {"completions", R"("prompt":")" + long_text + "\"", {long_text}},
  };
  for (const Row& row : table) {
    const std::string url = "/v1/" + row.endpoint;
    const Padded line(LineText{.url = "\"" + url + "\"", .body = R"({"model":"m",)" + row.body + "}"}.text());
    ASSERT_TRUE(parser.check(line, url)) << row.body;
    const auto prompt = parser.prompt();
    EXPECT_EQ(std::vector<std::string>(prompt.begin(), prompt.end()), row.prompt) << row.body;
  }
}

TEST_F(LineParserTest, NamesEachBrokenRule) {
  struct Row {
    std::string line, fault, words;
  };
  const Row table[] = {
      {LineText{}.text(), "", ""},
      // Not JSON.
      {"", "invalid_json_line -", "This line is not parseable as valid JSON."},
      {"hello", "invalid_json_line -", ""},
      {"{", "invalid_json_line -", ""},
      {LineText{}.text() + " {}", "invalid_json_line -", ""},
      {LineText{}.text() + LineText{}.text(), "invalid_json_line -", ""},
      {LineText{}.text() + ",", "invalid_json_line -", ""},
      {"[" + LineText{}.text() + ",]", "invalid_json_line -", ""},
      {with_body(R"({"model":"m","messages":[],"t":NaN})"), "invalid_json_line -", ""},
      {with_body(R"({"model":"m","messages":[],"t":Infinity})"), "invalid_json_line -", ""},
      {with_body(R"({"model":"m","messages":[],"t":01})"), "invalid_json_line -", ""},
      {with_body(R"({"model":"m","messages":[],"t":1.})"), "invalid_json_line -", ""},
      {with_body(R"({"model":"m","messages":[],"t":-})"), "invalid_json_line -", ""},
      {with_body(R"({"model":"m","messages":[],"t":+1})"), "invalid_json_line -", ""},
      {with_body(R"({"model":"m","messages":[],})"), "invalid_json_line -", ""},
      {with_body(R"({'model':'m','messages':[]})"), "invalid_json_line -", ""},
      {"\xEF\xBB\xBF" + LineText{}.text(), "invalid_json_line -", ""},  // a byte order mark is the file's, not a line's
      // Not an object.
      {"[]", "invalid_request -", "object"},
      {"null", "invalid_request -", ""},
      {"\"a\"", "invalid_request -", ""},
      {"17", "invalid_request -", ""},
      // A member is absent.
      {LineText{.custom_id = ""}.text(), "missing_required_parameter custom_id",
       "Missing required parameter: 'custom_id'."},
      {LineText{.method = ""}.text(), "missing_required_parameter method", "Missing required parameter: 'method'."},
      {LineText{.url = ""}.text(), "missing_required_parameter url", "Missing required parameter: 'url'."},
      {LineText{.body = ""}.text(), "missing_required_parameter body", "Missing required parameter: 'body'."},
      {"{}", "missing_required_parameter custom_id", ""},
      {with_id("null"), "missing_required_parameter custom_id", ""},
      {with_body("null"), "missing_required_parameter body", ""},
      // A member has the wrong type.
      {with_id("7"), "invalid_type custom_id", "'custom_id': expected a string"},
      {with_id(R"(["a"])"), "invalid_type custom_id", ""},
      {LineText{.method = "1"}.text(), "invalid_type method", ""},
      {LineText{.url = "{}"}.text(), "invalid_type url", ""},
      {with_body(R"("{}")"), "invalid_type body", "expected an object"},
      {with_body("[]"), "invalid_type body", ""},
      // A member says something else.
      {LineText{.method = R"("GET")"}.text(), "invalid_method method", "method"},
      {LineText{.method = R"("post")"}.text(), "invalid_method method", ""},
      {LineText{.url = R"("/v1/embeddings")"}.text(), "invalid_url url",
       "The URL provided for this request does not match the batch endpoint."},
      {LineText{.url = R"("/v1/chat/completions/")"}.text(), "invalid_url url", ""},
      {LineText{.url = R"("http://x/v1/chat/completions")"}.text(), "invalid_url url", ""},
      {LineText{.url = R"("")"}.text(), "invalid_url url", ""},
      {LineText{.url = R"("\/v1\/chat\/completions")"}.text(), "", ""},  // the same string
      // The body.
      {with_body(R"({"model":"m","messages":[],"stream":true})"), "streaming_unsupported body.stream",
       "Chat Completions: Streaming is not supported in the Batch API."},
      {with_body(R"({"model":"m","messages":[],"stream":false})"), "", ""},
      {with_body(R"({"model":"m","messages":[],"stream":null})"), "", ""},
      {with_body(R"({"messages":[]})"), "invalid_request body.model", "Model parameter is required."},
      {with_body(R"({"model":null,"messages":[]})"), "invalid_request body.model", ""},
      {with_body(R"({"model":"","messages":[]})"), "invalid_request body.model", "Model parameter is required."},
      {with_body(R"({"model":7,"messages":[]})"), "invalid_type body.model", ""},
      {with_body(R"({"model":"m"})"), "invalid_request body.messages", "Messages parameter is required."},
      {with_body(R"({"model":"m","messages":null})"), "invalid_request body.messages", ""},
      {with_body("{}"), "invalid_request body.model", ""},
      // What is left to the engine.
      {with_body(R"({"model":"m","messages":[],"temperature":"hot","max_tokens":-1,"unknown":{}})"), "", ""},
      {with_body(R"({"model":"m","messages":"none"})"), "", ""},
  };
  for (const Row& row : table) {
    message.clear();
    EXPECT_EQ(fault(row.line), row.fault) << row.line;
    EXPECT_NE(message.find(row.words), std::string::npos) << row.line << ": " << message;
  }
}

TEST_F(LineParserTest, AsksEachEndpointForItsOwnField) {
  const std::tuple<std::string, std::string, std::string> table[] = {
      {"/v1/chat/completions", "messages", "Messages"},
      {"/v1/completions", "prompt", "Prompt"},
      {"/v1/embeddings", "input", "Input"},
      {"/v1/responses", "input", "Input"},
  };
  EXPECT_EQ(std::size(table), endpoints().size());
  for (const auto& [endpoint, field, word] : table) {
    EXPECT_TRUE(endpoints().contains(endpoint));
    const std::string url = fmt::format("\"{}\"", endpoint);
    EXPECT_EQ(fault(LineText{.url = url, .body = fmt::format(R"({{"model":"m","{}":"x"}})", field)}.text(), endpoint),
              "");
    EXPECT_EQ(fault(LineText{.url = url, .body = R"({"model":"m","other":"x"})"}.text(), endpoint),
              fmt::format("invalid_request body.{}", field));
    EXPECT_EQ(message, word + " parameter is required.");
  }
}

TEST_F(LineParserTest, RefusesAKeyThatCountsAndStandsTwice) {
  const std::pair<std::string, std::string> table[] = {
      {R"({"custom_id":"a","custom_id":"b","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}})",
       "invalid_request custom_id"},
      {R"({"custom_id":"a","custom_\u0069d":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}})",
       "invalid_request custom_id"},
      {R"({"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]},"body":{}})",
       "invalid_request body"},
      {with_body(R"({"model":"m","model":"m","messages":[]})"), "invalid_request body.model"},
      {with_body(R"({"model":"m","m\u006fdel":"n","messages":[]})"), "invalid_request body.model"},
      {with_body(R"({"model":"m","stream":false,"stream":true,"messages":[]})"), "invalid_request body.stream"},
      {with_body(R"({"model":"m","messages":[],"messages":[1]})"), "invalid_request body.messages"},
      {with_body(R"({"model":"m","messages":[],"metadata":{"model":"a","model":"b"}})"), ""},  // nobody acts on these
      {with_body(R"({"model":"m","messages":[],"user":"a","user":"b"})"), ""},
      {with_body(R"({"model":"m","messages":[],"tools":["a"],"tools":["b"]})"), ""},
      {with_body(R"({"model":"m","messages":[],"instructions":"a","instructions":"b"})"), ""},
  };
  for (const auto& [line, expected] : table) EXPECT_EQ(fault(line), expected) << line;
}

TEST_F(LineParserTest, ReadsKeysWithEscapes) {
  const Padded line(R"({"custom\u005fid":"a","\u006dethod":"POST","ur\u006c":"/v1/chat/completions",)"
                    R"("b\u006fdy":{"mod\u0065l":"m","me\u0073sages":[]}})");
  EXPECT_TRUE(parser.check(line, kChat));
  const LineParts parts = parser.cut(line);
  EXPECT_EQ(parts.custom_id_json, R"("a")");
  EXPECT_EQ(parts.body, R"({"mod\u0065l":"m","me\u0073sages":[]})");
}

TEST_F(LineParserTest, JudgesBytesAsRfc8259And3629Do) {
  const auto text = [](std::string_view inside) { return with_id(fmt::format("\"{}\"", inside)); };
  const std::pair<std::string, bool> table[] = {
      {LineText{}.text() + "\r", true},  // CRLF: the LF is not part of the line
      {" \t" + LineText{}.text() + " \t\r", true},
      {text("\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"), true},
      {text("\xE2\x80\xA8 \xE2\x80\xA9 \xC2\x85"), true},  // U+2028, U+2029 and U+0085 end no line
      {text("\\u0000"), true},
      {text("\\ud83d\\ude00"), true},
      {text("\\ud83d"), false},  // lone surrogates
      {text("\\ude00"), false},
      {text("\\ud83dx"), false},
      {text("\\ud83d\\u0041"), false},
      {text("\\ude00\\ud83d"), false},
      {text("\xED\xA0\xBD"), false},  // a surrogate in UTF-8
      {text("\xFF"), false},
      {text("\xC0\x80"), false},          // overlong
      {text("\xE2\x82"), false},          // cut off
      {text("\xF4\x90\x80\x80"), false},  // past U+10FFFF
      {text(std::string_view("a\0b", 3)), false},
      {text("a\tb"), false},
      {text("a\x01"
            "b"),
       false},
      {text("a\\x41"), false},
      {text("a\\u00g0"), false},
      {std::string("\0", 1), false},
      {LineText{}.text() + std::string("\0", 1), false},
      {LineText{}.text() + "\xC2\x85", false},
      {std::string("\xFF\xFE{\0}\0", 6), false},  // UTF-16
      {"\x0C" + LineText{}.text(), false},
  };
  for (const auto& [line, good] : table) EXPECT_EQ(fault(line), good ? "" : "invalid_json_line -") << line;
}

TEST_F(LineParserTest, LetsNumbersOfAnySizeThroughUnchanged) {
  for (const std::string number :
       {"123456789012345678901234567890", "-123456789012345678901234567890", "1e400", "-1E+400", "1e-400", "0.1e1",
        "1.00", "18446744073709551616", "9007199254740993", "0.12345678901234567890123456789", "-0"}) {
    const std::string body = fmt::format(R"({{"model":"m","seed":{},"messages":[{{"n":[{}, "1e400 \" -5", {}]}}]}})",
                                         number, number, number);
    const Padded line(with_body(body));
    const auto facts = parser.check(line, kChat);
    ASSERT_TRUE(facts) << number;
    EXPECT_EQ(facts->model, "m");
    EXPECT_EQ(parser.cut(line).body, body);
  }
  // A fault beside such a number is still one.
  EXPECT_EQ(fault(with_body(R"({"model":"m","messages":[],"a":1e400,"b":01})")), "invalid_json_line -");
  EXPECT_EQ(fault(with_body(R"({"model":"m","messages":[],"a":1e400,"b":1e})")), "invalid_json_line -");
  for (const char* number : {"1E+-9", "1e--9", "1.-5", "--5"}) {
    EXPECT_EQ(fault(with_body(fmt::format(R"({{"model":"m","messages":[],"a":{}}})", number))), "invalid_json_line -");
  }
  EXPECT_EQ(fault(with_body(R"({"model":1e400,"messages":[]})")), "invalid_type body.model");
  EXPECT_EQ(fault(with_body(R"({"model":"m","messages":[],"a":1e400,"stream":true})")),
            "streaming_unsupported body.stream");
}

TEST_F(LineParserTest, NestingHasALimit) {
  // The line's own object and the body are two levels.
  const auto nested = [](int levels) {
    return with_body(
        fmt::format(R"({{"model":"m","messages":{}1{}}})", std::string(levels, '['), std::string(levels, ']')));
  };
  EXPECT_EQ(fault(nested(120)), "");
  const int deepest = [&] {
    int levels = 120;
    while (fault(nested(levels + 1)).empty()) ++levels;
    return levels;
  }();
  EXPECT_EQ(deepest, 126);
  for (const int levels : {deepest + 1, 200, 100'000, 1'000'000})
    EXPECT_EQ(fault(nested(levels)), "invalid_json_line -");
  EXPECT_EQ(fault(std::string(1'000'000, '[')), "invalid_json_line -");
  EXPECT_EQ(fault(nested(120)), "");  // the parser is none the worse for it

  // What is checked can be cut, down to the last level.
  EXPECT_TRUE(parser.cut(Padded(nested(deepest))).body.starts_with(R"({"model":"m")"));
}

TEST_F(LineParserTest, TakesLongLinesAndShortOnesAfterThem) {
  for (const std::size_t size : {10u, 4'000'000u, 100u, 9'000'000u, 1u}) {
    const std::string content(size, 'x');
    const std::string body = fmt::format(R"({{"model":"m","messages":["{}"]}})", content);
    const Padded line(with_body(body));
    EXPECT_TRUE(parser.check(line, kChat)) << size;
    EXPECT_TRUE(parser.cut(line).body == body) << size;
  }
}

TEST_F(LineParserTest, ComparesCustomIdsByTheirCharacters) {
  const auto hash = [&](const std::string& json) {
    const auto facts = parser.check(Padded(with_id(json)), kChat);
    EXPECT_TRUE(facts) << json;
    return facts->custom_id_hash;
  };
  EXPECT_EQ(hash(R"("a/b")"), hash(R"("\u0061\/b")"));
  EXPECT_EQ(hash("\"\xF0\x9F\x98\x80\""), hash(R"("\ud83d\ude00")"));
  EXPECT_FALSE(hash(R"("a")") == hash(R"("A")"));
  EXPECT_FALSE(hash(R"("a")") == hash(R"("a ")"));
  EXPECT_FALSE(hash(R"("a")") == hash(R"("a\u0000")"));
  EXPECT_FALSE(hash("\"\xC3\xA9\"") == hash("\"e\xCC\x81\""));  // no Unicode normalisation
  const std::string prefix(10'000, 'p');
  EXPECT_FALSE(hash(fmt::format("\"{}1\"", prefix)) == hash(fmt::format("\"{}2\"", prefix)));
  EXPECT_TRUE(LineParser().check(Padded(with_id("\"a\"")), kChat)->custom_id_hash == hash("\"a\""));
}

TEST_F(LineParserTest, CutsTheClientsBytes) {
  struct Row {
    std::string line, custom_id_json, body;
  };
  const Row table[] = {
      {R"({"custom_id":"a","method":"POST","url":"u","body":{"model":"m"}})", R"("a")", R"({"model":"m"})"},
      {" { \"body\" : { \"b\" : 1.0 ,  \"a\":2 } , \"custom_id\" : \"\\u0061\\/ \" , \"x\":[{\"body\":1}] }\r",
       R"("\u0061\/ ")", "{ \"b\" : 1.0 ,  \"a\":2 }"},
      {R"({"custom_id":"}\"{\\","body":{"a":"}\\","b":[{}]},"method":"POST"})", R"("}\"{\\")",
       R"({"a":"}\\","b":[{}]})"},
      {"{\"custom_id\":\"\xC3\xA9\",\"body\":{}}", "\"\xC3\xA9\"", "{}"},
      {R"({"custom_id":"","body":{}})", R"("")", "{}"},
  };
  for (const Row& row : table) {
    const Padded line(row.line);
    const LineParts parts = parser.cut(line);
    EXPECT_EQ(parts.custom_id_json, row.custom_id_json) << row.line;
    EXPECT_EQ(parts.body, row.body) << row.line;
    const std::string_view whole = line;
    EXPECT_TRUE(parts.body.data() >= whole.data() &&
                parts.body.data() + parts.body.size() <= whole.data() + whole.size());
  }
}

TEST_F(LineParserTest, ALineThatWasNeverCheckedIsNotCut) {
  for (const std::string line :
       {"", "{}", "[]", "x", R"({"custom_id":"a"})", R"({"body":{}})", R"({"custom_id":"a","body":{)"}) {
    EXPECT_THROW(parser.cut(Padded(line)), std::runtime_error) << line;
  }
}

TEST_F(LineParserTest, FindsTheUrlOfALine) {
  EXPECT_EQ(parser.url(Padded(LineText{.url = R"("/v1\/embeddings")"}.text())), "/v1/embeddings");
  for (const std::string line : {"", "{", "[]", "{}", R"({"url":7})"}) EXPECT_EQ(parser.url(Padded(line)), "") << line;
}

// --- Answers of engines

TEST(AnswerParserTest, ReadsTheTokensInTheWordsOfEachEndpoint) {
  const std::pair<std::string, Usage> table[] = {
      {R"({"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}})", {5, 0, 7, 0}},
      {R"({"usage":{"input_tokens":5,"output_tokens":7}})", {5, 0, 7, 0}},
      {R"({"usage":{"prompt_tokens":5,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":3},)"
       R"("completion_tokens_details":{"reasoning_tokens":2}}})",
       {5, 3, 7, 2}},
      {R"({"usage":{"input_tokens":5,"output_tokens":7,"input_tokens_details":{"cached_tokens":3},)"
       R"("output_tokens_details":{"reasoning_tokens":2}}})",
       {5, 3, 7, 2}},
      {R"({"usage":{"prompt_tokens":5,"prompt_tokens_details":null}})", {5, 0, 0, 0}},
      {R"({"usage":{"prompt_tokens":-5,"completion_tokens":"7"}})", {}},
      {R"({"usage":{"prompt_tokens":1e400,"completion_tokens":7}})", {0, 0, 7, 0}},
      {R"({"usage":null})", {}},
      {R"({"usage":[5]})", {}},
      {"{}", {}},
      {" {\"a\":\n1} \n", {}},
  };
  AnswerParser parser;
  for (const auto& [body, usage] : table) {
    const auto got = parser.check(body);
    ASSERT_TRUE(got) << body;
    if (body.find("1e400") == std::string::npos) {
      EXPECT_EQ(*got, usage) << body;
    }
  }
}

TEST(AnswerParserTest, CountsThatCannotBeAreNoCounts) {
  AnswerParser parser;
  EXPECT_EQ(parser.check(R"({"usage":{"prompt_tokens":9000000000000000000,"completion_tokens":7}})"),
            (Usage{0, 0, 7, 0}));
  EXPECT_EQ(parser.check(R"({"usage":{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":9}}})"),
            (Usage{5, 5, 0, 0}));
}

TEST(AnswerParserTest, TakesNothingButOneJsonObject) {
  AnswerParser parser;
  for (const std::string& body :
       {std::string(), std::string("null"), std::string("[]"), std::string("\"{}\""), std::string("{"),
        std::string("{}{}"), std::string("{} x"), std::string("{\"a\":NaN}"), std::string("{\"a\":\"\xFF\"}"),
        std::string("{\"a\":\"\0\"}", 9), std::string("{}\0", 3), std::string("{\"a\":\"\n\"}"),
        std::string("{\"a\":\"\\ud800\"}"), std::string("<html>"), std::string(1'000, '[')}) {
    EXPECT_FALSE(parser.check(body)) << body;
  }
  EXPECT_TRUE(parser.check("{}"));
}

TEST(AnswerParserTest, TakesAnswersWithAndWithoutRoomBehindThem) {
  AnswerParser parser;
  for (std::size_t size = 1; size < 300; ++size) {
    std::string body = fmt::format(R"({{"a":"{}","usage":{{"prompt_tokens":{}}}}})", std::string(size, 'x'), size);
    body.shrink_to_fit();
    EXPECT_EQ(parser.check(body)->input, static_cast<std::int64_t>(size));
    body.reserve(2 * body.size() + 200);
    EXPECT_EQ(parser.check(body)->input, static_cast<std::int64_t>(size));
  }
}

}  // namespace
}  // namespace penstock
