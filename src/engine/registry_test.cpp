#include "engine/registry.h"

#include <gtest/gtest.h>

#include "testing/fake_clock.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"
#include "testing/scripted_engine.h"

namespace penstock {
namespace {

class RegistryTest : public testing::Test {
 protected:
  ScriptedEngine& add(const std::string& name, int slots, std::vector<std::string> models = {"m"}) {
    auto made = std::make_unique<ScriptedEngine>(
        loop, engines.changed(), ScriptedEngine::Options{.name = name, .slots = slots, .models = std::move(models)});
    ScriptedEngine& engine = *made;
    engines.add(std::move(made));
    return engine;
  }
  // The names of the engines that gave a slot, one after the other, until none has any.
  std::string take_all(const std::string& model = "m") {
    std::string names;
    while (auto slot = engines.acquire(model)) {
      names += slot->engine().name();
      taken.push_back(std::move(*slot));
    }
    return names;
  }

  asio::io_context loop;
  FakeClock clock{loop};
  Engines engines{loop, clock};
  std::list<Slot> taken;
};

TEST_F(RegistryTest, ASlotComesFromTheEngineWithTheMostRoom) {
  add("a", 2);
  add("b", 4);
  EXPECT_EQ(take_all(), "abbabb");  // by the share that is taken, the first one of equals
  EXPECT_EQ(engines.in_flight(), 6);
}

TEST_F(RegistryTest, ASlotIsGivenBackOnceAndToldOf) {
  add("a", 1);
  int freed = 0;
  engines.on_slot_free = [&] { ++freed; };
  {
    auto slot = engines.acquire("m");
    ASSERT_TRUE(slot);
    EXPECT_FALSE(engines.acquire("m"));
    const Slot moved = std::move(*slot);
    EXPECT_EQ(engines.in_flight(), 1);
  }
  EXPECT_EQ(freed, 1);
  EXPECT_EQ(engines.in_flight(), 0);
  EXPECT_TRUE(engines.acquire("m"));
}

TEST_F(RegistryTest, OnlyReadyEnginesOfTheModelGiveSlots) {
  ScriptedEngine& a = add("a", 2, {"m", "n"});
  add("b", 1, {"n"});
  EXPECT_FALSE(engines.acquire("x"));
  EXPECT_EQ(engines.slots("m"), 2);
  EXPECT_EQ(engines.slots("n"), 3);
  EXPECT_EQ(engines.slots("x"), 0);
  EXPECT_EQ(engines.models(), (std::vector<std::string>{"m", "n"}));
  a.set_ready(false);
  EXPECT_FALSE(engines.acquire("m"));
  EXPECT_EQ(engines.slots("m"), 0);
  EXPECT_EQ(engines.models(), std::vector<std::string>{"n"});
  EXPECT_EQ(take_all("n"), "b");
}

TEST_F(RegistryTest, AHeldEngineGivesNoSlotUntilItsTime) {
  add("a", 2);
  add("b", 2);
  EXPECT_FALSE(engines.next_release());
  auto slot = engines.acquire("m");
  ASSERT_EQ(slot->engine().name(), "a");
  const Moment start = clock.monotonic();
  slot->hold(start + Millis{100});
  slot->hold(start + Millis{50});  // a shorter one does not end it
  EXPECT_EQ(take_all(), "bb");
  EXPECT_EQ(engines.next_release(), start + Millis{100});
  clock.advance(Millis{99});
  EXPECT_EQ(take_all(), "");
  clock.advance(Millis{1});
  EXPECT_FALSE(engines.next_release());
  EXPECT_EQ(take_all(), "a");
}

TEST_F(RegistryTest, TheNextReleaseIsTheEarliestOfReadyEngines) {
  ScriptedEngine& a = add("a", 1);
  add("b", 1);
  auto first = engines.acquire("m"), second = engines.acquire("m");
  first->hold(clock.monotonic() + Millis{10});
  second->hold(clock.monotonic() + Millis{20});
  EXPECT_EQ(engines.next_release(), clock.monotonic() + Millis{10});
  a.set_ready(false);
  EXPECT_EQ(engines.next_release(), clock.monotonic() + Millis{20});
}

TEST_F(RegistryTest, ModelsAreKnownOnceEveryEngineHasToldItsOwn) {
  EXPECT_FALSE(engines.known_models());
  ScriptedEngine& a = add("a", 1, {"m"});
  ScriptedEngine& b = add("b", 1, {});
  EXPECT_FALSE(engines.known_models());
  b.set_models({"n"});
  EXPECT_EQ(engines.known_models(), (std::set<std::string, std::less<>>{"m", "n"}));
  a.set_ready(false);  // what it said is still so
  EXPECT_EQ(engines.known_models()->size(), 2u);
}

TEST_F(RegistryTest, StartRunsTheEnginesAndTellsOfChanges) {
  ScriptedEngine& a = add("a", 1);
  int changes = 0;
  engines.on_change = [&] { ++changes; };
  engines.start();
  poll(loop);
  EXPECT_EQ(changes, 1);
  EXPECT_EQ(engines.trouble(), "");
  a.set_ready(false);
  EXPECT_EQ(changes, 2);
  EXPECT_EQ(engines.trouble(), "engine a: " + a.trouble());
  EXPECT_FALSE(engines.hopeless());
  run_task(loop, engines.stop());
}

TEST_F(RegistryTest, NoEnginesAreNoHopelessEngines) {
  EXPECT_TRUE(engines.empty());
  EXPECT_FALSE(engines.hopeless());
}

}  // namespace
}  // namespace penstock
