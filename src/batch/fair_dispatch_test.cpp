#include <gtest/gtest.h>

#include "store/access.h"
#include "testing/process.h"

// How the dispatcher shares slots among projects.
namespace penstock {
namespace {

const ProjectId kA{"proj_a"}, kB{"proj_b"};

void add_project(Process& process, const ProjectId& id, std::int64_t weight = 1) {
  Project project;
  project.id = id;
  project.weight = weight;
  process.write([&](Store& store) { Access(store).insert_project(project); });
}

// The requests from `first` to before `end`, of that project.
BatchId submit(Process& process, const ProjectId& project, int first, int end, const std::string& model = "m") {
  Batch batch;
  batch.project = project;
  return process.submit_running(input_lines(first, end, model), batch);
}

int number_of(const std::string& body) {
  return std::stoi(body.substr(body.find("question ") + 9));
}

// How many of the bodies, from that one on, are of requests in the range.
std::int64_t count(const std::vector<std::string>& bodies, int first, int end, std::size_t from = 0) {
  return std::count_if(bodies.begin() + static_cast<std::ptrdiff_t>(from), bodies.end(), [&](const std::string& body) {
    const int number = number_of(body);
    return number >= first && number < end;
  });
}

// Answers so many lines, one after the other, each after 10 ms.
void answer(Process& process, ScriptedEngine& engine, int lines) {
  while (lines-- > 0) {
    process.clock.advance(Millis{10});
    engine.release(1);
    process.settle();
  }
}

TEST(FairDispatchTest, AnothersFirstLineIsInTheNextSlotThatFrees) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 4});
  engine.hold();
  process.start_dispatcher();
  submit(process, kA, 0, 6'000);
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
  answer(process, engine, 50);
  const auto other = submit(process, kB, 10'000, 10'003);
  process.settle();
  EXPECT_TRUE(process.batch(other).in_progress_at) << "it begins, since the next slot is its project's";
  const std::size_t before = engine.bodies.size();
  engine.release(1);
  poll(process.loop);  // it is there already: it goes without waiting for disk or database
  ASSERT_EQ(engine.bodies.size(), before + 1);
  EXPECT_EQ(engine.bodies.back(), request_body(10'000));
  answer(process, engine, 8);
  EXPECT_EQ(count(engine.bodies, 10'000, 10'003), 3) << "half of the slots";
  engine.release();
  ASSERT_TRUE(process.until([&] { return process.done.size() == 2; }));
  EXPECT_EQ(engine.bodies.size(), 6'003u);
}

TEST(FairDispatchTest, SlotsGoByTheWeightsAsTheyAreNow) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 8});
  engine.hold();
  process.start_dispatcher();
  add_project(process, kA);
  add_project(process, kB, 3);
  submit(process, kA, 0, 2'000);
  submit(process, kB, 10'000, 12'000);
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 8; }));
  answer(process, engine, 120);
  EXPECT_NEAR(static_cast<double>(count(engine.bodies, 0, 2'000)), 32, 4);

  process.write([](Store& store) {  // by another process, perhaps: nobody is told
    Project project = *Access(store).find_project(kA);
    project.weight = 9;
    Access(store).update_project(project);
  });
  answer(process, engine, 110);
  const std::size_t before = engine.bodies.size();
  answer(process, engine, 120);
  EXPECT_NEAR(static_cast<double>(count(engine.bodies, 0, 2'000, before)), 90, 6);
  engine.release();
  ASSERT_TRUE(process.until([&] { return process.done.size() == 2; }));
}

TEST(FairDispatchTest, WithinAProjectOneBatchComesAfterTheOther) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 4});
  engine.hold();
  process.start_dispatcher();
  submit(process, kA, 0, 1'000);
  submit(process, kB, 10'000, 10'040);
  const BatchId second = submit(process, kB, 20'000, 20'040);
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 4; }));
  answer(process, engine, 60);
  EXPECT_FALSE(process.batch(second).in_progress_at) << "its project has another line for each slot of its own";
  Batch urgent;
  urgent.project = kB;
  urgent.priority = 1;
  process.submit_running(input_lines(30'000, 30'040), urgent);
  answer(process, engine, 1'080);
  ASSERT_TRUE(process.until([&] { return process.done.size() == 4; }));
  std::vector<int> order;
  for (const std::string& body : engine.bodies) {
    if (number_of(body) >= 10'000) order.push_back(number_of(body));
  }
  std::vector<int> expected;
  for (const int first : {10'000, 30'000, 20'000}) {
    for (int i = first; i < first + 40; ++i) expected.push_back(i);
  }
  EXPECT_EQ(order, expected);
}

TEST(FairDispatchTest, WhatNobodyElseWantsAProjectHasAlone) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 4, .models = {"m", "n"}});
  engine.hold();
  process.start_dispatcher();
  submit(process, kA, 0, 300);
  submit(process, kDefaultProject, 10'000, 10'010);
  const BatchId paused = submit(process, kDefaultProject, 20'000, 20'100);
  process.pause(paused, true);
  for (int left = 310; left > 0; --left) {
    ASSERT_TRUE(process.until([&] { return engine.in_flight() == std::min(4, left); })) << left;
    answer(process, engine, 1);
  }
  EXPECT_EQ(count(engine.bodies, 20'000, 20'100), 0);
  process.pause(paused, false);
  engine.release();
  ASSERT_TRUE(process.until([&] { return process.done.size() == 3; }));
}

TEST(FairDispatchTest, EachOfTwoWorkersSharesItsOwnSlots) {
  Disk disk;
  Process one(disk, saving_at_once(), {}, true), two(disk, saving_at_once(), {}, true);
  ScriptedEngine& first = one.add_engine({.slots = 4});
  ScriptedEngine& second = two.add_engine({.slots = 4});
  first.hold();
  second.hold();
  one.start_shared();
  two.start_shared();
  submit(one, kA, 0, 4'000);
  two.dispatcher.wake();
  ASSERT_TRUE(one.until([&] { return first.in_flight() == 4; }));
  ASSERT_TRUE(two.until([&] { return second.in_flight() == 4; }));
  submit(two, kB, 10'000, 14'000);
  one.dispatcher.wake();
  for (int line = 0; line < 100; ++line) {
    answer(one, first, 1);
    answer(two, second, 1);
  }
  EXPECT_NEAR(static_cast<double>(count(first.bodies, 10'000, 14'000)), 50, 6);
  EXPECT_NEAR(static_cast<double>(count(second.bodies, 10'000, 14'000)), 50, 6);
}

}  // namespace
}  // namespace penstock
