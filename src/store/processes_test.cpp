#include <gtest/gtest.h>

#include "store/store.h"
#include "testing/database.h"

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(1'764'000'000'000)};
constexpr Millis kDay = std::chrono::hours(24), kTick{1};

class ProcessesTest : public testing::TestWithParam<Driver> {
 protected:
  ProcessesTest() : database(GetParam()), connection(database.open_alone()), store(*connection) { store.migrate(); }

  std::vector<std::string> known() {
    std::vector<std::string> ids;
    connection->execute("SELECT id FROM processes ORDER BY id", {},
                        [&](const sql::Row& row) { ids.emplace_back(row.text(0)); });
    return ids;
  }
  std::vector<std::string> living() {
    std::vector<std::string> ids;
    for (const Peer& peer : store.peers()) ids.push_back(peer.id);
    return ids;
  }
  // A batch of 128 lines that runs.
  BatchId add_batch(const std::string& id, const std::optional<std::string>& driver) {
    Batch batch;
    batch.id = {id};
    batch.input_file_id = {"file-" + id};
    batch.endpoint = "/v1/chat/completions";
    batch.completion_window = "24h";
    batch.created_at = kNow;
    batch.expires_at = kNow + kDay;
    batch.driver = driver;
    EXPECT_TRUE(store.insert_batch(batch, {0, 0}));
    EXPECT_TRUE(store.start_batch(batch.id, "m", 128));
    return batch.id;
  }

  TestDatabase database;
  std::unique_ptr<sql::Connection> connection;
  Store store;
};
INSTANTIATE_TEST_SUITE_P(On, ProcessesTest, testing::ValuesIn(drivers()), driver_name);

TEST_P(ProcessesTest, ADatabaseKeepsItsFirstName) {
  EXPECT_EQ(store.identity("first"), "first");
  EXPECT_EQ(store.identity("second"), "first");
  EXPECT_FALSE(store.is_marked());
  store.set_marked();
  EXPECT_TRUE(store.is_marked());
}

TEST_P(ProcessesTest, NobodyWasSeenInAnEmptyDatabase) {
  EXPECT_FALSE(store.worker_last_seen());
  EXPECT_TRUE(store.peers().empty());
}

TEST_P(ProcessesTest, TheNewestBeatOfAnyWorkerCounts) {
  store.join("w1", true, kNow);
  EXPECT_EQ(store.worker_last_seen(), kNow);
  store.join("server", false, kNow + Millis{20});
  EXPECT_EQ(store.worker_last_seen(), kNow);
  store.join("w2", true, kNow + Millis{7});
  EXPECT_EQ(store.worker_last_seen(), kNow + Millis{7});
  EXPECT_TRUE(store.beat("w1", "", kNow + Millis{9}));
  EXPECT_EQ(store.worker_last_seen(), kNow + Millis{9});
  store.bury("w1");
  EXPECT_EQ(store.worker_last_seen(), kNow + Millis{9}) << "dead or alive";
}

TEST_P(ProcessesTest, EachBeatIsAnotherNumberAndTellsOfTheEngines) {
  store.join("w1", true, kNow);
  store.join("w2", false, kNow);
  const std::vector<Peer> before = store.peers();
  ASSERT_TRUE(store.beat("w1", "all is well", kNow));
  const std::vector<Peer> after = store.peers();
  ASSERT_EQ(after.size(), 2u);
  EXPECT_NE(after[0].beats, before[0].beats);
  EXPECT_EQ(after[1].beats, before[1].beats);
  EXPECT_EQ(after[0].report, "all is well");
  EXPECT_TRUE(after[0].is_worker);
  EXPECT_FALSE(after[1].is_worker);
}

TEST_P(ProcessesTest, TheDeadAreForgottenAfterADay) {
  for (const char* id : {"w1", "w2", "w3"}) store.join(id, true, id == std::string("w1") ? kNow : kNow + kTick);
  store.bury("w1");
  store.bury("w2");
  store.join("w4", true, kNow + kDay);
  EXPECT_EQ(known(), (std::vector<std::string>{"w1", "w2", "w3", "w4"}));
  store.join("w4", true, kNow + kDay + kTick);
  EXPECT_EQ(known(), (std::vector<std::string>{"w2", "w3", "w4"}));
}

TEST_P(ProcessesTest, ABeatFromBeforeTheClockWasSetBackDoesNotStayTheNewest) {
  store.join("w1", true, kNow + kDay);
  store.bury("w1");
  store.join("w2", true, kNow);
  EXPECT_EQ(store.worker_last_seen(), kNow);
  EXPECT_EQ(known(), std::vector<std::string>{"w2"});
}

TEST_P(ProcessesTest, WhoIsBuriedHoldsNothing) {
  store.join("w1", true, kNow);
  store.join("w2", true, kNow);
  const BatchId id = add_batch("batch_1", "w1");
  const auto span = store.claim_spans({"w1", "m", 64, 1, true}, kNow).at(0);
  ASSERT_EQ(store.claim_spans({"w2", "m", 64, 1, true}, kNow).size(), 1u);
  EXPECT_TRUE(store.adopt_batches("w2").empty());

  ASSERT_TRUE(store.bury("w1"));
  EXPECT_EQ(living(), std::vector<std::string>{"w2"});
  EXPECT_FALSE(store.beat("w1", "", kNow));
  EXPECT_FALSE(store.bury("w1"));
  EXPECT_EQ(store.adopt_batches("w2"), std::vector{id});
  EXPECT_EQ(store.find_batch(id)->driver, "w2");
  const auto taken = store.claim_spans({"w2", "m", 640, 1, true}, kNow);
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].key, span.key);
  EXPECT_GT(taken[0].token, span.token);

  store.join("w1", true, kNow);
  EXPECT_TRUE(store.beat("w1", "", kNow));
  EXPECT_TRUE(store.held_spans("w1").empty());
}

TEST_P(ProcessesTest, ABatchHasOneDriver) {
  store.join("w1", true, kNow);
  const BatchId id = add_batch("batch_1", "w1");
  EXPECT_TRUE(store.drives("w1", id));
  EXPECT_FALSE(store.drives("w2", id));
  store.join("w2", true, kNow);
  ASSERT_TRUE(store.bury("w1"));
  store.adopt_batches("w2");
  EXPECT_FALSE(store.drives("w1", id));
  EXPECT_TRUE(store.drives("w2", id));
}

TEST_P(ProcessesTest, WhoHasGivenABeatSinceIsNotBuried) {
  store.join("w1", true, kNow);
  const std::int64_t seen = store.peers().at(0).beats;
  ASSERT_TRUE(store.beat("w1", "", kNow));
  EXPECT_FALSE(store.bury("w1", seen));
  EXPECT_EQ(living(), std::vector<std::string>{"w1"});
  EXPECT_TRUE(store.bury("w1", seen + 1));
}

TEST_P(ProcessesTest, WhoComesBackFromTheGraveHasAnotherNumber) {
  store.join("w1", true, kNow);
  const std::int64_t seen = store.peers().at(0).beats;
  ASSERT_TRUE(store.bury("w1", seen));
  store.join("w1", true, kNow);
  EXPECT_FALSE(store.bury("w1", seen));
}

TEST_P(ProcessesTest, UnfinishedBatchesOfNobodyAreAdopted) {
  store.join("w1", true, kNow);
  const BatchId lone = add_batch("batch_1", std::nullopt);
  add_batch("batch_2", "w1");
  const BatchId ended = add_batch("batch_3", std::nullopt);
  ASSERT_TRUE(store.finish_batch(ended, BatchStatus::in_progress, {BatchStatus::expired, {}, {}, {128, 0, 0}}, kNow));
  const BatchId of_the_dead = add_batch("batch_4", "w0");
  store.join("w2", true, kNow);
  EXPECT_EQ(store.adopt_batches("w2"), (std::vector{lone, of_the_dead}));
  EXPECT_EQ(store.adopt_batches("w2"), (std::vector{lone, of_the_dead})) << "they are his";
  store.join("w3", true, kNow);
  EXPECT_TRUE(store.adopt_batches("w3").empty());
}

TEST_P(ProcessesTest, AtAStartAloneWhoeverWasHereIsGone) {
  store.join("gone", true, kNow);
  EXPECT_TRUE(store.lives("gone"));
  const BatchId id = add_batch("batch_1", "gone");
  ASSERT_EQ(store.claim_spans({"gone", "m", 64, 1, true}, kNow).size(), 1u);
  store.bury_all();
  EXPECT_TRUE(living().empty());
  EXPECT_FALSE(store.lives("gone"));
  EXPECT_EQ(store.adopt_batches("w"), std::vector{id});
  EXPECT_EQ(store.claim_spans({"w", "m", 640, 1, true}, kNow).size(), 2u);
}

}  // namespace
}  // namespace penstock
