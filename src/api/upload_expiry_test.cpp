#include "api/upload_expiry.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "testing/fake_clock.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

constexpr Millis kHour = std::chrono::hours(1);
constexpr Millis kTick{1};

class UploadExpiryTest : public testing::Test {
 protected:
  ~UploadExpiryTest() override { run_task(loop, expiry.stop()); }

  void add_upload(const std::string& id) {
    Upload upload;
    upload.id = {id};
    upload.file = {"in.jsonl", "batch", 4, std::nullopt};
    upload.created_at = clock.now();
    upload.expires_at = upload.created_at + kHour;
    run_task(loop, db.write([&](Store& store) { store.insert_upload(upload); }));
    expiry.notify();
  }
  void add_part(const std::string& upload, const std::string& id) {
    const auto writer = blobs->create(id);
    writer->write("part");
    writer->commit();
    EXPECT_TRUE(run_task(loop, db.write([&](Store& store) {
      return store.insert_part({{id}, {upload}, 4, clock.now()}, clock.now());
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
  UploadExpiry expiry{loop, clock, db, *blobs, io};
};

TEST_F(UploadExpiryTest, AnUploadEndsAfterItsHourAndItsPartsGo) {
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

TEST_F(UploadExpiryTest, WhatWasLateBeforeTheStartEndsAtOnce) {
  add_upload("upload_1");
  add_part("upload_1", "part_a");
  clock.advance(kHour);
  expiry.start();
  EXPECT_TRUE(has_blobs({}));
}

}  // namespace
}  // namespace penstock
