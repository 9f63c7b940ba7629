#include <gtest/gtest.h>

#include <algorithm>

#include "store/outbox.h"
#include "testing/database.h"

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(1'764'000'000'000)};

class OutboxSinksTest : public testing::TestWithParam<Driver> {
 protected:
  OutboxSinksTest() : database(GetParam()), connection(database.open_alone()), store(*connection), outbox(store) {
    store.migrate();
  }

  void insert(const std::string& id, DeliveryKind kind, const std::string& destination) {
    Delivery delivery;
    delivery.id = {id};
    delivery.batch_id = {"batch_1"};
    delivery.kind = kind;
    delivery.receiver = "{}";
    delivery.destination = destination;
    delivery.event = "batch.completed";
    delivery.next_at = kNow;
    outbox.insert(delivery);
  }
  std::vector<std::string> claim(const std::string& owner, const std::vector<std::string>& sinks) {
    std::vector<std::string> ids;
    for (const Delivery& one : outbox.claim(owner, {10, 8, 2}, kNow, sinks)) ids.push_back(one.id.value);
    std::sort(ids.begin(), ids.end());
    return ids;
  }
  using Ids = std::vector<std::string>;

  TestDatabase database;
  std::unique_ptr<sql::Connection> connection;
  Store store;
  Outbox outbox;
};
INSTANTIATE_TEST_SUITE_P(On, OutboxSinksTest, testing::ValuesIn(drivers()), driver_name);

TEST_P(OutboxSinksTest, ASinkIsLeftToAProcessThatHasIt) {
  insert("wh_1", DeliveryKind::sink, "table");
  insert("wh_2", DeliveryKind::sink, "bucket");
  insert("wh_3", DeliveryKind::sink, "example.com:443");
  insert("wh_4", DeliveryKind::webhook, "example.com:443");
  EXPECT_EQ(claim("first", {}), (Ids{"wh_3", "wh_4"}));
  EXPECT_EQ(claim("second", {"other", "bucket"}), Ids{"wh_2"});
  EXPECT_EQ(claim("third", {"table", "bucket"}), Ids{"wh_1"});
}

TEST_P(OutboxSinksTest, WhatIsNotWithinReachIsNotDue) {
  insert("wh_1", DeliveryKind::sink, "table");
  EXPECT_EQ(outbox.next_due({}, {"bucket"}), std::nullopt);
  EXPECT_EQ(outbox.next_due({}, {"bucket", "table"}), kNow);
}

TEST_P(OutboxSinksTest, WhatNobodyCouldTakeDiesInItsTime) {
  insert("wh_1", DeliveryKind::sink, "table");
  insert("wh_2", DeliveryKind::sink, "bucket");
  insert("wh_3", DeliveryKind::sink, "example.com:443");
  insert("wh_4", DeliveryKind::webhook, "example.com:443");
  const auto dead = [&] {
    std::vector<std::string> ids;
    for (const Delivery& one : outbox.list({.status = DeliveryStatus::dead}).value().items) ids.push_back(one.id.value);
    return ids;
  };
  const Timestamp later = kNow + Millis{10};
  outbox.bury_unclaimed(kNow - Millis{1}, {}, later);
  EXPECT_EQ(dead(), Ids{});
  EXPECT_EQ(claim("other", {"table"}).size(), 3);
  outbox.bury_unclaimed(kNow, {"bucket"}, later);
  EXPECT_EQ(dead(), Ids{}) << "one is held, and the other is within reach";
  outbox.release("other");
  outbox.bury_unclaimed(kNow, {"bucket"}, later);
  EXPECT_EQ(dead(), Ids{"wh_1"});
  const Delivery one = outbox.find(kDefaultProject, {"wh_1"}).value();
  EXPECT_EQ(one.last_error, "no server or worker has a sink of that name");
  EXPECT_EQ(one.ended_at, later);
}

TEST_P(OutboxSinksTest, WhatABatchHasForItsSinksIsPutIn) {
  Batch batch;
  batch.id = {"batch_1"};
  batch.status = BatchStatus::failed;
  batch.sinks = R"([{"name":"table"},{"url":"https://Example.com/in"}])";
  EXPECT_TRUE(deliveries_of(batch, {}, kNow).empty());
  batch.status = BatchStatus::cancelled;
  batch.error_file_id = {"file-1"};
  const auto all = deliveries_of(batch, {}, kNow);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].destination, "table");
  EXPECT_EQ(all[0].receiver, R"({"name":"table"})");
  EXPECT_EQ(all[1].destination, "example.com:443");
  EXPECT_EQ(all[1].event, "batch.cancelled");
}

}  // namespace
}  // namespace penstock
