#include <gtest/gtest.h>

#include <algorithm>

#include "store/store.h"
#include "testing/database.h"

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(1'764'000'000'000)};
constexpr Timestamp kEnd = kNow + std::chrono::hours(1);
constexpr Millis kTick{1};

class UploadsTest : public testing::TestWithParam<Driver> {
 protected:
  UploadsTest() : database(GetParam()), connection(database.open_alone()), store(*connection) { store.migrate(); }

  Upload add_upload(const std::string& id, Timestamp created_at = kNow) {
    const Upload upload{.id = {id},
                        .file = {"in.jsonl", "batch", 30, std::nullopt},
                        .status = UploadStatus::pending,
                        .created_at = created_at,
                        .expires_at = created_at + std::chrono::hours(1),
                        .file_id = std::nullopt};
    store.insert_upload(upload);
    return upload;
  }
  Result<void> add_part(const std::string& id, const UploadId& upload, Timestamp now = kNow) {
    return store.insert_part(kDefaultProject, {{id}, upload, 10, now}, now);
  }
  static File file(const std::string& id) { return {{id}, "in.jsonl", "batch", 30, kNow, std::nullopt}; }
  static std::vector<PartId> sorted(std::vector<PartId> ids) {
    std::sort(ids.begin(), ids.end());
    return ids;
  }

  TestDatabase database;
  std::unique_ptr<sql::Connection> connection;
  Store store;
};
INSTANTIATE_TEST_SUITE_P(On, UploadsTest, testing::ValuesIn(drivers()), driver_name);

TEST_P(UploadsTest, AnUploadComesBackAsItWasPut) {
  const Upload upload{.id = {"upload_1"},
                      .file = {"a \"b\" ü\n.jsonl", "user_data", 8'000'000'000, 3600},
                      .status = UploadStatus::pending,
                      .created_at = kNow,
                      .expires_at = kEnd,
                      .file_id = std::nullopt};
  store.insert_upload(upload);
  const Upload found = store.find_upload(kDefaultProject, upload.id, kNow).value();
  EXPECT_EQ(found.file, upload.file);
  EXPECT_EQ(found.status, UploadStatus::pending);
  EXPECT_EQ(found.created_at, kNow);
  EXPECT_EQ(found.expires_at, kEnd);
  EXPECT_FALSE(found.file_id);
  EXPECT_FALSE(add_upload("upload_2").file.expires_after_seconds);
  EXPECT_FALSE(store.find_upload(kDefaultProject, {"upload_3"}, kNow));
}

TEST_P(UploadsTest, PartsBelongToTheirUpload) {
  const Upload one = add_upload("upload_1"), two = add_upload("upload_2");
  ASSERT_TRUE(add_part("part_b", one.id));
  ASSERT_TRUE(add_part("part_a", two.id, kNow + kTick));
  ASSERT_TRUE(add_part("part_c", one.id));
  const auto parts = store.upload_parts(two.id);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0].id.value, "part_a");
  EXPECT_EQ(parts[0].upload_id, two.id);
  EXPECT_EQ(parts[0].bytes, 10u);
  EXPECT_EQ(parts[0].created_at, kNow + kTick);
  EXPECT_EQ(store.upload_parts(one.id).size(), 2u);
  EXPECT_EQ(sorted(store.all_part_ids()), (std::vector<PartId>{{"part_a"}, {"part_b"}, {"part_c"}}));
}

TEST_P(UploadsTest, CompletionStoresTheFileAndGivesUpAllParts) {
  const Upload upload = add_upload("upload_1"), other = add_upload("upload_2");
  ASSERT_TRUE(add_part("part_a", upload.id));
  ASSERT_TRUE(add_part("part_b", upload.id));
  ASSERT_TRUE(add_part("part_c", other.id));
  const auto ended = store.complete_upload(upload.id, file("file-1"), kNow);
  ASSERT_TRUE(ended);
  EXPECT_EQ(sorted(ended->parts), (std::vector<PartId>{{"part_a"}, {"part_b"}}));
  EXPECT_EQ(ended->upload.status, UploadStatus::completed);
  EXPECT_EQ(ended->upload.file_id, FileId{"file-1"});
  EXPECT_EQ(store.find_upload(kDefaultProject, upload.id, kNow)->status, UploadStatus::completed);
  EXPECT_EQ(store.find_upload(kDefaultProject, upload.id, kNow)->file_id, FileId{"file-1"});
  EXPECT_TRUE(store.find_file(kDefaultProject, {"file-1"}, kNow));
  EXPECT_EQ(store.all_part_ids(), (std::vector<PartId>{{"part_c"}}));
}

TEST_P(UploadsTest, OfTwoCompletionsOneWinsAndTheOtherStoresNothing) {
  const Upload upload = add_upload("upload_1");
  ASSERT_TRUE(store.complete_upload(upload.id, file("file-1"), kNow));
  const auto second = store.complete_upload(upload.id, file("file-2"), kNow);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, Error::Kind::invalid_request);
  EXPECT_NE(second.error().message.find("file-1"), std::string::npos) << second.error().message;
  EXPECT_FALSE(store.find_file(kDefaultProject, {"file-2"}, kNow));
}

TEST_P(UploadsTest, ACancelledUploadKeepsNoParts) {
  const Upload upload = add_upload("upload_1");
  ASSERT_TRUE(add_part("part_a", upload.id));
  const auto ended = store.cancel_upload(kDefaultProject, upload.id, kNow);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->upload.status, UploadStatus::cancelled);
  EXPECT_EQ(ended->parts, (std::vector<PartId>{{"part_a"}}));
  EXPECT_TRUE(store.all_part_ids().empty());
}

TEST_P(UploadsTest, WhatHasEndedIsLeftAsItIs) {
  const Upload completed = add_upload("upload_completed"), cancelled = add_upload("upload_cancelled"),
               late = add_upload("upload_expired", kNow - std::chrono::hours(1)),
               expired = add_upload("upload_seen_expired", kNow - std::chrono::hours(1) - kTick);
  ASSERT_TRUE(store.complete_upload(completed.id, file("file-1"), kNow));
  ASSERT_TRUE(store.cancel_upload(kDefaultProject, cancelled.id, kNow));
  ASSERT_EQ(store.expire_uploads(kNow - kTick).size(), 1u);
  const std::pair<UploadId, UploadStatus> table[] = {{completed.id, UploadStatus::completed},
                                                     {cancelled.id, UploadStatus::cancelled},
                                                     {late.id, UploadStatus::expired},
                                                     {expired.id, UploadStatus::expired}};
  for (const auto& [id, status] : table) {
    for (const Error& error : {store.pending_upload(kDefaultProject, id, kNow).error(), add_part("part_a", id).error(),
                               store.complete_upload(id, file("file-2"), kNow).error(),
                               store.cancel_upload(kDefaultProject, id, kNow).error()}) {
      EXPECT_EQ(error.kind, Error::Kind::invalid_request) << id.value;
      EXPECT_NE(error.message.find(std::string(to_string(status))), std::string::npos) << error.message;
    }
    EXPECT_EQ(store.find_upload(kDefaultProject, id, kNow)->status, status) << id.value;
  }
  EXPECT_TRUE(store.all_part_ids().empty());
  EXPECT_FALSE(store.find_file(kDefaultProject, {"file-2"}, kNow));
}

TEST_P(UploadsTest, UnknownUploadsAreNotFound) {
  const UploadId id{"upload_x"};
  for (const Error& error : {store.pending_upload(kDefaultProject, id, kNow).error(), add_part("part_a", id).error(),
                             store.complete_upload(id, file("file-1"), kNow).error(),
                             store.cancel_upload(kDefaultProject, id, kNow).error()}) {
    EXPECT_EQ(error.kind, Error::Kind::not_found);
    EXPECT_EQ(error.message, "No such Upload object: upload_x");
  }
  EXPECT_TRUE(store.all_part_ids().empty());
  EXPECT_FALSE(store.find_file(kDefaultProject, {"file-1"}, kNow));
}

TEST_P(UploadsTest, AnUploadExpiresByTheClockBeforeAnybodySweeps) {
  const Upload upload = add_upload("upload_1");
  EXPECT_EQ(store.find_upload(kDefaultProject, upload.id, kEnd - kTick)->status, UploadStatus::pending);
  EXPECT_TRUE(add_part("part_a", upload.id, kEnd - kTick));
  EXPECT_EQ(store.find_upload(kDefaultProject, upload.id, kEnd)->status, UploadStatus::expired);
  EXPECT_FALSE(add_part("part_b", upload.id, kEnd));
  EXPECT_FALSE(store.complete_upload(upload.id, file("file-1"), kEnd));
  EXPECT_EQ(store.all_part_ids().size(), 1u);
}

TEST_P(UploadsTest, ExpiryEndsThoseThatAreLateAndTheirPartsGo) {
  const Upload first = add_upload("upload_1"), second = add_upload("upload_2", kNow + kTick);
  const Upload done = add_upload("upload_3");
  ASSERT_TRUE(add_part("part_a", first.id));
  ASSERT_TRUE(add_part("part_b", second.id));
  ASSERT_TRUE(store.cancel_upload(kDefaultProject, done.id, kNow));
  EXPECT_TRUE(store.expire_uploads(kEnd - kTick).empty());
  const auto ended = store.expire_uploads(kEnd);
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].upload.id, first.id);
  EXPECT_EQ(ended[0].upload.status, UploadStatus::expired);
  EXPECT_EQ(ended[0].parts, (std::vector<PartId>{{"part_a"}}));
  EXPECT_EQ(store.all_part_ids(), (std::vector<PartId>{{"part_b"}}));
  EXPECT_TRUE(store.expire_uploads(kEnd).empty());
  EXPECT_EQ(store.find_upload(kDefaultProject, done.id, kEnd)->status, UploadStatus::cancelled);
}

TEST_P(UploadsTest, AnUploadThatHasEndedKeepsNoNameOfAFile) {
  const auto name_of = [&](const UploadId& id) { return store.find_upload(kDefaultProject, id, kNow)->file.filename; };
  const Upload whole = add_upload("upload_whole"), cancelled = add_upload("upload_cancelled");
  const File file{{"file-1"}, whole.file.filename, "batch", 4, kNow, std::nullopt};
  EXPECT_EQ(store.complete_upload(whole.id, file, kNow)->upload.file.filename, whole.file.filename);
  EXPECT_EQ(name_of(whole.id), whole.file.filename);
  ASSERT_TRUE(store.delete_file(kDefaultProject, file.id, kNow));
  EXPECT_EQ(name_of(whole.id), "");
  EXPECT_EQ(store.cancel_upload(kDefaultProject, cancelled.id, kNow)->upload.file.filename, cancelled.file.filename);
  EXPECT_EQ(name_of(cancelled.id), "");
}

TEST_P(UploadsTest, TheNextExpiryIsThatOfTheOldestPendingUpload) {
  EXPECT_FALSE(store.next_upload_expiry());
  add_upload("upload_late", kNow + kTick);
  const Upload early = add_upload("upload_early");
  EXPECT_EQ(store.next_upload_expiry(), kEnd);
  ASSERT_TRUE(store.cancel_upload(kDefaultProject, early.id, kNow));
  EXPECT_EQ(store.next_upload_expiry(), kEnd + kTick);
  ASSERT_EQ(store.expire_uploads(kEnd + kTick).size(), 1u);
  EXPECT_FALSE(store.next_upload_expiry());
}

TEST_P(UploadsTest, TheNextExpiryIsReadFromTheIndexOfPendingUploads) {
  if (GetParam() != Driver::sqlite) GTEST_SKIP() << "it asks SQLite for its plan";
  std::string plan;
  connection->execute(
      "EXPLAIN QUERY PLAN SELECT expires_ms FROM uploads WHERE status = 'pending' ORDER BY expires_ms LIMIT 1", {},
      [&](const sql::Row& row) { plan += row.text(3); });
  EXPECT_NE(plan.find("uploads_pending"), std::string::npos) << plan;
  EXPECT_EQ(plan.find("TEMP"), std::string::npos) << plan;
}

}  // namespace
}  // namespace penstock
