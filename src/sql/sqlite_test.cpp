#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

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

  // Whether the words are in one of the database's files.
  bool files_have(const std::string& words) {
    for (const auto& file : std::filesystem::directory_iterator(directory)) {
      std::ostringstream content;
      content << std::ifstream(file.path(), std::ios::binary).rdbuf();
      if (content.str().find(words) != std::string::npos) return true;
    }
    return false;
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

TEST_F(SqliteTest, WhatWasDeletedIsInNoFileOnceItIsForgotten) {
  const auto c = open_sqlite(path);
  std::string deleted, kept;
  for (int i = 0; i < 5'000; ++i) {
    deleted += "a deleted prompt ";
    kept += "one that is kept ";
  }
  c->execute("CREATE TABLE t (a BLOB)", {});
  c->execute("INSERT INTO t VALUES ($1)", {Blob{deleted}});
  c->execute("INSERT INTO t VALUES ($1)", {Blob{kept}});
  ASSERT_TRUE(c->forget_deleted());
  EXPECT_TRUE(files_have("deleted prompt"));
  c->execute("DELETE FROM t WHERE a = $1", {Blob{deleted}});
  EXPECT_TRUE(files_have("deleted prompt"));
  {
    const auto reader = open_sqlite(path, true);
    reader->begin();
    EXPECT_EQ(number(*reader, "SELECT COUNT(*) FROM t"), 1);
    c->execute("INSERT INTO t VALUES ($1)", {Blob{"a"}});
    EXPECT_FALSE(c->forget_deleted());
    reader->rollback();
    EXPECT_TRUE(c->forget_deleted());
  }
  EXPECT_FALSE(files_have("deleted prompt"));
  EXPECT_TRUE(files_have("one that is kept"));
  EXPECT_EQ(number(*c, "SELECT COUNT(*) FROM t"), 2);
}

TEST_F(SqliteTest, ItsFilesAreForTheirOwnerAlone) {
  const mode_t before = ::umask(022);
  const auto c = open_sqlite(path);
  c->execute_script("CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (1)");
  ::umask(before);
  int files = 0;
  for (const auto& file : std::filesystem::directory_iterator(directory)) {
    EXPECT_EQ(file.status().permissions(), std::filesystem::perms(0600)) << file;
    ++files;
  }
  EXPECT_EQ(files, 3);  // with the log and its index
}

TEST_F(SqliteTest, AFileThatIsNoDatabaseAndAMissingFolderAreFailures) {
  std::ofstream(path) << std::string(4096, 'x');
  EXPECT_THROW(open_sqlite(path), Failure);
  EXPECT_THROW(open_sqlite(path + "/nowhere/x.db"), Failure);
}

}  // namespace
}  // namespace penstock::sql
