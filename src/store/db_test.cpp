#include "store/db.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(5)};

class DbTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "db_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory = name;
    path = name + "/penstock.db";
  }
  void TearDown() override { std::filesystem::remove_all(directory); }

  // Runs the coroutine to its end.
  void run(Task<> task) {
    asio::io_context loop;
    TaskGroup tasks(loop);
    tasks.spawn("test", std::move(task));
    loop.run();
  }

  static File file(const std::string& id) { return {FileId{id}, "a.jsonl", "batch", 1, Timestamp(Millis(5)), {}}; }

  std::filesystem::path directory;
  std::string path;
  bool done = false;
};

Task<> write_and_read(Db& db, File file, bool& done) {
  co_await db.write([&](Store& s) { s.insert_file(file); });
  const auto found = co_await db.read([&](Store& s) { return s.find_file(file.id, kNow); });
  done = found && found->filename == file.filename;
}

TEST_F(DbTest, AReadSeesWhatWasWrittenBefore) {
  Db db(path);
  run(write_and_read(db, file("file-1"), done));
  EXPECT_TRUE(done);
}

TEST_F(DbTest, ADatabaseInMemoryReadsThroughItsWriter) {
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
  done = thrown && !co_await db.read([&](Store& s) { return s.find_file(file.id, kNow); });
}

TEST_F(DbTest, AWriteThatThrowsLeavesNothing) {
  Db db(path);
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

TEST_F(DbTest, AReadDoesNotWaitForAWriter) {
  Db db(path);
  std::promise<void> release;
  asio::io_context loop;
  TaskGroup tasks(loop);
  tasks.spawn("writer", hold_the_writer(db, release.get_future().share()));
  tasks.spawn("reader", read_meanwhile(db, release, done));
  loop.run();
  EXPECT_TRUE(done);
}

Task<> find(Db& db, FileId id, bool& done) {
  done = (co_await db.read([&](Store& s) { return s.find_file(id, kNow); })).has_value();
}

TEST_F(DbTest, WhatWasCommittedIsThereAfterReopening) {
  {
    Db db(path);
    run(write_and_read(db, file("file-1"), done));
  }
  done = false;
  Db db(path);
  run(find(db, FileId{"file-1"}, done));
  EXPECT_TRUE(done);
}

TEST_F(DbTest, AnUnusableDatabaseIsRefusedInOneLineThatNamesIt) {
  std::ofstream(path) << std::string(4096, 'x');
  for (const std::string& bad : {path, (directory / "nowhere" / "x.db").string()}) {
    try {
      Db db(bad);
      ADD_FAILURE() << bad;
    } catch (const UsageError& e) {
      EXPECT_NE(std::string(e.what()).find(bad), std::string::npos);
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    }
  }
}

TEST_F(DbTest, ANewerSchemaIsRefused) {
  { Db db(path); }
  sql::open_sqlite(path)->execute_script("UPDATE schema_version SET version = version + 1");
  EXPECT_THROW(Db{path}, UsageError);
}

}  // namespace
}  // namespace penstock
