#include "store/sessions.h"

#include <gtest/gtest.h>

#include "testing/faulty_connection.h"

namespace penstock {
namespace {

using Kind = sql::Failure::Kind;

class SessionsTest : public testing::Test {
 protected:
  // How many times a transaction ran that fails with `kind` at its statement.
  int runs(Kind kind, int tries, int failures) {
    session.kind = kind;
    session.failures = failures;
    session.statements_left = 0;
    return run(tries, "SELECT 1");
  }
  int run(int tries, std::string_view statement) {
    int count = 0;
    const auto f = [&](Store&) {
      ++count;
      session.execute(statement, {}, nullptr);
    };
    threw = false;
    try {
      sessions.transaction(tries, f);
    } catch (const sql::Failure&) {
      threw = true;
    }
    return count;
  }

  std::unique_ptr<sql::Connection> database = sql::open_sqlite(":memory:");
  std::unique_ptr<FaultyConnection> owned = std::make_unique<FaultyConnection>(*database);
  FaultyConnection& session = *owned;
  Sessions sessions{std::move(owned)};
  bool threw = false;
};

TEST_F(SessionsTest, WhatCertainlyHadNoEffectRunsAgain) {
  for (const Kind kind : {Kind::conflict, Kind::away}) {
    EXPECT_EQ(runs(kind, 3, 2), 3);
    EXPECT_FALSE(threw);
  }
}

TEST_F(SessionsTest, ItRunsNoOftenerThanItIsTold) {
  EXPECT_EQ(runs(Kind::conflict, 3, 3), 3);
  EXPECT_TRUE(threw);
}

TEST_F(SessionsTest, OtherFailuresAreForTheCaller) {
  for (const Kind kind : {Kind::io, Kind::busy, Kind::no_space, Kind::other}) {
    EXPECT_EQ(runs(kind, 3, 1), 1);
    EXPECT_TRUE(threw);
  }
}

TEST_F(SessionsTest, ACommitOfWhichNobodyKnowsIsNotRunAgain) {
  session.kind = Kind::away;
  session.loses_reply_of = "SELECT 2";
  EXPECT_EQ(run(3, "SELECT 2"), 1);
  EXPECT_TRUE(threw);
}

TEST_F(SessionsTest, WhileTheDatabaseIsAwayFewLookForIt) {
  int looks = 0;
  Sessions away([&]() -> std::unique_ptr<sql::Connection> {
    ++looks;
    throw std::runtime_error("no route to host");
  });
  const auto f = [](Store&) { FAIL(); };
  for (int i = 0; i < 100; ++i) {
    try {
      away.transaction(1, f);
      FAIL();
    } catch (const sql::Failure& e) {
      EXPECT_EQ(e.kind(), Kind::away);
      EXPECT_STREQ(e.what(), "no route to host");
    }
  }
  EXPECT_LT(looks, 100);
}

}  // namespace
}  // namespace penstock
