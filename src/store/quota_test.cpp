#include "store/quota.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "store/access.h"
#include "store/sessions.h"
#include "testing/database.h"

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(1'764'000'000'000)};
const ProjectId kProject{"proj_a"}, kOther{"proj_b"};

Batch make_batch(int number, std::int64_t lines, const ProjectId& project = kProject) {
  Batch batch;
  batch.id = {fmt::format("batch_{}", number)};
  batch.project = project;
  batch.input_file_id = {"file-in"};
  batch.endpoint = "/v1/chat/completions";
  batch.completion_window = "24h";
  batch.created_at = kNow;
  batch.expires_at = kNow + std::chrono::hours(24);
  batch.counts.total = lines;
  return batch;
}

File make_file(int number, std::uint64_t bytes, const ProjectId& project = kProject) {
  return {.id = {fmt::format("file-{}", number)},
          .filename = "in.jsonl",
          .purpose = "batch",
          .bytes = bytes,
          .created_at = kNow,
          .expires_at = std::nullopt,
          .project = project};
}

class QuotaTest : public testing::TestWithParam<Driver> {
 protected:
  template <class F>
  std::invoke_result_t<F&, Store&> run(F f) {
    return sessions.transaction(Sessions::kTries, f);
  }
  void SetUp() override {
    run([](Store& store) {
      store.migrate();
      for (const ProjectId& id : {kProject, kOther}) {
        Project project;
        project.id = id;
        Access(store).insert_project(project);
      }
    });
  }
  void set(std::optional<std::int64_t> Quotas::*quota, std::int64_t limit) {
    run([&](Store& store) {
      Project project = *Access(store).find_project(kProject);
      project.quotas.*quota = limit;
      Access(store).update_project(project);
    });
  }
  // What it was refused with, or nothing.
  std::string insert(const Batch& batch) {
    return run([&](Store& store) { return words(store.insert_batch(batch, {0, 0})); });
  }
  std::string insert(const File& file) {
    return run([&](Store& store) {
      const auto admitted = admit_bytes(store, file.project, file.bytes);
      if (admitted) store.insert_file(file);
      return words(admitted);
    });
  }
  static std::string words(const Result<void>& result) {
    if (result) return "";
    EXPECT_EQ(result.error().kind, Error::Kind::quota_exceeded);
    EXPECT_EQ(result.error().code, "quota_exceeded");
    return result.error().message;
  }
  // Of so many that `create` makes at once.
  template <class F>
  int admitted_of(int count, F create) {
    std::atomic<int> admitted = 0;
    std::vector<std::jthread> threads;
    for (int i = 0; i < count; ++i) threads.emplace_back([&, i] { admitted += create(i).empty(); });
    threads.clear();
    return admitted;
  }

  TestDatabase database{GetParam()};
  Sessions sessions{[this] { return database.open(); }};
};
INSTANTIATE_TEST_SUITE_P(On, QuotaTest, testing::ValuesIn(drivers()), driver_name);

TEST_P(QuotaTest, ThereIsNoneUnlessItIsSet) {
  EXPECT_EQ(insert(make_batch(1, 1'000'000'000)), "");
  EXPECT_EQ(insert(make_file(1, 1'000'000'000'000)), "");
  EXPECT_EQ(insert(make_batch(2, 1, {"proj_unknown"})), "");
}

TEST_P(QuotaTest, ActiveBatchesAreThoseOfTheProjectThatHaveNotEnded) {
  set(&Quotas::active_batches, 2);
  EXPECT_EQ(insert(make_batch(1, 10)), "");
  EXPECT_EQ(insert(make_batch(2, 10)), "");
  EXPECT_EQ(
      insert(make_batch(3, 10)),
      "This project's quota active_batches does not allow that: 2 of 2 batches are in use, and this needs 1 more. "
      "Wait until batches of yours have ended, or cancel some, or ask an administrator for a larger quota.");
  EXPECT_EQ(insert(make_batch(4, 10, kOther)), "");
  run([](Store& store) { EXPECT_TRUE(store.fail_batch({"batch_1"}, {}, 0, kNow)); });
  EXPECT_EQ(insert(make_batch(5, 10)), "");
}

TEST_P(QuotaTest, QueuedLinesAreThoseStillToDo) {
  set(&Quotas::queued_lines, 100);
  EXPECT_EQ(insert(make_batch(1, 60)), "");
  EXPECT_NE(insert(make_batch(2, 41)).find("60 of 100 lines are in use, and this needs 41 more"), std::string::npos);
  EXPECT_EQ(insert(make_batch(3, 40)), "");
  EXPECT_NE(insert(make_batch(4, 0)), "") << "whose lines are not counted yet: it has one at least";
  EXPECT_EQ(insert(make_batch(5, 1'000, kOther)), "");
  run([](Store& store) {
    EXPECT_TRUE(store.start_batch({"batch_1"}, "m", 60));
    const auto spans =
        store.claim_spans({.owner = "w", .model = "m", .lines = 1, .begin = true, .project = kProject}, kNow);
    ResultGroup group;
    group.span = spans.at(0).key;
    group.token = spans[0].token;
    for (std::uint32_t i = 0; i < 20; ++i) group.entries.push_back({i, 0, i % 2 == 0});
    EXPECT_TRUE(store.save_results(group));
  });
  EXPECT_NE(insert(make_batch(6, 21)), "");
  EXPECT_EQ(insert(make_batch(7, 20)), "");
}

TEST_P(QuotaTest, StoredBytesAreThoseOfFilesAndOfPartsOfPendingUploads) {
  set(&Quotas::stored_bytes, 1'000);
  EXPECT_EQ(insert(make_file(1, 300)), "");
  EXPECT_EQ(insert(make_file(2, 5'000, kOther)), "");
  run([](Store& store) {
    Upload upload;
    upload.id = {"upload_1"};
    upload.project = kProject;
    upload.file.purpose = "batch";
    upload.expires_at = kNow + std::chrono::hours(1);
    store.insert_upload(upload);
    EXPECT_TRUE(store.insert_part(kProject, {{"part_1"}, upload.id, 500, kNow}, kNow));
  });
  EXPECT_EQ(insert(make_file(3, 201)),
            "This project's quota stored_bytes does not allow that: 800 of 1000 bytes are in use, and this needs 201 "
            "more. Delete files that you no longer need, or ask an administrator for a larger quota.");
  EXPECT_EQ(insert(make_file(4, 200)), "");
  run([](Store& store) {
    EXPECT_TRUE(store.cancel_upload(kProject, {"upload_1"}, kNow));
    EXPECT_TRUE(store.delete_file(kProject, {"file-4"}, kNow));
  });
  EXPECT_EQ(insert(make_file(5, 700)), "");
  EXPECT_NE(insert(make_file(6, 1)), "");
}

TEST_P(QuotaTest, ABatchEndsHoweverMuchItsFilesAre) {
  set(&Quotas::stored_bytes, 1'000);
  EXPECT_EQ(insert(make_file(1, 1'000)), "");
  EXPECT_EQ(insert(make_batch(1, 1)), "");
  run([](Store& store) {
    EXPECT_TRUE(store.start_batch({"batch_1"}, "m", 1));
    EXPECT_TRUE(store.advance({"batch_1"}, BatchStatus::in_progress, BatchStatus::finalizing, kNow));
    Finish finish;
    finish.status = BatchStatus::completed;
    finish.output = make_file(2, 5'000);
    EXPECT_TRUE(store.finish_batch({"batch_1"}, BatchStatus::finalizing, finish, kNow));
  });
  EXPECT_NE(insert(make_file(3, 1)).find("6000 of 1000 bytes"), std::string::npos);
}

TEST_P(QuotaTest, ManyAtOnceDoNotPassIt) {
  set(&Quotas::stored_bytes, 1'000);
  set(&Quotas::queued_lines, 100);
  EXPECT_EQ(admitted_of(16, [&](int i) { return insert(make_file(i, 100)); }), 10);
  EXPECT_EQ(admitted_of(16, [&](int i) { return insert(make_batch(i, 10)); }), 10);
}

}  // namespace
}  // namespace penstock
