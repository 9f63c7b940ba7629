#include <gtest/gtest.h>

#include "store/store.h"
#include "testing/database.h"

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(1'764'000'000'000)};
constexpr Millis kDay = std::chrono::hours(24), kTick{1};

class WorkersTest : public testing::TestWithParam<Driver> {
 protected:
  WorkersTest() : database(GetParam()), connection(database.open_alone()), store(*connection) { store.migrate(); }

  std::vector<std::string> known() {
    std::vector<std::string> ids;
    connection->execute("SELECT id FROM workers ORDER BY id", {},
                        [&](const sql::Row& row) { ids.emplace_back(row.text(0)); });
    return ids;
  }

  TestDatabase database;
  std::unique_ptr<sql::Connection> connection;
  Store store;
};
INSTANTIATE_TEST_SUITE_P(On, WorkersTest, testing::ValuesIn(drivers()), driver_name);

TEST_P(WorkersTest, NobodyWasSeenInAnEmptyDatabase) {
  EXPECT_FALSE(store.worker_last_seen());
}

TEST_P(WorkersTest, TheNewestSignOfAnyWorkerCounts) {
  store.worker_seen("w1", kNow);
  EXPECT_EQ(store.worker_last_seen(), kNow);
  store.worker_seen("w2", kNow + Millis{7});
  EXPECT_EQ(store.worker_last_seen(), kNow + Millis{7});
  store.worker_seen("w1", kNow + Millis{9});
  EXPECT_EQ(store.worker_last_seen(), kNow + Millis{9});
  EXPECT_EQ(known(), (std::vector<std::string>{"w1", "w2"}));
}

TEST_P(WorkersTest, OnlyWorkersNotSeenForADayAreForgotten) {
  store.worker_seen("w1", kNow);
  store.worker_seen("w2", kNow + kTick);
  store.worker_seen("w3", kNow + kDay);
  EXPECT_EQ(known(), (std::vector<std::string>{"w1", "w2", "w3"}));
  store.worker_seen("w3", kNow + kDay + kTick);
  EXPECT_EQ(known(), (std::vector<std::string>{"w2", "w3"}));
}

TEST_P(WorkersTest, ASignFromBeforeTheClockWasSetBackDoesNotStayTheNewest) {
  store.worker_seen("w1", kNow + kDay);
  store.worker_seen("w2", kNow + kDay);
  store.worker_seen("w2", kNow);
  EXPECT_EQ(store.worker_last_seen(), kNow);
  EXPECT_EQ(known(), std::vector<std::string>{"w2"});
}

}  // namespace
}  // namespace penstock
