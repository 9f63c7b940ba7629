#include "batch/dispatcher.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <set>

#include "testing/process.h"

namespace penstock {
namespace {

using Kind = Answer::Kind;

std::vector<std::string> bodies(int from, int end) {
  std::vector<std::string> all;
  for (int i = from; i < end; ++i) all.push_back(request_body(i));
  return all;
}

std::vector<std::string> sorted(std::vector<std::string> items) {
  std::sort(items.begin(), items.end());
  return items;
}

// What result groups hold, by request index.
std::map<std::uint32_t, std::string> saved_lines(Process& process, const BatchId& id) {
  std::map<std::uint32_t, std::string> lines;
  run_task(process.loop, process.disk.db.read([&](Store& store) {
    store.for_each_group(id, [&](const ResultGroup& group) {
      std::size_t at = 0;
      for (const ResultEntry& entry : group.entries) {
        EXPECT_FALSE(lines.contains(entry.index)) << "saved twice";
        lines[entry.index] = group.lines.substr(at, entry.length);
        at += entry.length;
      }
    });
  }));
  return lines;
}

TEST(DispatcherTest, SendsTheBodiesUnchangedAndSavesEachAnswerOnce) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine();
  process.start_dispatcher();
  const BatchId id = process.submit_running(input_lines(0, 50));
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(process.done[0], id);
  EXPECT_EQ(engine.bodies, bodies(0, 50));
  EXPECT_EQ(engine.last_path, "/v1/chat/completions");
  const auto lines = saved_lines(process, id);
  ASSERT_EQ(lines.size(), 50u);
  for (const auto& [index, line] : lines) {
    const auto parsed = boost::json::parse(line);
    EXPECT_EQ(parsed.at("custom_id").as_string(), fmt::format("r{}", index));
    EXPECT_EQ(parsed.at("response").at("body").at("echo"), boost::json::parse(request_body(static_cast<int>(index))));
  }
  const Batch batch = process.batch(id);
  EXPECT_EQ(batch.counts, (Counts{50, 50, 0}));
  EXPECT_EQ(batch.usage, (Usage{150, 0, 100, 0}));
}

TEST(DispatcherTest, KeepsAllSlotsFullWhileLinesRemainAndNeverSendsMore) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 5});
  engine.hold();
  process.start_dispatcher();
  process.submit_running(input_lines(0, 300));
  for (int left = 300; left > 0; --left) {
    const int wanted = std::min(5, left);
    ASSERT_TRUE(process.until([&] { return engine.in_flight() == wanted; })) << left;
    process.settle();
    // The lines for freed slots are there already: they go without waiting for disk or database.
    engine.release(1);
    poll(process.loop);
    ASSERT_EQ(engine.in_flight(), std::min(5, left - 1)) << left;
  }
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(engine.bodies.size(), 300u);
  EXPECT_EQ(engine.most_in_flight, 5);
}

TEST(DispatcherTest, SendsNothingWhileTheDiskIsLowAndGoesOnByItself) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 2});
  engine.hold();
  process.start_dispatcher();
  process.submit_running(input_lines(0, 10));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 2; }));
  process.dispatcher.set_disk_low(true);
  engine.release(2);
  process.settle();
  EXPECT_EQ(engine.bodies.size(), 2u);
  const BatchId other = process.submit_running(input_lines(10, 20));
  process.settle();
  EXPECT_EQ(engine.bodies.size(), 2u);
  EXPECT_EQ(process.batch(other).in_progress_at, std::nullopt);
  engine.release();
  process.dispatcher.set_disk_low(false);
  ASSERT_TRUE(process.until([&] { return process.done.size() == 2; }));
  EXPECT_EQ(engine.bodies, bodies(0, 20));
}

TEST(DispatcherTest, ABatchOfManySpansIsSentOnceInItsOrder) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 64});
  process.start_dispatcher();
  const int lines = 6 * static_cast<int>(kSpanLines) + 7;  // more than one claim brings
  const BatchId id = process.submit_running(input_lines(0, lines));
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(engine.bodies, bodies(0, lines));
  EXPECT_EQ(process.batch(id).counts, (Counts{lines, lines, 0}));
}

TEST(DispatcherTest, EachEngineGetsNeighboursOfThePlan) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& a = process.add_engine({.name = "a", .slots = 2});
  ScriptedEngine& b = process.add_engine({.name = "b", .slots = 2});
  a.hold();
  b.hold();
  process.start_dispatcher();
  process.submit_running(input_lines(0, 100));
  ASSERT_TRUE(process.until([&] { return a.in_flight() + b.in_flight() == 4; }));
  EXPECT_EQ(a.bodies, bodies(0, 2));
  EXPECT_EQ(b.bodies, bodies(50, 52));
  a.release();
  ASSERT_TRUE(process.until([&] { return a.bodies.size() == 98; }));  // what b has under way stays its own
  b.release();
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(b.bodies, bodies(50, 52));
}

TEST(DispatcherTest, TheLongestOfTheLastLinesGoesFirst) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 2});
  engine.hold();
  process.start_dispatcher();
  std::string input;
  for (const int limit : {5, 5, 5, 5, 5, 40}) {
    input += fmt::format(R"({{"custom_id":"{}","method":"POST","url":"/v1/chat/completions","body":)"
                         R"({{"model":"m","messages":[],"max_tokens":{}}}}})"
                         "\n",
                         input.size(), limit);
  }
  process.submit_running(input);
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 2; }));
  engine.release(1);
  process.settle();  // three lines wait for two slots, and the dispatcher has seen that none is to come
  engine.release(1);
  ASSERT_TRUE(process.until([&] { return engine.bodies.size() == 4; }));
  EXPECT_EQ(engine.bodies[2].find("40"), std::string::npos);
  EXPECT_NE(engine.bodies[3].find("40"), std::string::npos);
  engine.release();
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
}

TEST(DispatcherTest, MeasuresLinesWhileTheyAreUnderWay) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 1});
  engine.hold();
  process.start_dispatcher();
  for (const std::size_t batches : {1u, 2u}) {
    process.submit_running(input_lines(0, 3));
    for (int line = 0; line < 3; ++line) {
      ASSERT_TRUE(process.until([&] { return engine.in_flight() == 1; }));
      process.clock.advance(Millis{2'000});
      engine.release(1);
      poll(process.loop);
    }
    ASSERT_TRUE(process.until([&] { return process.done.size() == batches; }));
    process.advance(Millis{3'600'000});  // idle
  }
  const Pace pace = process.estimator.pace("m");
  EXPECT_NEAR(pace.seconds / pace.lines, 2, 1e-9);
  EXPECT_NEAR(pace.slots(), 1, 1e-9);
  EXPECT_NEAR(pace.prompt / pace.lines, 3, 1e-9);
  EXPECT_NEAR(pace.answer / pace.lines, 2, 1e-9);
  EXPECT_NEAR(pace.bytes / pace.lines, static_cast<double>(input_line(0).size() - 1), 1e-9);
}

TEST(DispatcherTest, LinesThatAreLargeAreReadWhole) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 2});
  engine.script = [](const std::string&) { return answered(200, "{}"); };
  process.start_dispatcher();
  std::string input;
  std::vector<std::string> expected;
  for (int i = 0; i < 12; ++i) {
    expected.push_back(
        fmt::format(R"({{"model":"m","messages":["{}{}"]}})", i, std::string(i % 3 == 0 ? 1'500'000 : 400'000, 'x')));
    input +=
        fmt::format("{{\"custom_id\":\"r{}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{}}}\n{}", i,
                    expected.back(), std::string(i % 2 == 0 ? 10'000 : 0, '\n'));
  }
  process.submit_running(input);
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_TRUE(engine.bodies == expected);
}

TEST(DispatcherTest, TwoBatchesRunOneAfterTheOtherWithoutAGap) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 4});
  engine.hold();
  process.start_dispatcher();
  const BatchId first = process.submit_running(input_lines(0, 30));
  const BatchId second = process.submit_running(input_lines(30, 60));
  for (int left = 60; left > 0; --left) {
    ASSERT_TRUE(process.until([&] { return engine.in_flight() == std::min(4, left); })) << left;
    engine.release(1);
    poll(process.loop);
  }
  ASSERT_TRUE(process.until([&] { return process.done.size() == 2; }));
  EXPECT_EQ(engine.bodies, bodies(0, 60));
  EXPECT_EQ(std::set(process.done.begin(), process.done.end()), (std::set{first, second}));
}

TEST(DispatcherTest, ABatchForAModelThatNobodyServesKeepsNobodyWaiting) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine();
  process.start_dispatcher();
  const BatchId other = process.submit_running(input_lines(0, 5, "other"));
  const BatchId id = process.submit_running(input_lines(5, 10));
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(process.done[0], id);
  EXPECT_EQ(engine.bodies, bodies(5, 10));

  engine.set_models({"m", "other"});
  ASSERT_TRUE(process.until([&] { return process.done.size() == 2; }));
  EXPECT_EQ(process.done[1], other);
}

TEST(DispatcherTest, AnEngineThatIsDownSpendsNoAttempt) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 1});
  engine.script = [](const std::string&) { return no_answer(Kind::unreachable); };
  process.start_dispatcher();
  const BatchId id = process.submit_running(input_lines(0, 2));
  for (std::size_t times = 1; times <= 12; ++times) {  // more often than a line has attempts
    ASSERT_TRUE(process.until([&] { return engine.bodies.size() == times && engine.in_flight() == 0; }));
    poll(process.loop);
    EXPECT_EQ(engine.bodies.size(), times) << "sent to an engine that is down";
    if (times < 12) engine.set_ready(true);
  }
  // All attempts are left: four may fail.
  std::map<std::string, int> asked;
  engine.script = [&](const std::string& body) { return answered(++asked[body] <= 4 ? 500 : 200, "{}"); };
  engine.set_ready(true);
  ASSERT_TRUE(process.until([&] {
    process.clock.advance(Millis{1'000});
    return process.done.size() == 1;
  }));
  EXPECT_EQ(process.batch(id).counts, (Counts{2, 2, 0}));
}

TEST(DispatcherTest, LinesThatKillTheirEngineEachTimeAreTriedAloneAndEndAndTheOthersAreAnswered) {
  for (const int killers : {1, 12}) {  // with many of them, others are there at three deaths too
    Disk disk;
    Process process(disk, saving_at_once());
    ScriptedEngine& engine = process.add_engine({.slots = 8});
    std::map<std::string, std::vector<int>> deaths;  // of each killer: how many lines were with the engine
    for (int i = 0; i < killers; ++i) deaths[request_body(i)];
    engine.script = [&](const std::string& body) {
      const auto killer = deaths.find(body);
      if (killer == deaths.end()) return answered(200, "{}");
      killer->second.push_back(engine.in_flight());
      return no_answer(Kind::died);
    };
    engine.hold();
    process.start_dispatcher();
    const BatchId id = process.submit_running(input_lines(0, 40));
    ASSERT_TRUE(process.until([&] { return engine.in_flight() == 8; }));
    ASSERT_TRUE(process.until([&] {
      poll(process.loop);
      if (!engine.ready()) engine.set_ready(true);
      engine.release(1);
      return process.done.size() == 1;
    }));
    EXPECT_EQ(process.batch(id).counts, (Counts{40, 40 - killers, killers}));
    const auto lines = saved_lines(process, id);
    for (int i = 0; i < killers; ++i) {
      const auto& with_it = deaths[request_body(i)];
      ASSERT_FALSE(with_it.empty());
      EXPECT_LE(with_it.size(), 4u);
      EXPECT_EQ(with_it.back(), 1);
      EXPECT_EQ(boost::json::parse(lines.at(i)).at("error").at("code").as_string(), "engine_crashed");
    }
    if (killers == 1) {
      EXPECT_EQ(deaths[request_body(0)].size(), 4u);
      EXPECT_EQ(deaths[request_body(0)].front(), 8);
    }
  }
}

TEST(DispatcherTest, ASuspectIsNotSentWhenItsBatchWasPausedOrDrainedWhileItWaited) {
  for (const bool pausing : {true, false}) {
    Disk disk;
    Process process(disk, saving_at_once());
    ScriptedEngine& engine = process.add_engine({.slots = 2});
    int deaths = 0;
    engine.script = [&](const std::string& body) {
      if (body == request_body(0) && deaths < 3) {
        ++deaths;
        return no_answer(Kind::died);
      }
      return answered(200, "{}");
    };
    process.start_dispatcher();
    const BatchId killer = process.submit_running(input_lines(0, 1));
    ASSERT_TRUE(process.until([&] { return deaths == 1; }));
    engine.set_ready(true);
    ASSERT_TRUE(process.until([&] { return deaths == 2; }));
    engine.hold();
    process.submit_running(input_lines(1, 10));
    engine.set_ready(true);
    ASSERT_TRUE(process.until([&] { return engine.in_flight() == 1; }));
    engine.release(1);
    ASSERT_TRUE(process.until([&] { return deaths == 3; }));
    // Its batch is paused until a line of the other is under way.
    process.write([&](Store& store) { store.set_paused(kDefaultProject, killer, process.clock.now()).value(); });
    process.dispatcher.set_paused(killer, true);
    engine.set_ready(true);
    ASSERT_TRUE(process.until([&] { return engine.in_flight() == 1; }));
    ASSERT_EQ(engine.bodies.back(), request_body(1));
    process.write([&](Store& store) { store.set_paused(kDefaultProject, killer, std::nullopt).value(); });
    process.dispatcher.set_paused(killer, false);
    process.settle();  // the suspect has its slot now, and waits for the other line
    ASSERT_EQ(process.engines.in_flight(), 2);
    ASSERT_EQ(engine.in_flight(), 1);
    const auto sent = std::count(engine.bodies.begin(), engine.bodies.end(), request_body(0));
    TaskGroup group(process.loop);
    std::exception_ptr failure;
    if (pausing) {
      process.write([&](Store& store) { store.set_paused(kDefaultProject, killer, process.clock.now()).value(); });
      process.dispatcher.set_paused(killer, true);
    } else {
      process.write([&](Store& store) { store.request_cancel(kDefaultProject, killer, process.clock.now()).value(); });
      group.spawn("draining", keep_result(process.dispatcher.drain(killer, Millis{30'000}), failure));
    }
    process.settle();
    engine.release(1);
    process.settle();
    EXPECT_EQ(std::count(engine.bodies.begin(), engine.bodies.end(), request_body(0)), sent) << pausing;
    engine.release();
    ASSERT_TRUE(process.until([&] { return group.size() == 0; }));
  }
}

TEST(DispatcherTest, ALineWhoseEngineIsDownGoesToAnother) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& first = process.add_engine({.name = "first", .slots = 2});
  ScriptedEngine& second = process.add_engine({.name = "second", .slots = 1});
  first.hold();
  process.start_dispatcher();
  process.submit_running(input_lines(0, 6));
  ASSERT_TRUE(process.until([&] { return first.in_flight() == 1 && second.bodies.size() == 5; }));
  first.set_ready(false);
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(sorted(second.bodies), bodies(0, 6));
}

TEST(DispatcherTest, ALineFailsAfterFiveAttemptsWithPausesBetween) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine();
  engine.script = [](const std::string&) { return answered(500, R"({"error":{"message":"broken"}})"); };
  process.start_dispatcher();
  const BatchId id = process.submit_running(input_lines(0, 1));
  for (std::size_t attempts = 1; attempts <= 5; ++attempts) {
    // A pause may be none at all, and then the next attempt is made at once.
    ASSERT_TRUE(process.until([&] { return engine.bodies.size() >= attempts; }));
    process.advance(Millis{60'000});
  }
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  process.advance(Millis{60'000});
  EXPECT_EQ(engine.bodies.size(), 5u);
  EXPECT_EQ(process.batch(id).counts, (Counts{1, 0, 1}));
  const auto line = boost::json::parse(saved_lines(process, id).at(0));
  EXPECT_EQ(line.at("response").at("status_code").as_int64(), 500);
  EXPECT_EQ(line.at("response").at("body").at("error").at("message").as_string(), "broken");
}

TEST(DispatcherTest, ALineThatPausesKeepsNoSlot) {
  Disk disk;
  Dispatcher::Options options = saving_at_once();
  options.retry.pause_first = Millis{1'000'000};  // full jitter: at least some seconds, all but surely
  options.retry.pause_max = Millis{1'000'000};
  Process process(disk, options);
  ScriptedEngine& engine = process.add_engine({.slots = 1});
  engine.script = [&](const std::string& body) {
    const bool fails = body == request_body(0) && engine.bodies.size() == 1;
    return answered(fails ? 500 : 200, "{}");
  };
  process.start_dispatcher();
  const BatchId id = process.submit_running(input_lines(0, 10));
  ASSERT_TRUE(process.until([&] { return process.remaining(id) == 1; }));
  EXPECT_EQ(engine.bodies, bodies(0, 10));
  process.advance(Millis{1'000'000});
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(engine.bodies.back(), request_body(0));
  EXPECT_EQ(process.batch(id).counts, (Counts{10, 10, 0}));
}

TEST(DispatcherTest, AnEngineThatIsOverloadedIsLeftAloneForAsLongAsItAsks) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 2});
  engine.script = [](const std::string&) {
    Answer answer = answered(429, "{}");
    answer.retry_after = Millis{7'000};
    return answer;
  };
  process.start_dispatcher();
  const BatchId id = process.submit_running(input_lines(0, 8));
  std::size_t sent = 0;
  for (int times = 0; times < 10; ++times) {  // more often than a line has attempts
    ASSERT_TRUE(process.until([&] { return engine.bodies.size() > sent && engine.in_flight() == 0; }));
    sent = engine.bodies.size();
    EXPECT_TRUE(process.engines.next_release().has_value());
    process.advance(Millis{6'999});
    EXPECT_EQ(engine.bodies.size(), sent);
    process.advance(Millis{1});
  }
  // All attempts are left: four may fail.
  std::map<std::string, int> asked;
  engine.script = [&](const std::string& body) { return answered(++asked[body] <= 4 ? 500 : 200, "{}"); };
  ASSERT_TRUE(process.until([&] {
    process.clock.advance(Millis{1'000});
    return process.done.size() == 1;
  }));
  EXPECT_EQ(process.batch(id).counts, (Counts{8, 8, 0}));
}

TEST(DispatcherTest, AnEngineThatIsOverloadedIsGivenLessAtATime) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 8});
  engine.hold();
  process.start_dispatcher();
  process.submit_running(input_lines(0, 100));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 8; }));
  engine.script = [](const std::string&) { return answered(429, "{}"); };
  engine.release(8);
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 0; }));
  engine.script = [](const std::string&) { return answered(200, "{}"); };
  process.advance(Millis{1'000});
  for (const int room : {4, 5, 6, 7, 8, 8}) {
    ASSERT_TRUE(process.until([&] { return engine.in_flight() == room; }));
    process.settle();
    ASSERT_EQ(engine.in_flight(), room);
    // All at once, so that the round has an end.
    engine.release(room);
    poll(process.loop);
  }
}

TEST(DispatcherTest, AnEngineThatRefusesOurKeyFailsNoLineAndIsAskedAgainWithOneLineAtATime) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 4});
  engine.script = [](const std::string&) { return answered(401, "{}"); };
  engine.hold();
  process.start_dispatcher();
  const BatchId id = process.submit_running(input_lines(0, 9));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
  engine.release();
  ASSERT_TRUE(process.until([&] { return engine.bodies.size() == 4 && engine.in_flight() == 0; }));
  for (std::size_t sent = 5; sent < 20; ++sent) {  // more often than a line has attempts
    EXPECT_EQ(process.engines.troubles().size(), 1u);
    process.advance(Millis{2'000});
    ASSERT_TRUE(process.until([&] { return engine.bodies.size() == sent && engine.in_flight() == 0; }));
  }
  engine.script = [](const std::string&) { return answered(200, "{}"); };
  process.advance(Millis{2'000});
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_TRUE(process.engines.troubles().empty());
  EXPECT_EQ(process.batch(id).counts, (Counts{9, 9, 0}));
}

TEST(DispatcherTest, AnAnswerWaitsForOthersNoLongerThanToldAndAllAreSavedTogether) {
  Disk disk;
  Dispatcher::Options options;
  options.commit_after = Millis{10};
  options.commit_lines = 5;
  Process process(disk, options);
  ScriptedEngine& engine = process.add_engine({.slots = 8});
  engine.hold();
  process.start_dispatcher();
  const BatchId id = process.submit_running(input_lines(0, 8));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 8; }));
  engine.release(2);
  process.advance(Millis{9});
  EXPECT_EQ(process.remaining(id), 8);
  process.advance(Millis{1});
  ASSERT_TRUE(process.until([&] { return process.remaining(id) == 6; }));
  engine.release(5);  // enough to be saved without waiting
  ASSERT_TRUE(process.until([&] { return process.remaining(id) == 1; }));
  engine.release(1);
  process.advance(Millis{10});
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
}

TEST(DispatcherTest, DrainingDropsWhatWaitsAndSavesWhatIsUnderWay) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 3});
  engine.hold();
  process.start_dispatcher();
  const BatchId id = process.submit_running(input_lines(0, 40));
  const BatchId other = process.submit_running(input_lines(40, 44));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 3; }));
  process.write([&](Store& store) { store.request_cancel(kDefaultProject, id, process.clock.now()).value(); });
  bool drained = false;
  TaskGroup group(process.loop);
  std::exception_ptr failure;
  const auto drain = [&]() -> Task<> {
    co_await process.dispatcher.drain(id, Millis{30'000});
    drained = true;
  };
  group.spawn("draining", keep_result(drain(), failure));
  poll(process.loop);
  EXPECT_FALSE(drained);
  engine.release(2);  // in time
  process.advance(Millis{29'999});
  ASSERT_TRUE(process.until([&] { return process.remaining(id) == 38; }));
  EXPECT_FALSE(drained);
  process.advance(Millis{1});  // the third is given up
  ASSERT_TRUE(process.until([&] { return drained; }));
  EXPECT_EQ(engine.cancelled, 1);
  EXPECT_EQ(process.batch(id).counts, (Counts{40, 2, 0}));
  engine.release();
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(process.done[0], other);
  EXPECT_EQ(sorted(engine.bodies), sorted([] {
              auto all = bodies(0, 3);
              for (const auto& body : bodies(40, 44)) all.push_back(body);
              return all;
            }()));
}

TEST(DispatcherTest, ALineThatPausesIsNotSentAfterItsBatchWasDrained) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine();
  engine.script = [](const std::string&) { return answered(500, "{}"); };
  process.start_dispatcher();
  const BatchId id = process.submit_running(input_lines(0, 3));
  ASSERT_TRUE(process.until([&] { return engine.bodies.size() == 3 && engine.in_flight() == 0; }));
  process.write([&](Store& store) { store.request_cancel(kDefaultProject, id, process.clock.now()).value(); });
  run_task(process.loop, process.dispatcher.drain(id, Millis{0}));
  const std::size_t sent = engine.bodies.size();
  process.advance(Millis{60'000});
  process.settle();
  EXPECT_EQ(engine.bodies.size(), sent);
}

TEST(DispatcherTest, StoppingLetsLinesUnderWayEndAndGivesTheSpansBack) {
  Disk disk;
  BatchId id;
  {
    Process process(disk, saving_at_once());
    ScriptedEngine& engine = process.add_engine({.slots = 4});
    engine.hold();
    process.start_dispatcher();
    id = process.submit_running(input_lines(0, 20));
    ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
    TaskGroup group(process.loop);
    std::exception_ptr failure;
    group.spawn("stopping", keep_result(process.dispatcher.stop(Millis{30'000}), failure));
    poll(process.loop);
    engine.release(3);
    ASSERT_TRUE(process.until([&] { return engine.in_flight() == 1; }));
    EXPECT_EQ(group.size(), 1u);
    process.advance(Millis{30'000});
    ASSERT_TRUE(process.until([&] { return group.size() == 0; }));
    EXPECT_FALSE(failure);
    EXPECT_EQ(engine.bodies, bodies(0, 4));
    EXPECT_EQ(engine.cancelled, 1);
    EXPECT_EQ(process.remaining(id), 17);
    process.dispatcher_is_stopped();
  }
  Process next(disk, saving_at_once());
  const auto spans = next.write([&](Store& store) {
    return store.claim_spans({"another", "m", 640, 1, true}, next.clock.now());
  });
  EXPECT_EQ(spans.size(), 1u);
}

TEST(DispatcherTest, StoppingEndsThoughTheStoreIsAwayAndTheLinesRunAgain) {
  FaultyDisk faulty;
  FaultyConnection& session = faulty.connection;
  Process process(faulty.disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 2});
  engine.hold();
  process.start_dispatcher();
  const BatchId id = process.submit_running(input_lines(0, 2));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 2; }));
  session.failures = 1'000'000;
  session.statements_left = 0;
  engine.release();
  TaskGroup group(process.loop);
  std::exception_ptr failure;
  group.spawn("stopping", keep_result(process.dispatcher.stop(Millis{30'000}), failure));
  ASSERT_TRUE(process.until([&] {
    process.clock.advance(Millis{1'000});
    return group.size() == 0;
  }));
  EXPECT_FALSE(failure);
  session.statements_left = -1;
  EXPECT_EQ(process.remaining(id), 2);
  process.dispatcher_is_stopped();
}

TEST(DispatcherTest, WhatIsClaimedIsReadAndSentWhileTheStoreIsAway) {
  FaultyDisk faulty;
  FaultyConnection& session = faulty.connection;
  Process process(faulty.disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 2});
  engine.hold();
  process.start_dispatcher();
  const BatchId id = process.submit_running(input_lines(0, 600));  // of which some spans are read at a time
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 2; }));
  process.settle();
  const int many = 1'000'000;
  session.failures = many;
  session.statements_left = 0;
  process.dispatcher.wake();
  engine.release();
  ASSERT_TRUE(process.until([&] { return engine.bodies.size() == 600; }));
  EXPECT_GT(session.failures, many - 10) << "it is asked now and then only";
  EXPECT_LT(session.failures, many);
  session.statements_left = -1;
  process.submit_running(input_lines(600, 700));
  ASSERT_TRUE(process.until([&] {
    process.clock.advance(Millis{1'000});
    return process.done.size() == 2;
  }));
  EXPECT_EQ(process.batch(id).counts, (Counts{600, 600, 0}));
}

TEST(DispatcherTest, ASpanThatAnotherHasByNowIsGivenUpWhenItsAnswersAreRefused) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 4});
  engine.hold();
  process.start_dispatcher();
  const BatchId id = process.submit_running(input_lines(0, 20));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
  process.write([&](Store& store) {
    store.release_spans(process.name);
    EXPECT_EQ(store.claim_spans({"another", "m", 64}, process.clock.now()).size(), 1u);
  });
  engine.release(1);
  ASSERT_TRUE(process.until([&] { return engine.bodies.size() == 5; }));
  process.settle();
  engine.release();
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 0; }));
  process.settle();
  EXPECT_EQ(engine.bodies.size(), 5u);
  EXPECT_TRUE(saved_lines(process, id).empty());
  EXPECT_EQ(process.remaining(id), 20);
}

TEST(DispatcherTest, Fault31SpansWhoseClaimWasNotConfirmedAreClaimedAgain) {
  FaultyDisk faulty;
  FaultyConnection& connection = faulty.connection;
  Process process(faulty.disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine();
  process.submit_running(input_lines(0, 20));
  connection.loses_reply_of = "WITH free AS";
  process.start_dispatcher();
  process.settle();
  EXPECT_TRUE(engine.bodies.empty());
  process.advance(Millis{1'000});
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(engine.bodies, bodies(0, 20));
}

}  // namespace
}  // namespace penstock
