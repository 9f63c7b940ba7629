#include "delivery/sink.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/log.h"
#include "net/http_server.h"
#include "sql/connection.h"
#include "testing/database.h"
#include "testing/fake_clock.h"
#include "testing/fake_s3.h"
#include "testing/memory_blobs.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

using Kind = Outcome::Kind;

std::string line(int i, const std::string& content = "\"yes\"") {
  return fmt::format(R"({{"id":"batch_req_{}","custom_id":"c{}","response":{{"body":{{"answer":{}}}}}}})"
                     "\n",
                     i, i, content);
}

// Results, and what an attempt says of its way.
class SinkTest : public testing::Test, protected DeliveryProgress {
 protected:
  void have(const std::string& output, const std::string& errors = "") {
    const auto blob = [&](const std::string& key, const std::string& text) -> std::unique_ptr<BlobReader> {
      if (text.empty()) return nullptr;
      disk_[key] = std::make_shared<const std::string>(text);
      return MemoryBlobs(disk_).open(key);
    };
    results = std::make_shared<const Results>(blob("output", output), blob("errors", errors));
  }
  Outcome bring(Sink& sink) {
    delivery.attempts += 1;
    const SinkAttempt attempt{.delivery = delivery, .results = results, .progress = *this};
    return run_task(loop, sink.bring(attempt));
  }
  Task<bool> note(std::int64_t position) override {
    delivery.position = position;
    noted.push_back(position);
    co_return ours;
  }
  static std::string lines(int from, int end) {
    std::string all;
    for (int i = from; i < end; ++i) all += line(i);
    return all;
  }

  asio::io_context loop;
  FakeClock clock{loop};
  asio::thread_pool pool{2};
  Delivery delivery = [] {
    Delivery d;
    d.id = {"wh_1"};
    d.batch_id = {"batch_7"};
    d.kind = DeliveryKind::sink;
    d.event = "batch.expired";
    return d;
  }();
  std::vector<std::int64_t> noted;
  std::shared_ptr<const Results> results;
  bool ours = true;

 private:
  MemoryDisk disk_;
};

class HttpSinkTest : public SinkTest {
 protected:
  struct Asked {
    std::string what, body, key, type, token;
  };
  HttpSinkTest() {
    server.listen();
    serving.spawn("receiver", server.run());
    options.url = CallUrl::parse(fmt::format("http://127.0.0.1:{}/in", server.port())).value();
    options.headers = {{"Authorization", "Token abc"}};
    options.lines_per_request = 2;
  }
  ~HttpSinkTest() override {
    run_task(loop, server.stop(Millis{0}));
    serving.cancel();
    run_task(loop, serving.join());
  }

  Outcome bring() {
    const auto sink = make_http_sink(loop, clock, pool, options);
    return SinkTest::bring(*sink);
  }
  Task<Response> handle(Request& request) {
    const auto header = [&](const char* name) { return std::string(request.headers.find(name).value_or("none")); };
    Asked one{.what = request.method + " " + request.path,
              .body = {},
              .key = header("idempotency-key"),
              .type = header("content-type"),
              .token = header("authorization")};
    one.body = co_await read_all(*request.body, 64 << 20);
    asked.push_back(std::move(one));
    Response response;
    response.status = answers_left-- > 0 ? 204 : 503;
    if (response.status == 503) response.headers.add("retry-after", "7");
    co_return response;
  }

  HttpSinkOptions options;
  std::vector<Asked> asked;
  int answers_left = 100;

 private:
  HttpServer server{loop, clock, {}, [this](Request& request) { return handle(request); }};
  TaskGroup serving{loop};
};

TEST_F(HttpSinkTest, GroupsOfLinesAreSentAsTheyAreEachWithAKeyOfItsOwn) {
  have(lines(0, 3), line(9));
  EXPECT_EQ(bring().kind, Kind::delivered);
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_EQ(asked[0].what, "POST /in");
  EXPECT_EQ(asked[0].body, lines(0, 2));
  EXPECT_EQ(asked[0].key, "wh_1-0");
  EXPECT_EQ(asked[0].type, "application/x-ndjson");
  EXPECT_EQ(asked[0].token, "Token abc");
  EXPECT_EQ(asked[1].body, line(2) + line(9));
  EXPECT_EQ(asked[1].key, fmt::format("wh_1-{}", lines(0, 2).size()));
  EXPECT_EQ(noted.back(), static_cast<std::int64_t>((lines(0, 3) + line(9)).size()));
}

TEST_F(HttpSinkTest, AnAttemptGoesOnBehindWhatWasTaken) {
  have(lines(0, 6));
  answers_left = 1;
  const Outcome outcome = bring();
  EXPECT_EQ(outcome.kind, Kind::again);
  EXPECT_EQ(outcome.why, "it answered with status 503");
  EXPECT_EQ(outcome.retry_after, std::chrono::seconds(7));
  answers_left = 100;
  EXPECT_EQ(bring().kind, Kind::delivered);
  ASSERT_EQ(asked.size(), 4U);
  EXPECT_EQ(asked[1].body, asked[2].body);
  EXPECT_EQ(asked[1].key, asked[2].key);
  EXPECT_EQ(asked[3].body, lines(4, 6));
}

TEST_F(HttpSinkTest, WithFieldsAGroupIsAnArrayOfObjects) {
  have(lines(0, 2));
  options.fields = {{"data", "", {{"text", "$.response.body.answer"}, {"id", "$.custom_id"}}}};
  EXPECT_EQ(bring().kind, Kind::delivered);
  ASSERT_EQ(asked.size(), 1U);
  EXPECT_EQ(asked[0].body, R"([{"data":{"text":"yes","id":"c0"}},{"data":{"text":"yes","id":"c1"}}])");
  EXPECT_EQ(asked[0].type, "application/json");
}

TEST_F(HttpSinkTest, FilesGoToPathsOfTheirOwnAndOneThatWasTakenIsNotSentAgain) {
  const std::string output = line(0, "\"" + std::string(3 << 20, 'x') + "\"");
  have(output, line(1));
  options.files = true;
  answers_left = 1;
  EXPECT_EQ(bring().kind, Kind::again);
  answers_left = 100;
  EXPECT_EQ(bring().kind, Kind::delivered);
  ASSERT_EQ(asked.size(), 3U);
  EXPECT_EQ(asked[0].what, "PUT /in/batch_7/output.jsonl");
  EXPECT_TRUE(asked[0].body == output);
  EXPECT_EQ(asked[1].what, "PUT /in/batch_7/errors.jsonl");
  EXPECT_EQ(asked[2].what, "PUT /in/batch_7/errors.jsonl");
  EXPECT_EQ(asked[2].body, line(1));
}

TEST_F(HttpSinkTest, AnAddressThatIsNotAdmittedIsNotCalled) {
  have(lines(0, 2));
  options.admit = [](const asio::ip::address&) { return false; };
  const Outcome outcome = bring();
  EXPECT_EQ(outcome.kind, Kind::again);
  EXPECT_EQ(outcome.why, "it could not be reached");
  EXPECT_TRUE(asked.empty());
}

TEST_F(HttpSinkTest, WhoHasLostTheDeliverySendsNoMore) {
  have(lines(0, 6));
  ours = false;
  EXPECT_EQ(bring().kind, Kind::again);
  EXPECT_EQ(asked.size(), 1U);
}

TEST_F(HttpSinkTest, WithoutResultsNothingIsSent) {
  have("");
  EXPECT_EQ(bring().kind, Kind::delivered);
  EXPECT_TRUE(asked.empty());
}

class S3SinkTest : public SinkTest {
 protected:
  S3SinkTest() {
    const S3Options options = s3.options();
    ::setenv("AWS_ENDPOINT_URL_S3", options.endpoint.c_str(), 1);
    ::setenv("AWS_ACCESS_KEY_ID", "id", 1);
    ::setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
  }
  ~S3SinkTest() override {
    for (const char* name : {"AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}) ::unsetenv(name);
  }

  FakeS3 s3;
  TempDir folder;
};

TEST_F(S3SinkTest, FilesBecomeObjectsInAFolderOfTheBatch) {
  const std::string output = line(0, "\"" + std::string(9 << 20, 'x') + "\"");  // more than one part
  have(output, line(1));
  const auto sink = make_s3_sink(pool, {.url = "s3://bucket/a/b"}, folder.path());
  EXPECT_EQ(s3.asked().size(), 0U);
  EXPECT_EQ(bring(*sink).kind, Kind::delivered);
  auto objects = s3.objects();
  EXPECT_EQ(objects.size(), 2U);
  EXPECT_TRUE(objects["a/b/batch_7/output.jsonl"] == output);
  EXPECT_EQ(objects["a/b/batch_7/errors.jsonl"], line(1));
  EXPECT_EQ(noted, (std::vector<std::int64_t>{static_cast<std::int64_t>(output.size()),
                                              static_cast<std::int64_t>((output + line(1)).size())}));
}

TEST_F(S3SinkTest, AFileThatWasTakenIsNotWrittenAgain) {
  have(line(0), line(1));
  delivery.position = static_cast<std::int64_t>(line(0).size());
  const auto sink = make_s3_sink(pool, {.url = "s3://bucket"}, folder.path());
  EXPECT_EQ(bring(*sink).kind, Kind::delivered);
  EXPECT_EQ(s3.count("PUT"), 1U);
  EXPECT_TRUE(s3.objects().contains("batch_7/errors.jsonl"));
}

class CommandSinkTest : public SinkTest {
 protected:
  CommandSinkTest() : before_(::signal(SIGPIPE, SIG_IGN)) {}
  ~CommandSinkTest() override { ::signal(SIGPIPE, before_); }

  Outcome bring(const std::string& script) {
    const auto sink = make_command_sink(loop, clock, pool, {.command = {"sh", "-c", script}}, folder / "log");
    const Outcome outcome = SinkTest::bring(*sink);
    run_task(loop, sink->stop());
    return outcome;
  }
  std::string file(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(folder / name, std::ios::binary).rdbuf();
    return text.str();
  }

  TempDir folder;

 private:
  void (*before_)(int);
};

TEST_F(CommandSinkTest, AProgramReadsAllLinesAndIsToldWhoseTheyAre) {
  const std::string output = lines(0, 20'000);
  have(output, line(1));
  const Outcome outcome = bring("echo $PENSTOCK_BATCH_ID $PENSTOCK_BATCH_STATUS $PENSTOCK_DELIVERY_ID >" +
                                (folder / "told") + "; exec cat >" + (folder / "got"));
  EXPECT_EQ(outcome.kind, Kind::delivered) << outcome.why;
  EXPECT_TRUE(file("got") == output + line(1));
  EXPECT_EQ(file("told"), "batch_7 expired wh_1\n");
}

TEST_F(CommandSinkTest, OneThatFailsIsTriedAgainAndWhatItPrintsIsInTheLog) {
  have(lines(0, 20'000));
  const Outcome outcome = bring("cat >/dev/null; echo no room; echo at all >&2; exit 3");
  EXPECT_EQ(outcome.kind, Kind::again);
  EXPECT_EQ(outcome.why, "the command ended with exit code 3");
  EXPECT_EQ(file("log"), "no room\nat all\n");
}

TEST_F(CommandSinkTest, OneThatWantsNoMoreHasTakenItsLines) {
  have(lines(0, 20'000));
  EXPECT_EQ(bring("exit 0").kind, Kind::delivered);
}

TEST_F(CommandSinkTest, OneThatDoesNotEndIsEnded) {
  have(lines(0, 2));
  const auto sink = make_command_sink(loop, clock, pool, {.command = {"sh", "-c", "exec sleep 1000"}}, folder / "log");
  TaskGroup tasks(loop);
  std::optional<Outcome> outcome;
  std::exception_ptr failure;
  const SinkAttempt attempt{.delivery = delivery, .results = results, .progress = *this};
  tasks.spawn("bring", keep_result(sink->bring(attempt), outcome, failure));
  ASSERT_TRUE(run_until(loop, [&] { return clock.has_alarms(); }));
  clock.advance(std::chrono::seconds(601));
  ASSERT_TRUE(run_until(loop, [&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->kind, Kind::again);
  EXPECT_EQ(outcome->why, "the command did not end within 600 s");
  run_task(loop, sink->stop());
}

class PostgresSinkTest : public SinkTest {
 protected:
  void SetUp() override {
    if (servers().empty()) GTEST_SKIP() << "PENSTOCK_TEST_POSTGRES is not set";
    database.emplace(Driver::postgres);
    options.url = database->address();
    connection = sql::open_postgres(options.url);
    options.table = "results";
    options.columns = {{"custom_id", "$.custom_id"}, {"odd \"name\"", "$.response.body.answer"}};
    options.key = {"custom_id"};
  }
  void table(const std::string& type) {
    connection->execute_script("CREATE TABLE results (custom_id TEXT PRIMARY KEY, \"odd \"\"name\"\"\" " + type +
                               ", kept TEXT DEFAULT 'kept')");
  }
  // The rows as PostgreSQL prints them.
  std::vector<std::string> rows() {
    std::vector<std::string> all;
    connection->execute("SELECT results::text FROM results ORDER BY custom_id", {},
                        [&](const sql::Row& row) { all.emplace_back(row.text(0)); });
    return all;
  }
  Outcome bring() {
    const auto sink = make_postgres_sink(pool, options);
    return SinkTest::bring(*sink);
  }
  using Rows = std::vector<std::string>;

  std::optional<TestDatabase> database;
  std::unique_ptr<sql::Connection> connection;
  PostgresSinkOptions options;
};

TEST_F(PostgresSinkTest, EachLineIsARowAlsoWhenItIsBroughtTwice) {
  table("TEXT");
  have(line(1) + line(2, "null") + line(3, "[1, {\"a\":2}]") + line(4, "5") + line(5, R"("a\u0000b \\u0000\"'")"));
  EXPECT_EQ(bring().kind, Kind::delivered);
  const Rows expected{"(c1,yes,kept)", "(c2,,kept)", R"((c3,"[1, {""a"":2}]",kept))", "(c4,5,kept)",
                      "(c5,\"a\uFFFDb \\\\u0000\"\"'\",kept)"};
  EXPECT_EQ(rows(), expected);
  delivery.position = 0;
  EXPECT_EQ(bring().kind, Kind::delivered);
  EXPECT_EQ(rows(), expected);
}

TEST_F(PostgresSinkTest, WhatIsBroughtLaterTakesTheRowsPlace) {
  table("INTEGER");
  have(line(1, "1") + line(2, "2"));
  EXPECT_EQ(bring().kind, Kind::delivered);
  have(line(2, "\"3\"") + line(3, "4"));
  delivery.position = 0;
  EXPECT_EQ(bring().kind, Kind::delivered);
  EXPECT_EQ(rows(), (Rows{"(c1,1,kept)", "(c2,3,kept)", "(c3,4,kept)"}));
}

TEST_F(PostgresSinkTest, WhoHasLostTheDeliveryWritesNoMoreAndTheNextOneGoesOnBehindIt) {
  table("TEXT");
  std::string first;
  for (int i = 100; i < 600; ++i) first += line(i);
  have(first + line(1));
  ours = false;
  EXPECT_EQ(bring().kind, Kind::again);
  EXPECT_EQ(rows().size(), 500U);
  connection->execute("DELETE FROM results", {});
  ours = true;
  EXPECT_EQ(bring().kind, Kind::delivered);
  EXPECT_EQ(rows(), Rows{"(c1,yes,kept)"});
}

TEST_F(PostgresSinkTest, AGroupIsTakenWholeOrNotAtAllAndTheFailureTellsNoValue) {
  table("INTEGER");
  std::string good;
  for (int i = 100; i < 600; ++i) good += line(i, "1");
  have(good + line(1, "2") + line(2, "\"secret\""));
  const auto sink = make_postgres_sink(pool, options);
  try {
    SinkTest::bring(*sink);
    FAIL();
  } catch (const sql::Failure& e) {
    EXPECT_EQ(std::string(e.what()), "a value does not fit its column");
  }
  EXPECT_EQ(rows().size(), 500U);
  EXPECT_EQ(noted, std::vector<std::int64_t>{static_cast<std::int64_t>(good.size())});
}

}  // namespace
}  // namespace penstock
