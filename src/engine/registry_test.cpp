#include "engine/registry.h"

#include <gtest/gtest.h>

#include "testing/fake_clock.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"
#include "testing/scripted_engine.h"

namespace penstock {
namespace {

using Serving = std::map<std::size_t, int>;  // by engine

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

  void answer_all(Sign sign, Millis hold = Millis{0}) {
    for (; !taken.empty(); taken.pop_front()) taken.front().report(sign, hold);
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
  EXPECT_EQ(engines.serving("m"), Serving({{0, 2}}));
  EXPECT_EQ(engines.serving("n"), Serving({{0, 2}, {1, 1}}));
  EXPECT_EQ(engines.serving("x"), Serving());
  EXPECT_EQ(engines.models(), (std::vector<std::string>{"m", "n"}));
  a.set_ready(false);
  EXPECT_FALSE(engines.acquire("m"));
  EXPECT_EQ(engines.serving("m"), Serving());
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
  slot->report(Sign::none, Millis{100});
  slot->report(Sign::none, Millis{50});  // a shorter one does not end it
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
  first->report(Sign::none, Millis{10});
  second->report(Sign::none, Millis{20});
  EXPECT_EQ(engines.next_release(), clock.monotonic() + Millis{10});
  a.set_ready(false);
  EXPECT_EQ(engines.next_release(), clock.monotonic() + Millis{20});
}

TEST_F(RegistryTest, AnOverloadedEngineIsGivenHalfAndThenOneMoreWithEachRoundOfGoodAnswers) {
  add("a", 8);
  EXPECT_EQ(take_all(), "aaaaaaaa");
  answer_all(Sign::overloaded);  // all of them say the same thing
  for (const int room : {4, 5, 6, 7, 8, 8}) {
    EXPECT_EQ(take_all(), std::string(room, 'a'));
    answer_all(Sign::good);
  }
  for (const int room : {8, 4, 2, 1, 1}) {
    EXPECT_EQ(take_all(), std::string(room, 'a'));
    answer_all(Sign::overloaded);
  }
}

TEST_F(RegistryTest, AnEngineThatIsBackBeginsWithOneRequestAndDoubles) {
  ScriptedEngine& a = add("a", 12);
  engines.start();
  poll(loop);
  EXPECT_EQ(take_all(), std::string(12, 'a'));  // not when it has never been away
  a.set_ready(false);
  answer_all(Sign::none);
  a.set_ready(true);
  for (const int room : {1, 2, 4, 8, 12, 12}) {
    EXPECT_EQ(take_all(), std::string(room, 'a'));
    answer_all(Sign::good);
  }
  run_task(loop, engines.stop());
}

TEST_F(RegistryTest, GoodAnswersFromBeforeASetbackChangeNothing) {
  add("a", 8);
  take_all();
  std::list<Slot> before = std::exchange(taken, {});
  before.front().report(Sign::overloaded, Millis{0});
  while (!before.empty()) {
    before.front().report(Sign::good, Millis{0});
    before.pop_front();
  }
  EXPECT_EQ(take_all(), "aaaa");
}

TEST_F(RegistryTest, AnEngineThatRefusesOurKeyIsInTroubleAndTriedWithOneRequestAtATime) {
  add("a", 4);
  take_all();
  answer_all(Sign::denied, Millis{10});
  EXPECT_EQ(engines.troubles(), std::vector<std::string>{"engine a: it refuses our key"});
  EXPECT_EQ(take_all(), "");
  clock.advance(Millis{10});
  EXPECT_EQ(take_all(), "a");
  answer_all(Sign::denied, Millis{10});
  clock.advance(Millis{10});
  EXPECT_EQ(take_all(), "a");
  answer_all(Sign::good);
  EXPECT_TRUE(engines.troubles().empty());
  EXPECT_EQ(take_all(), "aa");
}

TEST_F(RegistryTest, WhoWantsAnEngineAloneWaitsForTheOthersAndKeepsTheNextAway) {
  ScriptedEngine& a = add("a", 2, {"m", "n"});
  add("b", 2);
  EXPECT_EQ(take_all("n"), "aa");
  auto slot = engines.acquire("m");
  ASSERT_EQ(slot->engine().name(), "b");
  auto alone = engines.acquire_alone("m");
  ASSERT_EQ(alone->engine().name(), "b");  // it has less under way
  EXPECT_FALSE(engines.acquire("m"));
  auto other = engines.acquire_alone("m");
  ASSERT_EQ(other->engine().name(), "a");  // though it is full
  EXPECT_FALSE(engines.acquire_alone("m"));

  std::optional<bool> served, other_served;
  std::exception_ptr failure;
  TaskGroup tasks(loop);
  tasks.spawn("b", keep_result(alone->alone("m"), served, failure));
  tasks.spawn("a", keep_result(other->alone("m"), other_served, failure));
  poll(loop);
  EXPECT_FALSE(served || other_served);
  slot.reset();
  poll(loop);
  EXPECT_EQ(served, true);
  taken.pop_front();
  poll(loop);
  EXPECT_FALSE(other_served);
  a.set_models({"n"});
  taken.pop_front();
  poll(loop);
  EXPECT_EQ(other_served, false);
  EXPECT_EQ(take_all() + take_all("n"), "");
  alone.reset();
  other.reset();
  EXPECT_EQ(take_all() + take_all("n"), "bbaa");
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
  EXPECT_EQ(engines.told_models(), engines.known_models());
}

TEST_F(RegistryTest, AModelIsGoneWhenOneEngineIsUpAndAllServeOthers) {
  ScriptedEngine& a = add("a", 1, {"m"});
  ScriptedEngine& b = add("b", 1, {});
  b.set_ready(false);
  EXPECT_FALSE(engines.is_gone("m"));
  a.set_models({"n"});
  EXPECT_FALSE(engines.is_gone("m"));  // who knows what b will serve
  b.set_models({"o"});
  EXPECT_TRUE(engines.is_gone("m"));
  a.set_ready(false);
  EXPECT_FALSE(engines.is_gone("m"));  // nobody is there to ask
  b.set_ready(true);
  EXPECT_TRUE(engines.is_gone("m"));
  EXPECT_FALSE(engines.is_gone("n"));  // a is expected back
  a.set_models({"m"});
  EXPECT_FALSE(engines.is_gone("m"));
}

TEST_F(RegistryTest, StartRunsTheEnginesAndTellsOfChanges) {
  ScriptedEngine& a = add("a", 1);
  int changes = 0;
  engines.on_change.push_back([&] { ++changes; });
  engines.start();
  poll(loop);
  EXPECT_EQ(changes, 1);
  EXPECT_TRUE(engines.troubles().empty());
  a.set_ready(false);
  EXPECT_EQ(changes, 2);
  EXPECT_EQ(engines.troubles(), std::vector<std::string>{"engine a: " + a.trouble()});
  a.words.clear();  // nothing is wrong with it
  EXPECT_TRUE(engines.troubles().empty());
  run_task(loop, engines.stop());
}

TEST_F(RegistryTest, AModelOfWhichAllEnginesAreHopelessIsGone) {
  EXPECT_FALSE(engines.is_hopeless("m")) << "there is no engine";
  ScriptedEngine& a = add("a", 1);
  a.set_ready(false);
  EXPECT_FALSE(engines.is_gone("m"));
  a.without_hope = true;
  a.words = "out of memory";
  EXPECT_TRUE(engines.is_gone("m"));
  EXPECT_TRUE(engines.is_hopeless("m"));
  EXPECT_EQ(engines.trouble("m"), "engine a: out of memory");
  EXPECT_FALSE(engines.is_gone("n")) << "nobody has told of it";
  EXPECT_EQ(engines.trouble("n"), "");

  ScriptedEngine& b = add("b", 1);  // loads it, or makes room
  b.set_ready(false);
  EXPECT_FALSE(engines.is_gone("m"));
  EXPECT_FALSE(engines.is_hopeless("m"));
  b.set_models({});
  EXPECT_FALSE(engines.is_gone("m")) << "it may turn out to serve it";
  b.set_models({"n"});
  EXPECT_TRUE(engines.is_gone("m"));
  EXPECT_TRUE(engines.is_hopeless("m"));
  b.set_ready(true);
  EXPECT_TRUE(engines.is_gone("x"));
  EXPECT_FALSE(engines.is_hopeless("x"));
}

TEST_F(RegistryTest, AnEngineThatOnlyMadeRoomForAnotherBeginsWithAllItsSlots) {
  ScriptedEngine& a = add("a", 4);
  a.words.clear();
  engines.changed()();
  a.set_ready(false);
  a.set_ready(true);
  EXPECT_EQ(take_all(), "aaaa");
}

}  // namespace
}  // namespace penstock
