#include "batch/lifecycle.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <set>

#include "batch/assemble.h"
#include "testing/process.h"

namespace penstock {
namespace {

using enum BatchStatus;

std::vector<std::string> ids(int from, int end) {
  std::vector<std::string> all;
  for (int i = from; i < end; ++i) all.push_back(fmt::format("r{}", i));
  return all;
}

// The custom_ids of a result file, in its order; none when there is no file.
std::vector<std::string> ids_in(const Disk& disk, const std::optional<FileId>& file) {
  std::vector<std::string> all;
  if (!file) return all;
  for (const std::string& line : split_lines(disk.read(*file))) {
    const auto parsed = boost::json::parse(line);
    EXPECT_EQ(parsed.as_object().size(), 4u) << line;
    all.emplace_back(parsed.at("custom_id").as_string());
  }
  return all;
}

// "code" of every line of an error file.
std::set<std::string> codes_in(const Disk& disk, const std::optional<FileId>& file) {
  std::set<std::string> codes;
  for (const std::string& line : split_lines(disk.read(file.value()))) {
    codes.emplace(boost::json::parse(line).at("error").at("code").as_string());
  }
  return codes;
}

TEST(LifecycleTest, ABatchRunsFromItsCreationToItsFiles) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine();
  engine.script = [](const std::string& body) {
    if (body == request_body(3)) return answered(400, R"({"error":{"message":"too long"}})");
    return answered(200, R"({"usage":{"prompt_tokens":3,"completion_tokens":2}})");
  };
  std::vector<BatchId> ended;
  process.lifecycle.on_end = [&](const BatchId& id) { ended.push_back(id); };
  process.start();
  const BatchId id = process.submit(input_lines(0, 10));
  ASSERT_TRUE(process.until([&] { return !ended.empty(); }));
  const Batch batch = process.batch(id);
  EXPECT_EQ(batch.status, completed);
  EXPECT_EQ(batch.counts, (Counts{10, 9, 1}));
  EXPECT_EQ(batch.usage, (Usage{27, 0, 18, 0}));
  EXPECT_EQ(batch.model, "m");
  EXPECT_TRUE(batch.in_progress_at && batch.finalizing_at && batch.completed_at);
  EXPECT_FALSE(batch.failed_at || batch.expired_at || batch.cancelled_at);
  EXPECT_EQ(ids_in(disk, batch.output_file_id),
            (std::vector<std::string>{"r0", "r1", "r2", "r4", "r5", "r6", "r7", "r8", "r9"}));
  EXPECT_EQ(ids_in(disk, batch.error_file_id), std::vector<std::string>{"r3"});
  EXPECT_EQ(ended, std::vector{id});
  EXPECT_EQ(disk.blobs->keys().size(), 4u) << "the plan stays as long as its file";
  EXPECT_EQ(process.write([](Store& store) { return store.all_file_ids(); }).size(), 3u);
}

TEST(LifecycleTest, TheOutputHasTheOrderOfTheInputWhateverTheOrderOfAnswers) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& slow = process.add_engine({.name = "slow", .slots = 3});
  process.add_engine({.name = "fast", .slots = 1});
  slow.hold();
  process.start();
  const BatchId id = process.submit(input_lines(0, 30));
  ASSERT_TRUE(process.until([&] { return process.remaining(id) == 1 && slow.in_flight() == 1; }));
  EXPECT_EQ(slow.bodies, std::vector{request_body(0)});
  slow.release();
  ASSERT_TRUE(process.until_ended(id));
  EXPECT_EQ(ids_in(disk, process.batch(id).output_file_id), ids(0, 30));
}

TEST(LifecycleTest, ABatchWithABadLineFailsAndRunsNothing) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine();
  process.start();
  const BatchId id = process.submit(input_line(0) + "bad\n" + input_line(0) + input_line(1, "x"));
  const BatchId unknown = process.submit(input_lines(0, 3, "unknown"));
  const BatchId empty = process.submit("\n");
  ASSERT_TRUE(process.until_ended(id) && process.until_ended(unknown) && process.until_ended(empty));
  const Batch batch = process.batch(id);
  EXPECT_EQ(batch.status, failed);
  EXPECT_EQ(batch.error_total, 3);
  ASSERT_EQ(batch.errors.size(), 3u);
  EXPECT_EQ(batch.errors[0].code, "invalid_json_line");
  EXPECT_EQ(batch.errors[0].line, 2);
  EXPECT_EQ(batch.errors[2].code, "mismatched_model");
  EXPECT_TRUE(batch.failed_at);
  EXPECT_FALSE(batch.in_progress_at || batch.output_file_id || batch.error_file_id);
  EXPECT_EQ(process.batch(unknown).errors.at(0).code, "model_not_found");
  EXPECT_EQ(process.batch(empty).errors.at(0).code, "empty_file");
  EXPECT_TRUE(engine.bodies.empty());
  EXPECT_EQ(disk.blobs->keys().size(), 3u) << "more than the three inputs";
}

TEST(LifecycleTest, WhenEveryLineFailsTheBatchIsCompletedWithoutAnOutputFile) {
  Disk disk;
  Process process(disk, saving_at_once());
  process.add_engine().script = [](const std::string&) { return answered(422, "{}"); };
  process.start();
  const BatchId id = process.submit(input_lines(0, 5));
  ASSERT_TRUE(process.until_ended(id));
  const Batch batch = process.batch(id);
  EXPECT_EQ(batch.status, completed);
  EXPECT_FALSE(batch.output_file_id);
  EXPECT_EQ(ids_in(disk, batch.error_file_id), ids(0, 5));
}

TEST(LifecycleTest, CancelKeepsWhatIsDoneAndTellsOfTheRest) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 4});
  engine.hold();
  process.start();
  const BatchId id = process.submit(input_lines(0, 1'000));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
  engine.release(4);
  ASSERT_TRUE(process.until([&] { return process.remaining(id) == 996 && engine.in_flight() == 4; }));
  process.cancel(id);
  process.settle();
  EXPECT_EQ(process.batch(id).status, cancelling);
  engine.release(2);  // those under way may end
  ASSERT_TRUE(process.until([&] { return process.remaining(id) == 994; }));
  process.advance(Millis{30'000});
  ASSERT_TRUE(process.until_ended(id));
  const Batch batch = process.batch(id);
  EXPECT_EQ(batch.status, cancelled);
  EXPECT_EQ(batch.counts, (Counts{1'000, 6, 994}));
  EXPECT_TRUE(batch.cancelling_at && batch.cancelled_at);
  EXPECT_FALSE(batch.completed_at || batch.finalizing_at);
  EXPECT_EQ(ids_in(disk, batch.output_file_id), ids(0, 6));
  EXPECT_EQ(ids_in(disk, batch.error_file_id), ids(6, 1'000));
  EXPECT_EQ(codes_in(disk, batch.error_file_id), std::set<std::string>{"batch_cancelled"});
  EXPECT_EQ(engine.bodies.size(), 8u);
  EXPECT_EQ(engine.cancelled, 2);
}

TEST(LifecycleTest, ABatchThatIsCancelledBeforeItsValidationEndsCancelled) {
  Disk disk;
  Process process(disk, saving_at_once());
  process.add_engine();
  const BatchId id = process.submit(input_lines(0, 5));
  process.write([&](Store& store) { store.request_cancel(kDefaultProject, id, process.clock.now()).value(); });
  process.start();
  ASSERT_TRUE(process.until_ended(id));
  const Batch batch = process.batch(id);
  EXPECT_EQ(batch.status, cancelled);
  EXPECT_EQ(batch.counts, (Counts{5, 0, 5}));
  EXPECT_EQ(ids_in(disk, batch.error_file_id), ids(0, 5));
}

TEST(LifecycleTest, ABadInputOfABatchThatIsCancelledBeforeItsValidationDoesNotMatter) {
  Disk disk;
  Process process(disk, saving_at_once());
  process.add_engine();
  const BatchId id = process.submit(input_lines(0, 5) + "bad\n");
  process.write([&](Store& store) { store.request_cancel(kDefaultProject, id, process.clock.now()).value(); });
  process.start();
  ASSERT_TRUE(process.until_ended(id));
  EXPECT_EQ(process.batch(id).status, cancelled);
  EXPECT_EQ(process.batch(id).counts, Counts{});
}

TEST(LifecycleTest, LinesUnderWayAreGivenUpWhenTheirBatchExpires) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 2});
  engine.hold();
  process.start();
  const BatchId id = process.submit(input_lines(0, 3), std::chrono::hours(1));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 2; }));
  process.advance(std::chrono::hours(1));
  ASSERT_TRUE(process.until_ended(id));
  EXPECT_EQ(process.batch(id).status, expired);
  EXPECT_EQ(engine.cancelled, 2);
  EXPECT_EQ(ids_in(disk, process.batch(id).error_file_id), ids(0, 3));
}

TEST(LifecycleTest, ABatchExpiresAtItsTimeEnginesOrNot) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 2});
  engine.hold();
  process.start();
  const BatchId id = process.submit(input_lines(0, 10), std::chrono::hours(1));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 2; }));
  engine.release(2);
  ASSERT_TRUE(process.until([&] { return process.remaining(id) == 8 && engine.in_flight() == 2; }));
  engine.set_ready(false);
  process.advance(std::chrono::hours(1) - Millis{1});
  EXPECT_EQ(process.batch(id).status, in_progress);
  process.advance(Millis{1});
  ASSERT_TRUE(process.until_ended(id));
  const Batch batch = process.batch(id);
  EXPECT_EQ(batch.status, expired);
  EXPECT_TRUE(batch.expired_at);
  EXPECT_EQ(batch.counts, (Counts{10, 2, 8}));
  EXPECT_EQ(ids_in(disk, batch.output_file_id), ids(0, 2));
  EXPECT_EQ(ids_in(disk, batch.error_file_id), ids(2, 10));
  EXPECT_EQ(codes_in(disk, batch.error_file_id), std::set<std::string>{"batch_expired"});
}

TEST(LifecycleTest, ABatchWhoseModelIsGoneEndsAfterTenMinutesWithWhatIsDone) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 1});
  engine.hold();
  process.start();
  const BatchId id = process.submit(input_lines(0, 5));
  const Moment expiry = process.clock.monotonic() + std::chrono::hours(24);
  for (int done = 1; done <= 2; ++done) {
    ASSERT_TRUE(process.until([&] { return engine.in_flight() == 1; }));
    engine.release(1);
    ASSERT_TRUE(process.until([&] { return process.remaining(id) == 5 - done; }));
  }
  const auto waits_until = [&](Moment then) { return [&process, then] { return process.clock.has_alarm_at(then); }; };
  const auto gives_up_in = [&](Millis time) { return waits_until(process.clock.monotonic() + time); };
  const Millis wait{600'000};
  engine.set_models({"n"});
  ASSERT_TRUE(process.until(gives_up_in(wait)));
  process.advance(wait - Millis{1});
  engine.set_models({"m"});  // it is back
  ASSERT_TRUE(process.until(waits_until(expiry)));
  engine.set_models({"n"});
  ASSERT_TRUE(process.until(gives_up_in(wait)));
  process.advance(wait - Millis{1});
  engine.set_ready(false);  // nobody knows with what it comes back
  ASSERT_TRUE(process.until(waits_until(expiry)));
  process.advance(std::chrono::hours(1));
  EXPECT_EQ(process.batch(id).status, in_progress);
  engine.set_ready(true);
  ASSERT_TRUE(process.until(gives_up_in(wait)));
  process.pause(id, true);  // until somebody has brought the model back
  ASSERT_TRUE(process.until(waits_until(expiry)));
  process.advance(wait);
  EXPECT_EQ(process.batch(id).status, in_progress);
  process.pause(id, false);
  ASSERT_TRUE(process.until(gives_up_in(wait)));
  process.advance(wait);
  ASSERT_TRUE(process.until_ended(id));
  const Batch batch = process.batch(id);
  EXPECT_EQ(batch.status, completed);
  EXPECT_EQ(ids_in(disk, batch.output_file_id), ids(0, 2));
  EXPECT_EQ(ids_in(disk, batch.error_file_id), ids(2, 5));
  EXPECT_EQ(codes_in(disk, batch.error_file_id), std::set<std::string>{"model_unavailable"});
}

TEST(LifecycleTest, ABatchWhoseEngineDoesNotStartEndsAfterTenMinutesAndTellsNothingOfIt) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine();
  engine.set_ready(false);
  engine.words = "it ended with exit code 1\n" + std::string(10'000, '.') + "out of memory";
  process.start();
  const BatchId id = process.submit(input_lines(0, 2));
  ASSERT_TRUE(process.until([&] { return process.batch(id).status == in_progress; }));
  const Millis wait{600'000};
  const auto gives_up_in = [&](Millis time) {
    return [&process, then = process.clock.monotonic() + time] { return process.clock.has_alarm_at(then); };
  };
  process.advance(wait);
  EXPECT_EQ(process.batch(id).status, in_progress) << "it may still be loading";
  engine.without_hope = true;
  engine.set_ready(false);
  ASSERT_TRUE(process.until(gives_up_in(wait)));
  process.advance(wait);
  ASSERT_TRUE(process.until_ended(id));
  const Batch batch = process.batch(id);
  EXPECT_EQ(batch.status, completed);
  EXPECT_EQ(codes_in(disk, batch.error_file_id), std::set<std::string>{"model_unavailable"});
  const std::string errors = disk.read(batch.error_file_id.value());
  EXPECT_EQ(errors.find("out of memory"), std::string::npos) << errors;
}

TEST(LifecycleTest, ABatchThatWasGivenUpBeforeARestartEndsWithWhatIsDone) {
  Disk disk;
  BatchId id;
  {
    Process process(disk, saving_at_once());
    process.start();
    id = process.submit(input_lines(0, 3));
    ASSERT_TRUE(process.until([&] { return process.batch(id).status == in_progress; }));
    process.write([&](Store& store) { store.advance(id, in_progress, finalizing, process.clock.now()); });
  }
  Process next(disk, saving_at_once());
  next.add_engine();
  next.start();
  ASSERT_TRUE(next.until_ended(id));
  EXPECT_EQ(next.batch(id).status, completed);
  EXPECT_EQ(next.batch(id).counts, (Counts{3, 0, 3}));
}

TEST(LifecycleTest, ABatchThatExpiredWhileNobodyRanExpiresAtTheStart) {
  Disk disk;
  BatchId id;
  {
    Process process(disk, saving_at_once());
    process.add_engine().set_ready(false);
    process.start();
    id = process.submit(input_lines(0, 3), std::chrono::hours(1));
    ASSERT_TRUE(process.until([&] { return process.batch(id).status == in_progress; }));
  }
  Process next(disk, saving_at_once());
  ScriptedEngine& engine = next.add_engine();
  engine.set_ready(false);
  next.clock.advance(std::chrono::hours(2));
  next.start();
  ASSERT_TRUE(next.until_ended(id));
  EXPECT_EQ(next.batch(id).status, expired);
  EXPECT_EQ(ids_in(disk, next.batch(id).error_file_id), ids(0, 3));
  EXPECT_TRUE(engine.bodies.empty());
}

TEST(LifecycleTest, ResumesAfterRestartWithoutSendingTwice) {
  Disk disk;
  Process killed(disk, saving_at_once());
  ScriptedEngine& before = killed.add_engine({.slots = 4});
  before.hold();
  killed.start();
  const BatchId id = killed.submit(input_lines(0, 700));  // two spans
  const BatchId second = killed.submit(input_lines(0, 5));
  for (int i = 0; i < 60; ++i) {
    ASSERT_TRUE(killed.until([&] { return before.in_flight() == 4; }));
    before.release(1);
    poll(killed.loop);
  }
  ASSERT_TRUE(killed.until([&] { return killed.remaining(id) == 640 && before.in_flight() == 4; }));

  Process next(disk, saving_at_once());  // `killed` does not run any more
  ScriptedEngine& after = next.add_engine({.slots = 4});
  next.start();
  ASSERT_TRUE(next.until_ended(id) && next.until_ended(second));
  const Batch batch = next.batch(id);
  EXPECT_EQ(batch.status, completed);
  EXPECT_EQ(batch.counts, (Counts{700, 700, 0}));
  EXPECT_EQ(ids_in(disk, batch.output_file_id), ids(0, 700));
  EXPECT_EQ(after.bodies.size(), 645u);
  EXPECT_EQ(after.bodies.front(), request_body(60));
  EXPECT_EQ(std::count(after.bodies.begin(), after.bodies.end(), request_body(59)), 0);
  const std::string output = disk.read(*batch.output_file_id);

  // Answers that come to the killed one all the same change nothing.
  before.release();
  killed.stop();
  EXPECT_EQ(next.batch(id).counts, (Counts{700, 700, 0}));
  EXPECT_TRUE(disk.read(*batch.output_file_id) == output);
}

TEST(LifecycleTest, EveryStatusGoesOnAfterARestart) {
  for (const BatchStatus status : {validating, in_progress, finalizing, cancelling}) {
    Disk disk;
    BatchId id;
    {
      Process killed(disk, saving_at_once());
      ScriptedEngine& engine = killed.add_engine();
      if (status == validating) {
        id = killed.submit(input_lines(0, 6));
      } else {
        id = killed.submit_running(input_lines(0, 6));
      }
      if (status == finalizing) {
        killed.start_dispatcher();
        ASSERT_TRUE(killed.until([&] { return killed.remaining(id) == 0; }));
        killed.write([&](Store& store) { store.advance(id, in_progress, finalizing, killed.clock.now()); });
      }
      if (status == cancelling) {
        killed.write([&](Store& store) { store.request_cancel(kDefaultProject, id, killed.clock.now()).value(); });
      }
      EXPECT_EQ(engine.bodies.size(), status == finalizing ? 6u : 0u);
    }
    Process next(disk, saving_at_once());
    ScriptedEngine& engine = next.add_engine();
    next.start();
    ASSERT_TRUE(next.until_ended(id)) << to_string(status);
    const Batch batch = next.batch(id);
    EXPECT_EQ(batch.status, status == cancelling ? cancelled : completed);
    EXPECT_EQ(ids_in(disk, status == cancelling ? batch.error_file_id : batch.output_file_id), ids(0, 6));
    EXPECT_EQ(engine.bodies.size(), status == validating || status == in_progress ? 6u : 0u) << to_string(status);
  }
}

TEST(LifecycleTest, AssemblingAgainAfterACrashBehindItWritesTheSameFiles) {
  Disk disk;
  Process process(disk, saving_at_once());
  process.add_engine();
  const BatchId id = process.submit_running(input_lines(0, 6));
  process.start_dispatcher();
  ASSERT_TRUE(process.until([&] { return process.remaining(id) == 0; }));
  // The files were written, and then the process was killed before the database knew.
  const auto writer = disk.blobs->create(output_file_id(id).value);
  writer->write("of the first time");
  writer->commit();
  run_task(process.loop, process.lifecycle.resume());
  ASSERT_TRUE(process.until_ended(id));
  EXPECT_EQ(process.batch(id).output_file_id, output_file_id(id));
  EXPECT_EQ(ids_in(disk, output_file_id(id)), ids(0, 6));
}

TEST(LifecycleTest, TwoBatchesRunInTheirOrderWithoutAGap) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 4});
  engine.hold();
  process.start();
  const BatchId first = process.submit(input_lines(0, 30));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
  const BatchId second = process.submit(input_lines(30, 60));
  ASSERT_TRUE(process.until([&] { return process.batch(second).status == in_progress; }));
  for (int left = 60; left > 0; --left) {
    ASSERT_TRUE(process.until([&] { return engine.in_flight() == std::min(4, left); })) << left;
    engine.release(1);
    poll(process.loop);
  }
  ASSERT_TRUE(process.until_ended(first) && process.until_ended(second));
  for (int i = 0; i < 60; ++i) EXPECT_EQ(engine.bodies.at(static_cast<std::size_t>(i)), request_body(i));
  EXPECT_EQ(ids_in(disk, process.batch(first).output_file_id), ids(0, 30));
  EXPECT_EQ(ids_in(disk, process.batch(second).output_file_id), ids(30, 60));
}

TEST(LifecycleTest, APausedBatchSendsNothingButWhatIsUnderWayAndGoesOnInItsOrder) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 4});
  engine.hold();
  process.start();
  const BatchId id = process.submit(input_lines(0, 600));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
  process.pause(id, true);
  engine.release(4);
  ASSERT_TRUE(process.until([&] { return process.batch(id).counts.completed == 4; }));
  const BatchId other = process.submit(input_lines(1'000, 1'003));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 3; }));
  EXPECT_EQ(engine.bodies.size(), 7u);
  engine.release();
  ASSERT_TRUE(process.until_ended(other));
  EXPECT_EQ(engine.bodies.size(), 7u);

  process.pause(id, false);
  ASSERT_TRUE(process.until_ended(id));
  EXPECT_EQ(ids_in(disk, process.batch(id).output_file_id), ids(0, 600));
  ASSERT_EQ(engine.bodies.size(), 603u);
  EXPECT_EQ(engine.bodies[7], request_body(4));
  EXPECT_EQ(engine.bodies[8], request_body(5));
}

TEST(LifecycleTest, APausedBatchExpiresAndIsCancelledLikeAnyOther) {
  for (const bool cancel : {false, true}) {
    Disk disk;
    Process process(disk, saving_at_once());
    ScriptedEngine& engine = process.add_engine({.slots = 4});
    engine.hold();
    process.start();
    const BatchId id = process.submit(input_lines(0, 20), std::chrono::hours(1));
    ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
    process.pause(id, true);
    engine.release();
    ASSERT_TRUE(process.until([&] { return process.batch(id).counts.completed == 4; }));
    if (cancel) {
      process.cancel(id);
    } else {
      process.clock.advance(std::chrono::hours(1));
    }
    ASSERT_TRUE(process.until_ended(id));
    EXPECT_EQ(process.batch(id).status, cancel ? cancelled : expired);
    EXPECT_EQ(ids_in(disk, process.batch(id).output_file_id), ids(0, 4));
    EXPECT_EQ(ids_in(disk, process.batch(id).error_file_id), ids(4, 20));
    EXPECT_EQ(engine.bodies.size(), 4u);
  }
}

TEST(LifecycleTest, ABatchWhoseLastLinesCameWhileItWasPausedIsCompleted) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 4});
  engine.hold();
  process.start();
  const BatchId id = process.submit(input_lines(0, 3));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 3; }));
  process.pause(id, true);
  engine.release();
  ASSERT_TRUE(process.until_ended(id));
  EXPECT_EQ(process.batch(id).status, completed);
}

TEST(LifecycleTest, ARetryRunsOnlyTheLinesWithoutAGoodAnswerAlsoAfterARestart) {
  Disk disk;
  Process killed(disk, saving_at_once());
  ScriptedEngine& before = killed.add_engine();
  before.script = [](const std::string& body) {
    if (body == request_body(3) || body == request_body(600)) return answered(400, R"({"error":{"message":"no"}})");
    return answered(200, R"({"usage":{"prompt_tokens":3,"completion_tokens":2}})");
  };
  killed.start();
  const BatchId old = killed.submit(input_lines(0, 700));
  ASSERT_TRUE(killed.until_ended(old));
  const BatchId retry = killed.write([&](Store& store) {
    Batch batch;
    batch.id = {random_id("batch_")};
    batch.created_at = killed.clock.now();
    const Batch made = store.retry_batch(old, batch, {0, 0}).value();
    // As it is when a process is killed while it takes the answers over.
    store.begin_retry(made.id, 700);
    ResultGroup group;
    group.span.batch = made.id;
    group.entries = {{0, 2, false}};
    group.lines = "x\n";
    store.save_results(group);
    return made.id;
  });

  Process next(disk, saving_at_once());
  ScriptedEngine& after = next.add_engine();
  next.start();
  ASSERT_TRUE(next.until_ended(retry));
  EXPECT_EQ(after.bodies, (std::vector{request_body(3), request_body(600)}));
  const Batch batch = next.batch(retry);
  EXPECT_EQ(batch.status, completed);
  EXPECT_EQ(batch.counts, (Counts{700, 700, 0}));
  EXPECT_EQ(batch.usage, (Usage{2'100, 0, 1'400, 0}));
  EXPECT_EQ(ids_in(disk, batch.output_file_id), ids(0, 700));
}

TEST(LifecycleTest, AFileThatWasCheckedAsItCameIsNotReadAgain) {
  Disk disk;
  Process process(disk, saving_at_once());
  process.add_engine();
  const auto submit = [&](CheckedInput checked) {
    const BatchId id = process.submit(input_lines(0, 3));
    process.write([&](Store& store) {
      File file = store.find_file(kDefaultProject, store.find_batch(id)->input_file_id, process.clock.now()).value();
      file.id.value += "-checked";
      file.checked = checked;
      store.insert_file(file);
      Batch batch = store.find_batch(id).value();
      batch.id.value += "-checked";
      batch.input_file_id = file.id;
      store.insert_batch(batch, {0, 0}).value();
    });
    return BatchId{id.value + "-checked"};
  };
  // There is no blob of these, so that reading it would fail.
  const BatchId good = submit({"/v1/chat/completions", "m", 3});
  const BatchId other_endpoint = submit({"/v1/embeddings", "m", 3});
  const BatchId other_model = submit({"/v1/chat/completions", "unknown", 3});
  const BatchId too_long = submit({"/v1/chat/completions", "m", 50'001});
  process.start();
  ASSERT_TRUE(process.until([&] { return process.batch(good).status == in_progress; }));
  EXPECT_EQ(process.batch(good).counts.total, 3);
  EXPECT_EQ(process.batch(good).model, "m");
  for (const BatchId& id : {other_endpoint, other_model, too_long}) EXPECT_EQ(process.batch(id).status, validating);
}

TEST(LifecycleTest, ABatchLeavesThePlanThatAnotherRunsBy) {
  constexpr int kLines = 1'200;
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine();
  engine.hold();
  const BatchId first = process.submit(input_lines(0, kLines));
  Batch second = process.batch(first);
  second.id.value += "-second";
  const FileId input = second.input_file_id;
  // The first one was begun by a version that orders otherwise.
  Validated checked = validate(*disk.blobs->open(input.value), {.endpoint = second.endpoint, .models = {}});
  std::reverse(checked.entries.begin(), checked.entries.end());
  write_plan(*disk.blobs, input, checked.entries);
  process.write([&](Store& store) {
    store.start_batch(first, checked.model, kLines);
    store.insert_batch(second, {0, 0}).value();
  });
  const std::string plan = disk.read({plan_key(input)});
  process.start();
  ASSERT_TRUE(process.until([&] { return process.batch(second.id).status == in_progress; }));
  EXPECT_TRUE(disk.read({plan_key(input)}) == plan) << "it was made anew";
  engine.release();
  ASSERT_TRUE(process.until_ended(first) && process.until_ended(second.id));
  for (const BatchId& id : {first, second.id}) {
    EXPECT_EQ(process.batch(id).counts, (Counts{kLines, kLines, 0}));
    EXPECT_EQ(ids_in(disk, process.batch(id).output_file_id), ids(0, kLines));
  }
}

TEST(LifecycleTest, AServerWithoutAWorkerValidatesAndWaits) {
  Disk disk;
  Process process(disk, saving_at_once());
  Lifecycle alone(process.loop, process.clock, disk.db, *disk.blobs, process.engines, nullptr,
                  {.process = process.name, .scratch_directory = disk.folder.path()});
  const BatchId id = process.submit_running(input_lines(0, 2));
  process.write([&](Store& store) { store.request_cancel(kDefaultProject, id, process.clock.now()).value(); });
  alone.start(id);
  ASSERT_TRUE(process.until_ended(id));
  EXPECT_EQ(process.batch(id).status, cancelled);
  run_task(process.loop, alone.stop());
}

// How many lines result groups hold.
std::size_t saved_lines(Process& process, const BatchId& id) {
  std::size_t lines = 0;
  process.write([&](Store& store) {
    store.for_each_group(id, [&](const ResultGroup& group) { lines += group.entries.size(); });
  });
  return lines;
}

TEST(LifecycleTest, SavedResultsAreKeptForAnHourAfterTheEndOfTheirBatch) {
  Disk disk;
  Process process(disk, saving_at_once());
  process.add_engine();
  process.start();
  const BatchId first = process.submit(input_lines(0, 500));
  ASSERT_TRUE(process.until_ended(first));
  process.settle();
  process.advance(std::chrono::minutes(20));
  const BatchId second = process.submit(input_lines(0, 5));
  ASSERT_TRUE(process.until_ended(second));
  process.settle();
  process.advance(std::chrono::minutes(40) - Millis{1});
  process.settle();
  EXPECT_EQ(saved_lines(process, first), 500u);
  process.advance(Millis{1});
  ASSERT_TRUE(process.until([&] { return saved_lines(process, first) == 0; }));
  EXPECT_EQ(saved_lines(process, second), 5u);
  process.settle();
  process.advance(std::chrono::minutes(20));
  ASSERT_TRUE(process.until([&] { return saved_lines(process, second) == 0; }));
}

TEST(LifecycleTest, SavedResultsWhoseTimeIsOverAreRemovedAtTheStart) {
  Disk disk;
  BatchId id;
  {
    Process process(disk, saving_at_once());
    process.add_engine();
    process.start();
    id = process.submit(input_lines(0, 5));
    ASSERT_TRUE(process.until_ended(id));
  }
  Process next(disk, saving_at_once());
  next.add_engine();
  next.clock.advance(kResultsKept);
  next.start();
  ASSERT_TRUE(next.until([&] { return saved_lines(next, id) == 0; }));
}

TEST(LifecycleTest, ARetryThatIsCancelledBeforeItStartsHasTheOldAnswersOnce) {
  Disk disk;
  Process process(disk, saving_at_once());
  process.add_engine().script = [](const std::string& body) {
    if (body != request_body(3)) return answered(400, "{}");
    return answered(200, R"({"usage":{"prompt_tokens":3,"completion_tokens":2}})");
  };
  process.start();
  const BatchId old = process.submit(input_lines(0, 10));
  ASSERT_TRUE(process.until_ended(old));
  Batch retry;
  retry.id = {random_id("batch_")};
  retry.driver = process.name;
  retry.created_at = process.clock.now();
  process.write([&](Store& store) {
    store.retry_batch(old, retry, {0, 0}).value();
    // As it is when a process was killed behind the last answer that is taken over.
    store.begin_retry(retry.id, 10);
    ResultGroup group;
    group.span.batch = retry.id;
    group.entries = {{3, 2, false}};
    group.lines = "x\n";
    group.usage = {3, 0, 2, 0};
    store.save_results(group);
  });
  process.lifecycle.start(retry.id);
  process.cancel(retry.id);
  ASSERT_TRUE(process.until_ended(retry.id));
  const Batch cancelled_retry = process.batch(retry.id);
  EXPECT_EQ(cancelled_retry.counts, (Counts{10, 1, 9}));
  EXPECT_EQ(cancelled_retry.usage, (Usage{3, 0, 2, 0}));
  EXPECT_EQ(ids_in(disk, cancelled_retry.output_file_id), ids(3, 4));
  EXPECT_EQ(saved_lines(process, retry.id), 1u);
}

TEST(LifecycleTest, Fault31ResultsWhoseCommitWasNotConfirmedAreCountedOnce) {
  FaultyDisk faulty;
  faulty.connection.loses_reply_of = "INSERT INTO result_groups";
  Process process(faulty.disk, saving_at_once());
  process.add_engine();
  process.start();
  const BatchId id = process.submit(input_lines(0, 3));
  ASSERT_TRUE(process.until([&] {
    process.clock.advance(Millis{1'000});
    return is_terminal(process.batch(id).status);
  }));
  EXPECT_EQ(process.batch(id).counts, (Counts{3, 3, 0}));
  EXPECT_EQ(process.batch(id).usage, (Usage{9, 0, 6, 0}));
}

TEST(LifecycleTest, AnInputThatIsGoneIsTriedAgainAndHarmsNoOtherBatch) {
  Disk disk;
  Process process(disk, saving_at_once());
  process.add_engine();
  const BatchId broken = process.submit(input_lines(0, 3));
  const FileId input = process.batch(broken).input_file_id;
  const std::string bytes = disk.read(input);
  disk.blobs->remove(input.value);
  process.start();
  const BatchId good = process.submit(input_lines(0, 3));
  ASSERT_TRUE(process.until_ended(good));
  EXPECT_EQ(process.batch(broken).status, validating);
  const auto writer = disk.blobs->create(input.value);
  writer->write(bytes);
  writer->commit();
  ASSERT_TRUE(process.until([&] {
    process.clock.advance(Millis{1'000});
    return is_terminal(process.batch(broken).status);
  }));
  EXPECT_EQ(process.batch(broken).status, completed);
}

}  // namespace
}  // namespace penstock
