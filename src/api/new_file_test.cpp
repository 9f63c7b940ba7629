#include "api/new_file.h"

#include <gtest/gtest.h>

#include "testing/process.h"

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(5)};

// Blobs whose rows are written by a database that fails.
class StoreRowsTest : public testing::Test {
 protected:
  StoreRowsTest() {
    const auto writer = disk.blobs->create("file-1");
    writer->write("x");
    writer->commit();
  }

  void store() {
    const auto insert = [](Store& store) { store.insert_file({{"file-1"}, "a", "batch", 1, kNow, {}}); };
    const auto known = [](Store& store) { return store.find_file(kDefaultProject, {"file-1"}, kNow).has_value(); };
    run_task(loop, store_rows(disk.db, io, insert, known, [&] { remove_file(*disk.blobs, {"file-1"}); }));
  }

  FaultyDisk faulty;
  Disk& disk = faulty.disk;
  asio::io_context loop;
  asio::thread_pool io{1};
};

TEST_F(StoreRowsTest, BlobsStayWithTheirRows) {
  store();
  EXPECT_EQ(disk.blobs->keys(), std::vector<std::string>{"file-1"});
}

TEST_F(StoreRowsTest, BlobsGoWhenTheirRowsCouldNotBeWritten) {
  faulty.connection.statements_left = 0;
  EXPECT_THROW(store(), sql::Failure);
  EXPECT_TRUE(disk.blobs->keys().empty());
}

TEST_F(StoreRowsTest, BlobsStayWhenTheirRowsWereWrittenAndNobodyWasTold) {
  faulty.connection.loses_reply_of = "INSERT INTO files";
  EXPECT_THROW(store(), sql::Failure);
  EXPECT_EQ(disk.blobs->keys(), std::vector<std::string>{"file-1"});
}

TEST_F(StoreRowsTest, BlobsStayWhenACommitMayStillBeUnderWay) {
  faulty.connection.kind = sql::Failure::Kind::away;
  faulty.connection.statements_left = 1;
  EXPECT_THROW(store(), sql::Failure);
  EXPECT_EQ(disk.blobs->keys(), std::vector<std::string>{"file-1"});
}

}  // namespace
}  // namespace penstock
