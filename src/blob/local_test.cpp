#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "blob/blob_store.h"

namespace penstock {
namespace {

class LocalBlobsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "blobs_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root = name;
    blobs = open_local_blobs(directory());
  }
  void TearDown() override { std::filesystem::remove_all(root); }

  std::string directory() const { return (root / "made" / "here").string(); }

  void put(const std::string& key, std::string_view bytes) {
    const auto writer = blobs->create(key);
    writer->write(bytes);
    writer->commit();
  }
  std::string get(const std::string& key) {
    const auto reader = blobs->open(key);
    if (!reader) return "(none)";
    std::string bytes;
    reader->read_at(0, reader->size(), bytes);
    return bytes;
  }
  std::size_t temporary_files() {
    const auto files = std::filesystem::directory_iterator(std::filesystem::path(directory()) / "tmp");
    return static_cast<std::size_t>(std::distance(begin(files), end(files)));
  }

  std::filesystem::path root;
  std::unique_ptr<BlobStore> blobs;
};

TEST_F(LocalBlobsTest, AnUncommittedWriterLeavesNothing) {
  blobs->create("file-1")->write("half");
  EXPECT_EQ(blobs->open("file-1"), nullptr);
  EXPECT_EQ(temporary_files(), 0u);
}

TEST_F(LocalBlobsTest, ALaterBlobReplacesAnEarlierOfItsKeyAndReadersKeepTheirs) {
  put("file-1", "old");
  const auto reader = blobs->open("file-1");
  const auto first = blobs->create("file-1");
  const auto second = blobs->create("file-1");
  first->write("first");
  second->write("second");
  second->commit();
  first->commit();
  EXPECT_EQ(get("file-1"), "first");
  std::string out;
  reader->read_at(0, 100, out);
  EXPECT_EQ(out, "old");
}

TEST_F(LocalBlobsTest, WhatAnotherProcessWritesStaysUntilItIsOld) {
  put("file-1", "whole");
  const auto half = std::filesystem::path(directory()) / "tmp" / "file-2.0";
  std::ofstream(half) << "half";
  blobs = open_local_blobs(directory() + "/");
  blobs->abort_unfinished(std::chrono::hours(1));
  EXPECT_EQ(temporary_files(), 1u);
  std::filesystem::last_write_time(half, std::filesystem::file_time_type::clock::now() - std::chrono::hours(2));
  blobs->abort_unfinished(std::chrono::hours(3));
  EXPECT_EQ(temporary_files(), 1u);
  blobs->abort_unfinished(std::chrono::hours(1));
  EXPECT_EQ(temporary_files(), 0u);
  std::ofstream(half) << "half";
  blobs->abort_unfinished(Millis{0});
  EXPECT_EQ(temporary_files(), 0u);
  EXPECT_EQ(get("file-1"), "whole");
}

TEST_F(LocalBlobsTest, KeysHaveTheAgeOfTheirFiles) {
  put("file-1", "old");
  put("file-2", "young");
  const auto file = std::filesystem::path(directory()) / "file-1";
  std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() - std::chrono::hours(25));
  EXPECT_EQ(blobs->keys(std::chrono::hours(24)), std::vector<std::string>{"file-1"});
  EXPECT_TRUE(blobs->keys(std::chrono::hours(26)).empty());
  EXPECT_EQ(blobs->keys().size(), 2u);
}

TEST_F(LocalBlobsTest, AFileThatIsNoBlobIsNone) {
  std::ofstream(std::filesystem::path(directory()) / ".nfs0001") << "open elsewhere";
  EXPECT_TRUE(blobs->keys().empty());
}

TEST_F(LocalBlobsTest, OthersMayNotReadTheFiles) {
  put("file-1", "secret");
  using std::filesystem::perms;
  const auto path = std::filesystem::path(directory());
  EXPECT_EQ(std::filesystem::status(path / "file-1").permissions() & (perms::group_all | perms::others_all),
            perms::none);
  EXPECT_EQ(std::filesystem::status(path).permissions() & (perms::group_all | perms::others_all), perms::none);
}

TEST_F(LocalBlobsTest, AFileInTheDirectorysPlaceIsAnError) {
  std::ofstream(root / "file") << "x";
  EXPECT_THROW(open_local_blobs((root / "file").string()), std::system_error);
  EXPECT_THROW(open_local_blobs((root / "file" / "below").string()), std::system_error);
}

}  // namespace
}  // namespace penstock
