#include "net/trace.h"

#include <gtest/gtest.h>

#include "testing/http_fixture.h"

namespace penstock {
namespace {

constexpr const char* kTrace = "0af7651916cd43dd8448eb211c80319c";
constexpr const char* kSpan = "b7ad6b7169203331";

TEST(TraceparentTest, IsReadAndWritten) {
  const std::string text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const auto context = parse_traceparent(text);
  ASSERT_TRUE(context);
  EXPECT_EQ(*context, (TraceContext{kTrace, kSpan, true}));
  EXPECT_EQ(to_string(*context), text);
  EXPECT_FALSE(parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")->sampled);
  EXPECT_TRUE(parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0b")->sampled);
}

TEST(TraceparentTest, OfALaterVersionIsReadAsThisOne) {
  EXPECT_TRUE(parse_traceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"));
  EXPECT_TRUE(parse_traceparent("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
}

TEST(TraceparentTest, IsNoneWhenMalformed) {
  for (const char* text : {
           "",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",  // of this version
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-012",
           "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
           "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
           "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
           "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
           "00-00000000000000000000000000000000-b7ad6b7169203331-01",
           "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
           "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
       }) {
    EXPECT_FALSE(parse_traceparent(text)) << text;
  }
}

TEST(TraceIdTest, IsTheSameForTheSameWords) {
  EXPECT_EQ(trace_id_of("batch_1"), trace_id_of("batch_1"));
  EXPECT_NE(trace_id_of("batch_1"), trace_id_of("batch_2"));
  EXPECT_EQ(trace_id_of("batch_1").size(), 32U);
  EXPECT_EQ(span_id_of("batch_1").size(), 16U);
  EXPECT_NE(trace_id_of("batch_1").substr(0, 16), span_id_of("batch_1"));
  EXPECT_NE(random_span_id(), random_span_id());
}

// What a collector is sent, and says to that. Its server ends after the test's members.
struct Collected {
  int status = 200;
  std::vector<std::string> bodies;
};

Task<Response> take(std::shared_ptr<Collected> collected, Request& request) {
  std::string body = co_await read_all(*request.body, 64 << 20);
  collected->bodies.push_back(std::move(body));
  Response response;
  response.status = collected->status;
  co_return response;
}

class TracerTest : public Http {
 protected:
  TracerTest() {
    serve([collected = collected](Request& request) { return take(collected, request); });
    tracer.emplace(loop, clock,
                   Tracer::Options{.endpoint = *Endpoint::parse(url()), .process = "process_1", .lines = 0.5});
    tracer->start();
  }
  ~TracerTest() override { run_task(loop, tracer->stop(Millis{0})); }

  void add(int spans) {
    for (int i = 0; i < spans; ++i) {
      tracer->add({.context = {kTrace, kSpan, true}, .parent_id = "", .name = "a span"});
    }
  }

  const std::shared_ptr<Collected> collected = std::make_shared<Collected>();
  std::vector<std::string>& bodies = collected->bodies;
  int& status = collected->status;
  std::optional<Tracer> tracer;
};

TEST_F(TracerTest, WaitsASecondForMoreAndSends512AtATime) {
  add(3);
  pump();
  EXPECT_TRUE(bodies.empty());
  clock.advance(Millis{1'000});
  pump();
  ASSERT_EQ(bodies.size(), 1U);
  EXPECT_EQ(count(bodies[0], "a span"), 3U);
  EXPECT_EQ(tracer->totals().exported, 3);

  add(600);
  pump();
  ASSERT_EQ(bodies.size(), 2U);
  EXPECT_EQ(count(bodies[1], "a span"), 512U);
  clock.advance(Millis{1'000});
  pump();
  EXPECT_EQ(tracer->totals().exported, 603);
}

TEST_F(TracerTest, TriesAgainWithGrowingPausesAndGivesUpAfterTwoMinutes) {
  status = 503;
  add(1);
  pump();
  clock.advance(Millis{1'000});
  pump();
  std::vector<int> seconds;
  for (int second = 1; second <= 130; ++second) {
    const std::size_t before = bodies.size();
    clock.advance(Millis{1'000});
    pump();
    if (bodies.size() > before) seconds.push_back(second);
  }
  EXPECT_EQ(seconds, (std::vector{1, 3, 7, 15, 31, 61, 91}));
  EXPECT_EQ(tracer->totals().dropped, 1);
  EXPECT_EQ(tracer->totals().exported, 0);
}

TEST_F(TracerTest, DropsWhatIsRefusedAndWhatIsTooMuch) {
  status = 400;
  add(1);
  pump();
  clock.advance(Millis{1'000});
  pump();
  EXPECT_EQ(tracer->totals().dropped, 1);
  add(static_cast<int>(Tracer::kQueueMax) + 5);
  EXPECT_EQ(tracer->totals().dropped, 1 + 5);
}

TEST_F(TracerTest, SendsNothingOfWhatIsNotSampled) {
  tracer->add({.context = {kTrace, kSpan, false}, .parent_id = "", .name = "a span"});
  pump();
  clock.advance(Millis{1'000});
  pump();
  EXPECT_TRUE(bodies.empty());
}

TEST_F(TracerTest, SendsWhatIsLeftAtTheEnd) {
  add(2);
  run_task(loop, tracer->stop(Millis{1'000}));
  EXPECT_EQ(tracer->totals().exported, 2);
}

TEST_F(TracerTest, DrawsLinesByBatchAndIndexAlone) {
  int drawn = 0;
  for (std::uint32_t i = 0; i < 1000; ++i) drawn += tracer->traces_line("batch_1", i);
  EXPECT_GT(drawn, 420);
  EXPECT_LT(drawn, 580);
  Tracer other(loop, clock, {.endpoint = *Endpoint::parse(url()), .process = "process_2", .lines = 0.5});
  bool same_in_another_batch = true;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(other.traces_line("batch_1", i), tracer->traces_line("batch_1", i));
    same_in_another_batch &= other.traces_line("batch_2", i) == tracer->traces_line("batch_1", i);
  }
  EXPECT_FALSE(same_in_another_batch);
}

}  // namespace
}  // namespace penstock
