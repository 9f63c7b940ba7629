#include "delivery/deliveries.h"

#include <gtest/gtest.h>

#include <set>

#include "base/log.h"
#include "store/outbox.h"
#include "testing/fake_clock.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;
using Kind = Outcome::Kind;

// What receivers do, by their destination, and what has come to them.
struct World {
  explicit World(asio::io_context& loop) : goes_on(loop) {}

  std::map<std::string, Outcome> outcomes;  // delivered, where there is none
  std::set<std::string> silent;             // these say nothing
  std::set<std::string> broken;             // an exception comes of these
  std::set<std::string> taking;             // these take some of it each time
  std::set<std::string> endless;            // these have always more to note once, when it goes on
  Event goes_on;
  std::vector<std::string> sent;  // ids
  std::map<std::string, std::int64_t> positions;
};

class ScriptedSender : public Sender {
 public:
  ScriptedSender(asio::io_context& loop, World& world) : loop_(loop), world_(world) {}
  Task<Outcome> send(const Delivery& delivery, DeliveryProgress& progress) override {
    world_.sent.push_back(delivery.id.value);
    world_.positions[delivery.id.value] = delivery.position;
    if (world_.taking.contains(delivery.destination)) co_await progress.note(delivery.position + 1);
    if (world_.broken.contains(delivery.destination)) throw std::runtime_error("a bug");
    if (world_.endless.erase(delivery.destination) > 0) {
      std::int64_t position = delivery.position + 1;
      bool more = true;
      while (more) {
        co_await world_.goes_on.wait();
        more = co_await progress.note(++position);
      }
      co_return Outcome{Kind::again, "broken off", std::nullopt};
    }
    Event never(loop_);
    if (world_.silent.contains(delivery.destination)) co_await never.wait();
    co_return world_.outcomes[delivery.destination];
  }

 private:
  asio::io_context& loop_;
  World& world_;
};

class DeliveriesTest : public testing::Test {
 protected:
  DeliveriesTest() { log::set_level(log::Level::off); }
  ~DeliveriesTest() override {
    run_task(loop, deliveries->stop(0ms));
    log::set_level(log::Level::info);
  }

  std::unique_ptr<Deliveries> make(const std::string& process) {
    run_task(loop, db.write([&](Store& store) { store.join(process, true, clock.now()); }));
    auto made = std::make_unique<Deliveries>(loop, clock, db,
                                             Deliveries::Options{.process = process, .draw = [] { return 0.5; }});
    made->add(DeliveryKind::webhook, std::make_unique<ScriptedSender>(loop, world));
    return made;
  }
  void add(const std::string& id, const std::string& destination = "a", const ProjectId& project = kDefaultProject,
           DeliveryKind kind = DeliveryKind::webhook, const std::string& receiver = "{}") {
    Delivery delivery;
    delivery.id = {id};
    delivery.project = project;
    delivery.kind = kind;
    delivery.batch_id = {"batch_1"};
    delivery.receiver = receiver;
    delivery.destination = destination;
    delivery.event = "batch.completed";
    delivery.next_at = delivery.created_at = clock.now();
    run_task(loop, db.write([&](Store& store) { Outbox(store).insert(delivery); }));
    deliveries->wake();
  }
  Delivery find(const std::string& id) {
    return run_task(loop, db.read([&](Store& store) { return Outbox(store).find(kDefaultProject, {id}).value(); }));
  }
  bool until(const std::string& id, DeliveryStatus status, std::int64_t attempts) {
    return run_until(loop, [&] {
      const Delivery now = find(id);
      loop.restart();
      return now.status == status && now.attempts == attempts && !now.owner;
    });
  }
  bool until_sent(std::size_t count) {
    return run_until(loop, [&] { return world.sent.size() >= count; });
  }
  bool has_alarm_in(Millis left) {
    return run_until(loop, [&] { return clock.has_alarm_at(clock.monotonic() + left); });
  }

  asio::io_context loop;
  FakeClock clock{loop};
  Db db{":memory:"};
  World world{loop};
  std::unique_ptr<Deliveries> deliveries = make("me");
};

TEST_F(DeliveriesTest, WhatIsThereIsDeliveredOnce) {
  deliveries->start();
  add("wh_1");
  ASSERT_TRUE(until("wh_1", DeliveryStatus::delivered, 1));
  deliveries->wake();
  EXPECT_EQ(world.sent.size(), 1);
}

TEST_F(DeliveriesTest, WhatFailsIsTriedAgainByTheScheduleUntilItIsDead) {
  world.outcomes["a"] = {Kind::again, "answered 500", std::nullopt};
  deliveries->start();
  add("wh_1");
  std::int64_t attempts = 1;
  for (const Millis step : {Millis(5s), Millis(5min), Millis(30min), Millis(2h), Millis(5h), Millis(10h), Millis(14h),
                            Millis(20h), Millis(24h)}) {
    ASSERT_TRUE(until("wh_1", DeliveryStatus::pending, attempts++));
    const Millis pause = step + step / 20;  // half of the tenth
    EXPECT_EQ(find("wh_1").next_at, clock.now() + pause);
    clock.advance(pause - 1ms);
    deliveries->wake();
    poll(loop);
    clock.advance(1ms);
    deliveries->wake();
  }
  ASSERT_TRUE(until("wh_1", DeliveryStatus::dead, 10));
  EXPECT_EQ(find("wh_1").last_error, "answered 500");
  EXPECT_EQ(world.sent.size(), 10);
}

TEST_F(DeliveriesTest, TheScheduleBeginsAnewWhenAnAttemptHasComeFurther) {
  world.outcomes["a"] = {Kind::again, "answered 500", std::nullopt};
  deliveries->start();
  add("wh_1");
  std::int64_t attempts = 0;
  const auto fails_and_waits = [&](Millis step) {
    if (!until("wh_1", DeliveryStatus::pending, ++attempts)) return false;
    const Millis pause = find("wh_1").next_at - clock.now();
    clock.advance(pause);
    deliveries->wake();
    return pause == step + step / 20;
  };
  ASSERT_TRUE(fails_and_waits(5s));
  ASSERT_TRUE(fails_and_waits(5min));
  world.taking = {"a"};
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(fails_and_waits(5s)) << i;
  EXPECT_EQ(world.positions["wh_1"], 11) << "each attempt knows how far the one before has come";
  world.taking.clear();
  ASSERT_TRUE(fails_and_waits(5min));
}

TEST_F(DeliveriesTest, ItWakesItselfWhenAnAttemptFallsDue) {
  world.outcomes["a"] = {Kind::again, "no", std::nullopt};
  deliveries->start();
  add("wh_1");
  ASSERT_TRUE(until("wh_1", DeliveryStatus::pending, 1));
  world.outcomes.clear();
  clock.advance(5s);
  ASSERT_TRUE(has_alarm_in(250ms));
  clock.advance(250ms);
  EXPECT_TRUE(until("wh_1", DeliveryStatus::delivered, 2));
}

TEST_F(DeliveriesTest, WhatAReceiverAsksForIsWaitedFor) {
  world.outcomes["a"] = {Kind::again, "no", Millis(20min)};
  deliveries->start();
  add("wh_1");
  ASSERT_TRUE(until("wh_1", DeliveryStatus::pending, 1));
  EXPECT_EQ(find("wh_1").next_at, clock.now() + 21min);
}

TEST_F(DeliveriesTest, WhatCanNeverGoWellIsDeadAtOnce) {
  world.outcomes["a"] = {Kind::never, "its address is not public", std::nullopt};
  deliveries->start();
  add("wh_1");
  ASSERT_TRUE(until("wh_1", DeliveryStatus::dead, 1));
  EXPECT_EQ(find("wh_1").last_error, "its address is not public");
}

TEST_F(DeliveriesTest, AnExceptionIsAFailureLikeOthers) {
  world.broken = {"a"};
  deliveries->start();
  add("wh_1");
  ASSERT_TRUE(until("wh_1", DeliveryStatus::pending, 1));
  EXPECT_EQ(find("wh_1").last_error, "this server had an error");
}

TEST_F(DeliveriesTest, AnOutcomeThatCannotBeKeptIsAFailureToo) {
  world.outcomes["a"] = {Kind::gone, "answered 410", std::nullopt, "http://a/"};
  deliveries->start();
  add("wh_1", "a", kDefaultProject, DeliveryKind::webhook, "no JSON");
  const Moment began = clock.monotonic();
  ASSERT_TRUE(run_until(loop, [&] {
    if (clock.has_alarm_at(began + 1s)) clock.advance(1s);
    const Delivery now = find("wh_1");
    loop.restart();
    return !now.owner && now.attempts == 1;
  }));
  EXPECT_EQ(find("wh_1").last_error, "this server had an error");
  EXPECT_EQ(find("wh_1").status, DeliveryStatus::pending);
  world.outcomes.clear();
  clock.advance(6s);
  deliveries->wake();
  EXPECT_TRUE(until("wh_1", DeliveryStatus::delivered, 2)) << "its place is free";
}

TEST_F(DeliveriesTest, AReceiverThatIsSilentHoldsUpNobodyElse) {
  world.silent = {"silent"};
  for (int i = 0; i < 100; ++i) add("wh_silent" + std::to_string(i), "silent");
  deliveries->start();
  add("wh_1");
  ASSERT_TRUE(until("wh_1", DeliveryStatus::delivered, 1));
  EXPECT_EQ(world.sent.size(), 3) << "two at a time are sent to one";
}

TEST_F(DeliveriesTest, OnlySoManyAreUnderWay) {
  constexpr std::size_t kMax = Deliveries::kAtOnce;
  for (std::size_t i = 0; i < kMax + 10; ++i) {
    add("wh_" + std::to_string(i), "host" + std::to_string(i), {"proj_" + std::to_string(i)});
    world.silent.insert("host" + std::to_string(i));
  }
  deliveries->start();
  ASSERT_TRUE(until_sent(kMax));
  deliveries->wake();
  add("wh_last", "last");
  poll(loop);
  EXPECT_EQ(world.sent.size(), kMax);
}

TEST_F(DeliveriesTest, AProjectWithManySilentReceiversHoldsUpNoOther) {
  for (int i = 0; i < 100; ++i) {
    world.silent.insert("silent" + std::to_string(i));
    add("wh_silent" + std::to_string(i), "silent" + std::to_string(i), {"proj_other"});
  }
  deliveries->start();
  add("wh_1");
  ASSERT_TRUE(until("wh_1", DeliveryStatus::delivered, 1));
  EXPECT_EQ(world.sent.size(), Deliveries::kPerProject + 1);
}

TEST_F(DeliveriesTest, OneThatAdvancesForLongIsBrokenOffAndGoesOnFromThere) {
  world.outcomes["a"] = {Kind::again, "answered 500", std::nullopt};
  deliveries->start();
  add("wh_1");
  ASSERT_TRUE(until("wh_1", DeliveryStatus::pending, 1));
  world.endless = {"a"};
  clock.advance(6s);
  deliveries->wake();
  ASSERT_TRUE(until_sent(2));
  world.outcomes.clear();
  const auto until_at = [&](std::int64_t position) {
    return run_until(loop, [&] {
      const Delivery now = find("wh_1");
      loop.restart();
      return now.position == position;
    });
  };
  clock.advance(Deliveries::kAttemptMax - 1ms);
  world.goes_on.notify();
  ASSERT_TRUE(until_at(2));
  poll(loop);
  EXPECT_EQ(find("wh_1").attempts, 2);
  clock.advance(1ms);
  world.goes_on.notify();
  ASSERT_TRUE(until("wh_1", DeliveryStatus::delivered, 3));
  EXPECT_EQ(find("wh_1").failures, 0) << "what failed before does not count";
  EXPECT_EQ(world.positions["wh_1"], 3);
}

TEST_F(DeliveriesTest, WhatIsUnderWayAtTheEndIsGivenBackAndSentByAnother) {
  world.silent = {"a"};
  deliveries->start();
  add("wh_1");
  ASSERT_TRUE(until_sent(1));
  run_task(loop, deliveries->stop(0ms));
  EXPECT_EQ(find("wh_1").owner, std::nullopt);
  EXPECT_EQ(find("wh_1").attempts, 0);
  world.silent.clear();
  deliveries = make("you");
  deliveries->start();
  EXPECT_TRUE(until("wh_1", DeliveryStatus::delivered, 1));
  EXPECT_EQ(world.sent, (std::vector<std::string>{"wh_1", "wh_1"}));
}

TEST_F(DeliveriesTest, WhatADeadProcessWasAtIsTakenOver) {
  add("wh_1");
  run_task(loop, db.write([&](Store& store) {
    store.join("dead", true, clock.now());
    Outbox(store).claim("dead", {1, 1, 1}, clock.now());
  }));
  deliveries->start();
  ASSERT_TRUE(has_alarm_in(Deliveries::kLookAfter)) << "it sees nothing to do";
  run_task(loop, db.write([&](Store& store) { store.bury("dead"); }));
  clock.advance(Deliveries::kLookAfter);
  EXPECT_TRUE(until("wh_1", DeliveryStatus::delivered, 2));
}

TEST_F(DeliveriesTest, WhatAClaimOfUnknownEndHasTakenIsSent) {
  add("wh_1");
  run_task(loop, db.write([&](Store& store) { Outbox(store).claim("me", {1, 1, 1}, clock.now()); }));
  deliveries->start();
  EXPECT_TRUE(until("wh_1", DeliveryStatus::delivered, 1));
}

TEST_F(DeliveriesTest, WhoHasLostADeliveryDoesNotSayHowItWent) {
  world.silent = {"a"};
  deliveries->start();
  add("wh_1");
  ASSERT_TRUE(until_sent(1));
  run_task(loop, db.write([&](Store& store) {
    Outbox(store).release("me");
    Outbox(store).claim("you", {1, 1, 1}, clock.now());
  }));
  run_task(loop, deliveries->stop(0ms));
  EXPECT_EQ(find("wh_1").owner, "you");
  EXPECT_EQ(find("wh_1").attempts, 2);
}

TEST_F(DeliveriesTest, WhatIsForASinkThatNobodyHasDiesInTheEnd) {
  add("wh_1", "unknown", kDefaultProject, DeliveryKind::sink);
  deliveries->start();
  ASSERT_TRUE(has_alarm_in(Deliveries::kLookAfter));
  clock.advance(Deliveries::kUnclaimedMax);
  ASSERT_TRUE(until("wh_1", DeliveryStatus::dead, 0));
}

TEST_F(DeliveriesTest, OldOnesAreRemoved) {
  deliveries->start();
  add("wh_1");
  ASSERT_TRUE(until("wh_1", DeliveryStatus::delivered, 1));
  ASSERT_TRUE(has_alarm_in(Deliveries::kLookAfter));
  clock.advance(Deliveries::kDeliveredKept);
  EXPECT_TRUE(run_until(loop, [&] {
    const auto left = run_task(loop, db.read([&](Store& store) { return Outbox(store).of_batches({{"batch_1"}}); }));
    loop.restart();
    return left.empty();
  }));
}

}  // namespace
}  // namespace penstock
