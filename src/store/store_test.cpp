#include "store/store.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "testing/database.h"

namespace penstock {
namespace {

using enum BatchStatus;

constexpr Timestamp kNow{Millis(1'764'000'000'000)};
constexpr Timestamp kExpiry = kNow + std::chrono::hours(1);
constexpr Millis kTick{1};

// Keeps how SQLite answers each statement.
class ExplainingConnection : public sql::Connection {
 public:
  explicit ExplainingConnection(sql::Connection& inner) : inner_(inner) {}
  void execute_script(std::string_view statements) override { inner_.execute_script(statements); }
  std::int64_t execute(std::string_view statement, std::span<const sql::Value> values,
                       const std::function<void(const sql::Row&)>& each) override {
    inner_.execute("EXPLAIN QUERY PLAN " + std::string(statement), values,
                   [&](const sql::Row& row) { plan += std::string(row.text(3)) + "\n"; });
    return inner_.execute(statement, values, each);
  }
  void begin() override { inner_.begin(); }
  void commit() override { inner_.commit(); }
  void rollback() noexcept override { inner_.rollback(); }

  std::string plan;

 private:
  sql::Connection& inner_;
};

class StoreTest : public testing::TestWithParam<Driver> {
 protected:
  StoreTest() : database(GetParam()), connection(database.open_alone()), store(*connection) { store.migrate(); }

  File add_file(const std::string& id, const std::string& purpose = "batch",
                std::optional<Timestamp> expires_at = std::nullopt) {
    const File file{FileId{id}, id + ".jsonl", purpose, 7, kNow, expires_at};
    store.insert_file(file);
    return file;
  }

  static Batch make_batch(const std::string& id) {
    Batch batch;
    batch.id = BatchId{id};
    batch.input_file_id = FileId{"file-in-" + id};
    batch.endpoint = "/v1/chat/completions";
    batch.completion_window = "24h";
    batch.created_at = kNow;
    batch.expires_at = kNow + std::chrono::hours(24);
    return batch;
  }

  BatchId add_batch(const std::string& id, int priority = 0) {
    Batch batch = make_batch(id);
    batch.priority = priority;
    EXPECT_TRUE(store.insert_batch(batch, {0, 0}));
    return batch.id;
  }
  BatchId add_running(const std::string& id, std::int64_t lines, const std::string& model = "m", int priority = 0) {
    const BatchId batch = add_batch(id, priority);
    EXPECT_TRUE(store.start_batch(batch, model, lines));
    return batch;
  }
  // Brings a new batch into any status.
  BatchId add_in(const std::string& id, BatchStatus status) {
    const BatchId batch = add_batch(id);
    if (status == validating) return batch;
    if (status == failed) {
      EXPECT_TRUE(store.fail_batch(batch, {}, 0, kNow));
      return batch;
    }
    EXPECT_TRUE(store.start_batch(batch, "m", 10));
    if (status == in_progress) return batch;
    if (status == cancelling || status == cancelled) {
      EXPECT_TRUE(store.request_cancel(kDefaultProject, batch, kNow));
      if (status == cancelled) {
        EXPECT_TRUE(store.finish_batch(batch, cancelling, {cancelled, {}, {}, {}}, kNow));
      }
      return batch;
    }
    EXPECT_TRUE(store.advance(batch, in_progress, finalizing, kNow));
    if (status != finalizing) {
      EXPECT_TRUE(store.finish_batch(batch, finalizing, {status, {}, {}, {}}, kNow));
    }
    return batch;
  }

  // One that ended with files, `good` of its lines answered.
  BatchId add_ended(std::int64_t lines, std::int64_t good) {
    Batch batch = make_batch("batch_ended");
    batch.priority = 1;
    batch.dedupe = true;
    batch.metadata = Metadata{{"a", "b"}};
    batch.output_expires_after_seconds = 3'600;
    add_file(batch.input_file_id.value);
    EXPECT_TRUE(store.insert_batch(batch, {0, 0}));
    EXPECT_TRUE(store.start_batch(batch.id, "m", lines));
    EXPECT_TRUE(store.advance(batch.id, in_progress, finalizing, kNow));
    const File output{{"file-out"}, "out.jsonl", "batch_output", 1, kNow, std::nullopt};
    const File errors{{"file-err"}, "err.jsonl", "batch_output", 1, kNow, std::nullopt};
    EXPECT_TRUE(
        store.finish_batch(batch.id, finalizing, {completed, output, errors, {lines, good, lines - good}}, kNow));
    return batch.id;
  }
  Result<Batch> retry_of(const BatchId& id, QueueLimits limits = {0, 0}) {
    Batch batch;
    batch.id = {"batch_retry"};
    batch.created_at = kNow + std::chrono::hours(48);
    return store.retry_batch(id, batch, limits);
  }

  // Of a batch of up to 65,535 lines, so many spans.
  std::vector<ClaimedSpan> claim(std::int64_t spans, const std::string& owner = "w", const std::string& model = "m") {
    return store.claim_spans({owner, model, 64 * spans, 1, true}, kNow);
  }

  // The answers of the span's lines [from, to); every fourth one failed.
  static ResultGroup answers(const ClaimedSpan& span, std::uint32_t from, std::uint32_t to) {
    ResultGroup group{span.key, span.token, {}, {}, {}};
    for (std::uint32_t i = span.first + from; i < span.first + to; ++i) {
      const std::string line = fmt::format("{{\"custom_id\":\"r{}\"}}\n", i);
      group.entries.push_back({i, static_cast<std::uint32_t>(line.size()), i % 4 == 3});
      group.lines += line;
      group.usage += {10, 1, 5, 2};
    }
    return group;
  }

  static std::vector<std::int64_t> numbers(const std::vector<ClaimedSpan>& spans) {
    std::vector<std::int64_t> result;
    for (const ClaimedSpan& span : spans) result.push_back(span.key.number);
    return result;
  }

  std::vector<FileId> removed(Timestamp now) {
    std::vector<FileId> ids;
    for (const File& file : store.expire_files(now)) ids.push_back(file.id);
    return ids;
  }
  std::int64_t count(const std::string& table) {
    std::int64_t rows = 0;
    connection->execute("SELECT COUNT(*) FROM " + table, {}, [&](const sql::Row& row) { rows = row.integer(0); });
    return rows;
  }

  TestDatabase database;
  std::unique_ptr<sql::Connection> connection;
  Store store;
};
INSTANTIATE_TEST_SUITE_P(On, StoreTest, testing::ValuesIn(drivers()), driver_name);

// How SQLite answers statements.
class PlansTest : public StoreTest {};
INSTANTIATE_TEST_SUITE_P(On, PlansTest, testing::Values(Driver::sqlite), driver_name);

// --- schema

TEST_P(StoreTest, MigratingAgainChangesNothing) {
  add_file("file-1");
  store.migrate();
  EXPECT_TRUE(store.find_file(kDefaultProject, FileId{"file-1"}, kNow));
}

TEST_P(StoreTest, AnEarlierSchemaIsBroughtForwardVersionByVersionOnce) {
  const TestDatabase other(GetParam());
  const auto session = other.open_alone();
  Store empty(*session);
  std::vector<SchemaScript> scripts = {{"CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (1)"}};
  const auto migrate = [&] { sql::transaction(*session, [&] { empty.migrate(scripts); }); };
  const auto b = [&] {
    std::int64_t value = 0;
    session->execute("SELECT b FROM t", {}, [&](const sql::Row& row) { value = row.integer(0); });
    return value;
  };
  migrate();
  scripts.insert(scripts.end(),
                 {{"ALTER TABLE t ADD COLUMN b BIGINT; UPDATE t SET b = 10 * a"}, {"UPDATE t SET b = b + 1"}});
  migrate();
  EXPECT_EQ(b(), 11);
  scripts.push_back({"UPDATE t SET b = b + 100; no statement"});
  EXPECT_THROW(migrate(), sql::Failure);
  scripts.pop_back();
  migrate();
  EXPECT_EQ(b(), 11);
}

TEST_P(StoreTest, RefusesASchemaOfANewerProgramInOneLine) {
  connection->execute_script("UPDATE schema_version SET version = 99; UPDATE schema_oldest_program SET version = 98");
  try {
    store.migrate();
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("99"), std::string::npos);
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
  }
}

TEST_P(StoreTest, AnEarlierProgramGoesOnBesideNewerOnesWhoseSchemasLetIt) {
  const TestDatabase other(GetParam());
  const auto session = other.open_alone();
  Store empty(*session);
  const std::vector<SchemaScript> scripts = {{"CREATE TABLE t (a BIGINT)"},
                                             {"ALTER TABLE t ADD COLUMN b BIGINT DEFAULT 7", true},
                                             {"ALTER TABLE t ADD COLUMN c BIGINT DEFAULT 7", true},
                                             {"ALTER TABLE t DROP COLUMN a"}};
  const auto migrate = [&](std::size_t version) {
    sql::transaction(*session, [&] { empty.migrate(std::span(scripts).first(version)); });
  };
  for (const std::size_t version : {1, 2, 3}) migrate(version);
  for (const std::size_t version : {1, 2, 3}) migrate(version);
  session->execute("INSERT INTO t (a, b, c) VALUES (1, 2, 3)", {});
  migrate(4);
  for (const std::size_t version : {1, 2, 3}) EXPECT_THROW(migrate(version), UsageError) << version;
  migrate(4);
}

// --- files

TEST_P(StoreTest, AFileComesBackAsItWasPut) {
  File file{FileId{"file-1"}, "a \"b\" ü\n.jsonl", "batch", 5'000'000'000, kNow, kNow + std::chrono::hours(720)};
  store.insert_file(file);
  const File found = store.find_file(kDefaultProject, file.id, kNow).value();
  EXPECT_EQ(found.filename, file.filename);
  EXPECT_EQ(found.purpose, file.purpose);
  EXPECT_EQ(found.bytes, file.bytes);
  EXPECT_EQ(found.created_at, file.created_at);
  EXPECT_EQ(found.expires_at, file.expires_at);
  EXPECT_FALSE(store.find_file(kDefaultProject, FileId{"file-2"}, kNow));
}

TEST_P(StoreTest, WhatTheCheckOfAFileFoundIsKept) {
  File file = add_file("file-1");
  EXPECT_FALSE(store.find_file(kDefaultProject, file.id, kNow)->checked);
  file.id.value = "file-2";
  file.checked = CheckedInput{"/v1/embeddings", "m", 7};
  store.insert_file(file);
  EXPECT_EQ(store.find_file(kDefaultProject, file.id, kNow)->checked, file.checked);
}

TEST_P(StoreTest, PagingSeesEachFileOnceWhileOthersComeAndGo) {
  for (const bool ascending : {false, true}) {
    std::set<std::string> kept;
    for (int i = 0; i < 20; ++i) kept.insert(add_file(fmt::format("file-{}-{}", ascending, i), "keep").id.value);
    std::multiset<std::string> seen;
    FileQuery query{.after = {}, .limit = 3, .ascending = ascending, .purpose = "keep"};
    for (bool more = true; more;) {
      const Page<File> page = store.list_files(query, kNow).value();
      for (const File& file : page.items) seen.insert(file.id.value);
      more = page.has_more;
      query.after = page.items.back().id;
      // Others come, and the very file that the next page starts after goes.
      add_file(fmt::format("file-new-{}-{}", ascending, seen.size()), "other");
      EXPECT_TRUE(store.delete_file(kDefaultProject, *query.after, kNow));
      for (const File& file : page.items) (void)store.delete_file(kDefaultProject, file.id, kNow);
    }
    EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()), kept);
    EXPECT_EQ(seen.size(), kept.size());
  }
}

TEST_P(StoreTest, FilesAreListedNewestFirstByDefault) {
  for (const char* id : {"file-a", "file-c", "file-b"}) add_file(id);
  auto page = store.list_files({}, kNow).value();
  ASSERT_EQ(page.items.size(), 3u);
  EXPECT_EQ(page.items[0].id.value, "file-b");
  EXPECT_EQ(page.items[2].id.value, "file-a");
  EXPECT_FALSE(page.has_more);
  EXPECT_FALSE(store.list_files({{}, 3, false, {}}, kNow).value().has_more);
  EXPECT_TRUE(store.list_files({{}, 2, false, {}}, kNow).value().has_more);
}

TEST_P(StoreTest, AllFileIdsAreThoseThatAreNotDeleted) {
  for (const char* id : {"file-a", "file-b", "file-c"}) add_file(id);
  ASSERT_TRUE(store.delete_file(kDefaultProject, FileId{"file-b"}, kNow));
  auto ids = store.all_file_ids();
  std::sort(ids.begin(), ids.end());
  EXPECT_EQ(ids, (std::vector<FileId>{{"file-a"}, {"file-c"}}));
}

TEST_P(StoreTest, UnknownFilesAreToldInTheWordsOfTheContract) {
  const auto deleted = store.delete_file(kDefaultProject, FileId{"file-x"}, kNow);
  EXPECT_EQ(deleted.error().kind, Error::Kind::not_found);
  EXPECT_EQ(deleted.error().message, "No such File object: file-x");
  EXPECT_EQ(deleted.error().param, "id");
  const auto listed = store.list_files({FileId{"file-x"}, 10, false, {}}, kNow);
  EXPECT_EQ(listed.error().kind, Error::Kind::not_found);
  EXPECT_EQ(listed.error().param, "after");
}

TEST_P(StoreTest, TheInputOfAnUnfinishedBatchIsNotDeleted) {
  const BatchId batch = add_batch("batch_1");
  const File file = add_file("file-in-batch_1");
  EXPECT_EQ(store.find_batch(batch)->input_bytes, 7);
  EXPECT_EQ(store.delete_file(kDefaultProject, file.id, kNow).error().code, "file_in_use");
  EXPECT_EQ(store.delete_file(kDefaultProject, file.id, kNow).error().kind, Error::Kind::invalid_request);
  ASSERT_TRUE(store.fail_batch(batch, {}, 0, kNow));
  EXPECT_TRUE(store.delete_file(kDefaultProject, file.id, kNow));
  EXPECT_EQ(store.find_batch(batch)->input_bytes, 0);
  EXPECT_FALSE(store.find_file(kDefaultProject, file.id, kNow));
  EXPECT_EQ(store.delete_file(kDefaultProject, file.id, kNow).error().kind, Error::Kind::not_found);
}

TEST_P(StoreTest, AFileIsGoneFromTheMomentOfItsExpiryBeforeAnybodySweeps) {
  const File file = add_file("file-1", "user_data", kExpiry);
  EXPECT_TRUE(store.find_file(kDefaultProject, file.id, kExpiry - kTick));
  EXPECT_EQ(store.list_files({}, kExpiry - kTick)->items.size(), 1u);
  EXPECT_FALSE(store.find_file(kDefaultProject, file.id, kExpiry));
  EXPECT_TRUE(store.list_files({}, kExpiry)->items.empty());
  EXPECT_EQ(store.delete_file(kDefaultProject, file.id, kExpiry).error().kind, Error::Kind::not_found);
  EXPECT_EQ(store.all_file_ids().size(), 1u);
}

TEST_P(StoreTest, ExpiryRemovesTheFilesThatAreLateAndTheyStillMarkTheirPlace) {
  const File stays = add_file("file-1"), late = add_file("file-2", "batch", kExpiry);
  const File later = add_file("file-3", "batch", kExpiry + kTick);
  EXPECT_EQ(store.next_file_expiry(), kExpiry);
  EXPECT_TRUE(store.expire_files(kExpiry - kTick).empty());
  EXPECT_EQ(removed(kExpiry), std::vector{late.id});
  EXPECT_EQ(store.next_file_expiry(), kExpiry + kTick);
  EXPECT_EQ(store.list_files({late.id, 10, false, {}}, kNow)->items.at(0).id, stays.id);
  EXPECT_EQ(removed(kExpiry + kTick), std::vector{later.id});
  EXPECT_FALSE(store.next_file_expiry());
}

TEST_P(StoreTest, ExpirySparesTheInputOfABatchUntilThatHasEnded) {
  const BatchId batch = add_batch("batch_1");
  const File file = add_file("file-in-batch_1", "batch", kExpiry);
  EXPECT_FALSE(store.next_file_expiry());
  EXPECT_TRUE(store.expire_files(kExpiry).empty());
  EXPECT_FALSE(store.find_file(kDefaultProject, file.id, kExpiry));
  ASSERT_TRUE(store.fail_batch(batch, {}, 0, kExpiry));
  EXPECT_EQ(store.next_file_expiry(), kExpiry);
  EXPECT_EQ(removed(kExpiry), std::vector{file.id});
}

TEST_P(PlansTest, FilesThatExpireAreFoundByTheirIndex) {
  ExplainingConnection explaining(*connection);
  Store explained(explaining);
  explained.next_file_expiry();
  explained.expire_files(kNow);
  for (const char* words : {"files_expiring (expires_ms>?)", "files_expiring (expires_ms<?)", "batches_unfinished"}) {
    EXPECT_NE(explaining.plan.find(words), std::string::npos) << words << " not in\n" << explaining.plan;
  }
  EXPECT_EQ(explaining.plan.find("TEMP"), std::string::npos) << explaining.plan;
}

// --- batches

TEST_P(StoreTest, TheOutputOfABatchThatIsRetriedIsNotDeletedBeforeItsAnswersAreTakenOver) {
  const BatchId old = add_ended(2, 1);
  const Batch retry = retry_of(old).value();
  EXPECT_EQ(store.delete_file(kDefaultProject, {"file-out"}, kNow).error().code, "file_in_use");
  ASSERT_TRUE(store.start_batch(retry.id, "m", 2));
  EXPECT_TRUE(store.delete_file(kDefaultProject, {"file-out"}, kNow));
}

TEST_P(StoreTest, ARequestWithItsKeyIsRememberedForADay) {
  const IdempotencyKey key{"/v1/batches k", "a hash"};
  EXPECT_EQ(store.recall(key, kNow).value(), std::nullopt);
  store.remember(key, "batch_1", kNow);
  EXPECT_EQ(store.recall(key, kNow).value(), "batch_1");
  EXPECT_EQ(store.recall({"/v1/files k", "a hash"}, kNow).value(), std::nullopt);
  EXPECT_EQ(store.recall({key.key, "another"}, kNow).error().code, "idempotency_key_reused");
  const Timestamp next_day = kNow + std::chrono::hours(24);
  EXPECT_EQ(store.recall(key, next_day - Millis{1}).value(), "batch_1");
  EXPECT_EQ(store.recall({key.key, "another"}, next_day).value(), std::nullopt);
  store.remember({key.key, "another"}, "batch_2", next_day);
  EXPECT_EQ(store.recall({key.key, "another"}, next_day).value(), "batch_2");
}

TEST_P(StoreTest, ABatchComesBackAsItWasPut) {
  Batch batch = make_batch("batch_1");
  batch.metadata = Metadata{{"z", "1"}, {"a", "\"quoted\" \U0001F600\n"}, {"", ""}};
  batch.output_expires_after_seconds = 3600;
  batch.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  ASSERT_TRUE(store.insert_batch(batch, {}));
  const Batch found = store.find_batch(batch.id).value();
  EXPECT_EQ(found.id, batch.id);
  EXPECT_EQ(found.input_file_id, batch.input_file_id);
  EXPECT_EQ(found.endpoint, batch.endpoint);
  EXPECT_EQ(found.completion_window, "24h");
  EXPECT_EQ(found.metadata, batch.metadata);
  EXPECT_EQ(found.output_expires_after_seconds, 3600);
  EXPECT_EQ(found.traceparent, batch.traceparent);
  EXPECT_EQ(found.status, validating);
  EXPECT_EQ(found.created_at, batch.created_at);
  EXPECT_EQ(found.expires_at, batch.expires_at);
  EXPECT_FALSE(found.model || found.in_progress_at || found.completed_at || found.output_file_id);
  EXPECT_FALSE(store.find_batch(BatchId{"batch_2"}));
  add_batch("batch_2");
  EXPECT_FALSE(store.find_batch(BatchId{"batch_2"})->metadata);
}

TEST_P(StoreTest, TheQueueHoldsAsManyBatchesAsItsDepth) {
  const QueueLimits limits{.depth = 20, .queued_total = 0};
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(store.insert_batch(make_batch(fmt::format("batch_{}", i)), limits));
  const auto refused = store.insert_batch(make_batch("batch_20"), limits);
  ASSERT_TRUE(refused.has_error());
  EXPECT_EQ(refused.error().kind, Error::Kind::queue_full);
  EXPECT_EQ(refused.error().code, "queue_full");
  EXPECT_EQ(refused.error().message, "Queue full (20/20 jobs). Try again later.");
  EXPECT_FALSE(store.find_batch(BatchId{"batch_20"}));
  ASSERT_TRUE(store.fail_batch(BatchId{"batch_3"}, {}, 0, kNow));
  EXPECT_TRUE(store.insert_batch(make_batch("batch_20"), limits));
}

TEST_P(StoreTest, TheQueueHoldsAsManyLinesAsItsTotal) {
  const QueueLimits limits{.depth = 0, .queued_total = 1000};
  add_running("batch_1", 1000);
  const auto refused = store.insert_batch(make_batch("batch_2"), limits);
  ASSERT_TRUE(refused.has_error());
  EXPECT_EQ(refused.error().kind, Error::Kind::queue_full);
  EXPECT_EQ(refused.error().message, "Queue full (1000 of at most 1000 requests are queued). Try again later.");
  ASSERT_TRUE(store.save_results(answers(claim(1).at(0), 0, 10)));
  Batch counted = make_batch("batch_2");
  counted.counts.total = 11;
  EXPECT_FALSE(store.insert_batch(counted, limits));
  counted.counts.total = 10;
  EXPECT_TRUE(store.insert_batch(counted, limits));
  EXPECT_FALSE(store.insert_batch(make_batch("batch_3"), limits));
}

TEST_P(StoreTest, PagingSeesEachBatchOnceNewestFirstWhileOthersCome) {
  for (int i = 0; i < 10; ++i) add_batch(fmt::format("batch_{}", i));
  std::vector<std::string> seen;
  std::optional<BatchId> after;
  for (bool more = true; more;) {
    const Page<Batch> page = store.list_batches(kDefaultProject, after, 3).value();
    for (const Batch& batch : page.items) seen.push_back(batch.id.value);
    more = page.has_more;
    after = page.items.back().id;
    add_batch(fmt::format("batch_new_{}", seen.size()));
  }
  ASSERT_EQ(seen.size(), 10u);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(seen[static_cast<std::size_t>(i)], fmt::format("batch_{}", 9 - i));
  EXPECT_EQ(store.list_batches(kDefaultProject, BatchId{"batch_x"}, 3).error().message,
            "No batch found with id 'batch_x'.");
}

TEST_P(StoreTest, ThereAreUnfinishedBatchesUntilTheLastHasEnded) {
  for (const BatchStatus status : {completed, failed, expired, cancelled}) {
    add_in(fmt::format("batch_{}", to_string(status)), status);
  }
  EXPECT_EQ(store.unfinished_batches(), std::vector<BatchId>{});
  for (const BatchStatus status : {validating, in_progress, finalizing, cancelling}) {
    const BatchId id = add_in(fmt::format("batch_{}", to_string(status)), status);
    EXPECT_EQ(store.unfinished_batches(), std::vector{id});
    connection->execute("DELETE FROM spans", {});
    connection->execute("DELETE FROM batches WHERE id = $1", {id.value});
  }
}

TEST_P(StoreTest, OfTwoMovesThatCrossOneWins) {
  const BatchId id = add_running("batch_1", 10);
  EXPECT_FALSE(store.start_batch(id, "m", 20));
  EXPECT_FALSE(store.fail_batch(id, {}, 0, kNow));
  EXPECT_TRUE(store.advance(id, in_progress, finalizing, kNow + Millis(5)));
  EXPECT_FALSE(store.advance(id, in_progress, finalizing, kNow + Millis(6)));
  EXPECT_TRUE(store.request_cancel(kDefaultProject, id, kNow + Millis(7)));
  const File output{FileId{"file-out"}, "o.jsonl", "batch_output", 1, kNow, {}};
  EXPECT_FALSE(store.finish_batch(id, finalizing, {completed, output, {}, {10, 10, 0}}, kNow));
  const Batch batch = store.find_batch(id).value();
  EXPECT_EQ(batch.status, cancelling);
  EXPECT_EQ(batch.finalizing_at, kNow + Millis(5));
  EXPECT_EQ(batch.cancelling_at, kNow + Millis(7));
  EXPECT_EQ(batch.counts, (Counts{10, 0, 0}));
  EXPECT_FALSE(store.find_file(kDefaultProject, output.id, kNow));
}

TEST_P(StoreTest, AFailedBatchKeepsItsErrors) {
  const BatchId id = add_batch("batch_1");
  ASSERT_TRUE(store.fail_batch(id, {{"invalid_json_line", "Not \"JSON\".", {}, 3}, {"empty_file", "Empty.", "url", {}}},
                               250, kNow));
  const Batch batch = store.find_batch(id).value();
  EXPECT_EQ(batch.status, failed);
  EXPECT_EQ(batch.failed_at, kNow);
  EXPECT_EQ(batch.error_total, 250);
  ASSERT_EQ(batch.errors.size(), 2u);
  EXPECT_EQ(batch.errors[0].code, "invalid_json_line");
  EXPECT_EQ(batch.errors[0].message, "Not \"JSON\".");
  EXPECT_FALSE(batch.errors[0].param);
  EXPECT_EQ(batch.errors[0].line, 3);
  EXPECT_EQ(batch.errors[1].param, "url");
  EXPECT_FALSE(batch.errors[1].line);
}

TEST_P(StoreTest, CancelFollowsItsTable) {
  const std::pair<BatchStatus, std::optional<BatchStatus>> table[] = {{validating, cancelling},
                                                                      {in_progress, cancelling},
                                                                      {finalizing, cancelling},
                                                                      {cancelling, cancelling},
                                                                      {cancelled, cancelled},
                                                                      {completed, {}},
                                                                      {failed, {}},
                                                                      {expired, {}}};
  for (const auto& [before, after] : table) {
    const BatchId id = add_in(fmt::format("batch_{}", to_string(before)), before);
    const auto result = store.request_cancel(kDefaultProject, id, kNow + Millis(9));
    EXPECT_EQ(store.find_batch(id)->status, after.value_or(before));
    if (after) {
      EXPECT_EQ(result.value().status, *after);
      EXPECT_EQ(result.value().cancelling_at, before == *after ? kNow : kNow + Millis(9));
    } else {
      EXPECT_EQ(result.error().kind, Error::Kind::conflict);
      EXPECT_EQ(result.error().message, fmt::format("Cannot cancel a batch with status '{}'.", to_string(before)));
    }
  }
  EXPECT_EQ(store.request_cancel(kDefaultProject, BatchId{"batch_x"}, kNow).error().kind, Error::Kind::not_found);
}

TEST_P(StoreTest, PauseAndResumeFollowTheirTable) {
  for (const BatchStatus status :
       {validating, in_progress, finalizing, completed, failed, expired, cancelling, cancelled}) {
    const BatchId id = add_in(fmt::format("batch_{}", to_string(status)), status);
    const auto paused = store.set_paused(kDefaultProject, id, kNow);
    EXPECT_EQ(paused.has_value(), status == validating || status == in_progress) << to_string(status);
    if (!paused) {
      EXPECT_EQ(paused.error().message, fmt::format("Cannot pause a batch with status '{}'.", to_string(status)));
      EXPECT_EQ(store.set_paused(kDefaultProject, id, std::nullopt).error().kind, Error::Kind::conflict);
      continue;
    }
    EXPECT_EQ(paused->paused_at, kNow);
    EXPECT_EQ(store.set_paused(kDefaultProject, id, kNow + Millis{1})->paused_at, kNow) << "it was paused before";
    EXPECT_EQ(store.set_paused(kDefaultProject, id, std::nullopt)->paused_at, std::nullopt);
  }
  EXPECT_EQ(store.set_paused(kDefaultProject, {"batch_x"}, kNow).error().kind, Error::Kind::not_found);
}

TEST_P(StoreTest, NoSpanOfAPausedBatchIsClaimed) {
  const BatchId first = add_running("batch_1", 10);
  const BatchId second = add_running("batch_2", 10);
  store.set_paused(kDefaultProject, first, kNow).value();
  EXPECT_EQ(claim(1).at(0).key.batch, second);
  EXPECT_TRUE(claim(1).empty());
  store.set_paused(kDefaultProject, first, std::nullopt).value();
  EXPECT_EQ(claim(1).at(0).key.batch, first);
}

TEST_P(StoreTest, ARetryIsABatchOverTheSameFileInTheSameWay) {
  const BatchId id = add_ended(10, 7);
  const Batch old = store.find_batch(id).value();
  const Batch retry = retry_of(id).value();
  EXPECT_EQ(retry.status, validating);
  EXPECT_EQ(retry.retry_of, id);
  EXPECT_EQ(retry.input_file_id, old.input_file_id);
  EXPECT_EQ(retry.endpoint, old.endpoint);
  EXPECT_EQ(retry.completion_window, old.completion_window);
  EXPECT_EQ(retry.metadata, old.metadata);
  EXPECT_EQ(retry.priority, old.priority);
  EXPECT_TRUE(old.dedupe);
  EXPECT_TRUE(retry.dedupe);
  EXPECT_EQ(retry.output_expires_after_seconds, old.output_expires_after_seconds);
  EXPECT_EQ(retry.expires_at - retry.created_at, std::chrono::hours(24));
  EXPECT_EQ(retry.counts, (Counts{10, 0, 0}));
}

TEST_P(StoreTest, WhatCannotBeRetriedIsToldWhy) {
  const auto told = [&](const BatchId& id) { return retry_of(id).error(); };
  EXPECT_EQ(told({"batch_x"}).kind, Error::Kind::not_found);
  for (const BatchStatus status : {validating, in_progress, finalizing, cancelling, failed}) {
    const BatchId id = add_in(fmt::format("batch_{}", to_string(status)), status);
    add_file("file-in-" + id.value);
    EXPECT_EQ(told(id).kind, Error::Kind::conflict) << to_string(status);
  }
  const BatchId good = add_ended(3, 3);
  EXPECT_EQ(told(good).message, "Cannot retry batch batch_ended: all of its lines were answered.");
  const BatchId faulty = add_in("batch_faulty", cancelling);
  ASSERT_TRUE(store.finish_batch(faulty, cancelling, {cancelled, {}, {}, {0, 0, 0}}, kNow));
  EXPECT_NE(told(faulty).message.find("its input file has faults"), std::string::npos);
}

TEST_P(StoreTest, ARetryNeedsRoomForTheLinesThatItRuns) {
  const BatchId id = add_ended(10, 7);
  EXPECT_EQ(retry_of(id, {0, 2}).error().kind, Error::Kind::queue_full);
  EXPECT_TRUE(retry_of(id, {0, 3}));
  EXPECT_EQ(retry_of(id, {1, 0}).error().kind, Error::Kind::queue_full);
}

TEST_P(StoreTest, ABatchIsNotPausedAnyMoreWhenItIsCancelledOrAllItsLinesAreDone) {
  const BatchId first = add_running("batch_1", 1), second = add_running("batch_2", 1);
  for (const BatchId& id : {first, second}) store.set_paused(kDefaultProject, id, kNow).value();
  ASSERT_TRUE(store.advance(first, in_progress, finalizing, kNow));
  EXPECT_FALSE(store.find_batch(first)->paused_at);
  EXPECT_FALSE(store.request_cancel(kDefaultProject, second, kNow)->paused_at);
}

TEST_P(StoreTest, WhatARetryTakesOverIsReadByNobodyBeforeItStarts) {
  const BatchId id = retry_of(add_ended(2, 1)).value().id;
  ASSERT_TRUE(store.begin_retry(id, 2));
  ResultGroup kept;
  kept.span.batch = id;
  kept.entries = {{1, 3, false}};
  kept.lines = "a1\n";
  ASSERT_TRUE(store.save_results(kept));
  SavedPlace place, line;
  EXPECT_EQ(store.saved_lines(id, place, 1), "");
  EXPECT_FALSE(store.find_line(id, 1, line, 10));
  ASSERT_TRUE(store.start_batch(id, "m", 2));
  EXPECT_FALSE(store.begin_retry(id, 2)) << "it was started";
  EXPECT_TRUE(store.find_line(id, 1, line, 10));
  EXPECT_EQ(store.saved_lines(id, place, 1), "a1\n");
}

TEST_P(StoreTest, WhatARetryThatIsCancelledBeforeItStartsTookOverIsReadOnceItHasEnded) {
  const BatchId id = retry_of(add_ended(2, 1)).value().id;
  const BatchId other = add_running("batch_other", 4);
  ResultGroup kept;
  kept.span.batch = id;
  kept.entries = {{1, 3, false}};
  kept.lines = "a1\n";
  ASSERT_TRUE(store.begin_retry(id, 2));
  ASSERT_TRUE(store.save_results(kept));
  store.request_cancel(kDefaultProject, id, kNow).value();  // while keep_answers() of validate() is under way
  SavedPlace place;
  EXPECT_EQ(store.saved_lines(id, place, 1), "");
  ResultGroup running;
  running.span.batch = other;
  running.entries = {{0, 2, false}};
  running.lines = "x\n";
  ASSERT_TRUE(store.save_results(running));
  ASSERT_TRUE(store.begin_retry(id, 2));  // finalize()
  ASSERT_TRUE(store.save_results(kept));
  ASSERT_TRUE(store.finish_batch(id, cancelling, {cancelled, {}, {}, {2, 1, 1}}, kNow));
  EXPECT_EQ(store.saved_lines(id, place, 1), "a1\n");
}

TEST_P(StoreTest, ARetryStartsWithTheAnswersThatWereTakenOver) {
  const BatchId id = retry_of(add_ended(75, 37)).value().id;
  ResultGroup kept;
  kept.span.batch = id;
  kept.entries = {{0, 3, false}, {5, 3, false}};
  kept.lines = "a1\na2\n";
  kept.usage = {4, 0, 2, 0};
  for (int i = 0; i < 2; ++i) {  // the second time after a crash
    store.begin_retry(id, 75);
    ASSERT_TRUE(store.save_results(kept));
  }
  ASSERT_TRUE(store.start_batch(id, "m", 75));
  const Batch batch = store.find_batch(id).value();
  EXPECT_EQ(batch.counts, (Counts{75, 2, 0}));
  EXPECT_EQ(batch.usage, (Usage{4, 0, 2, 0}));
  const auto spans = claim(10);
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0].finished, 2);
  EXPECT_EQ(store.finished_indices(spans[0].key), (std::vector<std::uint32_t>{0, 5}));
  EXPECT_FALSE(store.save_results(kept)) << "the span has been claimed since";
  store.begin_retry(id, 75);
  EXPECT_EQ(store.find_batch(id)->counts.completed, 2) << "it runs already";
}

TEST_P(StoreTest, ARetryWhoseFileIsNotGoodAnyMoreLeavesNoSpans) {
  const BatchId id = retry_of(add_ended(75, 37)).value().id;
  store.begin_retry(id, 75);
  ASSERT_TRUE(store.fail_batch(id, {}, 1, kNow));
  EXPECT_EQ(store.remaining(id), 0);
}

TEST_P(StoreTest, FinishingFreezesCountsAndUsageAndInsertsTheFiles) {
  const BatchId id = add_running("batch_1", 75);
  const auto spans = claim(2);
  ASSERT_TRUE(store.save_results(answers(spans[0], 0, 64)));
  ASSERT_TRUE(store.save_results(answers(spans[1], 0, 11)));
  const Batch before = store.find_batch(id).value();
  EXPECT_EQ(before.counts, (Counts{75, 57, 18}));
  EXPECT_EQ(before.usage, (Usage{750, 75, 375, 150}));

  ASSERT_TRUE(store.advance(id, in_progress, finalizing, kNow));
  EXPECT_FALSE(store.save_results(answers(spans[1], 0, 1)));
  const File output{FileId{"file-out"}, "o.jsonl", "batch_output", 1, kNow, {}};
  const File errors{FileId{"file-err"}, "e.jsonl", "batch_output", 2, kNow, {}};
  ASSERT_TRUE(store.finish_batch(id, finalizing, {completed, output, errors, before.counts}, kNow + Millis(3)));
  const Batch after = store.find_batch(id).value();
  EXPECT_EQ(after.status, completed);
  EXPECT_EQ(after.completed_at, kNow + Millis(3));
  EXPECT_EQ(after.counts, before.counts);
  EXPECT_EQ(after.usage, before.usage);
  EXPECT_EQ(after.output_file_id, output.id);
  EXPECT_EQ(after.error_file_id, errors.id);
  EXPECT_TRUE(store.find_file(kDefaultProject, output.id, kNow) && store.find_file(kDefaultProject, errors.id, kNow));
  EXPECT_EQ(count("spans"), 0);
}

// --- spans

TEST_P(StoreTest, ABatchIsCutIntoSpansThatCoverItsPlanOnce) {
  for (const std::int64_t total : {1, 63, 64, 65, 128, 50'000}) {
    add_running(fmt::format("batch_{}", total), total, fmt::format("m{}", total));
    std::uint32_t next = 0;
    for (const ClaimedSpan& span : claim(1000, "w", fmt::format("m{}", total))) {
      EXPECT_EQ(span.first, next);
      EXPECT_GT(span.count, 0u);
      EXPECT_LE(span.count, kSpanLines);
      next += span.count;
    }
    EXPECT_EQ(next, total);
  }
  const BatchId empty = add_running("batch_0", 0);
  EXPECT_EQ(store.remaining(empty), 0);
  EXPECT_EQ(store.find_batch(empty)->status, in_progress);
}

TEST_P(StoreTest, AMillionLinesBecomeSomeTwoThousandSpans) {
  const BatchId id = add_running("batch_1", 1'000'000);
  EXPECT_EQ(count("spans"), 1954);
  EXPECT_EQ(store.remaining(id), 1'000'000);
}

TEST_P(StoreTest, AClaimServesOneBatchTheOldestFirst) {
  const BatchId first = add_running("batch_z", 128);
  add_running("batch_other", 256, "other");
  const BatchId second = add_running("batch_a", 128);
  add_batch("batch_waiting");
  const auto spans = claim(3);
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0].key, (SpanKey{first, 0}));
  EXPECT_EQ(spans[1].key, (SpanKey{first, 1}));
  EXPECT_EQ(spans[1].input_file_id.value, "file-in-batch_z");
  EXPECT_EQ(spans[1].endpoint, "/v1/chat/completions");
  EXPECT_EQ(spans[1].model, "m");
  const auto next = claim(9);
  EXPECT_EQ(numbers(next), (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(next[0].key.batch, second);
  EXPECT_TRUE(claim(9).empty());
}

TEST_P(StoreTest, PriorityGoesBeforeArrivalAndMayChangeWhileWaiting) {
  const BatchId low = add_running("batch_low", 10, "m", -1);
  const BatchId normal = add_running("batch_normal", 10);
  const BatchId high = add_running("batch_high", 10, "m", 1);
  const BatchId late = add_running("batch_late", 10);
  const auto order = [&] {
    std::vector<BatchId> ids;
    for (const Batch& batch : store.queue()) ids.push_back(batch.id);
    return ids;
  };
  EXPECT_EQ(order(), (std::vector{high, normal, late, low}));
  EXPECT_EQ(store.set_priority(kDefaultProject, late, 1)->priority, 1);
  EXPECT_EQ(store.set_priority(kDefaultProject, high, -1)->priority, -1);
  EXPECT_EQ(order(), (std::vector{late, normal, low, high}));
  std::vector<BatchId> claimed;
  for (int i = 0; i < 4; ++i) claimed.push_back(claim(9).at(0).key.batch);
  EXPECT_EQ(claimed, order());

  EXPECT_EQ(store.set_priority(kDefaultProject, BatchId{"batch_x"}, 1).error().kind, Error::Kind::not_found);
  const BatchId ended = add_in("batch_ended", completed);
  EXPECT_EQ(store.set_priority(kDefaultProject, ended, 1).error().message,
            "Cannot change the priority of a batch with status 'completed'.");
  EXPECT_EQ(store.find_batch(ended)->priority, 0);
}

TEST_P(StoreTest, AClaimSaysWhetherItsLinesAreDeduped) {
  add_running("batch_1", 1);
  EXPECT_FALSE(claim(1).at(0).dedupe);
  Batch batch = make_batch("batch_2");
  batch.dedupe = true;
  ASSERT_TRUE(store.insert_batch(batch, {0, 0}));
  ASSERT_TRUE(store.start_batch(batch.id, "m", 1));
  EXPECT_TRUE(claim(1).at(0).dedupe);
}

TEST_P(StoreTest, ABatchWaitsUntilItsFirstClaim) {
  const BatchId id = add_running("batch_1", 128);
  EXPECT_TRUE(is_waiting(store.find_batch(id).value()));
  EXPECT_TRUE(store.claim_spans({"w", "m", 1}, kNow).empty());
  ASSERT_EQ(claim(1).size(), 1u);
  EXPECT_EQ(store.find_batch(id)->in_progress_at, kNow);
  EXPECT_EQ(store.claim_spans({"w", "m", 1}, kNow + Millis(5)).size(), 1u);
  EXPECT_EQ(store.find_batch(id)->in_progress_at, kNow) << "it begins once";
}

TEST_P(StoreTest, ABatchThatHasExpiredIsNotClaimed) {
  add_running("batch_1", 64);
  const Timestamp end = kNow + std::chrono::hours(24);
  const auto claim_at = [&](Timestamp now) { return store.claim_spans({"w", "m", 1, 1, true}, now); };
  EXPECT_TRUE(claim_at(end).empty());
  EXPECT_EQ(claim_at(end - Millis(1)).size(), 1u);
}

TEST_P(StoreTest, AHeldSpanIsNotClaimedUntilItIsReleased) {
  add_running("batch_1", 128);
  const auto first = claim(2, "w1");
  ASSERT_EQ(first.size(), 2u);
  EXPECT_TRUE(claim(2, "w2").empty());
  store.release_span(first[1].key, "w2");
  EXPECT_TRUE(claim(2, "w2").empty()) << "it is not his to release";
  EXPECT_EQ(store.held_spans("w1"), (std::vector{first[0].key, first[1].key}));
  store.release_span(first[1].key, "w1");
  EXPECT_EQ(store.held_spans("w1"), std::vector{first[0].key});
  const auto second = claim(2, "w2");
  ASSERT_EQ(numbers(second), std::vector<std::int64_t>{1});
  EXPECT_GT(second[0].token, first[1].token);
}

TEST_P(StoreTest, TheSpansOfOneBatchAreReleasedAlone) {
  const BatchId id = add_running("batch_1", 128);
  add_running("batch_2", 64);
  claim(1, "w1");
  claim(1, "w2");
  const auto other = claim(1, "w1");
  EXPECT_EQ(store.count_held_by_others(id, "w1"), 1);
  EXPECT_EQ(store.count_held_by_others(id, "w3"), 2);
  store.release_spans("w1", id);
  EXPECT_EQ(store.held_spans("w1"), std::vector{other.at(0).key});
  EXPECT_EQ(numbers(claim(9, "w3")), std::vector<std::int64_t>{0});
}

TEST_P(StoreTest, SeveralWorkersShareABatchToItsEnd) {
  const auto sizes = [&](std::int64_t total, std::int64_t workers) {
    static int number = 0;
    const std::string model = fmt::format("m{}", ++number);
    add_running("batch_" + model, total, model);
    std::vector<std::size_t> all;
    for (std::size_t got = 1; got > 0; all.push_back(got)) {
      got = store.claim_spans({"w", model, 2048, workers, true}, kNow).size();
    }
    all.pop_back();
    return all;
  };
  EXPECT_EQ(sizes(6'400, 1), (std::vector<std::size_t>{32, 32, 32, 4}));
  EXPECT_EQ(sizes(6'400, 4),
            (std::vector<std::size_t>{13, 11, 10, 9, 8, 7, 6, 5, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(sizes(1, 4), std::vector<std::size_t>{1});
}

TEST_P(StoreTest, AStaleTokenChangesNothing) {
  const BatchId id = add_running("batch_1", 64);
  const ClaimedSpan stale = claim(1, "w1").at(0);
  ASSERT_TRUE(store.save_results(answers(stale, 0, 10)));
  store.release_spans("w1");
  const ClaimedSpan fresh = claim(1, "w2").at(0);
  EXPECT_EQ(fresh.finished, 10);

  EXPECT_FALSE(store.save_results(answers(stale, 10, 20)));
  store.release_spans("w1");
  EXPECT_TRUE(claim(1, "w3").empty());
  EXPECT_EQ(count("result_groups"), 1);
  EXPECT_EQ(store.find_batch(id)->counts.completed + store.find_batch(id)->counts.failed, 10);
  EXPECT_TRUE(store.save_results(answers(fresh, 10, 20)));
}

TEST_P(StoreTest, AReleasedSpanIsOpenAgainAndKnowsWhatIsDone) {
  const BatchId id = add_running("batch_1", 64);
  const ClaimedSpan span = claim(1, "w1").at(0);
  ASSERT_TRUE(store.save_results(answers(span, 0, 20)));
  ASSERT_TRUE(store.save_results(answers(span, 40, 45)));
  store.release_spans("w1");
  const ClaimedSpan again = claim(1, "w2").at(0);
  EXPECT_EQ(again.finished, 25);
  std::vector<std::uint32_t> expected(25);
  std::iota(expected.begin(), expected.begin() + 20, 0);
  std::iota(expected.begin() + 20, expected.end(), 40);
  EXPECT_EQ(store.finished_indices(again.key), expected);
  EXPECT_EQ(store.remaining(id), 39);
}

TEST_P(StoreTest, AFinishedSpanIsNotClaimedAgain) {
  const BatchId id = add_running("batch_1", 75);
  const ClaimedSpan span = claim(1).at(0);
  ASSERT_TRUE(store.save_results(answers(span, 0, 32)));
  ASSERT_TRUE(store.save_results(answers(span, 32, 64)));
  EXPECT_EQ(numbers(claim(9, "w")), std::vector<std::int64_t>{1});
  EXPECT_EQ(store.remaining(id), 11);
}

TEST_P(StoreTest, ASpanNeverHoldsMoreLinesThanItHas) {
  add_running("batch_1", 64);
  const ClaimedSpan span = claim(1).at(0);
  ASSERT_TRUE(store.save_results(answers(span, 0, 64)));
  EXPECT_THROW(store.save_results(answers(span, 0, 1)), sql::Failure);
}

TEST_P(StoreTest, AFencedBatchRefusesTheResultsOfEarlierClaims) {
  const BatchId id = add_running("batch_1", 128), other = add_running("batch_2", 64);
  auto spans = claim(2);
  spans.push_back(claim(1).at(0));  // of the other one
  store.fence(id);
  EXPECT_FALSE(store.save_results(answers(spans[0], 0, 1)));
  EXPECT_FALSE(store.save_results(answers(spans[1], 0, 1)));
  EXPECT_TRUE(store.save_results(answers(spans[2], 0, 1)));
  EXPECT_EQ(store.find_batch(id)->counts, (Counts{128, 0, 0}));
  EXPECT_EQ(store.find_batch(other)->counts.completed, 1);
}

TEST_P(StoreTest, AFencedBatchIsNotClaimedByAWorkerWhoseClockIsLate) {
  const BatchId id = add_running("batch_1", 128);
  ASSERT_EQ(claim(1).size(), 1u);
  store.fence(id);  // it has expired, by the clock of its driver
  EXPECT_TRUE(claim(9).empty());
}

TEST_P(StoreTest, LinesInFlightAtACancelAreSavedButNoneIsClaimed) {
  const BatchId id = add_running("batch_1", 128);
  const ClaimedSpan span = claim(1).at(0);
  ASSERT_TRUE(store.request_cancel(kDefaultProject, id, kNow));
  EXPECT_TRUE(store.save_results(answers(span, 0, 2)));
  EXPECT_TRUE(claim(9, "w").empty());
  EXPECT_EQ(store.find_batch(id)->counts, (Counts{128, 2, 0}));
}

TEST_P(StoreTest, DemandsAreThoseOfBatchesThatHaveLinesToRunNowInTheOrderOfTheQueue) {
  const auto demands = [&](Timestamp now = kNow) {
    std::string all;
    for (const Demand& demand : store.demands(now)) {
      EXPECT_EQ(demand.project, kDefaultProject);
      all += fmt::format("{}{} ", demand.model, demand.priority);
    }
    return all;
  };
  EXPECT_EQ(demands(), "");
  const BatchId first = add_running("batch_a", 3, "a");
  add_running("batch_b", 3, "b", -1);
  add_running("batch_c", 3, "c", 1);
  const BatchId last = add_running("batch_d", 3, "a");
  for (const BatchStatus status : {validating, finalizing, cancelling, completed, failed}) {
    add_in("batch_" + std::string(to_string(status)), status);
  }
  EXPECT_EQ(demands(), "c1 a0 a0 b-1 ");
  ASSERT_TRUE(store.set_priority(kDefaultProject, last, 1));
  EXPECT_EQ(demands(), "c1 a1 a0 b-1 ");
  ASSERT_TRUE(store.set_paused(kDefaultProject, last, kNow));
  EXPECT_EQ(demands(), "c1 a0 b-1 ");
  const ClaimedSpan span = claim(1, "w", "a").at(0);
  EXPECT_EQ(span.key.batch, first);
  EXPECT_EQ(demands(), "c1 a0 b-1 ") << "its lines are under way";
  ASSERT_TRUE(store.save_results(answers(span, 0, 3)));
  EXPECT_EQ(demands(), "c1 b-1 ");
  EXPECT_EQ(demands(kNow + std::chrono::hours(24)), "") << "they are late";
}

TEST_P(StoreTest, WorkIsThatOfBatchesWithLinesToRunNowAndEachProjectClaimsItsOwn) {
  const ProjectId other{"proj_a"};
  Batch batch = make_batch("batch_a");
  batch.project = other;
  batch.priority = 1;
  ASSERT_TRUE(store.insert_batch(batch, {0, 0}));
  ASSERT_TRUE(store.start_batch(batch.id, "m", 128));
  add_running("batch_mine", 64);
  add_running("batch_n", 1, "n");
  add_batch("batch_validating");
  add_in("batch_finalizing", finalizing);
  const BatchId paused = add_running("batch_paused", 64);
  ASSERT_TRUE(store.set_paused(kDefaultProject, paused, kNow));
  const BatchId fenced = add_running("batch_fenced", 64);
  store.fence(fenced);
  const auto work = [&](Timestamp now = kNow) {
    std::set<std::string> all;
    for (const Work& one : store.work(now)) {
      all.insert(fmt::format("{} {}{}", one.model, one.project.value, one.begun ? " begun" : ""));
    }
    return all;
  };
  using All = std::set<std::string>;
  EXPECT_EQ(work(), (All{"m proj_a", "m proj_default", "n proj_default"}));
  const auto mine = claim(10);
  ASSERT_EQ(mine.size(), 1u);
  EXPECT_EQ(mine[0].key.batch, (BatchId{"batch_mine"}));
  EXPECT_EQ(mine[0].project, kDefaultProject);
  EXPECT_TRUE(claim(10).empty()) << "what is left is another project's";
  const auto its = store.claim_spans({"w", "m", 64, 1, true, other}, kNow);
  ASSERT_EQ(its.size(), 1u);
  EXPECT_EQ(its[0].project, other);
  EXPECT_EQ(work(), (All{"m proj_a begun", "n proj_default"}));
  store.release_spans("w");
  EXPECT_EQ(work(), (All{"m proj_a begun", "m proj_default begun", "n proj_default"}));
  EXPECT_EQ(work(kNow + std::chrono::hours(24)), All{}) << "they are late";
}

TEST_P(PlansTest, DemandsAreFoundByTheIndexOfUnfinishedBatches) {
  ExplainingConnection explaining(*connection);
  Store(explaining).demands(kNow);
  EXPECT_NE(explaining.plan.find("USING INDEX batches_unfinished"), std::string::npos) << explaining.plan;
  EXPECT_NE(explaining.plan.find("INDEX spans_open (batch_seq=?)"), std::string::npos) << explaining.plan;
  EXPECT_EQ(explaining.plan.find("ORDER BY"), std::string::npos) << explaining.plan;  // no sorting
}

TEST_P(PlansTest, WorkIsFoundByTheIndexOfUnfinishedBatches) {
  ExplainingConnection explaining(*connection);
  Store(explaining).work(kNow);
  EXPECT_NE(explaining.plan.find("USING INDEX batches_unfinished"), std::string::npos) << explaining.plan;
  EXPECT_NE(explaining.plan.find("USING INDEX spans_free (batch_seq=?)"), std::string::npos) << explaining.plan;
}

TEST_P(PlansTest, OpenSpansAreFoundByTheirIndex) {
  ExplainingConnection explaining(*connection);
  Store explained(explaining);
  const BatchId id = add_running("batch_1", 256);
  explained.claim_spans({"w", "m", 1, 1, true}, kNow);
  EXPECT_NE(explaining.plan.find("SCAN b USING INDEX batches_unfinished"), std::string::npos) << explaining.plan;
  EXPECT_NE(explaining.plan.find("USING INDEX spans_free (batch_seq=?)"), std::string::npos) << explaining.plan;
  EXPECT_EQ(explaining.plan.find("BLOOM"), std::string::npos) << explaining.plan;
  EXPECT_EQ(explaining.plan.find("ORDER BY"), std::string::npos) << explaining.plan;  // no sorting
  explaining.plan.clear();
  explained.remaining(id);
  EXPECT_NE(explaining.plan.find("spans_open"), std::string::npos) << explaining.plan;
}

// --- results

TEST_P(StoreTest, GroupsComeBackInTheOrderOfSpans) {
  const BatchId id = add_running("batch_1", 256);
  const auto spans = claim(4);
  const std::vector<ResultGroup> saved = {answers(spans[2], 0, 32), answers(spans[0], 0, 3), answers(spans[2], 32, 50),
                                          answers(spans[3], 0, 1)};
  for (const ResultGroup& group : saved) ASSERT_TRUE(store.save_results(group));
  const auto read = [&](SpanRange range) {
    std::vector<ResultGroup> groups;
    store.for_each_group(
        id, [&](const ResultGroup& group) { groups.push_back(group); }, range);
    return groups;
  };
  const auto groups = read({});
  ASSERT_EQ(groups.size(), 4u);
  const std::size_t order[] = {1, 0, 2, 3};
  for (std::size_t i = 0; i < 4; ++i) {
    const ResultGroup& expected = saved[order[i]];
    EXPECT_EQ(groups[i].span, expected.span);
    EXPECT_EQ(groups[i].lines, expected.lines);
    ASSERT_EQ(groups[i].entries.size(), expected.entries.size());
    for (std::size_t e = 0; e < expected.entries.size(); ++e) {
      EXPECT_EQ(groups[i].entries[e].index, expected.entries[e].index);
      EXPECT_EQ(groups[i].entries[e].length, expected.entries[e].length);
      EXPECT_EQ(groups[i].entries[e].failed, expected.entries[e].failed);
    }
  }
  EXPECT_EQ(read({0, 2}).size(), 1u);
  EXPECT_EQ(read({2, 3}).size(), 2u);
  EXPECT_EQ(read({4, 9}).size(), 0u);
}

TEST_P(StoreTest, ADamagedGroupIsAFailureAndNotAnAnswer) {
  const BatchId id = add_running("batch_1", 64);
  ASSERT_TRUE(store.save_results(answers(claim(1).at(0), 0, 5)));
  connection->execute("UPDATE result_groups SET lines = $1", {sql::Blob{"not zstd"}});
  EXPECT_THROW(store.for_each_group(id, [](const ResultGroup&) {}), sql::Failure);
}

TEST_P(StoreTest, SavedLinesComeInTheOrderOfTheirSaving) {
  const BatchId id = add_running("batch_1", 128), other = add_running("batch_2", 64);
  const auto spans = claim(2);
  const ResultGroup first = answers(spans[1], 0, 3), second = answers(spans[0], 4, 6), third = answers(spans[1], 7, 8);
  SavedPlace place;
  EXPECT_EQ(store.saved_lines(id, place, 1'000), "");
  ASSERT_TRUE(store.save_results(first));
  ASSERT_TRUE(store.save_results(answers(claim(1).at(0), 0, 9)));  // the other batch's
  ASSERT_TRUE(store.save_results(second));
  ASSERT_TRUE(store.save_results(third));
  EXPECT_EQ(store.saved_lines(id, place, 1), first.lines);
  EXPECT_EQ(store.saved_lines(id, place, 1'000), second.lines + third.lines);
  EXPECT_EQ(store.saved_lines(id, place, 1'000), "");
  const ResultGroup fourth = answers(spans[0], 10, 12);
  ASSERT_TRUE(store.save_results(fourth));
  EXPECT_EQ(store.saved_lines(id, place, 1'000), fourth.lines);
}

TEST_P(StoreTest, ALineIsFoundByItsRequestAndIsAPlaceToGoOnFrom) {
  const BatchId id = add_running("batch_1", 128), other = add_running("batch_2", 64);
  const auto spans = claim(2);
  std::string all;
  for (const ResultGroup& group : {answers(spans[1], 0, 3), answers(spans[0], 4, 7), answers(spans[1], 9, 12)}) {
    ASSERT_TRUE(store.save_results(group));
    all += group.lines;
  }
  ASSERT_TRUE(store.save_results(answers(claim(1).at(0), 0, 1)));
  for (const std::uint32_t index : {64u, 66u, 4u, 5u, 6u, 73u}) {
    SavedPlace place;
    while (!store.find_line(id, index, place, 1)) ASSERT_LT(place.seq, 5) << index;
    EXPECT_EQ(store.saved_lines(id, place, 1'000), all.substr(all.find(fmt::format("{{\"custom_id\":\"r{}\"", index))));
  }
  SavedPlace place;
  EXPECT_FALSE(store.find_line(id, 0, place, 100));  // of the other batch alone
  EXPECT_FALSE(store.find_line(id, 7, place, 100));
}

TEST_P(PlansTest, FollowersAndThePurgeAreAnsweredFromAnIndex) {
  const BatchId id = add_running("batch_1", 64);
  ExplainingConnection explaining(*connection);
  Store explained(explaining);
  SavedPlace place;
  explained.saved_lines(id, place, 1);
  explained.find_line(id, 0, place, 1);
  EXPECT_NE(explaining.plan.find("result_groups_by_batch"), std::string::npos) << explaining.plan;
  explained.first_end_with_results();
  explained.purge_results(kNow, 1);
  EXPECT_EQ(explaining.plan.find("SCAN result_groups"), std::string::npos) << explaining.plan;
  EXPECT_EQ(explaining.plan.find("SCAN batches"), std::string::npos) << explaining.plan;
}

TEST_P(StoreTest, EveryEndHasItsTime) {
  for (const BatchStatus status : {completed, failed, expired, cancelled}) {
    EXPECT_EQ(store.ended_at(add_in(fmt::format("batch_{}", to_string(status)), status)), kNow) << to_string(status);
  }
  for (const BatchStatus status : {validating, in_progress, finalizing, cancelling}) {
    EXPECT_FALSE(store.ended_at(add_in(fmt::format("batch_{}", to_string(status)), status))) << to_string(status);
  }
}

TEST_P(StoreTest, PurgingTakesTheGroupsOfEndedBatchesAndNoOthers) {
  const BatchId running = add_running("batch_1", 64), ended = add_running("batch_2", 64);
  const std::vector<ClaimedSpan> spans = {claim(1).at(0), claim(1).at(0)};  // of one batch each
  for (std::uint32_t i = 0; i < 5; ++i) {
    for (const ClaimedSpan& span : spans) ASSERT_TRUE(store.save_results(answers(span, i, i + 1)));
  }
  EXPECT_FALSE(store.first_end_with_results());
  EXPECT_EQ(store.purge_results(kNow, 100), 0);
  ASSERT_TRUE(store.finish_batch(ended, in_progress, {expired, {}, {}, {64, 5, 0}}, kNow));
  add_in("batch_3", cancelled);  // has none
  EXPECT_EQ(store.first_end_with_results(), kNow);
  EXPECT_EQ(store.purge_results(kNow - Millis{1}, 100), 0);
  EXPECT_EQ(store.purge_results(kNow, 3), 3);
  EXPECT_EQ(store.purge_results(kNow, 3), 2);
  EXPECT_EQ(store.purge_results(kNow, 3), 0);
  EXPECT_FALSE(store.first_end_with_results());
  EXPECT_EQ(count("result_groups"), 5);
  EXPECT_EQ(store.finished_indices(spans[0].key).size(), 5u);
  EXPECT_EQ(store.remaining(running), 59);
}

TEST_P(StoreTest, WithAFileOfABatchItsResultsGoBeforeTheirTime) {
  for (const char* deleted : {"file-out", "file-err"}) {
    const BatchId id = add_ended(64, 60), other = add_running("batch_other", 64);
    connection->execute(
        "INSERT INTO result_groups (batch_seq, span_number, entries, lines, lines_size)"
        " SELECT seq, 0, '', '', 0 FROM batches",
        {});
    EXPECT_EQ(store.first_end_with_results(), kNow);
    EXPECT_FALSE(store.has_deleted_files(id));
    EXPECT_EQ(store.purge_results(kNow - Millis{1}, 100), 0);
    ASSERT_TRUE(store.delete_file(kDefaultProject, {deleted}, kNow));
    EXPECT_TRUE(store.has_deleted_files(id));
    EXPECT_FALSE(store.has_deleted_files(other));
    EXPECT_EQ(store.first_end_with_results(), Timestamp{});
    EXPECT_EQ(store.purge_results(kNow - Millis{1}, 100), 1);
    EXPECT_FALSE(store.first_end_with_results());
    EXPECT_EQ(count("result_groups"), 1);
    for (const char* table : {"result_groups", "spans", "batches", "files", "deleted_files"}) {
      connection->execute(fmt::format("DELETE FROM {}", table), {});
    }
  }
}

// --- types

TEST(TypesTest, StatusWordsGoBothWays) {
  for (const BatchStatus status :
       {validating, in_progress, finalizing, completed, failed, expired, cancelling, cancelled}) {
    EXPECT_EQ(parse_batch_status(to_string(status)), status);
  }
  EXPECT_EQ(to_string(in_progress), "in_progress");
  EXPECT_THROW(parse_batch_status("running"), std::invalid_argument);
}

TEST(TypesTest, IdsAreLongAndDiffer) {
  const std::string id = random_id("file-");
  EXPECT_EQ(id.size(), 5u + 32u);
  EXPECT_EQ(id.find_first_not_of("0123456789abcdef", 5), std::string::npos);
  EXPECT_NE(id, random_id("file-"));
}

}  // namespace
}  // namespace penstock
