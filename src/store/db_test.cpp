#include "store/db.h"

#include <gtest/gtest.h>

#include <fstream>
#include <future>

#include "testing/database.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(5)};

class DbTest : public testing::TestWithParam<Driver> {
 protected:
  // Runs the coroutine to its end.
  void run(Task<> task) {
    asio::io_context loop;
    TaskGroup tasks(loop);
    tasks.spawn("test", std::move(task));
    loop.run();
  }

  static File file(const std::string& id) { return {FileId{id}, "a.jsonl", "batch", 1, Timestamp(Millis(5)), {}}; }

  TestDatabase database{GetParam()};
  bool done = false;
};
INSTANTIATE_TEST_SUITE_P(On, DbTest, testing::ValuesIn(drivers()), driver_name);

Task<> write_and_read(Db& db, File file, bool& done) {
  co_await db.write([&](Store& s) { s.insert_file(file); });
  const auto found = co_await db.read([&](Store& s) { return s.find_file(kDefaultProject, file.id, kNow); });
  done = found && found->filename == file.filename;
}

TEST_P(DbTest, AReadSeesWhatWasWrittenBefore) {
  Db db(database.address());
  run(write_and_read(db, file("file-1"), done));
  EXPECT_TRUE(done);
}

TEST_P(DbTest, ADatabaseInMemoryReadsThroughItsWriter) {
  Db db(":memory:");
  run(write_and_read(db, file("file-1"), done));
  EXPECT_TRUE(done);
}

Task<> fail_half_way(Db& db, File file, bool& done) {
  bool thrown = false;
  try {
    co_await db.write([&](Store& s) {
      s.insert_file(file);
      throw std::runtime_error("half-way");
    });
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  done = thrown && !co_await db.read([&](Store& s) { return s.find_file(kDefaultProject, file.id, kNow); });
}

TEST_P(DbTest, AWriteThatThrowsLeavesNothing) {
  Db db(database.address());
  run(fail_half_way(db, file("file-1"), done));
  EXPECT_TRUE(done);
}

Task<> hold_the_writer(Db& db, std::shared_future<void> until) {
  co_await db.write([&](Store& s) {
    s.insert_file(File{FileId{"file-slow"}, "a", "batch", 1, Timestamp(Millis(5)), {}});
    until.wait();
  });
}

Task<> read_meanwhile(Db& db, std::promise<void>& release, bool& done) {
  const auto page = co_await db.read([](Store& s) { return s.list_files({}, kNow); });
  done = page.value().items.empty();
  release.set_value();
}

TEST_P(DbTest, AReadDoesNotWaitForAWriter) {
  Db db(database.address());
  std::promise<void> release;
  asio::io_context loop;
  TaskGroup tasks(loop);
  tasks.spawn("writer", hold_the_writer(db, release.get_future().share()));
  tasks.spawn("reader", read_meanwhile(db, release, done));
  loop.run();
  EXPECT_TRUE(done);
}

Task<> find(Db& db, FileId id, bool& done) {
  done = (co_await db.read([&](Store& s) { return s.find_file(kDefaultProject, id, kNow); })).has_value();
}

TEST_P(DbTest, WhatWasCommittedIsThereAfterReopening) {
  {
    Db db(database.address());
    run(write_and_read(db, file("file-1"), done));
  }
  done = false;
  Db db(database.address());
  run(find(db, FileId{"file-1"}, done));
  EXPECT_TRUE(done);
}

TEST_P(DbTest, AnUnusableDatabaseIsRefusedInOneLineThatNamesItAndNoPassword) {
  const TempDir folder;
  const std::string no_database = folder.write("bad.db", std::string(4096, 'x'));
  for (const auto& [bad, named] : {std::pair(no_database, no_database),
                                   {folder / "nowhere/x.db", folder / "nowhere/x.db"},
                                   {"postgres://me:secret@127.0.0.1:1/penstock", "postgres://me@127.0.0.1:1/penstock"},
                                   {"postgres://me:secret@127.0.0.1:1/?nothing=secret", "postgres"}}) {
    try {
      Db db(bad);
      ADD_FAILURE() << bad;
    } catch (const UsageError& e) {
      const std::string words = e.what();
      EXPECT_NE(words.find(named), std::string::npos) << words;
      EXPECT_EQ(words.find_first_of("\n"), std::string::npos) << words;
      EXPECT_EQ(words.find("secret"), std::string::npos) << words;
    }
  }
}

TEST_P(DbTest, ANewerSchemaIsRefused) {
  { Db db(database.address()); }
  database.open()->execute_script(
      "UPDATE schema_version SET version = version + 1;"
      "UPDATE schema_oldest_program SET version = (SELECT version FROM schema_version)");
  EXPECT_THROW(Db{database.address()}, UsageError);
}

// What only a server can do to its sessions.
class PostgresDbTest : public DbTest {};
// There may be none without a server.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(PostgresDbTest);
INSTANTIATE_TEST_SUITE_P(On, PostgresDbTest, testing::ValuesIn(servers()), driver_name);

TEST_P(PostgresDbTest, SessionsThatHaveEndedAreReplaced) {
  Db db(database.address());
  run(write_and_read(db, file("file-1"), done));
  database.end_all_sessions();
  done = false;
  run(write_and_read(db, file("file-2"), done));
  EXPECT_TRUE(done);
}

TEST_P(PostgresDbTest, AWriteWhoseSessionEndsBeforeItsCommitRunsAgain) {
  Db db(database.address());
  int runs = 0;
  asio::io_context loop;
  const auto count = [&](Store& store) {
    if (++runs == 1) database.end_all_sessions();
    store.insert_file(file("file-1"));
  };
  run_task(loop, db.write(count));
  EXPECT_EQ(runs, 2);
  run(find(db, FileId{"file-1"}, done));
  EXPECT_TRUE(done);
}

TEST_P(PostgresDbTest, AWriteThatCrossedAnotherRunsAgain) {
  Db db(database.address());
  int runs = 0;
  asio::io_context loop;
  const auto insert = [&](Store& store) {
    if (++runs == 1) {
      const auto twin = database.open();
      sql::transaction(*twin, [&] { Store(*twin).insert_file(file("file-1")); });
    }
    if (!store.find_file(kDefaultProject, {"file-1"}, kNow) || runs == 1) store.insert_file(file("file-1"));
  };
  run_task(loop, db.write(insert));
  EXPECT_EQ(runs, 2);
}

TEST_P(PostgresDbTest, WhatACommitSaysIsHeardOnTheLoop) {
  Db db(database.address());
  asio::io_context loop;
  std::vector<std::string> heard;
  db.listen(loop, [&](const std::string& payload) { heard.push_back(payload); });
  ASSERT_TRUE(run_until(loop, [&] { return heard.size() == 1; }));
  const auto other = database.open();
  sql::transaction(*other, [&] { other->notify("batch_1"); });
  ASSERT_TRUE(run_until(loop, [&] { return heard.size() == 2; }));
  EXPECT_EQ(heard, (std::vector<std::string>{"", "batch_1"}));
}

}  // namespace
}  // namespace penstock
