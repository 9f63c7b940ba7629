#include "batch/fleet.h"

#include <gtest/gtest.h>

#include "testing/process.h"

namespace penstock {
namespace {

constexpr Millis kBeat = Fleet::kBeat;

std::vector<std::string> bodies(int from, int end) {
  std::vector<std::string> all;
  for (int i = from; i < end; ++i) all.push_back(request_body(i));
  return all;
}

std::size_t count_saved(Process& process, const BatchId& id) {
  std::set<std::uint32_t> lines;
  run_task(process.loop, process.disk.db.read([&](Store& store) {
    store.for_each_group(id, [&](const ResultGroup& group) {
      for (const ResultEntry& entry : group.entries) EXPECT_TRUE(lines.insert(entry.index).second) << "saved twice";
    });
  }));
  return lines.size();
}

std::vector<std::string> living(Process& process) {
  std::vector<std::string> ids;
  for (const Peer& peer : run_task(process.loop, process.disk.db.read([](Store& store) { return store.peers(); }))) {
    ids.push_back(peer.id);
  }
  return ids;
}

// Beats of these processes, one after the other.
void beats(int count, std::vector<Process*> processes) {
  for (; count > 0; --count) {
    for (Process* process : processes) {
      process->advance(kBeat);
      process->settle();
    }
  }
}

TEST(FleetTest, AProcessAloneIsSeenEveryTenSecondsAndBuriesWhoeverWasThere) {
  Disk disk;
  Process process(disk);
  process.write([](Store& store) { store.join("gone", true, Timestamp{}); });
  run_task(process.loop, process.fleet.start());
  const auto last_seen = [&] {
    return run_task(process.loop, disk.db.read([](Store& store) { return store.worker_last_seen(); }));
  };
  EXPECT_EQ(living(process), std::vector{process.name});
  for (int sign = 0; sign < 3; ++sign) {
    const Timestamp before = process.clock.now();
    ASSERT_TRUE(
        process.until([&] { return process.clock.has_alarm_at(process.clock.monotonic() + Fleet::kBeatAlone); }));
    process.advance(Fleet::kBeatAlone - Millis{1});
    EXPECT_EQ(last_seen(), before);
    process.advance(Millis{1});
    EXPECT_TRUE(process.until([&] { return last_seen() == process.clock.now(); }));
  }
  run_task(process.loop, process.fleet.stop());
  EXPECT_TRUE(living(process).empty());
  EXPECT_FALSE(process.clock.has_alarms());
}

TEST(FleetTest, Fault07AnotherProcessTakesOverTheSpansAndTheBatchesOfADeadOne) {
  Disk disk;
  Process dead(disk, saving_at_once(), {}, true), other(disk, saving_at_once(), {}, true);
  ScriptedEngine &lost = dead.add_engine({.slots = 4}), &engine = other.add_engine();
  lost.hold();
  dead.start_shared();
  const BatchId id = dead.submit_running(input_lines(0, 20));
  ASSERT_TRUE(dead.until([&] { return lost.in_flight() == 4; }));
  lost.release(1);
  ASSERT_TRUE(dead.until([&] { return dead.remaining(id) == 19 && lost.in_flight() == 4; }));
  other.start_shared();
  beats(3, {&dead, &other});
  EXPECT_TRUE(engine.bodies.empty()) << "the one that holds the span gives beats";

  // From here on `dead` does not run.
  const Moment died = other.clock.monotonic();
  ASSERT_TRUE(other.until([&] {
    beats(1, {&other});
    return !engine.bodies.empty();
  }));
  EXPECT_GE(other.clock.monotonic() - died, Fleet::kLease);
  EXPECT_LE(other.clock.monotonic() - died, Fleet::kLease + 2 * kBeat);
  ASSERT_TRUE(other.until_ended(id));
  EXPECT_EQ(engine.bodies, bodies(1, 20));

  // The dead one comes back to life with its answers: they are refused.
  lost.release();
  ASSERT_TRUE(dead.until([&] { return lost.in_flight() == 0; }));
  dead.stop();
  EXPECT_EQ(other.batch(id).status, BatchStatus::completed);
  EXPECT_EQ(other.batch(id).counts, (Counts{20, 20, 0}));
  EXPECT_EQ(count_saved(other, id), 20u);
  EXPECT_TRUE(dead.done.empty());
}

TEST(FleetTest, Fault08AWorkerThatStoodStillForThreeLeasesDropsItsAnswersAndSendsNoMore) {
  Disk disk;
  Process still(disk, saving_at_once(), {}, true), other(disk, saving_at_once(), {}, true);
  ScriptedEngine &engine = still.add_engine({.slots = 4}), &held = other.add_engine({.slots = 4});
  engine.hold();
  held.hold();
  still.start_shared();
  const BatchId id = still.submit_running(input_lines(0, 20));
  ASSERT_TRUE(still.until([&] { return engine.in_flight() == 4; }));
  other.start_shared();
  beats(15, {&other});
  ASSERT_TRUE(other.until([&] { return held.in_flight() == 4; }));

  still.advance(Millis{15'000});
  engine.release();  // answers come, and their slots are not filled again
  ASSERT_TRUE(still.until([&] { return engine.in_flight() == 0; }));
  beats(3, {&still, &other});
  EXPECT_EQ(engine.bodies.size(), 4u);
  EXPECT_EQ(still.remaining(id), 20);
  EXPECT_EQ(living(still).size(), 2u) << "it has begun anew";
  held.release();
  ASSERT_TRUE(other.until_ended(id));
  EXPECT_EQ(other.batch(id).counts, (Counts{20, 20, 0}));
  EXPECT_EQ(held.bodies.size(), 20u);
}

// As a process that was stopped by a signal, and that nobody has missed.
TEST(FleetTest, Fault08AWorkerThatStoodStillForThreeLeasesGoesOnWithWhatNobodyTook) {
  Disk disk;
  Process still(disk, saving_at_once(), {}, true);
  ScriptedEngine& engine = still.add_engine({.slots = 4});
  engine.hold();
  still.start_shared();
  const BatchId id = still.submit_running(input_lines(0, 20));
  ASSERT_TRUE(still.until([&] { return engine.in_flight() == 4; }));
  still.advance(Millis{15'000});
  engine.release();
  ASSERT_TRUE(still.until_ended(id));
  EXPECT_EQ(engine.bodies.size(), 20u);
  EXPECT_EQ(still.batch(id).counts, (Counts{20, 20, 0}));
}

TEST(FleetTest, Fault33AWorkerThatCannotGiveBeatsSendsNoLineTwoSecondsBeforeItIsTakenForDead) {
  FaultyDisk faulty;
  FaultyConnection& connection = faulty.connection;
  Process process(faulty.disk, saving_at_once(), {}, true);
  ScriptedEngine& engine = process.add_engine({.slots = 1});
  engine.hold();
  process.start_shared();
  const BatchId id = process.submit_running(input_lines(0, 20));
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 1; }));

  connection.statements_left = 0;
  connection.failures = 1'000'000;
  std::size_t sent = 1;
  for (int second = 1; second < 20; ++second) {
    process.advance(Millis{1'000});
    engine.release(1);
    if (second < 3) {
      ASSERT_TRUE(process.until([&] { return engine.bodies.size() == sent + 1; })) << second;
      ++sent;
    }
    poll(process.loop);
    EXPECT_EQ(engine.bodies.size(), sent) << second;
  }
  connection.statements_left = -1;
  engine.release();
  ASSERT_TRUE(process.until([&] {
    beats(1, {&process});
    return is_terminal(process.batch(id).status);
  }));
  EXPECT_EQ(engine.bodies, bodies(0, 20));
}

TEST(FleetTest, NobodyIsBuriedForATimeInWhichTheDatabaseWasAwayForAll) {
  FaultyDisk faulty;
  Process process(faulty.disk, saving_at_once(), {}, true);
  process.start_shared();
  process.write([&](Store& store) { store.join("other", true, process.clock.now()); });
  beats(2, {&process});
  const auto own_beats = [&] {
    return process.write([&](Store& store) {
      for (const Peer& peer : store.peers()) {
        if (peer.id == process.name) return peer.beats;
      }
      return std::int64_t{0};
    });
  };
  const std::int64_t before = own_beats();
  faulty.connection.failures = 1'000'000;
  faulty.connection.statements_left = 0;
  for (int second = 0; second < 30; ++second) process.advance(Millis{1'000});
  faulty.connection.statements_left = -1;
  for (int second = 0; second < 10 && own_beats() == before; ++second) beats(1, {&process});
  ASSERT_NE(own_beats(), before);
  beats(2, {&process});
  EXPECT_EQ(living(process).size(), 2u);
  beats(3, {&process});
  EXPECT_EQ(living(process), std::vector{process.name}) << "but then";
}

TEST(FleetTest, WhatIsCancelledElsewhereIsLeftByAllAndTheDriverWaitsForTheirLines) {
  Disk disk;
  Process driver(disk, saving_at_once(), {}, true), worker(disk, saving_at_once(), {}, true);
  ScriptedEngine& engine = worker.add_engine({.slots = 2});
  engine.hold();
  driver.start_shared();
  worker.start_shared();
  const BatchId id = driver.submit_running(input_lines(0, 20));
  beats(1, {&worker});
  ASSERT_TRUE(worker.until([&] { return engine.in_flight() == 2; }));
  driver.cancel(id);
  beats(2, {&worker, &driver});
  EXPECT_EQ(driver.batch(id).status, BatchStatus::cancelling);
  engine.release();
  ASSERT_TRUE(worker.until([&] { return engine.in_flight() == 0; }));
  worker.settle();
  beats(1, {&driver});
  ASSERT_TRUE(driver.until_ended(id));
  EXPECT_EQ(driver.batch(id).status, BatchStatus::cancelled);
  EXPECT_EQ(driver.batch(id).counts, (Counts{20, 2, 18}));
  EXPECT_EQ(engine.bodies.size(), 2u);
  beats(2, {&worker});
  EXPECT_TRUE(worker.dispatcher.batches().empty());
}

TEST(FleetTest, WhatIsPausedElsewhereIsPausedHere) {
  Disk disk;
  Process server(disk, saving_at_once(), {}, true), worker(disk, saving_at_once(), {}, true);
  ScriptedEngine& engine = worker.add_engine({.slots = 2});
  engine.hold();
  server.start_shared();
  worker.start_shared();
  const BatchId id = server.submit_running(input_lines(0, 20));
  beats(1, {&worker});
  ASSERT_TRUE(worker.until([&] { return engine.in_flight() == 2; }));
  server.pause(id, true);
  beats(1, {&worker});
  engine.release();
  ASSERT_TRUE(worker.until([&] { return engine.in_flight() == 0; }));
  beats(3, {&worker, &server});
  EXPECT_EQ(engine.bodies.size(), 2u);
  server.pause(id, false);
  beats(1, {&worker});
  ASSERT_TRUE(worker.until([&] { return engine.bodies.size() == 20; }));
  ASSERT_TRUE(worker.until([&] { return worker.remaining(id) == 0; }));
  beats(1, {&server});
  ASSERT_TRUE(server.until_ended(id));
}

TEST(FleetTest, EveryProcessKnowsWhatTheWorkersServeAndHowFast) {
  Disk disk;
  Process server(disk, saving_at_once(), {}, true), worker(disk, saving_at_once(), {}, true);
  ScriptedEngine& engine = worker.add_engine({.models = {"m", "other"}});
  server.start_shared();
  EXPECT_FALSE(server.engines.known_models());
  worker.start_shared();
  const BatchId id = worker.submit_running(input_lines(0, 20));
  ASSERT_TRUE(worker.until_ended(id));
  beats(1, {&worker, &server});
  EXPECT_EQ(server.engines.known_models(), (Engines::Models{"m", "other"}));
  EXPECT_FALSE(server.engines.is_gone("m"));
  EXPECT_TRUE(server.engines.is_gone("unknown"));
  EXPECT_TRUE(server.engines.models().empty()) << "it can send nothing there itself";
  EXPECT_EQ(server.estimator.pace("m").lines, worker.estimator.pace("m").lines);
  EXPECT_GT(server.estimator.pace("m").lines, 0);

  engine.words = "no such file";
  engine.without_hope = true;
  engine.set_ready(false);
  beats(1, {&worker, &server});
  EXPECT_TRUE(server.engines.is_gone("m"));
  EXPECT_EQ(server.engines.trouble("m"), "no such file");
  worker.stop();
  beats(1, {&server});
  EXPECT_FALSE(server.engines.known_models());
}

TEST(FleetTest, AProcessThatStopsLeavesItsBatchesAtOnce) {
  Disk disk;
  Process first(disk, saving_at_once(), {}, true), second(disk, saving_at_once(), {}, true);
  first.start_shared();
  second.start_shared();
  const BatchId id = first.submit(input_lines(0, 20));
  first.stop();
  second.add_engine();
  beats(1, {&second});
  EXPECT_EQ(second.batch(id).driver, second.name);
}

}  // namespace
}  // namespace penstock
