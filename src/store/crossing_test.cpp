#include <fmt/core.h>
#include <gtest/gtest.h>

#include <future>
#include <set>
#include <thread>

#include "store/outbox.h"
#include "store/sessions.h"
#include "testing/database.h"

// Transactions of several sessions that cross.
namespace penstock {
namespace {

using enum BatchStatus;

constexpr Timestamp kNow{Millis(1'764'000'000'000)};

Batch make_batch(const std::string& id) {
  Batch batch;
  batch.id = {id};
  batch.input_file_id = {"file-in"};
  batch.endpoint = "/v1/chat/completions";
  batch.completion_window = "24h";
  batch.created_at = kNow;
  batch.expires_at = kNow + std::chrono::hours(24);
  return batch;
}

// Answers to lines of one span, claimed with token 0.
ResultGroup answers(const BatchId& batch, std::int64_t span, std::uint32_t from, std::uint32_t to) {
  ResultGroup group;
  group.span = {batch, span};
  for (std::uint32_t i = from; i < to; ++i) {
    const std::string line = fmt::format("{}\n", span * kSpanLines + i);
    group.entries.push_back(
        {static_cast<std::uint32_t>(span) * kSpanLines + i, static_cast<std::uint32_t>(line.size()), false});
    group.lines += line;
  }
  return group;
}

class ManyTest : public testing::TestWithParam<Driver> {
 protected:
  template <class F>
  std::invoke_result_t<F&, Store&> run(F f) {
    return sessions.transaction(Sessions::kTries, f);
  }
  template <class F>
  void at_once(int count, F f) {
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i) threads.emplace_back([&f, i] { f(i); });
    for (std::thread& thread : threads) thread.join();
  }

  void SetUp() override {
    run([](Store& store) {
      store.migrate();
      store.insert_file({{"file-in"}, "in.jsonl", "batch", 1, kNow, std::nullopt});
    });
  }

  TestDatabase database{GetParam()};
  Sessions sessions{[this] { return database.open(); }};
};
INSTANTIATE_TEST_SUITE_P(On, ManyTest, testing::ValuesIn(drivers()), driver_name);

TEST_P(ManyTest, CreatesAtOnceFillTheQueueToItsDepthAndNoFurther) {
  std::atomic<int> taken = 0;
  at_once(40, [&](int i) {
    taken +=
        run([&](Store& store) { return store.insert_batch(make_batch(fmt::format("batch_{}", i)), {}); }).has_value();
  });
  EXPECT_EQ(taken, 20);
  EXPECT_EQ(run([](Store& store) { return store.queue(); }).size(), 20u);
}

TEST_P(ManyTest, SaversOfManyBatchesLoseNothingAndAFollowerMissesNothing) {
  constexpr int kSavers = 4, kGroups = 20;
  const std::vector<BatchId> batches = {{"batch_a"}, {"batch_b"}};
  for (const BatchId& id : batches) {
    run([&](Store& store) {
      store.insert_batch(make_batch(id.value), {0, 0}).value();
      return store.start_batch(id, "m", kSavers * kSpanLines);
    });
  }
  std::atomic<bool> saved = false;
  std::multiset<int> seen;
  std::thread follower([&] {
    SavedPlace place;
    const auto reader = database.open(true);
    for (bool last = false; !last;) {
      last = saved;
      const std::string lines =
          sql::transaction(*reader, [&] { return Store(*reader).saved_lines(batches[0], place, 1'000'000); });
      for (const std::string& line : split_lines(lines)) seen.insert(std::stoi(line));
    }
  });
  at_once(kSavers, [&](int saver) {
    for (std::uint32_t group = 0; group < kGroups; ++group) {
      run([&](Store& store) {
        for (const BatchId& id : batches) EXPECT_TRUE(store.save_results(answers(id, saver, group, group + 1)));
      });
    }
  });
  saved = true;
  follower.join();
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(kSavers * kGroups));
  EXPECT_EQ(std::set<int>(seen.begin(), seen.end()).size(), seen.size());
}

// Two transactions, the second of which begins while the first is open.
class CrossingTest : public testing::Test {
 protected:
  void SetUp() override {
    if (servers().empty()) GTEST_SKIP() << "PENSTOCK_TEST_POSTGRES names no server; SQLite has one writer at a time";
    database.emplace(Driver::postgres);
    first = database->open();
    sql::transaction(*first, [&] { Store(*first).migrate(); });
    second = database->open();
    sql::transaction(*first, [&] {
      Store store(*first);
      store.insert_file({{"file-in"}, "in.jsonl", "batch", 1, kNow, std::nullopt});
      store.insert_batch(make_batch("batch_1"), {0, 0}).value();
      store.start_batch(id, "m", kSpanLines + 10);
    });
  }

  // Returns when the second transaction waits for the first, or has ended.
  template <class F>
  auto cross(F f) {
    std::int64_t pid = 0, waits = 0;
    second->execute("SELECT pg_backend_pid()", {}, [&](const sql::Row& row) { pid = row.integer(0); });
    auto result = std::async(std::launch::async, [this, f] {
      return sql::transaction(*second, [&] {
        Store store(*second);
        return f(store);
      });
    });
    const auto observer = database->open();
    while (waits == 0 && result.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
      observer->execute("SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND pid = CAST($1 AS INTEGER)", {pid},
                        [&](const sql::Row& row) { waits = row.integer(0); });
    }
    return result;
  }

  const BatchId id{"batch_1"};
  std::optional<TestDatabase> database;
  std::unique_ptr<sql::Connection> first, second;
};

TEST_F(CrossingTest, AFollowerMissesNoGroupOfASaverThatIsSlowToCommit) {
  std::string seen;
  SavedPlace place;
  const auto look = [&] {
    const auto reader = database->open(true);
    seen += Store(*reader).saved_lines(id, place, 1'000'000);
  };
  first->begin();
  ASSERT_TRUE(Store(*first).save_results(answers(id, 0, 0, 1)));
  first->execute("SELECT 1", {});
  auto other = cross([&](Store& store) { return store.save_results(answers(id, 1, 0, 1)); });
  look();
  first->commit();
  EXPECT_TRUE(other.get());
  look();
  EXPECT_EQ(seen, "0\n512\n");
}

TEST_F(CrossingTest, OfTwoBatchesForTheLastPlaceInTheQueueOneIsTaken) {
  const QueueLimits limits{.depth = 2, .queued_total = 0};
  first->begin();
  ASSERT_TRUE(Store(*first).insert_batch(make_batch("batch_2"), limits));
  auto other = cross([=](Store& store) { return store.insert_batch(make_batch("batch_3"), limits).has_value(); });
  first->commit();
  EXPECT_FALSE(other.get());
}

TEST_F(CrossingTest, OfTwinsWithOneIdempotencyKeyOneMakesABatchAndTheOtherIsGivenIt) {
  const auto create = [](Store& store, const std::string& name) {
    const IdempotencyKey key{"POST /v1/batches k", "the same"};
    auto made = store.recall(key, kNow).value();
    if (made) return *made;
    store.insert_batch(make_batch(name), {}).value();
    store.remember(key, name, kNow);
    return name;
  };
  first->begin();
  Store store(*first);
  EXPECT_EQ(create(store, "batch_a"), "batch_a");
  auto twin = cross([create](Store& other) { return create(other, "batch_b"); });
  first->commit();
  EXPECT_EQ(twin.get(), "batch_a");
}

TEST_F(CrossingTest, OfTwoProgramsThatStartAtOnceOneMakesTheSchema) {
  database.emplace(Driver::postgres);
  first = database->open();
  second = database->open();
  first->begin();
  Store(*first).migrate();
  auto other = cross([](Store& store) { store.migrate(); });
  first->commit();
  EXPECT_NO_THROW(other.get());
}

TEST_F(CrossingTest, SavingUpdatesNoIndexOfSpans) {
  std::int64_t kept_in_page = 0;
  sql::transaction(*first, [&] {
    ASSERT_TRUE(Store(*first).save_results(answers(id, 0, 0, 1)));
    first->execute("SELECT n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relid = 'spans'::regclass", {},
                   [&](const sql::Row& row) { kept_in_page = row.integer(0); });
  });
  EXPECT_EQ(kept_in_page, 1);
}

TEST_F(CrossingTest, AFenceWaitsForWhatIsBeingSavedAndRefusesWhatComesAfter) {
  first->begin();
  ASSERT_TRUE(Store(*first).save_results(answers(id, 0, 0, 1)));
  auto fence = cross([&](Store& store) { store.fence(id); });
  first->commit();
  fence.get();
  EXPECT_EQ(sql::transaction(*first, [&] { return Store(*first).find_batch(id)->counts.completed; }), 1);

  first->begin();
  Store(*first).fence(id);
  first->execute("SELECT 1", {});
  ResultGroup late = answers(id, 0, 1, 2);
  late.token = 1;
  auto save = cross([&](Store& store) { return store.save_results(late); });
  first->commit();
  EXPECT_FALSE(save.get());
}

TEST_F(CrossingTest, NothingIsSavedBehindTheEndOfABatch) {
  first->begin();
  ASSERT_TRUE(Store(*first).advance(id, in_progress, finalizing, kNow));
  auto save = cross([&](Store& store) { return store.save_results(answers(id, 0, 0, 1)); });
  first->commit();
  EXPECT_FALSE(save.get());
}

TEST_F(CrossingTest, WhatACommitThatNobodyHeardOfSavesIsFound) {
  first->begin();
  ASSERT_TRUE(Store(*first).save_results(answers(id, 0, 7, 8)));
  first->execute("SELECT 1", {});
  auto found = cross([&](Store& store) { return store.finished_indices({id, 0}); });
  first->commit();
  EXPECT_EQ(found.get(), std::vector<std::uint32_t>{7});
}

TEST_F(CrossingTest, AFileThatABatchIsAboutToReadIsNotRemoved) {
  for (const bool expires : {false, true}) {
    const File file{{fmt::format("file-{}", expires)}, "in.jsonl", "batch", 1, kNow, kNow + Millis{5}};
    sql::transaction(*first, [&] { Store(*first).insert_file(file); });
    Batch batch = make_batch(fmt::format("batch_{}", file.id.value));
    batch.input_file_id = file.id;
    first->begin();
    Store store(*first);
    store.lock_queue();
    ASSERT_TRUE(store.find_file(kDefaultProject, file.id, kNow));
    auto removed = cross([&](Store& other) {
      return expires ? !other.expire_files(kNow + Millis{5}).empty()
                     : other.delete_file(kDefaultProject, file.id, kNow).has_value();
    });
    ASSERT_TRUE(store.insert_batch(batch, {0, 0}));
    first->commit();
    EXPECT_FALSE(removed.get());
  }
}

TEST_F(CrossingTest, ChangesOfAWebhookEndpointAreMadeOneAfterTheOther) {
  WebhookEndpoint endpoint;
  endpoint.id = {"we_1"};
  endpoint.name = "old name";
  endpoint.secret = "old secret";
  Store store(*first);
  sql::transaction(*first, [&] { Outbox(store).insert_endpoint(endpoint); });
  first->begin();
  endpoint = Outbox(store).take_endpoint(kDefaultProject, endpoint.id).value();
  auto renamed = cross([](Store& other) {
    WebhookEndpoint changed = Outbox(other).take_endpoint(kDefaultProject, {"we_1"}).value();
    changed.name = "new name";
    return Outbox(other).update_endpoint(changed);
  });
  endpoint.secret = "new secret";
  EXPECT_TRUE(Outbox(store).update_endpoint(endpoint));
  first->commit();
  EXPECT_TRUE(renamed.get());
  sql::transaction(*first, [&] { endpoint = Outbox(store).find_endpoint(kDefaultProject, endpoint.id).value(); });
  EXPECT_EQ(endpoint.name, "new name");
  EXPECT_EQ(endpoint.secret, "new secret");
}

TEST_F(CrossingTest, WhoMakesAWebhookEndpointCountsThoseThatAreBeingMade) {
  first->begin();
  Store store(*first);
  EXPECT_EQ(Outbox(store).lock_endpoints(kDefaultProject), 0);
  auto counted = cross([](Store& other) { return Outbox(other).lock_endpoints(kDefaultProject); });
  WebhookEndpoint endpoint;
  endpoint.id = {"we_1"};
  Outbox(store).insert_endpoint(endpoint);
  first->commit();
  EXPECT_EQ(counted.get(), 1);
}

TEST_F(CrossingTest, APartThatComesWhileItsUploadEndsIsEitherTakenOrRefused) {
  const auto add = [&](const std::string& name) {
    sql::transaction(*first, [&] {
      Upload upload;
      upload.id = {name};
      upload.file = {"in.jsonl", "batch", 30, std::nullopt};
      upload.created_at = kNow;
      upload.expires_at = kNow + std::chrono::hours(1);
      Store(*first).insert_upload(upload);
    });
  };
  add("upload_1");
  first->begin();
  ASSERT_TRUE(Store(*first).insert_part(kDefaultProject, {{"part_1"}, {"upload_1"}, 10, kNow}, kNow));
  auto cancelled = cross([](Store& store) { return store.cancel_upload(kDefaultProject, {"upload_1"}, kNow); });
  first->commit();
  EXPECT_EQ(cancelled.get()->parts, std::vector<PartId>{{"part_1"}});

  add("upload_2");
  first->begin();
  ASSERT_TRUE(Store(*first).cancel_upload(kDefaultProject, {"upload_2"}, kNow));
  auto inserted = cross([](Store& store) {
    return store.insert_part(kDefaultProject, {{"part_2"}, {"upload_2"}, 10, kNow}, kNow);
  });
  first->commit();
  EXPECT_FALSE(inserted.get());
}

}  // namespace
}  // namespace penstock
