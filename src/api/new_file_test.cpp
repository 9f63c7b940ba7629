#include "api/new_file.h"

#include <gtest/gtest.h>

#include "testing/faulty_connection.h"
#include "testing/process.h"

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(5)};

// Blobs whose rows are written by a database that fails.
class StoreRowsTest : public testing::Test {
 protected:
  StoreRowsTest() {
    sql::transaction(*database, [&] { Store(*database).migrate(); });
    const auto writer = disk.blobs->create("file-1");
    writer->write("x");
    writer->commit();
  }

  void store() {
    const auto insert = [](Store& store) { store.insert_file({{"file-1"}, "a", "batch", 1, kNow, {}}); };
    const auto known = [](Store& store) { return store.find_file({"file-1"}, kNow).has_value(); };
    run_task(loop, store_rows(disk.db, io, insert, known, [&] { remove_file(*disk.blobs, {"file-1"}); }));
  }

  std::unique_ptr<sql::Connection> database = sql::open_sqlite(":memory:");
  FaultyConnection* session = new FaultyConnection(*database);
  TempDir folder;
  Disk disk{std::unique_ptr<sql::Connection>(session), open_local_blobs(folder / "blobs")};
  asio::io_context loop;
  asio::thread_pool io{1};
};

TEST_F(StoreRowsTest, BlobsStayWithTheirRows) {
  store();
  EXPECT_EQ(disk.blobs->keys(), std::vector<std::string>{"file-1"});
}

TEST_F(StoreRowsTest, BlobsGoWhenTheirRowsCouldNotBeWritten) {
  session->statements_left = 0;
  EXPECT_THROW(store(), sql::Failure);
  EXPECT_TRUE(disk.blobs->keys().empty());
}

}  // namespace
}  // namespace penstock
