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

TEST_F(LocalBlobsTest, NothingIsVisibleBeforeTheCommit) {
  const auto writer = blobs->create("file-1");
  writer->write("hello ");
  writer->write("world");
  EXPECT_EQ(writer->size(), 11u);
  EXPECT_EQ(blobs->open("file-1"), nullptr);
  EXPECT_TRUE(blobs->keys().empty());
  writer->commit();
  EXPECT_EQ(get("file-1"), "hello world");
  EXPECT_EQ(blobs->keys(), std::vector<std::string>{"file-1"});
  EXPECT_EQ(temporary_files(), 0u);
}

TEST_F(LocalBlobsTest, AnUncommittedWriterLeavesNothing) {
  blobs->create("file-1")->write("half");
  EXPECT_EQ(blobs->open("file-1"), nullptr);
  EXPECT_EQ(temporary_files(), 0u);
}

TEST_F(LocalBlobsTest, SmallAndLargePiecesStandInTheirOrder) {
  std::string all;
  const auto writer = blobs->create("file-1");
  for (std::size_t length : {1u, 100u, 70'000u, 3u, 65'535u, 1u, 1u, 1'000'000u, 0u, 7u}) {
    const std::string piece(length, static_cast<char>('a' + all.size() % 26));
    writer->write(piece);
    all += piece;
  }
  writer->commit();
  EXPECT_EQ(writer->size(), all.size());
  EXPECT_EQ(get("file-1"), all);
}

TEST_F(LocalBlobsTest, ReadsAppendAndEndWithTheBlob) {
  put("file-1", "0123456789");
  const auto reader = blobs->open("file-1");
  std::string out = "x";
  reader->read_at(3, 4, out);
  EXPECT_EQ(out, "x3456");
  reader->read_at(8, 100, out);
  EXPECT_EQ(out, "x345689");
  reader->read_at(10, 1, out);
  reader->read_at(1'000'000, 1, out);
  EXPECT_EQ(out, "x345689");
}

TEST_F(LocalBlobsTest, AnEmptyBlobIsABlob) {
  put("file-1", "");
  EXPECT_EQ(get("file-1"), "");
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

TEST_F(LocalBlobsTest, ARemovedBlobStaysReadableForItsReaders) {
  put("file-1", "bytes");
  const auto reader = blobs->open("file-1");
  blobs->remove("file-1");
  blobs->remove("file-1");
  EXPECT_EQ(blobs->open("file-1"), nullptr);
  std::string out;
  reader->read_at(0, 5, out);
  EXPECT_EQ(out, "bytes");
}

TEST_F(LocalBlobsTest, ANewProcessKeepsBlobsAndDropsHalfWrittenOnes) {
  put("file-1", "whole");
  std::ofstream(std::filesystem::path(directory()) / "tmp" / "file-2.0") << "half";
  blobs = open_local_blobs(directory() + "/");
  EXPECT_EQ(temporary_files(), 0u);
  EXPECT_EQ(blobs->keys(), std::vector<std::string>{"file-1"});
  EXPECT_EQ(get("file-1"), "whole");
}

TEST_F(LocalBlobsTest, OthersMayNotReadTheFiles) {
  put("file-1", "secret");
  using std::filesystem::perms;
  const auto path = std::filesystem::path(directory());
  EXPECT_EQ(std::filesystem::status(path / "file-1").permissions() & (perms::group_all | perms::others_all),
            perms::none);
  EXPECT_EQ(std::filesystem::status(path).permissions() & (perms::group_all | perms::others_all), perms::none);
}

TEST_F(LocalBlobsTest, AKeyIsNeverAPath) {
  for (const char* key : {"", ".", "..", "../x", "a/b", "tmp/x", "a.b"}) {
    EXPECT_THROW(blobs->create(key), std::logic_error) << key;
    EXPECT_THROW(blobs->open(key), std::logic_error) << key;
    EXPECT_THROW(blobs->remove(key), std::logic_error) << key;
  }
}

TEST_F(LocalBlobsTest, AFileInTheDirectorysPlaceIsAnError) {
  std::ofstream(root / "file") << "x";
  EXPECT_THROW(open_local_blobs((root / "file").string()), std::system_error);
  EXPECT_THROW(open_local_blobs((root / "file" / "below").string()), std::system_error);
}

}  // namespace
}  // namespace penstock
