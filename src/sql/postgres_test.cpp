#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "testing/database.h"

namespace penstock::sql {
namespace {

using Kind = Failure::Kind;

class PostgresTest : public testing::Test {
 protected:
  void SetUp() override {
    if (servers().empty()) GTEST_SKIP() << "PENSTOCK_TEST_POSTGRES names no server";
    database.emplace(Driver::postgres);
    session = database->open();
    session->execute_script("CREATE TABLE t (a BIGINT PRIMARY KEY); INSERT INTO t VALUES (1), (2)");
  }

  static std::int64_t number(Connection& c, std::string_view statement) {
    std::int64_t result = -1;
    c.execute(statement, {}, [&](const Row& row) { result = row.integer(0); });
    return result;
  }
  void kill(std::int64_t backend) {
    database->open()->execute("SELECT pg_terminate_backend(CAST($1 AS INTEGER), 10000)", {backend});
  }
  template <class F>
  static Kind kind_thrown(F f) {
    try {
      f();
    } catch (const Failure& e) {
      return e.kind();
    }
    ADD_FAILURE() << "nothing was thrown";
    return Kind::other;
  }

  std::optional<TestDatabase> database;
  std::unique_ptr<Connection> session;
};

TEST_F(PostgresTest, ASessionThatWasEndedIsKnownToBeBeforeItsNextUse) {
  EXPECT_TRUE(session->is_usable());
  kill(number(*session, "SELECT pg_backend_pid()"));
  EXPECT_FALSE(session->is_usable());
}

TEST_F(PostgresTest, ASessionThatIsEndedInATransactionIsAway) {
  session->begin();
  kill(number(*session, "SELECT pg_backend_pid()"));
  EXPECT_EQ(kind_thrown([&] { session->execute("SELECT 1", {}); }), Kind::away);
  session->rollback();
  EXPECT_FALSE(session->is_usable());
  EXPECT_EQ(kind_thrown([&] {
              session->begin();
              session->commit();
            }),
            Kind::away);
}

TEST_F(PostgresTest, ATransactionInWhichNothingHappensIsEndedByTheServer) {
  session->execute_script("SET idle_in_transaction_session_timeout = '1ms'");
  const auto other = database->open();
  session->begin();
  session->execute("DELETE FROM t", {});
  EXPECT_EQ(other->execute("UPDATE t SET a = a + 10", {}), 2) << "the lock was given up";
  EXPECT_EQ(kind_thrown([&] { session->commit(); }), Kind::away);
}

TEST_F(PostgresTest, AServerThatCanOnlyBeReadIsAway) {
  session->execute_script("SET default_transaction_read_only = on");
  EXPECT_EQ(kind_thrown([&] { transaction(*session, [&] { session->execute("DELETE FROM t", {}); }); }), Kind::away);
  EXPECT_FALSE(session->is_usable());
}

TEST_F(PostgresTest, WaitingTooLongForALockIsBusy) {
  const auto other = database->open();
  other->execute_script("SET lock_timeout = '1ms'");
  session->begin();
  session->execute("DELETE FROM t", {});
  EXPECT_EQ(kind_thrown([&] { other->execute("DELETE FROM t", {}); }), Kind::busy);
  EXPECT_TRUE(other->is_usable());
}

TEST_F(PostgresTest, ATwinIsAConflictAlsoWhenItIsNoticedAtTheCommit) {
  EXPECT_EQ(kind_thrown([&] { session->execute("INSERT INTO t VALUES (1)", {}); }), Kind::conflict);
  EXPECT_EQ(
      kind_thrown([&] { transaction(*session, [&] { session->execute_later("INSERT INTO t VALUES (1)", {}); }); }),
      Kind::conflict);
  EXPECT_EQ(transaction(*session, [&] { return number(*session, "SELECT COUNT(*) FROM t"); }), 2);
}

TEST_F(PostgresTest, ADeadlockIsAConflictForOneOfTheTwo) {
  const auto other = database->open();
  for (Connection* c : {session.get(), other.get()}) {
    c->execute_script("SET deadlock_timeout = '1ms'");
    c->begin();
  }
  session->execute("SELECT a FROM t WHERE a = 1 FOR UPDATE", {});
  other->execute("SELECT a FROM t WHERE a = 2 FOR UPDATE", {});
  std::atomic<int> conflicts = 0;
  const auto cross = [&](Connection& c, std::string_view statement) {
    try {
      c.execute(statement, {});
    } catch (const Failure& e) {
      conflicts += e.kind() == Kind::conflict;
    }
    c.rollback();
  };
  std::thread thread([&] { cross(*other, "SELECT a FROM t WHERE a = 1 FOR UPDATE"); });
  cross(*session, "SELECT a FROM t WHERE a = 2 FOR UPDATE");
  thread.join();
  EXPECT_EQ(conflicts, 1);
}

TEST_F(PostgresTest, ATransactionThatWentOnAfterAFailureIsNotCommitted) {
  session->begin();
  session->execute("INSERT INTO t VALUES (3)", {});
  EXPECT_THROW(session->execute("INSERT INTO t VALUES (1)", {}), Failure);
  EXPECT_THROW(session->commit(), Failure);
  EXPECT_EQ(number(*session, "SELECT COUNT(*) FROM t"), 2);
}

TEST_F(PostgresTest, ALockIsOfItsNameAndOfItsTransaction) {
  const auto other = database->open();
  other->execute_script("SET lock_timeout = '1ms'");
  const auto take = [&](std::string_view name) { transaction(*other, [&] { other->lock(name); }); };
  transaction(*session, [&] {
    session->lock("one");
    session->execute("SELECT 1", {});
    EXPECT_EQ(kind_thrown([&] { take("one"); }), Kind::busy);
    EXPECT_NO_THROW(take("two"));
  });
  EXPECT_NO_THROW(take("one"));
}

TEST_F(PostgresTest, TextThatItCannotHoldKeepsMarksInItsPlace) {
  std::string seen;
  session->execute("SELECT $1", {std::string_view("a\0ü\xff", 5)}, [&](const Row& row) { seen = row.text(0); });
  EXPECT_EQ(seen, "a\uFFFD00\uFFFDc3\uFFFDbc\uFFFDff");
}

TEST_F(PostgresTest, AFailureDoesNotQuoteValues) {
  try {
    session->execute("INSERT INTO t VALUES (CAST($1 AS BIGINT) - 4711)", {std::int64_t{4712}});
    FAIL();
  } catch (const Failure& e) {
    EXPECT_EQ(std::string(e.what()), "duplicate key value violates unique constraint \"t_pkey\"");
  }
}

class ListenerTest : public PostgresTest {
 protected:
  void hear(const std::string& payload) {
    const std::lock_guard guard(mutex);
    heard.push_back(payload);
    changed.notify_one();
  }
  std::string next() {
    std::unique_lock lock(mutex);
    if (!changed.wait_for(lock, std::chrono::seconds(30), [&] { return !heard.empty(); })) return "nothing";
    std::string payload = std::move(heard.front());
    heard.pop_front();
    return payload;
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::string> heard;
};

TEST_F(ListenerTest, HearsWhatIsCommittedAndBeginsWithNothing) {
  const auto listener = open_listener(database->address(), [&](const std::string& payload) { hear(payload); });
  EXPECT_EQ(next(), "");
  const TestDatabase elsewhere(Driver::postgres);
  const auto other = elsewhere.open();
  transaction(*other, [&] { other->notify("of another schema"); });
  session->begin();
  session->notify("taken back");
  session->rollback();
  transaction(*session, [&] { session->notify("batch_1"); });
  EXPECT_EQ(next(), "batch_1");
}

TEST_F(ListenerTest, ConnectsAgainAndSaysThatSomethingMayHaveBeenMissed) {
  const auto listener = open_listener(database->address(), [&](const std::string& payload) { hear(payload); });
  EXPECT_EQ(next(), "");
  kill(number(*session,
              "SELECT CAST(pid AS BIGINT) FROM pg_stat_activity WHERE query = 'LISTEN penstock_' || "
              "md5(current_schema())"));
  EXPECT_EQ(next(), "");
  transaction(*session, [&] { session->notify("batch_2"); });
  EXPECT_EQ(next(), "batch_2");
}

TEST_F(ListenerTest, EndsWhileTheServerIsAway) {
  const auto listener = open_listener("postgres://127.0.0.1:1/x", [&](const std::string& payload) { hear(payload); });
  EXPECT_TRUE(heard.empty());
}

}  // namespace
}  // namespace penstock::sql
