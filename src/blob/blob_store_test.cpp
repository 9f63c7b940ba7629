#include "blob/blob_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <random>
#include <thread>

#include "base/error.h"
#include "testing/blob_places.h"
#include "testing/memory_blobs.h"

// What every store promises.
namespace penstock {
namespace {

class BlobStoreTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string kind = GetParam();
    if (kind == "memory") {
      open_store = [this] { return std::make_unique<MemoryBlobs>(disk); };
    } else if (kind == "local") {
      open_store = [this] { return open_local_blobs(folder / "blobs"); };
    } else {
      const auto place = s3_place(kind);
      if (!place) GTEST_SKIP() << "PENSTOCK_TEST_" << kind << "_ENDPOINT is not set: tests/services.py sets it";
      open_store = [this, options = *place] { return open_s3_blobs(options, folder.path()); };
    }
    blobs = open_store();
  }
  void TearDown() override {
    for (const std::string& key : blobs ? blobs->keys() : std::vector<std::string>()) blobs->remove(key);
  }

  void put(const std::string& key, std::string_view bytes) {
    const auto writer = blobs->create(key);
    writer->write(bytes);
    writer->commit();
  }
  static std::string get(const BlobStore& store, const std::string& key) {
    const auto reader = store.open(key);
    if (!reader) return "(none)";
    std::string bytes;
    reader->read_at(0, reader->size(), bytes);
    return bytes;
  }

  TempDir folder;
  MemoryDisk disk;
  std::function<std::unique_ptr<BlobStore>()> open_store;  // as another process would
  std::unique_ptr<BlobStore> blobs;
};

INSTANTIATE_TEST_SUITE_P(Kinds, BlobStoreTest, testing::Values("memory", "local", "S3", "MOTO"),
                         [](const auto& kind) { return std::string(kind.param); });

TEST_P(BlobStoreTest, NothingIsVisibleBeforeTheCommit) {
  const auto writer = blobs->create("file-1");
  writer->write("hello ");
  writer->write("world");
  EXPECT_EQ(writer->size(), 11u);
  EXPECT_EQ(blobs->open("file-1"), nullptr);
  EXPECT_TRUE(blobs->keys().empty());
  writer->commit();
  EXPECT_EQ(get(*blobs, "file-1"), "hello world");
  EXPECT_EQ(blobs->keys(), std::vector<std::string>{"file-1"});
}

TEST_P(BlobStoreTest, AnUncommittedWriterLeavesNothing) {
  blobs->create("file-1")->write("half");
  EXPECT_EQ(blobs->open("file-1"), nullptr);
  EXPECT_TRUE(blobs->keys().empty());
}

TEST_P(BlobStoreTest, SmallAndLargePiecesStandInTheirOrder) {
  std::string all;
  const auto writer = blobs->create("file-1");
  for (std::size_t length : {1u, 100u, 70'000u, 3u, 65'535u, 1u, 1u, 9'000'000u, 0u, 7u, 9'000'000u, 1u}) {
    std::string piece(length, '\0');
    for (std::size_t i = 0; i < length; ++i) piece[i] = static_cast<char>((all.size() + i) * 2654435761u >> 13);
    writer->write(piece);
    all += piece;
  }
  EXPECT_EQ(blobs->open("file-1"), nullptr);
  writer->commit();
  EXPECT_EQ(writer->size(), all.size());
  EXPECT_TRUE(get(*blobs, "file-1") == all);
  EXPECT_TRUE(get(*open_store(), "file-1") == all) << "another process finds it otherwise";
}

TEST_P(BlobStoreTest, ReadsAppendAndEndWithTheBlob) {
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

TEST_P(BlobStoreTest, AnyPlaceIsReadFromSeveralThreads) {
  std::string all;
  std::mt19937 bytes(1);
  while (all.size() < 5'300'000) all += std::to_string(bytes());
  put("file-1", all);
  const auto reader = blobs->open("file-1");
  const auto read_here_and_there = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 200; ++i) {
      const std::size_t offset = random() % all.size(), length = random() % (i % 20 == 0 ? 3'000'000 : 3'000);
      std::string out;
      reader->read_at(offset, length, out);
      if (out != all.substr(offset, length)) return false;
    }
    return true;
  };
  std::vector<std::future<bool>> right;
  for (unsigned seed = 0; seed < 3; ++seed) {
    right.push_back(std::async(std::launch::async, read_here_and_there, seed));
  }
  for (auto& one : right) EXPECT_TRUE(one.get());
}

TEST_P(BlobStoreTest, AnEmptyBlobIsABlob) {
  put("file-1", "");
  EXPECT_EQ(get(*blobs, "file-1"), "");
  EXPECT_EQ(blobs->keys().size(), 1u);
}

TEST_P(BlobStoreTest, ALaterBlobReplacesAnEarlierOfItsKey) {
  put("file-1", "old");
  EXPECT_EQ(get(*blobs, "file-1"), "old");
  const auto first = blobs->create("file-1");
  const auto second = blobs->create("file-1");
  first->write("first");
  second->write("second");
  second->commit();
  first->commit();
  EXPECT_EQ(get(*blobs, "file-1"), "first");
}

TEST_P(BlobStoreTest, ARemovedBlobStaysReadableForItsReaders) {
  std::string all(3'000'000, 'b');
  put("file-1", all);
  auto reader = blobs->open("file-1");
  std::string out;
  reader->read_at(0, 5, out);
  blobs->remove("file-1");
  blobs->remove("file-1");
  EXPECT_EQ(blobs->open("file-1"), nullptr);
  EXPECT_TRUE(blobs->keys().empty());
  out.clear();
  reader->read_at(0, all.size(), out);
  EXPECT_TRUE(out == all);
  reader.reset();
  blobs.reset();
  blobs = open_store();
  EXPECT_EQ(blobs->open("file-1"), nullptr);
  EXPECT_TRUE(blobs->keys().empty());
}

TEST_P(BlobStoreTest, ABlobWrittenAfterARemovalIsThere) {
  put("file-1", "old");
  auto reader = blobs->open("file-1");
  blobs->remove("file-1");
  put("file-1", "new");
  EXPECT_EQ(get(*blobs, "file-1"), "new");
  reader.reset();
  EXPECT_EQ(get(*open_store(), "file-1"), "new");
}

TEST_P(BlobStoreTest, WhatIsGoneCanBeRemoved) {
  blobs->remove("file-1");
}

TEST_P(BlobStoreTest, NothingThatIsYoungIsOld) {
  if (std::string(GetParam()) == "MOTO") GTEST_SKIP() << "it says of every upload that it began in 2010";
  put("file-1", "bytes");
  const auto writer = blobs->create("file-2");
  writer->write(std::string(9'000'000, 'x'));
  EXPECT_TRUE(blobs->keys(std::chrono::hours(24)).empty());
  blobs->abort_unfinished(std::chrono::hours(24));
  writer->commit();
  EXPECT_EQ(blobs->keys().size(), 2u);
}

TEST_P(BlobStoreTest, OfSeveralWhoCreateABlobOnceOneSucceeds) {
  EXPECT_TRUE(blobs->create_once("file-1", "first"));
  EXPECT_FALSE(open_store()->create_once("file-1", "second"));
  EXPECT_EQ(get(*blobs, "file-1"), "first");
}

TEST_P(BlobStoreTest, AStoreHasOneIdentityAndItIsNoBlobOfOurs) {
  const std::string id = identity(*blobs, "first");
  EXPECT_EQ(id, "first");
  EXPECT_EQ(identity(*open_store(), "second"), id);
  EXPECT_TRUE(blobs->keys().empty());
  blobs->remove(std::string(kIdentityKey));
  EXPECT_EQ(identity(*blobs, "third"), "third");
  blobs->remove(std::string(kIdentityKey));
}

TEST_P(BlobStoreTest, AKeyIsNeverAPath) {
  if (std::string(GetParam()) == "memory") GTEST_SKIP() << "it has no paths";
  for (const char* key : {"", ".", "..", "../x", "a/b", "tmp/x", "a.b"}) {
    EXPECT_THROW(blobs->create(key), std::logic_error) << key;
    EXPECT_THROW(blobs->open(key), std::logic_error) << key;
    EXPECT_THROW(blobs->remove(key), std::logic_error) << key;
    EXPECT_THROW(blobs->create_once(key, ""), std::logic_error) << key;
  }
}

TEST(OpenBlobsTest, AnAddressIsAFolderOrOfS3) {
  const TempDir folder;
  EXPECT_TRUE(open_blobs(folder / "blobs", folder.path())->keys().empty());
  for (const std::string& address :
       {std::string(), std::string("http://host/bucket"), std::string("s3://"), folder.write("file", "x")}) {
    EXPECT_THROW(open_blobs(address, folder.path()), UsageError) << address;
  }
}

}  // namespace
}  // namespace penstock
