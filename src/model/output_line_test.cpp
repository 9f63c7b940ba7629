#include "model/output_line.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <set>

namespace penstock {
namespace {

namespace json = boost::json;
const BatchId kBatch{"batch_0123abcd"};

std::string line_of(const LineOutcome& outcome, std::uint32_t index = 7, std::string_view custom_id_json = R"("a")") {
  std::string out;
  append_output_line(out, kBatch, index, custom_id_json, outcome);
  return out;
}

LineOutcome answered(std::string body, int status = 200) {
  LineOutcome outcome;
  outcome.status = status;
  outcome.body = std::move(body);
  return outcome;
}

TEST(OutputLineTest, AnAnswerHasAllFourKeysAndTheEnginesBytes) {
  LineOutcome outcome = answered(R"({"b": 1.0,  "a":[]})");
  outcome.request_id = "req-of-engine";
  EXPECT_EQ(line_of(outcome), R"({"id":"batch_req_0123abcd00000007","custom_id":"a","response":{"status_code":200,)"
                              R"("request_id":"req-of-engine","body":{"b": 1.0,  "a":[]}},"error":null})"
                              "\n");
}

TEST(OutputLineTest, ARequestIdIsMadeWhereTheEngineGaveNone) {
  const json::value line = json::parse(line_of(answered("{}")));
  EXPECT_EQ(line.at("response").at("request_id").as_string(), "req_0123abcd00000007");
}

TEST(OutputLineTest, ARefusalKeepsStatusAndBodyAndHasNoErrorOfOurs) {
  LineOutcome outcome = answered(R"({"error":{"message":"too long"}})", 400);
  outcome.failed = true;
  const json::value line = json::parse(line_of(outcome));
  EXPECT_EQ(line.at("response").at("status_code").as_int64(), 400);
  EXPECT_EQ(line.at("response").at("body").at("error").at("message").as_string(), "too long");
  EXPECT_TRUE(line.at("error").is_null());
}

TEST(OutputLineTest, ALineWithoutAResponseSaysWhy) {
  LineOutcome outcome;
  outcome.failed = true;
  outcome.error_code = "batch_expired";
  outcome.error_message = "with \"quotes\" and a\nnewline";
  const std::string text = line_of(outcome);
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  const json::value line = json::parse(text);
  EXPECT_EQ(line.as_object().size(), 4u);
  EXPECT_TRUE(line.at("response").is_null());
  EXPECT_EQ(line.at("error").as_object().size(), 2u);
  EXPECT_EQ(line.at("error").at("code").as_string(), "batch_expired");
  EXPECT_EQ(line.at("error").at("message").as_string(), outcome.error_message.c_str());
}

TEST(OutputLineTest, NewlinesInsideTheBodyAreTakenOutAndNothingElse) {
  const std::pair<std::string, std::string> table[] = {
      {"{\n  \"a\": 1,\r\n  \"b\": 2\n}\n", "{  \"a\": 1,  \"b\": 2}"},
      {"\n\n{}\r", "{}"},
      {"{\"a\":\"\\n\"}", "{\"a\":\"\\n\"}"},  // an escape is no newline
      {"{\"a\":\"\xE2\x80\xA8\"}", "{\"a\":\"\xE2\x80\xA8\"}"},
  };
  for (const auto& [body, kept] : table) {
    const std::string line = line_of(answered(body));
    EXPECT_NE(line.find("\"body\":" + kept + "},"), std::string::npos) << line;
    EXPECT_EQ(line.find('\n'), line.size() - 1);
    EXPECT_EQ(line.find('\r'), std::string::npos);
    EXPECT_EQ(json::parse(line).at("response").at("body"), json::parse(body));
  }
}

TEST(OutputLineTest, TheCustomIdIsSplicedInAsTheClientWroteIt) {
  EXPECT_NE(line_of(answered("{}"), 7, R"("\u0061\/")").find(R"("custom_id":"\u0061\/",)"), std::string::npos);
}

TEST(OutputLineTest, ARequestIdOfTheEngineIsQuoted) {
  LineOutcome outcome = answered("{}");
  outcome.request_id = "a\"b\\c";
  EXPECT_EQ(json::parse(line_of(outcome)).at("response").at("request_id").as_string(), "a\"b\\c");
}

TEST(OutputLineTest, ARequestIdThatIsNoTextLeavesTheLineValid) {
  LineOutcome outcome = answered("{}");
  outcome.request_id =
      "a\xFF\x01"
      "b";
  boost::system::error_code error;
  json::parse(line_of(outcome), error);
  EXPECT_FALSE(error) << error.message();
}

TEST(OutputLineTest, IdsAreUniqueAndTheSameHoweverOftenTheLineIsWritten) {
  std::set<std::string> ids;
  for (const std::string batch : {"batch_1", "batch_2"}) {
    for (std::uint32_t index = 0; index < 500; ++index) {
      std::string first, second;
      append_output_line(first, {batch}, index, "\"a\"", answered("{}"));
      append_output_line(second, {batch}, index, "\"a\"", answered("{}"));
      EXPECT_EQ(first, second);
      const json::value line = json::parse(first);
      ids.insert(std::string(line.at("id").as_string()));
      ids.insert(std::string(line.at("response").at("request_id").as_string()));
    }
  }
  EXPECT_EQ(ids.size(), 2'000u);
}

TEST(OutputLineTest, LinesAreAppended) {
  std::string out = "before\n";
  append_output_line(out, kBatch, 0, "\"a\"", answered("{}"));
  append_output_line(out, kBatch, 1, "\"b\"", answered("{}"));
  EXPECT_TRUE(out.starts_with("before\n{"));
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 3);
}

TEST(OutputLineTest, ItsIndexIsReadBackOutOfItsId) {
  for (const std::uint32_t index : {0u, 9u, 0xABCDu, 0xFFFFFFFFu}) {
    std::string line;
    append_output_line(line, {random_id("batch_")}, index, "\"r\"", {});
    EXPECT_EQ(output_line_index(line), index);
  }
  for (const char* other : {"", "{}", R"({"id":"batch_req_)", R"({"id":"batch_req_1234567","custom_id":"r"})",
                            R"({"id":"batch_req_0000000g","custom_id":"r"})", R"({"id":"resp_00000000"})"}) {
    EXPECT_EQ(output_line_index(other), std::nullopt) << other;
  }
}

TEST(OutputLineTest, ItsPartsAreBytesOfIt) {
  LineOutcome outcome = answered(R"({"a":"},\"error\":null}"})");
  outcome.request_id = R"(req "1")";
  std::string line;
  append_output_line(line, kBatch, 7, R"("a \"b\" \\")", outcome);
  const auto parts = cut_output_line(line);
  ASSERT_TRUE(parts);
  EXPECT_EQ(parts->custom_id_json, R"("a \"b\" \\")");
  EXPECT_EQ(parts->status, 200);
  EXPECT_EQ(parts->request_id_json, R"("req \"1\"")");
  EXPECT_EQ(parts->body, outcome.body);

  LineOutcome none;
  none.error_code = "gone";
  none.error_message = "It is \"gone\".";
  line.clear();
  append_output_line(line, kBatch, 7, "\"a\"", none);
  const auto of_error = cut_output_line(line);
  ASSERT_TRUE(of_error);
  EXPECT_EQ(of_error->status, 0);
  EXPECT_EQ(of_error->error, R"({"code":"gone","message":"It is \"gone\"."})");

  for (std::size_t size = 0; size < line.size(); ++size) EXPECT_FALSE(cut_output_line(line.substr(0, size))) << size;
  EXPECT_FALSE(cut_output_line(R"({"id":"a","response":null})"));
}

}  // namespace
}  // namespace penstock
