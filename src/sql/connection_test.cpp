#include "sql/connection.h"

#include <gtest/gtest.h>

#include "testing/database.h"

// What both drivers do alike.
namespace penstock::sql {
namespace {

class ConnectionTest : public testing::TestWithParam<Driver> {
 protected:
  std::int64_t number(Connection& c, std::string_view statement) {
    std::int64_t result = -1;
    c.execute(statement, {}, [&](const Row& row) { result = row.integer(0); });
    return result;
  }

  TestDatabase database{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(On, ConnectionTest, testing::ValuesIn(drivers()), driver_name);

TEST_P(ConnectionTest, BindsParametersByTheirNumberNotByTheirPlace) {
  const auto c = database.open_alone();
  std::string seen;
  c->execute("SELECT $2, $1, $2", {"one", "two"}, [&](const Row& row) {
    for (int i = 0; i < 3; ++i) seen += std::string(row.text(i)) + " ";
  });
  EXPECT_EQ(seen, "two one two ");
}

TEST_P(ConnectionTest, KeepsTextBytesNumbersAndNullApart) {
  const auto c = database.open_alone();
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

TEST_P(ConnectionTest, TellsHowManyRowsWereChanged) {
  const auto c = database.open_alone();
  c->execute_script("CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (1), (2), (3)");
  EXPECT_EQ(c->execute("UPDATE t SET a = a + 1 WHERE a > $1", {std::int64_t{1}}), 2);
  EXPECT_EQ(c->execute("UPDATE t SET a = a + 1 WHERE a > $1", {std::int64_t{100}}), 0);
  EXPECT_EQ(c->execute("SELECT a FROM t", {}), 0);
}

TEST_P(ConnectionTest, AStatementThatThrewInItsRowsRunsAgain) {
  const auto c = database.open_alone();
  const std::string_view statement = "SELECT $1";
  EXPECT_THROW(c->execute(statement, {std::int64_t{1}}, [](const Row&) { throw std::runtime_error("stop"); }),
               std::runtime_error);
  std::int64_t seen = 0;
  c->execute(statement, {std::int64_t{2}}, [&](const Row& row) { seen = row.integer(0); });
  EXPECT_EQ(seen, 2);
}

TEST_P(ConnectionTest, AWrongStatementAndAMissingValueAreFailures) {
  const auto c = database.open_alone();
  EXPECT_THROW(c->execute("SELEKT 1", {}), Failure);
  EXPECT_THROW(c->execute("SELECT $2", {std::int64_t{1}}), Failure);
  EXPECT_THROW(c->execute_script("SELECT 1; nonsense"), Failure);
}

TEST_P(ConnectionTest, ATransactionThatThrowsLeavesNothing) {
  const auto c = database.open_alone();
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

TEST_P(ConnectionTest, ForeignKeysHold) {
  const auto c = database.open_alone();
  c->execute_script("CREATE TABLE a (x BIGINT PRIMARY KEY); CREATE TABLE b (x BIGINT REFERENCES a (x))");
  EXPECT_THROW(c->execute("INSERT INTO b VALUES (1)", {}), Failure);
}

TEST_P(ConnectionTest, ReadersSeeTheLastCommittedStateAndDoNotWait) {
  const auto writer = database.open();
  writer->execute_script("CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (1)");
  const auto reader = database.open(true);
  writer->begin();
  writer->execute("INSERT INTO t VALUES (2)", {});
  EXPECT_EQ(transaction(*reader, [&] { return number(*reader, "SELECT COUNT(*) FROM t"); }), 1);
  writer->commit();
  EXPECT_EQ(transaction(*reader, [&] { return number(*reader, "SELECT COUNT(*) FROM t"); }), 2);
  EXPECT_THROW(reader->execute("INSERT INTO t VALUES (3)", {}), Failure);
}

TEST_P(ConnectionTest, WhatStandsInACommentForPostgresIsForItAlone) {
  const auto c = database.open_alone();
  EXPECT_EQ(number(*c, "SELECT CAST(1 AS BIGINT) /*PG + 1*/ /* + 1 */ /*PG\n + 1*/"),
            GetParam() == Driver::sqlite ? 1 : 3);
}

TEST_P(ConnectionTest, ASchemaInOurWordsIsUnderstood) {
  const auto c = database.open_alone();
  c->execute_script(
      "CREATE TABLE a (seq INTEGER PRIMARY KEY AUTOINCREMENT, b BLOB);"
      "CREATE TABLE b (seq INTEGER PRIMARY KEY);"
      "CREATE TABLE c (x BIGINT, y BIGINT, PRIMARY KEY (x, y)) WITHOUT ROWID;"
      "ANALYZE sqlite_schema; INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('c', 'c', '1 1 1'); ANALYZE "
      "sqlite_schema;"
      "INSERT INTO c VALUES (1, 2)");
  for (int i = 1; i <= 3; ++i) {
    std::int64_t seq = 0;
    c->execute("INSERT INTO a (b) VALUES ($1) RETURNING seq", {Blob{"x"}},
               [&](const Row& row) { seq = row.integer(0); });
    EXPECT_EQ(seq, i);
  }
  EXPECT_EQ(number(*c, "SELECT y FROM c"), 2);
}

TEST_P(ConnectionTest, WhatIsExecutedLaterIsThereForTheNextStatementAndAfterTheCommit) {
  const auto c = database.open_alone();
  c->execute_script("CREATE TABLE t (a BIGINT UNIQUE)");
  transaction(*c, [&] {
    std::string text = "INSERT INTO t VALUES ($1)";
    c->execute_later(text, {std::int64_t{1}});
    text.assign("gone");
    EXPECT_EQ(number(*c, "SELECT COUNT(*) FROM t"), 1);
    c->execute_later("INSERT INTO t VALUES ($1)", {std::int64_t{2}});
  });
  EXPECT_EQ(number(*c, "SELECT COUNT(*) FROM t"), 2);
  EXPECT_THROW(transaction(*c,
                           [&] {
                             c->execute("INSERT INTO t VALUES (3)", {});
                             c->execute_later("INSERT INTO t VALUES (1)", {});
                           }),
               Failure);
  EXPECT_EQ(number(*c, "SELECT COUNT(*) FROM t"), 2);
}

TEST_P(ConnectionTest, AStatementThatFailedCanBeMadeGood) {
  const auto c = database.open_alone();
  const std::string_view statement = "SELECT COUNT(*) FROM later";
  EXPECT_THROW(transaction(*c, [&] { c->execute(statement, {}); }), Failure);
  c->execute_script("CREATE TABLE later (a BIGINT)");
  EXPECT_EQ(number(*c, statement), 0);
}

TEST_P(ConnectionTest, ManyRowsComeInTheirOrder) {
  const auto c = database.open_alone();
  std::int64_t next = 0;
  c->execute(
      "WITH RECURSIVE n (i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < 9999)"
      " SELECT i, $1 FROM n ORDER BY i",
      {std::string(100, 'x')}, [&](const Row& row) { next += row.integer(0) == next && row.text(1).size() == 100; });
  EXPECT_EQ(next, 10'000);
}

}  // namespace
}  // namespace penstock::sql
