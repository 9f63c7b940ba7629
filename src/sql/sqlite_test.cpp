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

TEST_F(SqliteTest, BindsParametersByTheirNumberNotByTheirPlace) {
  const auto c = open_sqlite(":memory:");
  std::string seen;
  c->execute("SELECT $2, $1, $2", {"one", "two"}, [&](const Row& row) {
    for (int i = 0; i < 3; ++i) seen += std::string(row.text(i)) + " ";
  });
  EXPECT_EQ(seen, "two one two ");
}

TEST_F(SqliteTest, KeepsTextBytesNumbersAndNullApart) {
  const auto c = open_sqlite(":memory:");
  c->execute_script("CREATE TABLE t (a TEXT, b BLOB, c BIGINT, d TEXT)");
  const std::string bytes("\0\xff\0x", 4);
  EXPECT_EQ(c->execute("INSERT INTO t VALUES ($1, $2, $3, $4)",
                       {"", Blob{bytes}, std::int64_t{-9'000'000'000'000'000'000}, nullptr}),
            1);
  int rows = 0;
  c->execute("SELECT a, b, c, d FROM t", {}, [&](const Row& row) {
    ++rows;
    EXPECT_FALSE(row.is_null(0));
    EXPECT_EQ(row.text(0), "");
    EXPECT_EQ(row.text(1), bytes);
    EXPECT_EQ(row.integer(2), -9'000'000'000'000'000'000);
    EXPECT_TRUE(row.is_null(3));
    EXPECT_THROW(row.integer(0), Failure);
    EXPECT_THROW(row.text(2), Failure);
    EXPECT_THROW(row.text(3), Failure);
  });
  EXPECT_EQ(rows, 1);
}

TEST_F(SqliteTest, TellsHowManyRowsWereChanged) {
  const auto c = open_sqlite(":memory:");
  c->execute_script("CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (1), (2), (3)");
  EXPECT_EQ(c->execute("UPDATE t SET a = a + 1 WHERE a > $1", {std::int64_t{1}}), 2);
  EXPECT_EQ(c->execute("UPDATE t SET a = a + 1 WHERE a > $1", {std::int64_t{100}}), 0);
  EXPECT_EQ(c->execute("SELECT a FROM t", {}), 0);
}

TEST_F(SqliteTest, AStatementThatThrewInItsRowsRunsAgain) {
  const auto c = open_sqlite(":memory:");
  const std::string_view statement = "SELECT $1";
  EXPECT_THROW(c->execute(statement, {std::int64_t{1}}, [](const Row&) { throw std::runtime_error("stop"); }),
               std::runtime_error);
  std::int64_t seen = 0;
  c->execute(statement, {std::int64_t{2}}, [&](const Row& row) { seen = row.integer(0); });
  EXPECT_EQ(seen, 2);
}

TEST_F(SqliteTest, AWrongStatementAndAMissingValueAreFailures) {
  const auto c = open_sqlite(":memory:");
  EXPECT_THROW(c->execute("SELEKT 1", {}), Failure);
  EXPECT_THROW(c->execute("SELECT $2", {std::int64_t{1}}), Failure);
  EXPECT_THROW(c->execute_script("SELECT 1; nonsense"), Failure);
}

TEST_F(SqliteTest, ATransactionThatThrowsLeavesNothing) {
  const auto c = open_sqlite(":memory:");
  c->execute_script("CREATE TABLE t (a BIGINT)");
  EXPECT_THROW(transaction(*c,
                           [&] {
                             c->execute("INSERT INTO t VALUES (1)", {});
                             throw std::runtime_error("no");
                           }),
               std::runtime_error);
  EXPECT_EQ(number(*c, "SELECT COUNT(*) FROM t"), 0);
  EXPECT_EQ(transaction(*c, [&] { return c->execute("INSERT INTO t VALUES (1)", {}); }), 1);
  EXPECT_EQ(number(*c, "SELECT COUNT(*) FROM t"), 1);
}

TEST_F(SqliteTest, ForeignKeysHold) {
  const auto c = open_sqlite(":memory:");
  c->execute_script("CREATE TABLE a (x BIGINT PRIMARY KEY); CREATE TABLE b (x BIGINT REFERENCES a (x))");
  EXPECT_THROW(c->execute("INSERT INTO b VALUES (1)", {}), Failure);
}

TEST_F(SqliteTest, ReadersSeeTheLastCommittedStateAndDoNotWait) {
  const auto writer = open_sqlite(path);
  writer->execute_script("CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (1)");
  const auto reader = open_sqlite(path, true);
  writer->begin();
  writer->execute("INSERT INTO t VALUES (2)", {});
  EXPECT_EQ(transaction(*reader, [&] { return number(*reader, "SELECT COUNT(*) FROM t"); }), 1);
  writer->commit();
  EXPECT_EQ(transaction(*reader, [&] { return number(*reader, "SELECT COUNT(*) FROM t"); }), 2);
  EXPECT_THROW(reader->execute("INSERT INTO t VALUES (3)", {}), Failure);
}

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
