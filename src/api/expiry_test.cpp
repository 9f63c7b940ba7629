#include "api/expiry.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "testing/fake_clock.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

constexpr Millis kHour = std::chrono::hours(1);
constexpr Millis kTick{1};

class ExpiryTest : public testing::Test {
 protected:
  ~ExpiryTest() override { run_task(loop, expiry.stop()); }

  void add_upload(const std::string& id) {
    Upload upload;
    upload.id = {id};
    upload.file = {"in.jsonl", "batch", 4, std::nullopt};
    upload.created_at = clock.now();
    upload.expires_at = upload.created_at + kHour;
    run_task(loop, db.write([&](Store& store) { store.insert_upload(upload); }));
    expiry.notify();
  }
  void add_file(const std::string& id, std::optional<Millis> expires_after) {
    const auto writer = blobs->create(id);
    writer->write("file");
    writer->commit();
    File file{{id}, "in.jsonl", "batch", 4, clock.now(), std::nullopt};
    if (expires_after) file.expires_at = file.created_at + *expires_after;
    run_task(loop, db.write([&](Store& store) { store.insert_file(file); }));
    expiry.notify();
  }
  void add_part(const std::string& upload, const std::string& id) {
    const auto writer = blobs->create(id);
    writer->write("part");
    writer->commit();
    EXPECT_TRUE(run_task(loop, db.write([&](Store& store) {
      return store.insert_part(kDefaultProject, {{id}, {upload}, 4, clock.now()}, clock.now());
    })));
  }
  bool has_alarm_in(Millis left) {
    return run_until(loop, [&] { return clock.has_alarm_at(clock.monotonic() + left); });
  }
  bool has_blobs(const std::vector<std::string>& keys) {
    return run_until(loop, [&] {
      auto had = blobs->keys();
      std::sort(had.begin(), had.end());
      return had == keys;
    });
  }

  TempDir folder;
  asio::io_context loop;
  FakeClock clock{loop};
  Db db{":memory:"};
  std::unique_ptr<BlobStore> blobs = open_local_blobs(folder / "blobs");
  asio::thread_pool io{1};
  Expiry expiry{loop, clock, db, *blobs, io};
};

TEST_F(ExpiryTest, AnUploadEndsAfterItsHourAndItsPartsGo) {
  expiry.start();
  add_upload("upload_1");
  add_part("upload_1", "part_a");
  add_part("upload_1", "part_b");
  ASSERT_TRUE(has_alarm_in(kHour));
  clock.advance(kHour / 2);
  add_upload("upload_2");
  add_part("upload_2", "part_c");
  ASSERT_TRUE(has_alarm_in(kHour / 2));

  clock.advance(kHour / 2 - kTick);
  ASSERT_TRUE(has_alarm_in(kTick));
  EXPECT_TRUE(has_blobs({"part_a", "part_b", "part_c"}));
  clock.advance(kTick);
  EXPECT_TRUE(has_blobs({"part_c"}));
  clock.advance(kHour / 2);
  EXPECT_TRUE(has_blobs({}));
}

TEST_F(ExpiryTest, AFileGoesWithItsBlobWhenItExpires) {
  expiry.start();
  add_file("file-1", kHour);
  ASSERT_TRUE(has_alarm_in(kHour));
  add_file("file-2", kHour / 2);  // sooner than what it waits for
  add_file("file-3", std::nullopt);
  ASSERT_TRUE(has_alarm_in(kHour / 2));
  clock.advance(kHour / 2 - kTick);
  ASSERT_TRUE(has_alarm_in(kTick));
  EXPECT_TRUE(has_blobs({"file-1", "file-2", "file-3"}));
  clock.advance(kTick);
  EXPECT_TRUE(has_blobs({"file-1", "file-3"}));
  clock.advance(kHour / 2);
  EXPECT_TRUE(has_blobs({"file-3"}));
}

TEST_F(ExpiryTest, TheInputOfABatchGoesWhenThatHasEnded) {
  expiry.start();
  add_file("file-1", kHour);
  Batch batch;
  batch.id = {"batch_1"};
  batch.input_file_id = {"file-1"};
  ASSERT_TRUE(run_task(loop, db.write([&](Store& store) { return store.insert_batch(batch, {0, 0}); })));
  add_upload("upload_1");
  ASSERT_TRUE(has_alarm_in(kHour));
  add_part("upload_1", "part_a");
  clock.advance(kHour);
  EXPECT_TRUE(has_blobs({"file-1"}));
  ASSERT_TRUE(run_task(loop, db.write([&](Store& store) { return store.fail_batch(batch.id, {}, 0, clock.now()); })));
  expiry.notify();
  EXPECT_TRUE(has_blobs({}));
}

TEST_F(ExpiryTest, WhatWasLateBeforeTheStartEndsAtOnce) {
  add_file("file-1", kHour);
  add_upload("upload_1");
  add_part("upload_1", "part_a");
  clock.advance(kHour);
  expiry.start();
  EXPECT_TRUE(has_blobs({}));
}

}  // namespace
}  // namespace penstock
