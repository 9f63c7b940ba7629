#include <gtest/gtest.h>

#include <set>

#include "api/handlers.h"
#include "testing/process.h"

namespace penstock {
namespace {

Task<> read_to_end(ByteSource& source, std::string& text, std::string& end) {
  try {
    while (true) {
      const std::string_view piece = co_await source.next();
      if (piece.empty()) break;
      text += piece;
    }
    end = "ended";
  } catch (const std::exception& e) {
    end = e.what();
  }
}

std::string id_of(const std::string& line) {
  constexpr std::string_view kBefore = R"({"id":")";
  return line.substr(kBefore.size(), line.find('"', kBefore.size()) - kBefore.size());
}

std::string join(const std::vector<std::string>& lines, std::size_t from = 0) {
  std::string text;
  for (std::size_t i = from; i < lines.size(); ++i) text += lines[i] + "\n";
  return text;
}

class FollowTest : public testing::Test {
 protected:
  ~FollowTest() override {
    followers.cancel();
    run_task(process.loop, followers.join());
  }

  // What a client reads of a response, and how it ended.
  struct Follower {
    std::unique_ptr<Request> request = std::make_unique<Request>();
    Response response = {};
    std::string text = {}, end = {};
  };
  Follower& ask(Task<Response> (*handler)(Context&), const BatchId& id, const std::string& query = "") {
    Follower& made = asked.emplace_back();
    made.request->query = query;
    made.request->client_gone = [this] { return client_gone; };
    Context context{services, *made.request, id.value};
    made.response = run_task(process.loop, handler(context));
    if (made.response.stream) {
      followers.spawn("follower", read_to_end(*made.response.stream, made.text, made.end));
    }
    return made;
  }
  // The lines of a stream that waits for nothing.
  std::string results(const BatchId& id, const std::string& query = "") {
    Follower& follower = ask(follow_results, id, query);
    EXPECT_EQ(follower.response.status, 200) << follower.response.body;
    EXPECT_TRUE(process.until([&] { return !follower.end.empty(); }));
    EXPECT_EQ(follower.end, "ended");
    return follower.text;
  }
  // The answer is to refuse it.
  std::string refusal(const BatchId& id, const std::string& query) {
    const Follower& follower = ask(follow_results, id, query);
    EXPECT_EQ(follower.response.status, 400) << query;
    return follower.response.body;
  }
  template <class Condition>
  [[nodiscard]] bool passes_until(Millis step, Condition condition) {
    return process.until([&] {
      process.advance(step);
      return condition();
    });
  }
  void answer_some(const BatchId& id, int count) {
    const std::int64_t left = process.remaining(id) - count;
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(process.until([&] { return engine.in_flight() > 0; }));
      engine.release(1);
      ASSERT_TRUE(process.until([&] { return process.remaining(id) == left + count - i - 1; }));
    }
  }
  // Six lines of a thousand were answered when it was cancelled; the fourth of them failed.
  BatchId cancelled_batch() {
    engine.script = [](const std::string& body) { return answered(body == request_body(3) ? 400 : 200, "{\"a\":1}"); };
    engine.hold();
    process.start();
    const BatchId id = process.submit(input_lines(0, 1'000));
    EXPECT_TRUE(process.until([&] { return process.remaining(id) == 1'000; }));
    answer_some(id, 6);
    process.cancel(id);
    EXPECT_TRUE(passes_until(Millis{1'000}, [&] { return is_terminal(process.batch(id).status); }));
    return id;
  }
  std::string files(const BatchId& id) {
    const Batch batch = process.batch(id);
    return disk.read(*batch.output_file_id) + disk.read(*batch.error_file_id);
  }

  Disk disk;
  Process process{disk, saving_at_once()};
  ScriptedEngine& engine = process.add_engine({.slots = 4});
  asio::thread_pool io{1};
  Expiry expiry{process.loop, process.clock, disk.db, *disk.blobs, io};
  Deliveries deliveries{process.loop, process.clock, disk.db, {.process = "test"}};
  const AllowList webhook_allow;
  Authenticator authenticator{process.loop, process.clock, disk.db, false};
  Services services{.clock = process.clock,
                    .db = disk.db,
                    .blobs = *disk.blobs,
                    .engines = process.engines,
                    .estimator = process.estimator,
                    .lifecycle = process.lifecycle,
                    .expiry = expiry,
                    .deliveries = deliveries,
                    .webhook_allow = webhook_allow,
                    .authenticator = authenticator,
                    .loop = process.loop,
                    .io = io,
                    .limits = {},
                    .process = "test",
                    .has_worker = true,
                    .started_at = process.clock.now()};
  bool client_gone = false;
  std::list<Follower> asked;
  TaskGroup followers{process.loop};
};

TEST_F(FollowTest, EachLineComesOnceAsItIsSavedAndTheStreamEndsWithTheBatch) {
  engine.hold();
  process.start();
  const BatchId id = process.submit(input_lines(0, 10));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
  EXPECT_EQ(results(id), "");
  const Follower& follower = ask(follow_results, id, "stream=true");
  answer_some(id, 3);
  ASSERT_TRUE(passes_until(Millis{250}, [&] { return split_lines(follower.text).size() == 3; }));
  const std::string first = results(id);
  EXPECT_EQ(first, follower.text);
  EXPECT_EQ(follower.end, "");
  engine.release();
  ASSERT_TRUE(passes_until(Millis{250}, [&] { return !follower.end.empty(); }));
  EXPECT_EQ(follower.end, "ended");
  EXPECT_TRUE(follower.text.starts_with(first));
  auto lines = split_lines(follower.text);
  std::sort(lines.begin(), lines.end());  // ids of one batch sort by request
  EXPECT_EQ(join(lines), disk.read(process.batch(id).output_file_id.value()));
  EXPECT_EQ(results(id), follower.text);
}

TEST_F(FollowTest, LinesThatWereNeverRunComeLast) {
  const BatchId id = cancelled_batch();
  auto lines = split_lines(results(id));
  EXPECT_EQ(lines.size(), 1'000u);
  EXPECT_NE(lines.at(5).find("\"error\":null"), std::string::npos);
  EXPECT_NE(lines.at(6).find("batch_cancelled"), std::string::npos);
  auto wanted = split_lines(files(id));
  std::sort(lines.begin(), lines.end());
  std::sort(wanted.begin(), wanted.end());
  EXPECT_EQ(lines, wanted);
}

TEST_F(FollowTest, GoesOnBehindEveryLine) {
  const BatchId id = cancelled_batch();
  const auto lines = split_lines(results(id));
  for (const std::size_t i : {0, 1, 2, 3, 4, 5, 6, 7, 500, 998, 999}) {
    EXPECT_EQ(results(id, "after=" + id_of(lines.at(i))), join(lines, i + 1)) << i;
  }
  EXPECT_EQ(results(id, "stream=true&after=" + id_of(lines.at(2))), join(lines, 3));
}

TEST_F(FollowTest, ALineThatWasNotSavedIsNoPlaceToGoOnFrom) {
  engine.hold();
  process.start();
  const BatchId id = process.submit(input_lines(0, 10));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
  answer_some(id, 1);
  const std::string saved = id_of(results(id));
  const std::string other = "batch_req_" + std::string(32, '0') + saved.substr(saved.size() - 8);
  const std::string not_yet = saved.substr(0, saved.size() - 1) + "9";
  for (const std::string& after : {other, not_yet, std::string("x"), std::string(), saved + "0", id.value}) {
    EXPECT_NE(refusal(id, "after=" + after).find(R"("param":"after")"), std::string::npos) << after;
  }
  EXPECT_NE(refusal(id, "stream=yes").find(R"("param":"stream")"), std::string::npos);
  EXPECT_EQ(ask(follow_results, {"batch_unknown"}).response.status, 404);
}

TEST_F(FollowTest, LinesThatHadNoModelAnyMoreAreToldToo) {
  engine.hold();
  process.start();
  const BatchId id = process.submit(input_lines(0, 10));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
  engine.set_models({"another"});
  engine.release();
  ASSERT_TRUE(passes_until(Millis{60'000}, [&] { return is_terminal(process.batch(id).status); }));
  const std::vector<std::string> lines = split_lines(results(id));
  EXPECT_EQ(std::set(lines.begin(), lines.end()).size(), 10u);
  EXPECT_NE(lines.back().find("model_unavailable"), std::string::npos);
  EXPECT_EQ(results(id, "after=" + id_of(lines[6])), join(lines, 7));
}

TEST_F(FollowTest, AnHourAfterTheEndTheFilesAreWhatIsLeft) {
  const BatchId id = cancelled_batch();
  const std::string last = id_of(split_lines(results(id)).back());
  process.settle();
  process.advance(kResultsKept);
  EXPECT_EQ(results(id), files(id));
  const std::string refused = refusal(id, "after=" + last);
  EXPECT_NE(refused.find(R"("code":"results_expired")"), std::string::npos) << refused;
  EXPECT_NE(refused.find(process.batch(id).output_file_id->value), std::string::npos) << refused;
  EXPECT_NE(refused.find(process.batch(id).error_file_id->value), std::string::npos) << refused;
  disk.blobs->remove(process.batch(id).output_file_id->value);
  EXPECT_EQ(results(id), disk.read(*process.batch(id).error_file_id));
}

TEST_F(FollowTest, WithOneOfItsFilesTheSavedLinesOfABatchAreGone) {
  const BatchId id = cancelled_batch();
  const std::string last = id_of(split_lines(results(id)).back());
  const Batch batch = process.batch(id);
  process.write(
      [&](Store& store) { store.delete_file(kDefaultProject, *batch.output_file_id, process.clock.now()).value(); });
  disk.blobs->remove(batch.output_file_id->value);
  EXPECT_EQ(results(id), disk.read(*batch.error_file_id));
  EXPECT_NE(refusal(id, "after=" + last).find(R"("code":"results_expired")"), std::string::npos);
  process.lifecycle.forget_deleted();
  EXPECT_TRUE(process.until([&] {
    std::size_t groups = 0;
    process.write([&](Store& store) { store.for_each_group(id, [&](const ResultGroup&) { ++groups; }); });
    return groups == 0;
  }));
}

TEST_F(FollowTest, AStreamWhoseLinesAreRemovedBreaksOffAndDoesNotEnd) {
  engine.hold();
  process.start();
  const BatchId id = process.submit(input_lines(0, 10));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
  const Follower& follower = ask(follow_results, id, "stream=true");
  engine.release();
  ASSERT_TRUE(process.until_ended(id));
  process.settle();
  process.advance(kResultsKept);
  ASSERT_TRUE(process.until([&] { return !follower.end.empty(); }));
  EXPECT_NE(follower.end, "ended");
}

TEST_F(FollowTest, ABatchThatFailedValidationHasNoLines) {
  process.start();
  const BatchId id = process.submit("bad\n");
  ASSERT_TRUE(process.until_ended(id));
  EXPECT_EQ(results(id, "stream=true"), "");
}

TEST_F(FollowTest, EventsSayWhatTheBatchIsAtFirstWhenItChangesAndAtItsEnd) {
  engine.hold();
  process.start();
  const BatchId id = process.submit(input_lines(0, 10));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
  const Follower& follower = ask(follow_events, id);
  ASSERT_TRUE(process.until([&] { return !follower.text.empty(); }));
  EXPECT_TRUE(follower.text.starts_with("event: batch\ndata: {\"id\":\"" + id.value)) << follower.text;
  EXPECT_TRUE(follower.text.ends_with("}\n\n")) << follower.text;
  EXPECT_NE(follower.text.find(R"("completed":0,)"), std::string::npos) << follower.text;
  answer_some(id, 3);
  const std::size_t size = follower.text.size();
  process.advance(Millis{999});
  process.settle();
  EXPECT_EQ(follower.text.size(), size);
  process.advance(Millis{1});
  ASSERT_TRUE(process.until([&] { return follower.text.size() > size; }));
  EXPECT_NE(follower.text.find(R"("completed":3,)"), std::string::npos) << follower.text;
  engine.release();
  ASSERT_TRUE(passes_until(Millis{1'000}, [&] { return !follower.end.empty(); }));
  EXPECT_EQ(follower.end, "ended");
  Request request;
  Context context{services, request, id.value};
  const std::string last = run_task(process.loop, get_batch(context)).body;
  EXPECT_TRUE(follower.text.ends_with("event: batch\ndata: " + last + "\n\n")) << follower.text;
}

TEST_F(FollowTest, ACommentShowsThatTheConnectionLives) {
  const BatchId id = process.submit_running(input_lines(0, 2));
  process.write([&](Store& store) { store.request_cancel(kDefaultProject, id, process.clock.now()).value(); });
  const Follower& follower = ask(follow_events, id);
  ASSERT_TRUE(process.until([&] { return !follower.text.empty(); }));
  const std::string first = follower.text;
  for (int second = 1; second < 15; ++second) {
    process.settle();
    process.advance(Millis{1'000});
  }
  process.settle();
  EXPECT_EQ(follower.text, first);
  ASSERT_TRUE(passes_until(Millis{1'000}, [&] { return follower.text != first; }));
  EXPECT_EQ(follower.text, first + ": keep-alive\n\n");
}

TEST_F(FollowTest, AFollowerThatHasGoneIsNotServedAnyMore) {
  const BatchId id = process.submit_running(input_lines(0, 2));
  const Follower& results = ask(follow_results, id, "stream=true");
  const Follower& events = ask(follow_events, id);
  ASSERT_TRUE(process.until([&] { return !events.text.empty(); }));
  EXPECT_EQ(followers.size(), 2u);
  client_gone = true;
  ASSERT_TRUE(passes_until(Millis{250}, [&] { return followers.size() == 0; }));
  EXPECT_NE(results.end, "ended");
  EXPECT_NE(events.end, "ended");
}

}  // namespace
}  // namespace penstock
