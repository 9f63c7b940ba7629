#include "engine/registry.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

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

TEST_F(RegistryTest, AnEngineOfUnknownSlotsIsAskedForItsLoadWhileItHasWork) {
  ScriptedEngine& a = add("a", 0);
  a.tells = Load{64, 0, 0};
  engines.start();
  poll(loop);
  EXPECT_FALSE(clock.has_alarms());
  int freed = 0;
  engines.on_slot_free = [&] { ++freed; };
  EXPECT_EQ(take_all().size(), 64u);
  poll(loop);
  clock.advance(Millis{250});
  poll(loop);
  EXPECT_EQ(freed, 1);
  EXPECT_EQ(engines.serving("m"), Serving({{0, 128}}));
  EXPECT_EQ(take_all().size(), 64u);
  taken.clear();
  clock.advance(Millis{250});
  poll(loop);
  EXPECT_FALSE(clock.has_alarms());
  run_task(loop, engines.stop());
}

TEST_F(RegistryTest, SlotsThatAnEngineTellsWhenItComesUpAreKeptTo) {
  ScriptedEngine& a = add("a", 0);
  a.set_ready(false);
  a.set_slots(3);
  a.set_ready(true);
  EXPECT_EQ(take_all(), "aaa");
}

TEST_F(RegistryTest, TheLastLinesDoNotGoToAnEngineThatWouldAnswerThemLastOfAll) {
  add("fast", 2);
  add("slow", 2);
  std::optional<Slot> fast = engines.acquire("m"), slow = engines.acquire("m");
  EXPECT_EQ(slow->engine().name(), "slow");  // nobody knows yet
  clock.advance(Millis{1'000});
  fast->report(Sign::good, Millis{0}, 1);
  clock.advance(Millis{9'000});
  slow->report(Sign::good, Millis{0}, 1);
  fast.reset();
  slow.reset();
  std::vector<Slot> both;
  for (int i = 0; i < 2; ++i) both.push_back(*engines.acquire("m", [](std::size_t engine) { return engine == 0; }));
  EXPECT_TRUE(engines.acquire("m"));
  // The fast one answers two lines a second, and nearly any within 3 s; the slow one takes up to ten times that.
  EXPECT_TRUE(engines.acquire("m", nullptr, 53));
  EXPECT_FALSE(engines.acquire("m", nullptr, 52));
  both.pop_back();
  EXPECT_EQ(engines.acquire("m", nullptr, 52)->engine().name(), "fast");
}

TEST_F(RegistryTest, AnEngineThatIsBackIsMeasuredAgain) {
  add("fast", 2);
  ScriptedEngine& slow = add("slow", 2);
  engines.start();
  poll(loop);
  std::optional<Slot> first = engines.acquire("m"), second = engines.acquire("m");
  ASSERT_EQ(second->engine().name(), "slow");
  clock.advance(Millis{1'000});
  first->report(Sign::good, Millis{0}, 1);
  clock.advance(Millis{9'000});
  second->report(Sign::good, Millis{0}, 1);
  second.reset();
  EXPECT_FALSE(engines.acquire(
      "m", [](std::size_t engine) { return engine == 1; }, 1))
      << "it is too slow";
  slow.set_ready(false);
  slow.set_ready(true);
  EXPECT_TRUE(engines.acquire(
      "m", [](std::size_t engine) { return engine == 1; }, 1));
  run_task(loop, engines.stop());
}

// In simulated time: lines of many lengths, and four engines of which one is ten times slower.
TEST_F(RegistryTest, OneSlowEngineOfFourDoesNotHoldUpABatch) {
  constexpr int kLines = 2'000, kSlots = 16;
  const double pace[] = {1, 1, 1, 0.1};
  for (int i = 0; i < 4; ++i) add(std::to_string(i), kSlots);
  std::mt19937 random(1);
  std::lognormal_distribution<> length(std::log(2.0), 0.7);
  struct Request {
    Slot slot;
    double work;
  };
  std::multimap<Moment, Request> under_way;
  const Moment start = clock.monotonic();
  double work = 0;
  for (int left = kLines; left > 0 || !under_way.empty();) {
    while (left > 0) {
      auto slot = engines.acquire("m", nullptr, static_cast<std::size_t>(left));
      if (!slot) break;
      const double seconds = length(random);
      work += seconds;
      --left;
      const Millis took(static_cast<int>(1000 * seconds / pace[slot->number()]));
      under_way.emplace(clock.monotonic() + took, Request{std::move(*slot), seconds});
    }
    auto next = under_way.extract(under_way.begin());
    clock.advance(std::max(Millis{0}, next.key() - clock.monotonic()));
    next.mapped().slot.report(Sign::good, Millis{0}, next.mapped().work);
  }
  const double ideal = work / (kSlots * 3.1);
  EXPECT_LE(std::chrono::duration<double>(clock.monotonic() - start).count(), 1.15 * ideal);
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
