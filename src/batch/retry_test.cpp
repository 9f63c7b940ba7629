#include "batch/retry.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "testing/scripted_engine.h"

namespace penstock {
namespace {

using Kind = Answer::Kind;
using retry::judge;
using retry::Options;
using retry::Past;
using retry::Verdict;

constexpr const char* kGood = R"({"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}})";

Answer patience(int status, std::optional<Millis> retry_after) {
  Answer answer = answered(status, "{}");
  answer.retry_after = retry_after;
  return answer;
}

enum class End { again, patience, done, failed };
std::ostream& operator<<(std::ostream& out, End end) {
  return out << static_cast<int>(end);
}

End end_of(const Verdict& verdict) {
  if (verdict.outcome) return verdict.outcome->failed ? End::failed : End::done;
  return verdict.counts ? End::again : End::patience;
}

TEST(RetryTest, EachAnswerHasItsVerdict) {
  struct Row {
    const char* fault;
    Answer answer;
    End first, last;  // at the first attempt, at the fifth
    int status = 0;   // of the outcome
    const char* code = "";
    Millis hold{0};
    Sign sign = Sign::none;
  };
  const Row table[] = {
      {"a good answer", answered(200, kGood), End::done, End::done, 200, "", {}, Sign::good},
      {"13 refused", no_answer(Kind::unreachable), End::patience, End::patience},
      {"13 reset before headers", no_answer(Kind::died), End::patience, End::patience},
      {"14 closed in the middle", no_answer(Kind::broken), End::again, End::failed, 0, "invalid_engine_response"},
      {"14 not JSON", answered(200, "<html>"), End::again, End::failed, 0, "invalid_engine_response"},
      {"14 half a body", answered(200, R"({"choices":[)"), End::again, End::failed, 0, "invalid_engine_response"},
      {"14 no object", answered(200, "[]"), End::again, End::failed, 0, "invalid_engine_response"},
      {"21 not UTF-8", answered(200, "{\"a\":\"\xFF\"}"), End::again, End::failed, 0, "invalid_engine_response"},
      {"21 NaN", answered(200, "{\"a\":NaN}"), End::again, End::failed, 0, "invalid_engine_response"},
      {"15 hangs", no_answer(Kind::timeout), End::again, End::failed, 0, "request_timeout"},
      {"16 overloaded", patience(429, {}), End::patience, End::patience, 0, "", Millis{1'000}, Sign::overloaded},
      {"16 overloaded, for long", patience(429, Millis{120'000}), End::patience, End::patience, 0, "", Millis{120'000},
       Sign::overloaded},
      {"16 overloaded, says 0", patience(429, Millis{0}), End::patience, End::patience, 0, "", Millis{100},
       Sign::overloaded},
      {"16 unavailable", patience(503, {}), End::patience, End::patience, 0, "", Millis{1'000}},
      {"16 unavailable, says how long", patience(503, Millis{7'000}), End::patience, End::patience, 0, "",
       Millis{7'000}, Sign::overloaded},
      {"17 failed", answered(500, R"({"error":{}})"), End::again, End::failed, 500},
      {"17 bad gateway", answered(502, "<html>"), End::again, End::failed, 502},
      {"17 gateway timeout", answered(504, ""), End::again, End::failed, 504},
      {"408", answered(408, "{}"), End::again, End::failed, 408},
      {"18 refused", answered(400, R"({"error":{"message":"no"}})"), End::failed, End::failed, 400, "", {}, Sign::good},
      {"18 not found", answered(404, "{}"), End::failed, End::failed, 404, "", {}, Sign::good},
      {"18 too large", answered(413, "{}"), End::failed, End::failed, 413, "", {}, Sign::good},
      {"18 unprocessable", answered(422, "{}"), End::failed, End::failed, 422, "", {}, Sign::good},
      {"19 who are you", answered(401, "{}"), End::patience, End::patience, 0, "", Millis{2'000}, Sign::denied},
      {"19 forbidden", answered(403, "{}"), End::patience, End::patience, 0, "", Millis{2'000}, Sign::denied},
      {"20 endless", no_answer(Kind::too_large), End::failed, End::failed, 0, "response_too_large"},
      {"no answer at all", answered(204, ""), End::again, End::failed, 204},
      {"a redirect", answered(302, ""), End::again, End::failed, 302},
  };
  AnswerParser parser;
  for (const Row& row : table) {
    for (const bool last : {false, true}) {
      const Verdict verdict = judge(Answer(row.answer), {last ? 5 : 1, 3}, 0.5, Options{}, parser);
      const End end = end_of(verdict);
      EXPECT_EQ(end, last ? row.last : row.first) << row.fault << (last ? ", at last" : "");
      EXPECT_EQ(verdict.hold, row.hold) << row.fault;
      EXPECT_EQ(verdict.sign, row.sign) << row.fault;
      EXPECT_EQ(verdict.pause, end == End::again ? Millis{500} : Millis{0}) << row.fault;
      EXPECT_EQ(verdict.counts, end != End::patience) << row.fault;
      if (!verdict.outcome) continue;
      EXPECT_EQ(verdict.outcome->status, row.status) << row.fault;
      EXPECT_EQ(verdict.outcome->error_code, row.code) << row.fault;
      // Either a response, whose body is an object, or words.
      EXPECT_EQ(verdict.outcome->error_message.empty(), verdict.outcome->status != 0) << row.fault;
      if (verdict.outcome->status != 0) {
        EXPECT_TRUE(parser.check(verdict.outcome->body)) << row.fault;
      }
    }
  }
}

TEST(RetryTest, ALineWhoseEngineDiesOnceMoreAfterItWasSuspectedHasCrashedIt) {
  AnswerParser parser;
  for (int deaths = 1; deaths <= 3; ++deaths) {
    EXPECT_FALSE(judge(no_answer(Kind::died), {5, deaths}, 0.5, Options{}, parser).outcome);
    EXPECT_EQ(retry::is_suspect(deaths, Options{}), deaths == 3);
  }
  const auto outcome = judge(no_answer(Kind::died), {1, 4}, 0.5, Options{}, parser).outcome;
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(outcome->failed);
  EXPECT_EQ(outcome->error_code, "engine_crashed");
  EXPECT_NE(outcome->error_message.find("4 times"), std::string::npos);
}

TEST(RetryTest, AGoodAnswerKeepsItsBytesItsIdAndItsTokens) {
  AnswerParser parser;
  Answer answer = answered(200, kGood);
  answer.request_id = "req-1";
  const Verdict verdict = judge(std::move(answer), Past{}, 0.5, Options{}, parser);
  ASSERT_TRUE(verdict.outcome);
  EXPECT_EQ(verdict.outcome->body, kGood);
  EXPECT_EQ(verdict.outcome->request_id, "req-1");
  EXPECT_EQ(verdict.outcome->usage, (Usage{5, 0, 7, 0}));
}

TEST(RetryTest, ARefusalKeepsTheEnginesBodyAndOneWithoutJsonGetsAnEnvelope) {
  AnswerParser parser;
  const std::string body = R"({"error": {"message":"too long"}})";
  EXPECT_EQ(judge(answered(400, body), Past{}, 0.5, Options{}, parser).outcome->body, body);
  for (const std::string& bad : {std::string("<html>"), std::string(), std::string("\xFF\0", 2), std::string("[1]")}) {
    const auto outcome = judge(answered(404, bad), Past{}, 0.5, Options{}, parser).outcome;
    ASSERT_TRUE(outcome);
    const auto envelope = boost::json::parse(outcome->body);
    EXPECT_NE(std::string(envelope.at("error").at("message").as_string()).find("404"), std::string::npos);
  }
}

TEST(RetryTest, PausesDoubleUpToTheirLimitWithFullJitter) {
  AnswerParser parser;
  Options options;
  options.attempts_max = 100;
  const auto pause = [&](int attempts, double random) {
    return judge(answered(500, "{}"), {attempts, 0}, random, options, parser).pause.count();
  };
  EXPECT_EQ(pause(1, 0.999), 999);
  EXPECT_EQ(pause(2, 0.999), 1'998);
  EXPECT_EQ(pause(3, 0.5), 2'000);
  EXPECT_EQ(pause(6, 0.5), 16'000);
  EXPECT_EQ(pause(7, 0.5), 30'000);  // of 60 s at most
  EXPECT_EQ(pause(99, 0.5), 30'000);
  EXPECT_EQ(pause(5, 0.0), 0);
}

}  // namespace
}  // namespace penstock
