#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "sql/connection.h"

namespace penstock::sql {
namespace {

class SqliteTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "sqlite_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory = name;
    path = name + "/test.db";
  }
  void TearDown() override { std::filesystem::remove_all(directory); }

  std::int64_t number(Connection& c, std::string_view statement) {
    std::int64_t result = -1;
    c.execute(statement, {}, [&](const Row& row) { result = row.integer(0); });
    return result;
  }

  std::filesystem::path directory;
  std::string path;
};

TEST_F(SqliteTest, CommittedRowsAreThereAfterReopeningAndOthersAreNot) {
  {
    const auto c = open_sqlite(path);
    c->execute_script("CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (1)");
    c->begin();
    c->execute("INSERT INTO t VALUES (2)", {});
  }
  EXPECT_EQ(number(*open_sqlite(path), "SELECT COUNT(*) FROM t"), 1);
}

TEST_F(SqliteTest, AFullDatabaseIsNoSpace) {
  const auto c = open_sqlite(path);
  c->execute_script("CREATE TABLE t (a BLOB); PRAGMA max_page_count = 10");
  const std::string bytes(1'000'000, 'x');
  try {
    transaction(*c, [&] { c->execute("INSERT INTO t VALUES ($1)", {Blob{bytes}}); });
    FAIL() << "a million bytes went into ten pages";
  } catch (const Failure& e) {
    EXPECT_EQ(e.kind(), Failure::Kind::no_space);
  }
  EXPECT_EQ(transaction(*c, [&] { return number(*c, "SELECT COUNT(*) FROM t"); }), 0);
}

TEST_F(SqliteTest, AFileThatIsNoDatabaseAndAMissingFolderAreFailures) {
  std::ofstream(path) << std::string(4096, 'x');
  EXPECT_THROW(open_sqlite(path), Failure);
  EXPECT_THROW(open_sqlite(path + "/nowhere/x.db"), Failure);
}

}  // namespace
}  // namespace penstock::sql
