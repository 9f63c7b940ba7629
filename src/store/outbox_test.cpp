#include "store/outbox.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <set>

#include "testing/database.h"

namespace penstock {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using enum BatchStatus;

constexpr Timestamp kNow{Millis(1'764'000'000'000)};
constexpr Millis kTick{1};

class OutboxTest : public testing::TestWithParam<Driver> {
 protected:
  OutboxTest() : database(GetParam()), connection(database.open_alone()), store(*connection), outbox(store) {
    store.migrate();
  }

  BatchId add_batch(const std::string& id, const std::function<void(Batch&)>& change = nullptr) {
    Batch batch;
    batch.id = {id};
    batch.input_file_id = {"file-in"};
    batch.endpoint = "/v1/chat/completions";
    batch.completion_window = "24h";
    batch.created_at = kNow;
    batch.expires_at = kNow + 24h;
    if (change) change(batch);
    EXPECT_TRUE(store.insert_batch(batch, {0, 0}));
    return batch.id;
  }
  std::vector<Delivery> end(const BatchId& id) {
    const File output{{"file-" + id.value}, "out.jsonl", "batch_output", 1, kNow, std::nullopt};
    EXPECT_TRUE(store.start_batch(id, "m", 0));
    EXPECT_TRUE(store.finish_batch(id, in_progress, {completed, output, std::nullopt, {}}, kNow));
    return outbox.of_batches({id});
  }
  Delivery add(const std::string& id, const std::string& destination = "a:80", Timestamp next = kNow,
               const ProjectId& project = kDefaultProject) {
    Delivery delivery;
    delivery.id = {id};
    delivery.project = project;
    delivery.batch_id = {"batch_" + id};
    delivery.receiver = R"({"url":"http://a","secret":null})";
    delivery.destination = destination;
    delivery.event = "batch.completed";
    delivery.body = "{}";
    delivery.next_at = delivery.created_at = next;
    outbox.insert(delivery);
    return delivery;
  }
  std::vector<std::string> claim(const std::string& owner, std::int64_t limit = 64, Timestamp now = kNow) {
    std::vector<std::string> ids;
    for (const Delivery& one : outbox.claim(owner, {limit, 8, 2}, now)) ids.push_back(one.id.value);
    std::sort(ids.begin(), ids.end());
    return ids;
  }
  Delivery claim_one(const std::string& owner, Timestamp now = kNow) {
    auto claimed = outbox.claim(owner, {1, 8, 2}, now);
    EXPECT_EQ(claimed.size(), 1);
    return claimed.at(0);
  }
  Delivery find(const std::string& id) { return outbox.find(kDefaultProject, {id}).value(); }
  WebhookEndpoint add_endpoint(const std::string& id, std::vector<std::string> types,
                               const ProjectId& project = kDefaultProject) {
    WebhookEndpoint endpoint;
    endpoint.id = {id};
    endpoint.project = project;
    endpoint.name = endpoint.secret = "s";
    endpoint.url = "http://" + id + "/";
    endpoint.event_types = std::move(types);
    endpoint.created_at = endpoint.updated_at = kNow;
    outbox.insert_endpoint(endpoint);
    return endpoint;
  }

  using Ids = std::vector<std::string>;
  TestDatabase database;
  std::unique_ptr<sql::Connection> connection;
  Store store;
  Outbox outbox;
};

INSTANTIATE_TEST_SUITE_P(Drivers, OutboxTest, testing::ValuesIn(drivers()), driver_name);

TEST_P(OutboxTest, TheEndOfABatchHasOneDeliveryForEachReceiver) {
  add_endpoint("one", {"batch.completed"});
  add_endpoint("other-events", {"batch.failed"});
  add_endpoint("foreign", {"batch.completed"}, {"proj_other"});
  WebhookEndpoint disabled = add_endpoint("disabled", {"batch.completed"});
  disabled.disabled_at = kNow;
  EXPECT_TRUE(outbox.update_endpoint(disabled));
  const BatchId id = add_batch("batch_1", [](Batch& batch) {
    batch.webhook = R"({"url":"https://Hooks.example/a","secret":"s","events":["batch.completed"]})";
    batch.metadata = Metadata{{"webhook_url", "http://meta:8080/b"}, {"else", "c"}};
    batch.sinks = R"([{"name":"lake"},{"url":"https://sink.example"}])";
  });
  const auto deliveries = end(id);
  Ids destinations;
  std::set<std::string> ids, bodies;
  for (const Delivery& one : deliveries) {
    destinations.push_back(one.destination);
    ids.insert(one.id.value);
    if (one.kind == DeliveryKind::webhook) bodies.insert(one.body);
    EXPECT_EQ(one.event, "batch.completed");
    EXPECT_EQ(one.next_at, kNow);
  }
  EXPECT_EQ(destinations, (Ids{"hooks.example:443", "meta:8080", "one:80", "lake", "sink.example:443"}));
  EXPECT_EQ(ids.size(), 5) << "each has an id of its own";
  EXPECT_EQ(bodies.size(), 1) << "and all the same event";
  const json::value body = json::parse(*bodies.begin());
  EXPECT_EQ(body.at("data").at("id"), "batch_1");
  EXPECT_EQ(body.at("created_at"), 1'764'000'000);
  EXPECT_EQ(body.at("status"), "completed");
}

TEST_P(OutboxTest, ABatchThatEndsOnceIsAnnouncedOnce) {
  const BatchId id = add_batch("batch_1", [](Batch& batch) { batch.metadata = Metadata{{"webhook_url", "http://a"}}; });
  EXPECT_EQ(end(id).size(), 1);
  EXPECT_FALSE(store.finish_batch(id, in_progress, {completed, std::nullopt, std::nullopt, {}}, kNow));
  EXPECT_FALSE(store.fail_batch(id, {}, 0, kNow));
  EXPECT_EQ(outbox.of_batches({id}).size(), 1);
}

TEST_P(OutboxTest, WhatIsRolledBackWasNotAnnounced) {
  const BatchId id = add_batch("batch_1", [](Batch& batch) { batch.metadata = Metadata{{"webhook_url", "http://a"}}; });
  connection->begin();
  EXPECT_TRUE(store.fail_batch(id, {}, 0, kNow));
  connection->rollback();
  EXPECT_TRUE(outbox.of_batches({id}).empty());
}

TEST_P(OutboxTest, AUrlThatIsNamedTwiceIsToldOnce) {
  const BatchId id = add_batch("batch_1", [](Batch& batch) {
    batch.webhook = R"({"url":"http://a/","secret":"s","events":["batch.completed"]})";
    batch.metadata = Metadata{{"webhook_url", "http://a/"}};
  });
  EXPECT_EQ(end(id).size(), 1);
}

TEST_P(OutboxTest, ADeliveryIsHeldByOneAndOnlyWhenItIsDue) {
  add("wh_1");
  add("wh_2", "b:80", kNow + kTick);
  EXPECT_EQ(outbox.next_due(Timestamp{}), kNow);
  EXPECT_EQ(outbox.next_due(kNow), kNow + kTick);
  EXPECT_EQ(claim("me"), Ids{"wh_1"});
  EXPECT_EQ(claim("you"), Ids{});
  EXPECT_EQ(claim("you", 64, kNow + kTick), Ids{"wh_2"});
  EXPECT_FALSE(outbox.next_due(Timestamp{}));
  EXPECT_EQ(outbox.held("me").size(), 1);
  EXPECT_EQ(find("wh_1").attempts, 1);
}

TEST_P(OutboxTest, OfOneDestinationFewAreHeldAtATime) {
  for (int i = 0; i < 10; ++i) add(fmt::format("wh_a{}", i), "a:80", kNow - 1s);
  add("wh_b", "b:80");
  EXPECT_EQ(claim("me"), (Ids{"wh_a0", "wh_a1", "wh_b"})) << "who waits behind many of another is not held up";
  EXPECT_EQ(claim("me"), Ids{});
  EXPECT_EQ(claim("you"), (Ids{"wh_a2", "wh_a3"}));
  EXPECT_TRUE(outbox.end(outbox.held("me").front(), DeliveryStatus::delivered, std::nullopt, kNow));
  EXPECT_EQ(claim("me"), Ids{"wh_a4"});
}

TEST_P(OutboxTest, OfOneProjectFewAreHeldAtATime) {
  for (int i = 0; i < 100; ++i) {
    add(fmt::format("wh_{:02}", i), fmt::format("host{}:80", i), kNow - 1s, {"proj_many"});
  }
  add("wh_other");
  EXPECT_EQ(claim("me", 64), (Ids{"wh_00", "wh_01", "wh_02", "wh_03", "wh_04", "wh_05", "wh_06", "wh_07", "wh_other"}));
  EXPECT_EQ(claim("me", 55), Ids{});
  EXPECT_EQ(claim("you", 3), (Ids{"wh_08", "wh_09", "wh_10"}));
  const Delivery one = outbox.find({"proj_many"}, {"wh_00"}).value();
  EXPECT_TRUE(outbox.end(one, DeliveryStatus::delivered, std::nullopt, kNow));
  EXPECT_EQ(claim("me", 56), Ids{"wh_11"});
}

TEST_P(OutboxTest, WhatWaitsForItsDestinationTakesNoPlaceOfItsProject) {
  for (int i = 0; i < 20; ++i) add(fmt::format("wh_a{:02}", i), "a:80", kNow - 1s);
  for (int i = 0; i < 7; ++i) add(fmt::format("wh_b{}", i), fmt::format("host{}:80", i));
  EXPECT_EQ(claim("me"), (Ids{"wh_a00", "wh_a01", "wh_b0", "wh_b1", "wh_b2", "wh_b3", "wh_b4", "wh_b5"}));
}

TEST_P(OutboxTest, WhatHadItsTimeIsDueAgainAndItsFailuresAreForgotten) {
  add("wh_1");
  Delivery attempt = claim_one("me");
  attempt.failures = 1;
  EXPECT_TRUE(outbox.try_again(attempt, "answered 500", kNow + 5s));
  attempt = claim_one("me", kNow + 5s);
  EXPECT_TRUE(outbox.go_on(attempt, kNow + 6s));
  EXPECT_FALSE(outbox.go_on(attempt, kNow + 7s)) << "it is the owner's no more";
  EXPECT_EQ(find("wh_1").last_error, std::nullopt);
  EXPECT_EQ(claim_one("you", kNow + 6s).failures, 0);
}

TEST_P(OutboxTest, AClaimHasItsLimit) {
  for (int i = 0; i < 5; ++i) add(fmt::format("wh_{}", i), fmt::format("host{}", i));
  EXPECT_EQ(claim("me", 3), (Ids{"wh_0", "wh_1", "wh_2"}));
}

TEST_P(OutboxTest, WhatADeadProcessHeldIsFree) {
  add("wh_1");
  store.join("me", true, kNow);
  const Delivery lost = claim_one("me");
  EXPECT_TRUE(store.bury("me"));
  const Delivery taken = claim_one("you");
  EXPECT_EQ(taken.attempts, 2);
  EXPECT_FALSE(outbox.note(lost, 7)) << "who comes back from the grave writes nothing";
  EXPECT_FALSE(outbox.end(lost, DeliveryStatus::delivered, std::nullopt, kNow));
  EXPECT_FALSE(outbox.try_again(lost, "why", kNow));
  EXPECT_TRUE(outbox.note(taken, 3));
  EXPECT_EQ(find("wh_1").position, 3);
  store.bury_all();
  EXPECT_EQ(claim("them"), Ids{"wh_1"});
}

TEST_P(OutboxTest, AnAttemptIsFencedOffByALaterOneOfTheSameProcess) {
  add("wh_1");
  const Delivery first = claim_one("me");
  outbox.release("me");
  const Delivery second = claim_one("me");
  EXPECT_FALSE(outbox.end(first, DeliveryStatus::dead, "why", kNow));
  EXPECT_TRUE(outbox.end(second, DeliveryStatus::dead, "why", kNow));
}

TEST_P(OutboxTest, AnAttemptThatWasGivenBackDoesNotCount) {
  add("wh_1");
  outbox.give_back(claim_one("me"));
  EXPECT_EQ(find("wh_1").attempts, 0);
  EXPECT_EQ(claim_one("you").attempts, 1);
}

TEST_P(OutboxTest, WhatFailedIsDueLaterAndSaysWhy) {
  add("wh_1");
  Delivery attempt = claim_one("me");
  attempt.failures = 3;
  EXPECT_TRUE(outbox.try_again(attempt, "answered 500", kNow + 5s));
  EXPECT_EQ(claim("me", 64, kNow + 5s - kTick), Ids{});
  EXPECT_EQ(find("wh_1").last_error, "answered 500");
  EXPECT_EQ(find("wh_1").failures, 3);
  EXPECT_TRUE(outbox.end(claim_one("me", kNow + 5s), DeliveryStatus::delivered, std::nullopt, kNow + 6s));
  EXPECT_EQ(find("wh_1").last_error, std::nullopt);
  EXPECT_EQ(find("wh_1").ended_at, kNow + 6s);
  EXPECT_EQ(find("wh_1").owner, std::nullopt);
}

TEST_P(OutboxTest, ADeadLetterThatIsRetriedBeginsAnew) {
  add("wh_1");
  Delivery attempt = claim_one("me");
  attempt.failures = 9;
  EXPECT_TRUE(outbox.try_again(attempt, "why", kNow));
  EXPECT_TRUE(outbox.end(claim_one("me"), DeliveryStatus::dead, "why", kNow));
  EXPECT_EQ(claim("me"), Ids{});
  EXPECT_EQ(outbox.retry({"proj_other"}, {"wh_1"}, kNow).error().message, no_such_delivery({"wh_1"}).message);
  const auto again = outbox.retry(kDefaultProject, {"wh_1"}, kNow + 1s);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->failures, 0);
  EXPECT_EQ(again->next_at, kNow + 1s);
  EXPECT_TRUE(outbox.end(claim_one("me", kNow + 1s), DeliveryStatus::delivered, std::nullopt, kNow));
  EXPECT_EQ(outbox.retry(kDefaultProject, {"wh_1"}, kNow).error().kind, Error::Kind::conflict);
}

TEST_P(OutboxTest, OneThatIsUnderWayStaysSoWhenARetryIsAskedFor) {
  add("wh_1");
  const Delivery attempt = claim_one("me");
  EXPECT_EQ(outbox.retry(kDefaultProject, {"wh_1"}, kNow).value().owner, "me");
  EXPECT_TRUE(outbox.end(attempt, DeliveryStatus::delivered, std::nullopt, kNow));
}

TEST_P(OutboxTest, ListsAreOfOneProjectTheNewestFirst) {
  for (const char* id : {"wh_1", "wh_2", "wh_3"}) add(id);
  Delivery foreign = find("wh_1");
  foreign.id = {"wh_4"};
  foreign.project = {"proj_other"};
  outbox.insert(foreign);
  const auto listed = [&](DeliveryQuery query) {
    Ids ids;
    for (const Delivery& one : outbox.list(query).value().items) ids.push_back(one.id.value);
    return ids;
  };
  EXPECT_EQ(listed({}), (Ids{"wh_3", "wh_2", "wh_1"}));
  EXPECT_EQ(listed({.after = DeliveryId{"wh_3"}, .limit = 1}), Ids{"wh_2"});
  EXPECT_EQ(listed({.batch = BatchId{"batch_wh_2"}}), Ids{"wh_2"});
  EXPECT_EQ(listed({.status = DeliveryStatus::dead}), Ids{});
  EXPECT_TRUE(outbox.list({.limit = 2}).value().has_more);
  EXPECT_FALSE(outbox.list({.limit = 3}).value().has_more);
  EXPECT_FALSE(outbox.list({.after = DeliveryId{"wh_4"}}));
  EXPECT_FALSE(outbox.find(kDefaultProject, {"wh_4"}));
  EXPECT_EQ(listed({.project = std::nullopt}), (Ids{"wh_4", "wh_3", "wh_2", "wh_1"}));
  EXPECT_EQ(listed({.project = std::nullopt, .after = DeliveryId{"wh_4"}, .limit = 1}), Ids{"wh_3"});
  EXPECT_EQ(outbox.project_of({"wh_4"}), ProjectId{"proj_other"});
  EXPECT_FALSE(outbox.remove(kDefaultProject, {"wh_4"}));
  EXPECT_TRUE(outbox.remove({"proj_other"}, {"wh_4"}));
  EXPECT_FALSE(outbox.project_of({"wh_4"}));
}

TEST_P(OutboxTest, WhatHasEndedIsRemovedInItsTime) {
  for (const char* id : {"wh_1", "wh_2", "wh_3"}) add(id, id);
  EXPECT_TRUE(outbox.end(claim_one("me"), DeliveryStatus::delivered, std::nullopt, kNow));
  EXPECT_TRUE(outbox.end(claim_one("me"), DeliveryStatus::dead, "why", kNow));
  outbox.purge(kNow - kTick, kNow - kTick);
  EXPECT_EQ(outbox.list({}).value().items.size(), 3);
  outbox.purge(kNow, kNow - kTick);
  EXPECT_EQ(outbox.list({}).value().items.size(), 2);
  outbox.purge(kNow, kNow);
  EXPECT_EQ(outbox.list({}).value().items.front().id.value, "wh_3");
}

TEST_P(OutboxTest, AnEndpointIsDisabledByTheAddressThatSaidSo) {
  const WebhookEndpoint endpoint = add_endpoint("we_1", {"batch.completed"});
  const auto deliveries = end(add_batch("batch_1"));
  ASSERT_EQ(deliveries.size(), 1);
  WebhookEndpoint moved = endpoint;
  moved.url = "http://elsewhere/";
  EXPECT_TRUE(outbox.update_endpoint(moved));
  outbox.disable_endpoint(deliveries[0], endpoint.url, kNow);
  EXPECT_FALSE(outbox.find_endpoint(kDefaultProject, endpoint.id)->disabled_at);
  outbox.disable_endpoint(deliveries[0], moved.url, kNow);
  EXPECT_EQ(outbox.find_endpoint(kDefaultProject, endpoint.id)->disabled_at, kNow);
}

TEST_P(OutboxTest, EndpointsAreOfOneProject) {
  add_endpoint("we_1", {"batch.completed"});
  add_endpoint("we_2", {"batch.failed"});
  WebhookEndpoint foreign = add_endpoint("we_3", {"batch.completed"}, {"proj_other"});
  EXPECT_EQ(outbox.list_endpoints(kDefaultProject, std::nullopt, 1).value().items.front().id.value, "we_2");
  EXPECT_EQ(outbox.list_endpoints(kDefaultProject, EndpointId{"we_2"}, 1).value().items.front().id.value, "we_1");
  EXPECT_FALSE(outbox.list_endpoints(kDefaultProject, foreign.id, 1));
  EXPECT_FALSE(outbox.find_endpoint(kDefaultProject, foreign.id));
  EXPECT_FALSE(outbox.remove_endpoint(kDefaultProject, foreign.id));
  foreign.project = kDefaultProject;
  EXPECT_FALSE(outbox.update_endpoint(foreign));
  EXPECT_TRUE(outbox.remove_endpoint({"proj_other"}, foreign.id));
}

}  // namespace
}  // namespace penstock
